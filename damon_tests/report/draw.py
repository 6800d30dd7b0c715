# SPDX-License-Identifier: GPL-2.0
"""A saved recording as a picture: text of any width, PNG, SVG."""

from __future__ import annotations

from pathlib import Path
from statistics import median

from damon_tests.damon.recording_file import Saved
from damon_tests.judge.monitoring.aggregation_windows import windows
from damon_tests.ports import NSEC_PER_SEC
from damon_tests.report import heatmap_text, picture, wording
from damon_tests.report.raster import Raster, raster


def lines(saved: Saved, width: int, *, target_idx: int = 0, color: bool = False) -> list[str]:
    """Return lines of text, at most ``width`` wide unless names are long."""
    plan = heatmap_text.plan(width, truth=saved.truth is not None)
    drawn = _raster(saved, plan.rows, plan.columns, target_idx)
    drawing = heatmap_text.text(drawn, marks=marks(saved), beside=plan.beside, color=color)
    return [*drawing, facts(saved, target_idx)]


def save(saved: Saved, path: Path, *, target_idx: int = 0) -> None:
    """Write ``path`` (.png or .svg). Raises NotSupported without matplotlib."""
    drawn = _raster(saved, picture.ROWS, picture.COLUMNS, target_idx)
    picture.save(drawn, path, title=saved.about.title, subtitle=facts(saved, target_idx), marks=marks(saved))


def facts(saved: Saved, target_idx: int = 0) -> str:
    """What was recorded, and how fast DAMON really was: a slow machine explains much of a picture."""
    r = saved.recording
    parts = [f"{r.operations}, {wording.plural(len(r.of_target(target_idx)), 'snapshot')}"]
    gaps = [w.duration_ns / 1e9 for w in windows(r, target_idx) if w.index > 0]
    if gaps and r.source != "tried_regions":
        took = f"every {wording.seconds(median(gaps))}"
        if max(gaps) > 1.1 * median(gaps):
            took += f" (up to {wording.seconds(max(gaps))})"
        parts.append(f"{took}, asked: {wording.seconds(r.aggr_us / 1e6)}")
    if r.lost_events:
        parts.append(f"{wording.plural(r.lost_events, 'event')} lost")
    return ", ".join(parts)


def marks(saved: Saved) -> list[tuple[str, float]]:
    """Return when each phase of the workload began, in seconds since recording began; at least 0."""
    start = saved.recording.started_ns
    phases = saved.about.phases
    before = [i for i, (_, at) in enumerate(phases) if at <= start]
    shown = phases[before[-1] :] if before else phases
    return [(name, max(0.0, (at - start) / NSEC_PER_SEC)) for name, at in shown]


def _raster(saved: Saved, rows: int, columns: int, target_idx: int) -> Raster:
    # Truth is known of the first target only.
    truth = saved.truth if target_idx == 0 else None
    layout = saved.about.layout if target_idx == 0 else {}
    return raster(saved.recording, layout, spans=truth, rows=rows, columns=columns, target_idx=target_idx)
