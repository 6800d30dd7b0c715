# SPDX-License-Identifier: GPL-2.0
"""``damon-tests compare A B``: what became dearer or cheaper from one kernel to another, and where."""

from __future__ import annotations

import sys
from pathlib import Path

from damon_tests.commands import bench
from damon_tests.judge.cost import compare as judge
from damon_tests.judge.cost.compare import Effect
from damon_tests.ports import UsageError, output_file
from damon_tests.report import bench_record, flame
from damon_tests.report.bench_record import BenchRecord


def run(before: str, after: str, *, force: bool, flames: Path | None, seed: int) -> int:
    """Print the effect on each metric. 1 when any became dearer, 7 when none did and some are undecided.

    ``before``, ``after``: directories of benchmark runs, or kernels, which are benchmarked first.
    """
    old, new = (_record(word, seed) for word in (before, after))
    unlike = judge.differences(old.provenance, new.provenance)
    if unlike and not force:
        raise UsageError(
            f"{before} and {after} were not taken alike ({'; '.join(unlike)}): differences would mean"
            " nothing; --force compares them all the same"
        )
    if unlike:
        print(f"not taken alike: {'; '.join(unlike)}", file=sys.stderr)
    effects = judge.compare(old.metrics, new.metrics)
    if flames is not None:
        _write_flames(effects, old, new, flames)
    print(f"{old.kernel} -> {new.kernel}")
    for effect in effects:
        print(line(effect))
        for change in _causes(effect, old, new):
            print(change)
    counts = judge.summary(effects)
    print(", ".join(f"{count} {outcome}" for outcome, count in counts.items()))
    return 1 if counts["dearer"] else 7 if counts["cannot tell"] else 0


def _record(word: str, seed: int) -> BenchRecord:
    directory = Path(word)
    if not directory.is_dir():
        directory = bench.take(word, (), None, seed)
        print(f"{word}: kept in {directory}", file=sys.stderr)
    return bench_record.load(directory)


def line(effect: Effect) -> str:
    """One metric's effect, with its interval."""
    change = f"{effect.change:+.2%} ({effect.low:+.2%} to {effect.high:+.2%})"
    values = f"{effect.before:,.1f} -> {effect.after:,.1f} {effect.unit}"
    return f"  {effect.metric:<40} {effect.outcome:<12} {change:<34} {values}"


def _causes(effect: Effect, old: BenchRecord, new: BenchRecord) -> list[str]:
    if effect.outcome not in ("dearer", "cheaper"):
        return []
    changes = judge.by_function(old.metrics[effect.metric], new.metrics[effect.metric])
    return [f"      {c.name}: {c.before:,.1f} -> {c.after:,.1f}" for c in changes]


def _write_flames(effects: list[Effect], old: BenchRecord, new: BenchRecord, directory: Path) -> None:
    """A differential flame graph for each metric that has call trees, as SVG and as folded text."""
    directory.mkdir(parents=True, exist_ok=True)
    for effect in effects:
        a, b = old.metrics[effect.metric], new.metrics[effect.metric]
        if a.tree is None or b.tree is None:
            continue
        title = f"{effect.metric}: {old.kernel} -> {new.kernel}, {effect.change:+.2%} (red: dearer)"
        svg = flame.difference_svg(a.tree, b.tree, (a.median, b.median), title)
        output_file.write_text(directory / f"{effect.metric}.svg", svg)
        difference = flame.folded_difference(a.tree, b.tree)
        output_file.write_text(directory / f"{effect.metric}.folded", difference)
    print(f"flame graphs are in {directory}", file=sys.stderr)
