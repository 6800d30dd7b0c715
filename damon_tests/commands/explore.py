# SPDX-License-Identifier: GPL-2.0
"""``damon-tests explore``: which intervals and limits show a pattern or program well, and what they cost."""

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
from damon_tests.judge.monitoring.tradeoff import Hot, Point
from damon_tests.ports import NSEC_PER_SEC, UsageError, output_file
from damon_tests.ports.narration import narrated, on_stderr
from damon_tests.report import figure, tradeoff
from damon_tests.scenario.exploration import Grid, Plan, describe, explore
from damon_tests.scenario.truth_exploration import TruthPlan, explore_truth, fitting
from damon_tests.workload import truth_file


@dataclass(frozen=True)
class Outputs:
    """``json``: a file for programs, "-" for standard output. ``picture``: .svg or .png."""

    json: Path | None = None
    picture: Path | None = None


def run(kernel: str, plan: Plan, outputs: Outputs) -> int:
    """Try the grid's attributes on a kernel, print a table of all and the attributes to choose."""
    _check(outputs)
    budgets = budget.load(bundle.suites_dir() / "overhead" / "budgets.yaml")
    request = KernelRequest(kernel)
    with (
        narrated(on_stderr),
        tempfile.TemporaryDirectory() as scratch,
        open_backend(request, Path(scratch)) as backend,
    ):
        points = list(explore(backend, plan, budgets, lambda attrs: _progress(describe(attrs))))
        name = backend.name
    _progress("")
    title = f"{plan.pattern.name} on {name}: hot is {plan.hot}; {plan.seconds:g} s x {plan.attempts}"
    about: dict[str, object] = {
        "pattern": plan.pattern.name,
        "kernel": name,
        "hot_threshold": plan.hot.threshold,
        "hot_interval_us": plan.hot.interval_us,
        "seconds": plan.seconds,
        "seed": plan.seed,
    }
    return _show(points, title, about, outputs)


def run_truth(
    path: Path, kernel: str, grid: Grid, hot: Hot, attempts: int, seed: int, outputs: Outputs
) -> int:
    """Try the grid's attributes on the reference, over the recorded truth of a program."""
    _check(outputs)
    request = KernelRequest(kernel)
    request.check()
    if not request.is_reference:
        raise UsageError(f"a recorded truth runs on the reference only, not on {kernel}: leave --kernel out")
    saved = truth_file.load(path)
    with (
        narrated(on_stderr),
        tempfile.TemporaryDirectory() as scratch,
        open_backend(request, Path(scratch)) as backend,
    ):
        level, with_goals = backend.level, backend.capabilities().has("attrs.intervals_goal")
    plan = TruthPlan(saved, grid, hot, level, with_goals, attempts, seed)
    for attrs in fitting(plan)[1]:
        print(f"not tried, the truth is too short or too coarse: {describe(attrs)}", file=sys.stderr)
    budgets = budget.load(bundle.suites_dir() / "overhead" / "budgets.yaml")
    points = list(explore_truth(plan, budgets, lambda attrs: _progress(describe(attrs))))
    _progress("")
    start_ns, end_ns = plan.saved.truth.span_ns()
    seconds = (end_ns - start_ns) / NSEC_PER_SEC
    title = f"{plan.saved.title} ({plan.saved.space}) on reference:{level}: hot is {hot}"
    about: dict[str, object] = {
        "truth": plan.saved.title,
        "space": plan.saved.space,
        "kernel": f"reference:{level}",
        "hot_threshold": hot.threshold,
        "hot_interval_us": hot.interval_us,
        "seconds": seconds,
        "seed": seed,
    }
    return _show(points, f"{title}; {seconds:.1f} s x {attempts}", about, outputs)


def _check(outputs: Outputs) -> None:
    """Raise UsageError for a place that cannot be written to."""
    if outputs.picture is not None:
        figure.check(outputs.picture)
    for path in (outputs.json, outputs.picture):
        if path is not None:
            output_file.check_writable(path)


def _show(points: Sequence[Point], title: str, about: dict[str, object], outputs: Outputs) -> int:
    """Print the table and the attributes to choose, and write the files that were asked for."""
    cost = _source_of_cost(points)
    title = f"{title}; cost {cost}"
    about["cost"] = cost
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
