# SPDX-License-Identifier: GPL-2.0
"""A chart as an SVG element: colours follow the page's theme, and each sample says its value on hover."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from html import escape
from itertools import pairwise

from damon_tests.judge.chart import Chart, Curve, Mark, Panel
from damon_tests.ports.numbers import number
from damon_tests.report import chart_axes

WIDTH = 720
_LEFT, _RIGHT, _TOP = 84, 14, 44
_PANEL, _GAP, _BOTTOM = 120, 40, 40
_MOST_DOTS = 400
_COLOURS = 4

Place = Callable[[float], float]

STYLE = """
.chart { font: 12px system-ui, sans-serif; max-width: 100%; height: auto; }
.chart text { fill: var(--fg, #1c2024); }
.chart .tick { fill: var(--soft, #565c63); }
.chart .frame { fill: none; stroke: var(--line, #d9dde1); }
.chart .grid { stroke: var(--line, #d9dde1); }
.chart .c0 { --c: var(--curve0, #0b5fa5); }
.chart .c1 { --c: var(--curve1, #b5541b); }
.chart .c2 { --c: var(--curve2, #6a3fa0); }
.chart .c3 { --c: var(--curve3, #1a6f33); }
.chart .expected { --c: var(--PASS, #1a6f33); stroke-dasharray: 5 3; }
.chart .curve { fill: none; stroke: var(--c); stroke-width: 1.6; }
.chart .bar, .chart .dot { fill: var(--c); }
.chart .band { fill: var(--PASS, #1a6f33); fill-opacity: .16; }
.chart .span { fill: var(--soft, #565c63); fill-opacity: .18; }
.chart .moment { stroke: var(--soft, #565c63); stroke-dasharray: 3 3; }
.chart .hit { fill: transparent; }
"""
"""Also part of the page's style."""


def chart_svg(chart: Chart, *, standalone: bool = False) -> str:
    """Return the chart as an SVG element. ``standalone``: a file of its own, with style and background."""
    height = _TOP + len(chart.panels) * (_PANEL + _GAP) + _BOTTOM - _GAP
    low, high = chart_axes.x_extent(chart.panels, [(m.x0, m.x1) for m in chart.marks])
    parts = [f'<text x="0" y="14" font-weight="bold">{escape(chart.title)}</text>']
    for index, panel in enumerate(chart.panels):
        top = _TOP + index * (_PANEL + _GAP)
        last = index == len(chart.panels) - 1
        if panel.groups:
            parts += _bars(panel, top)
        else:
            scale = _linear(low, high, _LEFT, WIDTH - _RIGHT)
            parts += _panel(panel, chart.marks, scale, (low, high), top, named=index == 0, labelled=last)
    if chart.x_label:
        parts.append(
            f'<text class="tick" x="{(_LEFT + WIDTH - _RIGHT) / 2}" y="{height - 4}" text-anchor="middle">'
            f"{escape(chart.x_label)}</text>"
        )
    head = f'<style>{STYLE}</style><rect width="100%" height="100%" fill="#fff"/>' if standalone else ""
    namespace = ' xmlns="http://www.w3.org/2000/svg"' if standalone else ""
    return (
        f'<svg{namespace} class="chart" width="{WIDTH}" height="{height}" viewBox="0 0 {WIDTH} {height}"'
        f' role="img" aria-label="{escape(description(chart))}">{head}{"".join(parts)}</svg>'
    )


def description(chart: Chart) -> str:
    """Return the chart in words: what it shows, and the last value of each curve."""
    curves = [(panel, curve) for panel in chart.panels for curve in panel.curves if curve.y]
    ends = (
        f"{panel.title}: {curve.name} ends at {chart_axes.label(panel, curve.y[-1])}"
        for panel, curve in curves
    )
    return "; ".join([chart.title, *ends])


def _linear(low: float, high: float, first: float, last: float) -> Place:
    return lambda value: first + (value - low) * (last - first) / (high - low)


def _panel(
    panel: Panel,
    marks: Sequence[Mark],
    x: Place,
    x_extent: tuple[float, float],
    top: float,
    *,
    named: bool,
    labelled: bool,
) -> Iterator[str]:
    """Yield the parts of one panel. ``named``: with the marks' names; ``labelled``: with numbers below."""
    low, high = chart_axes.extent(panel)
    y = _linear(low, high * 1.04, top + _PANEL, top)
    yield from _frame(panel, top, low, high, y)
    for mark in marks:
        yield from _mark(mark, x, top, named=named)
    for band in panel.bands:
        points = [*zip(band.x, band.high, strict=True), *reversed(list(zip(band.x, band.low, strict=True)))]
        where = " ".join(f"{x(a):.1f},{y(b):.1f}" for a, b in points)
        yield f'<polygon class="band" points="{where}"><title>{escape(band.name)}</title></polygon>'
    for index, curve in enumerate(panel.curves):
        yield from _curve(panel, curve, f"c{index % _COLOURS}", x, y)
    yield from _legend(panel, top)
    if labelled:
        for value in chart_axes.ticks(*x_extent, most=8):
            yield (
                f'<text class="tick" x="{x(value):.1f}" y="{top + _PANEL + 16}" text-anchor="middle">'
                f"{number(float(f'{value:.6g}'))}</text>"
            )


def _frame(panel: Panel, top: float, low: float, high: float, y: Place) -> Iterator[str]:
    positions = chart_axes.byte_ticks(high) if chart_axes.is_bytes(panel) else chart_axes.ticks(low, high, 4)
    for value in positions:
        where = f'x1="{_LEFT}" x2="{WIDTH - _RIGHT}" y1="{y(value):.1f}" y2="{y(value):.1f}"'
        yield f'<line class="grid" {where}/>'
        yield (
            f'<text class="tick" x="{_LEFT - 6}" y="{y(value) + 4:.1f}" text-anchor="end">'
            f"{escape(chart_axes.label(panel, value))}</text>"
        )
    width = WIDTH - _LEFT - _RIGHT
    yield f'<rect class="frame" x="{_LEFT}" y="{top}" width="{width}" height="{_PANEL}"/>'


def _mark(mark: Mark, x: Place, top: float, *, named: bool) -> Iterator[str]:
    left, right = x(mark.x0), x(mark.x1)
    title = f"<title>{escape(mark.name)}</title>"
    if right > left:
        yield (
            f'<rect class="span" x="{left:.1f}" y="{top}" width="{right - left:.1f}" height="{_PANEL}">'
            f"{title}</rect>"
        )
    else:
        yield f'<line class="moment" x1="{left:.1f}" x2="{left:.1f}" y1="{top}" y2="{top + _PANEL}"/>'
    if named:
        yield f'<text class="tick" x="{left + 3:.1f}" y="{top + 13}">{escape(mark.name)}</text>'


def _curve(panel: Panel, curve: Curve, colour: str, x: Place, y: Place) -> Iterator[str]:
    points = [(x(a), y(b)) for a, b in zip(curve.x, curve.y, strict=True)]
    kind = "expected" if curve.style.startswith("expected") else colour
    if curve.style != "dots" and points:
        path = points
        if curve.style.endswith("steps"):
            path = [
                points[0],
                *(p for a, b in pairwise(points) for p in ((b[0], a[1]), b)),
            ]
        where = " ".join(f"{a:.1f},{b:.1f}" for a, b in path)
        yield f'<polyline class="curve {kind}" points="{where}"/>'
    shown, radius = (f"dot {kind}", 2.2) if curve.style == "dots" else ("hit", 4)
    step = -(-len(points) // _MOST_DOTS) or 1
    for (a, b), at, value in list(zip(points, curve.x, curve.y, strict=True))[::step]:
        title = f"{curve.name}: {chart_axes.label(panel, value)} at {number(float(f'{at:.4g}'))}"
        yield (
            f'<circle class="{shown}" cx="{a:.1f}" cy="{b:.1f}" r="{radius}">'
            f"<title>{escape(title)}</title></circle>"
        )


def _legend(panel: Panel, top: float) -> Iterator[str]:
    """Yield the panel's title, and the names of its curves and bands in their colours."""
    yield f'<text x="{_LEFT}" y="{top - 6}">{escape(panel.title)}</text>'
    names = [
        (c.name, "expected" if c.style.startswith("expected") else f"c{i % _COLOURS}")
        for i, c in enumerate(panel.curves)
    ]
    names += [(band.name, "band") for band in panel.bands]
    right = WIDTH - _RIGHT
    for name, kind in reversed(names):
        right -= 7 * len(name) + 8
        yield f'<text class="tick" x="{right}" y="{top - 6}">{escape(name)}</text>'
        if kind == "band":
            yield f'<rect class="band" x="{right - 18}" y="{top - 15}" width="14" height="9"/>'
        else:
            where = f'x1="{right - 18}" x2="{right - 4}" y1="{top - 10}" y2="{top - 10}"'
            yield f'<line class="curve {kind}" {where}/>'
        right -= 26


def _bars(panel: Panel, top: float) -> Iterator[str]:
    low, high = chart_axes.extent(panel)
    y = _linear(low, high * 1.04, top + _PANEL, top)
    yield from _frame(panel, top, low, high, y)
    room = (WIDTH - _LEFT - _RIGHT) / len(panel.groups)
    wide = min(60.0, room / (len(panel.curves) + 1))
    for i, group in enumerate(panel.groups):
        middle = _LEFT + room * (i + 0.5)
        left = middle - wide * len(panel.curves) / 2
        for index, curve in enumerate(panel.curves):
            height = top + _PANEL - y(curve.y[i])
            title = f"{group}, {curve.name}: {chart_axes.label(panel, curve.y[i])}"
            where = f'x="{left + index * wide:.1f}" y="{y(curve.y[i]):.1f}" width="{wide - 3:.1f}"'
            yield (
                f'<rect class="bar c{index % _COLOURS}" {where} height="{height:.1f}">'
                f"<title>{escape(title)}</title></rect>"
            )
        yield (
            f'<text class="tick" x="{middle:.1f}" y="{top + _PANEL + 16}" text-anchor="middle">'
            f"{escape(group)}</text>"
        )
    yield from _legend(panel, top)
