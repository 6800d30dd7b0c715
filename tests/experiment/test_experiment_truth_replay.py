# SPDX-License-Identifier: GPL-2.0
"""The reference over a saved truth: it finds the hot memory, and the truth as a report is perfect."""

from __future__ import annotations

import numpy as np
import pytest

from damon_tests.damon.params import DamonAttrs
from damon_tests.experiment.truth_replay import replay
from damon_tests.judge.monitoring import metrics
from damon_tests.judge.monitoring.aggregation_windows import windows
from damon_tests.judge.monitoring.all_invariants import of_attempt
from damon_tests.judge.monitoring.perfect_report import perfect_report
from damon_tests.judge.monitoring.report_vs_truth import compare
from damon_tests.judge.monitoring.tradeoff import Hot
from damon_tests.ports import NSEC_PER_MSEC, NSEC_PER_SEC, UsageError, page_size
from damon_tests.scenario.exploration import Grid
from damon_tests.scenario.truth_exploration import TruthPlan, explore_truth, fitting
from damon_tests.workload.access_truth import AccessTruth
from damon_tests.workload.truth_file import SavedTruth

FIRST = 1 << 20
PAGES = 2048
HOT = 256


def saved(space: str = "virtual", seconds: int = 3) -> SavedTruth:
    """2048 pages, of which the first 256 are accessed all the time, and all others once."""
    start, end = 10 * NSEC_PER_SEC, (10 + seconds) * NSEC_PER_SEC
    pages = np.arange(FIRST, FIRST + PAGES)
    first = np.full(PAGES, start + NSEC_PER_MSEC)
    last = first.copy()
    last[:HOT] = end
    data = FIRST * page_size(), (FIRST + PAGES) * page_size()
    # DAMON leaves out the two largest gaps of an address space; without any, it finds no regions.
    mapped = ((page_size(), 2 * page_size()), data, (1 << 40, (1 << 40) + page_size()))
    truth = AccessTruth(
        pages, first, last, span_ns=(start, end), gap_ns=4 * NSEC_PER_MSEC, mapped=list(mapped)
    )
    return SavedTruth(truth, "made", "7.3.4", "7.3", space, 1, mapped)  # type: ignore[arg-type]


@pytest.mark.parametrize("space", ["virtual", "physical"])
def test_reference_sees_the_hot_memory(space: str) -> None:
    observed = replay(saved(space), DamonAttrs(), "7.3", [1, 2])
    assert len(observed) == 2
    for run in observed:
        judged = compare(run.recording, windows(run.recording)[15:], run.truth)
        assert metrics.recall(judged, 0.5).value > 0.9
        assert metrics.precision(judged, 0.5).value > 0.9
        assert [check for check in of_attempt(run) if check.holds is False] == []
    ends = [[s.end.tolist() for s in run.recording.snapshots] for run in observed]
    assert ends[0] != ends[1]


def test_perfect_report_has_no_error() -> None:
    (run,) = replay(saved(), DamonAttrs(), "7.3", [1])
    perfect = perfect_report(run.recording, run.truth)
    assert len(perfect.snapshots) == len(run.recording.snapshots)
    judged = compare(perfect, windows(perfect), run.truth)
    assert metrics.rate_error_of_accessed(judged).value < 0.001
    last = perfect.snapshots[-1]
    at = last.nr_accesses.tolist().index(20)
    assert last.end.tolist()[at : at + 2] == [(FIRST + HOT) * page_size(), (FIRST + PAGES) * page_size()]
    assert last.nr_accesses.sum() == 20
    assert perfect.missing == ()
    # The hot pages always were; the others were accessed in the first window only.
    oldest = len(perfect.snapshots) - 1
    assert last.age.tolist()[at : at + 2] == [oldest, oldest - 1]


def plan(grid: Grid, seconds: int = 3) -> TruthPlan:
    return TruthPlan(saved(seconds=seconds), grid, Hot(), "7.3", True, attempts=2, seed=1)


def test_exploration_skips_what_the_truth_cannot_show() -> None:
    """1 ms is finer than the truth, 100 ms have too few aggregations; goals stay within the intervals."""
    fit, unfit = fitting(plan(Grid((1, 5, 100), (100,), ())))
    assert [attrs.sample_us for attrs in fit] == [5000]
    assert [attrs.sample_us for attrs in unfit] == [1000, 100_000]
    with pytest.raises(UsageError, match="give sampling intervals"):
        fitting(plan(Grid((1,), (100,), ())))


def test_exploration_finds_points() -> None:
    points = list(explore_truth(plan(Grid((5, 10), (100,), ())), {}, lambda attrs: None))
    assert [point.attrs.sample_us for point in points] == [5000, 10_000]
    assert all(point.f1 > 0.9 for point in points)
    assert [len(point.attempts) for point in points] == [2, 2]
