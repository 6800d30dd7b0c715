# SPDX-License-Identifier: GPL-2.0
"""``damon-tests kselftest`` on a real kernel (marked vm): programs that do wrong what selftests do wrong."""

from __future__ import annotations

from pathlib import Path

import pytest
from selftest_tree import make, results_by_program

from damon_tests.commands.kselftest import SelftestRequest, kselftest

pytestmark = [pytest.mark.vm, pytest.mark.slow]

ADMIN = "/sys/kernel/mm/damon/admin/kdamonds"
PROGRAMS = {
    "leaves.sh": f"echo 1 > {ADMIN}/nr_kdamonds",
    "is_pristine.sh": f'[ "$(cat {ADMIN}/nr_kdamonds)" = 0 ]',
    "reclaims.sh": "cd /sys/module/damon_reclaim/parameters\necho Y > enabled\nsleep 1\necho N > enabled",
    "forgets.sh": "if false; then\n\techo Y > /dev/null\nfi",
    "hangs.sh": "sleep 1000",
    "warns.sh": 'echo "<4>WARNING: mm/damon/core.c:1 at damon_x+0x1/0x2, CPU#1: a/1" > /dev/kmsg',
    "reads.sh": "drgn dump",
}


def test_selftests_are_judged_by_what_happened(tmp_path: Path) -> None:
    tree = make(tmp_path / "tree", PROGRAMS)
    output = tmp_path / "run"
    assert kselftest(SelftestRequest("debian:7.3", str(tree), output=output, timeout_s=20)) == 1
    tests = results_by_program(output)
    print({name: (test["verdict"], test["reason"]) for name, test in tests.items()})
    assert {name: test["verdict"] for name, test in tests.items()} == {
        "leaves.sh": "PASS",
        "is_pristine.sh": "PASS",
        "reclaims.sh": "PASS",
        "forgets.sh": "INCONCLUSIVE",
        "hangs.sh": "FAIL",
        "warns.sh": "FAIL",
        "reads.sh": "SKIP",
    }
    assert "nr_kdamonds: 1 (was 0)" in tests["leaves.sh"]["reason"]
    assert "the kdamond that it turns on never ran" in tests["forgets.sh"]["reason"]
    assert "20 seconds" in tests["hangs.sh"]["reason"]
    assert "damon_x" in tests["warns.sh"]["reason"]
    measured = {m["name"]: m["value"] for m in tests["reclaims.sh"]["measurements"]}
    assert measured["wake-ups of kdamonds"] > 0
