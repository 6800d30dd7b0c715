# SPDX-License-Identifier: GPL-2.0
"""The protocols between this project's packages, and the values that they share.

Begin at ``machine`` (files, processes, clock of a machine), ``tree`` (DAMON's files), ``events``
(tracepoints), ``clock`` and ``truth`` (who touched what, when). Each has two implementations: the kernel's,
here or in a guest, and the reference's, simulated in virtual time. ``cost`` (what kernel threads execute) and
``accesses`` (what programs access) are recorded by an emulator.

``errors`` has the errors that become a verdict or an exit code, ``paging`` the page size of the machine under
test, ``word`` the width of its numbers, ``ranges`` and ``arrays`` the arithmetic of memory ranges; ``lines``
reads lines of fixed format, ``numbers`` formats numbers, ``output_file`` writes results, ``narration``
passes on log messages, ``stopwatch`` measures where time goes.
"""

from damon_tests.ports.arrays import Bools
from damon_tests.ports.clock import NSEC_PER_MSEC, NSEC_PER_SEC, NSEC_PER_USEC, Clock
from damon_tests.ports.errors import (
    DamonHangs,
    DamonTestsError,
    HarnessError,
    MachineLost,
    NotSupported,
    TimedOut,
    TreeError,
    UsageError,
)
from damon_tests.ports.events import LOST_EVENTS, Event, Events, EventStream
from damon_tests.ports.machine import (
    ByteStream,
    ExitStatus,
    FileOp,
    Machine,
    PendingWrite,
    Process,
    SpawnRequest,
)
from damon_tests.ports.paging import huge_page_size, page_size, pages_per_huge
from damon_tests.ports.tree import Entry, Pending, Tree
from damon_tests.ports.truth import Pages, Truth

__all__ = [
    "LOST_EVENTS",
    "NSEC_PER_MSEC",
    "NSEC_PER_SEC",
    "NSEC_PER_USEC",
    "Bools",
    "ByteStream",
    "Clock",
    "DamonHangs",
    "DamonTestsError",
    "Entry",
    "Event",
    "EventStream",
    "Events",
    "ExitStatus",
    "FileOp",
    "HarnessError",
    "Machine",
    "MachineLost",
    "NotSupported",
    "Pages",
    "Pending",
    "PendingWrite",
    "Process",
    "SpawnRequest",
    "TimedOut",
    "Tree",
    "TreeError",
    "Truth",
    "UsageError",
    "huge_page_size",
    "page_size",
    "pages_per_huge",
]
