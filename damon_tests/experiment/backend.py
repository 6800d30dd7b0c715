# SPDX-License-Identifier: GPL-2.0
"""Which DAMON, on which machine. A backend makes pristine subjects; a test never asks which it has."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from damon_tests.damon.capability import Capabilities
from damon_tests.damon.expected_features import KernelConfig
from damon_tests.damon.sleeps import SleepWatch
from damon_tests.experiment.requirements import Needs
from damon_tests.kernel.guest.topology import Topology
from damon_tests.patterns.spec import Pattern
from damon_tests.ports import Clock, Events, Tree
from damon_tests.ports.cost import CostProbe
from damon_tests.workload.memory_info import MemoryInfo
from damon_tests.workload.pages import PageStates
from damon_tests.workload.target import RunningTarget


class Subject(Protocol):
    """One DAMON on one machine, pristine, for one attempt of one experiment."""

    tree: Tree
    events: Events
    clock: Clock
    level: str

    def start_target(self, pattern: Pattern, seed: int) -> RunningTarget:
        """A target that is ready and waits for ``go``."""
        ...

    def vmas(self, target: RunningTarget) -> Sequence[tuple[int, int]]:
        """Mappings of the target now, sorted byte ranges."""
        ...

    def change_vmas(self, target: RunningTarget, vmas: Sequence[tuple[int, int]]) -> None:
        """Give the target these mappings. Raises NotSupported where it has to change them by itself."""
        ...

    def ram_ranges(self) -> Sequence[tuple[int, int]]:
        """System RAM as physical byte ranges [start, end)."""
        ...

    def pages(self, target: RunningTarget, start: int, end: int) -> PageStates:
        """The state of the target's pages in [start, end) now: where effects of schemes are measured."""
        ...

    def memory_info(self) -> MemoryInfo:
        """How much memory the machine has and uses now."""
        ...

    def kernel_objects(self) -> Mapping[str, int]:
        """How many objects of each kind the kernel has, see ``kernel.slab``. Raises NotSupported."""
        ...

    def watch_sleeps(self) -> SleepWatch | None:
        """Record when kdamonds sleep from now on; None where that cannot be known."""
        ...

    def cost_probe(self) -> CostProbe:
        """What counts the cost of its kernel's threads. Raises NotSupported where there is no kernel."""
        ...

    def limit_trace_buffer(self, kib: int) -> None:
        """Let ``events`` use a buffer of about this size a CPU from now on: small ones lose events."""
        ...

    def kernel_log(self) -> str:
        """What the kernel printed since the subject was made; empty where there is no kernel."""
        ...

    def splats(self) -> Sequence[str]:
        """Titles of kernel complaints (BUG, WARNING, KASAN ...) in that log."""
        ...

    def close(self) -> None: ...


class Backend(Protocol):
    """``name`` is the word that selected it (``reference:7.3``, ``debian:7.3``, ``host``).

    ``simulated``: it has no kernel, and its targets are no processes. ``shows_all_accesses``: every access
    sets an accessed bit by construction; of other machines it is found out first whether they show accesses
    at all (``scenario.visibility``).
    """

    name: str
    simulated: bool
    shows_all_accesses: bool

    @property
    def level(self) -> str:
        """The kernel series it is judged as."""
        ...

    def subject(self, seed: int, topology: Topology | None = None) -> Subject:
        """``topology``: the machine an experiment needs, None for the usual one."""
        ...

    def capabilities(self) -> Capabilities:
        """What its DAMON has, by feature; probed once."""
        ...

    def machine_has(self) -> Needs | None:
        """What its machine has; None where one is made as a test needs it."""
        ...

    def kernel_config(self) -> KernelConfig:
        """How its kernel was built; after ``capabilities``."""
        ...

    def provenance(self) -> Mapping[str, object]:
        """Kernel release, machine, accelerator, versions: what a result needs to be compared."""
        ...

    def close(self) -> None: ...
