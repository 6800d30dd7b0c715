# SPDX-License-Identifier: GPL-2.0
"""Wrong quota goals: metrics, scores, tuners."""

from __future__ import annotations

from collections.abc import Sequence

from damon_tests.reference.faults.fault import Fault
from damon_tests.reference.rules import schemes as damos
from damon_tests.reference.rules.monitoring import BP


def _least_achieved(achievements: Sequence[tuple[int, int]]) -> int:
    return min((current * 10_000 // target for current, target in achievements), default=0)


def _impatient(bp: int, score: int, size: int) -> int:
    return damos.feedback(max(bp, 10_000), score) if score >= 10_000 else max(bp, 10_000) * 4


def _hungry(bp: int, score: int, size: int) -> int:
    return max(bp, 10_000) if score >= 10_000 else damos.consist_tuner(bp, score, size)


def _inverted_temporal(bp: int, score: int, size: int) -> int:
    return damos.temporal_tuner(bp, 0 if score >= 10_000 else 10_000, size)


def _sum_of_goals(achievements: Sequence[tuple[int, int]]) -> int:
    return sum(damos.goal_score([achieved]) for achieved in achievements)


def _never_over(achievements: Sequence[tuple[int, int]]) -> int:
    return min(damos.goal_score(achievements), BP)


def _from_one_byte(bp: int, score: int, size: int) -> int:
    return damos.feedback(BP, score)


def _half_steps(bp: int, score: int, size: int) -> int:
    return damos.feedback(max(bp, BP), (score + BP) // 2)


def _swapped(*pairs: tuple[str, str]) -> dict[str, str]:
    return {a: b for x, y in pairs for a, b in ((x, y), (y, x))}


_USED_AND_FREE = _swapped(
    ("node_mem_used_bp", "node_mem_free_bp"), ("node_memcg_used_bp", "node_memcg_free_bp")
)
_ACTIVE_AND_INACTIVE = _swapped(("active_mem_bp", "inactive_mem_bp"))
_WHOLE_NODE = {"node_memcg_used_bp": "node_mem_used_bp", "node_memcg_free_bp": "node_mem_free_bp"}

FAULTS = (
    Fault("goal_least_achieved", "goals", "the least achieved goal decides", "goal_score", _least_achieved),
    Fault(
        "goal_first_only",
        "goals",
        "only the first goal counts",
        "goal_score",
        lambda achievements: damos.goal_score(achievements[:1]),
    ),
    Fault("goals_are_added", "goals", "several goals are achieved together", "goal_score", _sum_of_goals),
    Fault(
        "goal_never_over",
        "goals",
        "more than achieved is taken as just achieved",
        "goal_score",
        _never_over,
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
    Fault("tuner_forgets", "goals", "each window starts at one byte again", "consist_tuner", _from_one_byte),
    Fault(
        "tuner_too_slow", "goals", "the quota changes by half of what it should", "consist_tuner", _half_steps
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
        "pressure_goes_on_over_commits",
        "goals",
        "memory pressure before a commit counts after it (7.2 and older)",
        "commit_restarts_pressure",
        False,
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
