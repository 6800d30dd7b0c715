# SPDX-License-Identifier: GPL-2.0
"""Wrong schemes: patterns, the age that actions reset, order and time of passes, tried regions, commits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from damon_tests.damon.params import Damos
from damon_tests.reference.faults.fault import Fault
from damon_tests.reference.rules import monitoring as core
from damon_tests.reference.rules import schemes as damos


def _exclusive_maximum(bounds: Sequence[tuple[int, int]], *values: Any) -> Any:
    return damos.pattern_matches([(low, max(high, 1) - 1) for low, high in bounds], *values)


def _size_only(bounds: Sequence[tuple[int, int]], size: Any, nr_accesses: Any, age: Any) -> Any:
    return (size >= bounds[0][0]) & (size <= bounds[0][1])


def _ageless(bounds: Sequence[tuple[int, int]], size: Any, nr_accesses: Any, age: Any) -> Any:
    return damos.pattern_matches((bounds[0], bounds[1], (0, 1 << 32)), size, nr_accesses, age)


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


def _without_nodes(running: Damos, requested: Damos) -> Damos:
    goals = tuple(replace(goal, nid=0) for goal in requested.quota.goals)
    return replace(requested, quota=replace(requested.quota, goals=goals))


FAULTS = (
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
        "schemes_early",
        "schemes",
        "a scheme is applied one sample early",
        "scheme_is_due",
        lambda passed, due: passed + 1 >= due,
    ),
    Fault(
        "schemes_a_fifth_later",
        "schemes",
        "a scheme is applied a fifth later than its interval asks",
        "apply_us",
        lambda apply_interval_us, aggr_us: core.apply_us(apply_interval_us, aggr_us) * 6 // 5,
    ),
    Fault(
        "schemes_a_fifth_sooner",
        "schemes",
        "a scheme is applied a fifth sooner than its interval asks",
        "apply_us",
        lambda apply_interval_us, aggr_us: core.apply_us(apply_interval_us, aggr_us) * 4 // 5,
    ),
    Fault(
        "zero_apply_interval_hangs",
        "schemes",
        "an apply interval of less than a sample hangs: times are compared for equality (6.12 and older)",
        "scheme_is_due",
        lambda passed, due: passed == due,
    ),
    Fault(
        "commit_resets_schemes",
        "schemes",
        "a commit forgets statistics and charges of schemes",
        "committed_scheme",
        lambda running, fresh: fresh,
    ),
    Fault(
        "commit_forgets_nodes",
        "schemes",
        "a commit loses the node of goals (7.2)",
        "committed_params",
        _without_nodes,
    ),
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
        "age_survives_failed_actions",
        "schemes",
        "an action that achieves nothing does not reset the age",
        "age_after_action",
        _kept_by_failure,
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
        "snapshots_one_too_few",
        "schemes",
        "max_nr_snapshots allows one pass less",
        "snapshot_limit_reached",
        lambda nr, limit: limit != 0 and nr + 1 >= limit,
    ),
    Fault(
        "schemes_never_merge_back",
        "schemes",
        "regions that quotas split stay split (6.12)",
        "remerge_after_apply",
        False,
    ),
    Fault(
        "rest_of_a_split_waits",
        "schemes",
        "what a quota or filter split off is not visited in the same pass (7.1 and older)",
        "rest_of_split_is_visited",
        False,
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
    Fault(
        "madvise_failure_counts",
        "schemes",
        "a range with holes counts as applied",
        "madvise_applied",
        lambda size, failed: size,
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
)
