# SPDX-License-Identifier: GPL-2.0
"""Benchmark runs on disk: records with call trees, the history of many, differential flame graphs."""

from __future__ import annotations

import json
import sqlite3
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from damon_tests.judge.cost.samples import CostSamples, instructions
from damon_tests.ports import HarnessError, UsageError
from damon_tests.ports.cost import CallPath, CallTree
from damon_tests.report import bench_history, bench_record, flame
from damon_tests.report.bench_record import BenchRecord

SVG = "{http://www.w3.org/2000/svg}"


def tree(walk: int) -> CallTree:
    return CallTree(
        (
            CallPath(("kdamond_fn",), 1, 50),
            CallPath(("kdamond_fn", "walk_pgd_range"), 10, walk),
            CallPath(("kdamond_fn", "asm_sysvec_apic_timer_interrupt"), 1, 999, interrupt=True),
        )
    )


def record(value: float = 2254.0, kernel: str = "7.3.4") -> BenchRecord:
    check = instructions("check.fvaddr", [value, value + 1], tree(150))
    metrics = {"check.fvaddr": check, "wakeups": CostSamples("wakeups", "per second", (200.0,))}
    return BenchRecord({"kernel": kernel, "seed": 1}, metrics, ["check.fvaddr"], {"update": "no vaddr"})


# --- records -------------------------------------------------------------------------------------


def test_record_is_read_as_written(tmp_path: Path) -> None:
    bench_record.save(record(), tmp_path)
    read = bench_record.load(tmp_path)
    assert read.provenance == {"kernel": "7.3.4", "seed": 1}
    assert read.metrics["check.fvaddr"].values == (2254.0, 2255.0)
    assert read.metrics["wakeups"].unit == "per second"
    assert (read.done, read.skipped) == (["check.fvaddr"], {"update": "no vaddr"})
    kept = read.metrics["check.fvaddr"].tree
    assert kept is not None
    assert kept.own("walk_pgd_range") == 150
    assert kept.instructions == 200  # interrupts belong to nobody's cost


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "is no benchmark run"),
        ("{", "is no JSON"),
        ('{"schema": 99}', "has schema 99"),
        ("[]", "has schema None"),
        ('{"schema": 1}', "is damaged"),
        ('{"schema": 1, "provenance": {}, "done": [], "metrics": {"m": {"unit": "x"}}}', "is damaged"),
    ],
)
def test_what_is_no_record_is_refused(tmp_path: Path, content: str | None, words: str) -> None:
    if content is not None:
        (tmp_path / bench_record.BENCH).write_text(content)
    with pytest.raises(UsageError, match=words):
        bench_record.load(tmp_path)


def test_disk_that_takes_nothing_is_said(tmp_path: Path) -> None:
    (tmp_path / "trees").write_text("in the way")
    with pytest.raises(HarnessError, match="cannot be written"):
        bench_record.save(record(), tmp_path)


# --- history -------------------------------------------------------------------------------------


def test_history_keeps_every_sample(tmp_path: Path) -> None:
    path = tmp_path / "history.db"
    assert [bench_history.add(path, record(value)) for value in (2254.0, 2300.0)] == [1, 2]
    assert bench_history.metrics(path) == ["check.fvaddr", "wakeups"]
    entries = bench_history.read(path, "check.fvaddr")
    assert [(e.run, e.kernel, e.values) for e in entries] == [
        (1, "7.3.4", (2254.0, 2255.0)),
        (2, "7.3.4", (2300.0, 2301.0)),
    ]


def test_unknown_metric_names_the_known_ones(tmp_path: Path) -> None:
    path = tmp_path / "history.db"
    bench_history.add(path, record())
    with pytest.raises(UsageError, match=r"no metric 'check'; it has check\.fvaddr, wakeups"):
        bench_history.read(path, "check")


def test_missing_history_is_not_made_by_reading(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no such history"):
        bench_history.metrics(tmp_path / "history.db")
    assert not (tmp_path / "history.db").exists()


def test_other_files_are_no_history(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("not a database, and long enough not to be taken for one" * 20)
    with pytest.raises(UsageError, match="is no history"):
        bench_history.metrics(tmp_path / "text")
    other = sqlite3.connect(tmp_path / "other.db")
    other.execute("CREATE TABLE x (y)")
    other.close()
    with pytest.raises(UsageError, match="has schema 0"):
        bench_history.add(tmp_path / "other.db", record())


# --- flame graphs --------------------------------------------------------------------------------


def test_folded_difference_has_both_counts() -> None:
    text = flame.folded_difference(tree(150), tree(180))
    assert text == "kdamond_fn 50 50\nkdamond_fn;walk_pgd_range 150 180\n"


def test_flame_graph_is_as_wide_as_the_cost_and_red_where_it_grew() -> None:
    svg = ET.fromstring(flame.difference_svg(tree(150), tree(350), (200, 400), "a < b"))
    boxes = {g.findtext(f"{SVG}title"): g.find(f"{SVG}rect") for g in svg.iter(f"{SVG}g")}
    assert len(boxes) == 2
    walk = next(rect for title, rect in boxes.items() if title and "walk_pgd_range: 150.0 to 350.0" in title)
    assert walk is not None
    assert float(walk.attrib["width"]) == pytest.approx(1200 * 350 / 400)
    assert walk.attrib["fill"] == "rgb(250,100,100)"
    assert svg.findtext(f"{SVG}text") == "a < b"


def test_flame_graph_of_equal_trees_is_grey() -> None:
    svg = flame.difference_svg(tree(150), tree(150), (200, 200), "same")
    assert "rgb(235,235,235)" in svg
    assert "rgb(250" not in svg


def test_record_is_json_for_others(tmp_path: Path) -> None:
    bench_record.save(record(), tmp_path)
    content = json.loads((tmp_path / bench_record.BENCH).read_text())
    assert content["metrics"]["check.fvaddr"] == {"unit": "instructions", "values": [2254.0, 2255.0]}
