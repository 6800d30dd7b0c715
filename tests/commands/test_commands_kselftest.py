# SPDX-License-Identifier: GPL-2.0
"""``damon-tests kselftest``: results of selftests as a run, whatever they run on."""

from __future__ import annotations

from pathlib import Path

import pytest
from selftest_tree import make

from damon_tests.commands import kselftest
from damon_tests.commands.kselftest import ProgramRun, SelftestRequest
from damon_tests.commands.selftest_verdict import SelftestEvidence
from damon_tests.kernel import ktap
from damon_tests.kernel.images import selftests
from damon_tests.ports import HarnessError, UsageError
from damon_tests.report import model, wording
from damon_tests.report.events import RunLog
from damon_tests.report.verdict_changes import verdict_changes


class FakeRunner:
    """Answers with a given result for each program; an error for those that are not named."""

    level = "7.3"

    def __init__(self, results: dict[str, str]) -> None:
        self.results = results

    def provenance(self) -> dict[str, object]:
        return {"kind": "fake"}

    def missing(self, source: str) -> str:
        return "needs drgn" if "drgn" in source else ""

    def run(self, program: str, source: str) -> ProgramRun:
        if program not in self.results:
            raise HarnessError("the guest could not be made")
        printed = f"TAP version 13\n1..1\n{self.results[program].format(f'selftests: damon: {program}')}\n"
        evidence = SelftestEvidence(source, ktap.read(printed.splitlines()), left_behind=["nr_kdamonds: 1"])
        return ProgramRun(printed, evidence, "[    1.0] hello\n")


def run_of(directory: Path, results: dict[str, str]) -> model.Json:
    tree = directory / "tree"
    if not tree.exists():
        make(tree, {"good.sh": "exit 0", "bad.sh": "exit 1", "lost.sh": "exit 0", "reads.sh": "drgn x"})
    source = selftests.of_tree(tree)
    output = directory / f"run-{len(list(directory.iterdir()))}"
    with RunLog(output) as log:
        request = SelftestRequest("debian:7.3", str(tree))
        kselftest._run_all(FakeRunner(results), log, source.programs, source, request)
    return model.save(output) | {"directory": output}


def test_selftests_become_tests_of_a_run(tmp_path: Path) -> None:
    run = run_of(tmp_path, {"good.sh": "ok 1 {}", "bad.sh": "not ok 1 {} # exit=1"})
    verdicts = {test["id"]: test["verdict"] for test in run["tests"]}
    assert verdicts == {
        "kselftest/damon::good.sh": "PASS",
        "kselftest/damon::bad.sh": "FAIL",
        "kselftest/damon::lost.sh": "ERROR",
        "kselftest/damon::reads.sh": "SKIP",
    }
    assert run["complete"]
    assert model.exit_code(run) == 6
    (good, *_) = run["tests"]
    files = {a["kind"]: run["directory"] / a["path"] for a in good["artifacts"]}
    assert "1..1" in files["output"].read_text()
    assert "hello" in files["log"].read_text()
    assert wording.rerun(run, good) == "damon-tests kselftest --kernel=debian:7.3 good.sh"
    measured = {m["name"]: m["value"] for m in good["measurements"]}
    assert measured["changes of DAMON's state left behind"] == 1
    model.load(run["directory"])


def test_runs_of_two_kernels_are_compared(tmp_path: Path) -> None:
    before = run_of(tmp_path, {"good.sh": "ok 1 {}", "bad.sh": "ok 1 {}", "lost.sh": "ok 1 {}"})
    after = run_of(tmp_path, {"good.sh": "ok 1 {}", "bad.sh": "not ok 1 {}", "lost.sh": "ok 1 {}"})
    (change,) = verdict_changes(after, before)
    assert (change.test, change.before, change.after) == ("kselftest/damon::bad.sh", "PASS", "FAIL")


@pytest.mark.parametrize("kernel", ["host", "reference:1.0", "reference+fault"])
def test_kernel_that_selftests_cannot_run_on_is_refused(kernel: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError):
        kselftest.kselftest(SelftestRequest(kernel, str(make(tmp_path / "t", {"a.sh": "exit 0"}))))


def test_unknown_selftest_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    tree = make(tmp_path / "t", {"a.sh": "exit 0"})
    output = tmp_path / "run"
    with pytest.raises(UsageError, match=r"no such selftest: b\.sh; there are a\.sh"):
        kselftest.kselftest(SelftestRequest("reference", str(tree), ["b.sh"], output=output))
    assert not output.exists()
