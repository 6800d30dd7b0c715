# SPDX-License-Identifier: GPL-2.0
"""``damon-tests report DIR``: a run, finished, killed or going on, shown again or written for others."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.text import Text

from damon_tests.ports import UsageError, output_file
from damon_tests.report import junit, kcidb, ktap, merge, model, output, terminal, wording
from damon_tests.report.output import from_here
from damon_tests.report.run_directory import JUNIT_XML, RUN_JSON, being_written, holds_run

Run = Mapping[str, Any]

VIEWS: Mapping[str, Callable[[Run, Path], Iterator[Text]]] = {
    "failed": terminal.failed,
    "figures": terminal.figures,
    "matrix": lambda run, directory: terminal.table(run),
}


NOTHING = {"failed": "what did not hold", "figures": "tables that tests made"}
"""What a view would have shown, in the sentence that says that there is nothing."""


@dataclass(frozen=True)
class ReportRequest:
    """``view``: one of VIEWS, or None for all there is; ``test``: only tests whose id contains this.

    ``merge``: directories of runs to put together in ``directory`` first. ``html``, ``junit``, ``json``,
    ``ktap``, ``tap``, ``kcidb``: files to write as well, ``-`` for standard output. ``kcidb_build``: the
    kernel's build as KCIDB has it, empty if it has not. ``pictures``: directories by format ("png", "svg").
    """

    directory: Path
    view: str | None = None
    test: str | None = None
    html: Path | None = None
    junit: Path | None = None
    json: Path | None = None
    ktap: Path | None = None
    tap: Path | None = None
    kcidb: Path | None = None
    kcidb_build: str = ""
    pictures: Mapping[str, Path] = field(default_factory=dict)
    merge: Sequence[Path] = ()


def show_report(request: ReportRequest) -> int:
    """Print a run and write the files that are asked for; return the run's exit code.

    A run that was killed before it wrote its files gets them now. Raises UsageError when the directory holds
    no run, NotSupported when HTML lacks its extra.
    """
    if request.merge:
        merge_runs(request.merge, request.directory)
    run = model.load(request.directory)
    _complete_files(request.directory, run)
    if not _writes_to_stdout(request):
        _print(request, run)
    _write(request, run)
    return model.exit_code(run)


def merge_runs(directories: Sequence[Path], into: Path) -> None:
    """Write the runs of several directories as one to ``into``. Raises UsageError."""
    if holds_run(into):
        raise UsageError(f"{into}: holds a run already; merge into another directory")
    whole = merge.merged([(directory, model.load(directory)) for directory in directories], into)
    into.mkdir(parents=True, exist_ok=True)
    output_file.write_text(into / RUN_JSON, model.as_text(whole))
    write_files(into, whole)


def _print(request: ReportRequest, run: Run) -> None:
    directory = from_here(request.directory)
    color, width = output.colored(sys.stdout), _width()
    if request.test is not None:
        chosen = [test for test in run["tests"] if request.test in test["id"]]
        if not chosen:
            raise UsageError(f"{request.directory}: no test of this run has {request.test!r} in its id")
        run = {**run, "tests": chosen}
    if request.view is not None:
        texts = VIEWS[request.view](run, directory)
    elif request.test is not None:
        texts = terminal.test_details(run, directory, request.test)
    else:
        for line in terminal.lines(run, directory, color=color, width=width):
            print(line)
        return
    shown = list(texts)
    if not shown:
        what = NOTHING.get(request.view or "", "it")
        print(f"There is nothing to show of {what} in {wording.plural(len(run['tests']), 'test')}.")
        return
    for line in terminal.render(shown, color=color, width=width):
        print(line)


def _write(request: ReportRequest, run: Run) -> None:
    if request.json is not None:
        output_file.write_text(request.json, model.as_text(run))
    if request.junit is not None:
        junit.save(run, request.junit)
    if request.ktap is not None:
        ktap.save(run, request.ktap)
    if request.tap is not None:
        ktap.save_tap(run, request.tap)
    if request.kcidb is not None:
        kcidb.save(run, request.kcidb, request.kcidb_build)
    if request.html is not None:
        from damon_tests.report.html import save

        save(run, request.directory, request.html)
    for kind, into in request.pictures.items():
        from damon_tests.report.charts import export

        written = export(run, request.directory, into, kind, request.test or "")
        if not _writes_to_stdout(request):
            print(f"{kind.upper():<8} {into} ({wording.plural(len(written), 'picture')})")
    if not _writes_to_stdout(request):
        files = (
            ("JSON", request.json),
            ("JUnit", request.junit),
            ("KTAP", request.ktap),
            ("TAP", request.tap),
            ("KCIDB", request.kcidb),
            ("Page", request.html),
        )
        for title, path in files:
            if path is not None:
                print(f"{title:<8} {path}")


def _writes_to_stdout(request: ReportRequest) -> bool:
    """Whether a file goes to standard output, which then has nothing else."""
    files = (request.json, request.junit, request.ktap, request.tap, request.kcidb, request.html)
    return output_file.STDOUT in files


def _complete_files(directory: Path, run: Run) -> None:
    """Write run.json and JUnit XML of a run that was killed before it could; of no run that still goes on."""
    if run["complete"] or (directory / RUN_JSON).exists() or being_written(directory):
        return
    try:
        write_files(directory, model.save(directory))
    except OSError:  # somebody else's directory: what is printed is all there is
        return


def lines(directory: Path, *, color: bool = False, verbose: bool = True) -> list[str]:
    """Return the whole report of the run in ``directory``."""
    run = model.load(directory)
    return terminal.lines(run, from_here(directory), color=color, width=_width(), verbose=verbose)


def print_summary(directory: Path, console: Console, *, verbose: bool) -> None:
    """Print the summary of a run whose failures were printed as they happened; ``verbose``: with tables."""
    run = model.load(directory)
    shown = from_here(directory)
    console.print()
    for text in terminal.summary(run, shown, console.width):
        console.print(text, soft_wrap=True)
    if verbose:
        for text in terminal.figures(run, shown):
            console.print(text, soft_wrap=True)


def write_files(directory: Path, run: Run) -> None:
    """Write what every finished run has beside ``run.json``: JUnit XML."""
    junit.save(run, directory / JUNIT_XML)


def _width() -> int:
    return shutil.get_terminal_size((100, 24)).columns
