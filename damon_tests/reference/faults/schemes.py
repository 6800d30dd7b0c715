# SPDX-License-Identifier: GPL-2.0
"""Wrong behaviour of schemes, quotas, goals, filters, watermarks and statistics."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from damon_tests.ports.arrays import I64
from damon_tests.reference.faults.catalogue import Fault
from damon_tests.reference.rules import schemes as damos


def _exclusive_maximum(bounds: Sequence[tuple[int, int]], *values: Any) -> Any:
    return damos.pattern_matches([(low, max(high, 1) - 1) for low, high in bounds], *values)


def _size_only(bounds: Sequence[tuple[int, int]], size: Any, nr_accesses: Any, age: Any) -> Any:
    return (size >= bounds[0][0]) & (size <= bounds[0][1])


def _ageless(bounds: Sequence[tuple[int, int]], size: Any, nr_accesses: Any, age: Any) -> Any:
    return damos.pattern_matches((bounds[0], bounds[1], (0, 1 << 32)), size, nr_accesses, age)


def _young_scores(value: I64, window: int, age: I64, aggr_us: int, by_nr: int, by_age: int) -> I64:
    return damos.hot_score(value, window, age * 0, aggr_us, by_nr, by_age)


def _from_the_bottom(histogram: Sequence[int], effective_size: int) -> int:
    return min((score for score, size in enumerate(histogram) if size), default=0)


def _applied_only(stats: Any, count: int, size: int, applied: int, passed: int) -> None:
    damos.account(stats, count, applied, applied, passed)


def _applied_always(stats: Any, count: int, size: int, applied: int, passed: int) -> None:
    damos.account(stats, count, size, size, passed)


def _passed_forgotten(stats: Any, count: int, size: int, applied: int, passed: int) -> None:
    damos.account(stats, count, size, applied, 0)


def _kept_part(start: int, end: int, at: int, min_region_sz: int) -> int:
    # The straddling region is tried again from its start.
    skipped = damos.skipped_size(start, end, at, min_region_sz)
    return skipped if skipped == end - start else 0


def _least_achieved(achievements: Sequence[tuple[int, int]]) -> int:
    return min((current * 10_000 // target for current, target in achievements), default=0)


def _impatient(bp: int, score: int, size: int) -> int:
    return damos.feedback(max(bp, 10_000), score) if score >= 10_000 else max(bp, 10_000) * 4


def _hungry(bp: int, score: int, size: int) -> int:
    return max(bp, 10_000) if score >= 10_000 else damos.consist_tuner(bp, score, size)


def _inverted_temporal(bp: int, score: int, size: int) -> int:
    return damos.temporal_tuner(bp, 0 if score >= 10_000 else 10_000, size)


def _forgetful_watermark(value: int, high: int, mid: int, low: int, active: bool) -> bool:
    return low <= value < mid


FAULTS = (
    Fault(
        "pattern_maximum_exclusive",
        "schemes",
        "regions at an upper bound do not match",
        "pattern_matches",
        _exclusive_maximum,
    ),
    Fault(
        "pattern_size_only",
        "schemes",
        "access frequency and age of the pattern are ignored",
        "pattern_matches",
        _size_only,
    ),
    Fault(
        "pattern_ignores_age",
        "schemes",
        "young regions match although min age says otherwise",
        "pattern_matches",
        _ageless,
    ),
    Fault(
        "age_survives_actions",
        "schemes",
        "an action does not reset the age: regions are acted on again at once",
        "age_after_action",
        lambda action, age, applied: age,
    ),
    Fault(
        "stat_resets_age",
        "schemes",
        "watching with stat changes what is watched",
        "age_after_action",
        lambda action, age, applied: 0,
    ),
    Fault(
        "snapshots_one_too_many",
        "schemes",
        "max_nr_snapshots allows one pass more",
        "snapshot_limit_reached",
        lambda nr, limit: limit != 0 and nr > limit,
    ),
    Fault(
        "snapshots_unlimited",
        "schemes",
        "max_nr_snapshots is ignored",
        "snapshot_limit_reached",
        lambda nr, limit: False,
    ),
    Fault(
        "schemes_never_merge_back",
        "schemes",
        "regions that quotas split stay split (6.12)",
        "remerge_after_apply",
        False,
    ),
    Fault(
        "schemes_late",
        "schemes",
        "a scheme is applied one sample late",
        "scheme_is_due",
        lambda passed, due: passed > due,
    ),
    Fault(
        "schemes_at_every_sample",
        "schemes",
        "the apply interval is ignored",
        "scheme_is_due",
        lambda passed, due: True,
    ),
    Fault(
        "commit_resets_schemes",
        "schemes",
        "a commit forgets statistics and charges of schemes",
        "committed_scheme",
        lambda running, fresh: fresh,
    ),
    Fault(
        "madvise_failure_counts",
        "schemes",
        "a range with holes counts as applied",
        "madvise_applied",
        lambda size, failed: size,
    ),
    Fault(
        "vaddr_never_migrates",
        "schemes",
        "migrate actions do nothing on vaddr (6.16 and older)",
        "vaddr_migrates",
        False,
    ),
    Fault(
        "lru_prio_half_done",
        "schemes",
        "lru_prio only marks pages accessed (6.19 and older)",
        "lru_prio_in_one_step",
        False,
    ),
    Fault("hot_and_cold_swapped", "quotas", "cold actions prefer hot memory", "cold_score", lambda hot: hot),
    Fault(
        "priority_ignores_age",
        "quotas",
        "old and young regions have the same priority",
        "hot_score",
        _young_scores,
    ),
    Fault(
        "min_score_too_low",
        "quotas",
        "priorities do not matter: the walk's order decides",
        "min_score",
        _from_the_bottom,
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
        "quota_not_cut",
        "quotas",
        "a region larger than what is left is taken whole",
        "quota_cut",
        lambda *_: None,
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
        "quota_carried_over",
        "quotas",
        "a new window starts with the old one's charges",
        "charge_at_window_start",
        lambda charged: charged // 2,
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
        "qt_exceeds_every_window",
        "stats",
        "qt_exceeds counts windows that did not exceed",
        "window_exceeded",
        lambda full: True,
    ),
    Fault("qt_exceeds_never", "stats", "qt_exceeds stays 0", "window_exceeded", lambda full: False),
    Fault("goal_least_achieved", "goals", "the least achieved goal decides", "goal_score", _least_achieved),
    Fault(
        "goal_first_only",
        "goals",
        "only the first goal counts",
        "goal_score",
        lambda achievements: damos.goal_score(achievements[:1]),
    ),
    Fault(
        "tuner_grows_too_fast", "goals", "the quota grows by four in each window", "consist_tuner", _impatient
    ),
    Fault(
        "tuner_never_shrinks",
        "goals",
        "an overachieved goal does not reduce the quota",
        "consist_tuner",
        _hungry,
    ),
    Fault(
        "temporal_inverted",
        "goals",
        "the temporal tuner works when the goal is achieved",
        "temporal_tuner",
        _inverted_temporal,
    ),
    Fault(
        "first_pressure_counts",
        "goals",
        "the first reading of memory pressure is the total since boot",
        "first_pressure_is_neutral",
        False,
    ),
    Fault(
        "filter_matching_ignored",
        "filters",
        "matching N behaves as Y",
        "filter_verdict",
        lambda hit, matching, allow: allow if hit else None,
    ),
    Fault(
        "filter_allow_ignored",
        "filters",
        "allow filters reject (no allow before 6.14)",
        "filter_verdict",
        lambda hit, matching, allow: False if hit == matching else None,
    ),
    Fault(
        "filter_core_default_allow",
        "filters",
        "what no core filter matches is allowed",
        "core_default_reject",
        lambda allows_last, has_ops: False,
    ),
    Fault(
        "filter_core_default_reject",
        "filters",
        "core filters reject before page filters are asked",
        "core_default_reject",
        lambda allows_last, has_ops: allows_last,
    ),
    Fault(
        "filter_ops_default_allow",
        "filters",
        "what no page filter matches is allowed",
        "ops_default_reject",
        lambda allows_last: False,
    ),
    Fault(
        "filter_core_allow_not_final",
        "filters",
        "page filters are asked although a core filter allowed",
        "core_allow_is_final",
        False,
    ),
    Fault(
        "watermark_without_memory",
        "watermarks",
        "between mid and high an active scheme stops",
        "watermark_active",
        _forgetful_watermark,
    ),
    Fault(
        "watermark_low_ignored",
        "watermarks",
        "schemes go on below the low watermark",
        "watermark_active",
        lambda value, high, mid, low, active: damos.watermark_active(value, high, mid, 0, active),
    ),
    Fault(
        "watermarks_ignored",
        "watermarks",
        "schemes are always active",
        "watermark_active",
        lambda value, high, mid, low, active: True,
    ),
    Fault(
        "watermark_one_stops_all",
        "watermarks",
        "one inactive scheme stops monitoring",
        "watermark_wait_us",
        max,
    ),
    Fault(
        "stats_tried_is_applied", "stats", "sz_tried counts what was applied only", "account", _applied_only
    ),
    Fault("stats_applied_is_tried", "stats", "sz_applied counts what was tried", "account", _applied_always),
    Fault("stats_passed_lost", "stats", "sz_ops_filter_passed stays 0", "account", _passed_forgotten),
)
