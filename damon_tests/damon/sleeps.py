# SPDX-License-Identifier: GPL-2.0
"""Trace when a kdamond sleeps, by the scheduler's events in a private tracefs instance.

A kdamond prepares its samples, sleeps the sampling interval, and checks them: it watches memory during the
sleep and about half of the work around it. No file of DAMON reports how long each sleep and each work was.
Only these times are used, never what DAMON counted, so a wrong DAMON does not become its own yardstick.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable
from contextlib import suppress

from damon_tests.damon import tracefs
from damon_tests.ports import NSEC_PER_SEC, NSEC_PER_USEC, DamonTestsError, FileOp, Machine, NotSupported

Sleep = tuple[int, int]
"""[from, to) in monotonic ns of the machine."""

_EVENT = "events/sched/sched_switch"
_FILTER = 'prev_comm ~ "kdamond.*" || next_comm ~ "kdamond.*"'
_BUFFER_KB = 2048  # per CPU; sampling every 5 ms fills it in about a minute, then the oldest events are lost
_FIRST_NUMBER = 1_000_000  # distinct from the numbers of TracefsEvents
# A regular expression, as such lines come by the ten thousand (``ports.lines``).
_SWITCH = re.compile(
    r"\s(\d+)\.(\d{6}): sched_switch: prev_comm=.* prev_pid=(\d+) prev_prio=-?\d+ prev_state=(\S+)"
    r" ==> next_comm=.* next_pid=(\d+) next_prio=-?\d+"
)
_IDLE = "I"
"""The state of a kdamond that waits for its next sample. Waiting for a lock has another state."""


class SleepWatch:
    """Records the sleeps of every kdamond since it was opened. ``close`` may be called twice."""

    _numbers = itertools.count(_FIRST_NUMBER)

    def __init__(self, machine: Machine) -> None:
        """Begin. Raises NotSupported where the scheduler's events cannot be traced."""
        self._machine = machine
        root = next((r for r in tracefs.ROOTS if _exists(machine, f"{r}/{_EVENT}")), None)
        if root is None:
            raise NotSupported("tracepoint sched_switch", remedy="mount tracefs")
        self._path: str | None = tracefs.make_instance(machine, root, next(self._numbers))
        settings = {
            "trace_clock": "mono",
            "buffer_size_kb": str(_BUFFER_KB),
            f"{_EVENT}/filter": _FILTER,
            f"{_EVENT}/enable": "1",
        }
        ops = [FileOp("write", f"{self._path}/{name}", value.encode()) for name, value in settings.items()]
        for op, answer in zip(ops, machine.batch(ops), strict=True):
            if isinstance(answer, OSError):
                self.close()
                raise NotSupported(f"{op.path} := {op.data.decode()!r}: {answer.strerror}")

    def sleeps(self, pid: int) -> tuple[Sleep, ...]:
        """Return the sampling sleeps of one kdamond that have ended, in order."""
        if self._path is None:
            return ()
        return parse(self._machine.read_file(f"{self._path}/trace").decode().splitlines(), pid)

    def close(self) -> None:
        path, self._path = self._path, None
        if path is not None:
            with suppress(OSError, DamonTestsError):  # a leftover is private; the next run removes it
                tracefs.remove_instance(self._machine, path)


def parse(lines: Iterable[str], pid: int) -> tuple[Sleep, ...]:
    """Return the sleeps of a thread from the text of a trace; ignore other lines."""
    sleeps: list[Sleep] = []
    began: int | None = None
    for line in lines:
        match = _SWITCH.search(line)
        if match is None:
            continue
        seconds, micros, previous, state, following = match.groups()
        now = int(seconds) * NSEC_PER_SEC + int(micros) * NSEC_PER_USEC
        if int(previous) == pid:
            began = now if state == _IDLE else None
        elif int(following) == pid:
            if began is not None and now > began:
                sleeps.append((began, now))
            began = None
    return tuple(sleeps)


def _exists(machine: Machine, path: str) -> bool:
    (answer,) = machine.batch([FileOp("list", path)])
    return not isinstance(answer, (OSError, bytes))
