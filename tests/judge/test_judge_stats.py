# SPDX-License-Identifier: GPL-2.0
"""Statistics: known values, and error rates in simulations with fixed seeds."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from two_samples import ks_test

from damon_tests.judge import stats
from damon_tests.judge.stats import SequentialRule


def test_binomial_matches_known_values() -> None:
    assert stats.binomial_pmf(4, 0.5).tolist() == pytest.approx([1 / 16, 4 / 16, 6 / 16, 4 / 16, 1 / 16])
    assert stats.binomial_tail(0, 10, 0.1, "low") == pytest.approx(0.9**10)
    assert stats.binomial_tail(10, 10, 0.1, "high") == pytest.approx(1e-10)
    assert stats.binomial_test(7, 10, 0.5) == pytest.approx(0.34375)
    assert stats.binomial_test(2, 20, 0.3) == pytest.approx(0.05263, abs=1e-5)
    assert stats.binomial_test(0, 5, 0.0) == 1
    assert stats.binomial_test(1, 5, 0.0) == 0
    assert stats.binomial_test(5, 5, 1.0) == 1


def test_clopper_pearson_matches_known_values() -> None:
    assert stats.clopper_pearson(5, 20) == pytest.approx((0.0866, 0.4910), abs=1e-4)
    assert stats.clopper_pearson(0, 10) == pytest.approx((0, 1 - 0.025**0.1), abs=1e-9)
    assert stats.clopper_pearson(10, 10)[1] == 1
    # the rule of three: no false alarm in 3000 runs is at most about 1 in 1000
    assert stats.upper_bound(0, 3000) == pytest.approx(1 - 0.05 ** (1 / 3000), rel=1e-6)


@given(st.integers(1, 200), st.floats(0.01, 0.99), st.sampled_from([0.05, 0.01, 0.001]))
def test_binomial_test_keeps_alpha(n: int, p: float, alpha: float) -> None:
    pmf = stats.binomial_pmf(n, p)
    rejected = [k for k in range(n + 1) if stats.binomial_test(k, n, p) <= alpha]
    assert pmf[rejected].sum() <= alpha * (1 + 1e-6)
    low, high = stats.binomial_interval(n, p, alpha)
    assert rejected == [k for k in range(n + 1) if not low <= k <= high]


@given(st.integers(1, 60), st.data())
def test_clopper_pearson_inverts_the_tails(n: int, data: st.DataObject) -> None:
    k = data.draw(st.integers(0, n))
    low, high = stats.clopper_pearson(k, n, 0.9)
    assert low <= k / n <= high
    if k > 0:
        assert stats.binomial_tail(k, n, low, "high") == pytest.approx(0.05, rel=1e-6)
    if k < n:
        assert stats.binomial_tail(k, n, high, "low") == pytest.approx(0.05, rel=1e-6)


def test_two_sample_test_keeps_alpha_and_detects_a_shift() -> None:
    """The test by which the harness's own tests compare replicas."""
    rng = np.random.default_rng(1)
    rounds = 400
    pairs = [(rng.exponential(size=12), rng.exponential(size=9)) for _ in range(rounds)]
    alarms = sum(ks_test(a, b, i, rounds=199) <= 0.05 for i, (a, b) in enumerate(pairs))
    assert stats.lower_bound(alarms, rounds, 0.999) <= 0.05
    assert ks_test(rng.normal(2, 1, 20), rng.normal(0, 1, 20), 1) < 0.005


@pytest.mark.parametrize(("n", "k"), [(1, 1), (4, 1), (5, 3), (7, 2)])
def test_rank_sum_distribution_is_the_count_of_all_orders(n: int, k: int) -> None:
    from itertools import combinations

    sums: dict[int, int] = {}
    for places in combinations(range(n + k), k):
        below = sum(place - i for i, place in enumerate(places))
        sums[below] = sums.get(below, 0) + 1
    expected = [sums.get(u, 0) / math.comb(n + k, k) for u in range(n * k + 1)]
    assert stats._rank_sums(n, k).tolist() == pytest.approx(expected)


def test_rank_test_matches_known_values() -> None:
    replicas = list(range(9))
    assert stats.rank_test([(replicas, [100])], "high") == pytest.approx(1 / 10)
    assert stats.rank_test([(replicas, [100])], "low") == 1
    assert stats.rank_test([(replicas, [100])]) == pytest.approx(2 / 10)
    assert stats.rank_test([(replicas, [100]), (replicas, [100])], "high") == pytest.approx(1 / 100)
    assert stats.rank_test([(replicas, [100, 200])], "high") == pytest.approx(1 / math.comb(11, 2))
    # all equal: nothing to see
    assert stats.rank_test([([1.0] * 9, [1.0, 1.0])]) == 1
    assert stats.smallest_p(9, 2, "both") == pytest.approx(2 / math.comb(11, 2))


def test_few_replicas_do_not_raise_the_alarm_rate() -> None:
    """19 replicas, skewed data with ties, shared and own: at most alpha, by exact bound in simulation."""
    rng = np.random.default_rng(2)
    rounds = 4000
    alarms = {"shared": 0, "own": 0}
    for _ in range(rounds):
        draw = rng.poisson(1.0, (4, 22)).astype(float)
        alarms["shared"] += stats.rank_test([(draw[0, :19], draw[0, 19:])]) <= 0.05
        own = [(row[:19], row[19:20]) for row in draw[1:]]
        alarms["own"] += stats.rank_test(own) <= 0.05
    for number in alarms.values():
        assert stats.lower_bound(number, rounds, 0.999) <= 0.05
        assert number > 0


def test_sequential_rule_refuses_bad_shares_and_decides_at_looks() -> None:
    with pytest.raises(ValueError, match="share"):
        SequentialRule(looks=(1, 2))
    with pytest.raises(ValueError, match="at most 1"):
        SequentialRule(spend=(0.5, 0.5, 0.5))
    rule = SequentialRule(alpha=0.01)
    assert [rule.decide(1, p) for p in (0.001, 0.09, 0.11)] == ["fail", "continue", "pass"]
    assert [rule.decide(3, p) for p in (0.0025, 0.04, 0.06)] == ["fail", "continue", "pass"]
    assert [rule.decide(5, p) for p in (0.0025, 0.004, 0.006)] == ["fail", "inconclusive", "pass"]
    assert rule.decide(2, 0.0) == "continue"
    assert [rule.next_look(n) for n in range(6)] == [1, 1, 3, 3, 5, 5]


def test_sequential_rule_keeps_alpha_over_all_looks() -> None:
    """Pooled after 1, 3, 5 attempts of the same data: fails and inconclusives together within α."""
    rng = np.random.default_rng(3)
    rule, rounds = SequentialRule(alpha=0.05), 4000
    bad = attempts = 0
    for _ in range(rounds):
        replicas, observed = rng.gumbel(size=60), rng.gumbel(size=5)
        state = "continue"
        for look in rule.looks:
            state = rule.decide(look, stats.rank_test([(replicas, observed[:look])]))
            if state != "continue":
                attempts += look
                break
        bad += state in ("fail", "inconclusive")
    assert stats.lower_bound(bad, rounds, 0.999) <= rule.alpha
    assert bad > 0
    assert attempts / rounds < 1.4
