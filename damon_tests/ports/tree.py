# SPDX-License-Identifier: GPL-2.0
"""DAMON's files, by the absolute path that the kernel gives them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from damon_tests.ports.errors import TreeError


@dataclass(frozen=True)
class Entry:
    """One file or directory of a tree.

    ``path`` is relative to what was listed; ``mode`` holds the permission bits (0o600);
    ``value`` and ``error`` are filled by ``walk`` for files only: the text read, or why not.
    """

    path: str
    mode: int
    is_dir: bool
    value: str | None = None
    error: TreeError | None = None


class Pending(Protocol):
    """A write under way. A ``state`` write may block while others get EBUSY."""

    def done(self) -> bool:
        """Whether the write has returned. Never blocks and never advances the clock."""
        ...

    def result(self, timeout_ns: int) -> None:
        """Wait for the write to return. Raises TreeError as the write did, or TimedOut."""
        ...


class Tree(Protocol):
    """Files such as ``/sys/kernel/mm/damon/admin/kdamonds/nr_kdamonds``.

    Values are text exactly as read(2) returned it, trailing newline included; what is
    written is the whole buffer of one write(2). Failures raise TreeError with path and errno.
    """

    def read(self, path: str) -> str: ...

    def write(self, path: str, value: str) -> None:
        """Write and wait, however long the kernel takes (commands wait for the kdamond)."""
        ...

    def begin_write(self, path: str, value: str) -> Pending:
        """Start a write that may block; the caller goes on."""
        ...

    def list(self, path: str) -> Sequence[Entry]:
        """Direct children, sorted by name; values not read."""
        ...

    def exists(self, path: str) -> bool: ...

    def read_batch(self, paths: Sequence[str]) -> Sequence[str | TreeError]:
        """Read many files in one round trip; a failure is returned in its place."""
        ...

    def write_batch(self, writes: Sequence[tuple[str, str]]) -> None:
        """Write (path, value) pairs in order, in one round trip; stop at the first failure and raise it."""
        ...

    def walk(self, path: str) -> Sequence[Entry]:
        """Everything below ``path``, depth first, sorted, readable files with values, in one round trip."""
        ...
