# SPDX-License-Identifier: GPL-2.0
"""The duration of each sampling step of a recording, which replicas reproduce."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import pairwise

import numpy as np

from damon_tests.damon.records import Recording
from damon_tests.experiment.observation import Commit, Observation
from damon_tests.ports import NSEC_PER_USEC

Points = list[tuple[float, float]]
"""(time in ns, sampling steps done until then): a polygon, ascending in both."""


def pace(observed: Observation) -> Callable[[int, int], int]:
    """Return a function that estimates, from the recording and the target, how long each sampling sleep took.

    A sampling step takes longer than the sampling interval, and slows down with the machine: W steps fill
    each recorded aggregation. When the target lost its processor, the whole machine may have stalled, so the
    time by which an aggregation is longer than usual goes into such stalls first. Spread evenly, a stall
    would become several samples that see no access instead of one that sees the accesses after it.
    """
    made = observed.committed
    steps = np.array(_steps(observed) if made is None else _steps_through(observed), np.float64).reshape(
        -1, 2
    )
    known = {observed.recording.sample_us}
    if made is not None:
        known = {commit.kdamonds[0].ctx.attrs.sample_us for commit in made.commits}

    def sleep_ns(now_ns: int, sample_us: int) -> int:
        asked = max(1, sample_us) * NSEC_PER_USEC
        if len(steps) < 2 or not steps[0, 0] <= now_ns < steps[-1, 0] or sample_us not in known:
            return asked
        done = float(np.interp(now_ns, steps[:, 0], steps[:, 1]))
        # The last step of an aggregation must not end a rounding error before the recorded one.
        return math.ceil(np.interp(done + 1, steps[:, 1], steps[:, 0])) - now_ns

    return sleep_ns


def _steps(observed: Observation) -> Points:
    """Return the polygon over all recorded aggregations; empty when the usual step is unknown."""
    recording = observed.recording
    times = [recording.started_ns, *(snapshot.time_ns for snapshot in recording.of_target(0))]
    usual = _usual(times, recording.samples_per_aggr, recording.sample_us)
    if usual is None:
        return []
    points: Points = [(float(times[0]), 0.0)]
    for start, end in pairwise(times):
        points += _whole(observed, points[-1][1], start, end, recording.samples_per_aggr, usual)
    return points


def _steps_through(observed: Observation) -> Points:
    """Return the polygon over all aggregations of an attempt with several requests.

    A commit begins a new aggregation window, unless it changed no interval; the samples of the old window
    until then took the usual time.
    """
    made = observed.committed
    assert made is not None
    points: Points = [(float(made.whole.started_ns), 0.0)]
    for commit, until in zip(made.commits, [*(c.end_ns for c in made.commits[1:]), None], strict=True):
        points += _under(observed, made.whole, commit, until, points[-1])
    return points


def _under(
    observed: Observation, whole: Recording, commit: Commit, until_ns: int | None, last: tuple[float, float]
) -> Points:
    """Return the polygon under one request, after ``last``."""
    attrs = commit.kdamonds[0].ctx.attrs
    begin = max(int(last[0]), commit.end_ns)
    ends = [s.time_ns for s in whole.of_target(0) if begin < s.time_ns]
    times = [t for t in ends if until_ns is None or t <= until_ns]
    complete_times = (
        times if commit.end_ns else [begin, *times]
    )  # the first aggregation after a commit may be incomplete
    usual = _usual(complete_times, attrs.samples_per_aggr, attrs.sample_us)
    step = usual or float(max(1, attrs.sample_us) * NSEC_PER_USEC)
    points: Points = [(float(begin), last[1] + (begin - last[0]) / step)] if begin > last[0] else []
    done = points[-1][1] if points else last[1]
    for start, end in pairwise([begin, *times]):
        # The first aggregation may have begun before the commit: then fewer steps followed the commit.
        w = min(attrs.samples_per_aggr, round((end - start) / step)) or 1
        points += _whole(observed, done, start, end, w, step)
        done = points[-1][1]
    if until_ns is not None and until_ns > (times[-1] if times else begin):
        points.append((float(until_ns), done + (until_ns - (times[-1] if times else begin)) / step))
    return points


def _usual(times: Sequence[int], samples: int, sample_us: int) -> float | None:
    """Return how long a sampling step usually takes, ns; None without aggregations to derive it from."""
    lengths = np.diff(np.array(times, dtype=np.int64))
    if len(lengths) == 0 or lengths.min() <= 0:
        return None
    return max(float(np.percentile(lengths, 10)) / max(1, samples), float(sample_us * NSEC_PER_USEC))


def _whole(observed: Observation, done: float, start: int, end: int, samples: int, usual: float) -> Points:
    """Return the polygon of one aggregation of ``samples`` samples, after ``done`` steps."""
    stalls = _clipped(observed.disturbances, start, end)
    return [(t, done + n) for t, n in _within_aggregation(start, end, stalls, max(1, samples), usual)]


def _within_aggregation(
    start: int, end: int, stalls: Sequence[tuple[int, int]], w: int, usual: float
) -> Points:
    """Place the ``w`` steps of [start, end) in time: ``usual`` ns each outside of stalls, the rest in stalls.

    Spread them evenly if stalls would get more than their share: then the sampling thread did not stall.
    """
    stalled = sum(b - a for a, b in stalls)
    running = end - start - stalled
    even = [(float(end), float(w))]
    if stalled <= 0 or running <= 0:
        return even
    fast = min(w / running, 1 / usual)
    slow = (w - fast * running) / stalled
    if slow >= fast:
        return even
    # Never zero: the polygon has to ascend.
    slow = max(slow, 1e-3 * fast)
    fast = (w - slow * stalled) / running
    points, at, done = [], start, 0.0
    for a, b in stalls:
        done += (a - at) * fast
        points.append((float(a), done))
        done += (b - a) * slow
        points.append((float(b), done))
        at = b
    return [p for p in points if start < p[0] < end] + even


def _clipped(ranges: Sequence[tuple[int, int]], start: int, end: int) -> list[tuple[int, int]]:
    """Return the parts of sorted ``ranges`` within [start, end), merged where they overlap."""
    parts: list[tuple[int, int]] = []
    for a, b in ranges:
        low, high = max(a, start, parts[-1][1] if parts else start), min(b, end)
        if low < high:
            parts.append((low, high))
    return parts
