# SPDX-License-Identifier: GPL-2.0
"""The reference as a backend: simulated targets, virtual time, no privileges."""

from __future__ import annotations

import platform
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager

import damon_tests
from damon_tests.damon.capability import Capabilities, probe
from damon_tests.damon.client import DamonClient
from damon_tests.damon.expected_features import EVERYTHING
from damon_tests.damon.kernel_config import KernelConfig
from damon_tests.damon.sleeps import SleepWatch
from damon_tests.experiment.backend import Subject
from damon_tests.experiment.requirements import Needs
from damon_tests.experiment.simulated_memory import simulated_memory_info, simulated_pages
from damon_tests.kernel.failing_allocations import FailedWrite
from damon_tests.kernel.guest.topology import Topology
from damon_tests.patterns.spec import Pattern
from damon_tests.ports import (
    Clock,
    Events,
    HarnessError,
    NotSupported,
    Process,
    Tree,
    huge_page_size,
    page_size,
)
from damon_tests.ports.accesses import AccessProbe
from damon_tests.ports.cost import CostProbe
from damon_tests.ports.paging import DEFAULT_PAGE_BYTES
from damon_tests.reference.rules.ruleset import Rules
from damon_tests.reference.sysfs.system import ReferenceSystem
from damon_tests.workload.memory_info import MemoryInfo
from damon_tests.workload.pages import PageStates
from damon_tests.workload.program import ProgramTarget
from damon_tests.workload.program_spec import Program
from damon_tests.workload.simulated import SimulatedTarget
from damon_tests.workload.target import RunningTarget

_EVENT_BYTES = 64
"""Approximate size of a DAMON event in a kernel's trace buffer."""


_LEAST_HUGE_PAGES = 32  # of RAM, in each node
_APPLY_NS = 400
"""Time that a scheme's time quota is charged for a page: about what a real machine takes."""


class _Target(SimulatedTarget):
    """A simulated target that is also a process of the simulated machine."""

    def __init__(self, pattern: Pattern, seed: int, system: ReferenceSystem) -> None:
        self._system = system
        pid = system.new_pid()
        super().__init__(
            pattern,
            seed,
            pid,
            None,
            system.clock,
            physical_ranges=lambda start, end: system.physical_ranges(pid, start, end),
        )
        system.add_process(
            self.vmas(),
            self.truth(),
            pid,
            memcg=self.memcg or "/",
            huge=self.huge,
            file=self.backed_by("file"),
            shmem=self.backed_by("shmem"),
            dirty=self.dirty,
            nodes=self.nodes,
            hugetlb=self.backed_by("hugetlb"),
            others=self.others(),
            locked=[self.layout[r.name] for r in pattern.regions if r.lock and r.populate],
        )
        self._other_pids = [
            system.add_process(
                spans,
                truth,
                memcg=self.memcg or "/",
                huge=self.huge,
                nodes=self.nodes,
                hugetlb=self.backed_by("hugetlb"),
            )
            for spans, truth in self.other_processes()
        ]

    def go(self) -> None:
        super().go()
        self._system.clock.start(self._change_mappings())

    def _change_mappings(self) -> Iterator[int]:
        for time_ns in self.mapping_times():
            yield time_ns
            if not self.alive:
                return
            self._system.set_vmas(self.pid, self.vmas())

    def stop(self) -> None:
        if self.alive:
            super().stop()
            for pid in (self.pid, *self._other_pids):
                self._system.remove_process(pid)


