# SPDX-License-Identifier: GPL-2.0
"""The rules of DAMOS, as small pure functions (DAMON 7.3 unless a name says otherwise).

``ruleset.Rules`` collects them. Sizes are in core address units, scores and ratios as named.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from damon_tests.ports import page_size
from damon_tests.ports.arrays import I64, Bools
from damon_tests.ports.ranges import Range
from damon_tests.reference.rules.monitoring import BP, U64_MAX, align_down, muldiv

MAX_SCORE = 99
U32 = (1 << 32) - 1


# Priority


def priority_value(value: I64, nr_accesses: I64) -> I64:
    """Return the access frequency that priorities use: as users see it, not the running counter."""
    return value


def hot_score(
    value: I64, window: int, age: I64, aggr_us: int, weight_nr_accesses: int, weight_age: int
) -> I64:
    """Return 0 to 99: access frequency and, logarithmically, how long it has been so. Size has no say.

    Weights and their sums are 32 bits wide, and what is left of large ones is read as a signed number.
    """
    frequency = value * 100 // max(window, 1)
    seconds = (age.astype(np.uint64) * np.uint64(aggr_us) // np.uint64(1_000_000)) & np.uint64(U32)
    magnitude = np.frexp(seconds.astype(np.float64))[1].astype(np.int64)  # floor(log2) + 1, 0 for 0
    signed = np.where(frequency == 0, -np.minimum(magnitude, 32), np.minimum(magnitude, 32))
    by_age = (signed + 32) * 100 // 32 // 2
    hotness = (weight_nr_accesses * frequency + weight_age * by_age) & U32
    weights = (weight_nr_accesses + weight_age) & U32
    if weights:
        hotness //= weights
    scaled: I64 = np.clip(_signed(_signed(hotness) * MAX_SCORE) // 100, 0, MAX_SCORE)
    return scaled


def _signed(numbers: I64) -> I64:
    """Return what 32 bits hold of each number, as a signed one."""
    return (numbers + (1 << 31) & U32) - (1 << 31)


def cold_score(hot: I64) -> I64:
    return MAX_SCORE - hot


def min_score(histogram: Sequence[int], effective_size: int) -> int:
    """Return the lowest score that still gets quota: sizes are taken from the highest score down."""
    occupied = [score for score, size in enumerate(histogram) if size]
    total = 0
    for score in range(occupied[-1] if occupied else 0, -1, -1):
        total += histogram[score]
        if total >= effective_size or score == 0:
            return score
    return 0


# Quota


def feedback(value: int, score: int) -> int:
    """Return the next value when ``value`` led to ``score`` (goal 10000); never below 10000."""
    if score == BP:
        return value
    if score >= 2 * BP:
        return BP
    distance = abs(score - BP)
    fits = value < U64_MAX // distance
    compensation = value * distance // BP if fits else value // BP * distance
    if score > BP:
        return max(value - compensation, BP)
    return min(value + compensation, U64_MAX)


def consist_tuner(effective_bp: int, score: int, size_quota: int) -> int:
    """Tune by proportional feedback, from at least one byte."""
    return feedback(max(effective_bp, BP), score)


def temporal_tuner(effective_bp: int, score: int, size_quota: int) -> int:
    """Tune by all or nothing: as much as allowed until the goal is achieved."""
    if score >= BP:
        return 0
    if size_quota and size_quota <= U64_MAX // BP:
        return size_quota * BP
    return U64_MAX


def goal_score(achievements: Sequence[tuple[int, int]]) -> int:
    """Return the largest achievement of (current, target) pairs, in bp."""
    return max((muldiv(current, BP, target) for current, target in achievements), default=0)


def goal_metric(requested: str) -> str:
    """Return the metric that is read for the requested one."""
    return requested


def goal_node(nid: int) -> int:
    """Return the node that a goal's metric is read of."""
    return nid


def window_needs_turn(is_set: bool, requested: bool) -> bool:
    """Return whether windows begin and end: while a quota is in force, also one that is no longer requested.

    The first window after a quota was removed sets the effective size to 0, which is no limit.
    """
    return is_set


def first_window_size(effective_size: int) -> int:
    """Return the effective size of a scheme's first window: as in all others."""
    return effective_size


