# SPDX-License-Identifier: GPL-2.0
"""The few protocols everything is written against.

Two implementations hold each of them from the first day: the kernel's (files and
processes of a machine, here or in a guest) and the reference's (simulated, virtual
time). Nothing in this package does work of its own.
"""

from damon_tests.ports.arrays import Bools
from damon_tests.ports.clock import NSEC_PER_MSEC, NSEC_PER_SEC, NSEC_PER_USEC, Clock
from damon_tests.ports.errors import (
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
from damon_tests.ports.tree import Entry, Pending, Tree
from damon_tests.ports.truth import PAGE_SIZE, Pages, Truth

__all__ = [
    "LOST_EVENTS",
    "NSEC_PER_MSEC",
    "NSEC_PER_SEC",
    "NSEC_PER_USEC",
    "PAGE_SIZE",
    "Bools",
    "ByteStream",
    "Clock",
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
]
