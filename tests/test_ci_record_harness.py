# SPDX-License-Identifier: GPL-2.0
"""ci/bench/record_harness.py: figures in units of an anchor, kept for ``damon-tests compare``."""

import sys
from pathlib import Path
from types import ModuleType

import pytest
from module_from_file import load

from damon_tests.cli import main
from damon_tests.report import bench_record

SCRIPT = Path(__file__).parents[1] / "ci" / "bench" / "record_harness.py"


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(SCRIPT.parent))
    return load(SCRIPT)


def record(
    script: ModuleType, monkeypatch: pytest.MonkeyPatch, directory: Path, slowdown: float, *options: str
) -> int:
    """Record operations of known length, on a machine that is slower by ``slowdown``."""
    lengths = {script.anchor: 0.010, tick: 0.030}
    monkeypatch.setattr(script, "operations", lambda: {"reference.ticks.100": tick})
    monkeypatch.setattr(script, "cpu_seconds", lambda act: lengths[act] * slowdown)
    monkeypatch.setattr(sys, "argv", ["record_harness.py", "--output", str(directory), *options])
    code: int = script.main()
    return code


def tick() -> None:
    """Stand in for an operation that takes three anchors."""


def test_figures_are_in_anchors_and_do_not_depend_on_the_machine(
    script: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert record(script, monkeypatch, tmp_path / "fast", 1.0, "--rounds", "6") == 0
    assert record(script, monkeypatch, tmp_path / "slow", 7.0, "--rounds", "6") == 0
    kept = bench_record.load(tmp_path / "fast")
    assert kept.metrics["reference.ticks.100"].values == pytest.approx((3.0,) * 6)
    assert kept.provenance["clock"] == "CPU time over an anchor's"
    assert main(["compare", str(tmp_path / "fast"), str(tmp_path / "slow")]) == 0
    assert "1 same" in capsys.readouterr().out


def test_harness_is_not_compared_with_a_kernel(
    script: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert record(script, monkeypatch, tmp_path / "harness", 1.0) == 0
    kernel = bench_record.BenchRecord({"kernel": "7.3.4", "bench": 1}, {})
    bench_record.save(kernel, tmp_path / "kernel")
    assert main(["compare", str(tmp_path / "harness"), str(tmp_path / "kernel")]) == 2
    assert "not taken alike" in capsys.readouterr().err


def test_record_goes_to_history(
    script: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    history = tmp_path / "harness.sqlite"
    for number in "12":
        assert record(script, monkeypatch, tmp_path / number, 1.0, "--history", str(history)) == 0
    assert main(["history", "reference.ticks.100", "--file", str(history)]) == 0
    assert capsys.readouterr().out.count("damon-tests") == 2


def test_anchor_takes_time_of_both_kinds(script: ModuleType) -> None:
    assert script.cpu_seconds(script.anchor) > 0.001


def test_output_that_cannot_be_written_is_a_sentence(
    script: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    assert record(script, monkeypatch, tmp_path / "file" / "x", 1.0) == 2
    assert "is no directory" in capsys.readouterr().err
