# SPDX-License-Identifier: GPL-2.0
"""Commits of a tree are checked out elsewhere: the tree and its repository stay as they are."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from damon_tests.kernel.build.checkout import changed_files, checkout, commits
from damon_tests.ports import HarnessError, UsageError


def git(tree: Path, *words: str) -> str:
    identity = ["-c", "user.name=A Tester", "-c", "user.email=tester@example.org"]
    return subprocess.run(
        ["git", "-C", str(tree), *identity, *words], capture_output=True, text=True, check=True
    ).stdout


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    path = tmp_path / "linux"
    (path / "mm/damon").mkdir(parents=True)
    git(tmp_path, "init", "-q", "linux")
    for number in range(3):
        (path / "mm/damon/paddr.c").write_text(str(number))
        (path / "Makefile").write_text("VERSION = 7")
        git(path, "add", ".")
        git(path, "commit", "-qm", f"paddr: change {number}")
        git(path, "tag", f"c{number}")
    return path


def state(tree: Path) -> tuple[str, ...]:
    files = sorted(str(p.relative_to(tree)) for p in (tree / ".git").rglob("*") if p.is_file())
    return (git(tree, "for-each-ref"), git(tree, "status", "--porcelain", "--branch"), *files)


def test_commit_is_checked_out_without_touching_the_tree(tree: Path, tmp_path: Path) -> None:
    (tree / "mm/damon/paddr.c").write_text("not committed")
    before = state(tree)
    with checkout(tree, tmp_path / "cache") as checked_out:
        checked_out.switch(commits(tree, "c0")[0].sha)
        assert (checked_out.path / "mm/damon/paddr.c").read_text() == "0"
    assert state(tree) == before
    assert (tree / "mm/damon/paddr.c").read_text() == "not committed"


def test_files_that_do_not_differ_keep_their_times(tree: Path, tmp_path: Path) -> None:
    """make compiles only what a commit changed, also after another command has used the checkout."""
    first, second = commits(tree, "c0..c2")
    with checkout(tree, tmp_path / "cache") as checked_out:
        checked_out.switch(first.sha)
        makefile = checked_out.path / "Makefile"
        before = makefile.stat().st_mtime_ns
    with checkout(tree, tmp_path / "cache") as again:
        again.switch(second.sha)
        assert again.path == checked_out.path
        assert makefile.stat().st_mtime_ns == before
        assert (again.path / "mm/damon/paddr.c").read_text() == "2"


def test_shallow_trees_can_be_checked_out(tree: Path, tmp_path: Path) -> None:
    shallow = tmp_path / "shallow"
    git(tmp_path, "clone", "-q", "--depth=1", f"file://{tree}", str(shallow))
    with checkout(shallow, tmp_path / "cache") as checked_out:
        checked_out.switch(commits(shallow, "HEAD")[0].sha)
        assert (checked_out.path / "mm/damon/paddr.c").read_text() == "2"
        assert git(checked_out.path, "log", "--oneline").count("\n") == 1


def test_commits_of_a_range_come_oldest_first(tree: Path) -> None:
    assert [c.title for c in commits(tree, "c0..c2")] == ["paddr: change 1", "paddr: change 2"]
    assert [c.title for c in commits(tree, "c1")] == ["paddr: change 1"]
    assert str(commits(tree, "c1")[0]).endswith(" paddr: change 1")
    for revisions, sentence in (("c9", "c9"), ("c2..c0", "no commits in that range")):
        with pytest.raises(UsageError, match=sentence):
            commits(tree, revisions)


def test_changed_files_are_those_between_revisions_or_on_disk(tree: Path) -> None:
    assert changed_files(tree, "c0", "c1") == ["mm/damon/paddr.c"]
    assert changed_files(tree, "HEAD") == []
    (tree / "Makefile").write_text("VERSION = 8")
    assert changed_files(tree, "HEAD") == ["Makefile"]


def test_checkout_is_used_by_one_command_at_a_time(tree: Path, tmp_path: Path) -> None:
    with (
        checkout(tree, tmp_path / "cache"),
        pytest.raises(HarnessError, match="another command"),
        checkout(tree, tmp_path / "cache"),
    ):
        pass
    with pytest.raises(UsageError, match="not the top of a git checkout"), checkout(tmp_path):
        pass
