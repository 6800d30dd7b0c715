# SPDX-License-Identifier: GPL-2.0
"""bench, compare and history: what they print and return, and what they refuse."""

from __future__ import annotations

from pathlib import Path

import pytest

from damon_tests.cli import main
from damon_tests.commands import bench
from damon_tests.judge.cost.samples import instructions
from damon_tests.ports.cost import CallPath, CallTree
from damon_tests.report import bench_history, bench_record
from damon_tests.report.bench_record import BenchRecord

ALIKE = {"qemu": "10.0.2", "clock": "instructions", "config": "abc"}


def tree(walk: int) -> CallTree:
    return CallTree((CallPath(("kdamond_fn",), 0, 1000), CallPath(("kdamond_fn", "walk_pgd_range"), 0, walk)))


def kept(directory: Path, factor: float = 1.0, **provenance: str) -> str:
    values = [2254 * factor * (1 + offset) for offset in (-1e-4, 0, 1e-4, 0, 5e-5, -5e-5)]
    metrics = {"check.fvaddr": instructions("check.fvaddr", values, tree(int(1254 * factor)))}
    about = {"kernel": directory.name, "series": "7.3", **ALIKE, **provenance}
    bench_record.save(BenchRecord(dict(about), metrics), directory)
    return str(directory)


@pytest.mark.parametrize(
    ("factor", "word", "code"), [(1.0, "same", 0), (1.005, "dearer", 1), (0.995, "cheaper", 0)]
)
def test_compare_says_what_became_dearer(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], factor: float, word: str, code: int
) -> None:
    """A planted 0.5 % is found, and its function named; equal runs are the same."""
    assert main(["compare", kept(tmp_path / "a"), kept(tmp_path / "b", factor)]) == code
    printed = capsys.readouterr().out
    assert f"check.fvaddr                             {word} " in printed
    assert ("walk_pgd_range" in printed) is (word != "same")


def test_compare_writes_flame_graphs(tmp_path: Path) -> None:
    flames = tmp_path / "flames"
    assert main(["compare", kept(tmp_path / "a"), kept(tmp_path / "b", 1.1), "--flames", str(flames)]) == 1
    assert "walk_pgd_range" in (flames / "check.fvaddr.svg").read_text()
    assert (flames / "check.fvaddr.folded").read_text().startswith("kdamond_fn 1000 1000\n")


def test_unlike_runs_are_not_compared_unless_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runs = [kept(tmp_path / "a"), kept(tmp_path / "b", config="def")]
    assert main(["compare", *runs]) == 2
    assert "config: 'abc' and 'def'" in capsys.readouterr().err
    assert main(["compare", *runs, "--force"]) == 0


def test_compare_of_single_windows_cannot_tell(tmp_path: Path) -> None:
    for name in "ab":
        metrics = {"m": instructions("m", [100])}
        bench_record.save(BenchRecord(dict(ALIKE), metrics), tmp_path / name)
    assert main(["compare", str(tmp_path / "a"), str(tmp_path / "b")]) == 7


def test_history_marks_the_run_where_the_level_changed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("ruptures")
    path = tmp_path / "history.db"
    for run in range(8):
        value = 2254.0 if run < 5 else 2300.0
        metrics = {"check.fvaddr": instructions("check.fvaddr", [value])}
        bench_history.add(path, BenchRecord({"kernel": f"v{run}"}, metrics))
    assert main(["history", "check.fvaddr", "--file", str(path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    marked = [line for line in lines if "from here on" in line]
    assert len(marked) == 1
    assert "v5" in marked[0]
    assert "+2.04%" in marked[0]
    assert main(["history", "--file", str(path)]) == 0
    assert capsys.readouterr().out == "check.fvaddr\n"


def test_table_has_a_column_for_each_kernel(tmp_path: Path) -> None:
    records = [bench_record.load(Path(kept(tmp_path / name))) for name in ("a", "b")]
    records[1].metrics = {"update": instructions("update", [50.25])}
    assert bench.table(records).splitlines() == [
        "| metric | unit | 7.3 | 7.3 |",
        "|---|---|--:|--:|",
        "| `check.fvaddr` | instructions | 2,254 | – |",
        "| `update` | instructions | – | 50.2 |",
    ]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["bench", "--kernel", "reference"], "only kernels in guests"),
        (
            ["bench", "check.nothing", "--kernel", "debian:7.3"],
            "no such benchmark: check.nothing; there are check.",
        ),
        (["bench", "--show", "/nonexistent"], "is no benchmark run"),
        (["history", "m", "--file", "/nonexistent"], "no such history"),
    ],
)
def test_bad_arguments_get_a_sentence(
    capsys: pytest.CaptureFixture[str], arguments: list[str], words: str
) -> None:
    assert main(arguments) == 2
    assert words in capsys.readouterr().err


def test_run_of_another_kernel_is_not_continued(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    kept(tmp_path / "a", asked_for="debian:6.12")
    assert main(["bench", "--kernel", "debian:7.3", "--output", str(tmp_path / "a")]) == 2
    assert "has a benchmark of debian:6.12, not of debian:7.3" in capsys.readouterr().err


def test_run_of_other_benchmarks_is_not_continued(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    kept(tmp_path / "a", asked_for="debian:7.3")
    record = bench_record.load(tmp_path / "a")
    record.provenance["bench"] = bench.PROTOCOL - 1
    bench_record.save(record, tmp_path / "a")
    assert main(["bench", "--kernel", "debian:7.3", "--output", str(tmp_path / "a")]) == 2
    assert "another version of damon-tests took" in capsys.readouterr().err
