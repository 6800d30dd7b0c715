# SPDX-License-Identifier: GPL-2.0
"""Serve a simulated machine's tree as a mounted file system: choose the transport, run one server.

The tree's ``/sys`` is the root of the mount: ``kernel/mm/damon/admin`` and ``module/damon_*/parameters``.
"""

from __future__ import annotations

import os
import secrets
import signal
import socket
from collections.abc import Callable
from dataclasses import dataclass

from damon_tests.reference.live.periodic_truth import PeriodicTruth
from damon_tests.reference.live.realtime_clock import RealTime
from damon_tests.reference.serve import fuse_direct, fuse_library, helper_process
from damon_tests.reference.serve.helper_process import HelperProcess
from damon_tests.reference.serve.served_system import RealProcesses, ServedSystem, TruthOf
from damon_tests.reference.serve.sysfs_files import SysfsFiles

STOPPED_BY = (signal.SIGINT, signal.SIGTERM)


@dataclass(frozen=True)
class Served:
    """What a server reports when it is ready.

    ``processes`` are the simulated ones, by name; ``ram`` the byte ranges of physical memory; ``events``
    the names of its tracepoints; ``kdamond_parent`` the process whose children stand for its kdamonds.
    """

    nonce: str
    processes: dict[str, int]
    ram: list[tuple[int, int]]
    events: list[str]
    kdamond_parent: int


def nothing_touched(pid: int) -> PeriodicTruth:
    """Return the truth about a real process that is not watched."""
    return PeriodicTruth()


def serve(
    mountpoint: str,
    level: str,
    ready: Callable[[Served], None],
    *,
    seed: int = 0,
    transport: str = "auto",
    truth_of: TruthOf = nothing_touched,
) -> None:
    """Serve at a directory until SIGINT, SIGTERM or unmounting, then take the mount away.

    Must be called in the main thread of a process without other threads. ``transport`` "direct" speaks
    to /dev/fuse, "library" goes through libfuse3; "auto" takes the first that this user may use.
    Raises NotSupported (no FUSE, no privilege), UsageError (unknown level).
    """
    helper = HelperProcess(mountpoint)
    old = [signal.getsignal(number) for number in STOPPED_BY]
    try:
        system = ServedSystem(level, seed, helper)
        processes = RealProcesses(system, truth_of)
        files = SysfsFiles(system.tree, secrets.token_hex(16), processes.before_write)
        real_time = RealTime(system.clock, processes.refresh)
        served = Served(
            files.nonce,
            dict(system.add_simulated()),
            list(system.ram_ranges()),
            sorted(system.events.available()),
            helper.pid,
        )
        if transport == "library" or (transport == "auto" and os.getuid() != 0):
            fuse_library.run(mountpoint, files, real_time, lambda: ready(served))
        else:
            _serve_directly(mountpoint, files, real_time, lambda: ready(served))
    finally:
        # A second signal must not end us half-way through tidying up.
        for number in STOPPED_BY:
            signal.signal(number, signal.SIG_IGN)
        helper_process.unmount_leftover(mountpoint)
        helper.close()
        for number, handler in zip(STOPPED_BY, old, strict=True):
            signal.signal(number, handler)


def _serve_directly(
    mountpoint: str, files: SysfsFiles, real_time: RealTime, ready: Callable[[], None]
) -> None:
    wake, woken = socket.socketpair()
    for end in (wake, woken):
        end.setblocking(False)
    asked: list[int] = []
    for number in STOPPED_BY:
        signal.signal(number, lambda number, frame: asked.append(number))
    old_fd = signal.set_wakeup_fd(wake.fileno(), warn_on_full_buffer=False)
    try:
        fd = fuse_direct.mount(mountpoint)
        try:
            server = fuse_direct.DirectServer(fd, files, real_time, woken.fileno())
            ready()
            server.run(lambda: bool(asked))
        finally:
            os.close(fd)
    finally:
        signal.set_wakeup_fd(old_fd)
        wake.close()
        woken.close()
