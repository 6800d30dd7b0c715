# SPDX-License-Identifier: GPL-2.0
"""Reading KTAP of KUnit and kselftest: whole, cut short, or with kernel messages in between."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from damon_tests.kernel import ktap

KUNIT = """\
[    1.100000] KTAP version 1
[    1.100001] 1..2
[    1.100002]     KTAP version 1
[    1.100003]     # Subtest: damon
[    1.100004]     # module: core
[    1.100005]     1..3
[    1.100006]     ok 1 damon_test_target
[    1.200000] clocksource: tsc-early: mask: 0xffffffffffffffff
[    1.200001]     ok 2 damon_test_regions # SKIP no memory
[    1.200002]     # damon_test_split: EXPECTATION FAILED at mm/damon/tests/core-kunit.h:201
[    1.200003]     not ok 3 damon_test_split
[    1.200004] # damon: pass:1 fail:1 skip:1 total:3
[    1.200005] not ok 1 damon
[    1.200006]     KTAP version 1
[    1.200007]     # Subtest: damon-operations
[    1.200008]     1..1
[    1.200009]         KTAP version 1
[    1.200010]         # Subtest: damon_test_three_regions
[    1.200011]         ok 1 case one
[    1.200012]         ok 2 case two
[    1.200013]     ok 1 damon_test_three_regions
[    1.200014] ok 2 damon-operations
[    1.300000] reboot: Power down
"""

KSELFTEST = """\
TAP version 13
1..4
# timeout set to 45
# selftests: damon: sysfs.sh
ok 1 selftests: damon: sysfs.sh
# timeout set to 45
# selftests: damon: reclaim.sh
ok 2 selftests: damon: reclaim.sh # SKIP
# selftests: damon: damos_quota.py
not ok 3 selftests: damon: damos_quota.py # TIMEOUT 45 seconds
# selftests: damon: nested
# TAP version 13
# 1..2
# ok 1 first
# not ok 2 second
not ok 4 selftests: damon: nested # exit=1
"""


def outcomes(text: str) -> dict[str, str]:
    return {path: test.outcome for path, test in ktap.read(text.splitlines()).leaves()}


def test_kunit_log_with_kernel_messages() -> None:
    log = ktap.read(KUNIT.splitlines())
    assert outcomes(KUNIT) == {
        "damon.damon_test_target": "pass",
        "damon.damon_test_regions": "skip",
        "damon.damon_test_split": "fail",
        "damon-operations.damon_test_three_regions.case one": "pass",
        "damon-operations.damon_test_three_regions.case two": "pass",
    }
    assert log.problems == ()
    assert len(log.noise) == 2
    split = dict(log.leaves())["damon.damon_test_split"]
    assert split.diagnostics == ("damon_test_split: EXPECTATION FAILED at mm/damon/tests/core-kunit.h:201",)


def test_kselftest_log_with_nested_tests() -> None:
    assert outcomes(KSELFTEST) == {
        "selftests: damon: sysfs.sh": "pass",
        "selftests: damon: reclaim.sh": "skip",
        "selftests: damon: damos_quota.py": "timeout",
        "selftests: damon: nested": "fail",
        "selftests: damon: nested.first": "pass",
        "selftests: damon: nested.second": "fail",
    }
    assert ktap.read(KSELFTEST.splitlines()).problems == ()


def test_planned_tests_that_never_report_are_missing() -> None:
    log = ktap.read(KSELFTEST.splitlines()[:6])
    assert [test.outcome for _, test in log.leaves()] == ["pass", "missing", "missing", "missing"]
    assert log.problems == ("the log: 4 tests planned, 1 reported",)


def test_log_that_ends_inside_a_group_is_a_problem() -> None:
    log = ktap.read(KUNIT.splitlines()[:8])
    assert log.tests[0].name == "damon"
    assert log.tests[0].outcome == "missing"
    assert "damon: the log ends inside this group" in log.problems
    assert [test.outcome for test in log.tests[0].subtests] == ["pass", "missing", "missing"]


def test_group_that_reports_ok_over_a_failed_subtest_fails() -> None:
    text = "KTAP version 1\n1..1\n  KTAP version 1\n  1..2\n  ok 1 a\n  not ok 2 b\nok 1 group\n"
    (group,) = ktap.read(text.splitlines()).tests
    assert group.outcome == "fail"
    assert group.reason == "reported ok, although b did not pass"


def test_group_whose_subtests_were_all_skipped_is_skipped() -> None:
    text = "KTAP version 1\n1..1\n  KTAP version 1\n  1..1\n  ok 1 a # SKIP no swap\nok 1 group\n"
    (group,) = ktap.read(text.splitlines()).tests
    assert group.outcome == "skip"


@pytest.mark.parametrize(
    ("line", "outcome", "reason"),
    [
        ("ok 1 a # SKIP no swap", "skip", "no swap"),
        ("ok 1 - a # skip: no swap", "skip", "no swap"),
        ("not ok 1 a # TODO later", "xfail", "later"),
        ("ok 1 a # XFAIL known", "xfail", "known"),
        ("not ok 1 a # ERROR broke", "fail", "broke"),
        ("not ok 1 a # exit=2", "fail", "exit=2"),
        ("ok 1", "pass", ""),
    ],
)
def test_directives_set_outcome_and_reason(line: str, outcome: str, reason: str) -> None:
    (test,) = ktap.read(["KTAP version 1", "1..1", line]).tests
    assert (test.outcome, test.reason) == (outcome, reason)


def test_numbers_out_of_order_and_giving_up_are_problems() -> None:
    log = ktap.read(["TAP version 13", "1..2", "ok 2 b", "Bail out! no memory"])
    assert "b: number 2, but 1 was expected" in log.problems
    assert "the tests gave up: no memory" in log.problems


def test_log_without_tests_or_plan_is_a_problem() -> None:
    assert ktap.read([]).problems == ("the log has no test",)
    assert ktap.read(["ok 1 a"]).problems == (
        "the log has no plan: tests that never reported cannot be noticed",
    )


LINES = [*KUNIT.splitlines(), *KSELFTEST.splitlines(), "", "# ", "1..", "ok", "not ok x"]


@given(st.lists(st.sampled_from(LINES)))
def test_any_lines_are_read_and_pass_only_if_reported(lines: list[str]) -> None:
    """Every log is accepted, and only a test that reported a pass counts as a pass."""
    log = ktap.read(lines)
    passed = sum(test.outcome == "pass" for _, test in log.leaves())
    assert passed <= sum(" ok " in f" {line}" and "not ok" not in line for line in lines)
    assert log.tests or log.problems
