# SPDX-License-Identifier: GPL-2.0
"""The DAMON under test and its machine. A backend makes pristine subjects; tests do not depend on which."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Protocol

from damon_tests.damon.capability import Capabilities
from damon_tests.damon.kernel_config import KernelConfig
from damon_tests.damon.sleeps import SleepWatch
from damon_tests.experiment.requirements import Needs
from damon_tests.kernel.failing_allocations import FailedWrite
from damon_tests.kernel.guest.topology import Topology
from damon_tests.patterns.spec import Pattern
from damon_tests.ports import Clock, Events, Process, Tree
from damon_tests.ports.accesses import AccessProbe
from damon_tests.ports.cost import CostProbe
from damon_tests.workload.memory_info import MemoryInfo
from damon_tests.workload.pages import PageStates
from damon_tests.workload.program import ProgramTarget
from damon_tests.workload.program_spec import Program
from damon_tests.workload.target import RunningTarget


class Subject(Protocol):
    """One DAMON on one machine, pristine, for one attempt of one experiment."""

    tree: Tree
    events: Events
    clock: Clock
    level: str

    def start_target(self, pattern: Pattern, seed: int) -> RunningTarget:
        """Start a target and return it once it is ready; it waits for ``go``."""
        ...

    def start_program(self, program: Program, seed: int, *, huge_pages: bool = True) -> ProgramTarget:
        """Start a real program and return it once it is warm.

        ``huge_pages`` False: turn transparent huge pages of its machine off before. Raises NotSupported where
        nothing is a process, HarnessError when the program fails.
        """
        ...

    def shell(self, script: str) -> Process:
        """Start a shell script on the machine, which must be a guest with ``userland``. Raises NotSupported
        where there is no kernel."""
        ...

    def failing_write(self, path: str, value: str, number: int, pid: int = 0) -> FailedWrite:
        """Write a file of DAMON's tree while an allocation fails, see ``kernel.failing_allocations``. Raises
        NotSupported where none can."""
        ...

    def vmas(self, target: RunningTarget) -> Sequence[tuple[int, int]]:
        """Return the target's current mappings as sorted byte ranges."""
        ...

    def ram_ranges(self) -> Sequence[tuple[int, int]]:
        """Return System RAM as physical byte ranges [start, end)."""
        ...

    def pages(self, target: RunningTarget, start: int, end: int) -> PageStates:
        """Return the current state of the target's pages in [start, end), to measure what schemes did."""
        ...

    def memory_info(self) -> MemoryInfo:
        """Return how much memory the machine has and uses now."""
        ...

    def kernel_objects(self) -> Mapping[str, int]:
        """Return the kernel's number of objects by slab cache, see ``kernel.slab``. Raises NotSupported."""
        ...

    def kernel_file(self, path: str) -> str:
        """Return a file that the kernel writes, such as /proc/version.

        Raises FileNotFoundError, and NotSupported for what is no kernel.
        """
        ...

    def hold_open(self, path: str) -> AbstractContextManager[None]:
        """Keep a file of DAMON's tree open meanwhile. Raises NotSupported where there is no kernel."""
        ...

    def watch_sleeps(self) -> SleepWatch | None:
        """Record the sleeps of kdamonds from now on; return None where they cannot be traced."""
        ...

    def cost_probe(self) -> CostProbe:
        """Return the probe for the cost of kernel threads. Raises NotSupported where there is no kernel."""
        ...

    def access_probe(self) -> AccessProbe:
        """Return the probe that records what programs access. Raises NotSupported where nothing can."""
        ...

    def limit_trace_buffer(self, kib: int) -> None:
        """Limit the trace buffer of ``events`` to about this size for each CPU: small buffers lose events."""
        ...

    def kernel_log(self) -> str:
        """Return what the kernel printed since the subject was made; empty where there is no kernel."""
        ...

    def splats(self) -> Sequence[str]:
        """Return the titles of the kernel's complaints (BUG, WARNING, KASAN ...) in that log."""
        ...

    def close(self) -> None: ...


class Backend(Protocol):
    """A DAMON to test. ``name`` is the word that selects it (``reference:7.3``, ``debian:7.3``, ``host``).

    ``simulated``: there is no kernel, and targets are no processes. ``shows_all_accesses``: by construction,
    every access sets an accessed bit; on other machines ``scenario.visibility`` checks first whether DAMON
    can see accesses at all.
    """

    name: str
    simulated: bool
    shows_all_accesses: bool

    @property
    def level(self) -> str:
        """Return the kernel series as which it is judged."""
        ...

    def subject(self, seed: int, topology: Topology | None = None) -> Subject:
        """Return a pristine subject. ``topology``: the machine an experiment needs, None for the default."""
        ...

    def capabilities(self) -> Capabilities:
        """Return the features of its DAMON; probed once."""
        ...

    def machine_has(self) -> Needs | None:
        """Return what its machine has; None where the machine is made to fit a test."""
        ...

    def kernel_config(self) -> KernelConfig:
        """Return its kernel's configuration; call it after ``capabilities``."""
        ...

    def provenance(self) -> Mapping[str, object]:
        """Return kernel release, machine, accelerator and versions, which comparing results needs."""
        ...

    def close(self) -> None: ...