def time_quota_size(ms: int, total_bytes: int, total_ns: int, min_region_sz: int) -> int:
    """Return the bytes that the time quota allows, from the throughput so far."""
    throughput = muldiv(total_bytes, 1_000_000, total_ns) if total_ns else page_size() * 1024
    return max(throughput * ms & U64_MAX, min_region_sz)


def quota_is_full(is_set: bool, charged: int, effective_size: int, min_region_sz: int) -> bool:
    """Whether the quota is used up, which it also is when less than one minimum region is left."""
    return is_set and (charged >= effective_size or effective_size - charged < min_region_sz)


def quota_is_full_7_1(is_set: bool, charged: int, effective_size: int, min_region_sz: int) -> bool:
    return is_set and charged >= effective_size


def quota_is_full_7_0(is_set: bool, charged: int, effective_size: int, min_region_sz: int) -> bool:
    """7.0 and older: an effective size of 0 means no limit."""
    return bool(effective_size) and charged >= effective_size


def quota_cut(is_set: bool, charged: int, effective_size: int, size: int, min_region_sz: int) -> int | None:
    """Return how much of a region fits into what is left of the quota; None: all of it."""
    if not is_set or charged + size <= effective_size:
        return None
    return align_down(effective_size - charged, min_region_sz)


def quota_cut_7_0(
    is_set: bool, charged: int, effective_size: int, size: int, min_region_sz: int
) -> int | None:
    """7.0 and older: no limit when the effective size is 0."""
    if not effective_size or charged + size <= effective_size:
        return None
    return align_down(effective_size - charged, min_region_sz)


def charged_size(size: int, applied: int, fail_num: int, fail_denom: int) -> int:
    """Return what applying to a region costs: all of it, or less for the part where the action failed."""
    if not fail_denom or applied > size:
        return size
    return applied + muldiv(size - applied, fail_num, fail_denom)


