# SPDX-License-Identifier: GPL-2.0
"""Goals and tuners: the specification's vectors, and the recurrence on right and wrong traces."""

from dataclasses import replace

import pytest

from damon_tests.damon.params import U64_MAX, DamosQuota, DamosQuotaGoal
from damon_tests.damon.series import Series
from damon_tests.damon.trace import AggregatedEvent, EszEvent
from damon_tests.judge.schemes import goal_metrics, goals, quota_passes, time_quotas
from damon_tests.judge.schemes.goal_metrics import Measured
from damon_tests.judge.schemes.time_quotas import Spent, first_throughput
from damon_tests.ports import NSEC_PER_MSEC
from damon_tests.workload.memory_info import MemoryInfo

PAGE = 4096
NEWEST = Series(7, 3)


@pytest.mark.parametrize(
    ("value", "score", "after"),
    [
        # specification 10.1
        (10_000, 0, 20_000),
        (10_000, 5_000, 15_000),
        (20_000, 15_000, 10_000),
        (10_000, 15_000, 10_000),
        (900_000, 200, 1_782_000),
        (900_000, 2_000, 1_620_000),
        (900_000, 250_000_000, 10_000),
        (10**8, 9_600, 104_000_000),
        (10**8, 10_400, 96_000_000),
        (U64_MAX, 0, U64_MAX),
        (123_456_789, 19_999, 12_346),
        (123_456_789, 10_001, 123_444_444),
        (10_000, 9_999, 10_001),
        (77, 10_000, 77),
    ],
)
def test_feedback_matches_specification_vectors(value, score, after):
    assert goals.feedback(value, score) == after


def user(*achievements, **quota):
    return DamosQuota(goals=tuple(DamosQuotaGoal("user_input", t, c) for c, t in achievements), **quota)


def test_goal_achieved_most_decides_score():
    three = user((1, 10), (3, 4), (0, 9)).goals
    assert goals.score(three, [1, 3, 0]) == 7_500
    assert goals.score((), []) == 0


def test_consist_size_doubles_and_temporal_size_is_all_or_nothing():
    assert goals.sizes(user((0, 1)), [0] * 12) == [2**n for n in range(1, 13)]
    assert goals.sizes(user((0, 1), bytes=5), [0] * 4) == [2, 4, 5, 5]
    assert goals.doublings(PAGE) == 12
    temporal = user((0, 1), bytes=5, goal_tuner="temporal")
    assert goals.sizes(temporal, [0, 10_000, 9_999]) == [5, 0, 5]
    assert goals.sizes(replace(temporal, bytes=0), [0, 10_000]) == [1_844_674_407_370_955, 0]


def passes_with_esz(*sizes, every_ms=50):
    """Return a pass for each size, 50 ms apart, with its damos_esz event (None: no event)."""
    events = []
    for index, size in enumerate(sizes):
        now = (index + 1) * every_ms * NSEC_PER_MSEC
        events += [EszEvent(now, 0, 0, size)] if size is not None else []
        events.append(AggregatedEvent(now + 1, 0, 1, 0, 64 * PAGE, 0, 0))
    return quota_passes.of_events(events)


@pytest.mark.parametrize(
    ("esz_values", "scores", "holds"),
    [
        ((4, 8, 16), [0], True),
        ((4, 8, 15), [0], False),
        ((2, 4, 8), [0], False),  # the first pass evaluates twice
        ((4, None, 8), [0], False),
        ((4, 8, 8), [0, 10_000], True),  # a commit was under way
        ((None, None), [10_000], True),  # only changes are traced
        ((None, None), [0], False),
        ((2, 3, 5), [5_000], True),
        ((2, 3, 6), [5_000], False),
    ],
)
def test_each_traced_size_must_follow_from_score(esz_values, scores, holds):
    assert goals.steps_follow(passes_with_esz(*esz_values), user((0, 1)), lambda _: scores).holds is holds


def test_first_evaluation_may_have_another_score():
    neutral = passes_with_esz(2, 4)
    assert goals.steps_follow(neutral, user((0, 1)), lambda _: [0], first=[10_000]).holds
    assert not goals.steps_follow(neutral, user((0, 1)), lambda _: [0]).holds


