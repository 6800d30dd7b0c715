# SPDX-License-Identifier: GPL-2.0
"""Two recordings on one grid: what each reported, and the difference.

The second recording stands where a picture has the truth, at the same time since recording began. Regions
that both recordings name are laid over each other, wherever they were mapped; without names addresses are
compared as they are.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from damon_tests.damon.recording_file import Saved, TruthSpans
from damon_tests.damon.records import Recording
from damon_tests.judge.monitoring.aggregation_windows import windows
from damon_tests.judge.monitoring.report_vs_truth import byte_ranges
from damon_tests.ports.arrays import F64, I64
from damon_tests.ports.ranges import Range
from damon_tests.report import heatmap_text, picture, wording
from damon_tests.report.raster import Raster, raster

TITLES = ("A", "B")


def overlay(a: Saved, b: Saved, *, rows: int, columns: int, target_idx: int = 0) -> Raster:
    """Return A's raster with B's access rates as ``true``."""
    layout = {name: r for name, r in a.about.layout.items() if name in b.about.layout}
    spans = _spans(a.recording, b.recording, target_idx, layout, b.about.layout)
    made = raster(a.recording, layout, spans=spans, rows=rows, columns=columns, target_idx=target_idx)
    return replace(made, titles=TITLES)


def lines(a: Saved, b: Saved, width: int, *, target_idx: int = 0, color: bool = False) -> list[str]:
    """Return both and their difference as text for a terminal of ``width`` columns."""
    plan = heatmap_text.plan(width, truth=True)
    made = overlay(a, b, rows=plan.rows, columns=plan.columns, target_idx=target_idx)
    return heatmap_text.text(made, beside=plan.beside, color=color)


def save(a: Saved, b: Saved, path: Path, *, target_idx: int = 0) -> None:
    """Write ``path`` (.png or .svg). Raises NotSupported without matplotlib."""
    made = overlay(a, b, rows=picture.ROWS, columns=picture.COLUMNS, target_idx=target_idx)
    picture.save(made, path, title=f"A: {a.about.title}", subtitle=f"B: {b.about.title}")


def figures(a: Saved, b: Saved, target_idx: int = 0) -> list[str]:
    """Return a table: what can be counted of each recording, side by side."""
    left, right = (_figures(saved.recording, target_idx) for saved in (a, b))
    width = max(map(len, left))
    column = max(map(len, left.values()))
    head = f"{'':<{width}}  {TITLES[0]:<{column}}  {TITLES[1]}"
    return [head, *(f"{name:<{width}}  {left[name]:<{column}}  {right[name]}" for name in left)]


def _figures(r: Recording, target_idx: int) -> dict[str, str]:
    snapshots = r.of_target(target_idx)
    accessed = float(np.mean([s.sizes[s.nr_accesses > 0].sum() for s in snapshots])) * r.addr_unit
    age = np.median(np.concatenate([s.age for s in snapshots]))
    return {
        "snapshots": str(len(snapshots)),
        "length": wording.seconds((r.stopped_ns - r.started_ns) / 1e9),
        "intervals": f"{r.sample_us} µs, {r.aggr_us} µs",
        "regions, median": f"{np.median([len(s) for s in snapshots]):.0f}",
        "accessed memory, mean": wording.size(accessed),
        "age of regions, median": "unknown" if "age" in r.missing else f"{age:.0f} aggregations",
    }


def _spans(
    a: Recording, b: Recording, target_idx: int, to: Mapping[str, Range], from_: Mapping[str, Range]
) -> TruthSpans:
    """Return what B reported during each window of A, in A's addresses."""
    chosen, theirs = windows(a, target_idx), windows(b, target_idx)
    ends = np.array([w.t1_ns - b.started_ns for w in theirs], np.int64)
    parts: list[tuple[I64, I64, F64]] = []
    for window in chosen:
        middle = (window.t0_ns + window.t1_ns) // 2 - a.started_ns
        index = int(np.searchsorted(ends, middle))
        if index == len(theirs):
            parts.append((np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0)))
            continue
        snapshot = theirs[index].snapshot
        start, end = byte_ranges(snapshot, b.addr_unit)
        rate = snapshot.nr_accesses / max(1, b.samples_per_aggr)
        hot = rate > 0
        parts.append(_moved(start[hot], end[hot], rate[hot], to, from_))
    lengths = [len(start) for start, _, _ in parts]
    return TruthSpans(
        np.array([w.t0_ns for w in chosen], np.int64),
        np.array([w.t1_ns for w in chosen], np.int64),
        np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths, dtype=np.int64)]),
        np.concatenate([np.empty(0, np.int64), *(p[0] for p in parts)]),
        np.concatenate([np.empty(0, np.int64), *(p[1] for p in parts)]),
        np.concatenate([np.empty(0), *(p[2] for p in parts)]),
    )


def _moved(
    start: I64, end: I64, rate: F64, to: Mapping[str, Range], from_: Mapping[str, Range]
) -> tuple[I64, I64, F64]:
    """Return spans of B at the addresses that A has the same named regions at; without names as they are."""
    if not to:
        return start, end, rate
    moved = []
    for name, (origin, _) in to.items():
        low, high = from_[name]
        first, last = np.clip(start, low, high), np.clip(end, low, high)
        inside = first < last
        moved.append((first[inside] - low + origin, last[inside] - low + origin, rate[inside]))
    starts, ends, rates = (np.concatenate([part[i] for part in moved]) for i in range(3))
    order = np.argsort(starts)
    return starts[order], ends[order], rates[order]
