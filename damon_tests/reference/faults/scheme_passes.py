# SPDX-License-Identifier: GPL-2.0
"""More wrong behaviour of schemes and their statistics: patterns, order, passes, counters."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from damon_tests.damon.params import Damos
from damon_tests.reference.faults.catalogue import Fault
from damon_tests.reference.rules import schemes as damos


def _exclusive_minimum(bounds: Sequence[tuple[int, int]], *values: Any) -> Any:
    return damos.pattern_matches([(low and low + 1, high) for low, high in bounds], *values)


def _in_any_order(bounds: Sequence[tuple[int, int]], *values: Any) -> Any:
    return damos.pattern_matches([(min(pair), max(pair)) for pair in bounds], *values)


def _rateless(bounds: Sequence[tuple[int, int]], size: Any, nr_accesses: Any, age: Any) -> Any:
    return damos.pattern_matches((bounds[0], (0, 1 << 32), bounds[2]), size, nr_accesses, age)


def _sizeless(bounds: Sequence[tuple[int, int]], size: Any, nr_accesses: Any, age: Any) -> Any:
    return damos.pattern_matches(((0, 1 << 64), *bounds[1:]), size, nr_accesses, age)


def _kept_by_failure(action: str, age: Any, applied: int) -> Any:
    return damos.age_after_action(action, age, applied) if applied else age


def _each_applied(stats: Any, count: int, size: int, applied: int, passed: int) -> None:
    damos.account(stats, count, size, applied, passed)
    stats.nr_applied += count if applied == 0 else 0


def _each_but_the_seventh(stats: Any, count: int, size: int, applied: int, passed: int) -> None:
    damos.account(stats, count, size, applied, passed)
    stats.nr_tried -= count > 0 and stats.nr_tried % 7 == 0


def _pages_tried(stats: Any, count: int, size: int, applied: int, passed: int) -> None:
    damos.account(stats, count, size // 4096, applied, passed)


def _without_nodes(requested: Damos) -> Damos:
    goals = tuple(replace(goal, nid=0) for goal in requested.quota.goals)
    return replace(requested, quota=replace(requested.quota, goals=goals))


FAULTS = (
    Fault(
        "pattern_minimum_exclusive",
        "schemes",
        "regions at a lower bound do not match",
        "pattern_matches",
        _exclusive_minimum,
    ),
    Fault(
        "pattern_bounds_in_any_order",
        "schemes",
        "a minimum above the maximum matches what is between them",
        "pattern_matches",
        _in_any_order,
    ),
    Fault(
        "pattern_ignores_accesses",
        "schemes",
        "access frequency of the pattern is ignored",
        "pattern_matches",
        _rateless,
    ),
    Fault("pattern_ignores_size", "schemes", "size of the pattern is ignored", "pattern_matches", _sizeless),
    Fault(
        "age_survives_failed_actions",
        "schemes",
        "an action that achieves nothing does not reset the age",
        "age_after_action",
        _kept_by_failure,
    ),
    Fault(
        "schemes_last_first",
        "schemes",
        "schemes are applied in the reverse order",
        "scheme_order",
        lambda due: due[::-1],
    ),
    Fault(
        "schemes_first_only",
        "schemes",
        "of several schemes that are due only the first is applied",
        "scheme_order",
        lambda due: due[:1],
    ),
    Fault(
        "schemes_early",
        "schemes",
        "a scheme is applied one sample early",
        "scheme_is_due",
        lambda passed, due: passed + 1 >= due,
    ),
    Fault(
        "snapshots_only_of_matches",
        "stats",
        "nr_snapshots counts passes that found something at the end only",
        "snapshot_counts",
        lambda matched: matched,
    ),
    Fault("snapshots_never", "stats", "nr_snapshots stays 0", "snapshot_counts", lambda matched: False),
    Fault(
        "snapshots_one_too_few",
        "schemes",
        "max_nr_snapshots allows one pass less",
        "snapshot_limit_reached",
        lambda nr, limit: limit != 0 and nr + 1 >= limit,
    ),
    Fault(
        "tried_regions_of_two_passes",
        "schemes",
        "tried_regions holds the regions of two passes (6.6 and older)",
        "walk_ends",
        lambda passes, regions: passes >= 2,
    ),
    Fault(
        "tried_regions_wait_for_a_match",
        "schemes",
        "a request for tried regions never ends while nothing matches (6.7 and older)",
        "walk_ends",
        lambda passes, regions: regions > 0,
    ),
    Fault(
        "zero_apply_interval_hangs",
        "schemes",
        "an apply interval of less than a sample hangs: times are compared for equality (6.12 and older)",
        "scheme_is_due",
        lambda passed, due: passed == due,
    ),
    Fault(
        "rest_of_a_split_waits",
        "schemes",
        "what a quota or filter split off is not visited in the same pass (7.1 and older)",
        "rest_of_split_is_visited",
        False,
    ),
    Fault(
        "commit_forgets_nodes",
        "schemes",
        "a commit loses the node of goals (7.2)",
        "committed_params",
        _without_nodes,
    ),
    Fault(
        "stats_tried_before_filters",
        "stats",
        "sz_tried counts regions as they were before an address filter cut them (7.2 and older)",
        "tried_size",
        lambda before, after: before,
    ),
    Fault(
        "stats_failed_is_applied",
        "stats",
        "nr_applied counts regions to which nothing was done",
        "account",
        _each_applied,
    ),
    Fault("stats_tries_missed", "stats", "some tries are not counted", "account", _each_but_the_seventh),
    Fault("stats_tried_in_pages", "stats", "sz_tried is counted in pages", "account", _pages_tried),
)
