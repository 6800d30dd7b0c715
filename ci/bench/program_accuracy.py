#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""Measure how accurate DAMON is on real programs, and print the table of suites/programs/README.md.

    program_accuracy.py record --kernel debian:7.3 --rows rows.jsonl --truths DIR [redis sqlite3 …]
    program_accuracy.py replay --rows rows.jsonl --runs 10 DIR/*.npz
    program_accuracy.py table rows.jsonl

``record`` lets a kernel watch programs with all settings, in vaddr and paddr: one run each, with its own
seed; what the rows hold already is not repeated. ``replay`` runs the reference on the truths that it kept.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from itertools import product
from pathlib import Path

from damon_tests.damon.params import DamonCtx
from damon_tests.experiment.backend import Backend
from damon_tests.experiment.kernel_request import KernelRequest
from damon_tests.experiment.open_backend import open_backend
from damon_tests.experiment.program_run import ProgramRun, run_program
from damon_tests.ports import NSEC_PER_SEC, DamonTestsError
from damon_tests.scenario.program_accuracy import SETTINGS, Row, append, figures, of_reference, read, table
from damon_tests.workload import program_spec, truth_file
from damon_tests.workload.truth_file import SavedTruth

Cell = tuple[str, str, str, int]


def record(options: argparse.Namespace) -> None:
    """Run the cells of the table that are missing, until the time is over."""
    began = time.monotonic()
    options.truths.mkdir(parents=True, exist_ok=True)
    names = options.programs or program_spec.names()
    with (
        tempfile.TemporaryDirectory() as scratch,
        open_backend(KernelRequest(options.kernel), Path(scratch)) as backend,
    ):
        goals = backend.capabilities().has("attrs.intervals_goal")
        rows = read(options.rows) if options.rows.exists() else []
        done = {(r.program, r.operations, r.setting, r.seed) for r in rows if r.series == backend.level}
        seeds = range(1, options.runs + 1)
        for seed, setting, name, operations in product(seeds, options.settings, names, options.operations):
            cell = name, operations, setting, seed
            if cell in done or (setting == "intervals_goal" and not goals):
                continue
            if time.monotonic() - began > options.until:
                return
            _record(backend, cell, options)


def _record(backend: Backend, cell: Cell, options: argparse.Namespace) -> None:
    name, operations, setting, seed = cell
    began = time.monotonic()
    ctx = DamonCtx(operations, attrs=SETTINGS[setting])
    program = program_spec.load(name)
    try:
        made = run_program(
            backend, program, ctx, seed, watch_ns=int(options.seconds * NSEC_PER_SEC), cost=True
        )
        accuracy = figures(made.observation(), made.cost)
    except DamonTestsError as error:
        print(f"{' '.join(map(str, cell))}: {error}", file=sys.stderr, flush=True)
        return
    append(options.rows, Row(name, operations, setting, "kernel", backend.level, seed, accuracy))
    print(
        f"{' '.join(map(str, cell))}: {accuracy} ({time.monotonic() - began:.0f} s)",
        file=sys.stderr,
        flush=True,
    )
    if setting == "defaults" and operations == "vaddr" and seed == 1:
        _keep(made, options.truths)


def _keep(made: ProgramRun, directory: Path) -> None:
    """Keep both truths of a run, at the gap at which they were recorded."""
    mapped = tuple((m.start, m.end) for m in made.mappings)
    name, level = made.program.name, made.level
    virtual = SavedTruth(made.truth, name, level, level, "virtual", made.seed, mapped)
    physical = SavedTruth(made.physical, name, level, level, "physical", made.seed, made.ram)
    truth_file.save(directory / f"{name}-{level}-virtual.npz", virtual)
    truth_file.save(directory / f"{name}-{level}-physical.npz", physical)


def replay(options: argparse.Namespace) -> None:
    """Run the reference over kept truths, with all settings that its level has."""
    for path in options.truths:
        saved = truth_file.load(path)
        for setting in options.settings:
            if setting == "intervals_goal" and saved.level == "6.12":
                continue
            began = time.monotonic()
            try:
                for row in of_reference(saved, setting, saved.level, options.runs):
                    append(options.rows, row)
            except DamonTestsError as error:
                print(f"{path.name}, {setting}: {error}", file=sys.stderr)
            took = time.monotonic() - began
            print(f"{path.name}, {setting}: {took:.0f} s", file=sys.stderr, flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(required=True)
    p = commands.add_parser("record")
    p.add_argument("programs", nargs="*")
    p.add_argument("--kernel", default="debian:newest")
    p.add_argument("--rows", type=Path, required=True)
    p.add_argument("--truths", type=Path, required=True)
    p.add_argument("--runs", type=int, default=1)
    p.add_argument("--seconds", type=float, default=3.0)
    p.add_argument("--until", type=float, default=1e9, help="begin no run after so many seconds")
    p.add_argument("--settings", nargs="+", choices=SETTINGS, default=list(SETTINGS))
    p.add_argument("--operations", nargs="+", default=["vaddr", "paddr"])
    p.set_defaults(function=record)
    p = commands.add_parser("replay")
    p.add_argument("truths", nargs="+", type=Path)
    p.add_argument("--rows", type=Path, required=True)
    p.add_argument("--runs", type=int, default=10)
    p.add_argument("--settings", nargs="+", choices=SETTINGS, default=list(SETTINGS))
    p.set_defaults(function=replay)
    p = commands.add_parser("table")
    p.add_argument("rows", nargs="+", type=Path)
    p.set_defaults(function=lambda o: print(table([row for path in o.rows for row in read(path)]), end=""))
    options = parser.parse_args()
    try:
        options.function(options)
    except DamonTestsError as error:
        print(f"program_accuracy: {error}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
