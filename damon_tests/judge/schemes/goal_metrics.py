# SPDX-License-Identifier: GPL-2.0
"""Goals that the kernel measures by itself: each step of the tuner from a value that was measured beside it.

DAMON does not trace what it read. It lies between what was measured before and after, give or take what the
machine itself does in between; and since the recurrence (``goals``) is monotone, the next size lies between
those of the two ends.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from damon_tests.damon.params import DamosQuota
from damon_tests.judge.schemes.goals import BP, UNLIMITED, limited, next_bp, traced_sizes
from damon_tests.judge.schemes.quota_passes import Pass
from damon_tests.judge.verdict import Check, Measurement
from damon_tests.ports.ranges import Range
from damon_tests.workload.memory_info import MemoryInfo

_ANYTHING: Range = (0, 1 << 40)


@dataclass(frozen=True)
class Measured:
    """A metric as measured now and then: (time_ns, value), ascending. ``slack``: by how much it may differ
    from all measurements meanwhile."""

    samples: tuple[tuple[int, int], ...]
    slack: int

    def during(self, one: Pass) -> Range:
        """Return where the metric lay during a pass: between the measurements around it."""
        before = [value for time_ns, value in self.samples if time_ns < one.begin_ns]
        after = [value for time_ns, value in self.samples if time_ns > one.end_ns]
        inside = [value for time_ns, value in self.samples if one.begin_ns <= time_ns <= one.end_ns]
        if not before or not after:
            return _ANYTHING
        values = [before[-1], *inside, after[0]]
        return max(min(values) - self.slack, 0), max(values) + self.slack


def measured(infos: Sequence[MemoryInfo], value: Callable[[MemoryInfo], int], slack: int) -> Measured:
    return Measured(tuple((info.time_ns, value(info)) for info in infos), slack)


def node_mem_bp(info: MemoryInfo, nid: int, *, used: bool) -> int:
    """Return the used or free share of a node, bp."""
    total, free = info.node_total[nid], info.node_free[nid]
    return (total - free if used else free) * BP // total


def lru_bp(info: MemoryInfo, *, active: bool) -> int:
    """Return the active or inactive share of what is on the LRU lists, bp."""
    return (info.active if active else info.inactive) * BP // max(info.active + info.inactive, 1)


def memcg_bp(info: MemoryInfo, path: str, *, used: bool) -> int:
    """Return a memory control group's LRU pages over the only node, or the rest of it, bp."""
    (total,) = info.node_total.values()
    pages = info.memcg_lru.get(path, 0)
    return (pages if used else total - pages) * BP // total


def next_range(quota: DamosQuota, size: int, current: Range, target: int) -> Range:
    """Return where the next effective size lies if the goal's current value does in ``current``.

    ``size`` is the last one, of which the tuner keeps a fraction that is not shown.
    """
    low_score, high_score = (value * BP // target for value in current)
    low = next_bp(quota, size * BP, high_score)
    high = next_bp(quota, size * BP + BP - 1, low_score)
    return limited(quota, low), limited(quota, high)


def implied_total(passes: Sequence[Pass], quota: DamosQuota) -> int:
    """Return the least total increase that the steps imply, of a metric that counts since the window before.

    Growing by less than double means that some of the goal was achieved, shrinking that more than it was.
    """
    (goal,) = quota.goals
    traced, total = traced_sizes(passes), 0
    for before, after in pairwise(traced):
        most = quota.bytes or UNLIMITED
        if before is None or after is None or before < 64 or after >= most:
            continue
        # after = before * (2 - score), of a before that is up to a byte larger; after one byte: 2 and more.
        score = 2 * BP if after == 1 else 2 * BP + -(after + 1) * BP // before
        total += max(score, 0) * goal.target_value // BP
    return total


def steps_between(
    name: str, passes: Sequence[Pass], quota: DamosQuota, metric: Measured, *, least: int = 5
) -> list[Check]:
    """Check that every traced change is one that the measured input allows, from the size before it.

    For one goal and a reset interval of 0: a pass without a traced change kept its size. ``least``:
    fewer passes with a measurement on both sides show too little. A size that the input would
    have let be anything is not counted.
    """
    (goal,) = quota.goals
    proportional = quota.goal_tuner != "temporal"
    allowed: range | set[int]
    traced, wrong, judged, narrow = traced_sizes(passes), [], 0, 0
    for index in range(1, len(passes)):
        before, after, current = traced[index - 1], traced[index], metric.during(passes[index])
        # At the requested size the consist tuner may be far above it, and only stays there.
        saturated = proportional and quota.bytes and before is not None and before >= quota.bytes
        if before is None or after is None or saturated or current == _ANYTHING:
            continue
        judged += 1
        low, high = next_range(quota, before, current, goal.target_value)
        if not proportional:  # all or nothing
            allowed = {low, high}
            narrow += low == high
        else:
            allowed = range(low, high + 1)
            narrow += before >= 64 and high - low <= before // 4
        if after not in allowed:
            wrong.append(f"pass {index}: {before} became {after}, expected {low} to {high} for {current}")
    m = Measurement(f"{name}: steps that the measured input does not allow", float(len(wrong)), "count")
    why = f"{goal.target_metric} was measured, and the size is monotone in it (§4.4); {judged} steps"
    enough = Measurement(f"{name}: steps known within a quarter", float(narrow), "count")
    return [
        Check("closed form", m, "== 0", why, not wrong, "; ".join(wrong[:3])),
        Check(
            "closed form", enough, f">= {least}", "fewer show too little", True if narrow >= least else None
        ),
    ]
