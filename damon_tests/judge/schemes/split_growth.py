# SPDX-License-Identifier: GPL-2.0
"""Check what splits do to the number and the memory of regions: I5, I13, I14, I16, I17, I18.

The pass of a scheme at an aggregation shows the regions before the split, the next pass those after it.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from damon_tests.damon.params import DamonCtx
from damon_tests.damon.series import Series
from damon_tests.judge import rule_limits
from damon_tests.judge.schemes.watched_passes import WatchedPass
from damon_tests.judge.verdict import Check, Measurement
from damon_tests.ports.ranges import Range, joined

_WHOLE_TENTHS = 100
"""Minimum regions in a region of which each tenth, and each tenth of a part, is none of 0."""


def growth_follows(passes: Sequence[WatchedPass], ctx: DamonCtx, level: Series) -> list[Check]:
    """Check I13, I16 and I17 from both sides, right after each split of regions that are large enough.

    Undecided without such a split.
    """
    m, most = rule_limits.min_region_sz(ctx), ctx.attrs.max_nr_regions
    grown, wrong = [], []
    for before, after in pairwise(passes):
        if not before.aggregated or after.aggregated:
            continue
        n, now = len(before.aggregated), len(after.visits)
        if min(e.end - e.start for e in before.aggregated) < _WHOLE_TENTHS * m:
            continue
        grown.append(now / n)
        low, high = growth_range(n, most, level)
        if not low <= now <= min(high, max(most, n)):
            wrong.append(f"{n} regions became {now}, expected {low} to {high}")
    measured = Measurement("splits into another number of regions", float(len(wrong)), "count", tuple(grown))
    why = (
        f"a split doubles up to half of max_nr_regions {most}, above it fills up; {len(grown)} splits (§2.7)"
    )
    holds = None if not grown else not wrong
    return [
        Check("invariant", measured, "== 0", why, holds, "; ".join(wrong[:3]), invariant="I13, I16, I17"),
        memory_stays(passes),
    ]


def schemes_add_few(passes: Sequence[WatchedPass], ctx: DamonCtx) -> Check:
    """Check I14: within a pass schemes add at most two regions for each quota, and two for each bound of an
    address filter and target.

    The watcher's events print how many regions its target has at that moment. Undecided without a pass in
    which the number changed: then no scheme cut a region where it shows.
    """
    most, grown, wrong = rule_limits.split_allowance(ctx), [], []
    for watched in passes:
        first: dict[int, int] = {}
        for visit in watched.visits:
            began = first.setdefault(visit.region.target_idx, visit.nr_regions)
            grown.append(visit.nr_regions - began)
        added = max(grown[-len(watched.visits) :], default=0)
        if added > most:
            wrong.append(f"pass {watched.number}: {added} more regions")
    m = Measurement("passes in which schemes added more regions than they may", float(len(wrong)), "count")
    why = f"quotas and address filters cut at most {most} regions off in a pass"
    holds = not wrong if any(grown) else None
    return Check("invariant", m, "== 0", why, holds, "; ".join(wrong[:3]), invariant="I14")


def growth_range(n: int, most: int, level: Series) -> tuple[int, int]:
    """Return the fewest and most regions that one split makes of ``n`` large ones."""
    if n >= most or (n > most // 2 and not level.splits_near_max_nr_regions):
        return n, n
    if n > most // 2:
        step = most // (most - n)
        return n + n // step, n + -(-n // step)
    return 2 * n, rule_limits.growth_bound(n, most, level)


def memory_stays(passes: Sequence[WatchedPass]) -> Check:
    """Check I5 and I18: the regions of all passes cover the same ranges.

    A region that spanned a gap, or a part that got lost, would change them.
    """
    covered = [_covered(watched) for watched in passes]
    wrong = [
        f"pass {watched.number}: {b} after {a}"
        for (a, b), watched in zip(pairwise(covered), passes[1:], strict=True)
        if a != b
    ]
    m = Measurement("passes over other memory than before", float(len(wrong)), "count")
    why = "merging and splitting keep the memory, and no region spans a gap"
    holds = None if len(passes) < 2 else not wrong
    return Check("invariant", m, "== 0", why, holds, "; ".join(wrong[:1]), invariant="I5, I18")


def _covered(watched: WatchedPass) -> dict[int, list[Range]]:
    """Return the ranges of each target that the regions of a pass cover."""
    regions = [visit.region for visit in watched.visits]
    targets = {region.target_idx for region in regions}
    return {t: list(joined((r.start, r.end) for r in regions if r.target_idx == t)) for t in targets}