def test_run_without_passes_is_undecided():
    assert goals.steps_follow([], user((0, 1)), lambda _: [0]).holds is None


def events(*esz_values, every_ms=300):
    return [EszEvent(i * every_ms * NSEC_PER_MSEC, 0, 0, size) for i, size in enumerate(esz_values)]


def test_tuner_takes_one_step_in_each_window():
    quota, passes = user((0, 1), reset_interval_ms=300), passes_with_esz(*[None] * 20)
    assert all(c.holds for c in goals.windows_follow(events(2, 4, 8, 16), quota, 0, passes, Series(7, 3)))
    assert all(c.holds for c in goals.windows_follow(events(4, 8, 16, 32), quota, 0, passes, Series(6, 18)))
    assert not goals.windows_follow(events(4, 8, 16, 32), quota, 0, passes, Series(7, 3))[0].holds
    assert not goals.windows_follow(events(2, 4, 16), quota, 0, passes, Series(7, 3))[0].holds
    fast, slow = events(2, 4, 8, 16, every_ms=100), events(2, 4, 8, 16, every_ms=600)
    assert not goals.windows_follow(fast, quota, 0, passes, Series(7, 3))[1].holds
    assert not goals.windows_follow(slow, quota, 0, passes, Series(7, 3))[1].holds
    assert goals.windows_follow(events(2, 4), quota, 0, passes, Series(7, 3))[1].holds is None


def test_each_traced_size_is_one_step_from_the_last():
    def scores(_):
        return [0]

    def follows(esz_values, level=NEWEST):
        return goals.fed_steps_follow(esz_values, user((0, 1)), scores, level).holds

    assert follows(events(2, 4, 9))
    # 2 with any fraction of a byte at most doubles to 5.
    assert not follows(events(2, 6))
    assert not follows(events(3))
    assert follows([]) is None
    # Before 7.3 the first size is not traced.
    assert not follows(events(4, 8))
    assert follows(events(4, 8), Series(6, 18))
    assert not follows(events(4, 12), Series(6, 18))


def test_read_value_must_be_size_after_a_pass_done_by_then():
    expected = [0, 4, 8, 16, 32]
    assert goals.readings_follow([goals.Reading(8, (1, 2)), goals.Reading(16, (3, 4))], expected).holds
    assert not goals.readings_follow([goals.Reading(8, (3, 4))], expected).holds
    assert goals.readings_follow([], expected).holds is None


def test_possible_sizes_allow_two_first_evaluations():
    run_passes, quota = passes_with_esz(4, 8, 16), user((0, 1))
    possible = goals.possible_sizes(run_passes, quota, lambda _: [0], Series(7, 3))
    assert possible == [{0}, {4}, {8}, {16}]
    assert goals.possible_sizes(run_passes, quota, lambda _: [0], Series(6, 12)) == [
        {0},
        {2, 4},
        {4, 8},
        {8, 16},
    ]
    assert goals.possible_sizes(run_passes, quota, lambda _: [0], Series(7, 3), first=[10_000])[1] == {2}
    ms = NSEC_PER_MSEC
    read = goals.readings(run_passes, [(60 * ms, 70 * ms, 4), (90 * ms, 110 * ms, 8)])
    assert [reading.passes for reading in read] == [(1, 1), (1, 2)]
    assert goals.readings_possible(read, possible).holds
    assert not goals.readings_possible([goals.Reading(8, (1, 1))], possible).holds
    assert goals.readings_possible([], possible).holds is None


def test_settled_index_and_overshoot_of_values():
    assert goals.settled_after([1, 90, 104, 99], 100, 0.05) == 2
    assert goals.settled_after([100, 106], 100, 0.05) is None
    assert goals.overshoot([1, 150, 99], 100) == 0.5


# --- measured inputs -----------------------------------------------------------------------------


def test_metric_lies_between_measurements_around_a_pass():
    metric = Measured(((0, 100), (60 * NSEC_PER_MSEC, 300), (200 * NSEC_PER_MSEC, 50)), slack=10)
    first, second, *_, last = passes_with_esz(*[None] * 5)
    assert metric.during(first) == (90, 310)
    assert metric.during(second) == (40, 310)
    assert metric.during(last) == (0, 1 << 40)  # nothing was measured after it


