# SPDX-License-Identifier: GPL-2.0
"""Savings: every run under a scheme is compared with the run of the same workload and seed without."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from damon_tests.judge.cost.savings import Arm, WorkloadCost, compared, middle

COST = WorkloadCost(
    work=100.0, own=5_000, kdamond=0, machine=9_000, tlb_flushes=3, kdamond_flushes=1, window_ns=10_000
)
WITHOUT = Arm("reclaim", "zipf", "none", 1, COST, rss=200.0, used=400.0, minor_faults=5, refaults=0)
WITH = replace(
    WITHOUT,
    scheme="reclaim",
    cost=replace(COST, own=5_150, kdamond=200),
    rss=50.0,
    used=300.0,
    refaults=7,
)


def test_saving_is_relative_to_the_run_without() -> None:
    (saving,) = compared([WITHOUT, WITH])
    assert (saving.use, saving.workload, saving.scheme) == ("reclaim", "zipf", "reclaim")
    assert saving.rss_saved == (0.75,)
    assert saving.used_saved == (0.25,)
    assert saving.slowdown == pytest.approx((0.03,))
    assert saving.kdamond == (0.02,)
    assert saving.refaults == (7,)


def test_slowdown_does_not_depend_on_how_much_work_fitted_into_the_window() -> None:
    half = replace(WITH, cost=replace(WITH.cost, work=50.0, own=2_575))
    assert compared([WITHOUT, half])[0].slowdown == pytest.approx((0.03,))


def test_runs_are_paired_by_use_workload_and_seed() -> None:
    arms = [
        WITHOUT,
        replace(WITHOUT, seed=2, rss=100.0),
        WITH,
        replace(WITH, seed=2),
        replace(WITHOUT, use="tiering", rss=1_000.0),
        replace(WITH, use="tiering", scheme="tiering"),
    ]
    assert [(s.use, s.rss_saved) for s in compared(arms)] == [
        ("reclaim", (0.75, 0.5)),
        ("tiering", (0.95,)),
    ]


def test_run_without_its_baseline_is_refused() -> None:
    with pytest.raises(ValueError, match="never without it with the seed 2"):
        compared([WITHOUT, replace(WITH, seed=2)])


def test_workload_that_did_nothing_is_infinitely_slow() -> None:
    assert replace(COST, work=0.0).own_per_work == float("inf")


def test_median_of_nothing_is_no_number() -> None:
    assert middle([4.0, 1.0, 3.0]) == 3.0
    assert np.isnan(middle([]))
