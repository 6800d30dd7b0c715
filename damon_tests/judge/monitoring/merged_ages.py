# SPDX-License-Identifier: GPL-2.0
"""Check the ages of merged regions, I23 and I24, from aggregations alone."""

from __future__ import annotations

import numpy as np

from damon_tests.damon.params import DamonCtx
from damon_tests.damon.records import Recording, Snapshot
from damon_tests.judge import rule_limits
from damon_tests.judge.monitoring.ages import Parents, follow
from damon_tests.judge.monitoring.aggregation_windows import windows
from damon_tests.judge.monitoring.report import Report, none_wrong, region, where
from damon_tests.judge.monitoring.true_rates import touched_spans
from damon_tests.judge.verdict import Check
from damon_tests.ports import NSEC_PER_USEC, Truth
from damon_tests.ports.numbers import number

_PARTS = 3
"""A split makes at most three parts of a region."""


def merged_ages(
    recording: Recording, ctx: DamonCtx, level: str, truth: Truth, *, target_idx: int = 0
) -> list[Check]:
    """Check I23: a merged idle region has the mean age of its parts, weighted by size. Exact.

    It judges regions whose two edges were edges one aggregation before: they consist of whole regions, each
    of which was split into at most three parts of its own age (I24). None was touched in this window: the age
    of a part that was idle before grew by one, that of a part that was in use restarted at 0. A merge
    truncates, so each loses less than 1: the age lies between the mean less the number of merges, and the
    mean. For constant intervals, and schemes that neither act nor cut.
    """
    s = Report(recording, ctx, level)
    if s.tuned or rule_limits.schemes_act(ctx) or rule_limits.schemes_split(ctx) or recording.addr_unit != 1:
        return []
    margin = max(1, recording.sample_us) * NSEC_PER_USEC
    mine = windows(recording, target_idx)
    spans = touched_spans(truth, [(w.t0_ns - margin, w.t1_ns + margin) for w in mine])
    index = {id(w.snapshot): i for i, w in enumerate(mine)}
    # Before 6.15 only a change larger than the merge threshold restarts the age.
    restarts_above = 0 if s.series.restarts_age_at_zero else s.w // 10
    wrong, judged, detail = [], 0, ""
    for before, after, parents in follow(s):
        if after.target_idx != target_idx or id(after) not in index or s.extra_age(before):
            continue  # a kernel with a defect may count an age several times above max_nr_regions
        start, end, *_ = spans.of_window(index[id(after)])
        bad = 0
        for i in _made_of_whole_regions(before, after, parents):
            if _touched(start, end, int(after.start[i]), int(after.end[i])):
                continue
            first, last = int(parents[0][i]), int(parents[1][i])
            counts = before.nr_accesses[first:last]
            if ((counts > 0) & (counts <= restarts_above)).any() or after.nr_accesses[i]:
                continue
            judged += 1
            mean, merges = _mean_age(before, first, last), _PARTS * (last - first) - 1
            if not mean - merges <= after.age[i] <= mean:
                bad += 1
                detail = detail or (
                    f"{where(recording, after)}: {region(after, i)}; ages before"
                    f" {before.age[first:last].tolist()}, mean with this aggregation {number(mean)}"
                )
        wrong.append(float(bad))
    name, why = (
        "wrong ages of merged idle regions",
        "a merged region has the mean age of its parts, weighted by size",
    )
    return none_wrong("closed form", "I23", name, "regions", wrong, judged, why=why, detail=detail)


def _made_of_whole_regions(before: Snapshot, after: Snapshot, parents: Parents) -> list[int]:
    """Return the indexes of regions that consist of two or more whole regions of the snapshot before."""
    first, last = parents
    several = np.flatnonzero(last - first >= 2)
    whole = (before.start[first[several]] == after.start[several]) & (
        before.end[last[several] - 1] == after.end[several]
    )
    return [int(i) for i in several[whole]]


def _mean_age(before: Snapshot, first: int, last: int) -> float:
    """Return the mean age, weighted by size, of these regions after an aggregation without accesses."""
    sizes = before.sizes[first:last].astype(np.float64)
    idle = before.nr_accesses[first:last] == 0
    ages = np.where(idle, before.age[first:last].astype(np.float64) + 1, 0)
    return float((sizes * ages).sum() / sizes.sum())


def _touched(start: object, end: object, low: int, high: int) -> bool:
    starts, ends = np.asarray(start), np.asarray(end)
    return bool(((starts < high) & (ends > low)).any())
