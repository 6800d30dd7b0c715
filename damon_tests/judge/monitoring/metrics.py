# SPDX-License-Identifier: GPL-2.0
"""Compute accuracy metrics of a recording, each with its definition.

Notation: a *window* is the time that one snapshot describes; a *piece* p is memory on which report and
truth are constant within a window, of ``size_p`` bytes; ``seen_p`` = nr_accesses / W of the region
covering it (0 if none does); ``true_p`` = fraction of sampling intervals in which it was touched.
``hot(x, θ)`` means x >= θ, and x > 0 when θ = 0. Sums run over all pieces of one window (per-window values,
kept as ``samples`` in window order) or of all judged windows (pooled values). The caller selects the
windows (``judge.monitoring.aggregation_windows.settled``). Reported working sets and boundaries have DAMON's
resolution, whole regions; the truth has that of a page.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from damon_tests.damon.records import Recording
from damon_tests.judge.monitoring.aggregation_windows import windows
from damon_tests.judge.monitoring.report_vs_truth import Comparison
from damon_tests.judge.monitoring.window_sums import (
    Sums,
    edge_distances,
    hot,
    hot_bytes,
    rate_sums,
    touched_bytes,
)
from damon_tests.judge.verdict import Measurement
from damon_tests.ports import NSEC_PER_MSEC, NSEC_PER_USEC, page_size
from damon_tests.ports.arrays import F64, I64
from damon_tests.ports.ranges import Range

# --- hot bytes -------------------------------------------------------------------------------


def precision(c: Sums, threshold: float) -> Measurement:
    """Return which fraction of the bytes reported hot was hot.

    Σ size[seen hot and truly hot] / Σ size[seen hot]. Unit: fraction, pooled; 1 when nothing was reported
    hot.
    """
    size = hot_bytes(c, threshold)
    return _ratio("precision of hot bytes", size.both, size.seen)


def recall(c: Sums, threshold: float) -> Measurement:
    """Return which fraction of the hot bytes was reported hot.

    Σ size[seen hot and truly hot] / Σ size[truly hot]. Unit: fraction, pooled. Memory outside all regions
    counts as missed. 1 when nothing was hot.
    """
    size = hot_bytes(c, threshold)
    return _ratio("recall of hot bytes", size.both, size.true)


def false_hot_bytes(c: Comparison, idle: Sequence[Range], threshold: float = 0.0) -> Measurement:
    """Return the bytes of never-touched memory reported hot: per window Σ size[seen hot] within ``idle``.

    Unit: bytes, the largest of all windows. ``idle``: sorted byte ranges
    (``ports.ranges.without``).
    """
    if len(idle) == 0:
        return _series("false hot bytes in idle memory", np.zeros(len(c.windows)), "bytes", "max")
    overlap = np.zeros(len(c.start))
    for start, end in idle:
        overlap += np.maximum(0, np.minimum(c.start + c.size, end) - np.maximum(c.start, start))
    per_window = c.per_window(overlap * hot(c.seen, threshold))
    return _series("false hot bytes in idle memory", per_window, "bytes", "max")


# --- working set -----------------------------------------------------------------------------


def working_set(c: Sums, threshold: float = 0.0) -> Measurement:
    """Return the bytes in regions reported hot: per window Σ size[hot(seen, θ)].

    Unit: bytes, median over windows. θ = 0 gives the usual estimate (nr_accesses > 0).
    """
    return _series("working set size", hot_bytes(c, threshold).seen, "bytes", "median")


def true_working_set(c: Sums, threshold: float = 0.0) -> Measurement:
    """Return the bytes really touched: per window Σ size[hot(true, θ)]. Unit: bytes, median over windows."""
    return _series("true working set size", hot_bytes(c, threshold).true, "bytes", "median")


def working_set_error(c: Sums, threshold: float = 0.0, percentile: float = 50) -> Measurement:
    """Return the relative error of a percentile of the working set size.

    (P(working_set) - P(true_working_set)) / P(true_working_set). Unit: fraction, signed; the percentile is
    taken over windows. ``samples`` are the per-window relative errors. A true value of 0 counts as one page.
    """
    sizes = np.array(working_set(c, threshold).samples)
    true_sizes = np.array(true_working_set(c, threshold).samples)
    name = f"working set error at percentile {percentile:g}"
    if len(sizes) == 0:
        return Measurement(name, float("nan"), "fraction")
    value = _relative(np.percentile(sizes, percentile), np.percentile(true_sizes, percentile))
    return Measurement(name, float(value), "fraction", _floats(_relative(sizes, true_sizes)))


# --- access rate -----------------------------------------------------------------------------


def rate_bias(c: Sums) -> Measurement:
    """Return the signed error of the mean access rate.

    Σ size·duration·(seen - true) / Σ size·duration. Unit: fraction. Sampling is unbiased whatever the regions
    are, and merging rounds down: a correct DAMON is at or slightly below 0.
    """
    sums = rate_sums(c)
    return _weighted("access rate bias", sums.error, sums.size, _durations(c))


def rate_error_of_accessed(c: Sums) -> Measurement:
    """Return the absolute error of the access rate relative to the true accesses.

    Σ size·duration·|seen - true| / Σ size·duration·true. Unit: fraction; 0 is perfect, a DAMON
    that reports nothing scores 1. Cold memory counts only where it is reported accessed. 0 when both are 0.
    """
    sums, name = rate_sums(c), "access rate error of accessed memory"
    return _weighted(name, sums.absolute_error, sums.true, _durations(c))


# --- boundaries ------------------------------------------------------------------------------


def boundary_error(c: Sums, threshold: float) -> Measurement:
    """Return how far the reported hot set's edges are from the true ones.

    Per window: mean over the edges of the truly hot intervals of the distance to the nearest edge of an
    interval reported hot; the truly hot size when nothing was reported hot. Unit: bytes, median over the
    windows that have a truly hot interval (windows without are left out of ``samples``).
    """
    distances = edge_distances(c, threshold)
    known = distances[~np.isnan(distances)]
    if len(known) == 0:
        return Measurement("hot set boundary error", 0.0, "bytes")
    return _series("hot set boundary error", known, "bytes", "median")


# --- time ------------------------------------------------------------------------------------


def detection_latency(c: Sums, change_ns: int, threshold: float, share: float = 0.8) -> Measurement:
    """Return the time from a change of phase until the report shows it.

    From ``change_ns`` to the end of the first window that began at or after it and whose F1 of hot bytes
    at ``threshold`` is at least ``share``. Unit: ms; infinite when that never happens. ``samples``: the F1
    of every window since the change.
    """
    size = hot_bytes(c, threshold)
    after = np.array([w.t0_ns >= change_ns for w in c.windows], dtype=np.bool_)
    score = _divide(2 * size.both, size.seen + size.true)
    good = np.flatnonzero(after & (score >= share))
    ms = (c.windows[good[0]].t1_ns - change_ns) / NSEC_PER_MSEC if len(good) else float("inf")
    return Measurement("detection latency", float(ms), "ms", _floats(score[after]))


def aggregation_interval(recording: Recording, target_idx: int = 0) -> Measurement:
    """Return the time between aggregations. Unit: µs, median.

    ``samples``: one for each window but the first, which begins with the recording instead of an aggregation.
    """
    gaps = [w.duration_ns / NSEC_PER_USEC for w in windows(recording, target_idx) if w.index > 0]
    return _series("aggregation interval", np.array(gaps), "µs", "median")


def aggregation_jitter(recording: Recording, target_idx: int = 0) -> Measurement:
    """Return by how much aggregations exceed the requested interval: interval / (W · sample_us) - 1.

    Unit: fraction, 95th percentile. Never negative for a correct DAMON. It is also the jitter of the sampling
    interval, averaged over the W samples of each aggregation.
    """
    asked_us = max(1, recording.samples_per_aggr * (recording.sample_us or 1))
    gaps = np.array(aggregation_interval(recording, target_idx).samples)
    jitter = gaps / asked_us - 1
    value = float(np.percentile(jitter, 95)) if len(jitter) else float("nan")
    return Measurement("aggregation interval jitter", value, "fraction", _floats(jitter))


# --- regions ---------------------------------------------------------------------------------


def region_count(c: Sums) -> Measurement:
    """Return the number of regions at each aggregation. Unit: regions, median."""
    return _series("region count", c.nr_regions.astype(np.float64), "regions", "median")


def coverage(c: Sums) -> Measurement:
    """Return which fraction of the touched bytes is inside any region.

    Σ size[true > 0 and covered] / Σ size[true > 0]. Unit: fraction, pooled; 1 when nothing was touched.
    """
    touched = touched_bytes(c)
    return _ratio("coverage of touched memory", touched.covered, touched.all)


# --- helpers ---------------------------------------------------------------------------------


def _durations(c: Sums) -> I64:
    """Return the length of each window in ns, int64 (windows,)."""
    return np.array([w.duration_ns for w in c.windows], dtype=np.int64)


def _weighted(name: str, error: F64, weight: F64, duration: I64) -> Measurement:
    """Return the pooled Σ error·duration / Σ weight·duration, with the per-window ratios as samples."""
    total = float(np.sum(weight * duration))
    value = float(np.sum(error * duration)) / total if total else 0.0
    samples = np.divide(error, weight, out=np.zeros_like(error), where=weight > 0)
    return Measurement(name, value, "fraction", _floats(samples))


def _ratio(name: str, part: F64, whole: F64) -> Measurement:
    """Return the pooled Σ part / Σ whole with per-window ratios; 1 where the whole is 0."""
    value = _divide(np.sum(part, keepdims=True), np.sum(whole, keepdims=True))[0]
    return Measurement(name, float(value), "fraction", _floats(_divide(part, whole)))


def _divide(part: F64, whole: F64) -> F64:
    return np.divide(part, whole, out=np.ones_like(part), where=whole > 0)


def _relative(seen: F64 | np.floating, true: F64 | np.floating) -> F64:
    return np.asarray((seen - true) / np.maximum(true, float(page_size())))


def _series(name: str, values: F64, unit: str, how: str) -> Measurement:
    """Summarise per-window values as their minimum, median or maximum; NaN without any."""
    percentile = {"min": 0, "median": 50, "max": 100}[how]
    value = float(np.percentile(values, percentile)) if len(values) else float("nan")
    return Measurement(name, value, unit, _floats(values))


def _floats(values: F64) -> tuple[float, ...]:
    return tuple(np.asarray(values, dtype=np.float64).ravel().tolist())
