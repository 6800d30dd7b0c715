# SPDX-License-Identifier: GPL-2.0
"""What one commit's run says to a bisection: bad, good, or nothing."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from damon_tests.commands import bisect_kernel
from damon_tests.commands.bisect import BisectRequest, Trial, bisect
from damon_tests.commands.bisect_kernel import (
    CommitTester,
    Metric,
    MetricTester,
    trial_of,
    trial_of_metric,
    worst,
)
from damon_tests.commands.gate import KernelRun
from damon_tests.judge.cost.samples import CostSamples
from damon_tests.judge.verdict import Verdict
from damon_tests.kernel.build import make
from damon_tests.kernel.build.make import BuildRequest
from damon_tests.ports import HarnessError, NotSupported, UsageError
from damon_tests.report import bench_record, model
from damon_tests.report.bench_record import BenchRecord
from damon_tests.report.events import RunLog
from tests.kernel.fake_kernel_tree import fake_make, kernel_tree


def run(**verdicts: str) -> dict[str, object]:
    return {"tests": [{"id": name, "verdict": v, "reason": "because"} for name, v in verdicts.items()]}


@pytest.mark.parametrize(
    ("verdicts", "state"),
    [
        ({"a": "PASS", "b": "PASS"}, "good"),
        ({"a": "PASS", "b": "XFAIL"}, "good"),
        ({"a": "PASS", "b": "FAIL"}, "bad"),
        ({"a": "ERROR", "b": "FAIL"}, "bad"),
        ({"a": "PASS", "b": "INCONCLUSIVE"}, "skip"),
        ({"a": "ERROR"}, "skip"),
        ({"a": "SKIP"}, "skip"),
        ({}, "skip"),
    ],
)
def test_only_a_failure_is_bad_and_only_passes_are_good(verdicts: dict[str, str], state: str) -> None:
    assert trial_of(run(**verdicts)).state == state


def test_failure_of_any_part_decides() -> None:
    good, bad, skip = Trial("good", ""), Trial("bad", ""), Trial("skip", "")
    assert worst([good, skip, bad]) is bad
    assert worst([good, skip]) is skip
    assert worst([good, good]) is good


def test_metric_above_its_limit_is_bad() -> None:
    metric = Metric("checks", "check_vaddr", 3000)
    metrics = {"check_vaddr": CostSamples("check_vaddr", "instructions", (2990.0, 3001.0, 3005.0))}
    assert trial_of_metric(metric, metrics) == Trial(
        "bad", "check_vaddr is 3,001 instructions, the limit is 3,000"
    )
    assert trial_of_metric(Metric("checks", "check_vaddr", 3001), metrics).state == "good"
    with pytest.raises(UsageError, match="has no metric 'check'; it has check_vaddr"):
        trial_of_metric(Metric("checks", "check", 1), metrics)


class Suites:
    """Stands in for the runs of the suites: its verdicts, by what the image was made of."""

    def __init__(self, wrong: Sequence[str]) -> None:
        self.wrong = wrong
        self.seeds: list[str] = []
        self.interrupted = False

    def __call__(
        self, kernel: str, directory: Path, areas: Sequence[str], options: Sequence[str], log: Path
    ) -> KernelRun:
        self.seeds += [option for option in options if option.startswith("--seed")]
        verdict = Verdict.FAIL if Path(kernel).read_text() in self.wrong else Verdict.PASS
        with RunLog(directory) as events:
            events.run_started({})
            for test in ("suites/x.py::test_y", "suites/x.py::test_z"):
                events.test_started(test, kernel, "7.3")
                events.test_finished(test, kernel, "7.3", verdict, "quota exceeded", 1.0)
                verdict = Verdict.PASS
            events.run_finished(interrupted=self.interrupted)
        run = model.load(directory)
        return KernelRun(kernel, directory, model.exit_code(run), run, log, 1.0)


@pytest.fixture
def tester(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> CommitTester:
    def no_kunit(*_: object) -> int:
        raise NotSupported("KUnit")

    monkeypatch.setattr(make, "_TOOLS", {})
    monkeypatch.setattr(bisect_kernel, "run_kunit", no_kunit)
    request = BuildRequest(
        kernel_tree(tmp_path / "linux"), ("guest",), 1, tmp_path / "cache", fake_make(tmp_path)
    )
    return CommitTester(request, tmp_path / "out", say=lambda line: None)


def test_commit_is_built_and_its_tests_are_run(tester: CommitTester, monkeypatch: pytest.MonkeyPatch) -> None:
    suites = Suites(["image of core 1"])
    monkeypatch.setattr(bisect_kernel, "run_suites", suites)
    tree = tester.request.tree
    trial = tester.attempt(tree, ["suites/x.py::test_y"], 7)
    assert trial == Trial("bad", "suites/x.py::test_y: quota exceeded")
    assert tester.failing(tree, 7) == ["suites/x.py::test_y"]
    assert suites.seeds == ["--seed=7", "--seed=7"]
    (tree / "mm/damon/core.c").write_text("core 2")
    assert tester.attempt(tree, ["suites/x.py::test_y"], 7).state == "good"
    assert tester.attempt(tree, ["kunit/damon::damon_test_target"], 7).state == "skip"


def test_commit_on_which_the_benchmark_cannot_run_is_skipped(
    tester: CommitTester, monkeypatch: pytest.MonkeyPatch
) -> None:
    def take(kernel: str, names: Sequence[str], output: Path, seed: int) -> Path:
        assert kernel.endswith("bzImage")
        bench_record.save(BenchRecord(skipped=dict.fromkeys(names, "no paddr")), output)
        return output

    monkeypatch.setattr(bisect_kernel, "take", take)
    metric = Metric("check.paddr", "check.paddr", 3000)
    on_metric = MetricTester(tester.request, tester.output, metric, tester.say)
    assert on_metric.attempt(tester.request.tree, (), 1) == Trial("skip", "no paddr")


def test_commit_that_does_not_build_is_skipped_and_an_interrupt_ends_the_search(
    tester: CommitTester, monkeypatch: pytest.MonkeyPatch
) -> None:
    suites = Suites([])
    suites.interrupted = True
    monkeypatch.setattr(bisect_kernel, "run_suites", suites)
    with pytest.raises(HarnessError, match="goes on with this bisection"):
        tester.attempt(tester.request.tree, ["suites/x.py::test_y"], 1)
    (tester.request.tree / "fails").write_text("mm/damon/core.c:1:1: error: x\n")
    trial = tester.attempt(tester.request.tree, ["suites/x.py::test_y"], 1)
    assert trial.state == "skip"
    assert "mm/damon/core.c:1: error: x" in trial.reason


def git(tree: Path, *words: str) -> None:
    identity = ["-c", "user.name=A Tester", "-c", "user.email=tester@example.org"]
    subprocess.run(["git", "-C", str(tree), *identity, *words], capture_output=True, check=True)


def test_commit_that_made_checks_dearer_is_found_by_metric(
    tester: CommitTester, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of ten commits, each of which is built, the seventh adds 20 % to a check; one does not build."""
    tree = tester.request.tree
    git(tree, "init", "-q")
    for number in range(1, 11):
        (tree / "mm/damon/core.c").write_text(f"core {number}")
        (tree / "fails").unlink(missing_ok=True)
        if number == 5:
            (tree / "fails").write_text("../mm/damon/core.c:5:1: error: expected ';'\n")
        git(tree, "add", "-A")
        git(tree, "commit", "-qm", f"mm/damon/core: change {number}")
        git(tree, "tag", f"c{number}")

    def take(kernel: str, names: Sequence[str], output: Path, seed: int) -> Path:
        number = int(Path(kernel).read_text().removeprefix("image of core "))
        cost = 3600.0 if number >= 7 else 3000.0
        samples = CostSamples("check.paddr", "instructions", (cost - 5, cost, cost + seed))
        bench_record.save(BenchRecord(metrics={"check.paddr": samples}), output)
        return output

    monkeypatch.setattr(bisect_kernel, "take", take)
    metric = Metric("check.paddr", "check.paddr", 3300)
    by_metric = MetricTester(tester.request, tester.output, metric, tester.say)
    lines: list[str] = []
    request = BisectRequest(tree, "c1", "c10", tester.output, [str(metric)], 1, tester.request.cache)
    answer = bisect(request, by_metric.attempt, by_metric.failing, lines.append)
    assert [commit.title for commit in answer.culprits] == ["mm/damon/core: change 7"]
    assert answer.exit_code == 0
    assert any("check.paddr is 3,600 instructions, the limit is 3,300" in line for line in lines)
