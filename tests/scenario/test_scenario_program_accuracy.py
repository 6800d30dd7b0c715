# SPDX-License-Identifier: GPL-2.0
"""Accuracy on real programs, from the recorded truths in tests/golden/truths: figures, table, exploration."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from damon_tests import cli
from damon_tests.scenario.program_accuracy import FIGURES, Row, append, of_reference, read, table
from damon_tests.workload import truth_file

TRUTHS = Path(__file__).parents[1] / "golden" / "truths"


@pytest.mark.parametrize("name", ["python3", "redis"])
def test_reference_sees_part_of_a_real_program(name: str) -> None:
    """At its defaults DAMON finds little of scattered heat, and more regions help."""
    saved = truth_file.load(TRUTHS / f"{name}.npz")
    assert (saved.title, saved.space, saved.level) == (name, "virtual", "7.3")
    usual, more = (list(of_reference(saved, setting, "7.3", 3)) for setting in ("defaults", "more regions"))
    for row in usual + more:
        assert set(row.figures) == set(FIGURES[:-1])
        assert 0 <= row.figures["precision"] <= 1
        assert 0.2 < row.figures["total"] < 2
    assert min(r.figures["recall"] for r in more) > max(r.figures["recall"] for r in usual)


def test_same_seed_gives_the_same_figures() -> None:
    saved = truth_file.load(TRUTHS / "python3.npz")
    assert list(of_reference(saved, "defaults", "6.12", 2)) == list(
        of_reference(saved, "defaults", "6.12", 2)
    )


def row(seed: int, precision: float, source: str = "kernel") -> Row:
    return Row("redis", "vaddr", "defaults", source, "7.3", seed, {"precision": precision})


def test_table_has_medians_and_ranges(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    rows = [row(1, 0.5), row(2, 0.7), row(3, 0.8), row(1, 0.9, "reference")]
    for one in rows:
        append(path, one)
    assert read(path) == rows
    lines = table(read(path)).splitlines()
    assert lines[2].startswith("| redis | vaddr | defaults | kernel 7.3 | 3 | 0.70 (0.50–0.80) | – |")
    assert lines[3].startswith("| redis | vaddr | defaults | reference 7.3 | 1 | 0.90 | – |")


def test_explore_takes_a_truth(capsys: pytest.CaptureFixture[str]) -> None:
    words = [
        "explore",
        str(TRUTHS / "python3.npz"),
        "--sample-ms",
        "1",
        "5",
        "--regions",
        "100",
        "--goals-bp",
    ]
    assert cli.main([*words, "--attempts", "2", "--json", "-"]) == 0
    out, err = capsys.readouterr()
    found = json.loads(out)
    assert [point["sample_us"] for point in found["points"]] == [5000]
    assert found["truth"] == "python3"
    assert "not tried, the truth is too short or too coarse: 1 ms, 100 regions" in err


def test_truth_is_for_the_reference_only(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["explore", str(TRUTHS / "python3.npz"), "--kernel", "debian:7.3"]) == 2
    assert "runs on the reference only" in capsys.readouterr().err
