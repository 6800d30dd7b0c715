# SPDX-License-Identifier: GPL-2.0
"""DAMON's files, by their absolute paths in the kernel's sysfs."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from damon_tests.ports.errors import TreeError


@dataclass(frozen=True)
class Entry:
    """One file or directory of a tree.

    ``path`` is relative to the listed directory; ``mode`` holds the permission bits (0o600);
    ``walk`` sets ``value`` (the text) or ``error`` (why it cannot be read), for files only.
    """

    path: str
    mode: int
    is_dir: bool
    value: str | None = None
    error: TreeError | None = None


class Pending(Protocol):
    """A pending write. A write to ``state`` may block while other accesses get EBUSY."""

    def done(self) -> bool:
        """Return whether the write has returned. Never block, never advance the clock."""
        ...

    def result(self, timeout_ns: int) -> None:
        """Wait for the write to return. Raises TreeError if the write failed, or TimedOut."""
        ...


class Tree(Protocol):
    """Files such as ``/sys/kernel/mm/damon/admin/kdamonds/nr_kdamonds``.

    Values are the text exactly as read(2) returns it, trailing newline included; a value to
    write is the whole buffer of one write(2). Failures raise TreeError with path and errno.
    """

    def read(self, path: str) -> str: ...

    def write(self, path: str, value: str) -> None:
        """Write and wait, however long the kernel takes (commands wait for the kdamond)."""
        ...

    def begin_write(self, path: str, value: str) -> Pending:
        """Begin a write that may block, and return at once."""
        ...

    def list(self, path: str) -> Sequence[Entry]:
        """Return the direct children, sorted by name, without values."""
        ...

    def exists(self, path: str) -> bool: ...

    def read_batch(self, paths: Sequence[str]) -> Sequence[str | TreeError]:
        """Read many files in one round trip; return a failure in place of its text."""
        ...

    def write_batch(self, writes: Sequence[tuple[str, str]]) -> None:
        """Write (path, value) pairs in order, in one round trip; stop at the first failure and raise it."""
        ...

    def walk(self, path: str) -> Sequence[Entry]:
        """Return everything below ``path``, depth first, sorted, with values, in one round trip."""
        ...


class SingleCalls(ABC):
    """Batches of a tree in the same process, where single calls cost no round trip."""

    @abstractmethod
    def read(self, path: str) -> str: ...

    @abstractmethod
    def write(self, path: str, value: str) -> None: ...

    def read_batch(self, paths: Sequence[str]) -> Sequence[str | TreeError]:
        answers: list[str | TreeError] = []
        for path in paths:
            try:
                answers.append(self.read(path))
            except TreeError as error:
                answers.append(error)
        return answers

    def write_batch(self, writes: Sequence[tuple[str, str]]) -> None:
        for path, value in writes:
            self.write(path, value)