class ReferenceSubject:
    """The ReferenceSystem of an attempt, on a machine of the requested topology."""

    def __init__(
        self, level: str, seed: int, rules: Rules | None = None, topology: Topology | None = None
    ) -> None:
        machine = topology or Topology()
        # With pages of 64 KiB, memory of the usual size would be two huge pages.
        least = _LEAST_HUGE_PAGES * huge_page_size() * machine.numa_nodes
        ram_bytes = max(machine.memory_mib << 20, least)
        self._system = ReferenceSystem(
            level=level,
            seed=seed,
            rules=rules,
            ram_bytes=ram_bytes,
            nr_nodes=machine.numa_nodes,
            # As much larger than asked for as the RAM is: the same share of memory fits.
            swap_bytes=machine.swap_zram_mib * ram_bytes // machine.memory_mib,
            hugetlb_pages=machine.hugetlb_pages,
        )
        self._system.memory.apply_ns_per_page = _APPLY_NS
        self.tree: Tree = self._system.tree
        self.events: Events = self._system.events
        self.clock: Clock = self._system.clock
        self.level = level
        self._closed = False
        self._boot(machine.cmdline)

    def _boot(self, cmdline: Sequence[str]) -> None:
        """Give modules the parameters of the command line ("damon_stat.enabled=N"), as a kernel does."""
        for word in cmdline:
            name, _, value = word.partition("=")
            module, dot, parameter = name.partition(".")
            if dot and self.tree.exists(f"/sys/module/{module}/parameters"):
                self.tree.write(f"/sys/module/{module}/parameters/{parameter}", value)

    def start_target(self, pattern: Pattern, seed: int) -> RunningTarget:
        return _Target(pattern, seed, self._system)

    def start_program(self, program: Program, seed: int, *, huge_pages: bool = True) -> ProgramTarget:
        raise NotSupported(f"{program.name}, a real program", remedy="use --kernel debian:newest for this")

    def vmas(self, target: RunningTarget) -> Sequence[tuple[int, int]]:
        assert isinstance(target, SimulatedTarget)
        return target.vmas()

    def ram_ranges(self) -> Sequence[tuple[int, int]]:
        return self._system.ram_ranges()

    def pages(self, target: RunningTarget, start: int, end: int) -> PageStates:
        self._check_open()
        return simulated_pages(self._system, target.pid, start, end)

    def memory_info(self) -> MemoryInfo:
        self._check_open()
        return simulated_memory_info(self._system)

    def shell(self, script: str) -> Process:
        raise NotSupported(
            "programs that write to DAMON's files", remedy="use --kernel debian:newest for this"
        )

    def failing_write(self, path: str, value: str, number: int, pid: int = 0) -> FailedWrite:
        raise NotSupported("allocations that fail on request", remedy="use a kernel with CONFIG_FAILSLAB")

    def kernel_objects(self) -> Mapping[str, int]:
        raise NotSupported("objects of a kernel", remedy="use --kernel debian:newest for this")

    def kernel_file(self, path: str) -> str:
        raise NotSupported(f"the kernel's {path}", remedy="use --kernel debian:newest for this")

    def hold_open(self, path: str) -> AbstractContextManager[None]:
        raise NotSupported(f"an open {path}", remedy="use --kernel debian:newest for this")

    def watch_sleeps(self) -> SleepWatch | None:
        return None  # its sleeps take exactly the sampling interval, and its work takes no time

    def cost_probe(self) -> CostProbe:
        raise NotSupported("the cost of a kernel", remedy="use --kernel debian:newest for this")

    def access_probe(self) -> AccessProbe:
        raise NotSupported("the accesses of real programs", remedy="use --kernel debian:newest for this")

    def limit_trace_buffer(self, kib: int) -> None:
        self._system.events.bounded = (kib << 10) // _EVENT_BYTES

    def kernel_log(self) -> str:
        return ""

    def splats(self) -> Sequence[str]:
        return ()

    def close(self) -> None:
        """Refuse to read memory from now on, as a guest that has ended does."""
        self._closed = True

    def _check_open(self) -> None:
        """Raise HarnessError for a test that would only work here, not in a guest."""
        if self._closed:
            raise HarnessError("the attempt has ended, and so has its machine: read its memory before")


class ReferenceBackend:
    """``--kernel reference[:LEVEL]``; ``rules`` replaces the rules of the level (``fault`` names them)."""

    simulated = True
    shows_all_accesses = True

    def __init__(self, level: str, rules: Rules | None = None, fault: str = "") -> None:
        pages = "" if page_size() == DEFAULT_PAGE_BYTES else f",page={page_size() >> 10}K"
        self.name = f"reference:{level}{pages}" + (f"+{fault}" if fault else "")
        self._fault = fault
        self.level = level
        self._rules = rules
        self._capabilities: Capabilities | None = None

    def subject(self, seed: int, topology: Topology | None = None) -> Subject:
        return ReferenceSubject(self.level, seed, self._rules, topology)

    def capabilities(self) -> Capabilities:
        if self._capabilities is None:
            subject = self.subject(0)
            self._capabilities = probe(DamonClient(subject.tree, subject.clock), subject.events)
        return self._capabilities

    def machine_has(self) -> Needs | None:
        return None

    def kernel_config(self) -> KernelConfig:
        return EVERYTHING

    def provenance(self) -> Mapping[str, object]:
        return {
            "kind": "reference",
            "level": self.level,
            "fault": self._fault,
            "version": damon_tests.__version__,
            "python": platform.python_version(),
        }

    def close(self) -> None:
        """Do nothing: the backend holds no resources."""
