# SPDX-License-Identifier: GPL-2.0
"""Check goals whose metric the kernel measures: each step of the tuner against the test's own measurements.

DAMON does not trace the value it read. The value lies between the measurements before and after, widened by
what the machine changes in between. The recurrence (``goals``) is monotone, so the next size lies between the
sizes of both ends.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from damon_tests.damon.params import DamosQuota
from damon_tests.judge.chart import explain
from damon_tests.judge.schemes.goals import BP, UNLIMITED, limited, next_bp, traced_sizes
from damon_tests.judge.schemes.quota_chart import tuner_chart
from damon_tests.judge.schemes.quota_passes import Pass
from damon_tests.judge.verdict import Check, Measurement
from damon_tests.ports.numbers import number
from damon_tests.ports.ranges import Range
from damon_tests.workload.memory_info import MemoryInfo

_ANYTHING: Range = (0, 1 << 40)


@dataclass(frozen=True)
class Measured:
    """Measurements of a metric: (time_ns, value), ascending.

    ``slack``: by how much the metric may leave the range of the measurements around it.
    """

    samples: tuple[tuple[int, int], ...]
    slack: int

    def during(self, pass_: Pass) -> Range:
        """Return the (lowest, highest) value during a pass, from the measurements around it."""
        before = [value for time_ns, value in self.samples if time_ns < pass_.begin_ns]
        after = [value for time_ns, value in self.samples if time_ns > pass_.end_ns]
        inside = [value for time_ns, value in self.samples if pass_.begin_ns <= time_ns <= pass_.end_ns]
        if not before or not after:
            return _ANYTHING
        values = [before[-1], *inside, after[0]]
        return max(min(values) - self.slack, 0), max(values) + self.slack


def measured(infos: Sequence[MemoryInfo], value: Callable[[MemoryInfo], int], slack: int) -> Measured:
    """Return the metric ``value`` of each reading of the machine's memory."""
    return Measured(tuple((info.time_ns, value(info)) for info in infos), slack)


def node_mem_bp(info: MemoryInfo, nid: int, *, used: bool) -> int:
    """Return the used or free share of a node's memory, bp."""
    total, free = info.node_total[nid], info.node_free[nid]
    return (total - free if used else free) * BP // total


def lru_bp(info: MemoryInfo, *, active: bool) -> int:
    """Return the active or inactive share of the LRU pages, bp."""
    return (info.active if active else info.inactive) * BP // max(info.active + info.inactive, 1)


def memcg_bp(info: MemoryInfo, path: str, *, used: bool) -> int:
    """Return the share of a memory control group's LRU pages in the only node, or its complement, bp."""
    (total,) = info.node_total.values()
    pages = info.memcg_lru.get(path, 0)
    return (pages if used else total - pages) * BP // total


def next_range(quota: DamosQuota, size: int, current: Range, target: int) -> Range:
    """Return the (lowest, highest) next effective size, for a goal's current value within ``current``.

    ``size``: the last effective size, bytes; the tuner also keeps a fraction of a byte, which is not traced.
    """
    low_score, high_score = (value * BP // target for value in current)
    low = next_bp(quota, size * BP, high_score)
    high = next_bp(quota, size * BP + BP - 1, low_score)
    return limited(quota, low), limited(quota, high)


def implied_total(passes: Sequence[Pass], quota: DamosQuota) -> int:
    """Return the least total increase that the steps imply, of a metric that counts since the last window.

    A size that grows to less than double implies some progress to the goal; one that shrinks, more than the
    goal.
    """
    (goal,) = quota.goals
    traced, total = traced_sizes(passes), 0
    for before, after in pairwise(traced):
        most = quota.bytes or UNLIMITED
        if before is None or after is None or before < 64 or after >= most:
            continue
        # after = before * (2 - score), with before up to a byte larger; at one byte the score is at least 2.
        score = 2 * BP if after == 1 else 2 * BP + -(after + 1) * BP // before
        total += max(score, 0) * goal.target_value // BP
    return total


def steps_between(
    name: str, passes: Sequence[Pass], quota: DamosQuota, metric: Measured, *, least: int = 5
) -> list[Check]:
    """Check that the measured input allows every traced step of the effective size.

    For one goal and a reset interval of 0; a pass without a traced change kept its size. ``least``: undecided
    with fewer steps that the measurements determine within a quarter.
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
    checks = [
        Check("closed form", m, "== 0", why, not wrong, "; ".join(wrong[:3])),
        Check(
            "closed form",
            enough,
            f">= {number(least)}",
            "fewer steps decide nothing",
            True if narrow >= least else None,
        ),
    ]
    return explain(checks, lambda: tuner_chart(passes, quota, traced, current=metric.during))
