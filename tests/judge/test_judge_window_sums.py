# SPDX-License-Identifier: GPL-2.0
"""Sums of a long recording: compared block by block, they give the metrics of the whole comparison."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from synthetic_recordings import MS, ListTruth, hot_cold, phases, recording, snapshot

from damon_tests.judge.monitoring import metrics, window_sums
from damon_tests.judge.monitoring.aggregation_windows import windows
from damon_tests.judge.monitoring.judged_windows import clip
from damon_tests.judge.monitoring.report_vs_truth import compare
from damon_tests.judge.monitoring.true_rates import spans_of
from damon_tests.judge.monitoring.window_sums import Sums, summed
from damon_tests.judge.verdict import Measurement

HALF = 0.5
METRICS: dict[str, Callable[[Sums], Measurement]] = {
    "precision": lambda c: metrics.precision(c, HALF),
    "recall": lambda c: metrics.recall(c, HALF),
    "working set": metrics.working_set,
    "true working set": lambda c: metrics.true_working_set(c, HALF),
    "working set error": lambda c: metrics.working_set_error(c, 0.0, 95),
    "rate bias": metrics.rate_bias,
    "rate error": metrics.rate_error_of_accessed,
    "boundary error": lambda c: metrics.boundary_error(c, HALF),
    "latency": lambda c: metrics.detection_latency(c, c.windows[2].t0_ns, HALF),
    "region count": metrics.region_count,
    "coverage": metrics.coverage,
}
CASES = {"hot_cold": hot_cold, "phases": phases}


@pytest.mark.parametrize("block", [1, 30, 10**6], ids=["window by window", "some windows", "all at once"])
@pytest.mark.parametrize("case", CASES)
def test_blocks_give_the_metrics_of_the_whole(case: str, block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sums of bytes are integers and the same to the bit; so are those of rates, window by window."""
    monkeypatch.setattr(window_sums, "_BLOCK_REGIONS", block)
    truth, _, report = CASES[case]()
    every, ((start, end), *_) = windows(report), truth.ranges()
    ranges = [(start, (start + end) // 2 // 4096 * 4096)]
    spans = spans_of(truth, every, report)
    whole = compare(report, every, spans=spans)
    sums = summed(report, every, spans, (0.0, HALF))
    inside = summed(report, every, spans, (0.0, HALF), ranges)
    for name, metric in METRICS.items():
        assert metric(sums) == metric(whole), name
        assert metric(inside) == metric(clip(whole, ranges)), name


def test_nothing_to_judge_is_no_error() -> None:
    report = recording([])
    sums = summed(report, (), spans_of(ListTruth([], [], 0), (), report), (HALF,))
    assert metrics.precision(sums, HALF).value == 1
    assert metrics.boundary_error(sums, HALF).value == 0
    assert sums.windows == ()


def test_threshold_that_was_not_summed_is_refused() -> None:
    report = recording([snapshot(100 * MS, [(0, 4096, 3, 0)])])
    every = windows(report)
    sums = summed(report, every, spans_of(ListTruth([(0, 4096)], [], 100 * MS), every, report), (HALF,))
    with pytest.raises(KeyError):
        metrics.precision(sums, 0.9)
