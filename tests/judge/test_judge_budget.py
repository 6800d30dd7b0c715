# SPDX-License-Identifier: GPL-2.0
"""Budgets: files with reasons and sources, exact decisions, and decisions by intervals of the median."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from damon_tests.judge.cost.budget import (
    Budget,
    Limit,
    Pair,
    load,
    median_interval,
    median_within,
    overheads,
    paired,
    within_budget,
)
from damon_tests.judge.cost.samples import CostSamples, instructions
from damon_tests.judge.verdict import Measurement
from damon_tests.ports import UsageError
from damon_tests.ports.cost import CallPath, CallTree

GOOD = """\
budgets:
  - metric: check.fvaddr
    unit: instructions
    reason: checks are what kdamond does
    limits:
      - {series: "7.3", limit: 2300, source: measured 2254}
"""
CHECK = Budget(
    "check.fvaddr", "instructions", "checks are what kdamond does", {"7.3": Limit(2300, "measured 2254")}
)
CPU = Budget("cpu", "fraction", "a production monitor", {"any": Limit(0.03, "the field's promise")})


def test_budget_file_is_loaded(tmp_path: Path) -> None:
    path = tmp_path / "budgets.yaml"
    path.write_text(GOOD)
    assert load(path) == {"check.fvaddr": CHECK}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", ":1: the file is empty"),
        ("- 1", ":1: .*expected keys"),
        ("budgets:\n  - 3", ":2: .*expected keys"),
        (GOOD.replace("    unit: instructions\n", ""), ":2: .*'unit' is missing"),
        (GOOD.replace("unit:", "units:"), ":3: .*unknown key 'units'"),
        (GOOD.replace("2300", "much"), ":6: limit: 'much' is not a number"),
        (GOOD.replace("2300", "-1"), ":6: limit: '-1' is not a number"),
        (GOOD.replace("checks are what kdamond does", "''"), ":4: reason: is empty"),
        (GOOD.replace(", source: measured 2254", ""), ":6: .*'source' is missing"),
        (GOOD + GOOD.partition("\n")[2], ":7: .*has a budget already"),
        (GOOD + '      - {series: "7.3", limit: 1, source: x}\n', ":7: .*has a limit already"),
        (GOOD.partition("    limits")[0] + "    limits: []\n", "without limits"),
        ("budgets: [", ":1: not valid YAML|:2: not valid YAML"),
    ],
)
def test_wrong_budget_file_is_refused_with_its_line(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "b.yaml"
    path.write_text(text)
    with pytest.raises(UsageError, match=words) as error:
        load(path)
    assert str(path) in str(error.value)


def test_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"nothing\.yaml: No such file"):
        load(tmp_path / "nothing.yaml")


@pytest.mark.parametrize(
    ("values", "holds"),
    [((2254, 2255), True), ((2300,), True), ((2301, 2302), False), ((2299, 2301), None)],
)
def test_exact_samples_pass_only_if_all_keep_the_limit(values: tuple[float, ...], holds: bool | None) -> None:
    assert within_budget(CHECK, instructions("check.fvaddr", values), "7.3").holds is holds


def test_dearer_check_names_its_functions() -> None:
    tree = CallTree((CallPath(("kdamond_fn", "walk_pgd_range"), 1, 75), CallPath(("kdamond_fn",), 1, 25)))
    check = within_budget(CHECK, instructions("check.fvaddr", [2400], tree), "7.3")
    assert check.holds is False
    assert "walk_pgd_range 75.0%, kdamond_fn 25.0%" in check.detail


def test_failure_names_the_functions_that_grew_since_the_limit_was_set() -> None:
    limit = Limit(100, "measured", {"walk_pgd_range": 60.0, "mas_walk": 30.0, "kdamond_fn": 5.0})
    budget = Budget("check.fvaddr", "instructions", "r", {"7.3": limit})
    counts = {"walk_pgd_range": 600, "mas_walk": 450, "kdamond_fn": 50, "planted": 100}
    tree = CallTree(tuple(CallPath((name,), 10, count) for name, count in counts.items()))
    check = within_budget(budget, instructions("check.fvaddr", [120.0], tree), "7.3")
    assert check.holds is False
    assert "dearer than when the limit was set: mas_walk 30 -> 45, planted at most 5 -> 10;" in check.detail
    kept = within_budget(budget, instructions("check.fvaddr", [99.0], tree), "7.3")
    assert "dearer than" not in kept.detail


def test_functions_of_a_limit_are_read_and_wrong_ones_refused(tmp_path: Path) -> None:
    path = tmp_path / "b.yaml"
    text = GOOD.replace("2254}", 'it, functions: "walk_pgd_range 600.5, mas_walk 320"}')
    path.write_text(text)
    limit = load(path)["check.fvaddr"].limits["7.3"]
    assert limit.functions == {"walk_pgd_range": 600.5, "mas_walk": 320.0}
    path.write_text(text.replace("mas_walk 320", "mas_walk many"))
    with pytest.raises(UsageError, match=r"b\.yaml:6: .*'mas_walk many' is no function"):
        load(path)


def test_series_without_limit_is_undecided() -> None:
    check = within_budget(CHECK, instructions("check.fvaddr", [1]), "7.9")
    assert check.holds is None
    assert "no limit for the series 7.9" in check.detail


def test_other_unit_is_refused() -> None:
    with pytest.raises(UsageError, match="in instructions, and it was measured in ns"):
        within_budget(CHECK, CostSamples("check.fvaddr", "ns", (1.0,)), "7.3")


def noisy(samples: list[float]) -> Measurement:
    return Measurement("cpu", 0, "fraction", tuple(samples))


def test_noisy_samples_are_judged_by_their_median() -> None:
    assert median_within(noisy([0.01 + i / 1e4 for i in range(20)]), 0.03, "r").holds is True
    assert median_within(noisy([0.05 + i / 1e4 for i in range(20)]), 0.03, "r").holds is False
    assert median_within(noisy([0.01, 0.05] * 10), 0.03, "r").holds is None
    assert median_within(noisy([0.01] * 3), 0.03, "r").holds is None
    assert median_within(noisy([]), 0.03, "r").holds is None


def pairs(overhead: float, noise: float, seed: int) -> Iterator[Pair]:
    rng = np.random.default_rng(seed)
    while True:
        yield Pair(100.0, 100.0 * (1 + overhead + noise * rng.standard_normal()))


def test_pairs_are_taken_until_decided() -> None:
    """A clear case is decided at the first look; a case at the limit takes all pairs and is undecided."""
    clear, close = pairs(0.01, 0.001, 1), pairs(0.03, 0.01, 2)
    check = paired(CPU, CPU.limits["any"], lambda: next(clear))
    assert check.holds is True
    assert len(check.measurement.samples) == 10
    check = paired(CPU, CPU.limits["any"], lambda: next(close))
    assert check.holds is None
    assert len(check.measurement.samples) == 40


def test_pairs_within_budget_do_not_fail() -> None:
    failed = 0
    for seed in range(300):
        stream = pairs(0.0299, 0.01, seed)
        failed += paired(CPU, CPU.limits["any"], lambda s=stream: next(s)).holds is False  # type: ignore[misc]
    assert failed <= 3


@pytest.mark.parametrize(("planted", "holds", "least"), [(0.0, True, 990), (0.03, False, 950)])
def test_planted_slowdown_is_found_and_none_is_seen_where_none_is(
    planted: float, holds: bool, least: int
) -> None:
    """Of 1,000 runs against the limit of 2 %; windows of a guest vary less than the 1 % that is assumed."""
    limit, decided = Limit(0.02, "the field's promise"), 0
    for seed in range(1000):
        stream = pairs(planted, 0.01, seed)
        decided += paired(CPU, limit, lambda s=stream: next(s)).holds is holds  # type: ignore[misc]
    assert decided >= least


def test_median_interval_covers_at_its_confidence() -> None:
    rng = np.random.default_rng(5)
    missed = 0
    for _ in range(2000):
        low, high = median_interval(rng.exponential(size=15).tolist(), 0.05)
        missed += not low <= np.log(2) <= high
    assert 0 < missed <= 0.05 * 2000
    assert median_interval([3, 1, 2, 5, 4, 9, 8, 7, 6, 10], 0.05) == (2, 9)


def test_overhead_is_relative_to_run_without() -> None:
    assert overheads([Pair(100, 103), Pair(200, 200)]) == pytest.approx((0.03, 0))
