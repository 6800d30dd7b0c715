# SPDX-License-Identifier: GPL-2.0
"""Pictures: the raster's numbers, the text drawing, the files."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from synthetic_recordings import BASE, MIB, MS, ListTruth, Touch, phases, recording, snapshot

from damon_tests.damon.recording_file import About, Saved
from damon_tests.judge.monitoring.aggregation_windows import windows
from damon_tests.judge.monitoring.true_rates import spans_of
from damon_tests.ports import NotSupported, UsageError
from damon_tests.report import draw, heatmap_text, picture
from damon_tests.report.raster import raster
from damon_tests.report.stretches import Stretch, round_offsets

PAGE = 4096


def two_windows() -> tuple[object, object]:
    """8 pages: the lower half touched in the first window, DAMON says the upper half."""
    truth = ListTruth([(0, 8 * PAGE)], [Touch(0, 4 * PAGE, 0, 100 * MS)], 200 * MS)
    rows = [(0, 4 * PAGE, 0, 0), (4 * PAGE, 8 * PAGE, 20, 0)]
    return truth, recording([snapshot(100 * MS, rows), snapshot(200 * MS, [(0, 4 * PAGE, 0, 0)])])


def test_cells_are_mean_rates() -> None:
    truth, report = two_windows()
    r = raster(report, {"a": (0, 8 * PAGE)}, truth, rows=4)  # type: ignore[arg-type]
    assert r.true is not None
    assert r.difference is not None
    assert r.true.tolist() == [[1, 0], [1, 0], [0, 0], [0, 0]]
    assert np.array_equal(r.seen, [[0, 0], [0, 0], [1, np.nan], [1, np.nan]], equal_nan=True)
    assert r.difference.tolist() == [[-1, 0], [-1, 0], [1, 0], [1, 0]]
    assert r.edges_s.tolist() == [0, 0.1, 0.2]
    joined = raster(report, {"a": (0, 8 * PAGE)}, truth, rows=4, columns=1)  # type: ignore[arg-type]
    assert joined.true is not None
    assert joined.true[:, 0].tolist() == [0.5, 0.5, 0, 0]
    assert joined.seen[:, 0].tolist() == [0, 0, 1, 1]


def test_text_shows_report_truth_and_difference() -> None:
    truth, report = two_windows()
    lines = heatmap_text.text(raster(report, {"a": (0, 8 * PAGE)}, truth, rows=4))  # type: ignore[arg-type]
    cells = [line.split("│")[1::2] for line in lines if "│" in line]
    assert cells == [["█?", "  ", "# "], ["█?", "  ", "# "], ["  ", "█ ", "= "], ["  ", "█ ", "= "]]
    assert any("'?' not monitored" in line for line in lines)


def long_recording() -> Saved:
    truth, _, report = phases(aggregations=60)
    spans = spans_of(truth, windows(report), report)
    about = About("t", "7.3", {"heap": (BASE, BASE + 64 * MIB)}, (("low", 0), ("high", 3000 * MS)))
    return Saved(report, spans, about)


@pytest.mark.parametrize("width", [64, 80, 100, 130, 160, 250])
def test_text_fits_the_terminal(width: int) -> None:
    lines = draw.lines(long_recording(), width)
    assert max(map(len, lines)) <= width
    assert sum("DAMON saw" in line for line in lines) == 1
    assert sum("▾low" in line and "▾high" in line for line in lines) == (1 if width >= 112 else 3)


def test_every_column_is_the_same_time() -> None:
    saved = long_recording()
    r = raster(saved.recording, saved.about.layout, spans=saved.truth, columns=50)
    assert r.seen.shape[1] == 30
    assert np.diff(r.edges_s) == pytest.approx(0.2)


def test_truth_is_what_a_late_aggregation_could_see() -> None:
    """All touched in half of the time, in an aggregation that took twice as long: every sample saw a touch if
    the machine stood still in the other half, and half of them if it was slow all the time."""
    truth = ListTruth([(0, 8 * PAGE)], [Touch(0, 8 * PAGE, 0, 200 * MS)], 300 * MS)
    snaps = [snapshot(t * MS, [(0, 8 * PAGE, 20, 0)]) for t in (100, 300)]
    recorded = recording(snaps)
    for stalls, rate in (((200 * MS, 300 * MS),), 1.0), ((), 0.5):
        spans = spans_of(truth, windows(recorded), recorded, stalls)
        r = raster(recorded, {"a": (0, 8 * PAGE)}, spans=spans, rows=4)
        assert r.true is not None
        assert r.true[0].tolist() == [1, rate]
    lines = draw.lines(Saved(recording(snaps)), 100)
    assert lines[-1] == "fvaddr, 2 snapshots, every 200 ms, asked: 100 ms"


def test_marks_and_ticks_are_at_their_time() -> None:
    saved = long_recording()
    lines = draw.lines(saved, 250)
    marked = next(line for line in lines if "▾high" in line)
    border = next(line for line in lines if "└" in line)
    numbers = lines[lines.index(border) + 1]
    begin = border.index("└") + 1
    assert marked.index("▾high") == begin + 30
    assert (border[begin + 30], numbers[begin + 30]) == ("┬", "3")


def test_without_truth_there_is_one_panel(tmp_path: Path) -> None:
    saved = replace(long_recording(), truth=None)
    lines = draw.lines(saved, 100)
    assert not any("difference" in line or "really" in line for line in lines)
    assert any("heap" in line for line in lines)
    draw.save(saved, tmp_path / "p.png")
    assert (tmp_path / "p.png").stat().st_size > 0


def test_series_are_bytes_regions_and_error() -> None:
    truth, report = two_windows()
    s = raster(report, {"a": (0, 8 * PAGE)}, truth, rows=4).series  # type: ignore[arg-type]
    assert s.seen_bytes.tolist() == [4 * PAGE, 0]
    assert s.true_bytes is not None
    assert s.true_bytes.tolist() == [4 * PAGE, 0]
    assert s.nr_regions.tolist() == [2, 1]
    assert s.error is not None
    assert np.array_equal(s.error, [2, np.nan], equal_nan=True)


def test_color_marks_the_difference_only() -> None:
    truth, report = two_windows()
    r = raster(report, {"a+b": (0, 8 * PAGE)}, truth, rows=4)  # type: ignore[arg-type]
    plain, colored = heatmap_text.text(r), heatmap_text.text(r, color=True)
    assert "\x1b[31m#" in colored[1]
    assert colored[1] != plain[1]
    assert all("\x1b" not in line for line in colored if "a+b" in line and "=" not in line)


def test_gaps_between_regions_have_no_rows_and_small_hot_memory_does() -> None:
    huge = (BASE, BASE + (64 << 30))
    far = (BASE + (1 << 40), BASE + (1 << 40) + 16 * MIB)
    hot = BASE + (20 << 30)
    truth = ListTruth([huge, far], [Touch(hot, hot + MIB, 0, 100 * MS)], 100 * MS)
    report = recording([snapshot(100 * MS, [(*huge, 0, 0), (*far, 0, 0)])])
    r = raster(report, {"huge": huge, "far": far}, truth, rows=60)
    assert [(s.name, s.note) for s in r.stretches] == [
        ("huge", "compressed"),
        ("huge", ""),
        ("huge", "compressed"),
        ("far", ""),
    ]
    assert r.true is not None
    assert set(r.true[:, 0].tolist()) == {0, 1}  # rows end where the hot memory does
    assert (r.true > 0.9).sum() >= 10
    assert r.seen.shape[0] <= 70
    assert all(a.row1 == b.row0 for a, b in zip(r.stretches, r.stretches[1:], strict=False))


def test_round_offsets_are_where_they_say() -> None:
    """Rows of a stretch from 3 to 35 MiB of its region, a row a MiB."""
    stretch = Stretch("r", BASE, BASE + 3 * MIB, BASE + 35 * MIB, 10, 42)
    offsets = round_offsets(stretch, 4)
    assert offsets == [(15, 8 * MIB), (23, 16 * MIB), (31, 24 * MIB), (39, 32 * MIB)]
    assert round_offsets(stretch, 0) == []
    rows = [(0, 512 * PAGE, 0, 0)]
    lines = heatmap_text.text(raster(recording([snapshot(100 * MS, rows)]), {"a": (0, 512 * PAGE)}, rows=32))
    labels = [line.split("│")[0].strip() for line in lines if "│" in line]
    assert {row: label for row, label in enumerate(reversed(labels), 1) if label} == {
        1: "a",
        8: "+512 KiB",
        16: "+1 MiB",
        24: "+1.5 MiB",
        32: "+2 MiB",
    }


def test_of_very_many_islands_a_few_are_shown_and_the_rest_is_named() -> None:
    sea = (BASE, BASE + 96 * MIB)
    islands = [BASE + i * MIB + MIB // 2 for i in range(96)]
    truth = ListTruth([sea], [Touch(a, a + 16 * PAGE, 0, 100 * MS) for a in islands], 100 * MS)
    r = raster(recording([snapshot(100 * MS, [(*sea, 0, 0)])]), {"sea": sea}, truth, rows=160)
    assert r.stretches[-1].note == "mean of 91 more"
    assert r.true is not None
    assert (r.true > 0.99).sum() >= 5 * 2


def test_without_truth_what_was_reported_accessed_is_large() -> None:
    huge, hot = (BASE, BASE + (64 << 30)), BASE + (20 << 30)
    rows = [(huge[0], hot, 0, 0), (hot, hot + MIB, 20, 0), (hot + MIB, huge[1], 0, 0)]
    r = raster(recording([snapshot(100 * MS, rows)]), {"huge": huge}, rows=60)
    assert r.true is None
    assert r.difference is None
    assert (r.seen > 0.99).sum() >= 10


def test_everything_is_shown_without_a_layout() -> None:
    truth, report = two_windows()
    r = raster(report, {}, truth)  # type: ignore[arg-type]
    assert [(s.start, s.end) for s in r.stretches] == [(0, 8 * PAGE)]


def test_empty_recording_is_drawn_as_a_sentence() -> None:
    r = raster(recording([]), {"a": (0, PAGE)}, ListTruth([], [], 0))
    assert heatmap_text.text(r) == ["(nothing was recorded)"]


@pytest.mark.parametrize("suffix", [".png", ".svg"])
def test_pictures_are_written_as_png_and_svg(tmp_path: Path, suffix: str) -> None:
    truth, _, report = phases(aggregations=10)
    r = raster(report, {"heap": (BASE, BASE + 64 * MIB)}, truth, rows=16)
    path = tmp_path / f"p{suffix}"
    picture.save(r, path, title="a title", marks=[("change", 0.5)])
    head = path.read_bytes()[:200]
    assert head.startswith(b"\x89PNG") if suffix == ".png" else b"<?xml" in head


def test_an_empty_recording_can_be_drawn(tmp_path: Path) -> None:
    picture.save(raster(recording([]), {"a": (0, PAGE)}, ListTruth([], [], 0)), tmp_path / "p.png")
    assert (tmp_path / "p.png").stat().st_size > 0


def test_other_kinds_of_pictures_are_refused(tmp_path: Path) -> None:
    truth, report = two_windows()
    with pytest.raises(UsageError, match=r"\.png or \.svg"):
        picture.save(raster(report, {}, truth), tmp_path / "p.txt")  # type: ignore[arg-type]


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
