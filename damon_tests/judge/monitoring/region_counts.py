# SPDX-License-Identifier: GPL-2.0
"""Check the number and size of regions: I8, I10, I11, I12, their growth I13, I16, I17, and splits I15."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from damon_tests.damon.records import Snapshot
from damon_tests.judge import rule_limits
from damon_tests.judge.monitoring.ages import covered, follow, resized
from damon_tests.judge.monitoring.report import Report, largest, none_wrong, region, where
from damon_tests.judge.verdict import Check, Measurement
from damon_tests.ports.numbers import number


def region_counts(s: Report) -> list[Check]:
    """Check the number and size of regions.

    I8, I9: nr_regions; I10: the largest region; I11, I12: fewest and most regions; I13, I16, I17: growth;
    I15: where splits cut.
    """
    if s.recording.source == "tried_regions":
        return []
    checks = [] if s.recording.lost_events else _claimed(s)
    groups = s.groups()
    if not groups or not rule_limits.is_power_of_two(s.m):
        return checks
    if s.series.enforces_min_nr_regions:
        checks += [*_largest_region(s, groups), _fewest(s, groups)]
    checks.append(_most(s, groups))
    if not rule_limits.schemes_split(s.ctx) and not s.recording.lost_events:
        checks += _growth(s, groups) + _cuts(s)
    return checks


def _claimed(s: Report) -> list[Check]:
    """Check I8: nr_regions is the number of traced regions.

    The recording may cut off its first and last snapshot.
    """
    snaps = s.recording.snapshots
    edge = {id(x) for x in (*snaps[: len(s.targets())], *snaps[-len(s.targets()) :]) if not x.complete}
    judged = [x for x in snaps if id(x) not in edge]
    difference = [float(abs(x.nr_regions - len(x))) for x in judged]
    bad = next((x for x in judged if x.nr_regions != len(x)), None)
    detail = f"{where(s.recording, bad)}: nr_regions={bad.nr_regions}, {len(bad)} events" if bad else ""
    why = "nr_regions is the number of traced regions"
    return largest("I8", "events missing or extra", difference, "regions", 0, why=why, detail=detail)


def _limit(s: Report, group: Sequence[Snapshot]) -> int:
    total = sum(int(snap.sizes.sum()) for snap in group)
    return rule_limits.size_limit(
        total, s.ctx.attrs.min_nr_regions, s.m, rounded=s.series.enforces_min_nr_regions
    )


def _largest_region(s: Report, groups: Sequence[Sequence[Snapshot]]) -> list[Check]:
    excess, detail = [], ""
    for group in groups:
        limit = _limit(s, group)
        over = max(0, max(int(snap.sizes.max(initial=0)) for snap in group) - limit)
        excess.append(float(over))
        if over and not detail:
            detail = f"{where(s.recording, group[0])}: a region of {limit + over} units, limit {limit}"
    why = f"min_nr_regions {s.ctx.attrs.min_nr_regions} cuts regions larger than the size limit L"
    return largest("I10", "excess of the largest region", excess, "address units", 0, why=why, detail=detail)


def _fewest(s: Report, groups: Sequence[Sequence[Snapshot]]) -> Check:
    missing, counts, detail = [], [], ""
    for group in groups:
        n = sum(len(snap) for snap in group)
        least = rule_limits.achievable_min(covered(group), _limit(s, group))
        counts.append(float(n))
        missing.append(max(0, least - n))
        if n < least and not detail:
            detail = f"{where(s.recording, group[0])}: {n} regions, at least {least} expected"
    m = Measurement("fewest regions", min(counts), "regions", tuple(counts))
    limit = f">= sum of ceil(range / L) for min_nr_regions {s.ctx.attrs.min_nr_regions}"
    return Check(
        "invariant",
        m,
        limit,
        "min_nr_regions limits the size of regions",
        not any(missing),
        detail,
        invariant="I11",
    )


def _most(s: Report, groups: Sequence[Sequence[Snapshot]]) -> Check:
    splits = rule_limits.schemes_split(s.ctx)
    counts, bounds, detail, previous = [], [], "", None
    for group in groups:
        n, ranges, limit = sum(len(snap) for snap in group), covered(group), _limit(s, group)
        loose = splits or (previous is not None and previous != ranges)
        reachable = (
            rule_limits.packing_max(ranges, limit) if loose else rule_limits.achievable_min(ranges, limit)
        )
        bound = max(s.ctx.attrs.max_nr_regions, reachable) + (
            rule_limits.split_allowance(s.ctx) if splits else 0
        )
        counts.append(float(n))
        bounds.append(bound)
        if n > bound and not detail:
            detail = f"{where(s.recording, group[0])}: {n} regions, at most {bound} allowed"
        previous = ranges
    m = Measurement("most regions", max(counts), "regions", tuple(counts))
    return Check(
        "invariant",
        m,
        f"<= {number(max(bounds))}",
        "DAMON merges and splits to at most max_nr_regions",
        not detail,
        detail,
        invariant="I12",
    )


def _growth(s: Report, groups: Sequence[Sequence[Snapshot]]) -> list[Check]:
    excess, detail = [], ""
    for before, after in pairwise(groups):
        if covered(before) != covered(after):
            continue
        n0, n1 = (sum(len(snap) for snap in g) for g in (before, after))
        bound = rule_limits.growth_bound(n0, s.ctx.attrs.max_nr_regions, s.series)
        excess.append(float(max(0, n1 - bound)))
        if n1 > bound and not detail:
            detail = f"{where(s.recording, after[0])}: {n0} regions became {n1}, at most {bound} by one split"
    why = "one split step makes two or three of a region, and never passes max_nr_regions"
    return largest("I16", "excess growth", excess, "regions", 0, why=why, detail=detail)


def _cuts(s: Report) -> list[Check]:
    """Check I15: a new bound was made by one split step, inside of one region of the snapshot before.

    Merging makes no bounds. With unchanged coverage, a piece that min_nr_regions cut (7.1) was never merged.
    The size limit depends on the memory of all targets, so an update of another target may cut here, too.
    """
    wrong, judged, detail = [], 0, ""
    changed = resized(s)
    for before, after, _ in follow(s):
        if id(after) in changed:
            continue
        new = after.start[~np.isin(after.start, before.start)]
        parent = np.searchsorted(before.start, new, side="right") - 1
        offsets = new - before.start[parent]
        allowed = (rule_limits.split_offsets(before.sizes[parent], s.m) == offsets[:, None]).any(axis=1)
        judged += len(new)
        wrong.append(float((~allowed).sum()))
        if not allowed.all() and not detail:
            i = int(np.flatnonzero(~allowed)[0])
            detail = f"{where(s.recording, after)}: cut at {new[i]}: {region(before, int(parent[i]))} before"
    name, why = (
        "cuts at other places than a split step makes",
        f"a split cuts at a random tenth of a region, rounded down to {s.m}",
    )
    return none_wrong("invariant", "I15", name, "cuts", wrong, judged, why=why, detail=detail)
