# SPDX-License-Identifier: GPL-2.0
"""``damon-tests run``: the suites, or tests of the user, through pytest with our plugin."""

from __future__ import annotations

import os
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from damon_tests import bundle
from damon_tests.ports import UsageError

USAGE_ERROR = 2

_LOOKING_ONLY = ("--collect-only", "--co", "--fixtures", "--markers", "--help", "-h", "--version")


@dataclass(frozen=True)
class RunRequest:
    """``paths``: suites, files or ids (none: all suites). ``options``: of our plugin, as it takes them.

    ``pytest_options``: further ones of pytest. ``verbosity``: 1 for a line a test, -1 for the summary only.
    ``began``: when the run did, seconds since the epoch (default: when pytest has started).
    """

    paths: Sequence[str] = ()
    options: Sequence[str] = ()
    workers: str | None = None
    pytest_options: Sequence[str] = ()
    verbosity: int = 0
    began: float | None = None


def run_tests(request: RunRequest) -> int:
    """Run tests and return the exit code of their verdicts. Raises UsageError."""
    import pytest

    from damon_tests.commands.run_reporter import RunReporter, terminal_of_run

    _working_directory()
    paths = [suite_path(p) for p in request.paths] or [str(bundle.suites_dir())]
    more = [word for text in request.pytest_options for word in _words(text)]
    options = ["-p", "damon_tests.plugin", *_configuration(paths), *request.options]
    # Tests take from 10 ms to a minute: a worker that has none left takes some of the others.
    options += ["-n", request.workers, "--dist", "worksteal"] if request.workers is not None else []
    if any(word in _LOOKING_ONLY for word in more):
        return _exit_code(pytest.main([*options, *more, *paths]))
    verbosity = request.verbosity + sum(_verbosity(word) for word in more)
    more = [word for word in more if not _verbosity(word)]
    with terminal_of_run() as console:
        reporter = RunReporter(console, verbosity, request.began)
        # pytest itself says little: the reporter does.
        options += ["-qq", "-o", "console_output_style=classic"]
        return _exit_code(pytest.main([*options, *more, *paths], plugins=[reporter]))


def suite_path(text: str) -> str:
    """Return a path as given, else the same below the checkout's or wheel's own suites. Raises UsageError."""
    path = text.split("::", 1)[0]
    if path and Path(path).exists():
        return text
    if path and (bundle.root() / path).exists():
        return str(bundle.root() / text)
    raise UsageError(f"no such test file or directory: {path!r} (suites are in {bundle.suites_dir()})")


def _exit_code(code: int) -> int:
    import pytest

    return USAGE_ERROR if code == pytest.ExitCode.USAGE_ERROR else int(code)


def _verbosity(word: str) -> int:
    """Return what a word of pytest's says about how much to print: 1 for each v of -v, -vv; -1 for each q."""
    letters = word.removeprefix("-")
    if word in ("--verbose", "--quiet"):
        return 1 if word == "--verbose" else -1
    if not letters or not word.startswith("-") or set(letters) - {"v", "q"}:
        return 0
    return letters.count("v") - letters.count("q")


def _configuration(paths: Sequence[str]) -> list[str]:
    """Return pytest's root and configuration: ids are the same in a checkout and from a wheel.

    Tests that are not of this project get ids from here or, if they are elsewhere, from the directory that
    both are in, so that no file loses its name.
    """
    root = bundle.root()
    files = [Path(p.split("::", 1)[0]).resolve() for p in paths]
    if any(f.is_relative_to(root) for f in files) and (root / "pyproject.toml").is_file():
        return [f"--rootdir={root}", f"--config-file={root / 'pyproject.toml'}"]
    # Without a configuration of its own; and the wheel's directory may not be writable.
    if not all(f.is_relative_to(root) for f in files):
        here = _working_directory()
        root = Path(os.path.commonpath([here, *(f if f.is_dir() else f.parent for f in files)]))
    return [f"--rootdir={root}", f"--config-file={os.devnull}", "-p", "no:cacheprovider", "--strict-markers"]


def _working_directory() -> Path:
    try:
        return Path.cwd()
    except FileNotFoundError:
        raise UsageError("the working directory does not exist any more: change to another") from None


def _words(text: str) -> list[str]:
    """Return what ``--pytest`` was given, taken apart as a shell does it. Raises UsageError."""
    try:
        return shlex.split(text)
    except ValueError as error:
        raise UsageError(f"--pytest={text}: {error}") from None
