# SPDX-License-Identifier: GPL-2.0
"""Round positions and short labels for the axes of charts."""

from __future__ import annotations

import math
from collections.abc import Sequence

from damon_tests.judge.chart import Panel
from damon_tests.ports.numbers import number
from damon_tests.report.wording import size


def ticks(low: float, high: float, most: int = 5) -> list[float]:
    """Return round positions between ``low`` and ``high``, at most ``most`` + 1 of them."""
    if not math.isfinite(low) or not math.isfinite(high) or high <= low:
        return [low]
    power = 10.0 ** math.floor(math.log10((high - low) / most))
    step = next(power * n for n in (1, 2, 5, 10) if (high - low) / (power * n) <= most + 1e-9)
    first = math.ceil(low / step)
    return [min(i * step, high) for i in range(first, math.floor(high / step + 1e-9) + 1)]


def byte_ticks(high: float, most: int = 4) -> list[float]:
    """Return positions that are round in binary units, from 0 to ``high`` bytes."""
    step = 1
    while high / step > most:
        step *= 2
    return [float(i * step) for i in range(int(high // step) + 1)]


def is_bytes(panel: Panel) -> bool:
    """Return whether the panel's values are bytes."""
    return "bytes" in panel.title.split(" of ")[0]


def label(panel: Panel, value: float) -> str:
    """Return a value of the panel as text: "8 MiB" for bytes."""
    return size(value) if is_bytes(panel) else number(float(f"{value:.4g}"))


def extent(panel: Panel) -> tuple[float, float]:
    """Return the lowest and highest value of everything in a panel, 0 included; never an empty range."""
    values: list[float] = [0.0]
    for curve in panel.curves:
        values += curve.y
    for band in panel.bands:
        values += [*band.low, *band.high]
    low, high = min(values), max(values)
    return (low, high) if high > low else (low, low + 1.0)


def x_extent(panels: Sequence[Panel], marks: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """Return the lowest and highest x of all panels and marks; never an empty range."""
    values = [x for panel in panels for curve in panel.curves for x in curve.x]
    values += [x for panel in panels for band in panel.bands for x in band.x]
    values += [x for mark in marks for x in mark]
    if not values:
        return 0.0, 1.0
    low, high = min(values), max(values)
    return (low, high) if high > low else (low, low + 1.0)
