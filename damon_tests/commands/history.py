# SPDX-License-Identifier: GPL-2.0
"""``damon-tests history METRIC``: a metric over all benchmark runs of a file, and where its level changed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from damon_tests.judge.cost.change_points import ChangePoint, change_points
from damon_tests.ports import UsageError
from damon_tests.report import bench_history, figure
from damon_tests.report.bench_history import Entry


def run(metric: str | None, file: Path, plot: Path | None = None) -> int:
    """Print the history of a metric; without one, the names of those that there are."""
    if plot is not None:
        figure.check(plot)
    if metric is None:
        print("\n".join(bench_history.metrics(file)))
        return 0
    entries = bench_history.read(file, metric)
    units = {entry.unit for entry in entries}
    if len(units) > 1:
        raise UsageError(f"{file} has {metric} in {' and in '.join(sorted(units))}: keep one file for each")
    medians = [float(np.median(entry.values)) for entry in entries]
    points = change_points(medians)
    print("\n".join(lines(metric, entries, medians, points)))
    if plot is not None:
        _plot(metric, entries, medians, points, plot)
    return 0


def lines(
    metric: str, entries: Sequence[Entry], medians: Sequence[float], points: Sequence[ChangePoint]
) -> list[str]:
    """Return a line for each run, with a mark where the level of the metric changes."""
    steps = {point.index: point for point in points}
    text = [f"{metric} ({entries[0].unit})"]
    for index, (entry, median) in enumerate(zip(entries, medians, strict=True)):
        step = steps.get(index)
        mark = f"  <- {step.change:+.2%} from here on" if step else ""
        text.append(f"  {entry.run:>5}  {entry.kernel:<40} {median:14.1f}{mark}")
    return text


def _plot(
    metric: str,
    entries: Sequence[Entry],
    medians: Sequence[float],
    points: Sequence[ChangePoint],
    path: Path,
) -> None:
    """Draw the medians over the runs, and lines where the level changes. Raises NotSupported."""
    drawn = figure.new(9, 4)
    axes = drawn.subplots()
    axes.plot([entry.run for entry in entries], medians, marker="o")
    for point in points:
        axes.axvline(entries[point.index].run, color="tab:red", linestyle=":")
    axes.set_xlabel("run")
    axes.set_ylabel(f"{metric} [{entries[0].unit}]")
    figure.save(drawn, path)
