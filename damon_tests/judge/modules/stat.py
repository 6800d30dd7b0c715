# SPDX-License-Identifier: GPL-2.0
"""Check DAMON_STAT's results against the traced aggregations and the truth (specification 6.3).

The module computes its results from the counters in the middle of an aggregation. Ages are those of the
previous aggregation, so the percentiles follow from its trace, except for regions accessed since. The
bandwidth covers the part of the aggregation until then.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np

from damon_tests.damon.records import Snapshot
from damon_tests.judge.verdict import Check, Measurement
from damon_tests.ports import NSEC_PER_MSEC, NSEC_PER_SEC, NSEC_PER_USEC
from damon_tests.ports.arrays import F64
from damon_tests.ports.ranges import Range

PERCENTILES = 101
SAMPLES = 20
"""Samples in an aggregation of DAMON_STAT, whatever its tuned intervals."""
REFRESH_NS = 5 * NSEC_PER_SEC
TICK_NS = 10 * NSEC_PER_MSEC


@dataclass(frozen=True)
class Refresh:
    """Results that changed within ``after_ns`` to ``before_ns``; ``aggr_us``: their aggregation interval.

    ``signed``: idle times are as since 6.18, negative while accessed; before, they are 0 while accessed.
    """

    after_ns: int
    before_ns: int
    percentiles: tuple[int, ...]
    bandwidth: int
    aggr_us: int
    signed: bool = True


@dataclass(frozen=True)
class Partial:
    """The part of an aggregation before results were computed: ``low`` to ``high`` of its samples.

    ``regions``: those of the previous aggregation; ``t0_ns`` to ``t1_ns``: from its end to the results.
    """

    regions: Snapshot
    low: int
    high: int
    t0_ns: int
    t1_ns: int


def candidates(refresh: Refresh, snapshots: Sequence[Snapshot]) -> list[Snapshot]:
    """Return the aggregations whose ages the results may show: the last before the change, or later."""
    earlier = [s for s in snapshots if s.time_ns < refresh.after_ns]
    meanwhile = [s for s in snapshots if refresh.after_ns <= s.time_ns]
    # The aggregation of the change is traced after the results were computed, with the same ages.
    return earlier[-1:] + meanwhile[: 1 + sum(s.time_ns <= refresh.before_ns for s in meanwhile)]


def narrowed(refresh: Refresh, last_ns: Range) -> Refresh:
    """Narrow the time of the results by specification 6.3.

    The module computes results at the first sample more than five seconds after the previous results (or the
    start), which was within ``last_ns``. Return ``refresh`` unchanged if the observed times contradict that,
    or are so late that other results may have come between.
    """
    after_ns = max(refresh.after_ns, last_ns[0] + REFRESH_NS)
    # Two sampling sleeps with their work, and the tick of the kernel's clock that counts the seconds.
    late_ns = 2 * refresh.aggr_us * NSEC_PER_USEC // SAMPLES + TICK_NS
    before_ns = min(refresh.before_ns, last_ns[1] + REFRESH_NS + late_ns)
    if after_ns >= before_ns or refresh.before_ns >= last_ns[0] + 2 * REFRESH_NS:
        return refresh
    return replace(refresh, after_ns=after_ns, before_ns=before_ns)


def percentiles(refresh: Refresh, snapshots: Sequence[Snapshot]) -> list[Check]:
    """Check that the percentiles ascend, and are those of the regions, except regions accessed since."""
    values = refresh.percentiles
    m = Measurement("percentiles", float(len(values)), "count")
    checks = [
        Check(
            "invariant",
            m,
            f"== {PERCENTILES}",
            "there is one for each of 0 to 100",
            len(values) == PERCENTILES,
        )
    ]
    falling = [p for p, (low, high) in enumerate(pairwise(values)) if low > high]
    m = Measurement("percentiles that descend", float(len(falling)), "count")
    detail = f"after {falling[0]}: {values}" if falling else ""
    checks.append(Check("invariant", m, "== 0", "percentiles are sorted", not falling, detail))
    possible = candidates(refresh, snapshots)
    contradictions = [wrong_percentiles(values, refresh, s) for s in possible]
    best = min(contradictions, key=len, default=["no aggregation was traced"])
    m = Measurement("percentiles that no region explains", float(len(best)), "count")
    why = "each percentile is the idle time of the region at that share of memory"
    checks.append(Check("closed form", m, "== 0", why, not best, "; ".join(best[:3])))
    return checks


def wrong_percentiles(values: Sequence[int], refresh: Refresh, regions: Snapshot) -> list[str]:
    """Return what contradicts that ``values`` were computed from these regions.

    Which regions were accessed since is not known: as much memory as has the values of accessed regions may
    be missing from its place among the others.
    """
    sizes = regions.sizes.astype(np.int64)
    idle = (regions.age.astype(np.int64) + 1) * refresh.aggr_us // 1000
    total = int(sizes.sum())
    accessed = [v < 0 if refresh.signed else v == 0 for v in values]
    possible = set(idle.tolist()) | (set() if refresh.signed else {0})
    # Without a sign, 0 is an accessed region; a negative value is nobody's.
    strange = sorted({abs(v) if refresh.signed else v for v in values} - possible)
    wrong = [f"{v} ms is no region's idle time" for v in strange]
    in_use = sum(accessed) * total / 100
    for percentile, value in enumerate(values):
        if accessed[percentile] or percentile == 0:
            continue
        up_to = int(sizes[idle <= value].sum())
        below = int(sizes[idle < value].sum())
        if (up_to + in_use) * 100 < percentile * total:
            wrong.append(
                f"percentile {percentile} is {value} ms, {100 * up_to / total:.1f} % are idle up to that"
            )
        elif below * 100 >= percentile * total + 100 * in_use:
            wrong.append(
                f"percentile {percentile} is {value} ms, {100 * below / total:.1f} % are idle for less"
            )
    return wrong


def partial(refresh: Refresh, snapshots: Sequence[Snapshot], window: int) -> Partial | None:
    """Return the part of an aggregation of ``window`` samples before the results were computed.

    None if the aggregation is not certain, or was not traced to its end.
    """
    possible = [
        (a, b)
        for a, b in pairwise(snapshots)
        if a.time_ns < refresh.before_ns and b.time_ns > refresh.after_ns
    ]
    if len(possible) != 1:
        return None
    first, last = possible[0]
    step = (last.time_ns - first.time_ns) / window
    low = max(0, math.floor((refresh.after_ns - first.time_ns) / step) - 1)
    high = min(window, math.ceil((refresh.before_ns - first.time_ns) / step) + 1)
    return Partial(first, low, high, first.time_ns, refresh.before_ns)


def share_of(regions: Snapshot, ranges: Sequence[Range]) -> F64:
    """Return the fraction of each region inside these disjoint byte ranges, float64 (regions,)."""
    start, end = regions.start.astype(np.int64), regions.end.astype(np.int64)
    inside: F64 = np.zeros(len(start))
    for low, high in ranges:
        inside += np.maximum(np.minimum(end, high) - np.maximum(start, low), 0)
    share: F64 = inside / np.maximum(end - start, 1)
    return share


@dataclass(frozen=True)
class Estimate:
    """Bytes times samples that a part of an aggregation must show.

    ``low`` to ``high`` on average; ``variance``: of the random sampling addresses.
    """

    low: float
    high: float
    variance: float


def estimate(part: Partial, ranges: Sequence[Range], rate: float) -> Estimate:
    """Return what a part of an aggregation must show.

    ``ranges``: the bytes in use, touched in a fraction ``rate`` of the sampling intervals.
    """
    sizes = part.regions.sizes.astype(np.float64)
    share = share_of(part.regions, ranges) * rate
    mean = float((sizes * share).sum())
    # A sample of a region is one byte drawn evenly; splitting it since only made this smaller.
    variance = part.high * float((sizes**2 * share * (1 - share)).sum())
    return Estimate(part.low * mean, part.high * mean, variance)


def bandwidth(
    refreshes: Sequence[Refresh], estimates: Sequence[Estimate], *, least: float, others: float
) -> list[Check]:
    """Check that the summed bandwidth lies between ``least`` of what was touched, and what was touched.

    ``least``: a fraction. ``others``: bytes times samples that others than the target may have touched. Both
    bounds are widened by six standard deviations of sampling: 1 in 100 million by a normal law.
    """
    shown = [r.bandwidth * r.aggr_us / 1e6 for r in refreshes]
    noise = 6 * math.sqrt(sum(e.variance for e in estimates))
    low = least * sum(e.low for e in estimates) - noise
    high = sum(e.high for e in estimates) + noise + others
    m = Measurement("bytes times samples in the bandwidth", sum(shown), "byte samples", tuple(shown))
    why = f"the bandwidth is what the target touched, in {len(shown)} parts of aggregations"
    detail = f"noise {noise:.3g}, others {others:.3g}"
    inside = low <= m.value <= high
    # On a machine so busy that the part of the aggregation is not known, there is no lower bound.
    holds = None if inside and low <= 0 else inside
    return [Check("closed form", m, f"{low:.4g} to {high:.4g}", why, holds, detail)]
