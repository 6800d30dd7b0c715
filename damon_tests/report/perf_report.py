# SPDX-License-Identifier: GPL-2.0
"""Read the text reports of damon-tests/perf, DAMON's own evaluation, to show them beside our figures.

A report has a table for each metric. Its first line names the metric and the configurations; the first,
``orig``, is without DAMON, and each other one has its overhead beside it, in percent and parentheses::

    runtime               orig     rec      (overhead) prcl     (overhead)
    parsec3/blackscholes  139.658  140.168  (PERCENT)  147.024  (PERCENT)
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from damon_tests.ports import UsageError

_OVERHEAD = "(overhead)"
_TOTALS = ("total", "average")
_FAILED = -100.0
"""What a report prints for a configuration whose runs failed."""

METRICS = ("runtime", "rss.avg", "memused.avg", "pgmajfaults", "kdamond_cpu_util")


@dataclass(frozen=True)
class PerfReport:
    """``values``: by metric, configuration and workload. Failed runs are left out."""

    path: Path
    values: Mapping[tuple[str, str], Mapping[str, float]]

    @property
    def configurations(self) -> tuple[str, ...]:
        """Return the configurations in the report's order, ``orig`` first."""
        return tuple(dict.fromkeys(config for _, config in self.values))

    def changes(self, metric: str, configuration: str) -> list[float]:
        """Return the change to ``orig`` of each workload that has both, as a fraction."""
        before = self.values.get((metric, self.configurations[0]), {})
        after = self.values.get((metric, configuration), {})
        return [after[name] / before[name] - 1 for name in after if before.get(name)]


def read(path: Path) -> PerfReport:
    """Read a report. Raises UsageError, with file and line, for what is none."""
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise UsageError(f"{path}: not a text file") from None
    values: dict[tuple[str, str], dict[str, float]] = {}
    for metric, configurations, number, line in _rows(text):
        name, cells = _cells(path, number, line, len(configurations))
        for configuration, value in zip(configurations, cells, strict=True):
            if value is not None:
                values.setdefault((metric, configuration), {})[name] = value
    if not values:
        raise UsageError(
            f"{path}:1: not a report of damon-tests/perf: no line names a metric and '{_OVERHEAD}'"
        )
    return PerfReport(path, values)


def _rows(text: str) -> Iterator[tuple[str, tuple[str, ...], int, str]]:
    """Yield (metric, configurations, line number, line) of each row of a workload."""
    metric = ""
    configurations: tuple[str, ...] = ()
    for number, line in enumerate(text.splitlines(), start=1):
        words = line.split()
        if _OVERHEAD in words:
            metric, configurations = words[0], tuple(w for w in words[1:] if w != _OVERHEAD)
        elif not words:
            metric = ""
        elif metric and words[0] not in _TOTALS:
            yield metric, configurations, number, line


def _cells(path: Path, number: int, line: str, count: int) -> tuple[str, list[float | None]]:
    """Return a row's workload and values, without overheads; None for runs that failed."""
    name, rest = line.split(None, 1) if len(line.split()) > 1 else (line, "")
    try:
        values = [float(word) for word in rest.split() if not word.startswith("(")]
    except ValueError:
        raise UsageError(f"{path}:{number}: {rest!r} has something that is no number") from None
    if len(values) != count:
        raise UsageError(
            f"{path}:{number}: {len(values)} values instead of {count}, as the table has columns"
        )
    return name, [v if v > _FAILED and math.isfinite(v) else None for v in values]


def table(report: PerfReport) -> str:
    """Return the median change of each metric over all workloads, as a Markdown table."""
    lines = ["| published, to " + report.configurations[0] + " | " + " | ".join(METRICS) + " |"]
    lines.append("|---|" + "--:|" * len(METRICS))
    for configuration in report.configurations[1:]:
        cells = [_cell(report, metric, configuration) for metric in METRICS]
        lines.append(f"| {configuration} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _cell(report: PerfReport, metric: str, configuration: str) -> str:
    changes: Sequence[float] = report.changes(metric, configuration)
    return f"{np.median(changes):+.2%} ({len(changes)})" if changes else "–"
