# SPDX-License-Identifier: GPL-2.0
"""A finished run, shown again or written in other formats."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from damon_tests.report import junit, model, output, terminal
from damon_tests.report.run_directory import JUNIT_XML


def show(directory: Path, html: str | Path | None = None) -> int:
    """``damon-tests report DIR``: print the summary, write ``html`` if asked; the run's exit code.

    Raises UsageError when ``directory`` is no run, NotSupported when HTML lacks its extra.
    """
    run = model.load(directory)
    for line in terminal.lines(run, _from_here(directory), color=output.colored(sys.stdout), width=_width()):
        print(line)
    if html is not None:
        from damon_tests.report.html import save

        save(run, directory, Path(html))
        print(f"Page     {html}")
    return model.exit_code(run)


def lines(directory: Path, *, color: bool = False) -> list[str]:
    """The terminal summary of the run in ``directory``."""
    return terminal.lines(model.load(directory), _from_here(directory), color=color, width=_width())


def write_files(directory: Path, run: Mapping[str, Any]) -> None:
    """What every finished run has beside ``run.json``: JUnit XML."""
    junit.save(run, directory / JUNIT_XML)


def _from_here(directory: Path) -> Path:
    """As somebody would type it: relative to the working directory if it is below that."""
    return directory.relative_to(Path.cwd()) if directory.is_relative_to(Path.cwd()) else directory


def _width() -> int:
    return shutil.get_terminal_size((100, 24)).columns
