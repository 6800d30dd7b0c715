# SPDX-License-Identifier: GPL-2.0
"""``damon-tests kselftest`` on the reference: selftests of ours, unmodified programs that use its files."""

from __future__ import annotations

from pathlib import Path

import pytest
from selftest_tree import make, results_by_program
from serving import needs_fuse

from damon_tests.commands.gate import GateRequest, gate
from damon_tests.commands.kselftest import SelftestRequest, kselftest
from damon_tests.report import model

pytestmark = pytest.mark.slow

ADMIN = "/sys/kernel/mm/damon/admin/kdamonds"
PROGRAMS = {
    "writes.sh": f"echo 1 > {ADMIN}/nr_kdamonds && [ -d {ADMIN}/0 ]",
    "fails.sh": f'[ -d {ADMIN}/0 ] || {{ echo "no kdamond directory"; exit 1; }}',
    "lies.sh": 'echo "kmemleak not found"; exit $ksft_skip',
    "skips.sh": 'echo "no cgroup"; exit 4',
}


def test_each_program_has_a_tree_of_its_own(tmp_path: Path) -> None:
    """The second program does not see the directory that the first one made."""
    needs_fuse()
    tree = make(tmp_path / "tree", PROGRAMS)
    output = tmp_path / "run"
    assert kselftest(SelftestRequest("reference:7.3", str(tree), output=output, timeout_s=60)) == 1
    tests = results_by_program(output)
    assert {name: test["verdict"] for name, test in tests.items()} == {
        "writes.sh": "PASS",
        "fails.sh": "FAIL",
        "lies.sh": "SKIP",
        "skips.sh": "SKIP",
    }
    assert "no kdamond directory" in tests["fails.sh"]["reason"]
    assert "exited with 0, as if it had passed" in tests["lies.sh"]["reason"]


def test_gate_adds_the_selftests_of_each_kernel(tmp_path: Path) -> None:
    """Their tests are in the merged run, decide its exit code, and are compared with the baseline's."""
    needs_fuse()
    tree = make(tmp_path / "tree", {"fails.sh": "[ -e /sys/kernel/mm/damon/none ]", "skips.sh": "exit 4"})
    said: list[str] = []
    request = GateRequest(
        ["reference:7.3", "reference:6.12"],
        tmp_path / "run",
        [str(Path(__file__).parents[2] / "suites/monitoring/test_idle.py")],
        baseline="reference:7.3",
        selftests=str(tree),
    )
    assert gate(request, said.append) == 1
    tests = {(t["backend"], t["id"]): t["verdict"] for t in model.load(tmp_path / "run")["tests"]}
    for kernel in request.kernels:
        assert tests[kernel, "kselftest/damon::fails.sh"] == "FAIL"
        assert tests[kernel, "kselftest/damon::skips.sh"] == "SKIP"
    assert "nothing is new against the baseline" in said
