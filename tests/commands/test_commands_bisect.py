# SPDX-License-Identifier: GPL-2.0
"""Bisection: the first bad commit of a history, whatever cannot be built, flaky bugs, resuming."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from damon_tests.commands.bisect import Answer, BisectRequest, Trial, bisect, passes_needed
from damon_tests.ports import UsageError

COMMITS = 10


def git(tree: Path, *words: str) -> str:
    identity = ["-c", "user.name=A Tester", "-c", "user.email=tester@example.org"]
    return subprocess.run(
        ["git", "-C", str(tree), *identity, *words], capture_output=True, text=True, check=True
    ).stdout.strip()


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A history of ten commits, tagged c0 to c9: a file holds the number of the commit."""
    path = tmp_path_factory.mktemp("linux")
    git(path, "init", "-q")
    for number in range(COMMITS):
        (path / "number").write_text(str(number))
        git(path, "add", "number")
        git(path, "commit", "-qm", f"mm/damon: change {number}")
        git(path, "tag", f"c{number}")
    return path


class Kernel:
    """What commits do when they are tested: bad from ``since`` on, ``unbuildable`` ones not at all.

    Of a bad commit, only the seeds in ``fails_with`` fail.
    """

    def __init__(self, since: int, unbuildable: Sequence[int] = (), fails_with: Sequence[int] = (1, 2, 3)):
        self.since = since
        self.unbuildable = unbuildable
        self.fails_with = fails_with
        self.tried: list[tuple[int, int]] = []

    def attempt(self, path: Path, tests: Sequence[str], seed: int) -> Trial:
        assert tests == ["suites/x.py::test_y"]
        number = int((path / "number").read_text())
        self.tried.append((number, seed))
        if number in self.unbuildable:
            return Trial("skip", "does not build")
        if number >= self.since and seed in self.fails_with:
            return Trial("bad", "quota exceeded")
        return Trial("good", "")

    def failing(self, path: Path, seed: int) -> list[str]:
        bad = int((path / "number").read_text()) >= self.since
        return ["suites/always.py::test_z", *(["suites/x.py::test_y"] if bad else [])]


Search = Callable[..., Answer]


@pytest.fixture
def search(tree: Path, tmp_path: Path) -> Search:
    def run(kernel: Kernel, tests: Sequence[str] = ("suites/x.py::test_y",), **more: str) -> Answer:
        request = BisectRequest(
            tree,
            more.get("good", "c0"),
            more.get("bad", "c9"),
            tmp_path / "out",
            tests,
            1,
            tmp_path / "cache",
        )
        return bisect(request, kernel.attempt, kernel.failing, lambda line: None)

    return run


@pytest.mark.parametrize("since", range(1, COMMITS))
def test_first_bad_commit_is_found(search: Search, since: int) -> None:
    kernel = Kernel(since)
    answer = search(kernel)
    assert [c.title for c in answer.culprits] == [f"mm/damon: change {since}"]
    assert answer.exit_code == 0
    assert len({number for number, _ in kernel.tried}) <= 2 + 4  # both ends, log2(9) between


def test_tree_and_its_git_are_as_before(search: Search, tree: Path) -> None:
    before = (
        git(tree, "for-each-ref"),
        git(tree, "status", "--porcelain", "--branch"),
        git(tree, "worktree", "list"),
    )
    search(Kernel(4))
    assert before == (
        git(tree, "for-each-ref"),
        git(tree, "status", "--porcelain", "--branch"),
        git(tree, "worktree", "list"),
    )
    assert (tree / "number").read_text() == "9"
    assert not (tree / ".git/BISECT_LOG").exists()


def test_commits_that_do_not_build_are_skipped(search: Search) -> None:
    answer = search(Kernel(7, unbuildable=(4, 5)))
    assert [c.title for c in answer.culprits] == ["mm/damon: change 7"]


