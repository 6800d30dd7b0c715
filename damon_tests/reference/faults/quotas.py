# SPDX-License-Identifier: GPL-2.0
"""More wrong behaviour of quotas, priorities, goals and tuners."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from damon_tests.ports.arrays import I64
from damon_tests.reference.faults.catalogue import Fault
from damon_tests.reference.rules import schemes as damos
from damon_tests.reference.rules.monitoring import BP


def _rateless_scores(value: I64, window: int, age: I64, aggr_us: int, by_nr: int, by_age: int) -> I64:
    return damos.hot_score(value * 0, window, age, aggr_us, by_nr, by_age)


def _equal_weights(value: I64, window: int, age: I64, aggr_us: int, by_nr: int, by_age: int) -> I64:
    return damos.hot_score(value, window, age, aggr_us, 1, 1)


def _sum_of_goals(achievements: Sequence[tuple[int, int]]) -> int:
    return sum(damos.goal_score([one]) for one in achievements)


def _never_over(achievements: Sequence[tuple[int, int]]) -> int:
    return min(damos.goal_score(achievements), BP)


def _from_one_byte(bp: int, score: int, size: int) -> int:
    return damos.feedback(BP, score)


def _half_steps(bp: int, score: int, size: int) -> int:
    return damos.feedback(max(bp, BP), (score + BP) // 2)


def _renewed(running: Any, fresh: Any) -> Any:
    running.quota.charged_sz = 0
    return running


def _swapped(*pairs: tuple[str, str]) -> dict[str, str]:
    return {a: b for x, y in pairs for a, b in ((x, y), (y, x))}


_USED_AND_FREE = _swapped(
    ("node_mem_used_bp", "node_mem_free_bp"), ("node_memcg_used_bp", "node_memcg_free_bp")
)
_ACTIVE_AND_INACTIVE = _swapped(("active_mem_bp", "inactive_mem_bp"))
_WHOLE_NODE = {"node_memcg_used_bp": "node_mem_used_bp", "node_memcg_free_bp": "node_mem_free_bp"}

FAULTS = (
    Fault(
        "priority_ignores_rate",
        "quotas",
        "hot and cold regions have the same priority",
        "hot_score",
        _rateless_scores,
    ),
    Fault("priority_ignores_weights", "quotas", "the weights have no effect", "hot_score", _equal_weights),
    Fault(
        "min_score_too_high",
        "quotas",
        "only the highest score gets quota",
        "min_score",
        lambda histogram, size: max((s for s, n in enumerate(histogram) if n), default=0),
    ),
    Fault(
        "continuation_skips_a_page",
        "quotas",
        "a window leaves out the first page behind the last one (7.1 and older)",
        "skipped_size",
        lambda start, end, at, m: damos.skipped_size(start, end, at + 1, m),
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
        "quota_success_is_cheap",
        "quotas",
        "the ratio of fail_charge_num and _denom is for successes, too",
        "charged_size",
        lambda size, applied, num, denom: size * num // denom if denom else size,
    ),
    Fault(
        "quota_window_too_long",
        "quotas",
        "a window lasts two reset intervals",
        "window_has_passed",
        lambda now, then, ms: damos.window_has_passed(now, then, 2 * ms),
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
        "first_window_unlimited",
        "quotas",
        "the first window has no quota (6.17 and older)",
        "first_window_size",
        lambda size: (1 << 64) - 1,
    ),
    Fault(
        "commit_renews_quota",
        "quotas",
        "a commit gives the running window its quota again (7.0 to 7.2)",
        "committed_scheme",
        _renewed,
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
        "min_score_counts_filtered",
        "quotas",
        "memory that core filters reject uses up priorities (7.0 and older)",
        "histogram_asks_core_filters",
        False,
    ),
    Fault(
        "pressure_goes_on_over_commits",
        "goals",
        "memory pressure before a commit counts after it (7.2 and older)",
        "commit_restarts_pressure",
        False,
    ),
    Fault("goals_are_added", "goals", "several goals are achieved together", "goal_score", _sum_of_goals),
    Fault(
        "goal_never_over",
        "goals",
        "more than achieved is taken as just achieved",
        "goal_score",
        _never_over,
    ),
    Fault("tuner_forgets", "goals", "each window starts at one byte again", "consist_tuner", _from_one_byte),
    Fault(
        "tuner_too_slow", "goals", "the quota changes by half of what it should", "consist_tuner", _half_steps
    ),
    Fault(
        "goal_used_is_free",
        "goals",
        "goals of used memory read free memory, and the other way round",
        "goal_metric",
        lambda metric: _USED_AND_FREE.get(metric, metric),
    ),
    Fault(
        "goal_active_is_inactive",
        "goals",
        "active_mem_bp and inactive_mem_bp are swapped",
        "goal_metric",
        lambda metric: _ACTIVE_AND_INACTIVE.get(metric, metric),
    ),
    Fault(
        "goal_memcg_ignored",
        "goals",
        "goals of a memory control group read the whole node",
        "goal_metric",
        lambda metric: _WHOLE_NODE.get(metric, metric),
    ),
    Fault("goal_node_ignored", "goals", "goals of any node read node 0", "goal_node", lambda nid: 0),
)
