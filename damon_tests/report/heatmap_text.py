# SPDX-License-Identifier: GPL-2.0
"""A heat map as plain text: what DAMON saw, what really happened, the difference.

No dependency; colour only marks the difference. In a narrow terminal the panels stand below one another.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from damon_tests.ports.arrays import F64
from damon_tests.report import wording
from damon_tests.report.raster import Raster
from damon_tests.report.stretches import round_offsets

Marks = Sequence[tuple[str, float]]
"""(name, seconds since recording began): phase changes and the like."""

_SHADES = " ·░▒▓█"
_UNDER = " -="
_OVER = " +#"
_UNCOVERED = "?"
_BARS = " ▁▂▃▄▅▆▇█"
_LABEL = 20
_ROWS_PER_LABEL = 8
_NARROWEST = 28
_WIDEST = 120
_RED, _BLUE, _PLAIN = "\x1b[31m", "\x1b[34m", "\x1b[0m"


@dataclass(frozen=True)
class Plan:
    """How the panels stand: ``beside`` one another or below. Give ``columns`` and ``rows`` to ``raster``."""

    beside: bool
    columns: int
    rows: int


def plan(width: int, *, truth: bool) -> Plan:
    """What fits in a terminal of ``width``, with three panels (``truth``) or one."""
    beside = (width - _LABEL - 9) // 3
    if truth and beside >= _NARROWEST:
        return Plan(True, min(beside, _WIDEST), 32)
    return Plan(False, max(8, min(width - _LABEL - 3, _WIDEST)), 16 if truth else 32)


@dataclass(frozen=True)
class _Panel:
    title: str
    rows: list[str]


def text(picture: Raster, *, marks: Marks = (), beside: bool = True, color: bool = False) -> list[str]:
    """Return lines of text, highest address on top. Every row and column of ``picture`` is printed."""
    if picture.seen.size == 0:
        return ["(nothing was recorded)"]
    labels = _row_labels(picture)
    margin = max(len("accessed"), *(len(label) for label in labels))
    panels = [_Panel(picture.titles[0], _shaded(picture.seen))]
    if picture.true is not None and picture.difference is not None:
        panels.append(_Panel(picture.titles[1], _shaded(picture.true)))
        panels.append(_Panel("difference", _signed(picture.difference)))
    marked = _mark_row(picture, marks)
    out: list[str] = []
    for group in [panels] if beside else [[p] for p in panels]:
        out += _panels(picture, group, labels, margin, marked)
    out += _series(picture, margin, beside)
    out += _legend(picture)
    lines = [line.rstrip() for line in out]
    return [_coloured(line) for line in lines] if color else lines


def _panels(
    picture: Raster, panels: Sequence[_Panel], labels: Sequence[str], margin: int, marked: str
) -> list[str]:
    columns = picture.seen.shape[1]

    def line(label: str, cell: Callable[[_Panel], str]) -> str:
        return f"{label:>{margin}} " + " ".join(cell(p) for p in panels)

    out = [line("", lambda p: f" {p.title[:columns]:<{columns}} ")]
    if marked.strip():
        out.append(line("", lambda p: f" {marked} "))
    starts = {s.row0 for s in picture.stretches[1:]}
    for row in reversed(range(picture.seen.shape[0])):
        out.append(line(labels[row], lambda p, row=row: f"│{p.rows[row]}│"))  # type: ignore[misc]
        if row in starts:
            out.append(line("", lambda p: f"├{'─' * columns}┤"))
    ticks, numbers = _time_axis(picture)
    out.append(line("", lambda p: f"└{ticks}┘"))
    out.append(line("", lambda p: f" {numbers} "))
    return out


def _shaded(rates: F64) -> list[str]:
    """Return rows of one character a cell; every rate above 0 is visible."""
    level = np.where(rates > 0, np.clip(np.ceil(np.nan_to_num(rates) * 5 - 1e-9), 1, 5), 0).astype(int)
    characters = np.array(list(_SHADES))[level]
    characters[np.isnan(rates)] = _UNCOVERED
    return ["".join(row) for row in characters]


def _signed(difference: F64) -> list[str]:
    level = (np.abs(difference) > 0.1).astype(int) + (np.abs(difference) > 0.5)
    characters = np.where(difference < 0, np.array(list(_UNDER))[level], np.array(list(_OVER))[level])
    return ["".join(row) for row in characters]


# --- axes ------------------------------------------------------------------------------------


def _row_labels(picture: Raster) -> list[str]:
    """Return each region's name where it begins; offsets into it where its stretches end, and round ones.

    An offset is that of the row's upper edge.
    """
    labels = [""] * picture.seen.shape[0]
    for s in picture.stretches:
        most = 0 if s.note else (s.row1 - s.row0) // _ROWS_PER_LABEL
        for edge, offset in round_offsets(s, most):
            if edge.is_integer() and s.row0 + 1 < edge < s.row1 - 1:
                labels[int(edge) - 1] = f"+{wording.offset(offset)}"
        if s.note and s.row1 - s.row0 > 2:
            labels[(s.row0 + s.row1) // 2] = f"({s.note})"
        labels[s.row1 - 1] = f"+{wording.offset(s.end - s.origin)}"
        if s.start == s.origin:
            labels[s.row0] = s.name[:20]
    return labels


def _column_of(picture: Raster, at_s: float) -> int | None:
    """The column that shows the moment, None outside."""
    edges = picture.edges_s
    if not edges[0] <= at_s < edges[-1]:
        return None
    return int(np.searchsorted(edges, at_s, side="right")) - 1


def _mark_row(picture: Raster, marks: Marks) -> str:
    """Return the names of phases, each beginning at its column; one that does not fit is only a tick."""
    columns = picture.seen.shape[1]
    placed = sorted((c, name) for name, at in marks if (c := _column_of(picture, at)) is not None)
    row = [" "] * columns
    for i, (column, name) in enumerate(placed):
        until = placed[i + 1][0] if i + 1 < len(placed) else columns
        room = until - column
        shown = f"▾{name}" if len(name) + 1 <= room else f"▾{name[: max(0, room - 2)]}"
        for k, character in enumerate(shown[:room]):
            row[column + k] = character
    return "".join(row)


def _time_axis(picture: Raster) -> tuple[str, str]:
    """(border with ticks, seconds below it)."""
    columns, first, last = picture.seen.shape[1], picture.edges_s[0], picture.edges_s[-1]
    step = _step((last - first) / max(1, columns // 8))
    border, numbers, free = ["─"] * columns, [" "] * columns, 0
    for k in range(int(np.ceil(first / step)), int(last / step) + 1):
        column = _column_of(picture, k * step)
        shown = f"{k * step:g}"
        if column is None or column < free or column + len(shown) > columns - 2:
            continue
        border[column] = "┬"
        numbers[column : column + len(shown)] = shown
        free = column + len(shown) + 1
    numbers[columns - 2 :] = " s"
    return "".join(border), "".join(numbers)


def _step(least: float) -> float:
    """A round number of seconds, at least ``least``."""
    power = 10.0 ** np.floor(np.log10(max(least, 1e-6)))
    return float(next(power * f for f in (1, 2, 5, 10) if power * f >= least * 0.999))


# --- below -----------------------------------------------------------------------------------


def _series(picture: Raster, margin: int, beside: bool) -> list[str]:
    """Return accessed memory and number of regions, a bar a column; ``_legend`` has their scales."""
    s = picture.series
    most = _most_bytes(picture)
    names = tuple(f"in {title}" for title in picture.titles) if picture.of_two else ("accessed", "really")
    rows = [(names[0], _bars(s.seen_bytes, most))]
    if s.true_bytes is not None:
        other = _bars(s.true_bytes, most)
        if beside:
            rows[0] = ("accessed", f"{rows[0][1]}   {other}")
        else:
            rows.append((names[1], other))
    rows.append(("regions", _bars(s.nr_regions, float(s.nr_regions.max(initial=0)))))
    return [f"{label:>{margin}}  {bars}" for label, bars in rows]


def _most_bytes(picture: Raster) -> float:
    both = (picture.series.seen_bytes, picture.series.true_bytes)
    return max(float(a.max(initial=0)) for a in both if a is not None)


def _bars(values: F64, most: float) -> str:
    """Return the height of each value as a character; what is above 0 is visible."""
    if most <= 0:
        return " " * len(values)
    level = np.where(values > 0, np.clip(np.round(values / most * 8), 1, 8), 0).astype(int)
    return "".join(_BARS[i] for i in level)


def _legend(picture: Raster) -> list[str]:
    shades = f"access rate '{_SHADES}' none to every sample"
    if np.isnan(picture.seen).any():
        shades += f", '{_UNCOVERED}' not monitored"
    out = ["", shades]
    if picture.true is not None:
        less, more = ("less in A", "more in A") if picture.of_two else ("too little", "too much")
        out.append(f"difference {less} '{_UNDER[1:]}', {more} '{_OVER[1:]}' (above 0.1, 0.5)")
    counts = picture.series.nr_regions
    few, many = counts.min(initial=np.inf), counts.max(initial=0)
    out.append(f"bars: accessed up to {wording.size(_most_bytes(picture))}, regions {few:.0f} to {many:.0f}")
    heights = sorted(s.bytes_per_row for s in picture.stretches)
    if heights and heights[-1] < 1.5 * heights[0]:
        out.append(f"a row is {wording.size(heights[0])}, a column {_column_width(picture)}")
    elif heights:
        low, high = wording.size(heights[0]), wording.size(heights[-1])
        out.append(f"a row is {low} to {high}, a column {_column_width(picture)}")
    return out


def _column_width(picture: Raster) -> str:
    return wording.seconds(float(np.median(np.diff(picture.edges_s))))


def _coloured(line: str) -> str:
    """Return red where DAMON said too much, blue where too little; only inside panels."""
    if "│" not in line:
        return line
    head, *cells = line.split("│")
    for sign, color in (("+", _RED), ("#", _RED), ("-", _BLUE), ("=", _BLUE)):
        cells = [cell.replace(sign, f"{color}{sign}{_PLAIN}") for cell in cells]
    return "│".join([head, *cells])
