# SPDX-License-Identifier: GPL-2.0
"""Comparisons of cost: planted differences are found, equal kernels are the same, unlike runs are refused."""

from __future__ import annotations

import numpy as np
import pytest

from damon_tests.judge.cost.compare import (
    by_function,
    compare,
    differences,
    summary,
    t_cdf,
    t_quantile,
)
from damon_tests.judge.cost.samples import CostSamples, instructions
from damon_tests.ports import UsageError
from damon_tests.ports.cost import CallPath, CallTree

NOISE = 0.0002
"""Noise of one window of a check: the largest measured on 7.3 (0.02 %)."""

METRICS = 20


def bench(rng: np.random.Generator, factor: float = 1.0, windows: int = 3) -> dict[str, CostSamples]:
    values = 2254 * factor * (1 + NOISE * rng.standard_normal((METRICS, windows)))
    return {f"m{i}": instructions(f"m{i}", row.tolist()) for i, row in enumerate(values)}


def outcomes(factor: float, seeds: range) -> list[str]:
    results = []
    for seed in seeds:
        rng = np.random.default_rng(seed)
        results += [
            effect.outcome for effect in compare(bench(rng, windows=6), bench(rng, factor, windows=6))
        ]
    return results


def test_planted_increase_of_half_a_percent_is_found() -> None:
    """It is found in at least 95 % of the comparisons, corrected for 20 metrics."""
    results = outcomes(1.005, range(100))
    assert results.count("dearer") >= 0.95 * len(results)
    assert "cheaper" not in results


def test_planted_decrease_is_found() -> None:
    results = outcomes(0.995, range(20))
    assert results.count("cheaper") >= 0.95 * len(results)


def test_equal_kernels_are_the_same() -> None:
    """They are the same in at least 99 % of the comparisons, and never dearer or cheaper."""
    results = outcomes(1.0, range(100))
    assert results.count("same") >= 0.99 * len(results)
    assert not {"dearer", "cheaper"} & {*results}


def test_single_windows_decide_nothing() -> None:
    a, b = {"m": instructions("m", [100])}, {"m": instructions("m", [200])}
    assert compare(a, b)[0].outcome == "cannot tell"


def test_exact_counts_decide_at_once() -> None:
    a, b = {"m": instructions("m", [100, 100])}, {"m": instructions("m", [101, 101])}
    (effect,) = compare(a, b)
    assert effect.outcome == "dearer"
    assert effect.change == pytest.approx(0.01)
    assert compare(a, a)[0].outcome == "same"


def test_rates_that_differ_by_chance_are_the_same() -> None:
    """Wake-ups in six windows of two equal kernels, as measured on 7.3."""
    first = {"w": CostSamples("w", "per second", (171.5, 166.5, 170.8, 168.1, 167.9, 169.2))}
    second = {"w": CostSamples("w", "per second", (168.9, 170.1, 167.0, 170.4, 166.9, 169.6))}
    assert compare(first, second)[0].outcome == "same"
    doubled = {"w": CostSamples("w", "per second", tuple(2 * v for v in second["w"].values))}
    assert compare(first, doubled)[0].outcome == "dearer"


def test_different_units_are_refused() -> None:
    a, b = {"m": instructions("m", [1, 1])}, {"m": CostSamples("m", "ns", (1.0, 1.0))}
    with pytest.raises(UsageError, match="instructions and time are never compared"):
        compare(a, b)


def test_runs_without_a_common_metric_are_refused() -> None:
    with pytest.raises(UsageError, match="no metric in common"):
        compare({"m": instructions("m", [1])}, {"n": instructions("n", [1])})


def test_unlike_machines_are_named() -> None:
    before = {"qemu": "10.0.2", "clock": "instructions"}
    assert differences(before, before) == []
    assert differences(before, {**before, "clock": "host"}) == ["clock: 'instructions' and 'host'"]


def test_function_that_grew_is_named() -> None:
    def samples(own: int) -> CostSamples:
        paths = (CallPath(("kdamond_fn",), 1, 100), CallPath(("kdamond_fn", "walk_pgd_range"), 1, own))
        return instructions("check", [100 + own], CallTree(paths))

    (change,) = by_function(samples(100), samples(130))
    assert (change.name, change.before, change.after) == ("walk_pgd_range", 100, 130)


def test_summary_counts_outcomes() -> None:
    a = {"m": instructions("m", [100, 100]), "n": instructions("n", [1])}
    assert summary(compare(a, a)) == {"dearer": 0, "cheaper": 0, "same": 1, "cannot tell": 1}


@pytest.mark.parametrize(
    ("p", "freedom", "expected"),
    [(0.975, 1, 12.7062), (0.975, 4, 2.7764), (0.995, 10, 3.1693), (0.99, 3, 4.5407)],
)
def test_t_quantiles_match_tables(p: float, freedom: int, expected: float) -> None:
    assert t_quantile(p, freedom) == pytest.approx(expected, abs=1e-3)
    assert t_cdf(expected, freedom) == pytest.approx(p, abs=1e-4)
