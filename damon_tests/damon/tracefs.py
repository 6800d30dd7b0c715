# SPDX-License-Identifier: GPL-2.0
"""Read the DAMON tracepoints of a machine through a private tracefs instance.

The instance has its own buffer, clock and enabled events, so it neither changes nor records other users'
tracing. Its name has pid and start time of its owner, the process that serves the machine's files, so that
instances left over by a dead owner are recognised and removed.
"""

from __future__ import annotations

import errno
import itertools
import re
from collections.abc import Sequence
from contextlib import suppress
from functools import partial

from damon_tests.damon import trace
from damon_tests.damon.trace_lines import LineReader
from damon_tests.ports import (
    NSEC_PER_MSEC,
    NSEC_PER_SEC,
    ByteStream,
    DamonTestsError,
    Entry,
    Event,
    EventStream,
    FileOp,
    HarnessError,
    Machine,
    NotSupported,
)
from damon_tests.ports.lines import LineFormat

ROOTS = ("/sys/kernel/tracing", "/sys/kernel/debug/tracing")
PREFIX = "damon-tests-"
BUFFER_KB = (4096, 1024, 0)
"""Buffer sizes per CPU to try, largest first; 0 keeps the kernel's default."""

DRAIN_NS = 20 * NSEC_PER_SEC
"""How long the last events may take to come out of the buffer."""

_NAME = re.compile(rf"{PREFIX}(\d+)-(\d+)-(\d+)")
_RELEASE_NS = 5 * NSEC_PER_SEC
_MARK_AGAIN_NS = NSEC_PER_SEC
_POLL_NS = 5 * NSEC_PER_MSEC

# A new instance copies the options of the top-level one, which somebody may have changed.
_OPTIONS = {
    "context-info": "1",
    "overwrite": "1",
    "raw": "0",
    "hex": "0",
    "bin": "0",
    "fields": "0",
    "verbose": "0",
    "record-tgid": "0",
    "latency-format": "0",
}
_CPU_STAT = LineFormat("{name}: {count:d}")
_LOST = ("overrun", "commit overrun", "dropped events")


class TracefsEvents:
    """``ports.Events`` of any Machine with a writable tracefs.

    ``buffer_kb``: buffer sizes per CPU to try.
    """

    def __init__(self, machine: Machine, buffer_kb: Sequence[int] = BUFFER_KB) -> None:
        self._machine = machine
        self._buffer_kb = tuple(buffer_kb)
        self._numbers = itertools.count()
        self._root: str | None = None
        self._available: frozenset[str] | None = None

    def available(self) -> frozenset[str]:
        if self._available is None:
            answers = self._machine.batch([FileOp("list", f"{root}/events/damon") for root in ROOTS])
            self._available = frozenset()
            for root, answer in zip(ROOTS, answers, strict=True):
                if not isinstance(answer, (OSError, bytes)):
                    self._root = root
                    self._available = frozenset(entry.path for entry in answer if entry.is_dir)
                    break
        return self._available

    def open(self, names: Sequence[str]) -> EventStream:
        """Make an instance and start tracing. Raises NotSupported for missing events or privileges."""
        missing = [f"tracepoint {name}" for name in names if name not in self.available()]
        if missing or self._root is None:
            remedy = "mount tracefs" if self._root is None else "run on a kernel that has it"
            raise NotSupported(*(missing or ["tracefs"]), remedy=remedy)
        remove_left_over(self._machine, self._root)
        path = make_instance(self._machine, self._root, next(self._numbers))
        try:
            self._set_up(path, names)
            return TracefsStream(self._machine, path, names)
        except BaseException:
            with suppress(OSError, DamonTestsError):
                remove_instance(self._machine, path)
            raise

    def _set_up(self, path: str, names: Sequence[str]) -> None:
        """Configure in one round trip, unless memory is short. Enable events last, when all is set."""
        # Not every kernel has every option in an instance. Without buffer_percent, poll(2) on trace_pipe
        # waits for half of the buffer.
        wishes = {f"options/{name}": value for name, value in _OPTIONS.items()} | {"buffer_percent": "0"}
        musts = {"trace_clock": "mono", "tracing_on": "1"} | {f"events/damon/{n}/enable": "1" for n in names}
        sizes = [str(size) for size in self._buffer_kb if size]
        settings = {**wishes, **({"buffer_size_kb": sizes[0]} if sizes else {}), **musts}
        ops = [_write(f"{path}/{name}", value) for name, value in settings.items()]
        for name, op, answer in zip(settings, ops, self._machine.batch(ops), strict=True):
            if not isinstance(answer, OSError):
                continue
            if name in musts:
                raise HarnessError(f"{op.path} := {op.data.decode()!r}: {answer.strerror}")
            if name == "buffer_size_kb":
                self._smaller_buffer(path, sizes[1:])

    def _smaller_buffer(self, path: str, sizes: Sequence[str]) -> None:
        for size in sizes:
            (answer,) = self._machine.batch([_write(f"{path}/buffer_size_kb", size)])
            if not isinstance(answer, OSError):
                return


