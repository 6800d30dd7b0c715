# SPDX-License-Identifier: GPL-2.0
"""Budgets from benchmark runs: headroom, and several runs of one series."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import pytest
from module_from_file import load

from damon_tests.judge.cost import budget
from damon_tests.judge.cost.samples import CostSamples
from damon_tests.report import bench_record
from damon_tests.report.bench_record import BenchRecord

SCRIPT = Path(__file__).parents[1] / "ci" / "bench" / "budgets_from_runs.py"


@pytest.fixture
def script() -> ModuleType:
    return load(SCRIPT)


def kept(directory: Path, release: str, **metrics: float) -> str:
    samples = {
        name.replace("__", "."): CostSamples(name.replace("__", "."), "instructions", (value, value + 1))
        for name, value in metrics.items()
    }
    record = BenchRecord({"series": release[:3], "release": release}, samples)
    bench_record.save(record, directory)
    return str(directory)


def test_later_run_of_a_series_replaces_and_adds_metrics(
    script: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = [
        kept(tmp_path / "a", "7.3.4", check__fvaddr=2000, command__commit=9000),
        kept(tmp_path / "b", "7.3.4", command__commit=6000, tuner__quota=99),
        kept(tmp_path / "c", "7.2.1", check__fvaddr=1000),
    ]
    assert script.main(runs) == 0
    path = tmp_path / "budgets.yaml"
    path.write_text(capsys.readouterr().out)
    budgets = budget.load(path)
    assert {s: limit.limit for s, limit in budgets["check.fvaddr"].limits.items()} == {
        "7.3": pytest.approx(2001 * 1.02, abs=0.1),
        "7.2": pytest.approx(1001 * 1.02, abs=0.1),
    }
    assert budgets["command.commit"].limits["7.3"].limit == pytest.approx(6001 * 1.02, abs=0.1)
    assert budgets["tuner.quota"].limits["7.3"].limit == pytest.approx(102)


def test_runs_of_different_kernels_of_a_series_are_refused(
    script: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = [kept(tmp_path / "a", "7.3.4", check__huge=1), kept(tmp_path / "b", "7.3.5", check__huge=1)]
    assert script.main(runs) == 2
    assert "runs of 7.3 are of 7.3.4 and 7.3.5" in capsys.readouterr().err
