# SPDX-License-Identifier: GPL-2.0
"""The rules of monitoring, as small pure functions (DAMON 7.3 unless a name says otherwise).

Each is one sentence of the specification, whose section stands at the head of each group. ``ruleset.Rules``
collects them; a level or a fault replaces some. Arrays are int64 for counters and uint64 for addresses
and sizes, one element a region. Divisions truncate, as C does on unsigned values.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from damon_tests.ports import page_size
from damon_tests.ports.arrays import F64, I64, U64, Bools
from damon_tests.ports.ranges import Range, joined

U64_MAX = (1 << 64) - 1
U32_MAX = (1 << 32) - 1
BP = 10_000


def muldiv(x: int, numerator: int, denominator: int) -> int:
    """Return ``x * numerator / denominator`` as the kernel computes it: in two parts, so that it overflows
    late.

    The second part wraps when the denominator is beyond 2^64 / numerator.
    """
    whole, rest = divmod(x, denominator)
    return (whole * numerator + ((rest * numerator) & U64_MAX) // denominator) & U64_MAX


def align_down(x: int, alignment: int) -> int:
    """Apply the kernel's mask arithmetic: meaningless, but defined, when ``alignment`` is no power of two."""
    return x & ~(alignment - 1) & U64_MAX


def align_up(x: int, alignment: int) -> int:
    """Align up; wraps to 0 at the end of the address space, as in the kernel."""
    return align_down((x + alignment - 1) & U64_MAX, alignment)


# Scheduling: counted in samples, never in time (§2.1)


def samples_in(interval_us: int, sample_us: int) -> int:
    """Return the whole samples in an interval; a zero sampling interval counts as one microsecond."""
    return interval_us // (sample_us or 1)


def apply_us(apply_interval_us: int, aggr_us: int) -> int:
    """Return the interval at which a scheme is applied: 0 stands for the aggregation interval."""
    return apply_interval_us or aggr_us


def is_due(passed_samples: int, next_samples: int) -> bool:
    return passed_samples >= next_samples


# Sampling (§3.4, §3.5, §3.7)


def sample_offset(fractions: F64, sizes: F64) -> U64:
    """Return a byte offset in [0, size) for each region, from uniform fractions in [0, 1)."""
    return (fractions * sizes).astype(np.uint64)


def observed(hits: Bools) -> Bools:
    """Return what the access check reports of the accesses between prepare and check: all of them."""
    return hits


def check_window(prepared_ns: int, checked_ns: int) -> tuple[int, int]:
    """Return the time in which an access makes the check positive: from clearing the bit to reading it."""
    return prepared_ns, checked_ns


def in_bytes(addresses: U64, addr_unit: int) -> U64:
    """Return core addresses of physical memory as byte addresses."""
    return addresses if addr_unit == 1 else addresses * np.uint64(addr_unit)


def target_is_valid(exists: bool) -> bool:
    """A target is monitored while its process exists."""
    return exists


# Age and merging (§2.5), and the size limit of regions (§2.6)


def may_join(left_ends: U64, right_starts: U64) -> Bools:
    """Regions merge only when nothing is between them."""
    touching: Bools = left_ends == right_starts
    return touching


def merged_end(own_ends: U64, last_ends: U64) -> U64:
    """Return the ends of merged regions: each ends where the last one merged into it ended."""
    return last_ends


def may_stop_merging(nr_regions: int, max_nr_regions: int, threshold: int, window: int) -> bool:
    """Stop when there are few enough regions, or the largest threshold was tried."""
    return nr_regions <= max_nr_regions or threshold >= window


def merge_threshold(max_score: int) -> int:
    return max_score // 10


def next_merge_threshold(threshold: int, window: int) -> int:
    """Double it while there are too many regions; the last pass runs at exactly ``window``."""
    if threshold < window // 2:
        return max(1, 2 * threshold)
    return window


def next_merge_threshold_6_12(threshold: int, window: int) -> int:
    """6.12: only double it, so that the last pass may run above ``window``."""
    return max(1, 2 * threshold)


