# SPDX-License-Identifier: GPL-2.0
"""A chart as a PNG, with matplotlib."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from damon_tests.judge.chart import Chart, Curve, Panel
from damon_tests.report import chart_axes, figure

_COLOURS = ("#0b5fa5", "#b5541b", "#6a3fa0", "#1a6f33")
_EXPECTED = "#1a6f33"


def save(chart: Chart, path: Path) -> None:
    """Write ``path``. Raises NotSupported without matplotlib."""
    drawn = figure.new(8, 1 + 2 * len(chart.panels))
    drawn.suptitle(chart.title, fontsize=10, x=0.01, ha="left")
    axes = drawn.subplots(len(chart.panels), 1, sharex=not chart.panels[0].groups, squeeze=False)[:, 0]
    for ax, panel in zip(axes, chart.panels, strict=True):
        (_bars if panel.groups else _curves)(ax, panel)
        for mark in chart.marks:
            if mark.x1 > mark.x0:
                ax.axvspan(mark.x0, mark.x1, color="0.6", alpha=0.25, linewidth=0)
            else:
                ax.axvline(mark.x0, color="0.5", linewidth=0.8, linestyle=(0, (3, 3)))
            if ax is axes[0]:
                ax.annotate(mark.name, (mark.x0, 1), xycoords=("data", "axes fraction"), fontsize=7, va="top")
        _finish(ax, panel)
    axes[-1].set_xlabel(chart.x_label, fontsize=9)
    figure.save(drawn, path)


def _curves(ax: Any, panel: Panel) -> None:
    for band in panel.bands:
        ax.fill_between(
            band.x, band.low, band.high, color=_EXPECTED, alpha=0.16, linewidth=0, label=band.name
        )
    for i, curve in enumerate(panel.curves):
        _curve(ax, curve, _COLOURS[i % len(_COLOURS)])


def _curve(ax: Any, curve: Curve, colour: str) -> None:
    steps = {"drawstyle": "steps-post"} if curve.style.endswith("steps") else {}
    if curve.style.startswith("expected"):
        ax.plot(curve.x, curve.y, color=_EXPECTED, linestyle="--", linewidth=1.2, label=curve.name, **steps)
    elif curve.style == "dots":
        ax.plot(curve.x, curve.y, ".", color=colour, markersize=4, label=curve.name)
    else:
        ax.plot(curve.x, curve.y, color=colour, linewidth=1.4, label=curve.name, **steps)


def _bars(ax: Any, panel: Panel) -> None:
    wide = 0.8 / max(1, len(panel.curves))
    for i, curve in enumerate(panel.curves):
        ax.bar(
            [x + i * wide for x in curve.x],
            curve.y,
            wide * 0.94,
            color=_COLOURS[i % len(_COLOURS)],
            label=curve.name,
        )
    ax.set_xticks([x + 0.4 - wide / 2 for x in range(len(panel.groups))], list(panel.groups))


def _finish(ax: Any, panel: Panel) -> None:
    low, high = chart_axes.extent(panel)
    positions = chart_axes.byte_ticks(high) if chart_axes.is_bytes(panel) else chart_axes.ticks(low, high, 4)
    ax.set_yticks(positions, [chart_axes.label(panel, value) for value in positions])
    ax.set_ylim(low, high * 1.06)
    ax.set_title(panel.title, fontsize=9, loc="left")
    ax.tick_params(labelsize=8)
    ax.grid(axis="y", color="0.9", linewidth=0.6)
    ax.set_axisbelow(True)
    if panel.curves:
        ax.legend(fontsize=7, frameon=False, loc="lower right", bbox_to_anchor=(1, 0.97), ncols=4)
