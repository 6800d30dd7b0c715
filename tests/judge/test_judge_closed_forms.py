# SPDX-License-Identifier: GPL-2.0
"""Closed forms: a correct DAMON passes, a wrong one fails."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from synthetic_recordings import MS, ListTruth, Touch, hot_cold, phases, recording, snapshot

from damon_tests.damon.params import DamonCtx, DamonTarget
from damon_tests.damon.records import Recording
from damon_tests.judge.monitoring import closed_forms


@pytest.mark.parametrize("seed", range(5))
def test_always_touched_memory_has_all_hits(seed: int) -> None:
    truth, damon, report = hot_cold(seed=seed)
    (check,) = closed_forms.always_touched_is_full(report, damon.ctx, truth)
    assert check.holds
    assert check.limit == "== 20"


def test_counts_in_disturbed_windows_are_undecided() -> None:
    truth, damon, report = hot_cold()
    stalls = [(report.started_ns, report.stopped_ns)]
    (check,) = closed_forms.always_touched_is_full(report, damon.ctx, truth, stalls=stalls)
    assert check.holds is None


def test_missed_hit_fails() -> None:
    truth, damon, report = hot_cold()
    snaps = list(report.snapshots)
    nr = snaps[20].nr_accesses.copy()
    nr[0] = 19
    snaps[20] = replace(snaps[20], nr_accesses=nr)
    (check,) = closed_forms.always_touched_is_full(replace(report, snapshots=tuple(snaps)), damon.ctx, truth)
    assert check.holds is False
    assert "at 2.100 s" in check.detail


@pytest.mark.parametrize("make", [hot_cold, phases])
def test_invented_accesses_fail(make) -> None:  # type: ignore[no-untyped-def]
    truth, damon, report = make()
    (check,) = closed_forms.no_excess_accesses(report, damon.ctx, "7.3", truth)
    assert check.holds
    (check,) = closed_forms.no_excess_accesses(_inflated(report, 5), damon.ctx, "7.3", truth)
    assert check.holds is False
    assert check.alpha == 1e-6


def _inflated(report: Recording, more: int) -> Recording:
    """Return the report of a DAMON that counts a few samples too many in warm regions."""
    snaps = [
        replace(s, nr_accesses=np.where(s.nr_accesses > 0, s.nr_accesses + more, 0).astype(np.uint32))
        for s in report.snapshots
    ]
    return replace(report, snapshots=tuple(snaps))


def test_without_untouched_memory_there_is_no_check() -> None:
    truth, damon, report = hot_cold(hot_mib=64)
    assert closed_forms.untouched_is_silent(report, damon.ctx, truth) == []
    assert closed_forms.untouched_ages(report, damon.ctx, "7.3", truth) == []


def test_touch_of_a_huge_page_marks_all_of_it() -> None:
    """The page beside a touched one is idle with 4 KiB granules, and touched with 2 MiB ones."""
    truth = ListTruth([(0, 8192)], [Touch(0, 4096, 0, 100 * MS)], 100 * MS)
    report = recording([snapshot(100 * MS, [(0, 4096, 20, 0), (4096, 8192, 20, 0)])])
    ctx = DamonCtx("fvaddr", targets=(DamonTarget(1, ((0, 8192),)),))
    assert [c.holds for c in closed_forms.untouched_is_silent(report, ctx, truth)] == [False]
    assert closed_forms.untouched_is_silent(report, ctx, truth, granule_bytes=2 << 20) == []


def test_hits_at_another_rate_fail() -> None:
    rng = np.random.default_rng(7)
    hits = rng.binomial(20, 0.3, 100).tolist()
    assert closed_forms.fixed_rate("hits", hits, 20, 0.3, 0.001, because="3 of 10 samples").holds
    check = closed_forms.fixed_rate("hits", hits, 20, 0.36, 0.001, because="wrong rate")
    assert check.holds is False
    assert "p = " in check.detail
