# SPDX-License-Identifier: GPL-2.0
"""The worked numbers of the specification (§10), read from its tables: the reference computes the same."""

from __future__ import annotations

import re

import numpy as np
import pytest
from reference_support import RULES
from specification_text import read_specification

from damon_tests.ports import page_size
from damon_tests.reference.core.regions import Regions, cut_to_limit, set_ranges
from damon_tests.reference.rules import monitoring, schemes

SECTIONS = read_specification().sections
WORDS = {"UL": monitoring.U64_MAX, "UI": monitoring.U32_MAX, "any": 12345, "none": 0, "a page": page_size()}
Row = list[str]


def tables(section: str) -> list[list[Row]]:
    """The cells of each table of a section, without the line under the heads."""
    examples = []
    for block in re.findall(r"(?:^\|.*\|\n)+", SECTIONS[section] + "\n", re.MULTILINE):
        rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in block.splitlines()]
        examples.append([row for row in rows if set(row[0]) != {"-"}])
    return examples


def columns(table: list[Row]) -> list[tuple[int, ...]]:
    """The numbers of a table whose heads are on the left."""
    return [tuple(map(number, column)) for column in zip(*(row[1:] for row in table), strict=True)]


def number(cell: str) -> int:
    cell = cell.removesuffix(" and more")
    if cell.endswith(" pages"):
        return int(cell.removesuffix(" pages")) * page_size()
    return WORDS[cell] if cell in WORDS else int(cell)


def ranges(cell: str) -> list[tuple[int, int]]:
    pairs = (text.split("-") for text in cell.removeprefix("a commit of ").split(", ") if "-" in text)
    return [(int(start), int(end)) for start, end in pairs]


@pytest.mark.parametrize(("x", "score", "following"), tables("10.1")[0][1:])
def test_goal_feedback_matches_worked_numbers(x: str, score: str, following: str) -> None:
    expected = number(x) if following == "the same" else number(following)
    assert schemes.feedback(number(x), number(score)) == expected


@pytest.mark.parametrize(("score", "factor"), columns(tables("10.2")[0]))
def test_interval_tuning_matches_worked_numbers(score: int, factor: int) -> None:
    assert monitoring.tuning_adaptation(score) == (factor or 10_000)  # none: as it was


@pytest.mark.parametrize(("before", "wanted", "after"), tables("10.3")[0][1:])
def test_set_regions_matches_worked_numbers(before: str, wanted: str, after: str) -> None:
    named = re.search(r"A is ([\d, -]+)\.", SECTIONS["10.3"])
    assert named is not None
    old = ranges(named[1] if before == "A" else before)
    if not ranges(wanted):
        assert (wanted, after) == ("a commit of none", before)  # the setter is not asked then
        return
    regions = set_ranges(Regions.of_ranges(old), ranges(wanted), 1, 0, RULES)
    assert regions is not None
    assert regions.ranges() == ranges(after)


@pytest.mark.parametrize("row", tables("10.4")[0][1:])
def test_size_limit_matches_worked_numbers(row: Row) -> None:
    total, m, minimum, limit, count = map(number, row)
    largest = monitoring.align_up(monitoring.merge_size_limit(total, minimum, m), m)
    assert largest == limit
    assert len(cut_to_limit(Regions.of_ranges([(0, total)]), largest)) == count


@pytest.mark.parametrize(("n", "maximum", "step"), columns(tables("10.4")[1]))
def test_partial_split_matches_worked_numbers(n: int, maximum: int, step: int) -> None:
    assert monitoring.partial_split_step(n, maximum) == step


@pytest.mark.parametrize(("counter", "old", "new", "rescaled"), columns(tables("10.5")[0]))
def test_rescaled_counters_match_worked_numbers(counter: int, old: int, new: int, rescaled: int) -> None:
    assert monitoring.rescale_accesses(np.array([counter]), old, new).tolist() == [rescaled]


@pytest.mark.parametrize(("nr", "last", "left", "window", "value"), columns(tables("10.5")[1]))
def test_moving_value_matches_worked_numbers(nr: int, last: int, left: int, window: int, value: int) -> None:
    nothing = np.zeros(1, np.int64)
    assert monitoring.moving_value(np.array([nr]), np.array([last]), nothing, left, window).tolist() == [
        value
    ]


@pytest.mark.parametrize("row", tables("10.6")[0][1:])
def test_hot_score_matches_worked_numbers(row: Row) -> None:
    nr, window, age, aggr_us, by_nr, by_age, score = map(number, row)
    if row[0] == "any":
        nr = window  # any is no more than all samples
    assert schemes.hot_score(np.array([nr]), window, np.array([age]), aggr_us, by_nr, by_age).tolist() == [
        score
    ]


@pytest.mark.parametrize(("filters", "core", "operations"), tables("10.7")[0][1:])
def test_defaults_of_filter_layers(filters: str, core: str, operations: str) -> None:
    allows = {layer: f"{layer} allow" in filters for layer in ("core", "operations")}
    asks_operations = "operations" in filters
    rejects = schemes.core_default_reject(allows["core"], asks_operations)
    assert (rejects, schemes.ops_default_reject(allows["operations"])) == (core == "Y", operations == "Y")


def test_nothing_is_left_out() -> None:
    """Reading no table would be no failure above."""
    counts = {name: sum(map(len, tables(name))) for name in SECTIONS if name.startswith("10.")}
    assert counts == {"10.1": 15, "10.2": 2, "10.3": 12, "10.4": 9, "10.5": 13, "10.6": 13, "10.7": 6}
