# SPDX-License-Identifier: GPL-2.0
"""ci/bench/same_pairs.py: what is said about pairs of one kernel, and about increases planted in them."""

import json
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from module_from_file import load

SCRIPT = Path(__file__).parents[1] / "ci" / "bench" / "same_pairs.py"


@pytest.fixture
def script() -> ModuleType:
    return load(SCRIPT)


def simulated(pairs: int, spread: float, seed: int = 3) -> list[tuple[tuple[float, ...], tuple[float, ...]]]:
    """Return pairs of six windows each, as a check's cost is: the same mean, a relative spread."""
    values = 2171 * (1 + spread * np.random.default_rng(seed).standard_normal((pairs, 2, 6)))
    return [(tuple(a), tuple(b)) for a, b in values.tolist()]


def test_pairs_as_measured_are_the_same_and_planted_increases_are_found(script: ModuleType) -> None:
    """Windows of a kernel vary by 0.03 %: 99 % of 1,000 simulated pairs are the same, all of +0.5 % found."""
    pairs = simulated(1000, 0.0003)
    assert script.outcomes(pairs)["same"] >= 990
    assert script.outcomes(pairs, 0.005)["dearer"] >= 950
    assert script.outcomes(pairs, 0.03)["dearer"] == 1000


def test_noisy_pairs_are_rarely_called_dearer(script: ModuleType) -> None:
    counts = script.outcomes(simulated(1000, 0.02))
    assert counts["dearer"] + counts["cheaper"] <= 20
    assert counts["cannot tell"] >= 900


def test_report_counts_each_outcome(script: ModuleType) -> None:
    lines = script.report(simulated(20, 0.0001))
    assert lines[0].startswith("20 pairs; ")
    assert lines[1].split() == ["identical", "20", "same"]
    assert lines[2].split() == ["planted", "+0.5%", "20", "dearer"]


def test_interrupted_run_goes_on_and_another_kernels_is_refused(
    script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "pairs.json"
    about = {"kernel": "reference", "benchmark": "check.fvaddr"}
    file.write_text(json.dumps({"about": about, "pairs": simulated(20, 0.0001)}))
    arguments = ["same_pairs.py", "--pairs", "20", "--json", str(file), "--kernel"]
    monkeypatch.setattr(sys, "argv", [*arguments, "reference"])
    assert script.main() == 0
    assert "20 same" in capsys.readouterr().out
    monkeypatch.setattr(sys, "argv", [*arguments, "reference:6.12"])
    assert script.main() == 2
    assert "name another file" in capsys.readouterr().err
    file.write_text("{}")
    assert script.main() == 2
    assert "holds no pairs" in capsys.readouterr().err
