# SPDX-License-Identifier: GPL-2.0
"""ci/bench/guest_profile.py: threads and functions of a stretch, the dearest first."""

import sys
from pathlib import Path
from types import ModuleType

import pytest
from module_from_file import load

from damon_tests.ports.cost import CallPath, CallTree, Cost, ThreadCost

SCRIPT = Path(__file__).parents[1] / "ci" / "bench" / "guest_profile.py"


@pytest.fixture
def script() -> ModuleType:
    return load(SCRIPT)


def test_dearest_threads_and_functions_come_first(script: ModuleType) -> None:
    tree = CallTree((CallPath(("a",), 1, 100), CallPath(("a", "b"), 1, 900)))
    threads = {"kdamond.0": ThreadCost(250_000, 3), "engine": ThreadCost(750_000, 9)}
    cost = Cost("emulator", "instructions", 1_000_000, 12, 500_000_000, tree, threads)
    assert script.lines("idle", cost) == [
        "idle: 1.0 M instructions in 0.50 s of the guest",
        "  engine                 75.0%",
        "  kdamond.0              25.0%",
        "  in b 90.0%, a 10.0%",
    ]


def test_stretch_in_which_nothing_ran_has_no_shares(script: ModuleType) -> None:
    cost = Cost("emulator", "instructions", 0, 0, 500_000_000, CallTree(()), {})
    assert script.lines("idle", cost)[0] == "idle: 0.0 M instructions in 0.50 s of the guest"


def test_reference_executes_nothing_and_says_what_to_use(
    script: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["guest_profile.py", "--kernel", "reference"])
    assert script.main() == 5
    assert "--kernel debian:newest" in capsys.readouterr().err
