# SPDX-License-Identifier: GPL-2.0
"""Render what schemes save and cost: a table in the shape of DAMON's own evaluation, JSON, a picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from damon_tests.judge.cost.savings import Arm, Saving, middle
from damon_tests.ports import NotSupported, UsageError, output_file

MIB = 1 << 20

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
    return {"schema": 1, **about, "arms": [asdict(arm) for arm in arms]}


def save_picture(savings: Sequence[Saving], path: Path, title: str) -> None:
    """Draw memory saved over slowdown, a point for each pair (.svg or .png).

    Raises NotSupported without matplotlib.
    """
    check_picture(path)
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise NotSupported("pictures need matplotlib", remedy="pip install 'damon-tests[report]'") from None
    figure = Figure(figsize=(9, 6), layout="constrained")
    axes = figure.subplots()
    axes.set_title(title, fontsize=10)
    for saving in savings:
        x, y = ([100 * v for v in values] for values in (saving.slowdown, saving.rss_saved))
        axes.plot(x, y, "o", label=f"{saving.workload}, {saving.scheme}")
    axes.axhline(0, color="grey", linewidth=0.5)
    axes.axvline(0, color="grey", linewidth=0.5)
    axes.set_xlabel("slowdown: more instructions of the workload for the same work [%]")
    axes.set_ylabel("memory of the process saved [%]")
    axes.legend(fontsize=8)
    with output_file.writing(path) as file:
        metadata = {"Date": None} if path.suffix == ".svg" else {}
        figure.savefig(file, format=path.suffix.removeprefix("."), dpi=110, metadata=metadata)


def check_picture(path: Path) -> None:
    """Raise UsageError for a picture that is neither .png nor .svg."""
    if path.suffix not in (".png", ".svg"):
        raise UsageError(f"{path}: pictures are written as .png or .svg")
