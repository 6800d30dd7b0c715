# SPDX-License-Identifier: GPL-2.0
"""Charts as data: the picture that shows why one check does not hold.

A check carries its chart (``verdict.Check.chart``); a report draws it as SVG, PNG or numbers
(``report.chart_svg``, ``report.chart_png``). Curves of any length are thinned to what a screen can show, and
keep their extremes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from damon_tests.judge.verdict import Check

Style = Literal["line", "steps", "dots", "expected", "expected steps"]

MOST_POINTS = 400

SECONDS = "seconds since recording began"


@dataclass(frozen=True)
class Curve:
    """``x``, ``y``: equally long, ascending ``x``. ``expected``: what a correct DAMON would have reported.

    ``steps``: each value holds until the next one."""

    name: str
    x: tuple[float, ...]
    y: tuple[float, ...]
    style: Style = "line"


@dataclass(frozen=True)
class Band:
    """Where a correct DAMON's values lie: ``low`` to ``high`` at each ``x``."""

    name: str
    x: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]


@dataclass(frozen=True)
class Mark:
    """A time with a name, from ``x0`` to ``x1``; a moment if they are equal."""

    name: str
    x0: float
    x1: float


@dataclass(frozen=True)
class Panel:
    """One y axis. ``title``: what it shows, with its unit. ``groups``: names of the positions x = 0, 1, ...;
    the curves are then drawn as bars beside one another."""

    title: str
    curves: tuple[Curve, ...] = ()
    bands: tuple[Band, ...] = ()
    groups: tuple[str, ...] = ()


@dataclass(frozen=True)
class Chart:
    """Panels below one another over one x axis."""

    title: str
    panels: tuple[Panel, ...]
    marks: tuple[Mark, ...] = ()
    x_label: str = SECONDS


def curve(name: str, x: npt.ArrayLike, y: npt.ArrayLike, style: Style = "line") -> Curve:
    """Return a curve of two arrays, thinned; values that are not finite are left out."""
    xs, ys = np.asarray(x, np.float64), np.asarray(y, np.float64)
    finite = np.isfinite(ys)
    xs, ys = xs[finite], ys[finite]
    kept = _kept(ys)
    return Curve(name, tuple(xs[kept].tolist()), tuple(ys[kept].tolist()), style)


def band(name: str, x: npt.ArrayLike, low: npt.ArrayLike, high: npt.ArrayLike) -> Band:
    """Return a band of three arrays, thinned."""
    xs, lows, highs = (np.asarray(a, np.float64) for a in (x, low, high))
    kept = _kept(highs)
    return Band(name, tuple(xs[kept].tolist()), tuple(lows[kept].tolist()), tuple(highs[kept].tolist()))


def _kept(values: npt.NDArray[np.float64]) -> npt.NDArray[np.intp]:
    """Return the indices that stay: of each of MOST_POINTS / 2 parts the smallest and the largest value."""
    if len(values) <= MOST_POINTS:
        return np.arange(len(values))
    parts = np.array_split(np.arange(len(values)), MOST_POINTS // 2)
    ends = [(part[values[part].argmin()], part[values[part].argmax()]) for part in parts]
    return np.unique(np.array(ends, np.intp))


def explain(checks: Iterable[Check], make: Callable[[], Chart | None]) -> list[Check]:
    """Give the checks that do not hold, or are undecided, the chart that ``make`` returns.

    ``make`` is called only if there is such a check without a chart.
    """
    given = list(checks)
    if all(check.holds is True or check.chart is not None for check in given):
        return given
    made = make()
    return [c if c.holds is True or c.chart is not None else replace(c, chart=made) for c in given]


def explained(check: Check, make: Callable[[], Chart | None]) -> Check:
    """Return one check with its chart, as ``explain`` gives it."""
    return explain([check], make)[0]


def to_json(chart: Chart) -> dict[str, Any]:
    """Return a value for ``from_json``, of JSON's types."""
    return asdict(chart)


def from_json(value: Any) -> Chart:
    """Return the chart of a value from ``to_json``. Raises KeyError, TypeError or ValueError for others."""
    return Chart(
        str(value["title"]),
        tuple(_panel(panel) for panel in value["panels"]),
        tuple(Mark(str(m["name"]), float(m["x0"]), float(m["x1"])) for m in value["marks"]),
        str(value["x_label"]),
    )


def _panel(value: Any) -> Panel:
    curves = tuple(
        Curve(str(c["name"]), _numbers(c["x"]), _numbers(c["y"], c["x"]), _style(c["style"]))
        for c in value["curves"]
    )
    bands = tuple(
        Band(str(b["name"]), _numbers(b["x"]), _numbers(b["low"], b["x"]), _numbers(b["high"], b["x"]))
        for b in value["bands"]
    )
    return Panel(str(value["title"]), curves, bands, tuple(map(str, value["groups"])))


def _numbers(values: Sequence[Any], beside: Sequence[Any] | None = None) -> tuple[float, ...]:
    if beside is not None and len(values) != len(beside):
        raise ValueError(f"{len(values)} values for {len(beside)} positions")
    return tuple(float(v) for v in values)


def _style(value: Any) -> Style:
    styles: tuple[Style, ...] = ("line", "steps", "dots", "expected", "expected steps")
    return styles[styles.index(value)]
