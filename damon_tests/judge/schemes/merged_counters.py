# SPDX-License-Identifier: GPL-2.0
"""Check the access counts of merged regions, I23, by what a scheme saw one sample before the merge.

A scheme that is applied at each sample reports each region just before an aggregation, with its counter so
far (``moving_values``), and merged regions at the aggregation. The sample between them adds 0 or 1 to each.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from damon_tests.damon.params import DamonCtx
from damon_tests.damon.series import Series
from damon_tests.judge.schemes.moving_values import BP
from damon_tests.judge.schemes.watched_passes import Try, WatchedPass, spell
from damon_tests.judge.verdict import Check, Measurement

_UNLIKE = 4
"""Where parts differ by less, the largest, the plain mean and the weighted mean are nearly the same."""


def merged_counters(passes: Sequence[WatchedPass], ctx: DamonCtx, level: str) -> list[Check]:
    """Check I23: a merged region has the mean count of its parts, weighted by size. Exact.

    Each merge truncates, so that a region of n parts has up to n - 1 less than the mean. Before 7.3 the value
    in mid-window may differ by 1. Undecided if no merged parts differ by four samples or more.
    """
    slack = 0 if Series.of(level).computes_moving_values_exactly else 1
    w, wrong, telling, judged = ctx.attrs.samples_per_aggr, [], 0, 0
    for before, merged in pairwise(passes):
        if before.aggregated or not merged.aggregated:
            continue
        parts = [visit.region for visit in before.visits]
        for region in (visit.region for visit in merged.visits):
            inside = [part for part in parts if _inside(part, region)]
            sizes = [part.end - part.start for part in inside]
            if len(inside) < 2 or sum(sizes) != region.end - region.start:
                continue
            judged += 1
            counts = [part.nr_accesses for part in inside]
            telling += max(counts) - min(counts) >= _UNLIKE
            # One sample before the end, the value has up to one sample of the last window in it.
            share = (BP // w) * w // BP
            low = _mean(sizes, [max(0, count - share - slack) for count in counts]) - (len(inside) - 1)
            high = _mean(sizes, [count + 1 + slack for count in counts])
            if not low <= region.nr_accesses <= high:
                shown = ", ".join(map(spell, inside[:4]))
                wrong.append(f"{spell(region)} of {shown}, expected {low:.1f} to {high:.1f}")
    m = Measurement("merged regions with another count than the mean", float(len(wrong)), "regions")
    why = f"a merged region has its parts' mean count, weighted by size; {judged} judged, {telling} of unlike"
    holds = not wrong if telling else None
    return [Check("invariant", m, "== 0", why, holds, "; ".join(wrong[:3]), invariant="I23")]


def _mean(sizes: Sequence[int], counts: Sequence[int]) -> float:
    return sum(size * count for size, count in zip(sizes, counts, strict=True)) / sum(sizes)


def _inside(part: Try, whole: Try) -> bool:
    return part.target_idx == whole.target_idx and whole.start <= part.start and part.end <= whole.end
