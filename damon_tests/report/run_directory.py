# SPDX-License-Identifier: GPL-2.0
"""The directory of one run: its name, whose it is while the run lasts, and what is in it.

A directory holds one run. It is locked while the run lasts, so that two runs never write into one, and a
finished run is only replaced by one that was asked to (``--overwrite``).
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import time
from hashlib import sha256
from pathlib import Path

from damon_tests.ports import UsageError
from damon_tests.report.events import EVENTS

RUNS = "damon-tests-runs"
RUN_JSON = "run.json"
JUNIT_XML = "junit.xml"

_LOCK = ".lock"
_TESTS = "tests"
_FILES = (EVENTS, RUN_JSON, JUNIT_XML)
_DIRECTORIES = (_TESTS, "guests")
_HOLDS_RUN = "holds the results of a run: choose another --output, or replace them (--overwrite)"
_UNSAFE = re.compile(r"[^A-Za-z0-9._-]+")
_PLAIN = re.compile(r"[A-Za-z0-9._/:\[\]-]*")
_LONGEST_NAME = 180  # of 255 bytes that file systems allow


def new_directory(base: Path | None = None) -> Path:
    """Return a name for a run's directory that no other run has, below ``base`` (default: here).

    Makes nothing. Raises UsageError if there is no working directory any more.
    """
    try:
        parent = (base or Path.cwd()) / RUNS
    except FileNotFoundError:
        raise UsageError("the working directory does not exist any more: change to another") from None
    return parent / f"{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}"


def attempt_directory(run: Path, test_id: str, attempt: int) -> Path:
    """Make and return the directory of a test's attempt: its id without characters special to shells."""
    path = run / _TESTS / safe_name(test_id) / f"attempt-{attempt}"
    path.mkdir(parents=True, exist_ok=True)
    return path


def safe_name(test_id: str) -> str:
    name = _UNSAFE.sub("_", test_id).strip("_")
    if _PLAIN.fullmatch(test_id) and len(name) <= _LONGEST_NAME:
        return name
    # Ids that differ in other characters only, or at the end, must not share a directory.
    return f"{name[:_LONGEST_NAME]}-{sha256(test_id.encode(errors='replace')).hexdigest()[:8]}"


def holds_run(path: Path) -> bool:
    """Return whether there is a run in the directory, finished or not."""
    return any((path / name).exists() for name in (EVENTS, RUN_JSON))


def check(path: Path) -> None:
    """Raise UsageError if no run's directory can be made at ``path``; makes nothing."""
    existing = next(p for p in (path, *path.absolute().parents) if p.exists())
    if not existing.is_dir():
        raise UsageError(f"results cannot be written to {path}: {existing} is no directory")
    if not os.access(existing, os.W_OK | os.X_OK):
        raise UsageError(
            f"results cannot be written to {path}: {existing} is not writable for you; choose with --output"
        )


class Claim:
    """A run's directory, locked until ``release``."""

    def __init__(self, path: Path, *, overwrite: bool = False) -> None:
        """Make ``path`` if needed and lock it; ``overwrite`` removes the run that is in it.

        Raises UsageError if another run is in it or is writing to it, or if it cannot be written.
        """
        self.path = path
        self._fd = -1
        try:
            self._made = _make(path)
            self._fd = os.open(path / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if holds_run(path) and not overwrite:
                raise UsageError(f"{path} {_HOLDS_RUN}")
            if overwrite and holds_run(path):
                _remove_run(path)
        except BlockingIOError:
            os.close(self._fd)
            raise UsageError(
                f"{path}: another run writes its results there; choose another --output"
            ) from None
        except OSError as error:
            raise UsageError(_unwritable(path, error)) from None
        except UsageError:
            self.release()
            raise

    def release(self) -> None:
        """Unlock; a directory that was made and is empty is removed. May be called twice."""
        if self._fd < 0:
            return
        (self.path / _LOCK).unlink(missing_ok=True)
        os.close(self._fd)
        self._fd = -1
        for made in self._made:
            try:
                made.rmdir()
            except OSError:  # there are results in it
                break


def being_written(path: Path) -> bool:
    """Return whether a run is writing to the directory now."""
    try:
        fd = os.open(path / _LOCK, os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(fd)
    return False


def _make(path: Path) -> list[Path]:
    """Make a directory with its parents; those that were not there, deepest first."""
    missing = [p for p in (path, *path.absolute().parents) if not os.path.lexists(p)]
    path.mkdir(parents=True, exist_ok=True)
    return missing


def _remove_run(path: Path) -> None:
    """Remove what a run writes, and nothing else that somebody may keep there."""
    for name in _FILES:
        (path / name).unlink(missing_ok=True)
    for log in path.glob("console-*.log"):
        log.unlink()
    if path.is_symlink():
        return
    for name in _DIRECTORIES:
        shutil.rmtree(path / name, ignore_errors=True)


def _unwritable(path: Path, error: OSError) -> str:
    existing = next((p for p in (path, *path.absolute().parents) if os.path.lexists(p)), path)
    if not existing.is_dir():
        return f"results cannot be written to {path}: {existing} is no directory"
    return f"results cannot be written to {path} ({error.strerror}): choose another place with --output"
