# SPDX-License-Identifier: GPL-2.0
"""Which states watermarks must give a scheme, by the free memory."""

import pytest

from damon_tests.damon.params import DamosWatermarks
from damon_tests.judge.schemes.watermarks import MARGIN_PERMIL, Stretch, active, states_hold

MARKS = DamosWatermarks("free_mem_rate", 1, high=800, mid=600, low=200)


@pytest.mark.parametrize(
    ("free", "states"),
    [
        ([900], [False]),
        ([700], [True]),  # it starts active, and stays so between mid and high
        ([900, 700, 400, 700, 900, 700], [False, False, True, True, False, False]),
        ([100, 400], [False, True]),
        ([100, 700], [False, False]),
    ],
)
def test_scheme_is_active_between_low_and_high_as_free_memory_moves(free, states):
    assert active([Stretch(f, f) for f in free], MARKS) == states


def test_state_close_to_a_mark_is_not_certain():
    near = Stretch(600 - MARGIN_PERMIL, 600 - MARGIN_PERMIL)
    assert active([near, Stretch(400, 400), near], MARKS, at_first=False) == [None, True, None]
    assert active([Stretch(190, 210), Stretch(700, 700), Stretch(900, 900)], MARKS) == [None, None, False]
    assert active([Stretch.between(700, 650)], MARKS, margin=49) == [True]
    assert active([Stretch.between(700, 650)], MARKS, margin=51) == [None]


def test_metric_none_is_always_active_and_high_bounds_mid():
    assert active([Stretch(100, 900)], DamosWatermarks()) == [True]
    # mid above high: below mid it becomes active, but never above high.
    odd = DamosWatermarks("free_mem_rate", 1, high=500, mid=900, low=0)
    assert active([Stretch(700, 700), Stretch(400, 400)], odd) == [False, True]


def test_any_wrong_state_fails():
    at = [Stretch(f, f) for f in (900, 700, 400, 700)]
    right = (False, False, True, True)
    assert states_hold("x", list(zip(at, right, strict=True)), MARKS).holds
    for wrong in range(4):
        works = [r != (i == wrong) for i, r in enumerate(right)]
        assert states_hold("x", list(zip(at, works, strict=True)), MARKS).holds is False


def test_uncertain_stretch_leaves_the_states_undecided_unless_one_is_wrong():
    unsure, low, high = Stretch(100, 900), Stretch(400, 400), Stretch(900, 900)
    assert states_hold("x", [(s, True) for s in (unsure, unsure)], MARKS).holds is None
    assert states_hold("x", [(low, True), (high, False), (unsure, True)], MARKS).holds is None
    assert states_hold("x", [(low, True), (high, True), (unsure, True)], MARKS).holds is False
