# SPDX-License-Identifier: GPL-2.0
"""The pairs of features that suites run together are complete: each possible pair is in some row."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path
from types import ModuleType

import pytest
from module_from_file import load

FILE = Path(__file__).resolve().parent.parent / "suites" / "pairs" / "test_feature_pairs.py"
WANTED = {
    "intervals_goal",
    "apply_interval",
    "several_schemes",
    "quota_size",
    "quota_time",
    "quota_goals",
    "watermarks",
    "filters",
    "probes",
    "pause",
    "commits",
    "several_targets",
    "several_kdamonds",
    "addr_unit",
    "max_nr_snapshots",
    "refresh_ms",
    "modules",
}


@pytest.fixture(scope="module")
def pairs() -> ModuleType:
    return load(FILE)


def test_every_feature_is_judged(pairs: ModuleType) -> None:
    assert set(pairs.FEATURES) == WANTED == set(pairs.EXPECTED)


def test_every_possible_pair_is_in_a_row(pairs: ModuleType) -> None:
    together = {frozenset(pair) for row in pairs.ROWS for pair in combinations(row, 2)}
    missing = {frozenset(pair) for pair in combinations(sorted(WANTED), 2)} - together
    assert missing == set(pairs.IMPOSSIBLE)
    assert all(len(reason) > 20 for reason in pairs.IMPOSSIBLE.values())


def test_rows_stay_small(pairs: ModuleType) -> None:
    assert all(2 <= len(set(row)) == len(row) <= pairs.MOST for row in pairs.ROWS)
