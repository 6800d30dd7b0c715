# SPDX-License-Identifier: GPL-2.0
"""Recompute the automatic tuning of intervals from the reported accesses (specification 2.8, I40)."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from damon_tests.damon.params import DamonAttrs
from damon_tests.damon.records import Recording, Snapshot
from damon_tests.damon.trace import TuneEvent, TypedEvent
from damon_tests.judge.monitoring.aggregation_windows import aggregations
from damon_tests.judge.monitoring.report import nothing_judged
from damon_tests.judge.verdict import Check, Measurement

_BP = 10_000
_TOGETHER_NS = 500_000
"""Largest time from a traced step to the regions of its aggregation, which the kdamond traces just after it
without a sleep. It is a quarter of the shortest sampling interval used; a pair further apart is not
judged."""


def _steps(events: Sequence[TypedEvent]) -> list[TuneEvent]:
    return [e for e in events if isinstance(e, TuneEvent)]


def bounded(events: Sequence[TypedEvent], attrs: DamonAttrs) -> list[Check]:
    """Check I40: sample_us keeps its bounds, and a step at most doubles or halves it."""
    goal, steps = attrs.intervals_goal, _steps(events)
    values = [float(e.sample_us) for e in steps]
    name, why = "sample_us out of bounds", "sample_us keeps the goal's bounds"
    if not values:
        return [nothing_judged("invariant", "I40", name, "count", why)]
    outside = [v for v in values if not goal.min_sample_us <= v <= goal.max_sample_us]
    m = Measurement(name, len(outside), "count", tuple(values))
    limit = f"{goal.min_sample_us} to {goal.max_sample_us} µs"
    detail = str(outside[:3] or "")
    checks = [Check("invariant", m, limit, why, not outside, detail, invariant="I40")]
    wild = [(a, b) for a, b in pairwise([float(attrs.sample_us), *values]) if not a // 2 <= b <= 2 * a]
    m = Measurement("steps by more than 2", len(wild), "count")
    return [
        *checks,
        Check(
            "invariant",
            m,
            "== 0",
            "a step at most doubles or halves",
            not wild,
            str(wild[:3]),
            invariant="I40",
        ),
    ]


def steps_follow(events: Sequence[TypedEvent], recording: Recording, attrs: DamonAttrs) -> list[Check]:
    """Check that each step follows from the counts of its own aggregation. Exact.

    The score is Σ size·nr_accesses over the wanted share of Σ size·W, of the counts that damon_aggregated
    then reports (rescaling to the same W, a divisor of 10000, changes none).
    """
    goal, wrong, judged, sample_us = attrs.intervals_goal, [], 0, attrs.sample_us
    groups = aggregations(recording)
    starts = np.array([g[0].time_ns for g in groups], dtype=np.int64)
    for event in _steps(events):
        group = _reported_with(event.time_ns, groups, starts)
        if group is not None:
            judged += 1
            expected = _next(sample_us, group, attrs)
            if event.sample_us != expected:
                wrong.append(f"{sample_us} µs became {event.sample_us}, expected {expected}")
        sample_us = event.sample_us
    name, why = "wrong steps of tuning", "steps follow from reported accesses"
    if not judged:
        return [nothing_judged("closed form", "", name, "count", why)]
    m = Measurement(name, len(wrong), "count")
    why = f"steps follow from reported accesses, with access_bp {goal.access_bp} (§2.8); {judged} recomputed"
    return [Check("closed form", m, "== 0", why, not wrong, "; ".join(wrong[:3]))]


def _reported_with(
    time_ns: int, groups: Sequence[tuple[Snapshot, ...]], times: np.ndarray[tuple[int], np.dtype[np.int64]]
) -> tuple[Snapshot, ...] | None:
    # Snapshots have the time of their last event; a step comes just before the first.
    i = int(np.searchsorted(times, time_ns))
    if i == len(groups) or times[i] - time_ns > _TOGETHER_NS or not all(s.complete for s in groups[i]):
        return None
    return groups[i]


def _next(sample_us: int, group: Sequence[Snapshot], attrs: DamonAttrs) -> int:
    goal = attrs.intervals_goal
    total = sum(int(s.sizes.sum()) for s in group)
    events = sum(int((s.sizes.astype(object) * s.nr_accesses.astype(object)).sum()) for s in group)
    wanted = max(total * attrs.samples_per_aggr * goal.access_bp // _BP, 1)
    score = events * _BP // wanted
    if score == _BP:
        return sample_us
    adaptation = 2 * _BP - score if score < _BP else _BP // 2 + max(2 * _BP - score, 0) // 2
    return max(goal.min_sample_us, min(goal.max_sample_us, sample_us * adaptation // _BP))
