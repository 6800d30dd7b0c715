# SPDX-License-Identifier: GPL-2.0
"""Find the static C programs (guest agent, workload engine); build them in a checkout."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from pathlib import Path

from filelock import FileLock

from damon_tests import bundle
from damon_tests.kernel.images.arch import Arch
from damon_tests.ports import HarnessError, NotSupported

AGENT = "damon-tests-agent"
ENGINE = "damon-tests-engine"

_INSTALL = "on Debian: apt-get install gcc make libc6-dev; on Fedora: dnf install gcc make glibc-static"


def program(name: str, arch: Arch | None = None) -> Path:
    """Return the path of the program ``name``; build it first when it is missing or older than its sources.

    ``arch``: the architecture that it runs on (default: this machine's); the programs of another one are
    cross-compiled into a directory of their own.

    Raises:
        NotSupported: it is missing, and there is no compiler.
        HarnessError: it does not build.
    """
    foreign = arch is not None and arch.name != platform.machine()
    directory = bundle.programs_dir() / arch.name if arch and foreign else bundle.programs_dir()
    built = directory / name
    compiler = arch.compiler if arch and foreign else _compiler()
    sources = bundle.root() / "workloads" / "src"
    shipped = bundle.root().name == "_bundle" and built.exists()  # a wheel's modification times mean nothing
    if shipped or not _out_of_date(built, name, sources):
        return built
    install = f"on Debian: apt-get install make {arch.compiler_packages}" if arch and foreign else _INSTALL
    missing = [tool for tool in ("make", compiler) if shutil.which(tool) is None]
    if missing:
        if built.exists():
            return built  # older than its sources, but better than nothing
        raise NotSupported(f"{name} is not built, and there is no {' and no '.join(missing)}", remedy=install)
    try:
        built.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(built.parent / ".lock"):
            if _out_of_date(built, name, sources):  # no other process built it meanwhile
                _build(built, sources, compiler, install)
    except OSError as error:
        raise HarnessError(f"{name} cannot be built in {built.parent}: {error}") from None
    return built


def _compiler() -> str:
    return os.environ.get("CC", "cc").split()[0]


def _out_of_date(built: Path, name: str, sources: Path) -> bool:
    """Return whether a program is older than its sources: the files named after the last part of its name
    (agent.c, agent_wire.h), and the Makefile."""
    if not built.exists():
        return True
    part = name.rpartition("-")[2]
    files = [*sources.glob(f"{part}*.[ch]"), sources / "Makefile"]
    built_ns = built.stat().st_mtime_ns
    return any(file.exists() and file.stat().st_mtime_ns > built_ns for file in files)


def _build(built: Path, sources: Path, compiler: str, install: str) -> None:
    command = ["make", "--silent", "-C", str(sources), f"OUT={built.parent}", f"CC={compiler}", str(built)]
    made = subprocess.run(command, capture_output=True, text=True, check=False)
    if made.returncode == 0:
        return
    output = (made.stdout + made.stderr).strip()
    hint = f" (a static libc is needed; {install})" if "-lc" in output else ""
    raise HarnessError(f"{built.name} does not build{hint}: {' '.join(command)}\n{output}")
