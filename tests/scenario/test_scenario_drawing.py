# SPDX-License-Identifier: GPL-2.0
"""Drawing and shrinking of cases, and the seed and budget of a run."""

from __future__ import annotations

import argparse
import random
from collections.abc import Iterator
from dataclasses import dataclass
from types import SimpleNamespace

import pytest

from damon_tests import pytest_options
from damon_tests.arguments.values import budget_s
from damon_tests.patterns.dump import dump
from damon_tests.patterns.load import parse
from damon_tests.ports import page_size
from damon_tests.scenario.drawing import Draws, first_failure, shrink
from damon_tests.scenario.drawn_layouts import MOST_BYTES, SHAPES, AddressSpace, Mapping, draw_spaces
from damon_tests.workload.layout import plan_layout, process_vmas


@dataclass(frozen=True)
class Numbers:
    values: tuple[int, ...]

    def simpler(self) -> Iterator[Numbers]:
        for i, value in enumerate(self.values):
            yield Numbers(self.values[:i] + self.values[i + 1 :])
            if value:
                yield Numbers((*self.values[:i], value // 2, *self.values[i + 1 :]))


def test_shrinking_ends_with_a_case_that_cannot_be_simpler() -> None:
    assert shrink(Numbers((3, 90, 7, 41)), lambda case: any(v > 40 for v in case.values), 100) == Numbers(
        (41,)
    )


def test_shrinking_asks_no_more_often_than_allowed() -> None:
    asked: list[Numbers] = []

    def fails(case: Numbers) -> bool:
        asked.append(case)
        return True

    shrink(Numbers(tuple(range(50))), fails, 7)
    assert len(asked) == 7


def test_first_failing_case_is_shrunk_and_repeated() -> None:
    def run(case: Numbers) -> tuple[list[str], int]:
        return [f"{v} is large" for v in case.values if v > 40], 10

    def run_kept(_: Numbers) -> tuple[list[str], int]:
        return [], 10

    numbers = iter((3, 5, 60, 7))
    wrong, judged = first_failure(
        Draws(1, "a"), 4, lambda _: Numbers((1, next(numbers))), run, run, tries=100
    )
    assert (wrong, judged) == (["case 3, shrunk: Numbers(values=(60,)): 60 is large"], 30)
    (text,), _ = first_failure(Draws(1, "a"), 1, lambda _: Numbers((60,)), run, run_kept, tries=100)
    assert text.endswith("passes when repeated; at first: 60 is large")


def test_without_a_failing_case_all_that_was_judged_counts() -> None:
    def run(_: Numbers) -> tuple[list[str], int]:
        return [], 2

    assert first_failure(Draws(1, "a"), 4, lambda _: Numbers((1,)), run, run, tries=9) == ([], 8)


def test_draws_repeat_with_the_seed_and_differ_between_tests() -> None:
    def of(seed: int, test: str) -> list[float]:
        return [rng.random() for rng in Draws(seed, test)(3)]

    assert of(1, "a") == of(1, "a")
    assert len({*of(1, "a"), *of(2, "a"), *of(1, "b")}) == 9


def test_a_budget_draws_more_cases() -> None:
    times = iter(range(100))
    draws = Draws(1, "a", seconds=10, clock=lambda: float(next(times)))
    assert sum(1 for _ in draws(2)) > 5
    assert sum(1 for _ in Draws(1, "a")(2)) == 2


def test_seeds_change_from_run_to_run_in_ci_only() -> None:
    def seed(given: int | None, environment: dict[str, str]) -> int:
        option = SimpleNamespace(seed=given)
        pytest_options.choose_seed(option, environment)
        return int(option.seed)

    assert seed(None, {}) == pytest_options.USUAL_SEED
    assert seed(7, {"CI": "true"}) == 7
    assert len({seed(None, {"CI": "true"}) for _ in range(5)}) > 1


@pytest.mark.parametrize(("text", "seconds"), [("90s", 90), ("1.5 min", 90), ("2h", 7200)])
def test_budgets_are_times_with_units(text: str, seconds: float) -> None:
    assert budget_s(text) == seconds


@pytest.mark.parametrize("text", ["", "2", "2 days", "-1h", "h"])
def test_other_budgets_are_refused(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="write 90s, 30min or 2h"):
        budget_s(text)


def test_drawn_spaces_are_patterns_that_fit() -> None:
    rng = random.Random(1)
    for _ in range(200):
        for pattern in draw_spaces(rng, 4).patterns(10**9):
            assert parse(dump(pattern)) == pattern
            layout = plan_layout(pattern)
            vmas = process_vmas(pattern, layout)
            assert list(vmas) == sorted(vmas)
            assert vmas[-1][1] < 1 << 47
            gaps = [r.gap_bytes or 0 for r in pattern.regions]
            assert sum(gaps) <= MOST_BYTES


def test_every_shape_of_gaps_has_whole_pages() -> None:
    rng = random.Random(1)
    for shape in SHAPES.values():
        for count in (1, 2, 8):
            gaps = shape(rng, count)
            assert len(gaps) == count
            assert all(gap > 0 and gap % page_size() == 0 for gap in gaps)


def test_simpler_spaces_end_at_one_mapping_of_a_page() -> None:
    space = AddressSpace((Mapping(1 << 20, 5 << 30, "goes"), Mapping(8192, 4096, "comes")))
    assert shrink(space, lambda case: True, 1000) == AddressSpace((Mapping(4096, 4096, "stays"),))
