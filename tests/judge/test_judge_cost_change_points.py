# SPDX-License-Identifier: GPL-2.0
"""Change points: planted steps are found where they are, noise and slow runs are not steps."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from damon_tests.judge.cost.change_points import change_points
from damon_tests.ports import NotSupported

pytest.importorskip("ruptures")


def history(*levels: float, runs: int = 8, noise: float = 0.0002, seed: int = 1) -> list[float]:
    rng = np.random.default_rng(seed)
    return [level * (1 + noise * rng.standard_normal()) for level in levels for _ in range(runs)]


def test_planted_step_is_found() -> None:
    (point,) = change_points(history(2254, 2254 * 1.005))
    assert point.index == 8
    assert point.change == pytest.approx(0.005, abs=5e-4)


def test_two_steps_are_found_in_order() -> None:
    points = change_points(history(2254, 2300, 2200))
    assert [p.index for p in points] == [8, 16]
    assert points[0].change > 0 > points[1].change


@pytest.mark.parametrize("seed", range(20))
def test_noise_has_no_step(seed: int) -> None:
    assert change_points(history(2254, 2254, noise=0.0005, seed=seed)) == []


def test_noisier_metric_needs_a_larger_step() -> None:
    assert change_points(history(100, 100, noise=0.02)) == []
    assert [p.index for p in change_points(history(100, 130, noise=0.02))] == [8]


def test_last_run_alone_can_be_a_step() -> None:
    assert [p.index for p in change_points([*history(2254), 2300.0])] == [8]


def test_history_of_one_run_has_no_step() -> None:
    assert change_points([2254.0]) == change_points([]) == []


def test_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ruptures", None)
    with pytest.raises(NotSupported, match="ruptures"):
        change_points([1.0, 2.0])
