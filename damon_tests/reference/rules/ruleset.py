# SPDX-License-Identifier: GPL-2.0
"""``Rules``: every decision of DAMON in which kernel series differ, or which a fault gets wrong.

A level is a ``Rules`` (see ``levels``); a fault is ``dataclasses.replace(rules, one_rule=wrong)``. The
engine asks its rules and never knows which it has.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any

from damon_tests.ports.arrays import F64, I64, U64, Bools
from damon_tests.ports.ranges import Range
from damon_tests.reference.rules import filters, modules, tree
from damon_tests.reference.rules import monitoring as core
from damon_tests.reference.rules import schemes as damos

STATE_COMMANDS = frozenset(
    (
        "on",
        "off",
        "commit",
        "commit_schemes_quota_goals",
        "update_schemes_stats",
        "update_schemes_tried_bytes",
        "update_schemes_tried_regions",
        "clear_schemes_tried_regions",
        "update_schemes_effective_quotas",
        "update_tuned_intervals",
    )
)


@dataclass(frozen=True)
class Rules:
    """Defaults are DAMON 7.3's. The default functions document arguments and units."""

    # names of files, directories and tracepoints that are missing although the series has them
    hidden: frozenset[str] = frozenset()

    # scheduling (specification §2.1)
    samples_in: Callable[[int, int], int] = core.samples_in
    aggregation_is_due: Callable[[int, int], bool] = core.is_due
    update_is_due: Callable[[int, int], bool] = core.is_due
    scheme_is_due: Callable[[int, int], bool] = core.is_due
    apply_us: Callable[[int, int], int] = core.apply_us

    # sampling (§3.4, §3.5, §3.7)
    in_bytes: Callable[[U64, int], U64] = core.in_bytes
    target_is_valid: Callable[[bool], bool] = core.target_is_valid
    sample_offset: Callable[[F64, F64], U64] = core.sample_offset
    observed: Callable[[Bools], Bools] = core.observed
    through_other_mappings: bool = False  # accesses of addresses: seen through mappings of others, too
    through_all_mappings: bool = True  # accesses of frames
    of_shared_memory: bool = True  # accesses of addresses whose pages have other mappings, too
    check_window: Callable[[int, int], tuple[int, int]] = core.check_window

    # age and merging (§2.5, §2.6)
    merge_threshold: Callable[[int], int] = core.merge_threshold
    next_merge_threshold: Callable[[int, int], int] = core.next_merge_threshold
    next_age: Callable[[I64, I64, I64, int], I64] = core.next_age
    may_join: Callable[[U64, U64], Bools] = core.may_join
    merged_end: Callable[[U64, U64], U64] = core.merged_end
    may_stop_merging: Callable[[int, int, int, int], bool] = core.may_stop_merging
    merged_accesses: Callable[[Any, Any, Any, Any], Any] = core.merged_value
    merged_age: Callable[[Any, Any, Any, Any], Any] = core.merged_value
    merge_size_limit: Callable[[int, int, int], int] = core.merge_size_limit
    # 7.1: regions above the limit are cut at start and after each merge; before, only
    # vaddr's first layout is divided, and the limit is computed at ops updates only.
    strict_min_regions: bool = True

    # splitting (§2.7)
    split_parts: Callable[[int, int, int], int] = core.split_parts
    partial_split_step: Callable[[int, int], int] = core.partial_split_step
    split_size: Callable[[U64, U64, int], U64] = core.split_size
    split_history_always: bool = True  # 7.3; before, the count is remembered by full splits only
    split_counters: Callable[[Any, Bools], None] = core.split_counters
    reset_aggregated: Callable[[Any], None] = core.reset_aggregated

    # access frequency for users and schemes (§2.9)
    access_value: Callable[[I64, I64, I64, int, int], I64] = core.moving_value
    step_bp: Callable[[I64, I64, int, Bools], I64] | None = None

    # online change of intervals (§2.12)
    rescale_accesses: Callable[[I64, int, int], I64] = core.rescale_accesses
    rescale_age: Callable[[I64, int, int], I64] = core.rescale_age
    rescale_last_between_windows: bool = True  # 7.3; before, only in the middle of a window
    rescale_restarts_window: bool = True  # 6.12 goes on counting, and leaves the last window's counters
    equal_attrs_keep_window: bool = True  # 6.18; before, any commit starts the window again

    # automatic tuning of intervals (§2.8)
    tuning_adaptation: Callable[[int], int] = core.tuning_adaptation
    tuned_sample_us: Callable[[int, int, int, int], int] = core.tuned_sample_us
    tuned_apply_left: Callable[[int, int, int, int], int] = core.tuned_left
    tuned_update_left: Callable[[int, int, int, int], int] = core.tuned_left

    # weighted probes (§2.10)
    probe_weights: Callable[[Sequence[int]], tuple[int, ...]] = core.probe_weights

    # sleeping, pausing (§2.11, §2.2) and committing (§5.6)
    sleep_us: Callable[[int], int] = core.sleep_us
    sleeps_by_ticks: Callable[[int], bool] = core.sleeps_by_ticks
    is_paused: Callable[[bool], bool] = core.is_paused
    committed_scheme: Callable[[Any, Any], Any] = damos.committed_scheme
    committed_params: Callable[[Any, Any], Any] = damos.committed_params
    added_params: Callable[[Any], Any] = damos.added_params
    committed_attrs: Callable[[Any, Any], Any] = core.committed_attrs
    committed_ranges: Callable[[Sequence[Range]], list[Range]] = core.committed_ranges
    removed_target_is_forgotten: bool = True  # by quotas that were to go on in it
    commit_is_checked_first: bool = True
    staging_waits_for_commit: bool = True  # files are only read by commands
    commit_waits_for_aggregation: bool = False  # 6.12; later it is served after the next sample
    inactive_serves_commits: bool = True  # while watermarks keep all schemes inactive
    failed_commit_ends: bool = False  # 6.12: the write succeeds, and the kdamond ends
    command_poll_ns: int = 0  # 6.12: a writer waiting for a command polls this often, without the lock

    # what `on` and `commit` refuse (§1.5)
    power_of_two_min_region: bool = True  # 7.0
    dry_run_at_start: bool = True  # 7.3
    refuses_absent: Callable[[str], bool] = tree.refuses_absent
    refuses_empty_ranges: bool = True
    raw_ranges_must_ascend: bool = False  # 7.2 and older

    # the tree (§5)
    parse_integer: Callable[[str, int, int], int] = tree.parse_integer
    parse_boolean: Callable[[str], bool] = tree.parse_boolean
    parse_keyword: Callable[[str, Sequence[str]], str] = tree.parse_keyword
    resized_count: Callable[[int, int | None], int] = tree.resized_count
    lock_is_busy: Callable[[bool], bool] = tree.lock_is_busy
    statistic: Callable[[str], str] = tree.statistic
    total_bytes: Callable[[int, int, int], int] = tree.total_bytes
    refresh_timer_is_own: bool = True  # of each kdamond
    refresh_is_due: Callable[[int, int, int], bool] = tree.refresh_is_due
    resizing_resets: bool = True
    walk_clears_first: bool = True
    on_refuses_running: bool = True
    state_commands: frozenset[str] = STATE_COMMANDS
    off_when_stopped: int = 0  # 7.3; an errno before
    command_when_stopped: int = errno.ECANCELED  # 7.0
    cancelled_walk: int = errno.ECANCELED  # 6.12 reports success
    clear_needs_no_kdamond: bool = True  # 6.15

    # schemes (§4.1, §4.2, §4.7, §4.9 to §4.12)
    pattern_matches: Callable[[Sequence[tuple[int, int]], Any, Any, Any], Any] = damos.pattern_matches
    watermark_active: Callable[[int, int, int, int, bool], bool] = damos.watermark_active
    watermark_wait_us: Callable[[Sequence[int]], int] = damos.watermark_wait_us
    schemes_start_active: bool = True
    commit_activates: bool = True
    ages_after_sleep: Callable[[I64], I64] = filters.ages_after_sleep
    account: Callable[[Any, int, int, int, int], None] = damos.account
    tried_size: Callable[[int, int], int] = damos.tried_size
    age_after_action: Callable[[str, Any, int], Any] = damos.age_after_action
    snapshot_limit_reached: Callable[[int, int], bool] = damos.snapshot_limit_reached
    remerge_after_apply: bool = True
    rest_of_split_is_visited: bool = True  # 7.2; before, not in the same pass
    vaddr_migrates: bool = True  # 6.17
    vaddr_filters_pages: bool = True  # 6.18: ops filters of `stat`
    lru_prio_in_one_step: bool = True  # 7.0; before, marked accessed once, activated the second time
    madvise_applied: Callable[[int, bool], int] = damos.madvise_applied
    scheme_order: Callable[[Sequence[Any]], Sequence[Any]] = damos.scheme_order
    snapshot_counts: Callable[[bool], bool] = damos.snapshot_counts
    walk_ends: Callable[[int, int], bool] = damos.walk_ends
    pages_applied: Callable[[int, int], int] = damos.pages_applied
    action_done: Callable[[str, str], str] = damos.action_done
    action_range: Callable[[int, int], Range] = damos.action_range
    migration_node: Callable[[I64], I64] = damos.migration_node
    interleaved: Callable[[I64, Sequence[Range]], I64] = damos.interleaved
    pageout_spares_young: bool = True
    locked_stays: bool = True  # mlock()ed pages are not reclaimed
    dirty_stays: bool = True  # nor are dirty pages of files, which others write back
    unmovable_is_put_back: bool = True
    full_node_refuses: bool = True  # folios that find no room stay where they are
    walked_frames: Callable[[I64, Bools], I64] = damos.walked_frames
    dests_need_vaddr: bool = True  # paddr ignores them

    # priority (§4.3)
    priority_value: Callable[[I64, I64], I64] = damos.priority_value
    hot_score: Callable[[I64, int, I64, int, int, int], I64] = damos.hot_score
    cold_score: Callable[[I64], I64] = damos.cold_score
    min_score: Callable[[Sequence[int], int], int] = damos.min_score
    histogram_asks_core_filters: bool = True  # 7.1

    # quota (§4.4 to §4.6)
    quota_is_full: Callable[[bool, int, int, int], bool] = damos.quota_is_full
    quota_cut: Callable[[bool, int, int, int, int], int | None] = damos.quota_cut
    charged_size: Callable[[int, int, int, int], int] = damos.charged_size
    window_exceeded: Callable[[bool], bool] = damos.window_exceeded
    charge_at_window_start: Callable[[int], int] = damos.charge_at_window_start
    window_has_passed: Callable[[int, int, int], bool] = damos.window_has_passed
    window_needs_turn: Callable[[bool, bool], bool] = damos.window_needs_turn
    first_window_size: Callable[[int], int] = damos.first_window_size
    time_quota_size: Callable[[int, int, int, int], int] = damos.time_quota_size
    skipped_size: Callable[[int, int, int, int], int] = damos.skipped_size
    goal_score: Callable[[Sequence[tuple[int, int]]], int] = damos.goal_score
    consist_tuner: Callable[[int, int, int], int] = damos.consist_tuner
    temporal_tuner: Callable[[int, int, int], int] = damos.temporal_tuner
    first_pressure_is_neutral: bool = True  # 7.3; before, the total since boot counted
    commit_restarts_pressure: bool = True  # 7.3; before, a goal that is kept goes on counting
    goal_metric: Callable[[str], str] = damos.goal_metric
    goal_node: Callable[[int], int] = damos.goal_node

    # modules (§6)
    default_ram_range: Callable[[Sequence[Range]], Range] = damos.whole_ram
    commit_inputs_answers: bool = True  # 7.2
    stat_idle_ms: Callable[[int, int, bool], int] = damos.stat_idle_ms
    module_request: Callable[[str, Any], Any] = modules.request
    module_statistic: Callable[[str], str] = modules.statistic
    module_pid: Callable[[int, bool], int] = modules.pid
    module_waits_for_aggregation: bool = False  # 6.16 and older: to read parameters and show statistics
    invalid_inputs_end_module: bool = False  # 6.16 and older, as documented
    module_starts: bool = True
    module_stops: bool = True
    module_writes_back: bool = True
    module_enabled_again: int = 0  # an errno
    module_schemes_live_on: bool = True  # with counters and quota, from one life to the next
    module_asks_first: bool = True  # refuses to start while another kdamond runs
    module_is_exclusive: bool = True
    commit_inputs_reads: bool = True
    stat_percentiles: Callable[[Sequence[int], Sequence[int]], list[int]] = modules.idle_percentiles
    stat_bandwidth: Callable[[int, int], int] = modules.bandwidth
    stat_refresh_ns: int = modules.STAT_REFRESH_NS

    # filters (§4.8)
    filter_verdict: Callable[[bool, bool, bool], bool | None] = damos.filter_verdict
    core_default_reject: Callable[[bool, bool], bool] = damos.core_default_reject
    ops_default_reject: Callable[[bool], bool] = damos.ops_default_reject
    page_filters_ask_core_filters: bool = False
    core_allow_is_final: bool = True  # 6.15: no ops filter is asked then
    filter_order: Callable[[Sequence[Any], Sequence[Any], Sequence[Any]], list[Any]] = filters.filter_order
    address_range: Callable[[int, int, int], Range] = filters.address_range
    address_filter_cuts: bool = True
    target_is: Callable[[int, int], bool] = filters.target_is
    page_filter_hit: Callable[[str, Bools], Bools] = filters.page_filter_hit
    size_within: Callable[[I64, int, int], Bools] = filters.size_within
    memcgs_meant: Callable[[str, Collection[str]], Sequence[str]] = filters.memcgs_meant
    asking_makes_old: bool = True
    folio_counts_once: bool = True  # although several regions have a part of it
    commit_takes_filters: bool = True

    # address spaces (§3.1, §3.3)
    three_ranges: Callable[[Sequence[Range]], list[Range] | None] = core.three_ranges
    intersects: Callable[[U64, U64, int, int], Bools] = core.intersects
    updated_targets: Callable[[int], Sequence[int]] = range  # of so many
