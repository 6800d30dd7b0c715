# SPDX-License-Identifier: GPL-2.0
"""Verdicts of the kernel's selftests: also of logs that lie, end early, or show nothing."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from damon_tests.commands.selftest_verdict import (
    SelftestEvidence,
    SelftestVerdict,
    judge,
    needs_drgn,
    of_debugfs,
)
from damon_tests.judge.verdict import Verdict
from damon_tests.kernel import ktap

STARTS = "err = kdamonds.start()\n"
WATCHES = "proc = subprocess.Popen(['./access_memory', '2'])\n" + STARTS


def runner_log(result: str, printed: Sequence[str] = ()) -> ktap.KtapLog:
    """The log of the kernel's runner for one program, with a kernel message in between."""
    lines = ["TAP version 13", "1..1", "# overriding timeout to 300", "# selftests: damon: a.sh"]
    lines += [f"# {line}" for line in printed]
    lines += ["[   12.345678] e1000: link is up", result]
    lines += ["# Totals: pass:1 fail:0 xfail:0 xpass:0 skip:0 error:0"]
    return ktap.read(lines)


def verdict(evidence: SelftestEvidence) -> SelftestVerdict:
    (only,) = judge("a.sh", evidence)
    assert only.name == "a.sh"
    return only


PASSES = runner_log("ok 1 selftests: damon: a.sh")


@pytest.mark.parametrize(
    ("result", "printed", "expected", "reason"),
    [
        ("ok 1 selftests: damon: a.sh", (), Verdict.PASS, "it passed"),
        (
            "ok 1 selftests: damon: a.sh # SKIP",
            ("no refresh_ms",),
            Verdict.SKIP,
            "it skipped itself: no refresh_ms",
        ),
        (
            "not ok 1 selftests: damon: a.sh # exit=1",
            ("quota is not kept",),
            Verdict.FAIL,
            "quota is not kept",
        ),
        (
            "not ok 1 selftests: damon: a.sh # TIMEOUT 45 seconds",
            (),
            Verdict.FAIL,
            "not end within 45 seconds",
        ),
        ("not ok 1 selftests: damon: a.sh # TODO broken", (), Verdict.XFAIL, "it expects to fail: broken"),
    ],
)
def test_result_of_the_runner_becomes_the_verdict(
    result: str, printed: Sequence[str], expected: Verdict, reason: str
) -> None:
    judged = verdict(SelftestEvidence("", runner_log(result, printed)))
    assert (judged.verdict, judged.vacuous) == (expected, False)
    assert reason in judged.reason


@pytest.mark.parametrize(
    "printed",
    ["/sys/kernel/debug/kmemleak not found", "SKIP: no memcg", "Run as root", "Another kdamond is running"],
)
def test_skip_that_exits_with_0_is_no_pass(printed: str) -> None:
    judged = verdict(SelftestEvidence("", runner_log("ok 1 selftests: damon: a.sh", [printed])))
    assert (judged.verdict, judged.vacuous) == (Verdict.SKIP, True)
    assert printed in judged.reason


def test_pass_without_the_kdamond_that_the_program_turns_on_shows_nothing() -> None:
    judged = verdict(SelftestEvidence(STARTS, PASSES, wakeups=0))
    assert (judged.verdict, judged.vacuous) == (Verdict.INCONCLUSIVE, True)
    assert verdict(SelftestEvidence(STARTS, PASSES, wakeups=1)).verdict == Verdict.PASS
    # Without events nothing is known, and a program that turns nothing on needs no kdamond.
    assert verdict(SelftestEvidence(STARTS, PASSES)).verdict == Verdict.PASS
    assert verdict(SelftestEvidence("ls /sys", PASSES, wakeups=0)).verdict == Verdict.PASS


def test_pass_without_an_access_of_the_workload_shows_nothing() -> None:
    judged = verdict(SelftestEvidence(WATCHES, PASSES, wakeups=1, accessed_regions=0))
    assert (judged.verdict, judged.vacuous) == (Verdict.INCONCLUSIVE, True)
    assert verdict(SelftestEvidence(WATCHES, PASSES, wakeups=1, accessed_regions=5)).verdict == Verdict.PASS


def test_pass_with_a_complaint_of_the_kernel_is_a_failure() -> None:
    judged = verdict(SelftestEvidence("", PASSES, complaints=["WARNING: damon_merge"]))
    assert judged.verdict == Verdict.FAIL
    assert "WARNING: damon_merge" in judged.reason


def test_skip_with_a_complaint_of_the_kernel_is_a_failure() -> None:
    log = runner_log("ok 1 selftests: damon: a.sh # SKIP")
    assert verdict(SelftestEvidence("", log, complaints=["BUG: x"])).verdict == Verdict.FAIL


def test_log_that_ends_early_is_an_error_or_the_panic_that_ended_it() -> None:
    cut = ktap.read(["TAP version 13", "1..1", "# selftests: damon: a.sh", "# half a li"])
    assert verdict(SelftestEvidence("", cut, ended=False)).verdict == Verdict.ERROR
    lost = SelftestEvidence("", cut, ended=False, complaints=["panic: x"], lost="the guest ended")
    judged = verdict(lost)
    assert judged.verdict == Verdict.FAIL
    assert "panic: x" in judged.reason
    assert "the guest ended" in judged.reason


def test_what_a_test_leaves_behind_is_named() -> None:
    judged = verdict(SelftestEvidence("", PASSES, left_behind=["nr_kdamonds: 1 (was 0)"]))
    assert judged.verdict == Verdict.PASS
    assert "nr_kdamonds: 1 (was 0)" in judged.reason


def test_subtests_have_verdicts_of_their_own() -> None:
    lines = ["TAP version 13", "1..1", "# selftests: damon: a.sh"]
    lines += [
        "# TAP version 13",
        "# 1..3",
        "# ok 1 first",
        "# not ok 2 second",
        "# ok 3 third # SKIP no swap",
    ]
    lines += ["not ok 1 selftests: damon: a.sh # exit=1"]
    judged = judge("a.sh", SelftestEvidence("", ktap.read(lines)))
    assert {v.name: v.verdict for v in judged} == {
        "a.sh": Verdict.FAIL,
        "a.sh.first": Verdict.PASS,
        "a.sh.second": Verdict.FAIL,
        "a.sh.third": Verdict.SKIP,
    }


def test_program_that_needs_drgn_is_recognised() -> None:
    assert needs_drgn("subprocess.call(['drgn', script])")
    assert not needs_drgn(WATCHES)


def test_pass_without_the_interface_that_is_tested_is_vacuous() -> None:
    """6.12's debugfs tests write to files that are not there, look at nothing, and exit with 0."""
    assert of_debugfs("debugfs_target_ids_pid_leak.sh")
    assert not of_debugfs("sysfs.sh")
    judged = verdict(SelftestEvidence("", PASSES, absent="/sys/kernel/debug/damon"))
    assert (judged.verdict, judged.vacuous) == (Verdict.SKIP, True)
    assert "what it tests is not there: /sys/kernel/debug/damon" in judged.reason
