# SPDX-License-Identifier: GPL-2.0
"""The table of verdicts: what every combination of checks, errors and defects concludes to."""

from __future__ import annotations

import errno

import pytest

from damon_tests.judge.conclude import KnownDefect, conclude
from damon_tests.judge.expect import Expect
from damon_tests.judge.verdict import Check, Measurement, Verdict
from damon_tests.ports import HarnessError, MachineLost, NotSupported, TreeError

PANIC = "[   12.345678] Kernel panic - not syncing: sysrq triggered crash\n"


def check(holds: bool | None) -> Check:
    return Check("invariant", Measurement("regions", 7, "regions"), "<= 5", "I12", holds)


GOOD, BAD, OPEN = check(True), check(False), check(None)
DEFECT = KnownDefect("age counted twice", "spec 8.3 (31)", ("6.12",))


@pytest.mark.parametrize(
    ("checks", "error", "verdict"),
    [
        ([GOOD], None, Verdict.PASS),
        ([], None, Verdict.ERROR),  # a test that checked nothing has shown nothing
        ([GOOD, BAD], None, Verdict.FAIL),
        ([GOOD, OPEN], None, Verdict.INCONCLUSIVE),
        ([OPEN, BAD], None, Verdict.FAIL),
        ([GOOD], NotSupported("no paddr"), Verdict.SKIP),
        ([GOOD], HarnessError("engine died"), Verdict.ERROR),
        ([BAD], HarnessError("engine died"), Verdict.FAIL),  # shown before it broke
        ([], TreeError("write", "/sys/x/state", errno.EINVAL, "on"), Verdict.FAIL),
        ([], MachineLost("no heartbeat", PANIC), Verdict.FAIL),
        ([GOOD], MachineLost("no heartbeat", ""), Verdict.ERROR),
        ([], AssertionError("3 != 4"), Verdict.FAIL),
        ([GOOD], ZeroDivisionError("division by zero"), Verdict.ERROR),
    ],
)
def test_verdict(checks: list[Check], error: BaseException | None, verdict: Verdict) -> None:
    assert conclude(checks, error).verdict is verdict


def test_kernel_complaints_outrank_good_numbers() -> None:
    conclusion = conclude([GOOD], None, ["WARNING: mm/damon/core.c:42"])
    assert conclusion.verdict is Verdict.FAIL
    assert "mm/damon/core.c:42" in conclusion.reason


@pytest.mark.parametrize(
    ("checks", "level", "verdict"),
    [
        ([BAD], "6.12", Verdict.XFAIL),
        ([BAD], "7.3", Verdict.FAIL),
        ([GOOD], "6.12", Verdict.XPASS),
        ([GOOD], "7.3", Verdict.PASS),
        ([OPEN], "6.12", Verdict.INCONCLUSIVE),
    ],
)
def test_known_defect_only_counts_on_its_levels(checks: list[Check], level: str, verdict: Verdict) -> None:
    assert conclude(checks, defects=[DEFECT], level=level).verdict is verdict


@pytest.mark.parametrize(
    ("release", "fixed", "since"),
    [
        ("6.12.107+deb13-cloud-amd64", False, False),
        ("6.12.116", False, False),
        ("6.12.117+deb13-cloud-amd64", True, True),
        ("6.12.200", True, True),
        ("6.12.9", False, False),
        ("6.18.15", False, True),  # nothing is said about its series
        ("", False, True),
    ],
)
def test_stable_releases_mend_and_bring_defects(release: str, fixed: bool, since: bool) -> None:
    levels = ("6.12", "6.18")
    mended = KnownDefect("a", "b", levels, fixed=("7.1.13", "6.12.117"))
    brought = KnownDefect("a", "b", levels, since=("6.12.117",))
    level = release[:4] or "6.12"
    assert mended.applies(level, release) is not fixed
    assert brought.applies(level, release) is since
    assert not mended.applies("7.3", release)
    wanted = Verdict.FAIL if fixed else Verdict.XFAIL
    assert conclude([BAD], defects=[mended], level=level, release=release).verdict is wanted


def test_known_defect_never_hides_a_broken_harness() -> None:
    error = HarnessError("engine died")
    assert conclude([], error, defects=[DEFECT], level="6.12").verdict is Verdict.ERROR


def test_failure_text_has_value_limit_and_reason() -> None:
    reason = conclude([BAD]).reason
    assert reason == "regions = 7 regions, expected <= 5 (I12)"


def test_expect_collects_every_check_and_tells_each_at_once() -> None:
    told: list[Check] = []
    expect = Expect(told.append)
    m = Measurement("recall", 0.5, "fraction")
    expect.at_least(m, 0.9, because="r1")
    expect.at_most(m, 0.9, because="r2")
    expect.equal(m, 0.5, because="r3")
    expect.between(m, 0.6, 0.7, because="r4")
    expect.nothing("differences", ["a", "b", "c", "d", "e", "f"], because="r5")
    assert [c.holds for c in told] == [False, True, True, False, False]
    assert told == expect.checks
    assert "and 1 more" in told[-1].detail