def window_has_passed(now_jiffies: int, charged_from: int, reset_ms: int) -> bool:
    """Whether a charge window is over; it is counted in jiffies of 4 ms, rounded up."""
    return now_jiffies >= charged_from + -(-reset_ms // 4)


def skipped_size(start: int, end: int, continue_at: int, min_region_sz: int) -> int:
    """Return how much of a region was charged in the last window: all, a part from its start, or nothing."""
    if end <= continue_at:
        return end - start
    if start >= continue_at:
        return 0
    part = align_down(continue_at - start, min_region_sz)
    if part:
        return part
    return end - start if end - start <= min_region_sz else min_region_sz


def window_exceeded(ended_full: bool) -> bool:
    """Whether a completed charge window counts in qt_exceeds."""
    return ended_full


def charge_at_window_start(charged: int) -> int:
    """Return what a new window starts with: unused quota is not carried over, nor is what was used."""
    return 0


# Pattern and watermarks


def pattern_matches(bounds: Sequence[tuple[int, int]], size: Any, nr_accesses: Any, age: Any) -> Any:
    """Whether size, nr_accesses and age are within their (min, max), all inclusive.

    For numbers, or arrays of one element a region.
    """
    (sz_min, sz_max), (nr_min, nr_max), (age_min, age_max) = bounds
    matches = (size >= sz_min) & (size <= sz_max)
    matches &= (nr_accesses >= nr_min) & (nr_accesses <= nr_max)
    return matches & (age >= age_min) & (age <= age_max)


def watermark_active(value: int, high: int, mid: int, low: int, active: bool) -> bool:
    """Whether a scheme is active: not outside low..high; below mid yes; from mid to high as before."""
    if value > high or value < low:
        return False
    return active or value < mid


def watermark_wait_us(waits: Sequence[int]) -> int:
    """Return the sleep while all schemes are inactive: the shortest of their intervals."""
    return min(waits)


# Filters


def filter_verdict(hit: bool, matching: bool, allow: bool) -> bool | None:
    """What one filter decides: allow, reject, or None when it does not match."""
    return allow if hit == matching else None


def core_default_reject(core_allows_last: bool, has_ops_filters: bool) -> bool:
    """Whether the rest is rejected: an allow list does, unless the ops layer still has a say."""
    return core_allows_last and not has_ops_filters


def ops_default_reject(ops_allows_last: bool) -> bool:
    return ops_allows_last


# Effects on the region and the statistics


def age_after_action(action: str, age: Any, applied: int) -> Any:
    """Return the age after an action: 0, even if nothing was achieved; ``stat`` is no act. A number or an
    array."""
    return age if action == "stat" else 0


def scheme_order(due: Sequence[Any]) -> Sequence[Any]:
    """Return the due schemes in the order in which each region is offered to them: as requested."""
    return due


def walk_ends(passes: int, regions: int) -> bool:
    """Whether the walk of a scheme is complete after so many passes with so many regions: after one pass,
    with regions or without."""
    return passes >= 1


def snapshot_counts(matched: bool) -> bool:
    """Whether a visit to the last region of a target counts as a pass: whatever it matched."""
    return True


def snapshot_limit_reached(nr_snapshots: int, max_nr_snapshots: int) -> bool:
    return max_nr_snapshots != 0 and nr_snapshots >= max_nr_snapshots


def tried_size(before_filters: int, after_filters: int) -> int:
    """Return what is tried, and charged, of a region that address filters may have cut: what they left."""
    return after_filters


def account(stats: Any, count: int, size: int, applied: int, passed: int) -> None:
    """Add ``count`` regions that a scheme was applied to, with equal success; sizes are totals."""
    stats.nr_tried += count
    stats.sz_tried += size
    stats.nr_applied += count if applied > 0 else 0
    stats.sz_applied += applied
    stats.sz_ops_filter_passed += passed


def committed_scheme(running: Any, fresh: Any) -> Any:
    """Return the scheme that goes on after a commit: the running one, with statistics, charges and
    schedule."""
    return running


def committed_params(running: Any, requested: Any) -> Any:
    """Return the parameters that a running scheme gets from a commit (a ``Damos``): those requested."""
    return requested


def added_params(requested: Any) -> Any:
    """Return the parameters of a scheme that a commit adds: those requested."""
    return requested


def action_done(operations: str, action: str) -> str:
    """Return the action that is done where one is requested ("vaddr" stands for fvaddr, too)."""
    return action


def action_range(start: int, end: int) -> Range:
    """Return the bytes that an action works on: those of the region."""
    return start, end


def walked_frames(frames: I64, in_huge: Bools) -> I64:
    """Return the frames of a region that are visited, in order: all, also where it begins in a huge page."""
    return frames


def pages_applied(done: int, visited: int) -> int:
    """Return what counts as applied of ``visited`` bytes when ``done`` were reclaimed or moved."""
    return done


def migration_node(nids: I64) -> I64:
    """Return the node that each folio goes to: the requested one."""
    return nids


def interleaved(index: I64, dests: Sequence[Range]) -> I64:
    """Return the node of each page index by (node, weight), with a period of the sum of weights; -1: stay."""
    total = sum(weight for _, weight in dests)
    if not total:
        return np.full(len(index), -1, np.int64)
    edges = np.cumsum([weight for _, weight in dests])
    chosen = np.searchsorted(edges, index % total, side="right")
    nids: I64 = np.array([nid for nid, _ in dests], np.int64)[chosen]
    return nids


def madvise_applied(size: int, failed: bool) -> int:
    """Return the whole length, or 0 when any part of the range was not mapped."""
    return 0 if failed else size


# Modules


def whole_ram(ram: Sequence[Range]) -> Range:
    """7.2: return the span from the first system RAM resource's start to the last one's end."""
    return ram[0][0], ram[-1][1]


def biggest_ram(ram: Sequence[Range]) -> Range:
    """7.1 and older: return the biggest system RAM resource."""
    return max(ram, key=lambda span: span[1] - span[0])


def stat_idle_ms(age: int, aggr_us: int, accessed: bool) -> int:
    """Return DAMON_STAT's idle time of a region; negative: accessed for that long."""
    idle = (age + 1) * aggr_us // 1000
    return -idle if accessed else idle


def stat_idle_ms_6_17(age: int, aggr_us: int, accessed: bool) -> int:
    """6.17: return only how long a region was idle; 0: it is accessed."""
    return 0 if accessed else (age + 1) * aggr_us // 1000
