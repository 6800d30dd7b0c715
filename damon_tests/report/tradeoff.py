# SPDX-License-Identifier: GPL-2.0
"""Render how accurate DAMON is with which attributes, and for what cost: a table, JSON, a picture."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from damon_tests.judge.monitoring.tradeoff import Point, worth_it
from damon_tests.report import figure
from damon_tests.scenario.exploration import describe

COLUMNS = ("precision", "recall", "working_set_error", "latency_ms", "samples_per_s")
NEARLY = 0.02
"""Attributes whose F1 is lower than the best by at most this are recommended if they are the cheapest."""


def table(points: Sequence[Point]) -> str:
    """Return a line for each point, the cheapest first; "*" marks those that no other beats."""
    kept = worth_it(points)
    head = f"  {'intervals, limit':<28}{'precision':>10}{'recall':>8}{'WSS error':>11}{'latency':>10}"
    lines = [f"{head}{'checks/s':>11}{'instr./s':>14}"]
    for point in sorted(points, key=lambda p: (p.cost, -p.f1)):
        instructions = point.instructions_per_s
        lines.append(
            f"{'*' if point in kept else ' '} {describe(point.attrs):<28}"
            f"{point.median('precision'):>10.3f}{point.median('recall'):>8.3f}"
            f"{point.median('working_set_error'):>11.1%}"
            f"{_latency(point):>10}"
            f"{point.median('samples_per_s'):>11,.0f}"
            f"{'–' if instructions is None else f'{instructions:,.0f}':>14}"
        )
    return "\n".join(lines)


def document(points: Sequence[Point], about: dict[str, object]) -> dict[str, object]:
    """Return everything for a program: attributes, medians and all attempts. Infinite latencies are null."""
    kept = worth_it(points)
    return {
        "schema": 1,
        **about,
        "points": [
            {
                "sample_us": p.attrs.sample_us,
                "aggr_us": p.attrs.aggr_us,
                "max_nr_regions": p.attrs.max_nr_regions,
                "goal_access_bp": p.attrs.intervals_goal.access_bp,
                **{name: _finite(p.median(name)) for name in COLUMNS},
                "f1": p.f1,
                "instructions_per_s": p.instructions_per_s,
                "worth_it": p in kept,
                "attempts": [{name: _finite(getattr(a, name)) for name in COLUMNS} for a in p.attempts],
            }
            for p in points
        ],
    }


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def save_picture(points: Sequence[Point], path: Path, title: str) -> None:
    """Write curves of F1 and latency over cost (.svg or .png), one for each limit of regions.

    Raises NotSupported without matplotlib.
    """
    figure.check(path)
    drawn = figure.new(9, 8)
    drawn.suptitle(title, fontsize=10)
    accuracy, latency = drawn.subplots(2, 1, sharex=True)
    for limit in sorted({p.attrs.max_nr_regions for p in points}):
        fixed = [p for p in points if p.attrs.max_nr_regions == limit and not p.attrs.intervals_goal.aggrs]
        tuned = [p for p in points if p.attrs.max_nr_regions == limit and p.attrs.intervals_goal.aggrs]
        _curve(accuracy, latency, sorted(fixed, key=lambda p: p.cost), f"{limit} regions", "o-")
        _curve(accuracy, latency, tuned, f"{limit} regions, tuned", "^")
    accuracy.set_ylabel("F1 of hot bytes")
    accuracy.legend(fontsize=8)
    latency.set_ylabel("latency [ms]")
    latency.set_yscale("log")
    unit = "instructions" if all(p.instructions_per_s is not None for p in points) else "region checks"
    latency.set_xlabel(f"{unit} of kdamond a second")
    latency.set_xscale("log")
    figure.save(drawn, path)


def _curve(accuracy: Any, latency: Any, points: Sequence[Point], label: str, style: str) -> None:
    if not points:
        return
    costs = [p.cost for p in points]
    accuracy.plot(costs, [p.f1 for p in points], style, label=label)
    for p in points:
        text = describe(p.attrs).partition(",")[0]
        accuracy.annotate(text, (p.cost, p.f1), fontsize=7, xytext=(3, 3), textcoords="offset points")
    latency.plot(costs, [p.median("latency_ms") for p in points], style, label=label)


def summary(points: Sequence[Point]) -> str:
    """Return the cheapest attributes that are nearly as accurate as the best."""
    best = max(point.f1 for point in points)
    chosen = min((p for p in points if p.f1 >= best - NEARLY), key=lambda p: p.cost)
    unit = "region checks" if chosen.instructions_per_s is None else "instructions"
    return (
        f"cheapest within {NEARLY:g} of the best F1, {best:.3f}: {describe(chosen.attrs)}"
        f" (F1 {chosen.f1:.3f}, latency {_latency(chosen)},"
        f" {float(f'{chosen.cost:.3g}'):,.0f} {unit} a second)"
    )


def _latency(point: Point) -> str:
    latency = point.median("latency_ms")
    return f"{latency:,.0f} ms" if math.isfinite(latency) else "never"
