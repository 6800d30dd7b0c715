# SPDX-License-Identifier: GPL-2.0
"""Check the access rate that schemes see in mid-window: the counter so far, and a share of the last one.

A scheme that is applied at each sample reports each region W times in a window, and the aggregation before it
reported the last counter. What is left of the reported value without the share of the last counter is the
counter so far: it has to grow by 0 or 1 in each sample. So the formula, the last counter and its copies in
the parts of a split are all judged, exactly (§2.9; I22, I24).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise

from damon_tests.damon.params import DamonCtx
from damon_tests.judge.schemes.watched_passes import Try, WatchedPass, spell
from damon_tests.judge.verdict import Check, Measurement

BP = 10_000


def moving_values(passes: Sequence[WatchedPass], ctx: DamonCtx) -> Check:
    """Check I20, I22 and I24 of the first scheme's regions, for kernels that compute the value exactly (7.3).

    The scheme has to be applied at each sample, without quotas, and the intervals stay. Undecided without a
    window.
    """
    w, wrong, judged = ctx.attrs.samples_per_aggr, [], 0
    for window in _windows(passes, w):
        last = {(e.target_id, e.start, e.end): e.nr_accesses for e in window[0].aggregated}
        counters: dict[tuple[int, int], int] = {}
        for k, watched in enumerate(window[1:], 1):
            for visit in watched.visits:
                region = visit.region
                share = _last_of(last, region) * ((w - k) * BP // w) // BP
                counter, before = region.nr_accesses - share, counters.get(_place(region), 0)
                judged += 1
                if region.nr_accesses > w or not before <= counter <= before + 1:
                    wrong.append(f"sample {k}: {spell(region)}, {share} of the last, {before} before")
                counters[_place(region)] = counter
    m = Measurement("values in mid-window that no counter explains", float(len(wrong)), "regions")
    why = f"the counter so far and a share of the last; {judged} values judged (§2.9)"
    holds = None if not judged else not wrong
    return Check("invariant", m, "== 0", why, holds, "; ".join(wrong[:3]), invariant="I20, I22, I24")


def _windows(passes: Sequence[WatchedPass], w: int) -> Iterator[Sequence[WatchedPass]]:
    """Yield each aggregation's pass with the passes after it, before the next aggregation merges regions."""
    ends = [i for i, watched in enumerate(passes) if watched.aggregated]
    for first, following in pairwise(ends):
        if following - first == w:
            yield passes[first:following]


def _place(region: Try) -> tuple[int, int]:
    return region.target_idx, region.start


def _last_of(last: dict[tuple[int, int, int], int], region: Try) -> int:
    """Return the last counter of the traced region that this one was cut from."""
    return next(
        (
            nr
            for (target, start, end), nr in last.items()
            if target == region.target_idx and start <= region.start and region.end <= end
        ),
        0,
    )
