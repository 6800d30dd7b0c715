# SPDX-License-Identifier: GPL-2.0
"""Start a served tree for tests, and clean up after it."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from damon_tests.ports import NotSupported
from damon_tests.reference.serve import fuse_library

ROOT = Path(__file__).resolve().parents[2]
COMMAND = [sys.executable, "-m", "damon_tests.cli", "serve"]
WITHIN_S = 30.0


def needs_fuse() -> None:
    """Skip where nothing can be mounted."""
    if not os.access("/dev/fuse", os.R_OK | os.W_OK):
        pytest.skip("/dev/fuse cannot be opened")
    done = subprocess.run(["unshare", "-Urm", "true"], capture_output=True, check=False)
    if done.returncode:
        pytest.skip("user namespaces are not allowed here")


def needs_libfuse() -> None:
    """Skip where mfusepy or the library behind it is missing."""
    try:
        fuse_library.load()
    except NotSupported as error:
        pytest.skip(str(error))


def until(condition: Callable[[], bool], what: str) -> None:
    """Poll until it holds; fails after WITHIN_S."""
    deadline = time.monotonic() + WITHIN_S
    while not condition():
        assert time.monotonic() < deadline, f"still not so after {WITHIN_S} s: {what}"
        time.sleep(0.01)


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT)}


class Server:
    """``damon-tests serve --at DIR``."""

    def __init__(self, directory: Path, *options: str) -> None:
        directory.mkdir(exist_ok=True)
        self.directory = directory
        self.errors = directory.parent / (directory.name + ".stderr")
        with self.errors.open("w") as stderr:
            self.process = subprocess.Popen(
                [*COMMAND, "--at", str(directory), *options],
                env=environment(),
                stdout=subprocess.PIPE,
                stderr=stderr,
                text=True,
            )
        assert self.process.stdout is not None
        until(lambda: os.path.ismount(directory) or self.process.poll() is not None, "served")
        assert self.process.poll() is None, self.errors.read_text()
        self.simulated = {}
        self.process.stdout.readline()
        for _ in range(3):
            _, _, pid, name = self.process.stdout.readline().split()
            self.simulated[name] = int(pid.rstrip(":"))
        self.kdamonds = directory / "kernel/mm/damon/admin/kdamonds"
        self.family = self.alive()

    def alive(self) -> list[psutil.Process]:
        """Processes of the server that run."""
        with contextlib.suppress(psutil.NoSuchProcess):
            server = psutil.Process(self.process.pid)
            return [server, *server.children(recursive=True)]
        return []

    def gone(self) -> bool:
        """Neither a mount nor a process is left (one that nobody has reaped counts as gone)."""
        with open("/proc/self/mounts") as mounts:
            mounted = any(line.split()[1] == str(self.directory) for line in mounts)
        running = [p for p in self.family if p.is_running() and p.status() != psutil.STATUS_ZOMBIE]
        return not mounted and not running

    def stop(self, number: int = signal.SIGTERM) -> None:
        self.process.send_signal(number)
        self.process.wait(timeout=WITHIN_S)
        until(self.gone, "no mount and no process")


@contextlib.contextmanager
def server(directory: Path, *options: str) -> Iterator[Server]:
    started = Server(directory, *options)
    try:
        yield started
    finally:
        if started.process.poll() is None:
            started.stop()


def stage(kdamonds: Path, pid: int) -> Path:
    """One kdamond that monitors ``pid`` with one scheme that matches everything; returns its directory."""
    kdamond = kdamonds / "0"
    (kdamonds / "nr_kdamonds").write_text("1")
    (kdamond / "contexts/nr_contexts").write_text("1")
    context = kdamond / "contexts/0"
    (context / "targets/nr_targets").write_text("1")
    (context / "targets/0/pid_target").write_text(str(pid))
    (context / "schemes/nr_schemes").write_text("1")
    for name in ("sz", "nr_accesses", "age"):
        (context / f"schemes/0/access_pattern/{name}/max").write_text(str(2**64 - 1))
    return kdamond


def around(*command: str, level: str = "7.3", timeout: float = 120) -> subprocess.CompletedProcess[str]:
    """``damon-tests serve --exec``."""
    return subprocess.run(
        [*COMMAND, "--level", level, "--exec", *command],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
