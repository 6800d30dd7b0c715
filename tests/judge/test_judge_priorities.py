# SPDX-License-Identifier: GPL-2.0
"""Priorities: the specification's vectors, the actions that are scored, the lowest score that gets quota."""

import pytest

from damon_tests.damon.params import ANY, DamonAttrs, DamonCtx, Damos, DamosAccessPattern, DamosQuota
from damon_tests.damon.series import Series
from damon_tests.judge.schemes import priorities
from damon_tests.judge.schemes.quota_passes import Piece

U32 = (1 << 32) - 1
ATTRS = DamonAttrs(sample_us=5_000, aggr_us=100_000)

# (nr_accesses, W, age, aggr_us, weight of the rate, of the age) -> hot score: specification 10.6
VECTORS = [
    ((0, 20, 0, 100_000, 1, 1), 24),
    ((20, 20, 0, 100_000, 1, 1), 74),
    ((0, 20, 10, 100_000, 1, 1), 23),
    ((0, 20, 1200, 100_000, 0, 1), 38),
    ((20, 20, 1200, 100_000, 0, 1), 59),
    ((10, 20, 600, 100_000, 1, 1), 53),
    ((1, 20, 600, 100_000, 1, 1), 31),
    ((20, 20, U32, 100_000, 1, 1), 96),
    ((0, 20, U32, 100_000, 0, 1), 3),
    ((5, 20, 30, 100_000, 1000, 0), 24),
    ((3, 20, 90, 1_000_000, 200, 1000), 51),
    ((20, 20, 5, 100_000, 0, 0), 0),
]


@pytest.mark.parametrize(("given", "score"), VECTORS)
def test_hot_score_matches_specification_vectors(given, score):
    assert priorities.hot_score(*given) == score


def piece(start, end, nr=0, age=0):
    return Piece(0, start, end, nr, age)


def scheme(action, nr=1, age=1):
    quota = DamosQuota(weight_nr_accesses_permil=nr, weight_age_permil=age)
    return Damos(action, ANY, quota=quota)


@pytest.mark.parametrize(
    ("action", "operations", "level", "prefers"),
    [
        ("pageout", "vaddr", Series(6, 12), "cold"),
        ("pageout", "paddr", Series(7, 3), "cold"),
        ("lru_prio", "paddr", Series(7, 3), "hot"),
        ("lru_prio", "fvaddr", Series(7, 3), None),
        ("migrate_hot", "fvaddr", Series(7, 3), "hot"),
        ("migrate_hot", "fvaddr", Series(6, 16), None),
        ("migrate_hot", "paddr", Series(6, 12), "hot"),
        ("stat", "paddr", Series(7, 3), None),
    ],
)
def test_action_prefers_hot_or_cold_by_operations_and_series(action, operations, level, prefers):
    assert priorities.direction(Damos(action), operations, level) == prefers


def test_cold_score_is_99_minus_hot_score():
    ctx, hot = DamonCtx("paddr", attrs=ATTRS), piece(0, 4096, nr=20)
    assert priorities.score(hot, scheme("lru_prio"), ctx, Series(7, 3)) == 74
    assert priorities.score(hot, scheme("lru_deprio"), ctx, Series(7, 3)) == 99 - 74
    assert priorities.score(hot, scheme("stat"), ctx, Series(7, 3)) == 99


def test_lowest_chosen_score_uses_up_the_quota():
    scored = [(10, 100), (50, 100), (90, 100)]
    assert priorities.lowest_chosen(scored, 100) == 90
    assert priorities.lowest_chosen(scored, 101) == 50
    assert priorities.lowest_chosen(scored, 300) == 10
    assert priorities.lowest_chosen(scored, 301) == 0
    assert priorities.lowest_chosen([], 1) == 0


def test_eligible_memory_has_the_priority_and_is_joined():
    ctx = DamonCtx("paddr", attrs=ATTRS)
    pieces = [piece(0, 10, 20), piece(10, 20, 0), piece(20, 30, 0), piece(40, 50, 0)]
    cold = priorities.eligible(pieces, scheme("pageout"), ctx, Series(7, 3), 20)
    assert cold == [((0, 10), (0, 30)), ((0, 40), (0, 50))]
    everything = priorities.eligible(pieces, scheme("pageout"), ctx, Series(7, 3), 31)
    assert everything == [((0, 0), (0, 30)), ((0, 40), (0, 50))]


def test_matching_uses_32_bits_of_nr_accesses_and_age():
    some = Damos("pageout", DamosAccessPattern(0, 1 << 60, 1, U32, 0, 1 << 32))
    assert priorities.matches(piece(0, 10, 1), ANY)
    # An upper bound of 2 ** 32 is 0 in the core.
    assert priorities.matches(piece(0, 10, nr=1, age=0), some.access_pattern)
    assert not priorities.matches(piece(0, 10, nr=1, age=1), some.access_pattern)
    assert not priorities.matches(piece(0, 10, nr=0, age=0), some.access_pattern)


def test_run_without_excluded_memory_is_undecided():
    ctx, alike = DamonCtx("paddr", attrs=ATTRS), [piece(0, 10), piece(10, 20)]
    assert priorities.selective([alike], scheme("pageout"), ctx, Series(7, 3), 5).holds is None
    differing = [piece(0, 10, 20), piece(10, 20)]
    assert priorities.selective([alike, differing], scheme("pageout"), ctx, Series(7, 3), 5).holds
