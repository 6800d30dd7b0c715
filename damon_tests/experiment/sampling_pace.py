# SPDX-License-Identifier: GPL-2.0
"""How long each sampling step of a recording really took: what replicas keep pace with."""

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


def pace(seen: Observation) -> Callable[[int, int], int]:
    """How long each sampling sleep really took, as far as the recording and the target tell.

    A sampling step takes longer than asked, and slows down with the machine: W steps fill each recorded
    aggregation. Where the target lost its processor too, the whole machine may have stood still:
    what an aggregation took longer than usual is placed there first. Spread evenly, such a
    stall would become several samples that see nothing instead of one that sees what came after it.
    """
    made = seen.committed
    steps = np.array(_steps(seen) if made is None else _steps_through(seen), np.float64).reshape(-1, 2)
    known = {seen.recording.sample_us}
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


def _steps(seen: Observation) -> Points:
    """Over all recorded aggregations."""
    recording = seen.recording
    times = [recording.started_ns, *(snapshot.time_ns for snapshot in recording.of_target(0))]
    usual = _usual(times, recording.samples_per_aggr, recording.sample_us)
    if usual is None:
        return []
    points: Points = [(float(times[0]), 0.0)]
    for start, end in pairwise(times):
        points += _whole(seen, points[-1][1], start, end, recording.samples_per_aggr, usual)
    return points


def _steps_through(seen: Observation) -> Points:
    """Over all aggregations under all requests of an attempt in which there were several.

    A commit begins a new window, unless it changed no interval: what was sampled of the old one
    until then took the usual time.
    """
    made = seen.committed
    assert made is not None
    points: Points = [(float(made.whole.started_ns), 0.0)]
    for commit, until in zip(made.commits, [*(c.end_ns for c in made.commits[1:]), None], strict=True):
        points += _under(seen, made.whole, commit, until, points[-1])
    return points


def _under(
    seen: Observation, whole: Recording, commit: Commit, until_ns: int | None, last: tuple[float, float]
) -> Points:
    """The polygon under one request, after ``last``."""
    attrs = commit.kdamonds[0].ctx.attrs
    begin = max(int(last[0]), commit.end_ns)
    ends = [s.time_ns for s in whole.of_target(0) if begin < s.time_ns]
    times = [t for t in ends if until_ns is None or t <= until_ns]
    whole_ones = times if commit.end_ns else [begin, *times]  # the first after a commit may be none
    usual = _usual(whole_ones, attrs.samples_per_aggr, attrs.sample_us)
    step = usual or float(max(1, attrs.sample_us) * NSEC_PER_USEC)
    points: Points = [(float(begin), last[1] + (begin - last[0]) / step)] if begin > last[0] else []
    done = points[-1][1] if points else last[1]
    for start, end in pairwise([begin, *times]):
        # The first one may have begun before the commit: then it took fewer steps since.
        w = min(attrs.samples_per_aggr, round((end - start) / step)) or 1
        points += _whole(seen, done, start, end, w, step)
        done = points[-1][1]
    if until_ns is not None and until_ns > (times[-1] if times else begin):
        points.append((float(until_ns), done + (until_ns - (times[-1] if times else begin)) / step))
    return points


def _usual(times: Sequence[int], samples: int, sample_us: int) -> float | None:
    """What a sampling step usually takes, ns; None where that cannot be told."""
    lengths = np.diff(np.array(times, dtype=np.int64))
    if len(lengths) == 0 or lengths.min() <= 0:
        return None
    return max(float(np.percentile(lengths, 10)) / max(1, samples), float(sample_us * NSEC_PER_USEC))


def _whole(seen: Observation, done: float, start: int, end: int, samples: int, usual: float) -> Points:
    """The polygon of one aggregation of so many samples, after ``done`` steps."""
    stalls = _clipped(seen.disturbances, start, end)
    return [(t, done + n) for t, n in _within_aggregation(start, end, stalls, max(1, samples), usual)]


def _within_aggregation(
    start: int, end: int, stalls: Sequence[tuple[int, int]], w: int, usual: float
) -> Points:
    """How the ``w`` steps of [start, end) lie in time: ``usual`` ns each outside of stalls, the rest in them.

    Where that leaves stalls more than their share (the sampling thread did not stall), evenly.
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
    # Never quite still: the polygon has to ascend.
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
    """The parts of sorted ``ranges`` within [start, end), merged where they overlap."""
    found: list[tuple[int, int]] = []
    for a, b in ranges:
        low, high = max(a, start, found[-1][1] if found else start), min(b, end)
        if low < high:
            found.append((low, high))
    return found
