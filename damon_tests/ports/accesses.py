# SPDX-License-Identifier: GPL-2.0
"""The accesses of programs as an emulator records them, exact to the nanosecond of the guest."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from enum import IntEnum
from typing import Protocol

import numpy as np
import numpy.typing as npt

from damon_tests.ports.arrays import I64, Bools
from damon_tests.ports.cost import Cost

GAP_NS = 1_000_000
"""The default of ``AccessRuns.gap_ns``: a fifth of DAMON's default sampling interval."""


class AccessKind(IntEnum):
    """``enum access_kind`` of workloads/src/qemu_plugin.h. KERNEL_*: the kernel accesses a user address."""

    LOAD = 0
    STORE = 1
    EXECUTE = 2
    KERNEL_LOAD = 3
    KERNEL_STORE = 4


@dataclass(frozen=True)
class Space:
    """An address space. ``pid``: its process, 0 if that did not run; exec gives a process another space."""

    number: int
    pid: int
    comm: str


@dataclass(frozen=True)
class Recorded:
    """How a window was recorded.

    ``accesses``: loads, stores and executed blocks of code. ``unknown``: accesses at the window's very begin,
    before the clock and the address space were known, which are not recorded. ``clock_reads``: how often the
    computed time was compared with the guest's clock; ``clock_behind_ns``: the largest difference to it,
    apart from idle time. ``host_s``: CPU seconds of the emulator in the window.
    """

    accesses: int
    unknown: int
    clock_reads: int
    clock_behind_ns: int
    host_s: float


@dataclass(frozen=True, eq=False)
class AccessRuns:
    """Runs of accesses: one row each, shape (n,).

    A row says that ``page`` (a page number) of ``space`` was accessed at ``first_ns`` and at ``last_ns``
    (inclusive, monotonic ns of the guest), and between them at least once in every ``gap_ns``. So for each
    stretch of time of at least ``gap_ns``, the rows say exactly whether the page was accessed in it.
    ``frame``: the page frame, -1 where none was mapped. ``kind``: an ``AccessKind``. Each row reaches into
    ``span_ns``, from begin to end of the recording.
    """

    page: I64
    first_ns: I64
    last_ns: I64
    frame: I64
    space: I64
    kind: npt.NDArray[np.uint8]
    spaces: tuple[Space, ...]
    span_ns: tuple[int, int]
    gap_ns: int
    recorded: Recorded

    def __len__(self) -> int:
        return len(self.page)

    def chosen(self, rows: Bools) -> AccessRuns:
        """Return only these rows."""
        return replace(
            self,
            page=self.page[rows],
            first_ns=self.first_ns[rows],
            last_ns=self.last_ns[rows],
            frame=self.frame[rows],
            space=self.space[rows],
            kind=self.kind[rows],
        )

    def of_process(self, pid: int) -> AccessRuns:
        """Return the accesses to all address spaces that the process had.

        A child of vfork() counts as itself, although it uses its parent's memory until it executes a program.
        """
        mine = [space.number for space in self.spaces if space.pid == pid]
        return self.chosen(np.isin(self.space, mine))

    def of_kinds(self, kinds: Sequence[AccessKind]) -> AccessRuns:
        """Return the accesses of these kinds."""
        return self.chosen(np.isin(self.kind, kinds))


@dataclass
class AccessWindow:
    """A window that is being recorded; ``runs`` (and ``cost``, if asked for) are set when it closes."""

    runs: AccessRuns | None = None
    cost: Cost | None = None

    @property
    def result(self) -> AccessRuns:
        """Return the accesses. Raises RuntimeError while the window is open."""
        if self.runs is None:
            raise RuntimeError("a window's accesses are known after it has closed")
        return self.runs


class AccessProbe(Protocol):
    """Records which pages a machine's programs access."""

    def prepare(self) -> None:
        """Do slow preparations of the first window now, so that it opens quickly."""
        ...

    def window(
        self, gap_ns: int = GAP_NS, *, thread: str | None = None
    ) -> AbstractContextManager[AccessWindow]:
        """Record until the context is left. ``thread``: also count the cost of these threads, see
        ``CostProbe.window``. Raises HarnessError, NotSupported."""
        ...
