# SPDX-License-Identifier: GPL-2.0
"""What DAMON saw, beside what really happened, and the difference: as PNG or SVG.

Below each heat map a figure over time: memory with any access, the number of regions, the error. As
text: ``report.heatmap_text``.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from damon_tests.ports.arrays import F64
from damon_tests.report import figure, wording
from damon_tests.report.heatmap_text import Marks
from damon_tests.report.raster import Raster
from damon_tests.report.stretches import round_offsets

ROWS, COLUMNS = 160, 300
"""A good resolution for ``raster``."""

_DARK = "0.25"


def save(picture: Raster, path: Path, *, title: str = "", subtitle: str = "", marks: Marks = ()) -> None:
    """Write ``path`` (.png or .svg). Raises NotSupported without matplotlib."""
    figure.check(path)
    panels = 1 if picture.true is None else 3
    drawn = figure.new(5.2 + 3 * panels, 7.0)
    if title or subtitle:
        drawn.suptitle(f"{title}\n{subtitle}".strip(), fontsize=10)
    grid = drawn.subplots(2, panels, sharex=True, squeeze=False, height_ratios=(5.5, 1.2))
    _heat_maps(drawn, grid[0], picture, marks)
    _series(grid[1], picture)
    for ax in grid[1]:
        ax.set_xlabel("seconds since recording began", fontsize=9)
    figure.save(drawn, path)


def _heat_maps(drawn: Any, axes: Any, picture: Raster, marks: Marks) -> None:
    shown = [m for m in marks if len(picture.edges_s) and 0 <= m[1] < picture.edges_s[-1]]
    rate = _panel(axes[0], picture, picture.seen, picture.titles[0], rates=True)
    label = "access rate (nr_accesses / W); white: none"
    if np.isnan(picture.seen).any():
        label += "; grey: not monitored"
    if picture.true is not None and picture.difference is not None:
        _panel(axes[1], picture, picture.true, picture.titles[1], rates=True)
        signed = _panel(axes[2], picture, picture.difference, _difference_title(picture), rates=False)
        bar = drawn.colorbar(signed, ax=axes[2], pad=0.02, aspect=30)
        bar.set_label("less        more" if picture.of_two else "too little        too much", fontsize=9)
        bar.ax.tick_params(labelsize=8)
    bar = drawn.colorbar(rate, ax=list(axes[:2]), pad=0.01, aspect=30)
    bar.set_label(label, fontsize=9)
    bar.ax.tick_params(labelsize=8)
    for ax in axes:
        _marks(ax, picture, shown)
    for ax in axes[1:]:
        ax.set_yticks([])
    _address_axis(axes[0], picture)


def _difference_title(picture: Raster) -> str:
    return "difference (A - B)" if picture.of_two else "difference (seen - true)"


def _panel(ax: Any, picture: Raster, values: F64, title: str, *, rates: bool) -> Any:
    from matplotlib import colormaps

    if rates:
        # No access at all is white: the faintest access must stand out from it.
        colours, low = colormaps["YlGnBu"].with_extremes(bad="0.85", under="white"), 1e-9
    else:
        colours, low = colormaps["RdBu_r"].with_extremes(bad="0.85"), -1.0
    rows = np.arange(picture.seen.shape[0] + 1)
    # Without a single window there is an empty picture.
    edges = picture.edges_s if len(picture.edges_s) else np.zeros(1)
    image = ax.pcolormesh(
        edges, rows, np.ma.masked_invalid(values), cmap=colours, vmin=low, vmax=1, rasterized=True
    )
    ax.set_title(title, fontsize=10, loc="left")
    ax.tick_params(labelsize=8)
    ax.set_ylim(0, picture.seen.shape[0])
    for s in picture.stretches[1:]:
        ax.axhline(s.row0, color="0.3", linewidth=1.0 if s.start == s.origin else 0.4)
    return image


def _marks(ax: Any, picture: Raster, marks: Marks) -> None:
    """A line where each phase begins; its name above, where there is room."""
    length = float(picture.edges_s[-1] - picture.edges_s[0]) if len(picture.edges_s) else 1.0
    free = -1.0
    for name, at in sorted(marks, key=lambda mark: mark[1]):
        # Seen on white and on dark blue alike.
        ax.axvline(at, color="white", linewidth=1.4, alpha=0.8)
        ax.axvline(at, color=_DARK, linewidth=0.9, linestyle=(0, (3, 3)))
        if at < free:
            continue
        free = at + length * (0.014 * len(name) + 0.02)
        ax.annotate(
            name,
            (at, 1),
            xycoords=("data", "axes fraction"),
            xytext=(1, 2),
            textcoords="offset points",
            fontsize=7,
            va="bottom",
            color=_DARK,
            annotation_clip=False,
        )
    if marks:
        ax.set_title(ax.get_title(loc="left"), fontsize=10, loc="left", pad=15)


def _address_axis(ax: Any, picture: Raster) -> None:
    """Where each region begins, with its name, and offsets into it: ends of its stretches, round ones."""
    ticks: dict[float, str] = {}
    for s in picture.stretches:
        if s.start == s.origin:
            ticks[s.row0] = s.name if s.name == f"{s.origin:#x}" else f"{s.name}  {s.origin:#x}"
    room = picture.seen.shape[0] / 45
    for s in picture.stretches:
        if s.note and s.row1 - s.row0 > 2 * room:
            _label(ticks, (s.row0 + s.row1) / 2, f"({s.note})", 0)
        _label(ticks, s.row1, f"+{wording.offset(s.end - s.origin)}", room)
    for s in picture.stretches:
        most = 0 if s.note else int((s.row1 - s.row0) / (5 * room))
        for row, offset in round_offsets(s, most):
            _label(ticks, row, f"+{wording.offset(offset)}", room)
    ax.set_yticks(list(ticks), list(ticks.values()))


def _label(ticks: dict[float, str], row: float, text: str, room: float) -> None:
    """A tick unless it would touch another."""
    if all(abs(row - other) >= room for other in ticks):
        ticks[row] = text


# --- figures over time -----------------------------------------------------------------------


def _series(axes: Any, picture: Raster) -> None:
    s = picture.series
    if not len(picture.edges_s):
        return
    edges = picture.edges_s
    mib = 1 << 20
    axes[0].stairs(
        s.seen_bytes / mib, edges, color="#1f5fa8", label=picture.titles[0], linewidth=1.2, baseline=None
    )
    if s.true_bytes is not None:
        axes[0].stairs(
            s.true_bytes / mib,
            edges,
            color="black",
            label=picture.titles[1].split()[0],
            linewidth=0.9,
            baseline=None,
        )
        # Beside the title: anywhere inside it would hide a line.
        beside = {"loc": "lower right", "bbox_to_anchor": (1, 0.94), "ncols": 2}
        axes[0].legend(fontsize=7, frameon=False, handlelength=1, columnspacing=1, **beside)
    _figure(axes[0], "memory with any access, MiB")
    if s.error is None:
        counts = axes[0].twinx()
        counts.stairs(s.nr_regions, edges, color="#b5541b", linewidth=1.0, baseline=None)
        counts.set_ylim(bottom=0)
        counts.tick_params(labelsize=8, colors="#b5541b")
        counts.set_ylabel("regions", fontsize=8, color="#b5541b")
        return
    axes[1].stairs(s.nr_regions, edges, color="#b5541b", linewidth=1.2, baseline=None)
    _figure(axes[1], "number of regions")
    axes[2].stairs(s.error, edges, color="#8a1c1c", linewidth=1.2, baseline=None)
    error = "error, of what there was to see (1: as if nothing were reported)"
    _figure(axes[2], "difference, as a share of what B reported" if picture.of_two else error)


def _figure(ax: Any, title: str) -> None:
    ax.set_title(title, fontsize=8, loc="left", pad=3)
    # A line at the top must not lie on the frame.
    ax.set_ylim(0, 1.08 * ax.get_ylim()[1])
    ax.tick_params(labelsize=8)
    ax.grid(axis="y", color="0.9", linewidth=0.6)
    ax.set_axisbelow(True)
    ax.margins(x=0)
