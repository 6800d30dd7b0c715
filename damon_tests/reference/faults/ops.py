# SPDX-License-Identifier: GPL-2.0
"""Wrong behaviour of the operations sets."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np

from damon_tests.ports import page_size
from damon_tests.ports.arrays import U64, Bools
from damon_tests.reference.faults.fault import Fault
from damon_tests.reference.rules import monitoring as core


def _never(*_: object) -> bool:
    return False


def _exactly(passed: int, due: int) -> bool:
    # Historical: with an interval of zero samples the two never meet again.
    return passed == due


def _every_second(hits: Bools) -> Bools:
    half = hits.copy()
    half[1::2] = False
    return half


def _only_two_gaps_of(vmas: Any) -> Any:
    ranges = core.three_ranges(vmas)
    return None if ranges is None else [ranges[0], (ranges[1][0], ranges[2][1])]


def _one_span(vmas: Any) -> Any:
    return [(vmas[0][0], vmas[-1][1])] if vmas else None


def _without_the_last(vmas: Any) -> Any:
    ranges = core.three_ranges(vmas)
    return ranges and ranges[:2]


def _of_equal_gaps_the_highest(vmas: Any) -> Any:
    gaps = sorted(((b[0] - a[1], a[1], b[0]) for a, b in pairwise(vmas)), reverse=True)[:2]
    if len(gaps) < 2 or not gaps[1][0]:
        return None
    (_, low, low_end), (_, high, high_end) = sorted(gaps, key=lambda gap: gap[1])
    return [(vmas[0][0], low), (low_end, high), (high_end, vmas[-1][1])]


def _gap_sizes_of_32_bits(vmas: Any) -> Any:
    gaps = sorted(
        (((b[0] - a[1]) & 0xFFFF_FFFF, -a[1], b[0]) for a, b in pairwise(vmas)), key=lambda gap: gap[:2]
    )[-2:]
    if len(gaps) < 2 or not gaps[0][0]:
        return core.three_ranges(vmas)
    (_, low, low_end), (_, high, high_end) = sorted(gaps, key=lambda gap: -gap[1])
    return [(vmas[0][0], -low), (low_end, -high), (high_end, vmas[-1][1])]


def _mapping_between_adjacent_gaps_lost(vmas: Any) -> Any:
    ranges = core.three_ranges(vmas)
    if ranges is None or ranges[1] not in vmas:
        return ranges
    return [ranges[0], ranges[2]]


def _even_pages(fractions: Any, sizes: Any) -> U64:
    return core.sample_offset(fractions, sizes) & np.uint64(-2 * page_size() & (1 << 64) - 1)


def _mostly_first_half(fractions: Any, sizes: Any) -> U64:
    first = fractions < 0.6
    return core.sample_offset(np.where(first, fractions / 1.2, 0.5 + (fractions - 0.6) / 0.8), sizes)


def _never_the_last_page(fractions: Any, sizes: Any) -> U64:
    return core.sample_offset(fractions, np.where(sizes > page_size(), sizes - page_size(), sizes))


def _of_32_bits(fractions: Any, sizes: Any) -> U64:
    return core.sample_offset(fractions, np.minimum(sizes, float(1 << 32)))


def _one_for_all_regions(fractions: Any, sizes: Any) -> U64:
    return core.sample_offset(np.full_like(fractions, fractions[0] if len(fractions) else 0), sizes)


def _reused_offset(fractions: Any, sizes: Any) -> U64:
    return core.sample_offset(np.full_like(fractions, 0.5), sizes)


FAULTS = (
    Fault(
        "sample_first_page",
        "ops",
        "only the first page of a region is ever checked",
        "sample_offset",
        lambda fractions, sizes: np.zeros(len(sizes), np.uint64),
    ),
    Fault(
        "sample_first_half",
        "ops",
        "the second half of a region is never checked",
        "sample_offset",
        lambda fractions, sizes: core.sample_offset(fractions / 2, sizes),
    ),
    Fault(
        "sample_same_page",
        "ops",
        "a region is always checked at the same address",
        "sample_offset",
        _reused_offset,
    ),
    Fault("sample_even_pages", "ops", "pages of odd number are never checked", "sample_offset", _even_pages),
    Fault(
        "sample_prefers_first_half",
        "ops",
        "60 of 100 checks are in the first half of a region",
        "sample_offset",
        _mostly_first_half,
    ),
    Fault(
        "sample_never_last_page",
        "ops",
        "the last page of a region is never checked",
        "sample_offset",
        _never_the_last_page,
    ),
    Fault(
        "sample_32_bits",
        "ops",
        "a region is never checked beyond its first 4 GiB: random numbers have 32 bits",
        "sample_offset",
        _of_32_bits,
    ),
    Fault(
        "sample_shared_offset",
        "ops",
        "all regions are checked at the same place within them",
        "sample_offset",
        _one_for_all_regions,
    ),
    Fault("sample_misses", "ops", "every second region's accesses are missed", "observed", _every_second),
    Fault(
        "sample_reuses_result",
        "ops",
        "the neighbour's result is reused for another page (7.1 and older)",
        "observed",
        lambda hits: np.logical_or(hits, np.roll(hits, 1)),
    ),
    Fault(
        "accessed_bit_never_cleared",
        "ops",
        "once touched, memory reads as accessed forever",
        "check_window",
        lambda prepared, checked: (0, checked),
    ),
    Fault(
        "accessed_bit_cleared_late",
        "ops",
        "accesses in the first half of a sampling interval are lost",
        "check_window",
        lambda prepared, checked: ((prepared + checked) // 2, checked),
    ),
    Fault(
        "gaps_not_excluded",
        "ops",
        "the unmapped gaps between heap, mmap and stack are monitored",
        "three_ranges",
        _one_span,
    ),
    Fault(
        "second_gap_not_excluded",
        "ops",
        "only one of the two large gaps is left out",
        "three_ranges",
        _only_two_gaps_of,
    ),
    Fault(
        "highest_of_equal_gaps_left_out",
        "ops",
        "of equal gaps the highest ones are left out, not the lowest",
        "three_ranges",
        _of_equal_gaps_the_highest,
    ),
    Fault(
        "gap_sizes_of_32_bits",
        "ops",
        "gaps of 4 GiB and more are compared by their size modulo 4 GiB",
        "three_ranges",
        _gap_sizes_of_32_bits,
    ),
    Fault(
        "mapping_between_large_gaps_lost",
        "ops",
        "a single mapping between the two largest gaps is not monitored",
        "three_ranges",
        _mapping_between_adjacent_gaps_lost,
    ),
    Fault(
        "layout_of_first_target_only",
        "ops",
        "of several targets only the first one's mappings are read again",
        "updated_targets",
        lambda count: range(min(count, 1)),
    ),
    Fault(
        "layout_of_last_target_missed",
        "ops",
        "of several targets the last one's mappings are not read again",
        "updated_targets",
        lambda count: range(max(1, count - 1)),
    ),
    Fault(
        "addresses_seen_through_other_mappings",
        "ops",
        "vaddr and fvaddr show accesses through mappings of other processes",
        "through_other_mappings",
        True,
    ),
    Fault(
        "frames_seen_through_one_mapping",
        "ops",
        "paddr shows accesses through one mapping of a frame only",
        "through_all_mappings",
        False,
    ),
    Fault(
        "shared_memory_never_accessed",
        "ops",
        "vaddr and fvaddr skip pages that are mapped more than once",
        "of_shared_memory",
        False,
    ),
    Fault(
        "rare_accesses_missed",
        "ops",
        "accesses are lost in samples in which fewer than half of the regions have one",
        "observed",
        lambda hits: hits if 2 * int(hits.sum()) >= len(hits) else np.zeros_like(hits),
    ),
    Fault("stack_not_monitored", "ops", "the third range is lost", "three_ranges", _without_the_last),
    Fault("layout_never_updated", "ops", "mappings made later are never monitored", "update_is_due", _never),
    Fault(
        "layout_updated_a_fifth_later",
        "ops",
        "mappings are read a fifth later than update_us asks",
        "update_is_due",
        lambda passed, due: passed >= due * 6 // 5,
    ),
    Fault(
        "layout_updated_a_fifth_sooner",
        "ops",
        "mappings are read a fifth sooner than update_us asks",
        "update_is_due",
        lambda passed, due: passed >= due * 4 // 5,
    ),
    Fault(
        "zero_interval_hangs",
        "ops",
        "an update interval of 0 never comes due again (fixed in 6.13)",
        "update_is_due",
        _exactly,
    ),
    Fault(
        "layout_change_loses_counters",
        "ops",
        "following the layout forgets all results",
        "intersects",
        lambda starts, ends, start, end: np.zeros(len(starts), np.bool_),
    ),
    Fault(
        "dead_target_kept",
        "ops",
        "the kdamond outlives its last target",
        "target_is_valid",
        lambda exists: True,
    ),
    Fault(
        "addr_unit_ignored",
        "ops",
        "core addresses are used as byte addresses",
        "in_bytes",
        lambda addresses, unit: addresses,
    ),
)
