# SPDX-License-Identifier: GPL-2.0
"""Wrong quotas: priorities, charges, charge windows, continuation, time quotas."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from damon_tests.ports.arrays import I64
from damon_tests.reference.faults.fault import Fault
from damon_tests.reference.rules import schemes as damos


def _young_scores(value: I64, window: int, age: I64, aggr_us: int, by_nr: int, by_age: int) -> I64:
    return damos.hot_score(value, window, age * 0, aggr_us, by_nr, by_age)


def _from_the_bottom(histogram: Sequence[int], effective_size: int) -> int:
    return min((score for score, size in enumerate(histogram) if size), default=0)


def _kept_part(start: int, end: int, at: int, min_region_sz: int) -> int:
    # The straddling region is tried again from its start.
    skipped = damos.skipped_size(start, end, at, min_region_sz)
    return skipped if skipped == end - start else 0


def _rateless_scores(value: I64, window: int, age: I64, aggr_us: int, by_nr: int, by_age: int) -> I64:
    return damos.hot_score(value * 0, window, age, aggr_us, by_nr, by_age)


def _equal_weights(value: I64, window: int, age: I64, aggr_us: int, by_nr: int, by_age: int) -> I64:
    return damos.hot_score(value, window, age, aggr_us, 1, 1)


def _renewed(running: Any, fresh: Any) -> Any:
    running.quota.charged_sz = 0
    return running


_FIRST_TICK = (1 << 32) - 300 * 250
"""Where kernels begin to count ticks of 4 ms: five minutes before 2^32."""


def _passed_in_32_bits(now_jiffies: int, charged_from: int, reset_ms: int) -> bool:
    now, end = _FIRST_TICK + now_jiffies, _FIRST_TICK + charged_from + -(-reset_ms // 4)
    return now % (1 << 32) >= end % (1 << 32)


def _halves(is_set: bool, charged: int, effective_size: int, size: int, m: int) -> int | None:
    part = damos.quota_cut(is_set, charged, effective_size, size, m)
    return max(size // 2 // m * m, m) if part is None and is_set and size > m else part


FAULTS = (
    Fault(
        "commit_renews_quota",
        "quotas",
        "a commit gives the running window its quota again (7.0 to 7.2)",
        "committed_scheme",
        _renewed,
    ),
    Fault(
        "removed_quota_stays",
        "quotas",
        "a quota that a commit removed keeps its effective size and its last window (6.16 to 7.0)",
        "window_needs_turn",
        lambda is_set, requested: requested,
    ),
    Fault(
        "continuation_in_a_removed_target",
        "quotas",
        "the next window is to go on in a target that a commit removed (6.16 and older)",
        "removed_target_is_forgotten",
        False,
    ),
    Fault(
        "priority_of_the_running_counter",
        "quotas",
        "priorities take nr_accesses as counted since the last reset (6.12)",
        "priority_value",
        lambda value, nr_accesses: nr_accesses,
    ),
    Fault(
        "priority_ignores_age",
        "quotas",
        "old and young regions have the same priority",
        "hot_score",
        _young_scores,
    ),
    Fault(
        "priority_ignores_rate",
        "quotas",
        "hot and cold regions have the same priority",
        "hot_score",
        _rateless_scores,
    ),
    Fault("priority_ignores_weights", "quotas", "the weights have no effect", "hot_score", _equal_weights),
    Fault("hot_and_cold_swapped", "quotas", "cold actions prefer hot memory", "cold_score", lambda hot: hot),
    Fault(
        "min_score_too_low",
        "quotas",
        "priorities do not matter: the walk's order decides",
        "min_score",
        _from_the_bottom,
    ),
    Fault(
        "min_score_too_high",
        "quotas",
        "only the highest score gets quota",
        "min_score",
        lambda histogram, size: max((s for s, n in enumerate(histogram) if n), default=0),
    ),
    Fault(
        "min_score_counts_filtered",
        "quotas",
        "memory that core filters reject uses up priorities (7.0 and older)",
        "histogram_asks_core_filters",
        False,
    ),
    Fault(
        "quota_zero_is_unlimited",
        "quotas",
        "an effective quota of 0 means no limit (7.0 and older)",
        "quota_is_full",
        damos.quota_is_full_7_0,
    ),
    Fault(
        "quota_rest_is_tried",
        "quotas",
        "less than a page of quota left produces tries of size 0 (7.1)",
        "quota_is_full",
        damos.quota_is_full_7_1,
    ),
    Fault(
        "quota_not_cut",
        "quotas",
        "a region larger than what is left is taken whole",
        "quota_cut",
        lambda *_: None,
    ),
    Fault(
        "quota_cut_rounded_up",
        "quotas",
        "the last region of a window is a page too large",
        "quota_cut",
        lambda is_set, charged, size, region, m: (
            None
            if (part := damos.quota_cut(is_set, charged, size, region, m)) is None or part + m >= region
            else part + m
        ),
    ),
    Fault(
        "quota_charged_twice",
        "quotas",
        "each region costs double",
        "charged_size",
        lambda size, applied, num, denom: 2 * damos.charged_size(size, applied, num, denom),
    ),
    Fault(
        "quota_never_charged",
        "quotas",
        "the quota never runs out",
        "charged_size",
        lambda size, applied, num, denom: 0,
    ),
    Fault(
        "quota_charges_applied",
        "quotas",
        "failed actions are free: the quota does not bound the work",
        "charged_size",
        lambda size, applied, num, denom: applied,
    ),
    Fault(
        "quota_fail_ratio_ignored",
        "quotas",
        "fail_charge_num and _denom have no effect",
        "charged_size",
        lambda size, applied, num, denom: size,
    ),
    Fault(
        "quota_success_is_cheap",
        "quotas",
        "the ratio of fail_charge_num and _denom is for successes, too",
        "charged_size",
        lambda size, applied, num, denom: size * num // denom if denom else size,
    ),
    Fault(
        "quota_carried_over",
        "quotas",
        "a new window starts with the old one's charges",
        "charge_at_window_start",
        lambda charged: charged // 2,
    ),
    Fault(
        "quota_window_never_ends",
        "quotas",
        "the quota is for the life of the scheme",
        "window_has_passed",
        lambda now, then, ms: False,
    ),
    Fault(
        "quota_window_always_ends",
        "quotas",
        "the reset interval is ignored",
        "window_has_passed",
        lambda now, then, ms: True,
    ),
    Fault(
        "quota_window_too_long",
        "quotas",
        "a window lasts two reset intervals",
        "window_has_passed",
        lambda now, then, ms: damos.window_has_passed(now, then, 2 * ms),
    ),
    Fault(
        "quota_window_too_short",
        "quotas",
        "a window lasts four fifths of the reset interval",
        "window_has_passed",
        lambda now, then, ms: damos.window_has_passed(now, then, ms * 4 // 5),
    ),
    Fault(
        "quota_cuts_every_region",
        "quotas",
        "a scheme with a quota cuts each region that it visits in halves, however much quota is left",
        "quota_cut",
        _halves,
    ),
    Fault(
        "quota_window_at_times_early",
        "quotas",
        "a window that began at every third tick is 80 ms too short",
        "window_has_passed",
        lambda now, then, ms: damos.window_has_passed(now, then, ms - 80 * (ms > 80 and then % 3 == 0)),
    ),
    Fault(
        "quota_window_ends_before_ticks_wrap",
        "quotas",
        "a window's end is compared in 32 bits: one that ends after the ticks wrapped is over before",
        "window_has_passed",
        _passed_in_32_bits,
    ),
    Fault(
        "quota_window_a_fifth_longer",
        "quotas",
        "a window lasts six fifths of the reset interval",
        "window_has_passed",
        lambda now, then, ms: damos.window_has_passed(now, then, ms * 6 // 5),
    ),
    Fault(
        "first_window_unlimited",
        "quotas",
        "the first window has no quota (6.17 and older)",
        "first_window_size",
        lambda size: (1 << 64) - 1,
    ),
    Fault(
        "time_quota_ignored",
        "quotas",
        "the time quota has no effect",
        "time_quota_size",
        lambda ms, total, ns, m: (1 << 64) - 1,
    ),
    Fault(
        "time_quota_may_be_zero",
        "quotas",
        "a small time quota becomes an effective size of 0 (7.0 and older)",
        "time_quota_size",
        lambda ms, total, ns, m: damos.time_quota_size(ms, total, ns, 0) // 1_000_000,
    ),
    Fault(
        "time_quota_doubled",
        "quotas",
        "the time quota allows twice the time",
        "time_quota_size",
        lambda ms, total, ns, m: damos.time_quota_size(2 * ms, total, ns, m),
    ),
    Fault(
        "time_quota_never_learns",
        "quotas",
        "the throughput that was seen is ignored",
        "time_quota_size",
        lambda ms, total, ns, m: damos.time_quota_size(ms, 0, 0, m),
    ),
    Fault(
        "continuation_forgotten",
        "quotas",
        "each window starts at the first region again",
        "skipped_size",
        lambda start, end, at, m: 0,
    ),
    Fault(
        "continuation_repeats",
        "quotas",
        "memory at the continuation point is charged twice",
        "skipped_size",
        _kept_part,
    ),
    Fault(
        "continuation_skips_a_page",
        "quotas",
        "a window leaves out the first page behind the last one (7.1 and older)",
        "skipped_size",
        lambda start, end, at, m: damos.skipped_size(start, end, at + 1, m),
    ),
)
