# SPDX-License-Identifier: GPL-2.0
"""Levels: the behaviour of a kernel series, as a version of the tree and a ``Rules``.

A level models what its series documents and intends. Differences come from specification §8. Bugs of a
series are not modelled, so that a kernel which has them differs from its level: ages that grow once per
merge pass (6.12), names of tried regions that go on counting (6.16 to 7.1), a refresh timer shared by all
kdamonds (6.17 to 7.2), RAM ranges that end a byte early (7.0), results reused for neighbouring samples (7.1
and older), priorities by the running counter, which is 0 after a reset (6.12).
"""

from __future__ import annotations

import errno
from dataclasses import dataclass, replace

from damon_tests.ports import NSEC_PER_MSEC, UsageError
from damon_tests.reference.rules import monitoring as core
from damon_tests.reference.rules import schemes as damos
from damon_tests.reference.rules import tree
from damon_tests.reference.rules.ruleset import Rules
from damon_tests.reference.rules.tree import Version


@dataclass(frozen=True)
class Level:
    name: str
    version: Version
    rules: Rules


def _until_7_2(rules: Rules) -> Rules:
    return replace(
        rules,
        partial_split_step=core.no_partial_split,
        split_history_always=False,
        access_value=core.moving_value_bp,
        step_bp=core.step_bp,
        rescale_last_between_windows=False,
        dry_run_at_start=False,
        raw_ranges_must_ascend=True,
        off_when_stopped=errno.EPERM,
        first_pressure_is_neutral=False,
        commit_restarts_pressure=False,
    )


def _until_7_1(rules: Rules) -> Rules:
    return replace(
        rules,
        quota_is_full=damos.quota_is_full_7_1,
        remerge_after_apply=False,
        rest_of_split_is_visited=False,
        default_ram_range=damos.biggest_ram,
        commit_inputs_answers=False,
    )


def _until_7_0(rules: Rules) -> Rules:
    return replace(
        rules,
        strict_min_regions=False,
        quota_is_full=damos.quota_is_full_7_0,
        quota_cut=damos.quota_cut_7_0,
        histogram_asks_core_filters=False,
    )


def _until_6_19(rules: Rules) -> Rules:
    return replace(
        rules,
        power_of_two_min_region=False,
        command_when_stopped=errno.EINVAL,
        lru_prio_in_one_step=False,
    )


def _until_6_17(rules: Rules) -> Rules:
    return replace(
        rules, equal_attrs_keep_window=False, vaddr_filters_pages=False, stat_idle_ms=damos.stat_idle_ms_6_17
    )


def _until_6_16(rules: Rules) -> Rules:
    return replace(
        rules, vaddr_migrates=False, module_waits_for_aggregation=True, invalid_inputs_end_module=True
    )


def _until_6_12(rules: Rules) -> Rules:
    return replace(
        rules,
        next_age=core.next_age_ignoring_zero,
        next_merge_threshold=core.next_merge_threshold_6_12,
        sleeps_by_ticks=core.sleeps_by_ticks_6_12,
        rescale_restarts_window=False,
        core_allow_is_final=False,
        cancelled_walk=0,
        commit_waits_for_aggregation=True,
        failed_commit_ends=True,
        command_poll_ns=100 * NSEC_PER_MSEC,
        clear_needs_no_kdamond=False,
        parse_boolean=tree.parse_boolean_6_12,
        state_commands=rules.state_commands - {"update_tuned_intervals"},
    )


_STEPS = (
    ((7, 2), _until_7_2),
    ((7, 1), _until_7_1),
    ((7, 0), _until_7_0),
    ((6, 19), _until_6_19),
    ((6, 17), _until_6_17),
    ((6, 16), _until_6_16),
    ((6, 12), _until_6_12),
)


def _make(name: str) -> Level:
    major, minor = name.split(".")
    version = (int(major), int(minor))
    rules = Rules()
    for last, older in _STEPS:
        if version <= last:
            rules = older(rules)
    return Level(name, version, rules)


LEVELS: dict[str, Level] = {
    name: _make(name) for name in ("6.12", "6.16", "6.17", "6.18", "6.19", "7.0", "7.1", "7.2", "7.3")
}


def level(name: str) -> Level:
    """Return the level of that name. Raises UsageError for an unknown one."""
    if name not in LEVELS:
        raise UsageError(f"unknown level {name!r}; there are {', '.join(LEVELS)}")
    return LEVELS[name]
