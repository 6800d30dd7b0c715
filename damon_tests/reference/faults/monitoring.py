# SPDX-License-Identifier: GPL-2.0
"""Wrong behaviour of the monitoring core."""

from __future__ import annotations

from typing import Any

import numpy as np

from damon_tests.ports.arrays import U64, Bools
from damon_tests.reference.faults.fault import Fault
from damon_tests.reference.rules import monitoring as core


def _never(*_: object) -> bool:
    return False


def _late(passed: int, due: int) -> bool:
    return passed > due


def _halved_tuning(score: int) -> int:
    return core.BP if score == core.BP else core.BP // 2


def _inverted_tuning(score: int) -> int:
    return core.tuning_adaptation(max(2 * core.BP - score, 0))


def _untruncated_samples(interval_us: int, sample_us: int) -> int:
    return -(-interval_us // (sample_us or 1))


def _aligned_half(tenths: U64, sizes: U64, min_region_sz: int) -> U64:
    return core.split_size(np.full_like(tenths, 5), sizes, min_region_sz)


def _unaligned(tenths: U64, sizes: U64, min_region_sz: int) -> U64:
    return core.split_size(tenths, sizes, 1)


def _first_tenth(tenths: U64, sizes: U64, min_region_sz: int) -> U64:
    return core.split_size(np.ones_like(tenths), sizes, min_region_sz)


def _up_to_half(tenths: U64, sizes: U64, min_region_sz: int) -> U64:
    return core.split_size((tenths + np.uint64(1)) // np.uint64(2), sizes, min_region_sz)


def _right_parts_start_anew(regions: Any, is_right: Bools) -> None:
    regions.age[is_right] = 0


def _right_parts_forget(regions: Any, is_right: Bools) -> None:
    regions.last_nr_accesses[is_right] = 0


def _keeps_counting(regions: Any) -> None:
    regions.last_nr_accesses = regions.nr_accesses.copy()


def _forgets_last(regions: Any) -> None:
    core.reset_aggregated(regions)
    regions.last_nr_accesses = np.zeros_like(regions.last_nr_accesses)


FAULTS = (
    Fault(
        "sampling_a_fifth_slower",
        "core",
        "a kdamond sleeps a fifth longer than sample_us asks",
        "sleep_us",
        lambda sample_us: sample_us * 6 // 5,
    ),
    Fault(
        "sampling_a_fifth_faster",
        "core",
        "a kdamond sleeps a fifth shorter than sample_us asks",
        "sleep_us",
        lambda sample_us: sample_us * 4 // 5,
    ),
    Fault(
        "sampling_half_as_often",
        "core",
        "a kdamond sleeps twice as long as sample_us asks",
        "sleep_us",
        lambda sample_us: 2 * sample_us,
    ),
    Fault(
        "weights_first_probe_only",
        "core",
        "only the first probe's hits are weighed, not the sum of all",
        "probe_weights",
        lambda weights: (*weights[:1], *(0 for _ in weights[1:])),
    ),
    Fault(
        "aggregation_never",
        "core",
        "no aggregation ever comes due: DAMON samples, and reports nothing",
        "aggregation_is_due",
        lambda passed, due: False,
    ),
    Fault(
        "age_never_reset",
        "core",
        "a region that changed keeps its age",
        "next_age",
        lambda age, score, last, threshold: age + 1,
    ),
    Fault(
        "age_always_reset",
        "core",
        "ages stay 0: nothing ever becomes old",
        "next_age",
        lambda age, score, last, threshold: age * 0,
    ),
    Fault(
        "age_ignores_zero",
        "core",
        "idle memory that wakes up a little keeps its age (6.12)",
        "next_age",
        core.next_age_ignoring_zero,
    ),
    Fault(
        "age_counted_twice",
        "core",
        "age grows by more than 1 in an aggregation (once per merge pass, 6.12)",
        "next_age",
        lambda age, score, last, threshold: np.where(core.next_age(age, score, last, threshold), age + 2, 0),
    ),
    Fault(
        "merge_drops_bytes",
        "core",
        "a merged region ends where its left part ended: memory vanishes",
        "merged_end",
        lambda own, last: own,
    ),
    Fault(
        "merge_over_gaps",
        "core",
        "regions merge over unmapped memory between them",
        "may_join",
        lambda ends, starts: np.ones(len(ends), np.bool_),
    ),
    Fault(
        "merge_unweighted",
        "core",
        "nr_accesses of merged regions ignores their sizes",
        "merged_accesses",
        lambda left, left_size, right, right_size: (left + right) // 2,
    ),
    Fault(
        "merge_keeps_left",
        "core",
        "the right region's accesses are lost in merging",
        "merged_accesses",
        lambda left, left_size, right, right_size: left,
    ),
    Fault(
        "merge_adds",
        "core",
        "merging adds up nr_accesses: more than samples exist",
        "merged_accesses",
        lambda left, left_size, right, right_size: left + right,
    ),
    Fault(
        "merge_age_oldest",
        "core",
        "a merged region has the age of its older part",
        "merged_age",
        lambda left, left_size, right, right_size: np.maximum(left, right),
    ),
    Fault(
        "merge_age_unweighted",
        "core",
        "the age of a merged region is the mean of its parts, whatever their sizes",
        "merged_age",
        lambda left, left_size, right, right_size: (left + right) // 2,
    ),
    Fault(
        "merge_threshold_half",
        "core",
        "regions that differ by half of the maximum are merged",
        "merge_threshold",
        lambda max_score: max_score // 2,
    ),
    Fault(
        "merge_unlimited",
        "core",
        "min_nr_regions is ignored: everything may merge into one region",
        "merge_size_limit",
        lambda total, minimum, m: total,
    ),
    Fault(
        "merge_gives_up",
        "core",
        "max_nr_regions is exceeded after an online decrease (fixed in 6.11)",
        "may_stop_merging",
        lambda nr, maximum, threshold, window: True,
    ),
    Fault(
        "merge_threshold_explodes",
        "core",
        "raising the threshold jumps to the maximum: all detail is lost",
        "next_merge_threshold",
        lambda threshold, window: 1 << 30,
    ),
    Fault(
        "min_regions_soft",
        "core",
        "min_nr_regions is not enforced by splitting (7.0 and older)",
        "strict_min_regions",
        False,
    ),
    Fault(
        "split_never",
        "core",
        "regions are never split: boundaries freeze",
        "split_parts",
        lambda nr, last, maximum: 1,
    ),
    Fault(
        "split_never_near_limit",
        "core",
        "no refinement above half of max_nr_regions (fixed in 7.3)",
        "partial_split_step",
        core.no_partial_split,
    ),
    Fault(
        "split_beyond_limit",
        "core",
        "splitting takes no notice of max_nr_regions",
        "split_parts",
        lambda nr, last, maximum: 2,
    ),
    Fault(
        "split_always_in_three",
        "core",
        "three-way splits although two-way ones still help",
        "split_parts",
        lambda nr, last, maximum: 3 if nr <= maximum // 2 else 1,
    ),
    Fault(
        "split_not_random",
        "core",
        "every region is cut in its middle: some boundaries are never tried",
        "split_size",
        _aligned_half,
    ),
    Fault(
        "split_at_first_tenth",
        "core",
        "the random number of a split is always the same",
        "split_size",
        _first_tenth,
    ),
    Fault(
        "split_only_in_first_half",
        "core",
        "regions are cut at 10 to 50 % of their size, never beyond",
        "split_size",
        _up_to_half,
    ),
    Fault("split_unaligned", "core", "region boundaries inside of pages", "split_size", _unaligned),
    Fault(
        "split_resets_age",
        "core",
        "splitting makes the right part new",
        "split_counters",
        _right_parts_start_anew,
    ),
    Fault(
        "split_forgets_last",
        "core",
        "split copies only some counters (fixed in 6.12)",
        "split_counters",
        _right_parts_forget,
    ),
    Fault(
        "window_never_reset",
        "core",
        "nr_accesses goes on over aggregations",
        "reset_aggregated",
        _keeps_counting,
    ),
    Fault(
        "window_forgets_last",
        "core",
        "the last aggregation's counter is lost",
        "reset_aggregated",
        _forgets_last,
    ),
    Fault(
        "aggregation_late",
        "core",
        "aggregations come one sample late: nr_accesses above the maximum",
        "aggregation_is_due",
        _late,
    ),
    Fault(
        "aggregation_a_fifth_longer",
        "core",
        "an aggregation has a fifth more samples than aggr_us asks",
        "aggregation_is_due",
        lambda passed, due: passed >= due * 6 // 5,
    ),
    Fault(
        "aggregation_a_fifth_shorter",
        "core",
        "an aggregation has a fifth fewer samples than aggr_us asks",
        "aggregation_is_due",
        lambda passed, due: passed >= due * 4 // 5,
    ),
    Fault(
        "aggregation_rounds_up",
        "core",
        "intervals that do not divide are rounded up",
        "samples_in",
        _untruncated_samples,
    ),
    Fault(
        "moving_value_raw",
        "core",
        "users see the half-counted running window",
        "access_value",
        lambda nr, last, bp, left, window: nr,
    ),
    Fault(
        "moving_value_last",
        "core",
        "users see the last aggregation only",
        "access_value",
        lambda nr, last, bp, left, window: last.copy(),
    ),
    Fault(
        "moving_value_sum",
        "core",
        "the whole last window is added to the running one",
        "access_value",
        lambda nr, last, bp, left, window: nr + last if left else nr,
    ),
    Fault(
        "rescale_none",
        "core",
        "counters keep their old scale after an online change of intervals",
        "rescale_accesses",
        lambda nr, old, new: nr,
    ),
    Fault(
        "rescale_age_none",
        "core",
        "ages keep counting old aggregations after an online change",
        "rescale_age",
        lambda age, old, new: age,
    ),
    Fault(
        "rescale_age_inverse",
        "core",
        "ages are rescaled the wrong way round after an online change",
        "rescale_age",
        lambda age, old, new: core.rescale_age(age, new, old),
    ),
    Fault(
        "commit_restarts_window",
        "core",
        "a commit of nothing restarts the aggregation (6.12 to 6.17)",
        "equal_attrs_keep_window",
        False,
    ),
    Fault(
        "commit_splits_at_seams",
        "core",
        "a commit of touching ranges loses results of regions across their seam (7.2 and older)",
        "committed_ranges",
        list,
    ),
    Fault(
        "tuning_inverted",
        "core",
        "intervals shrink when too little is seen",
        "tuning_adaptation",
        _inverted_tuning,
    ),
    Fault(
        "tuning_only_shrinks",
        "core",
        "tuned intervals collapse to the minimum",
        "tuning_adaptation",
        _halved_tuning,
    ),
    Fault(
        "tuning_unbounded",
        "core",
        "tuning leaves min_sample_us and max_sample_us",
        "tuned_sample_us",
        lambda sample, bp, low, high: max(sample * bp // core.BP, low // 4),
    ),
    Fault(
        "tuning_restarts_apply_intervals",
        "core",
        "each tuning puts off schemes by their whole apply interval, so that long ones never come due",
        "tuned_apply_left",
        lambda left, interval, old_us, new_us: interval,
    ),
    Fault(
        "tuning_applies_at_once",
        "core",
        "each tuning applies all schemes, whatever is left of their apply interval",
        "tuned_apply_left",
        lambda left, interval, old_us, new_us: 0,
    ),
    Fault(
        "tuning_restarts_updates",
        "core",
        "each tuning puts off the update of mappings by a whole interval, so that they are never read again",
        "tuned_update_left",
        lambda left, interval, old_us, new_us: interval,
    ),
    Fault("pause_ignored", "core", "monitoring goes on while paused", "is_paused", _never),
)