def test_culprits_are_all_named_if_none_between_them_builds(search: Search) -> None:
    answer = search(Kernel(5, unbuildable=(4, 5)))
    assert {c.title[-1] for c in answer.culprits} == {"4", "5", "6"}
    assert answer.exit_code == 7


def test_flaky_bug_needs_more_passes_than_a_steady_one(search: Search) -> None:
    """A bug that shows in one of three runs is found, although most runs of a bad commit pass."""
    kernel = Kernel(6, fails_with=(3,))
    answer = search(kernel)
    assert [c.title for c in answer.culprits] == ["mm/damon: change 6"]
    assert [seed for number, seed in kernel.tried if number == 0] == list(range(1, 10))


def test_run_that_could_not_be_made_says_nothing_about_how_often_the_bug_shows(
    search: Search, tmp_path: Path
) -> None:
    kernel = Kernel(6)

    def broken_once(path: Path, tests: Sequence[str], seed: int) -> Trial:
        trial = Kernel.attempt(kernel, path, tests, seed)
        return Trial("skip", "guest lost") if len(kernel.tried) == 1 else trial

    kernel.attempt = broken_once  # type: ignore[method-assign]
    assert [c.title for c in search(kernel).culprits] == ["mm/damon: change 6"]
    assert "2 of 2 runs fail: quota exceeded" in (tmp_path / "out/bisect.log").read_text()


@pytest.mark.parametrize(("failed", "runs", "passes"), [(3, 3, 2), (2, 3, 4), (1, 3, 9), (1, 1, 3)])
def test_passes_needed_leave_the_stated_chance_of_a_miss(failed: int, runs: int, passes: int) -> None:
    assert passes_needed(failed, runs) == passes
    rate = (failed + 0.5) / (runs + 1)
    assert (1 - rate) ** passes <= 0.02 < (1 - rate) ** (passes - 1)


def test_without_test_ids_what_fails_only_on_bad_is_searched_for(search: Search, tmp_path: Path) -> None:
    answer = search(Kernel(3), tests=())
    assert [c.title for c in answer.culprits] == ["mm/damon: change 3"]
    assert json.loads((tmp_path / "out/bisect.json").read_text())["tests"] == ["suites/x.py::test_y"]


def test_interrupted_search_goes_on(search: Search, tmp_path: Path) -> None:
    """Commits that were judged before are not tested again, and the log has all of them."""
    kernel = Kernel(5)

    def interrupted(path: Path, tests: Sequence[str], seed: int) -> Trial:
        if len(kernel.tried) == 7:
            raise KeyboardInterrupt
        return Kernel.attempt(kernel, path, tests, seed)

    kernel.attempt = interrupted  # type: ignore[method-assign]
    with pytest.raises(KeyboardInterrupt):
        search(kernel)
    assert {number for number, _ in kernel.tried} == {9, 0, 4}
    again = Kernel(5)
    answer = search(again)
    assert [c.title for c in answer.culprits] == ["mm/damon: change 5"]
    assert not {9, 0, 4} & {number for number, _ in again.tried}
    log = (tmp_path / "out/bisect.log").read_text()
    assert log.count("mm/damon: change 9: 3 of 3 runs fail: quota exceeded") == 1
    assert log.count("first bad commit: ") == 1


def test_searches_that_cannot_end_are_refused(search: Search) -> None:
    with pytest.raises(UsageError, match="is not bad"):
        search(Kernel(99))
    with pytest.raises(UsageError, match="are the same commit"):
        search(Kernel(3), good="c9")
    with pytest.raises(UsageError, match="no-such-revision"):
        search(Kernel(3), good="no-such-revision")


def test_good_end_that_fails_is_named(search: Search) -> None:
    with pytest.raises(UsageError, match=r"--good \w+ mm/damon: change 0 is not good: quota exceeded"):
        search(Kernel(0))


def test_state_of_another_search_is_not_mixed_in(search: Search) -> None:
    search(Kernel(3))
    with pytest.raises(UsageError, match="of another bisection"):
        search(Kernel(3), good="c1")
