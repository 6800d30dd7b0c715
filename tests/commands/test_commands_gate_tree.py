# SPDX-License-Identifier: GPL-2.0
"""A tree, or each commit of a series, is built and judged: one line each, one exit code, one summary."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from damon_tests import bundle
from damon_tests.commands import gate, gate_tree
from damon_tests.commands.commit_tests import SERIES, first_by_changes
from damon_tests.commands.gate import GateRequest, KernelRun
from damon_tests.commands.gate_tree import TreeRequest
from damon_tests.judge.verdict import Verdict
from damon_tests.kernel.build import make
from damon_tests.kernel.build.make import BuildRequest
from damon_tests.ports import UsageError
from damon_tests.report import model
from damon_tests.report.events import RunLog
from tests.kernel.fake_kernel_tree import fake_make, kernel_tree


def git(tree: Path, *words: str) -> str:
    identity = ["-c", "user.name=A Tester", "-c", "user.email=tester@example.org"]
    return subprocess.run(
        ["git", "-C", str(tree), *identity, *words], capture_output=True, text=True, check=True
    ).stdout.strip()


class Lab:
    """A kernel tree of four commits (core 1 to core 4, of which core 3 does not build), and kernels of
    which those in ``wrong`` fail their test."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.tree = kernel_tree(directory / "linux")
        self.make = fake_make(directory)
        self.wrong: set[str] = set()
        self.ran: list[tuple[str, list[str]]] = []
        self.lines: list[str] = []
        git(directory, "init", "-q", "linux")
        git(self.tree, "config", "user.name", "A Tester")
        git(self.tree, "config", "user.email", "tester@example.org")
        for number in (1, 2, 3, 4):
            (self.tree / "mm/damon/core.c").write_text(f"core {number}")
            fails = self.tree / "fails"
            fails.unlink(missing_ok=True)
            if number == 3:
                fails.write_text(
                    "".join(f"../mm/damon/core.c:{n}:1: error: expected ';'\n" for n in (1, 2, 3))
                )
            git(self.tree, "add", "-A")
            git(self.tree, "commit", "-qm", f"mm/damon/core: change {number}")
            git(self.tree, "tag", f"c{number}")

    def run_suites(
        self,
        kernel: str,
        directory: Path,
        areas: Sequence[str],
        options: Sequence[str],
        log: Path,
        test: str = "suites/x.py::test_y",
    ) -> KernelRun:
        what = Path(kernel).read_text()
        self.ran.append((what, list(areas)))
        verdict = Verdict.FAIL if what in self.wrong else Verdict.PASS
        with RunLog(directory) as events:
            events.run_started({})
            events.test_started(test, kernel, "7.3")
            events.test_finished(test, kernel, "7.3", verdict, "quota exceeded", 1.0)
            events.run_finished()
        run = model.load(directory)
        return KernelRun(kernel, directory, model.exit_code(run), run, log, 1.0)

    def gate(self, revisions: str | None, **more: str) -> int:
        self.lines.clear()
        request = self.request(revisions, **more)
        self.output = request.gate.output
        return gate_tree.gate_tree(request, self.lines.append)

    def request(self, revisions: str | None, **more: str) -> TreeRequest:
        return TreeRequest(
            BuildRequest(self.tree, ("guest",), 1, self.directory / "cache", self.make),
            GateRequest((), self.directory / f"out-{len(self.ran)}"),
            revisions,
            **more,
        )


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Lab:
    lab = Lab(tmp_path)
    monkeypatch.setattr(make, "_TOOLS", {})
    monkeypatch.setattr(gate, "run_suites", lab.run_suites)
    monkeypatch.setattr(gate, "run_kunit_of", lambda kernel, directory, say, guest: None)
    return lab


def test_tree_as_it_is_on_disk_is_built_and_judged(lab: Lab) -> None:
    assert lab.gate(None) == 0
    assert [what for what, _ in lab.ran] == ["image of core 4"]
    assert "Tested-by: A Tester <tester@example.org>" in lab.lines[-1]
    assert model.load(lab.output)["counts"]["PASS"] == 1
    assert git(lab.tree, "status", "--porcelain") == ""


