# SPDX-License-Identifier: GPL-2.0
"""Judge monitoring attributes: how accurate DAMON's report is with them, and what kdamond executes for it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from damon_tests.damon.params import DamonAttrs
from damon_tests.damon.records import Recording
from damon_tests.experiment.observation import Observation
from damon_tests.judge.cost.budget import Budget
from damon_tests.judge.monitoring import metrics
from damon_tests.judge.monitoring.aggregation_windows import Window, windows, within
from damon_tests.judge.monitoring.report_vs_truth import Comparison, compare
from damon_tests.judge.monitoring.true_rates import spans_at
from damon_tests.ports import NSEC_PER_MSEC, NSEC_PER_SEC, NSEC_PER_USEC, UsageError

SETTLED_SHARE = 0.25
"""The share of a recording in which DAMON finds its regions: accuracy is judged after it."""

DETECTED_F1 = 0.8

SAME_F1 = 0.005
"""Smaller differences between medians of a few recordings mean nothing."""


@dataclass(frozen=True)
class Hot:
    """What counts as hot: memory touched in at least ``threshold`` of all intervals of ``interval_us``."""

    threshold: float = 0.5
    interval_us: int = 5_000

    def __str__(self) -> str:
        return f"touched in {self.threshold:.0%} of all intervals of {self.interval_us / 1000:g} ms"


@dataclass(frozen=True)
class Attempt:
    """How one recording did.

    ``precision``, ``recall``: of hot bytes, fractions. ``working_set_error``: relative, without sign.
    ``latency_ms``: median time from a phase's begin until the report shows it; infinite if it never does.
    ``samples_per_s``: region checks. ``aggregated_per_s``: regions reported.
    """

    precision: float
    recall: float
    working_set_error: float
    latency_ms: float
    samples_per_s: float
    aggregated_per_s: float


@dataclass(frozen=True)
class Point:
    """Monitoring attributes, and the medians of all attempts with them.

    ``instructions_per_s``: what kdamond executes, ``counted`` or estimated; None when nobody measured what a
    kernel's check needs.
    """

    attrs: DamonAttrs
    attempts: tuple[Attempt, ...]
    instructions_per_s: float | None
    counted: bool = False

    def median(self, name: str) -> float:
        """Return the median of a field of ``Attempt``."""
        return float(np.median([getattr(attempt, name) for attempt in self.attempts]))

    @property
    def f1(self) -> float:
        """Return the harmonic mean of the medians of precision and recall."""
        precision, recall = self.median("precision"), self.median("recall")
        return 2 * precision * recall / (precision + recall) if precision + recall else 0.0

    @property
    def cost(self) -> float:
        """Return instructions a second, or region checks a second where those are unknown."""
        samples = self.median("samples_per_s")
        return samples if self.instructions_per_s is None else self.instructions_per_s


def judge_attempt(observed: Observation, hot: Hot) -> Attempt:
    """Judge one recording. Raises UsageError when nothing was hot, or DAMON reported too little to judge."""
    recording = observed.recording
    every = windows(recording)
    settled_ns = recording.started_ns + int(_duration_ns(recording) * SETTLED_SHARE)
    if len(within(every, settled_ns)) < 2:
        seconds = _duration_ns(recording) / NSEC_PER_SEC
        raise UsageError(
            f"{seconds:g} s hold too few aggregations of {observed.ctx.attrs.aggr_us / 1e6:g} s;"
            " record longer (--seconds)"
        )
    judged = _compared(observed, within(every, settled_ns), hot)
    if not metrics.true_working_set(judged, hot.threshold).value > 0:
        raise UsageError(
            f"nothing of {observed.pattern.name} is {hot}: nothing is hot; lower --hot or raise --hot-ms"
        )
    seconds = _duration_ns(recording) / NSEC_PER_SEC
    reported = sum(len(snapshot) for snapshot in recording.of_target(0))
    return Attempt(
        metrics.precision(judged, hot.threshold).value,
        metrics.recall(judged, hot.threshold).value,
        abs(metrics.working_set_error(judged, hot.threshold).value),
        _latency_ms(observed, _compared(observed, every, hot), hot),
        reported * recording.samples_per_aggr / seconds,
        reported / seconds,
    )


def _duration_ns(recording: Recording) -> int:
    return max(1, recording.stopped_ns - recording.started_ns)


def _compared(observed: Observation, chosen: Sequence[Window], hot: Hot) -> Comparison:
    spans = spans_at(observed.truth, chosen, hot.interval_us * NSEC_PER_USEC)
    return compare(observed.recording, chosen, spans=spans)


def _latency_ms(observed: Observation, c: Comparison, hot: Hot) -> float:
    """Return the median over all phases that began while DAMON recorded, and over its own start."""
    recording = observed.recording
    begins = [p.start_ns for p in observed.phases if recording.started_ns < p.start_ns < recording.stopped_ns]
    changes = [recording.started_ns, *begins, recording.stopped_ns]
    latencies = []
    for change_ns, next_ns in pairwise(changes):
        ms = metrics.detection_latency(c, change_ns, hot.threshold, DETECTED_F1).value
        latencies.append(ms if ms * NSEC_PER_MSEC <= next_ns - change_ns else math.inf)
    return float(np.median(latencies))


def estimated_instructions(
    attempts: Sequence[Attempt], operations: str, budgets: Mapping[str, Budget], series: str
) -> float | None:
    """Return how many instructions a second kdamond executes for checks and aggregations, from their budgets;
    None when a series has none.

    Waking up and reporting are not in it: with 20 regions on 7.3, half of all that is counted.
    """
    check = budgets[f"check.{operations}"].of(series) if f"check.{operations}" in budgets else None
    aggregation = budgets["aggregation.region"].of(series) if "aggregation.region" in budgets else None
    if check is None or aggregation is None:
        return None
    samples = float(np.median([a.samples_per_s for a in attempts]))
    aggregated = float(np.median([a.aggregated_per_s for a in attempts]))
    return samples * check.limit + aggregated * aggregation.limit


def worth_it(points: Sequence[Point]) -> list[Point]:
    """Return the points that no other beats, the cheapest first: none is, for the same cost or less, as
    accurate (F1, to ``SAME_F1``) and as fast."""
    kept: list[Point] = []
    for point in sorted(points, key=lambda p: (p.cost, -p.f1)):
        latency = point.median("latency_ms")
        if not any(k.f1 >= point.f1 - SAME_F1 and k.median("latency_ms") <= latency for k in kept):
            kept.append(point)
    return kept
