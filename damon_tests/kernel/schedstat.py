# SPDX-License-Identifier: GPL-2.0
"""Measure what threads cost by scheduler time, for machines where instructions cannot be counted."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from damon_tests.ports import FileOp, Machine, NotSupported
from damon_tests.ports.cost import Cost, CostWindow, ThreadCost, Unit


class SchedstatProbe:
    """Nanoseconds of /proc/PID/schedstat (implements ``ports.cost.CostProbe``).

    They include interrupts and time stolen by a hypervisor.
    """

    unit: Unit = "ns"

    def __init__(self, machine: Machine) -> None:
        self._machine = machine

    def prepare(self) -> None:
        """Do nothing: this probe needs no preparation."""

    @contextmanager
    def window(self, thread: str) -> Iterator[CostWindow]:
        """See ``CostProbe``. A thread that ends within the window does not count."""
        if not thread:
            raise NotSupported(
                "the cost of a whole machine", remedy="use a guest on the instruction clock for this"
            )
        window = CostWindow()
        before = self._read(thread)
        began_ns = self._machine.clock.now_ns()
        yield window
        after, ended_ns = self._read(thread), self._machine.clock.now_ns()
        spent = {pid: _difference(now, before.get(pid)) for pid, now in after.items()}
        used, switches = sum(c.used for c in spent.values()), sum(c.switches for c in spent.values())
        threads = {thread: ThreadCost(used, switches)}
        window.cost = Cost("schedstat", "ns", used, switches, ended_ns - began_ns, None, threads)

    def _read(self, thread: str) -> dict[int, tuple[int, int]]:
        """Return {pid: (ns on a CPU, times scheduled)} of the threads whose name begins with ``thread``."""
        entries = self._machine.batch([FileOp("list", "/proc")])[0]
        if isinstance(entries, OSError | bytes):
            raise NotSupported("/proc", remedy="mount it")
        pids = [int(entry.path) for entry in entries if entry.path.isdecimal()]
        comms = self._machine.batch([FileOp("read", f"/proc/{pid}/comm") for pid in pids])
        chosen = [
            pid
            for pid, comm in zip(pids, comms, strict=True)
            if isinstance(comm, bytes) and comm.decode(errors="replace").startswith(thread)
        ]
        stats = self._machine.batch([FileOp("read", f"/proc/{pid}/schedstat") for pid in chosen])
        return {
            pid: (int(words[0]), int(words[2]))
            for pid, stat in zip(chosen, stats, strict=True)
            if isinstance(stat, bytes) and len(words := stat.split()) >= 3
        }


def _difference(now: tuple[int, int], before: tuple[int, int] | None) -> ThreadCost:
    used, switches = before or (0, 0)
    return ThreadCost(now[0] - used, now[1] - switches)