def test_each_commit_of_a_range_gets_a_line(lab: Lab) -> None:
    """A commit that does not build or fails is named with the reason; the others are judged all the same."""
    lab.wrong = {"image of core 4"}
    before = git(lab.tree, "for-each-ref"), git(lab.tree, "status", "--branch", "--porcelain")
    assert lab.gate("c1..c4") == 1
    assert [what for what, _ in lab.ran] == ["image of core 2", "image of core 4"]
    of = {n: next(line for line in lab.lines if f"mm/damon/core: change {n}" in line) for n in (2, 3, 4)}
    assert {n: line.split()[0] for n, line in of.items()} == {2: "good", 3: "FAIL", 4: "FAIL"}
    assert "suites PASS 1" in of[2]
    assert of[3].endswith("DAMON does not build: mm/damon/core.c:1: error: expected ';' (and 2 more)")
    assert "suites FAIL 1" in of[4]
    assert "No Tested-by: not every commit is good." in lab.lines[-1]
    assert (git(lab.tree, "for-each-ref"), git(lab.tree, "status", "--branch", "--porcelain")) == before
    commits = json.loads((lab.output / "commits.json").read_text())
    assert [commit["exit_code"] for commit in commits] == [0, 1, 1]
    assert (lab.output / "tested-by.txt").read_text() == f"{lab.lines[-1]}\n"


def test_selftests_are_those_of_each_commit(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """They run on what was built, from the tree at that commit; their failure fails it."""
    ran: list[tuple[str, str]] = []

    def run_selftests(kernel: str, directory: Path, source: str) -> KernelRun:
        ran.append((Path(kernel).read_text(), (Path(source) / "mm/damon/core.c").read_text()))
        run = lab.run_suites(kernel, directory, (), (), directory, "kselftest/damon::sysfs.sh")
        return replace(run, exit_code=len(ran) - 1)

    monkeypatch.setattr(gate, "run_selftests_of", run_selftests)
    request = lab.request("c1..c4")
    code = gate_tree.gate_tree(
        replace(request, gate=replace(request.gate, selftests="debian")), lab.lines.append
    )
    assert ran == [("image of core 2", "core 2"), ("image of core 4", "core 4")]
    assert code == 1
    assert [line.split()[0] for line in lab.lines if "selftests PASS 1" in line][:2] == ["good", "FAIL"]


def test_good_series_is_ready_for_tested_by(lab: Lab) -> None:
    assert lab.gate("c1..c2") == 0
    assert lab.lines[-1].endswith("Tested-by: A Tester <tester@example.org>")


def test_request_that_cannot_work_builds_nothing(lab: Lab) -> None:
    with pytest.raises(UsageError, match="no commits in that range"):
        lab.gate("c4..c1")
    with pytest.raises(UsageError, match="c9"):
        lab.gate(None, base="c9")
    with pytest.raises(UsageError, match="c9"):
        lab.gate("c1..c2", base="c9")
    (lab.tree / "Kconfig").unlink()
    with pytest.raises(UsageError, match="no kernel source tree"):
        lab.gate(None)
    assert not (lab.directory / "cache").exists()
    assert not lab.output.exists()


SUITES = bundle.suites_dir()


def names(files: Sequence[str]) -> list[str]:
    return [str(Path(file).relative_to(SUITES)) for file in files]


def test_changed_file_chooses_what_runs_first() -> None:
    """paddr.c: first operations on paddr, then schemes on paddr, then all the rest, each file once."""
    ordered = names(first_by_changes([], ["mm/damon/paddr.c", "Makefile"]))
    assert ordered[0].startswith("ops/")
    assert "ops/test_paddr.py" in ordered[:3]
    last_scheme = max(i for i, name in enumerate(ordered) if name.startswith("schemes/test_action_migrate"))
    assert last_scheme < min(i for i, name in enumerate(ordered) if name.startswith("monitoring/"))
    everything = sorted(str(p.relative_to(SUITES)) for p in SUITES.rglob("test_*.py"))
    assert sorted(ordered) == everything


def test_header_counts_as_its_source_and_selection_is_kept() -> None:
    modules = [str(SUITES / "modules")]
    assert names(first_by_changes(modules, ["mm/damon/lru_sort.c"]))[0] == "modules/test_lru_sort.py"
    assert first_by_changes([], ["mm/damon/ops-common.h"]) == first_by_changes([], ["mm/damon/ops-common.c"])
    assert first_by_changes(modules, ["fs/ext4/super.c"]) == modules
    assert first_by_changes(["suites/x.py::test_y"], ["mm/damon/core.c"]) == ["suites/x.py::test_y"]


def test_selection_for_a_commit_exists() -> None:
    assert all((bundle.root() / path).is_file() for path in SERIES)