def next_age(age: I64, score: I64, last_score: I64, threshold: int) -> I64:
    """Grow (32 bits) while the score stays within the threshold and does not cross zero; else restart."""
    changed = (np.abs(score - last_score) > threshold) | ((score == 0) != (last_score == 0))
    return np.where(changed, 0, age + 1 & U32_MAX)


def next_age_ignoring_zero(age: I64, score: I64, last_score: I64, threshold: int) -> I64:
    """6.12: only the threshold counts."""
    return np.where(np.abs(score - last_score) > threshold, 0, age + 1 & U32_MAX)


def merged_value(left: Any, left_size: Any, right: Any, right_size: Any) -> Any:
    """Return a counter of a merged region: the mean weighted by size, truncated.

    For numbers, or uint64 arrays of one element a pair. The sum of products is 64 bits wide and wraps: an
    age of 2^20 in 16 TiB is enough.
    """
    return ((left * left_size + right * right_size) & U64_MAX) // (left_size + right_size)


def merge_size_limit(total_size: int, min_nr_regions: int, min_region_sz: int) -> int:
    """Return the size beyond which no region may grow by merging (before rounding)."""
    return max(total_size // max(min_nr_regions, 1), min_region_sz)


# The end of a window (§2.2, step 11), and splitting (§2.7)


def split_parts(nr_regions: int, last_nr_regions: int, max_nr_regions: int) -> int:
    """Return into how many parts every region is split: 3 when the last split changed nothing, 2, or 1."""
    if nr_regions > max_nr_regions // 2:
        return 1
    if last_nr_regions == nr_regions and nr_regions < max_nr_regions // 3:
        return 3
    return 2


def partial_split_step(nr_regions: int, max_nr_regions: int) -> int:
    """Return the step: near the limit only each step-th region is split; 0: no partial split."""
    if max_nr_regions // 2 < nr_regions < max_nr_regions:
        return max_nr_regions // (max_nr_regions - nr_regions)
    return 0


def no_partial_split(nr_regions: int, max_nr_regions: int) -> int:
    """7.2 and older: above half of the limit no region is split."""
    return 0


def split_size(tenths: U64, sizes: U64, min_region_sz: int) -> U64:
    """Return the size of the left part: some tenths of the region, aligned down. 0: cannot be split there."""
    mask = np.uint64(~(min_region_sz - 1) & U64_MAX)
    left: U64 = (tenths * sizes // np.uint64(10)) & mask
    return np.where(left >= sizes, np.uint64(0), left)


def can_split(sizes: U64, min_region_sz: int) -> Bools:
    """A full split needs strictly more than two minimum regions."""
    return sizes > np.uint64(2 * min_region_sz)


def can_split_partially(sizes: U64, min_region_sz: int) -> Bools:
    """A partial split needs two minimum regions."""
    return sizes >= np.uint64(2 * min_region_sz)


def reset_aggregated(regions: Any) -> None:
    """Begin a new aggregation window: the current counters become the last ones."""
    regions.last_nr_accesses = regions.nr_accesses
    regions.nr_accesses = np.zeros_like(regions.nr_accesses)
    regions.last_probe_hits = regions.probe_hits
    regions.probe_hits = np.zeros_like(regions.probe_hits)


def split_counters(regions: Any, is_right_part: Bools) -> None:
    """Set the counters of the parts, which are copies of the whole's: leave them as they are."""


# Access frequency as users and schemes see it (§2.9)


def moving_value(nr: I64, last: I64, bp: I64, left_samples: int, window: int) -> I64:
    """Compute on demand: the running counter plus the share of the last one that is still in the window."""
    left_bp = left_samples * BP // window
    if left_bp == BP:
        return last.copy()
    return nr + last * left_bp // BP


def moving_value_bp(nr: I64, last: I64, bp: I64, left_samples: int, window: int) -> I64:
    """6.7 to 7.2: return the incrementally kept value, in units of 1/10000."""
    return bp // BP


def step_bp(bp: I64, last: I64, window: int, accessed: Bools) -> I64:
    """6.7 to 7.2: move the kept sum by one check; 32-bit arithmetic that wraps."""
    moved: I64 = (bp - last * BP // max(window, 1) + np.where(accessed, BP, 0)) & U32_MAX
    return moved


# Weighted probes (§2.10)


def probe_weights(weights: Sequence[int]) -> tuple[int, ...]:
    """Return the weight of each probe in the sum that takes the place of nr_accesses."""
    return tuple(weights)


# Sleeping (§2.11) and pausing (§2.2, step 9)


def sleep_us(sample_us: int) -> int:
    """Return how long the kdamond sleeps between two samples, µs."""
    return sample_us


def sleeps_by_ticks(sample_us: int) -> bool:
    """Count sleeps of four ticks (HZ=250) and longer in ticks; they end when the thread is stopped."""
    return sample_us >= 16_000


def sleeps_by_ticks_6_12(sample_us: int) -> bool:
    """6.12: count only sleeps of more than 20 ms in ticks."""
    return sample_us > 20_000


def is_paused(pause: bool) -> bool:
    return pause


# Online change of intervals (§2.12)


def rescale_accesses(nr: I64, old_window: int, new_window: int) -> I64:
    """Convert a counter of a window of ``old_window`` samples to a window of ``new_window`` samples."""
    bp = (nr * BP // max(old_window, 1)) & U32_MAX
    return ((bp * max(new_window, 1)) & U32_MAX) // BP


def rescale_age(age: I64, old_aggr_us: int, new_aggr_us: int) -> I64:
    scaled = age.astype(np.uint64) * np.uint64(old_aggr_us) // np.uint64(new_aggr_us)
    return (scaled & np.uint64(U32_MAX)).astype(np.int64)


def committed_attrs(running: Any, requested: Any) -> Any:
    """Return the attributes that a commit installs (a ``DamonAttrs``): those requested."""
    return requested


# Automatic tuning of intervals (§2.8)


def tuning_score(max_events: int, events: int, access_bp: int) -> int:
    """Return the observed access events over the wanted share of all, in bp. 64 bits; products wrap."""
    target = max(((max_events & U64_MAX) * access_bp & U64_MAX) // BP, 1)
    return muldiv(events & U64_MAX, BP, target)


def tuning_adaptation(score: int) -> int:
    """Return the factor (bp) for the intervals: up to double when too little was seen, down to half else."""
    if score < BP:
        return 2 * BP - score
    if score == BP:
        return BP
    return BP // 2 + max(2 * BP - score, 0) // 2


def tuned_sample_us(sample_us: int, adaptation_bp: int, min_sample_us: int, max_sample_us: int) -> int:
    return max(min_sample_us, min(max_sample_us, sample_us * adaptation_bp // BP))


def tuned_left(left_samples: int, interval_samples: int, old_sample_us: int, new_sample_us: int) -> int:
    """Return the samples left, after tuning, until something is due that repeats every ``interval_samples``.

    Tuning changes no due time: the time that was left is left, in whole samples of the new length.
    """
    return left_samples * (old_sample_us or 1) // (new_sample_us or 1)


# Address spaces (§3.1, §3.3)


def three_ranges(vmas: Sequence[Range]) -> list[Range] | None:
    """Return the mapped span without its two largest gaps; None when there are fewer than two gaps.

    A later gap must be strictly larger to displace an earlier one.
    """
    first, second = (0, 0), (0, 0)
    for before, after in pairwise(vmas):
        gap = (before[1], after[0])
        if gap[1] - gap[0] > first[1] - first[0]:
            first, second = gap, first
        elif gap[1] - gap[0] > second[1] - second[0]:
            second = gap
    if first[1] == first[0] or second[1] == second[0]:
        return None
    low, high = sorted((first, second))
    bounds = [(vmas[0][0], low[0]), (low[1], high[0]), (high[1], vmas[-1][1])]
    return [(align_up(start, page_size()), align_up(end, page_size())) for start, end in bounds]


def committed_ranges(ranges: Sequence[Range]) -> list[Range]:
    """Join touching ranges of a commit, so that a region across the seam keeps its results."""
    return joined(ranges)


def intersects(starts: U64, ends: U64, start: int, end: int) -> Bools:
    """Return which regions share memory with the half-open range."""
    return (ends > np.uint64(start)) & (starts < np.uint64(end))
