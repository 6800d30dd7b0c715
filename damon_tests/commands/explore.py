# SPDX-License-Identifier: GPL-2.0
"""``damon-tests explore PATTERN``: which intervals and limits show a pattern well, and what they cost."""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from damon_tests import bundle
from damon_tests.experiment.kernel_request import KernelRequest
from damon_tests.experiment.open_backend import open_backend
from damon_tests.judge.cost import budget
from damon_tests.judge.monitoring.tradeoff import Point
from damon_tests.ports import UsageError, output_file
from damon_tests.report import tradeoff
from damon_tests.scenario.exploration import Plan, describe, explore


@dataclass(frozen=True)
class Outputs:
    """``json``: a file for programs, "-" for standard output. ``picture``: .svg or .png."""

    json: Path | None = None
    picture: Path | None = None


def run(kernel: str, plan: Plan, outputs: Outputs) -> int:
    """Try the grid's attributes on a kernel, print a table of all and the attributes to choose."""
    if outputs.picture is not None and outputs.picture.suffix not in (".png", ".svg"):
        raise UsageError(f"{outputs.picture}: pictures are written as .png or .svg")
    for path in (outputs.json, outputs.picture):
        if path is not None:
            output_file.check_writable(path)
    budgets = budget.load(bundle.suites_dir() / "overhead" / "budgets.yaml")
    request = KernelRequest(kernel)
    with tempfile.TemporaryDirectory() as scratch, open_backend(request, Path(scratch)) as backend:
        points = list(explore(backend, plan, budgets, lambda attrs: _progress(describe(attrs))))
        name = backend.name
    _progress("")
    cost = _source_of_cost(points)
    title = (
        f"{plan.pattern.name} on {name}: hot is {plan.hot}; {plan.seconds:g} s x {plan.attempts}; cost {cost}"
    )
    about: dict[str, object] = {
        "pattern": plan.pattern.name,
        "kernel": name,
        "hot_threshold": plan.hot.threshold,
        "hot_interval_us": plan.hot.interval_us,
        "seconds": plan.seconds,
        "seed": plan.seed,
        "cost": cost,
    }
    if outputs.json is not None:
        text = json.dumps(tradeoff.document(points, about), indent=1) + "\n"
        if str(outputs.json) == "-":
            print(text, end="")
        else:
            output_file.write_text(outputs.json, text)
    if outputs.picture is not None:
        tradeoff.save_picture(points, outputs.picture, title)
    if str(outputs.json) != "-":
        print(f"{title}\n{tradeoff.table(points)}\n\n{tradeoff.summary(points)}")
    return 0


def _source_of_cost(points: Sequence[Point]) -> str:
    """Return where the costs come from, for people."""
    if all(point.counted for point in points):
        return "counted"
    known = all(point.instructions_per_s is not None for point in points)
    return "estimated from budgets" if known else "unknown"


def _progress(words: str) -> None:
    """Show what is tried now, on a terminal only."""
    if sys.stderr.isatty():
        print(f"\r{words:<60}", end="" if words else "\r", file=sys.stderr, flush=True)
