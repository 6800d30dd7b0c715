# SPDX-License-Identifier: GPL-2.0
"""Metrics: hand-made reports with known answers, then a plausible DAMON."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from synthetic_recordings import BASE, MIB, MS, ListTruth, Touch, hot_cold, phases, recording, snapshot

from damon_tests.judge.monitoring import metrics
from damon_tests.judge.monitoring.aggregation_windows import settled, windows
from damon_tests.judge.monitoring.report_vs_truth import Comparison, compare
from damon_tests.judge.monitoring.true_ages import age_error
from damon_tests.judge.monitoring.true_rates import (
    busy_ranges,
    rasterise,
    sampling_steps,
    spans_of,
)
from damon_tests.ports.ranges import without

PAGE = 4096


def by_hand(*rows: tuple[int, int, int, int]) -> Comparison:
    """One window of W = 20; pages [10, 20) of 100 are touched all the time, [50, 60) half of it."""
    touches = [Touch(10 * PAGE, 20 * PAGE, 0, 100 * MS), Touch(50 * PAGE, 60 * PAGE, 0, 100 * MS, 10 * MS)]
    truth = ListTruth([(0, 100 * PAGE)], touches, 100 * MS)
    report = recording([snapshot(100 * MS, [(a * PAGE, b * PAGE, nr, age) for a, b, nr, age in rows])])
    return compare(report, windows(report), truth)


def test_perfect_report_scores_perfectly() -> None:
    c = by_hand((0, 10, 0, 1), (10, 20, 20, 1), (20, 50, 0, 1), (50, 60, 10, 1), (60, 100, 0, 1))
    for threshold in (0.0, 0.5, 0.9):
        assert metrics.precision(c, threshold).value == 1
        assert metrics.recall(c, threshold).value == 1
        assert metrics.boundary_error(c, threshold).value == 0
        assert metrics.working_set_error(c, threshold).value == 0
    assert metrics.rate_error_of_accessed(c).value == 0
    assert metrics.rate_bias(c).value == 0
    assert metrics.coverage(c).value == 1
    assert metrics.false_hot_bytes(c, [(0, 10 * PAGE), (20 * PAGE, 50 * PAGE)]).value == 0
    assert metrics.region_count(c).value == 5


def test_wrong_boundary_lowers_precision_and_recall() -> None:
    """The report has pages 8..20 hot, and nothing of 50..60."""
    c = by_hand((0, 8, 0, 1), (8, 20, 20, 1), (20, 100, 0, 1))
    assert metrics.precision(c, 0.9).value == pytest.approx(10 / 12)
    assert metrics.recall(c, 0.9).value == 1
    assert metrics.recall(c, 0.5).value == pytest.approx(10 / 20)
    assert metrics.working_set(c).value == 12 * PAGE
    assert metrics.true_working_set(c).value == 20 * PAGE
    assert metrics.working_set_error(c).value == pytest.approx(-8 / 20)
    assert metrics.false_hot_bytes(c, [(0, 10 * PAGE)]).value == 2 * PAGE
    # edges 10 and 20 of the hot set: 8 is 2 pages off, 20 is right
    assert metrics.boundary_error(c, 0.9).value == PAGE
    # |seen - true|: 2 pages by 1, 10 pages by 0.5; 15 pages were touched
    assert metrics.rate_error_of_accessed(c).value == pytest.approx(7 / 15)
    assert metrics.rate_bias(c).value == pytest.approx((2 - 5) / 100)


def test_order_of_regions_does_not_matter() -> None:
    rows = [(0, 8, 0, 1), (8, 20, 20, 3), (20, 100, 0, 1)]
    truth = ListTruth([(0, 100 * PAGE)], [Touch(10 * PAGE, 20 * PAGE, 0, 100 * MS)], 100 * MS)

    def measured(order: list[int]) -> list[float]:
        regions = [(a * PAGE, b * PAGE, nr, age) for a, b, nr, age in (rows[i] for i in order)]
        report = recording([snapshot(100 * MS, regions)])
        c = compare(report, windows(report), truth)
        of = (metrics.precision, metrics.recall, metrics.boundary_error)
        return [
            *(m(c, 0.5).value for m in of),
            metrics.rate_error_of_accessed(c).value,
            age_error(report, truth).value,
        ]

    assert measured([0, 1, 2]) == measured([2, 0, 1]) == measured([1, 2, 0])
    assert measured([0, 1, 2])[0] == pytest.approx(10 / 12)


def test_overlapping_or_inverted_regions_give_numbers() -> None:
    """Invariants report them; the metrics must still be numbers."""
    c = by_hand((0, 60, 0, 1), (10, 20, 20, 1), (70, 65, 20, 1), (60, 100, 0, 1))
    assert metrics.recall(c, 0.9).value == 1
    assert metrics.precision(c, 0.9).value == 1
    assert (c.size > 0).all()


def test_memory_outside_regions_counts_as_missed() -> None:
    c = by_hand((0, 15, 20, 1))
    assert metrics.recall(c, 0.9).value == pytest.approx(0.5)
    assert metrics.coverage(c).value == pytest.approx(5 / 20)


def test_nothing_hot_and_nothing_reported_scores_perfectly() -> None:
    report = recording([snapshot(100 * MS, [(0, PAGE, 0, 1)])])
    c = compare(report, windows(report), ListTruth([(0, PAGE)], [], 100 * MS))
    assert metrics.precision(c, 0.5).value == metrics.recall(c, 0.5).value == 1
    assert metrics.boundary_error(c, 0.5).samples == ()
    assert metrics.rate_error_of_accessed(c).value == 0


def test_boundary_error_of_a_silent_report_is_the_hot_size() -> None:
    c = by_hand((0, 100, 0, 1))
    assert metrics.recall(c, 0.9).value == 0
    assert metrics.boundary_error(c, 0.9).value == 10 * PAGE
    assert metrics.rate_error_of_accessed(c).value == 1


def test_without_windows_metrics_are_nan() -> None:
    report = recording([])
    c = compare(report, (), ListTruth([], [], 0))
    assert math.isnan(metrics.working_set(c).value)
    assert math.isnan(metrics.working_set_error(c).value)
    assert math.isnan(metrics.aggregation_jitter(report).value)
    assert metrics.detection_latency(c, 0, 0.5).value == math.inf


def test_settled_plausible_damon_is_accurate() -> None:
    truth, _, report = hot_cold()
    c = compare(report, settled(report, 1000 * MS), truth)
    assert len(c.windows) == 30
    assert metrics.precision(c, 0.5).value > 0.9
    assert metrics.recall(c, 0.5).value > 0.9
    assert abs(metrics.working_set_error(c).value) < 0.1
    assert metrics.boundary_error(c, 0.5).value < MIB
    assert -0.02 < metrics.rate_bias(c).value < 0.02


def test_detection_latency_is_short_after_a_change_and_infinite_without() -> None:
    truth, _, report = phases()
    c = compare(report, windows(report), truth)
    assert 100 <= metrics.detection_latency(c, 3000 * MS, 0.5).value <= 2000
    stuck = replace(
        report, snapshots=tuple(replace(s, nr_accesses=s.nr_accesses * 0) for s in report.snapshots)
    )
    c = compare(stuck, windows(stuck), truth)
    assert metrics.detection_latency(c, 3000 * MS, 0.5).value == math.inf


def test_age_error_matches_worked_example() -> None:
    """Touched from the third window on: true ages 1, 2 (idle), 0, 1 (hot); idle memory 1, 2, 3, 4."""
    truth = ListTruth([(0, 2 * PAGE)], [Touch(0, PAGE, 200 * MS, 400 * MS)], 400 * MS)
    true = [1, 2, 0, 1]
    rows = [[(0, PAGE, 20 * (i >= 2), true[i]), (PAGE, 2 * PAGE, 0, i + 1)] for i in range(4)]
    report = recording([snapshot((i + 1) * 100 * MS, r) for i, r in enumerate(rows)])
    assert age_error(report, truth).value == 0
    rows[2][0] = (0, PAGE, 20, 3)
    wrong = recording([snapshot((i + 1) * 100 * MS, r) for i, r in enumerate(rows)])
    assert age_error(wrong, truth).samples == (0, 0, 1.5, 0)
    assert age_error(wrong, truth, chosen=settled(wrong, 300 * MS)).samples == (0,)


def test_intervals_and_jitter_match_worked_example() -> None:
    times = [100, 201, 300, 420]
    report = recording([snapshot(t * MS, [(0, PAGE, 0, 0)]) for t in times])
    assert metrics.aggregation_interval(report).samples == pytest.approx((101_000, 99_000, 120_000))
    assert min(metrics.aggregation_jitter(report).samples) == pytest.approx(-0.01)


def test_incomplete_and_too_long_windows_are_left_out() -> None:
    snaps = [snapshot(t * MS, [(0, PAGE, 0, 0)]) for t in (100, 200, 400, 500)]
    snaps[1] = replace(snaps[1], complete=False)
    report = recording(snaps)
    assert [(w.index, w.t0_ns // MS, w.t1_ns // MS) for w in windows(report)] == [
        (0, 0, 100),
        (2, 200, 400),
        (3, 400, 500),
    ]
    # with losses an aggregation may be missing between 200 and 400
    assert [w.index for w in windows(replace(report, lost_events=1))] == [0, 3]
    assert [w.index for w in settled(report, 200 * MS, 400 * MS)] == [2]
    tried = replace(report, source="tried_regions")
    assert [w.duration_ns for w in windows(tried)] == [100 * MS] * 3


def test_untouched_memory_is_queried_once_for_all_windows() -> None:
    """A megabyte is touched of 64 GiB: all pages are queried once, whatever the number of windows."""
    known = [(BASE, BASE + (64 << 30))]
    truth = ListTruth(known, [Touch(BASE + MIB, BASE + 2 * MIB, 0, 1000 * MS)], 1000 * MS)
    spans = rasterise(truth, [(i * 100 * MS, (i + 1) * 100 * MS) for i in range(10)], 5000)
    assert truth.pages_asked <= (64 << 30) // PAGE + 10 * 20 * 256 + 10 * 256
    assert spans.start.tolist() == [BASE + MIB] * 10
    assert spans.rate.tolist() == [1.0] * 10
    busy = busy_ranges(truth, 0, 1000 * MS)
    assert busy == ((BASE + MIB, BASE + 2 * MIB),)
    assert without(known, busy) == [(BASE, BASE + MIB), (BASE + 2 * MIB, known[0][1])]


def test_spans_keep_different_rates_apart() -> None:
    touches = [Touch(0, 2 * PAGE, 0, 100 * MS), Touch(2 * PAGE, 4 * PAGE, 0, 100 * MS, 10 * MS)]
    spans = rasterise(ListTruth([(0, 8 * PAGE)], touches, 100 * MS), [(0, 100 * MS)], 5000)
    start, end, rate = spans.of_window(0)
    assert np.stack([start // PAGE, end // PAGE]).T.tolist() == [[0, 2], [2, 4]]
    assert rate.tolist() == [1.0, 0.5]


def test_true_rate_on_a_slow_machine_is_per_real_sample() -> None:
    """Touched every 10 ms: a rate of half if sampled every 5 ms as requested, of 1 if really every 10 ms."""
    truth = ListTruth([(0, 8 * PAGE)], [Touch(0, 8 * PAGE, 0, 900 * MS, 10 * MS)], 900 * MS)
    snaps = [snapshot(t * MS, [(0, 8 * PAGE, 20, 0)]) for t in (100, 200, 400, 550)]
    report = recording(snaps)
    spans = spans_of(truth, windows(report), report)
    assert [float(spans.of_window(i)[2][0]) for i in range(4)] == pytest.approx(
        [0.5, 0.5, 1.0, 0.75], abs=0.06
    )


def test_excess_of_a_window_is_cut_out_of_stalls() -> None:
    report = recording([snapshot(t * MS, [(0, 8 * PAGE, 20, 0)]) for t in (100, 200, 260 + 100, 600)])
    late, both = windows(report)[2], windows(report)[3]
    assert sampling_steps(late, report) == [(200 * MS, 360 * MS, 20)]
    assert sampling_steps(late, report, [(190 * MS, 220 * MS)]) == [(220 * MS, 360 * MS, 20)]
    cut = sampling_steps(both, report, [(400 * MS, 500 * MS), (510 * MS, 590 * MS)])
    assert cut == [(360 * MS, 400 * MS, 8), (500 * MS, 510 * MS, 2), (550 * MS, 600 * MS, 10)]
    assert sampling_steps(windows(report)[1], report, [(120 * MS, 150 * MS)]) == [(100 * MS, 200 * MS, 20)]
