# SPDX-License-Identifier: GPL-2.0
"""Pictures: the raster's numbers, the text drawing, the files."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from synthetic_recordings import BASE, MIB, MS, ListTruth, Touch, phases, recording, snapshot

from damon_tests.ports import NotSupported
from damon_tests.report import picture
from damon_tests.report.raster import raster

PAGE = 4096


def two_windows() -> tuple[object, object]:
    """8 pages: the lower half touched in the first window, DAMON says the upper half."""
    truth = ListTruth([(0, 8 * PAGE)], [Touch(0, 4 * PAGE, 0, 100 * MS)], 200 * MS)
    rows = [(0, 4 * PAGE, 0, 0), (4 * PAGE, 8 * PAGE, 20, 0)]
    return truth, recording([snapshot(100 * MS, rows), snapshot(200 * MS, [(0, 4 * PAGE, 0, 0)])])


def test_cells_are_mean_rates() -> None:
    truth, report = two_windows()
    r = raster(report, {"a": (0, 8 * PAGE)}, truth, rows=4)  # type: ignore[arg-type]
    assert r.true.tolist() == [[1, 0], [1, 0], [0, 0], [0, 0]]
    assert np.array_equal(r.seen, [[0, 0], [0, 0], [1, np.nan], [1, np.nan]], equal_nan=True)
    assert r.difference.tolist() == [[-1, 0], [-1, 0], [1, 0], [1, 0]]
    assert r.edges_s.tolist() == [0, 0.1, 0.2]
    joined = raster(report, {"a": (0, 8 * PAGE)}, truth, rows=4, columns=1)  # type: ignore[arg-type]
    assert joined.true[:, 0].tolist() == [0.5, 0.5, 0, 0]
    assert joined.seen[:, 0].tolist() == [0, 0, 1, 1]


def test_text() -> None:
    truth, report = two_windows()
    lines = picture.text(raster(report, {"a": (0, 8 * PAGE)}, truth, rows=4))  # type: ignore[arg-type]
    cells = [line.split("│")[1::2] for line in lines if "│" in line]
    assert cells == [["█?", "  ", "# "], ["█?", "  ", "# "], ["  ", "█ ", "= "], ["  ", "█ ", "= "]]
    assert "0.2 s" in lines[-2]


def test_gaps_between_regions_have_no_rows_and_small_hot_memory_does() -> None:
    huge = (BASE, BASE + (64 << 30))
    far = (BASE + (1 << 40), BASE + (1 << 40) + 16 * MIB)
    hot = BASE + (20 << 30)
    truth = ListTruth([huge, far], [Touch(hot, hot + MIB, 0, 100 * MS)], 100 * MS)
    report = recording([snapshot(100 * MS, [(*huge, 0, 0), (*far, 0, 0)])])
    r = raster(report, {"huge": huge, "far": far}, truth, rows=60)
    assert [s.name for s in r.stretches] == ["huge", "huge", "huge", "far"]
    assert (r.true > 0.9).sum() >= 10
    assert r.seen.shape[0] <= 70
    assert all(a.row1 == b.row0 for a, b in zip(r.stretches, r.stretches[1:], strict=False))


def test_everything_is_shown_without_a_layout() -> None:
    truth, report = two_windows()
    r = raster(report, {}, truth)  # type: ignore[arg-type]
    assert [(s.start, s.end) for s in r.stretches] == [(0, 8 * PAGE)]


def test_nothing_recorded() -> None:
    r = raster(recording([]), {"a": (0, PAGE)}, ListTruth([], [], 0))
    assert picture.text(r) == ["(nothing was recorded)"]


@pytest.mark.parametrize("suffix", [".png", ".svg"])
def test_files(tmp_path: Path, suffix: str) -> None:
    truth, _, report = phases(aggregations=10)
    r = raster(report, {"heap": (BASE, BASE + 64 * MIB)}, truth, rows=16)
    path = tmp_path / f"p{suffix}"
    picture.save(r, path, title="a title", marks=[("change", 0.5)])
    head = path.read_bytes()[:200]
    assert head.startswith(b"\x89PNG") if suffix == ".png" else b"<?xml" in head


def test_an_empty_recording_can_be_drawn(tmp_path: Path) -> None:
    picture.save(raster(recording([]), {"a": (0, PAGE)}, ListTruth([], [], 0)), tmp_path / "p.png")
    assert (tmp_path / "p.png").stat().st_size > 0


def test_without_matplotlib(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    truth, report = two_windows()
    r = raster(report, {"a": (0, 8 * PAGE)}, truth)  # type: ignore[arg-type]
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(NotSupported, match="need matplotlib"):
        picture.save(r, tmp_path / "p.png")


def test_windows_with_losses_still_draw() -> None:
    truth, report = two_windows()
    lossy = replace(report, lost_events=2)  # type: ignore[type-var]
    assert raster(lossy, {"a": (0, 8 * PAGE)}, truth).seen.shape[1] == 2  # type: ignore[arg-type]
