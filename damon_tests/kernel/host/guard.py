# SPDX-License-Identifier: GPL-2.0
"""The guard: a small process that outlives a killed run and undoes what the run changed.

Run as ``python -m damon_tests.kernel.host.guard JOURNAL``, with a pipe from the run as standard input. It
prints "ready" on standard output, waits, and exits when the run writes "end" to the pipe. When the run
dies for any reason, the guard undoes the run's journal. Standard library only.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import sys

from damon_tests.kernel.host.owner import Owner
from damon_tests.kernel.host.restore import read_owner, restore_journal

END = b"end\n"
READY = b"ready\n"
_POLL_MS = 200  # only where the kernel has no pidfd


def main(arguments: list[str]) -> int:
    (journal,) = arguments
    # Only the run ends the guard. Signals meant for the run (Ctrl-C, a closed terminal, a stopped
    # service) must not end the process that cleans up after it.
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGTERM, signal.SIGQUIT):
        signal.signal(number, signal.SIG_IGN)
    _survive_memory_pressure()
    owner = read_owner(journal)
    if owner is None:
        return 2
    pidfd = _open_pidfd(owner)
    os.write(1, READY)
    os.close(1)
    if not _run_ended(owner, pidfd):
        restore_journal(journal)
    return 0


def _survive_memory_pressure() -> None:
    # Tests fill memory on purpose: the OOM killer must not choose the guard. Needs CAP_SYS_RESOURCE.
    with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "w", encoding="ascii") as file:
        file.write("-1000")


def _open_pidfd(owner: Owner) -> int | None:
    try:
        return os.pidfd_open(owner.pid)
    except OSError:
        return None  # an old kernel, or the run is dead already, which is_alive() detects


def _run_ended(owner: Owner, pidfd: int | None) -> bool:
    """Wait until the run writes "end" (return True) or dies (return False).

    Watching the pipe alone is not enough: a forked child of the run keeps it open.
    """
    poller = select.poll()
    poller.register(0, select.POLLIN)
    if pidfd is not None:
        poller.register(pidfd, select.POLLIN)
    received = b""
    while True:
        ready = [fd for fd, _ in poller.poll(None if pidfd is not None else _POLL_MS)]
        if 0 in ready:
            data = os.read(0, 64)
            received += data
            if received.startswith(END):
                return True
            if not data:
                poller.unregister(0)  # the pipe is closed, but the run may live
        if not owner.is_alive():
            return False


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
