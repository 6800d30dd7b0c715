# SPDX-License-Identifier: GPL-2.0
"""Check ages from one aggregation to the next: I29, I30, and I32, I33 where the counters prove them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from damon_tests.damon.records import Snapshot
from damon_tests.judge import rule_limits
from damon_tests.judge.monitoring.aggregation_windows import windows
from damon_tests.judge.monitoring.report import Report, largest, none_wrong, region, where
from damon_tests.judge.verdict import Check
from damon_tests.ports.ranges import Range

Ints = npt.NDArray[np.int64]
Parents = tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]


def ages(s: Report) -> list[Check]:
    """Check ages.

    I29: an age grows by at most one; I30: none exceeds the time of monitoring; I32, I33: after W hits.
    """
    if s.tuned:
        return []
    checks = _age_growth(s)
    if s.from_start:
        checks += _age_total(s)
    if not rule_limits.schemes_act(s.ctx) and not rule_limits.schemes_split(s.ctx):
        checks += _saturated_ages(s)
    return checks


def follow(s: Report) -> Iterator[tuple[Snapshot, Snapshot, Parents]]:
    """Yield (previous, snapshot, (first, last)) of consecutive snapshots of a target.

    Regions [first[i], last[i]) of previous overlap region i of snapshot. Pairs whose coverage differs are
    left out: an update moves the edges of regions that keep their counters, so that addresses do not show
    which region became which (specification 3.3). Left out, too, where the size limit depends on the memory
    of all targets (since 7.1), are pairs during which that of another target changed: regions are cut after
    they were merged, so that a part has ages of regions beside it.
    """
    cut = resized(s) if s.series.enforces_min_nr_regions else set()
    for target_idx in s.targets():
        chosen = windows(s.recording, target_idx)
        for a, b in pairwise(chosen):
            before, after = a.snapshot, b.snapshot
            if id(after) in cut:
                continue
            if b.index == a.index + 1 and rule_limits.covered(before) == rule_limits.covered(after):
                first = np.searchsorted(before.end, after.start, side="right")
                last = np.searchsorted(before.start, after.end, side="left")
                yield before, after, (first, last)


def resized(s: Report) -> set[int]:
    """Return the ids of the snapshots before which the coverage of any target changed."""
    changed = (after for before, after in pairwise(s.groups()) if covered(before) != covered(after))
    return {id(snapshot) for group in changed for snapshot in group}


def covered(group: Sequence[Snapshot]) -> list[Range]:
    """Return the ranges that the regions of all targets cover."""
    return [r for snap in group for r in rule_limits.covered(snap)]


def over_parents(reduce: np.ufunc, values: npt.NDArray[np.integer], parents: Parents, empty: int) -> Ints:
    """Return ``reduce`` (np.maximum, np.minimum) of ``values`` over the overlapping regions, int64 (n,)."""
    first, last = parents
    if len(first) == 0 or len(values) == 0:
        return np.full(len(first), empty, np.int64)
    pairs = np.empty(2 * len(first), np.int64)
    pairs[0::2], pairs[1::2] = first, np.maximum(last, first)
    padded = np.append(values.astype(np.int64), empty)
    reduced = reduce.reduceat(padded, np.minimum(pairs, len(values)))[0::2]
    return np.where(last > first, reduced, empty)


def _age_growth(s: Report) -> list[Check]:
    # A part that schemes cut off keeps the age of the merged region, whose older parts may lie elsewhere.
    anywhere = rule_limits.schemes_split(s.ctx)
    growth, detail = [], ""
    for before, after, parents in follow(s):
        old = over_parents(np.maximum, before.age, parents, 0)
        if anywhere:
            old = np.full(len(after), int(before.age.max(initial=0)), np.int64)
        more = after.age.astype(np.int64) - old - s.extra_age(before)
        growth.append(float(more.max(initial=0)))
        bad = np.flatnonzero(more > 1)
        if len(bad) and not detail:
            i = int(bad[0])
            detail = f"{where(s.recording, after)}: {region(after, i)}, before at most {int(old[i])}"
    why = "an age counts aggregations"
    return largest("I29", "largest growth of age", growth, "aggregations", 1, why=why, detail=detail)


def _age_total(s: Report) -> list[Check]:
    if s.recording.lost_events:
        return []
    excess, detail = [], ""
    for target_idx in s.targets():
        bound, index, before = 0, -1, None
        for window in windows(s.recording, target_idx):
            bound += (window.index - index) * (1 + s.extra_age(before))
            index, before = window.index, window.snapshot
            over = int(window.snapshot.age.max(initial=0)) - bound
            excess.append(float(max(0, over)))
            if over > 0 and not detail:
                i = int(window.snapshot.age.argmax())
                detail = f"{where(s.recording, window.snapshot)}: {region(window.snapshot, i)}"
    why = "no age exceeds the aggregations since the kdamond was turned on"
    return largest("I30", "excess of age", excess, "aggregations", 0, why=why, detail=detail)


def _saturated_ages(s: Report) -> list[Check]:
    """Check I33: W hits prove that all parts of a region had W hits, whatever was merged."""
    wrong, judged, detail = [], 0, ""
    for before, after, parents in follow(s):
        extra = s.extra_age(before)
        lowest = over_parents(np.minimum, before.nr_accesses, parents, -1)
        highest = over_parents(np.maximum, before.nr_accesses, parents, -1)
        youngest = over_parents(np.minimum, before.age, parents, 0)
        full = (after.nr_accesses == s.w) & (lowest >= 0)
        age = after.age.astype(np.int64)
        bad = full & (highest == 0) & (age > extra)
        bad |= full & (lowest == s.w) & (age < youngest + 1)
        judged += int((full & ((highest == 0) | (lowest == s.w))).sum())
        wrong.append(float(bad.sum()))
        if bad.any() and not detail:
            i = int(np.flatnonzero(bad)[0])
            nr = f"nr_accesses before {int(lowest[i])}..{int(highest[i])}, youngest {int(youngest[i])}"
            detail = f"{where(s.recording, after)}: {region(after, i)}; {nr}"
    name, why = (
        "wrong ages of W-hit regions",
        "an age restarts when hits go from 0 to W, and grows when W hits repeat",
    )
    return none_wrong("invariant", "I33", name, "regions", wrong, judged, why=why, detail=detail)
