# SPDX-License-Identifier: GPL-2.0
"""A whole simulated machine with DAMON: processes, memory, clock, tree, tracepoints."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from damon_tests.ports import Truth, UsageError
from damon_tests.ports.ranges import Range
from damon_tests.reference.core.kdamond import Kdamond
from damon_tests.reference.core.ops import Operations, make_operations
from damon_tests.reference.core.split import SplitHistory
from damon_tests.reference.core.tracepoints import ReferenceEvents
from damon_tests.reference.machine.clock import ORIGIN_NS, SleepNs, VirtualClock, WorkNs
from damon_tests.reference.machine.memory import Memory
from damon_tests.reference.machine.process import Process
from damon_tests.reference.machine.tlb import Tlb
from damon_tests.reference.rules.levels import level as level_of
from damon_tests.reference.rules.ruleset import Rules
from damon_tests.reference.sysfs.tree import ReferenceTree

FIRST_PID = 1000


class ReferenceSystem:
    """DAMON of one level over simulated memory, in virtual time.

    ``rules`` replaces the level's rules (a fault under test). Everything random comes from ``seed``:
    the same calls give the same run. ``ram_bytes`` is the size of physical memory, in ``nr_nodes``
    NUMA nodes of equal size; ``swap_bytes`` that of its swap (None: without end);
    ``hugetlb_pages``: how many are reserved. ``tlb``: translations stay cached, and accesses through them
    unseen. ``damon_stat``: DAMON_STAT is on from boot, as in some distributions. Time begins at
    ``origin_ns``; ``sleep_ns`` sets how long sampling sleeps take (default: as asked), ``work_ns`` how long a
    kdamond works between them (default: no time). Raises UsageError for an unknown level.
    """

    def __init__(
        self,
        level: str = "7.3",
        seed: int = 0,
        rules: Rules | None = None,
        ram_bytes: int = 1 << 30,
        *,
        nr_nodes: int = 1,
        swap_bytes: int | None = None,
        hugetlb_pages: int = 0,
        tlb: Tlb | None = None,
        damon_stat: bool = False,
        origin_ns: int = ORIGIN_NS,
        sleep_ns: SleepNs | None = None,
        work_ns: WorkNs | None = None,
    ) -> None:
        known = level_of(level)
        self.level = level
        self.version = known.version
        self.rules = rules if rules is not None else known.rules
        self.seed = seed
        self._seeds = np.random.SeedSequence(seed)
        self.memory = Memory(ram_bytes, self.new_rng(), nr_nodes, swap_bytes)
        self.memory.reserve_hugetlb(hugetlb_pages)
        self._tlb = tlb
        self.clock = VirtualClock(origin_ns, sleep_ns, work_ns)
        self.events = ReferenceEvents(self.clock, self.version, self.rules.hidden)
        self.lock_holder: object | None = None  # the write that has the tree's global lock
        self.refreshed_jiffies = 0  # used when kdamonds share the timer of refresh_ms (a fault)
        self.polled_command: object | None = None  # the command that a writer waits for (6.12: one at a time)
        self.split_history = SplitHistory()
        self._running: list[Kdamond] = []
        self._next_pid = FIRST_PID
        self._operations = {name: make_operations(name, self.memory) for name in ("vaddr", "fvaddr", "paddr")}
        self.tree = ReferenceTree(self)
        if damon_stat and "damon_stat" in self.tree.modules:
            self.tree.modules["damon_stat"].start()

    @property
    def locked(self) -> bool:
        return self.lock_holder is not None

    # Processes

    def add_process(
        self,
        vmas: Sequence[Range],
        truth: Truth,
        pid: int | None = None,
        *,
        memcg: str = "/",
        huge: Sequence[Range] = (),
        file: Sequence[Range] = (),
        shmem: Sequence[Range] = (),
        dirty: Sequence[Range] = (),
        nodes: Sequence[tuple[Range, int]] = (),
        hugetlb: Sequence[Range] = (),
        others: Sequence[tuple[Range, Truth]] = (),
        locked: Sequence[Range] = (),
    ) -> int:
        """Add a process with these mappings (byte ranges); return its pid. Its accesses are those of
        ``truth``; the pages that the truth knows about get physical memory.

        ``memcg`` is its memory cgroup; whole blocks within ``huge`` are huge pages; ``file`` and ``shmem``
        are not anonymous, and ``dirty`` pages of files stay dirty; ``nodes``, ``hugetlb``, ``others``,
        ``locked``: see Process. Raises UsageError for a node that does not exist, and for more reserved
        huge pages than there are.
        """
        if pid is not None and pid in self.memory.processes:
            raise UsageError(f"a process with pid {pid} exists already")
        chosen = self.new_pid() if pid is None else pid
        process = Process(chosen, vmas, truth, memcg, self._tlb, nodes, hugetlb, others, locked)
        self.memory.add(process, huge, file, shmem, dirty)
        return chosen

    def remove_process(self, pid: int) -> None:
        """Let the process exit and be reaped."""
        self._known(pid)
        self.memory.remove(pid)

    def set_vmas(self, pid: int, vmas: Sequence[Range]) -> None:
        """Change the process's mappings."""
        self._known(pid)
        self.memory.set_vmas(pid, vmas)

    def set_truth(self, pid: int, truth: Truth) -> None:
        """Replace the accesses of a process, for example when the workload starts."""
        self._known(pid)
        self.memory.set_truth(pid, truth)

    def physical_ranges(self, pid: int, start: int, end: int) -> list[Range]:
        """Return where [start, end) of the process lies in physical memory: sorted byte ranges."""
        self._known(pid)
        return self.memory.physical_ranges(pid, start, end)

    def ram_ranges(self) -> list[Range]:
        """Return system RAM as byte ranges [start, end)."""
        return self.memory.ram_ranges()

    def _known(self, pid: int) -> None:
        if pid not in self.memory.processes:
            raise UsageError(f"no simulated process has pid {pid}")

    # What kdamonds share

    def operations_of(self, name: str) -> Operations:
        return self._operations[name]

    @property
    def exclusive_running(self) -> bool:
        return any(kdamond.exclusive for kdamond in self._running)

    @property
    def nr_running(self) -> int:
        return len(self._running)

    def start_kdamond(self, kdamond: Kdamond) -> None:
        self._running.append(kdamond)
        kdamond.start()

    def kdamond_exits(self, kdamond: Kdamond) -> None:
        self._running.remove(kdamond)

    def new_pid(self) -> int:
        while self._next_pid in self.memory.processes:
            self._next_pid += 1
        self._next_pid += 1
        return self._next_pid - 1

    def new_rng(self) -> np.random.Generator:
        """Return an independent random stream; streams are numbered in the order they are made."""
        return np.random.Generator(np.random.SFC64(self._seeds.spawn(1)[0]))