def test_next_size_lies_between_steps_of_both_ends():
    quota = DamosQuota(goals=(DamosQuotaGoal("node_mem_used_bp", 10_000),))
    assert goal_metrics.next_range(quota, 1000, (5_000, 5_000), 10_000) == (1500, 1501)
    assert goal_metrics.next_range(quota, 1000, (0, 10_000), 10_000) == (1000, 2001)
    assert goal_metrics.next_range(replace(quota, bytes=1200), 1000, (0, 0), 10_000) == (1200, 1200)


def test_step_beyond_measured_input_fails():
    quota = DamosQuota(goals=(DamosQuotaGoal("node_mem_used_bp", 10_000),))
    half = Measured(tuple((i * 10 * NSEC_PER_MSEC, 5_000) for i in range(60)), slack=10)
    right, enough = goal_metrics.steps_between(
        "x", passes_with_esz(100, 150, 225, 337, 506), quota, half, least=4
    )
    assert right.holds
    assert enough.holds
    wrong, _ = goal_metrics.steps_between("x", passes_with_esz(100, 150, 230, 337), quota, half)
    assert wrong.holds is False
    _, few = goal_metrics.steps_between("x", passes_with_esz(1, 1, 2, 3), quota, half)
    assert few.holds is None


def test_growth_below_double_implies_progress_to_goal():
    quota = DamosQuota(bytes=10_000, goals=(DamosQuotaGoal("some_mem_psi_us", 1_000),))
    assert goal_metrics.implied_total(passes_with_esz(100, 200, 400), quota) == 0
    implied = goal_metrics.implied_total(passes_with_esz(1000, 1500, 1), quota)
    assert 499 <= implied - 2_000 <= 500  # half of the target, and twice of it at least
    assert (
        goal_metrics.implied_total(passes_with_esz(9_000, 10_000, 10_000), quota) == 0
    )  # the requested size


def test_memory_metrics_are_shares_in_bp():
    info = MemoryInfo(
        0,
        total=1000,
        free=600,
        active=30,
        inactive=70,
        swap_total=0,
        swap_used=0,
        node_total={0: 1000},
        node_free={0: 600},
        memcg_lru={"/a": 250},
    )
    assert goal_metrics.node_mem_bp(info, 0, used=True) == 4_000
    assert goal_metrics.node_mem_bp(info, 0, used=False) == 6_000
    assert goal_metrics.lru_bp(info, active=True) == 3_000
    assert goal_metrics.lru_bp(info, active=False) == 7_000
    assert goal_metrics.memcg_bp(info, "/a", used=True) == 2_500
    assert goal_metrics.memcg_bp(info, "/none", used=True) == 0
    assert goal_metrics.memcg_bp(info, "/none", used=False) == 10_000


# --- time quotas ----------------------------------------------------------------------------------


def test_size_implies_the_spent_time():
    quota = DamosQuota(ms=3)
    assert time_quotas.first_size(quota) == 3 * first_throughput()
    assert time_quotas.first_size(DamosQuota(ms=3, bytes=PAGE)) == PAGE
    assert time_quotas.spent(3 * first_throughput(), quota, 0, PAGE) == Spent(0, 0)
    # 1000000 bytes in 4 ms: 250000 a ms.
    implied = time_quotas.spent(750_000, quota, 1_000_000, PAGE)
    assert implied is not None
    assert implied.low_ns <= 4_000_000 <= implied.high_ns
    assert time_quotas.spent(750_001, quota, 1_000_000, PAGE) is None
    assert time_quotas.spent(0, quota, 1_000_000, PAGE) is None
    assert time_quotas.spent(PAGE, quota, 1_000_000, PAGE) is not None


def test_implied_times_must_not_exceed_run_time():
    quota = DamosQuota(ms=3)
    first = 3 * first_throughput()
    assert time_quotas.follow(passes_with_esz(*[first] * 6), quota, PAGE).holds
    assert time_quotas.follow(passes_with_esz(first, None, None), quota, PAGE).holds is None
    assert not time_quotas.follow(passes_with_esz(*[2 * first] * 6), quota, PAGE).holds
    assert not time_quotas.follow(passes_with_esz(first, 0, 0, 0, 0, 0), quota, PAGE).holds