class TracefsStream:
    """Reads an instance. Times are CLOCK_MONOTONIC in steps of 1 µs, as trace_pipe prints them."""

    def __init__(self, machine: Machine, path: str, names: Sequence[str]) -> None:
        self._machine = machine
        self._path = path
        self._names = tuple(names)
        self._pipe: ByteStream | None = machine.follow(f"{path}/trace_pipe")
        self._lines = LineReader()
        self._arrived: list[Event] = []
        self._marks: set[str] = set()
        self._stat_lost = 0

    def read(self) -> Sequence[Event]:
        self._pump()
        events, self._arrived = self._arrived, []
        # trace_pipe merges CPUs as they are read, so events of a thread that moved may be out of order.
        events.sort(key=lambda event: event.time_ns)
        return events

    def lost(self) -> int:
        return max(self._lines.lost_events, self._stat_lost) + self._lines.lost_in_stream

    def close(self) -> None:
        """Disable the events, write a mark, read until the mark arrives, and remove the instance.

        Raises HarnessError if the mark does not arrive: then events at the end may be missing.
        """
        if self._pipe is None:
            return
        try:
            _do(self._machine, [_write(f"{self._path}/events/damon/{n}/enable", "0") for n in self._names])
            if not self._drain():
                raise HarnessError(
                    f"{self._path}: the last events did not come out of the trace buffer within"
                    f" {DRAIN_NS // NSEC_PER_SEC} s; how many are missing is not known"
                )
            self._stat_lost = self._read_stats()
        finally:
            pipe, self._pipe = self._pipe, None
            pipe.close()  # first, as an instance with a reader cannot be removed
            remove_instance(self._machine, self._path)

    def _pump(self) -> None:
        if self._pipe is not None:
            data = self._pipe.read()
            for event in self._lines.feed(data, self._pipe.lost()):
                if event.name == trace.MARK:
                    self._marks.add(event.text)
                else:
                    self._arrived.append(event)

    def _drain(self) -> bool:
        """Read until a mark written now arrives; return whether it did."""
        clock = self._machine.clock
        began = clock.now_ns()
        deadline = began + DRAIN_NS
        mark = f"{PREFIX}end-{began}"
        while (now := clock.now_ns()) < deadline:
            # Write several marks, because a full buffer may lose one. All come after the last event.
            self._machine.batch([_write(f"{self._path}/trace_marker", mark)])
            if clock.wait_until(partial(self._seen, mark), min(now + _MARK_AGAIN_NS, deadline), _POLL_NS):
                return True
        return False

    def _seen(self, mark: str) -> bool:
        self._pump()
        return mark in self._marks

    def _read_stats(self) -> int:
        """Return how many events the buffers of all CPUs report as overwritten or dropped."""
        cpus = _list(self._machine, f"{self._path}/per_cpu")
        answers = self._machine.batch(
            [FileOp("read", f"{self._path}/per_cpu/{e.path}/stats") for e in cpus if e.is_dir]
        )
        texts = [answer.decode() for answer in answers if isinstance(answer, bytes)]
        if not texts or len(texts) != len(answers):
            raise HarnessError(f"{self._path}/per_cpu: cannot read how many events were lost")
        lines = [line for text in texts for line in _CPU_STAT.each(text)]
        return sum(line["count"] for line in lines if line["name"] in _LOST)


def remove_left_over(machine: Machine, root: str) -> list[str]:
    """Remove this project's instances whose owner is dead; return their names. Ignore failures."""
    removed = []
    for entry in _list(machine, f"{root}/instances"):
        match = _NAME.fullmatch(entry.path)
        if match and _start_time(machine, match[1]) != match[2]:
            with suppress(OSError, DamonTestsError):
                remove_instance(machine, f"{root}/instances/{entry.path}")
                removed.append(entry.path)
    return removed


def _owner(machine: Machine) -> str:
    """Return the process that serves the machine's files: this one, or the agent in a guest."""
    stat = machine.read_file("/proc/self/stat")
    return f"{stat.split(b' ', 1)[0].decode()}-{_start_field(stat)}"


def _start_time(machine: Machine, pid: str) -> str | None:
    """Return the process's start time in clock ticks since boot, None if there is no such process."""
    try:
        return _start_field(machine.read_file(f"/proc/{pid}/stat"))
    except OSError:
        return None


def _start_field(stat: bytes) -> str | None:
    # The name before the last parenthesis may contain anything. Then: state is field 3, start time 22.
    fields = stat.rpartition(b")")[2].split()
    return fields[19].decode() if len(fields) > 19 else None


def make_instance(machine: Machine, root: str, number: int) -> str:
    """Make an instance below ``root``, named after its owner; return its path. Raises NotSupported."""
    path = f"{root}/instances/{PREFIX}{_owner(machine)}-{number}"
    (made,) = machine.batch([FileOp("mkdir", path, mode=0o700)])
    if isinstance(made, OSError):
        raise NotSupported(f"a tracefs instance ({path}: {made.strerror})", remedy="run as root")
    return path


def remove_instance(machine: Machine, path: str) -> None:
    """Remove an instance; retry, as the kernel refuses for a moment after the reader was closed."""
    clock = machine.clock
    last: list[OSError | None] = [None]

    def gone() -> bool:
        (answer,) = machine.batch([FileOp("rmdir", path)])
        last[0] = answer if isinstance(answer, OSError) and answer.errno != errno.ENOENT else None
        return last[0] is None or last[0].errno != errno.EBUSY

    clock.wait_until(gone, clock.now_ns() + _RELEASE_NS, _POLL_NS)
    if last[0] is not None:
        raise HarnessError(f"{path} could not be removed: {last[0].strerror}")


def _list(machine: Machine, path: str) -> Sequence[Entry]:
    (answer,) = machine.batch([FileOp("list", path)])
    return () if isinstance(answer, (OSError, bytes)) else answer


def _write(path: str, text: str) -> FileOp:
    return FileOp("write", path, text.encode())


def _do(machine: Machine, ops: Sequence[FileOp]) -> None:
    """Do all operations. Raises HarnessError for the first that failed."""
    for op, answer in zip(ops, machine.batch(ops, stop_on_error=True), strict=True):
        if isinstance(answer, OSError):
            raise HarnessError(f"{op.path} := {op.data.decode()!r}: {answer.strerror}")
