# SPDX-License-Identifier: GPL-2.0
"""The table of verdicts: the verdict of each combination of checks, errors and defects."""

from __future__ import annotations

import errno

import pytest

from damon_tests.damon.known_defects import KnownDefect, Predicted, Releases
from damon_tests.judge.conclude import conclude
from damon_tests.judge.expect import Expect
from damon_tests.judge.verdict import Check, Measurement, Verdict
from damon_tests.ports import DamonHangs, HarnessError, MachineLost, NotSupported, TimedOut, TreeError

PANIC = "[   12.345678] Kernel panic - not syncing: sysrq triggered crash\n"


def check(holds: bool | None, name: str = "regions", value: float = 7, detail: str = "") -> Check:
    return Check("invariant", Measurement(name, value, "regions"), "<= 5", "I12", holds, detail)


GOOD, BAD, OPEN = check(True), check(False), check(None)


def defect(*predicts: Predicted, releases: tuple[Releases, ...] = (Releases("6.12"),)) -> KnownDefect:
    return KnownDefect("many", "too many regions", "keeps them", releases, "this test", True, predicts)


DEFECT = defect(Predicted(check="regions", at_most=9))


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
        ([GOOD], DamonHangs("commit did not return within 60 s"), Verdict.FAIL),
        ([GOOD], TimedOut("the engine did not say ready within 60 s"), Verdict.ERROR),
        ([GOOD], ZeroDivisionError("division by zero"), Verdict.ERROR),
    ],
)
def test_verdict_follows_from_checks_error_and_defects(
    checks: list[Check], error: BaseException | None, verdict: Verdict
) -> None:
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
    ("checks", "names"),
    [
        ([BAD, check(False, "ages")], "ages"),
        ([check(False, "ages")], "ages"),
        ([check(False, value=10)], "regions = 10"),
    ],
    ids=["another check, too", "another check instead", "farther than predicted"],
)
def test_failure_that_a_defect_does_not_predict_is_a_fail(checks: list[Check], names: str) -> None:
    conclusion = conclude(checks, defects=[DEFECT], level="6.12")
    assert conclusion.verdict is Verdict.FAIL
    assert names in conclusion.reason
    assert "does not predict" in conclusion.reason


def test_prediction_can_be_held_to_the_evidence_and_to_some_tests() -> None:
    narrow = defect(Predicted(check="reg*", detail=r"at 0\.\d s", tests=("test_a",)))
    assert (
        conclude([check(False, detail="at 0.1 s")], defects=[narrow], level="6.12").verdict is Verdict.XFAIL
    )
    at_other = [check(False, detail="at 1.1 s")]
    assert conclude(at_other, defects=[narrow], level="6.12").verdict is Verdict.FAIL
    same = [check(False, detail="at 0.1 s")]
    assert conclude(same, defects=[narrow], level="6.12", test="test_b").verdict is Verdict.FAIL


def test_undecided_check_beside_a_predicted_failure_stays_undecided() -> None:
    assert (
        conclude([BAD, check(None, "ages")], defects=[DEFECT], level="6.12").verdict is Verdict.INCONCLUSIVE
    )


WARNS = defect(Predicted(complaint=r"mm/damon/core\.c"))


@pytest.mark.parametrize(
    ("splats", "verdict"),
    [
        (["WARNING: mm/damon/core.c:42"], Verdict.XFAIL),
        (["WARNING: mm/damon/core.c:42", "BUG: KASAN: slab-use-after-free in damon_merge"], Verdict.FAIL),
        (["WARNING: mm/slub.c:42"], Verdict.FAIL),
        (["Kernel panic - not syncing: mm/damon/core.c"], Verdict.FAIL),
        ([], Verdict.XPASS),
    ],
)
def test_only_the_predicted_complaint_is_expected(splats: list[str], verdict: Verdict) -> None:
    assert conclude([GOOD], None, splats, [WARNS], "6.12").verdict is verdict


REFUSES = defect(Predicted(refusal="EBUSY", file="/state"), Predicted(hang="update_schemes_stats"))


@pytest.mark.parametrize(
    ("error", "verdict"),
    [
        (TreeError("write", "/sys/x/state", errno.EBUSY, "on"), Verdict.XFAIL),
        (TreeError("write", "/sys/x/state", errno.EINVAL, "on"), Verdict.FAIL),
        (TreeError("write", "/sys/x/nr_schemes", errno.EBUSY, "1"), Verdict.FAIL),
        (TreeError("write", "/sys/x/state", errno.ENOMEM, "on"), Verdict.FAIL),
        (DamonHangs("update_schemes_stats took more than 60 s"), Verdict.XFAIL),
        (DamonHangs("commit took more than 60 s"), Verdict.FAIL),
        (TimedOut("the guest's engine says nothing"), Verdict.ERROR),
        (AssertionError("3 != 4"), Verdict.FAIL),
        (MachineLost("no heartbeat", PANIC), Verdict.FAIL),
        (MachineLost("no heartbeat", ""), Verdict.ERROR),
        (HarnessError("engine died"), Verdict.ERROR),
    ],
)
def test_only_the_predicted_error_is_expected(error: BaseException, verdict: Verdict) -> None:
    assert conclude([GOOD], error, defects=[REFUSES], level="6.12").verdict is verdict
    # What was predicted does not hide what came afterwards.
    either = defect(*REFUSES.predicts, *DEFECT.predicts)
    assert conclude([BAD], error, defects=[either], level="6.12").verdict is verdict


def test_known_defect_never_hides_a_broken_harness() -> None:
    error = HarnessError("engine died")
    assert conclude([], error, defects=[DEFECT], level="6.12").verdict is Verdict.ERROR


def test_failure_text_has_value_limit_and_reason() -> None:
    reason = conclude([BAD]).reason
    assert reason == "regions = 7 regions, expected <= 5 (I12)"


def test_expect_collects_every_check_and_reports_each_at_once() -> None:
    reported: list[Check] = []
    expect = Expect(reported.append)
    m = Measurement("recall", 0.5, "fraction")
    expect.at_least(m, 0.9, because="r1")
    expect.at_most(m, 0.9, because="r2")
    expect.equal(m, 0.5, because="r3")
    expect.between(m, 0.6, 0.7, because="r4")
    expect.nothing("differences", ["a", "b", "c", "d", "e", "f"], because="r5")
    assert [c.holds for c in reported] == [False, True, True, False, False]
    assert reported == expect.checks
    assert "and 1 more" in reported[-1].detail


@pytest.mark.parametrize(
    ("violations", "judged", "holds"), [([], 0, None), ([], 1, True), (["x"], 0, False), (["x"], 2, False)]
)
def test_nothing_of_nothing_is_undecided(violations: list[str], judged: int, holds: bool | None) -> None:
    expect = Expect()
    expect.nothing("wrong ages", violations, because="ages grow", judged=judged)
    assert [check.holds for check in expect.checks] == [holds]


def test_check_of_nan_is_undecided() -> None:
    expect = Expect()
    nothing = Measurement("false hot bytes", float("nan"), "bytes")
    expect.at_most(nothing, 0, because="nobody touched this memory")
    assert conclude(expect.checks).verdict is Verdict.INCONCLUSIVE
    assert "nothing was measured" in conclude(expect.checks).reason
    expect.at_most(Measurement("false hot bytes", 1, "bytes"), 0, because="nobody touched this memory")
    assert conclude(expect.checks).verdict is Verdict.FAIL
