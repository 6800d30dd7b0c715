# SPDX-License-Identifier: GPL-2.0
"""Run a User Mode Linux: a kernel that is a program of this machine."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

from damon_tests.ports import HarnessError

FRAGMENTS = ("uml",)
"""The configuration of a User Mode Linux that runs DAMON's KUnit tests."""

_MACHINE = ("mem=256M", "console=tty", "kunit_shutdown=halt")
_TIMEOUT_S = 300.0


def console_of(program: Path, parameters: Sequence[str], timeout_s: float = _TIMEOUT_S) -> str:
    """Boot the program until it halts, and return its console; of one that hangs, what it printed so far.

    Raises HarnessError if it printed nothing, or cannot be run.
    """
    with tempfile.TemporaryDirectory(prefix="damon-tests-uml-") as name:
        # A file: a pipe would stay open as long as any process of the kernel lives.
        log = Path(name) / "console"
        with log.open("wb") as out:
            process = _start([str(program), f"uml_dir={name}", *_MACHINE, *parameters], name, out)
            try:
                process.wait(timeout_s)
            except subprocess.TimeoutExpired:
                out.write(f"\ndamon-tests: no end after {timeout_s:.0f} s\n".encode())
            finally:
                _end(process)
        console = log.read_bytes().decode(errors="replace").replace("\r\n", "\n")
    if not console.strip():
        raise HarnessError(f"{program} printed nothing, and ended with {process.returncode}")
    return console


def _start(command: Sequence[str], directory: str, out: BinaryIO) -> subprocess.Popen[bytes]:
    """Start the program; the file that is its memory is in ``directory``."""
    try:
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            env={**os.environ, "TMPDIR": directory},
            start_new_session=True,
        )
    except OSError as error:
        raise HarnessError(f"{command[0]} cannot be run: {error.strerror}") from None


def _end(process: subprocess.Popen[bytes]) -> None:
    """Kill the program and its children, which are the processes of the kernel."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
