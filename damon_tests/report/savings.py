# SPDX-License-Identifier: GPL-2.0
"""Render what schemes save and cost: a table in the shape of DAMON's own evaluation, JSON, a picture."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from damon_tests.judge.cost.savings import Arm, Saving, Shares, WorkloadCost, middle
from damon_tests.ports import UsageError
from damon_tests.report import figure

MIB = 1 << 20
SCHEMA = 1

LEGEND = """\
Each row is a scheme against the same workload without; medians, and the range of several pairs.
rss, memory: what is saved of the process's memory and of the machine's (negative: more is used).
slowdown: more instructions of the workload itself for the same work; not the time of caches and TLBs.
refaults: pages read back while that was measured, without → with. TLB: flushes, without → with.
kdamond: DAMON's instructions, as a share of one processor.
huge, near, active: share of the touched pages in huge pages, on the processors' node, on an active list.
far: memory of the process on the other node, with the scheme."""

_COLUMNS = (
    *("workload", "scheme", "rss saved", "memory saved", "slowdown", "refaults", "kdamond", "TLB"),
    *("huge", "near", "active", "far"),
)


def table(savings: Sequence[Saving]) -> str:
    """Return the savings as a Markdown table, a row for each workload and scheme."""
    lines = ["| " + " | ".join(_COLUMNS) + " |", "|---|---|" + "--:|" * (len(_COLUMNS) - 2)]
    lines += ["| " + " | ".join(_row(saving)) + " |" for saving in savings]
    return "\n".join(lines)


def _row(saving: Saving) -> list[str]:
    return [
        f"`{saving.workload}`",
        saving.scheme,
        _percent(saving.rss_saved),
        _percent(saving.used_saved),
        _percent(saving.slowdown, digits=2),
        _counts([arm.refaults for arm in saving.baseline], saving.refaults),
        _percent(saving.kdamond, digits=2),
        _counts([a.cost.tlb_flushes for a in saving.baseline], [a.cost.tlb_flushes for a in saving.arms]),
        *(_shares(saving, name) for name in ("huge", "near", "active")),
        f"{middle([arm.far for arm in saving.arms]) / MIB:.0f} MiB",
    ]


def _percent(values: Sequence[float], digits: int = 0) -> str:
    median = f"{middle(values):.{digits}%}"
    low, high = (f"{value:.{digits}%}" for value in (min(values), max(values)))
    return median if low == high else f"{median} ({low} to {high})"


def _counts(without: Sequence[int], with_it: Sequence[int]) -> str:
    return " → ".join(f"{middle(values):,.0f}" for values in (without, with_it))


def _shares(saving: Saving, name: str) -> str:
    """Return a share of the touched pages, without → with."""
    known = [[getattr(a.shares, name) for a in arms if a.shares] for arms in (saving.baseline, saving.arms)]
    return " → ".join(f"{middle(values):.0%}" for values in known) if all(known) else "–"


def document(arms: Sequence[Arm], about: Mapping[str, object]) -> dict[str, object]:
    """Return every run for a program."""
    return {"schema": SCHEMA, **about, "arms": [asdict(arm) for arm in arms]}


def load(path: Path) -> tuple[list[Arm], Mapping[str, object]]:
    """Return the runs of a file that ``document`` made, and what it says about them.

    Raises UsageError, with the reason, for another file.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}") from None
    except ValueError as error:
        raise UsageError(f"{path} is no JSON: {error}") from None
    if not isinstance(content, dict) or content.get("schema") != SCHEMA:
        raise UsageError(f"{path} is no file of damon-tests savings --json, schema {SCHEMA}")
    try:
        arms = [_arm(**fields) for fields in content["arms"]]
    except (KeyError, TypeError) as error:
        raise UsageError(f"{path} is damaged: {error}; measure again") from None
    return arms, {name: value for name, value in content.items() if name not in ("arms", "schema", "skipped")}


def _arm(cost: Mapping[str, Any], shares: Mapping[str, float] | None = None, **others: Any) -> Arm:
    return Arm(cost=WorkloadCost(**cost), shares=Shares(**shares) if shares else None, **others)


def save_picture(savings: Sequence[Saving], path: Path, title: str) -> None:
    """Draw memory saved and slowdown, a row for each workload and scheme: the median as a bar, each pair as a
    dot (.svg or .png).

    Raises NotSupported without matplotlib.
    """
    figure.check(path)
    drawn = figure.new(10, 1.6 + 0.4 * len(savings))
    memory, slowdown = drawn.subplots(1, 2, sharey=True)
    drawn.suptitle(title, fontsize=10)
    _bars(memory, [saving.rss_saved for saving in savings], "memory of the process saved [%]", least=-100)
    words = "slowdown: more instructions for the same work [%]"
    _bars(slowdown, [saving.slowdown for saving in savings], words)
    names = [f"{saving.workload}, {saving.scheme}" for saving in savings]
    memory.set_yticks(range(len(names)), names, fontsize=8)
    memory.invert_yaxis()
    figure.save(drawn, path)


def _bars(axes: Any, rows: Sequence[Sequence[float]], label: str, least: float | None = None) -> None:
    """Draw percentages, with each median as a number; what is below ``least`` is cut off there."""
    medians = [100 * middle(values) for values in rows]
    shown = [value if least is None else max(value, least) for value in medians]
    axes.barh(range(len(rows)), shown, color="tab:blue", alpha=0.5)
    for row, values in enumerate(rows):
        dots = [100 * value for value in values if least is None or 100 * value >= least]
        axes.plot(dots, [row] * len(dots), "o", color="tab:blue", markersize=4)
        axes.annotate(f"{medians[row]:.1f}", (max(shown[row], 0), row), (4, 0), **_NUMBER)
    axes.axvline(0, color="grey", linewidth=0.5)
    axes.margins(x=0.15)
    axes.set_xlabel(label, fontsize=9)


_NUMBER: Mapping[str, Any] = {"textcoords": "offset points", "va": "center", "fontsize": 8}
