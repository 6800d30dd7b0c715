# SPDX-License-Identifier: GPL-2.0
"""Check what the truth makes certain about a report: closed forms.

Memory that nobody touched has nr_accesses 0 and only grows older; memory touched all the time has nr_accesses
W; sampling adds and loses no accesses on average. Each function says why it is exact, or states its
false-alarm probability. A check that would compare no window is undecided; one for whose regions the workload
has no memory is not made.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from damon_tests.damon.params import DamonCtx
from damon_tests.damon.recording_file import TruthSpans
from damon_tests.damon.records import Recording
from damon_tests.judge import rule_limits, stats
from damon_tests.judge.monitoring.ages import follow, over_parents
from damon_tests.judge.monitoring.aggregation_windows import Window, windows
from damon_tests.judge.monitoring.report import (
    Report,
    none_wrong,
    nothing_judged,
    region,
    where,
)
from damon_tests.judge.monitoring.report_vs_truth import byte_ranges
from damon_tests.judge.monitoring.true_rates import rasterise, touched_spans
from damon_tests.judge.verdict import Check, Measurement
from damon_tests.ports import NSEC_PER_USEC, Bools, Truth, page_size
from damon_tests.ports.arrays import I64
from damon_tests.ports.numbers import number
from damon_tests.ports.ranges import Range


def untouched_is_silent(
    recording: Recording,
    ctx: DamonCtx,
    truth: Truth,
    *,
    target_idx: int = 0,
    granule_bytes: int | None = None,
) -> list[Check]:
    """Check I25: a region wholly in memory that nobody touched in the window has nr_accesses 0. Exact.

    Counters start at 0 after each aggregation, and a traced region consists of regions inside it, so all its
    hits come from its own memory. Not judged: requests whose schemes cut regions within a window (a cut
    copies hits), windows at whose beginning vaddr updated its regions, and memory touched within a sampling
    interval of the window. ``granule_bytes``: the memory that one touch marks; default: a page.
    """
    if rule_limits.schemes_split(ctx):
        return []
    chosen, name = _steady(recording, target_idx), "largest nr_accesses of untouched regions"
    why = "memory that nobody touched has no accesses"
    if not chosen:
        return [nothing_judged("closed form", "I25", name, "samples", why)]
    spans = _touched_near(recording, truth, chosen)
    judged, highest, detail = 0, [], ""
    for i, window in enumerate(chosen):
        snap = window.snapshot
        idle = _outside(
            byte_ranges(snap, recording.addr_unit), spans.of_window(i)[:2], granule_bytes or page_size()
        )
        judged += int(idle.sum())
        highest.append(float(snap.nr_accesses[idle].max(initial=0)))
        bad = np.flatnonzero(idle & (snap.nr_accesses > 0))
        if len(bad) and not detail:
            detail = f"{where(recording, snap)}: {region(snap, int(bad[0]))}"
    if not judged:
        return []
    m, why = Measurement(name, max(highest), "samples", tuple(highest)), f"{why}; {judged} regions judged"
    return [Check("closed form", m, "== 0", why, m.value == 0, detail, invariant="I25")]


def untouched_ages(
    recording: Recording,
    ctx: DamonCtx,
    level: str,
    truth: Truth,
    *,
    target_idx: int = 0,
    granule_bytes: int | None = None,
) -> list[Check]:
    """Check I32 and I33: the ages of memory that nobody touched in a window. Exact.

    If the overlapping regions before had no accesses either, the age grows by one; if all had some, it
    restarts at 0 (since 6.15 from any value). Merging takes the mean of such ages. For schemes that neither
    act nor cut, and intervals that are not tuned.
    """
    s = Report(recording, ctx, level)
    if s.tuned or rule_limits.schemes_act(ctx) or rule_limits.schemes_split(ctx):
        return []
    chosen = {id(w.snapshot): (i, w) for i, w in enumerate(_steady(recording, target_idx))}
    spans = _touched_near(recording, truth, [w for _, w in chosen.values()])
    # Before 6.15 only a change larger than the merge threshold restarts the age.
    restarts_above = 0 if s.series.restarts_age_at_zero else s.w // 10
    wrong, judged, detail = [], 0, ""
    for before, after, parents in follow(s):
        if id(after) not in chosen:
            continue
        index, extra = chosen[id(after)][0], s.extra_age(before)
        idle = _outside(
            byte_ranges(after, recording.addr_unit), spans.of_window(index)[:2], granule_bytes or page_size()
        )
        lowest = over_parents(np.minimum, before.nr_accesses, parents, -1)
        highest = over_parents(np.maximum, before.nr_accesses, parents, -1)
        young = over_parents(np.minimum, before.age, parents, 0)
        old = over_parents(np.maximum, before.age, parents, 0)
        age = after.age.astype(np.int64)
        stayed, restarted = idle & (highest == 0), idle & (lowest > restarts_above)
        bad = (stayed & ((age < young + 1) | (age > old + 1 + extra))) | (restarted & (age > extra))
        judged += int((stayed | restarted).sum())
        wrong.append(float(bad.sum()))
        if bad.any() and not detail:
            i = int(np.flatnonzero(bad)[0])
            was = f"before: nr_accesses {lowest[i]}..{highest[i]}, age {young[i]}..{old[i]}"
            detail = f"{where(recording, after)}: {region(after, i)}; {was}"
    name, why = (
        "wrong ages of untouched regions",
        "idle memory ages by one, memory that fell idle restarts at 0",
    )
    return none_wrong("closed form", "I32", name, "regions", wrong, judged, why=why, detail=detail)


def always_touched_is_full(
    recording: Recording,
    ctx: DamonCtx,
    truth: Truth,
    *,
    target_idx: int = 0,
    stalls: Sequence[tuple[int, int]] = (),
) -> list[Check]:
    """Check that a region wholly in memory touched in every sampling interval has nr_accesses W. Exact.

    Exact only where every touch sets the accessed bit: on the reference, or with a pattern that ensures it.
    Memory counts as touched in every sampling interval, whenever that begins, if it is touched in every half
    of one. Windows that overlap ``stalls`` are left out, because the times of touches are not certain in
    them. Undecided without such a region.
    """
    if rule_limits.schemes_split(ctx):
        return []
    chosen = [
        w
        for w in _steady(recording, target_idx)
        if not any(start < w.t1_ns and w.t0_ns < end for start, end in stalls)
    ]
    spans = rasterise(truth, [(w.t0_ns, w.t1_ns) for w in chosen], max(1, recording.sample_us // 2))
    w, judged, lowest, detail = recording.samples_per_aggr, 0, [], ""
    for i, window in enumerate(chosen):
        snap = window.snapshot
        start, end, rate = spans.of_window(i)
        busy = rule_limits.contiguous(start[rate >= 1].astype(np.uint64), end[rate >= 1].astype(np.uint64))
        inside = _inside(byte_ranges(snap, recording.addr_unit), busy)
        judged += int(inside.sum())
        lowest.append(float(snap.nr_accesses[inside].min(initial=w)))
        bad = np.flatnonzero(inside & (snap.nr_accesses != w))
        if len(bad) and not detail:
            detail = f"{where(recording, snap)}: {region(snap, int(bad[0]))}"
    if not judged:
        m = Measurement("always touched regions", 0, "regions")
        why = "the check needs a region that is certainly touched in every sampling interval"
        return [Check("closed form", m, ">= 1", why, None)]
    m = Measurement("smallest nr_accesses of always touched regions", min(lowest), "samples", tuple(lowest))
    why = f"memory touched in every sampling interval has W accesses; {judged} regions judged"
    return [Check("closed form", m, f"== {w}", why, not detail, detail)]


def no_excess_accesses(
    recording: Recording,
    ctx: DamonCtx,
    level: str,
    truth: Truth,
    *,
    target_idx: int = 0,
    alpha: float = 1e-6,
    granule_bytes: int | None = None,
) -> list[Check]:
    """Check that the sum of size * nr_accesses over regions and windows does not exceed the true accesses.

    Each sample of a region checks one byte drawn evenly from it, so the expected sum is W times the bytes
    touched in the sampling interval, whatever the regions are; merging only rounds down. The excess over
    W * (bytes touched in the window) is a supermartingale whose steps are at most one region large, so
    P(excess >= ln(1/α)/λ + λV/8) <= α for every fixed λ, with V the sum over samples of squared region
    sizes (those of the snapshot before: splitting only makes it smaller). λ is fixed beforehand, from
    min_nr_regions.
    """
    if rule_limits.schemes_split(ctx):
        return []
    chosen = _steady(recording, target_idx, first=False)
    if not chosen:
        name, why = "excess of reported accesses", "sampling does not invent accesses"
        return [nothing_judged("closed form", "", name, "byte samples", why)]
    by_index = {w.index: w.snapshot for w in windows(recording, target_idx)}
    spans = _touched_near(recording, truth, chosen)
    w, excess, variance, covered = recording.samples_per_aggr, [], 0.0, 0.0
    for i, window in enumerate(chosen):
        start, end = byte_ranges(window.snapshot, recording.addr_unit)
        touched = _overlap_bytes(start, end, spans.of_window(i)[:2], granule_bytes or page_size())
        hits = float(((end - start) * window.snapshot.nr_accesses).sum())
        excess.append(hits - w * touched)
        before = by_index[window.index - 1].sizes.astype(np.float64) * recording.addr_unit
        variance += w * float((before**2).sum())
        covered += w * float((end - start).sum())
    # What V will be if regions are as large as min_nr_regions allows; only the power depends on it.
    guess = covered * float(before.sum()) / max(1, ctx.attrs.min_nr_regions)
    rate = math.sqrt(8 * math.log(1 / alpha) / max(1.0, guess))
    bound = math.log(1 / alpha) / rate + rate * variance / 8
    m = Measurement("excess of reported accesses", sum(excess), "byte samples", tuple(excess))
    why = f"sampling does not invent accesses; bound of a supermartingale, {len(chosen)} windows"
    detail = f"{sum(excess) / max(1.0, covered):.2%} of all byte samples" if m.value > bound else ""
    return [Check("closed form", m, f"<= {number(bound)}", why, m.value <= bound, detail, alpha)]


def fixed_rate(
    name: str, hits: Sequence[int], samples_per_aggr: int, probability: float, alpha: float, *, because: str
) -> Check:
    """Check the hits of a region that is neither merged nor split, with an exact two-sided binomial test.

    ``hits``: nr_accesses in each window. Each sample hits with ``probability``, independently.
    """
    n, k = len(hits) * samples_per_aggr, sum(hits)
    p_value = stats.binomial_test(k, n, probability)
    m = Measurement(name, float(k), "samples", tuple(float(h) for h in hits))
    low, high = stats.binomial_interval(n, probability, alpha)
    detail = f"p = {p_value:.3g}" if p_value <= alpha else ""
    return Check("closed form", m, f"{low} to {high} of {n}", because, p_value > alpha, detail, alpha)


# --- helpers ---------------------------------------------------------------------------------


def _steady(recording: Recording, target_idx: int, *, first: bool = True) -> list[Window]:
    """Return the windows that cover the same memory as the window before."""
    steady, previous = [], None
    for window in windows(recording, target_idx):
        ranges = rule_limits.covered(window.snapshot)
        if window.index == 0:
            if first:
                steady.append(window)
        elif previous is not None and previous == (window.index - 1, ranges):
            steady.append(window)
        previous = (window.index, ranges)
    return steady


def _touched_near(recording: Recording, truth: Truth, chosen: Sequence[Window]) -> TruthSpans:
    """Return the spans touched in each window, or up to one sampling interval before or after it."""
    margin = max(1, recording.sample_us) * NSEC_PER_USEC
    return touched_spans(truth, [(w.t0_ns - margin, w.t1_ns + margin) for w in chosen])


def _widened(spans: tuple[I64, I64], granule: int) -> tuple[I64, I64]:
    return spans[0] // granule * granule, -(-spans[1] // granule) * granule


def _outside(regions: tuple[I64, I64], spans: tuple[I64, I64], granule: int) -> Bools:
    """Return which regions overlap no span."""
    start, end = _widened(spans, granule)
    first = np.searchsorted(end, regions[0], side="right")
    last = np.searchsorted(start, regions[1], side="left")
    outside: Bools = first >= last
    return outside


def _inside(regions: tuple[I64, I64], ranges: Sequence[Range]) -> Bools:
    """Return which regions lie wholly in one of the ranges."""
    inside = np.zeros(len(regions[0]), np.bool_)
    for start, end in ranges:
        inside |= (regions[0] >= start) & (regions[1] <= end)
    return inside


def _overlap_bytes(start: I64, end: I64, spans: tuple[I64, I64], granule: int) -> float:
    """Return the bytes of the spans, widened to granules, that the regions cover."""
    low, high = _widened(spans, granule)
    if len(low) == 0 or len(start) == 0:
        return 0.0
    high = np.maximum.accumulate(high)
    low = np.maximum(low, np.append(low[0], high[:-1]))  # granules of neighbouring spans overlap
    return float((_covered_below(start, end, high) - _covered_below(start, end, low)).clip(0).sum())


def _covered_below(start: I64, end: I64, at: I64) -> npt.NDArray[np.float64]:
    """Return how many bytes of the ascending regions lie below each address."""
    before = np.append(0, np.cumsum(end - start))
    i = np.searchsorted(start, at, side="right") - 1
    partial = np.clip(at - start[i], 0, (end - start)[i])
    below: npt.NDArray[np.float64] = np.where(i >= 0, before[i] + partial, 0).astype(np.float64)
    return below
