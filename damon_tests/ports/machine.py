# SPDX-License-Identifier: GPL-2.0
"""A machine, with files, processes and a clock: this one, or a guest behind its agent."""

from __future__ import annotations

import signal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

from damon_tests.ports.clock import Clock
from damon_tests.ports.tree import Entry


@dataclass(frozen=True)
class FileOp:
    """One file operation of a batch.

    ``kind`` "read": up to ``size`` bytes (0: all) from ``offset``. "write": ``data`` at
    ``offset`` with one write(2), O_CREAT with ``mode`` if ``create`` (and O_TRUNC if also at
    offset 0: the file then holds ``data`` and nothing else). "list": direct children.
    "walk": everything below, with contents; links to directories are not followed.
    "mkdir", "rmdir", "unlink": as named.
    """

    kind: Literal["read", "write", "list", "walk", "mkdir", "rmdir", "unlink", "stat"]
    path: str
    data: bytes = b""
    offset: int = 0
    size: int = 0
    create: bool = False
    mode: int = 0o644


def signal_name(number: int) -> str:
    """Return "SIGKILL" for 9; "signal 99" for a number that is none here."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


@dataclass(frozen=True)
class ExitStatus:
    """How a process ended: an exit code, or the signal that killed it (the other is None)."""

    code: int | None
    signal: int | None

    @property
    def ok(self) -> bool:
        return self.code == 0

    def __str__(self) -> str:
        return f"exit code {self.code}" if self.signal is None else f"killed by {signal_name(self.signal)}"


@dataclass(frozen=True)
class SpawnRequest:
    """A program to start: no shell, environment exactly ``env``."""

    argv: Sequence[str]
    env: Mapping[str, str] = field(default_factory=dict)
    cwd: str = "/"


class Process(Protocol):
    """A process that this run started on a machine."""

    pid: int

    def write_stdin(self, data: bytes) -> None: ...

    def close_stdin(self) -> None: ...

    def read_stdout(self) -> bytes:
        """Return what it printed since the last call; do not wait."""
        ...

    def read_stderr(self) -> bytes: ...

    def poll(self) -> ExitStatus | None:
        """Return its status if it has ended (its output can still be read), else None."""
        ...

    def wait(self, timeout_ns: int) -> ExitStatus:
        """Wait for its end and return its status. Raises TimedOut."""
        ...

    def kill(self, signal: int) -> None:
        """Send a signal; no error when it has ended."""
        ...


class ByteStream(Protocol):
    """A file that keeps delivering (trace_pipe, kmsg), read in the background."""

    def read(self) -> bytes:
        """Return everything since the last call; do not wait."""
        ...

    def lost(self) -> int:
        """Return how many bytes were dropped on the way from the file."""
        ...

    def close(self) -> None: ...


class Machine(Protocol):
    """The machine of a kernel and its targets. All failures of file operations are OSError
    with errno and filename; MachineLost when the machine is gone."""

    name: str
    clock: Clock

    def batch(
        self, ops: Sequence[FileOp], stop_on_error: bool = False
    ) -> Sequence[bytes | Sequence[Entry] | OSError]:
        """Do all in order, in one round trip. A "read" gives bytes, "write" the count as
        decimal bytes, "list"/"walk" entries, "stat" one entry, others b""; a failure
        gives the OSError in its place and the rest still runs. With ``stop_on_error``
        nothing after the first failure is tried: those give OSError with ECANCELED."""
        ...

    def read_file(self, path: str, offset: int = 0, size: int = 0) -> bytes:
        """Return up to ``size`` bytes (0: all)."""
        ...

    def write_file(self, path: str, data: bytes, create: bool = False, mode: int = 0o644) -> None: ...

    def begin_write_file(self, path: str, data: bytes) -> PendingWrite:
        """Begin a write(2) that may block; other requests continue meanwhile."""
        ...

    def spawn(self, request: SpawnRequest) -> Process: ...

    def follow(self, path: str) -> ByteStream: ...


class PendingWrite(Protocol):
    """A blocking write of a Machine; ``result`` raises OSError as write(2) failed, or TimedOut."""

    def done(self) -> bool: ...

    def result(self, timeout_ns: int) -> None: ...
