# SPDX-License-Identifier: GPL-2.0
"""ci/bench/slowdown_power.py: verdicts on runs drawn from measured pairs, and on planted slowdowns."""

from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from module_from_file import load

from damon_tests.judge.cost.budget import Pair

SCRIPT = Path(__file__).parents[1] / "ci" / "bench" / "slowdown_power.py"


@pytest.fixture
def script() -> ModuleType:
    return load(SCRIPT)


def pairs_with(spread: float) -> list[Pair]:
    values = 1 + spread * np.random.default_rng(5).standard_normal(40)
    return [Pair(100.0, 100.0 * float(value)) for value in values]


def test_planted_slowdown_fails_and_none_passes(script: ModuleType) -> None:
    """Windows that vary by 0.5 %: a slowdown of 3 % is 1 % above the limit, none is 2 % below it."""
    pairs = pairs_with(0.005)
    assert script.outcomes(pairs, runs=300)["PASS"] >= 297
    assert script.outcomes(pairs, 0.03, runs=300)["FAIL"] >= 285


def test_noise_decides_nothing(script: ModuleType) -> None:
    counts = script.outcomes(pairs_with(0.3), runs=100)
    assert counts["INCONCLUSIVE"] >= 60


def test_report_says_what_was_measured(script: ModuleType) -> None:
    first, *others = script.report(pairs_with(0.001), 80.0)
    assert "40 pairs in 80 s" in first
    assert others[0] == "as measured  of 1000 runs: 1000 PASS"
    assert others[2] == "planted +3%  of 1000 runs: 1000 FAIL"
