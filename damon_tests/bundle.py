# SPDX-License-Identifier: GPL-2.0
"""Where the project's own data is: beside the package in a checkout, inside it in a wheel.

A wheel carries ``suites/``, ``workloads/`` and the built C programs under ``damon_tests/_bundle/``,
laid out as in the checkout, so that test ids are the same in both.
"""

from __future__ import annotations

import atexit
import functools
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent


@functools.cache
def root() -> Path:
    """The directory that has ``suites/`` and ``workloads/``: the checkout, or the wheel's bundle."""
    checkout = _PACKAGE.parent
    if (checkout / "suites").is_dir() and (checkout / "pyproject.toml").is_file():
        return checkout
    return _PACKAGE / "_bundle"


def suites_dir() -> Path:
    return root() / "suites"


def patterns_dir() -> Path:
    return root() / "workloads" / "patterns"


def programs_dir() -> Path:
    """Return where the static C programs are built to (checkout) or shipped (wheel)."""
    return root() / "workloads" / "build"


@functools.cache
def commit() -> str:
    """Return the commit of the checkout, with "+" if files were changed since; "unknown" in a wheel."""
    if not (root() / ".git").exists():
        return "unknown"
    try:
        changed = "+" if _git("status", "--porcelain", "--untracked-files=no") else ""
        return _git("rev-parse", "HEAD").strip() + changed
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def _git(*words: str) -> str:
    command = ["git", "-c", f"safe.directory={root()}", "-C", str(root()), *words]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def cache_dir() -> Path:
    """Return the directory of downloads and guest images, shared by all runs of this user.

    It is a temporary one if that is read-only.
    """
    base = os.environ.get("DAMON_TESTS_CACHE") or os.path.join(
        os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"), "damon-tests"
    )
    return _writable(Path(base))


@functools.cache
def _writable(path: Path) -> Path:
    existing = next(p for p in (path, *path.absolute().parents) if p.exists())
    if existing.is_dir() and os.access(existing, os.W_OK | os.X_OK):
        return path
    instead = Path(tempfile.mkdtemp(prefix="damon-tests-cache-"))
    atexit.register(shutil.rmtree, instead, ignore_errors=True)
    print(
        f"damon-tests: {path} cannot be written: what it keeps goes to {instead} until this run ends"
        " (DAMON_TESTS_CACHE names another place)",
        file=sys.stderr,
    )
    return instead
