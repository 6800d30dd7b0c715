# SPDX-License-Identifier: GPL-2.0
"""Checks of scale: constant, linear and proportional costs hold, planted wrong ones fail."""

from __future__ import annotations

import pytest

from damon_tests.judge.cost.scaling import Point, flat, linear, proportional, within_bound

MIB = 1 << 20
SIZES = [16 * MIB, 64 * MIB, 256 * MIB, 512 * MIB]


def test_constant_cost_is_flat() -> None:
    points = [Point(size, 2254 + i) for i, size in enumerate(SIZES)]
    assert flat("check", points).holds is True


def test_planted_walk_over_the_mapping_is_found() -> None:
    """One instruction for each page table entry (per 512 pages), spread over 200 regions, is too much."""
    points = [Point(size, 2254 + 512 * size / (2 * MIB) / 200) for size in SIZES]
    check = flat("check", points)
    assert check.holds is False
    assert "2,909.4 at 536,870,912" in check.detail


def test_planted_walk_is_found_at_any_place() -> None:
    assert flat("check", [Point(1, 100), Point(2, 103), Point(3, 100)]).holds is False


def test_cost_may_fall() -> None:
    """Measured on 7.3: where 1 TiB is reserved, walks end at higher levels."""
    assert flat("check", [Point(16 * MIB, 1477.7), Point(1 << 40, 1309.9)]).holds is True


def test_slow_growth_over_many_points_fails() -> None:
    assert flat("check", [Point(i, 100 * 1.008**i) for i in range(4)]).holds is False


def test_linear_cost_may_have_a_constant_part() -> None:
    assert linear("kdamond", [Point(n, 5e5 + 2254 * n) for n in (100, 200, 400)]).holds is True


@pytest.mark.parametrize("wrong", [lambda n: 2254 * n + n * n, lambda n: 2254 * 400, lambda n: 1e6 - n])
def test_planted_growth_is_found(wrong: object) -> None:
    assert callable(wrong)
    assert linear("kdamond", [Point(n, wrong(n)) for n in (100, 200, 400)]).holds is False


def test_cost_times_a_constant_is_proportional() -> None:
    assert proportional("kdamond", [Point(r, 450e3 * r) for r in (50, 100, 200)]).holds is True


def test_planted_constant_part_is_found() -> None:
    assert proportional("kdamond", [Point(r, 450e3 * r + 2e6) for r in (50, 100, 200)]).holds is False


def test_too_few_points_are_refused() -> None:
    with pytest.raises(ValueError, match="2 different ones"):
        flat("check", [Point(1, 1), Point(1, 2)])


def test_patterns_within_the_bound_pass_and_the_dearest_is_named() -> None:
    check = within_bound("kdamond", {"zipf": 43e6, "idle": 20e6}, 44e6)
    assert check.holds is True
    assert check.detail.startswith("dearest: zipf; zipf 43,000,000, idle 20,000,000")


def test_pattern_that_makes_twice_as_many_regions_fails() -> None:
    assert within_bound("kdamond", {"zipf": 88e6, "idle": 20e6}, 44e6).holds is False


def test_bound_without_patterns_is_refused() -> None:
    with pytest.raises(ValueError, match="no pattern was measured"):
        within_bound("kdamond", {}, 44e6)
