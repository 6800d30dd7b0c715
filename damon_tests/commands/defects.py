# SPDX-License-Identifier: GPL-2.0
"""``damon-tests defects``: the known defects of DAMON, and which kernels have them."""

from __future__ import annotations

import json
import platform
from collections.abc import Iterable
from dataclasses import asdict

from rich.markup import escape
from rich.table import Table

from damon_tests.damon.features import LEVELS
from damon_tests.damon.known_defects import KnownDefect, numbers, the_table
from damon_tests.ports import UsageError
from damon_tests.report.output import PipeConsole

REFERENCE = "reference"


def show_defects(kernel: str | None, *, as_json: bool = False) -> int:
    """Print the known defects, or those of one kernel; 0.

    ``kernel``: a series ("6.12"), a release ("6.12.117"), or what ``--kernel`` of ``run`` takes. Raises
    UsageError.
    """
    chosen = list(the_table().values())
    if kernel is not None:
        level, release = identify(kernel)
        chosen = [d for d in chosen if d.is_in(level, release)]
        if kernel.startswith(REFERENCE):
            chosen = [d for d in chosen if not d.kernels_only]
    if as_json:
        print(json.dumps([_row(d) for d in chosen], indent=1))
        return 0
    if not chosen:
        print(f"no known defect of {kernel}")
        return 0
    PipeConsole(highlight=False).print(_table(chosen))
    return 0


def identify(kernel: str) -> tuple[str, str]:
    """Return (level, release) of a kernel; no release where only a series is named. Raises UsageError."""
    if kernel.startswith(REFERENCE):
        return _series(kernel.partition(":")[2] or LEVELS[-1]), ""
    if kernel == "host":
        return _series(platform.release()), platform.release()
    if kernel[:1].isdigit():
        return _series(kernel), kernel if len(numbers(kernel)) > 2 else ""
    from damon_tests.kernel.images import image

    release = image.resolve(kernel).release
    return _series(release), release


def _series(release: str) -> str:
    """The known series of a release. Raises UsageError for one that is none."""
    series = ".".join(str(number) for number in numbers(release)[:2])
    if series not in LEVELS:
        raise UsageError(f"{release!r} is of no series that is known; there are {', '.join(LEVELS)}")
    return series


def _row(defect: KnownDefect) -> dict[str, object]:
    """One defect as JSON: what is not given is left out."""
    row = asdict(defect)
    row["predicts"] = [str(p) for p in defect.predicts]
    row["releases"] = [{k: v for k, v in r.items() if v} for r in row["releases"]]
    return {name: value for name, value in row.items() if value not in ("", None)}


def _table(defects: Iterable[KnownDefect]) -> Table:
    table = Table(show_lines=True)
    table.add_column("defect, kernels", no_wrap=True)
    table.add_column("what it does, what fails, where it is shown")
    for d in defects:
        releases = "\n".join(d.kernels())
        fails = "\n".join(f"- {p}" for p in d.predicts)
        what = f"{escape(d.does)}\n{escape(fails)}\n[dim]{escape(d.evidence)}[/dim]"
        table.add_row(f"[bold]{d.key}[/bold]\n{releases}", what)
    return table
