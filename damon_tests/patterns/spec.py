# SPDX-License-Identifier: GPL-2.0
"""A pattern: which memory will be touched, how often, when.

A pattern is the only source of truth for both kinds of target. The engine (C) performs
it in a real process; the simulated memory of the reference computes it in closed form.
Both follow these rules:

* Regions are mappings, laid out in list order at ascending addresses with a gap of at least
  ``gap_bytes`` after each (so that DAMON's three-regions rule sees what we say). A region of
  ``memory`` "heap" is the program break instead.
* Phases follow each other without pause; within a phase each access term runs in *passes*:
  pass ``j`` starts at ``phase start + j * period_ns``, for every ``j`` with
  ``j * period_ns < duration_ns``, and touches its pages as fast as possible. In closed form a
  pass takes no time; what a real pass took is in the engine's pass log.
* A term has *slots*: one byte address every ``stride_bytes`` within each of its islands,
  numbered upwards from 0. ``sequential`` touches every slot in every pass, in order, or, with
  ``touches``, that many: pass ``j`` begins at slot ``j * touches`` and goes round. ``random``
  touches ``touches`` slots in every pass, drawn by the generator of
  ``damon_tests.workload.random_order`` from (seed, phase, term, pass): the engine
  implements the same generator, so the truth of a random term is known in closed form, too.
  ``zipf`` and ``gaussian`` draw with weights (``damon_tests.workload.weighted_order``). ``chase``
  follows pointers through all slots in a random order (``damon_tests.workload.chase_order``): pass
  ``j`` takes the steps from ``j * touches``, round and round.
* A *drifting* term moves all its slots up by ``drift_bytes`` every ``drift_passes`` passes,
  and starts again after ``drift_positions`` places.
* A *free-running* term (``rate: max``) starts its next pass when the one before is done. On
  simulated targets, which have no speed, its passes are ``period_ns`` apart: a declared, nominal
  rate. Truth about real targets comes from the pass log, as for all terms.
* Terms with a ``weight`` take turns: at each turn one of them is drawn by its weight (generator
  with term ``CHOICE_TERM`` and the number of the turn), and does its next pass. A phase has one
  such group, with one period (or free-running), in one thread.
* A term runs in the ``thread`` of the ``process`` that it names. Process 0 is the target; others
  have the same mappings at the same addresses, shared only where ``memory`` is "file" or "shmem".
* Actions are done by thread 0 of process 0 at ``phase start + at_ns``, before passes that are due at the
  same time, and never left out. Accesses only go where memory is mapped during the whole phase
  (after the actions at its very start).
* With ``repeat`` the phases start again after the last one. Phases are counted on, never back
  to 0: with two phases, phase 2 is the first one again. The generator gets this running number,
  so that a repeated phase draws other pages.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from damon_tests.ports import page_size

Order = Literal["sequential", "random", "zipf", "gaussian", "chase"]
Kind = Literal["read", "write", "update"]
Visible = Literal["flush", "natural"]
Memory = Literal["anonymous", "file", "shmem", "hugetlb", "heap"]
Do = Literal[
    "mmap",
    "munmap",
    "mremap",
    "brk",
    "dontneed",
    "free",
    "mlock",
    "munlock",
    "willneed",
    "msync",
    "fork",
    "exec",
]

CHOICE_TERM = (1 << 32) - 1
"""The term number for the generator when it draws a weighted access."""

SHARED: tuple[Memory, ...] = ("file", "shmem")
"""Kinds of memory that all processes of a pattern share."""


@dataclass(frozen=True)
class PatternRegion:
    """One mapping. ``populate``: touch every page once before ready (else memory is lazily
    faulted). ``hugepage``: madvise(MADV_HUGEPAGE / MADV_NOHUGEPAGE), None leaves the default.

    ``file``: a file whose bytes are the initial content, "" for none. ``lock``: mlock(). ``node``: NUMA
    node, None for any. ``mapped_bytes``: size of the part that is mapped before the first phase, from
    its start; None for all. Actions may map the other addresses.

    ``gap_bytes``: exactly this much above it is unmapped, and it may start at any page; None: at least the
    pattern's ``gap_bytes``. ``same_as``: the region, before it in the list, of kind "file" or "shmem", whose
    memory is mapped here once more, from its start.
    """

    name: str
    size_bytes: int
    populate: bool = True
    hugepage: bool | None = False
    memory: Memory = "anonymous"
    file: str = ""
    lock: bool = False
    node: int | None = None
    mapped_bytes: int | None = None
    gap_bytes: int | None = None
    same_as: str = ""

    @property
    def initially_mapped(self) -> int:
        return self.size_bytes if self.mapped_bytes is None else self.mapped_bytes


@dataclass(frozen=True)
class Access:
    """An access term of a phase: ``[start_bytes, end_bytes)`` of ``region``.

    ``islands`` repeats the span that many times, ``every_bytes`` apart: island ``i`` is
    ``[start_bytes + i * every_bytes, end_bytes + i * every_bytes)``.
    """

    region: str
    start_bytes: int
    end_bytes: int
    order: Order = "sequential"
    stride_bytes: int = field(default_factory=page_size)
    period_ns: int = 2_000_000
    touches: int = 0  # per pass; 0, for sequential only: every slot once
    kind: Kind = "write"
    islands: int = 1
    every_bytes: int = 0  # only with more than one island
    skew: float = 0.0  # zipf: the k-th slot has weight k ** -skew
    center_bytes: int = 0  # gaussian: within the region
    sigma_bytes: int = 0
    free_running: bool = False
    weight: int = 0  # 0: no turns; else it takes turns with the other weighted accesses
    drift_bytes: int = 0
    drift_passes: int = 1
    drift_positions: int = 1
    process: int = 0
    thread: int = 0

    @property
    def slots_per_island(self) -> int:
        return -(-(self.end_bytes - self.start_bytes) // self.stride_bytes)

    @property
    def slots(self) -> int:
        """Return how many different addresses the term can touch."""
        return self.slots_per_island * self.islands

    @property
    def touches_per_pass(self) -> int:
        return self.touches or self.slots

    @property
    def worker(self) -> tuple[int, int]:
        """Return the (process, thread) that performs it."""
        return self.process, self.thread

    def spans(self) -> tuple[tuple[int, int], ...]:
        """Return the byte ranges [start, end) within the region, one per island, ascending."""
        return tuple(
            (self.start_bytes + i * self.every_bytes, self.end_bytes + i * self.every_bytes)
            for i in range(self.islands)
        )

    def reach(self) -> tuple[tuple[int, int], ...]:
        """Return the byte ranges [start, end) within the region that some pass may touch, ascending."""
        far = self.drift_bytes * (self.drift_positions - 1)
        if not far:
            return self.spans()
        return ((self.start_bytes, self.end_bytes + (self.islands - 1) * self.every_bytes + far),)


@dataclass(frozen=True)
class Action:
    """An action that the target does once in a phase, on ``[start_bytes, end_bytes)`` of ``region``.

    "mmap" maps the range as the region is (``populate``: and writes to every page), "munmap" unmaps
    it. "mremap" and, for heap regions, "brk" change what is mapped to [0, end_bytes). "dontneed",
    "free", "willneed" are madvise(); "mlock", "munlock". "msync" writes a file's dirty pages back. "fork"
    makes ``children`` processes that idle for ``lifetime_ns``, with ``exec_children`` after an exec. "exec"
    executes the target's program again, in the same process: all memory is mapped again as before, without
    any pages.
    """

    do: Do
    at_ns: int = 0
    region: str = ""
    start_bytes: int = 0
    end_bytes: int = 0
    populate: bool = False
    children: int = 0
    lifetime_ns: int = 0
    exec_children: bool = False

    @property
    def touches(self) -> bool:
        """Return whether it counts as an access to its whole range."""
        return self.do == "mlock" or (self.do == "mmap" and self.populate)


@dataclass(frozen=True)
class Phase:
    """The accesses for ``duration_ns``. Without accesses the target idles. ``actions`` are sorted by time."""

    name: str
    duration_ns: int
    accesses: tuple[Access, ...]
    actions: tuple[Action, ...] = ()

    @property
    def total_weight(self) -> int:
        return sum(access.weight for access in self.accesses)


@dataclass(frozen=True)
class Pattern:
    """``reason`` says in one line what the pattern is for. ``repeat``: the phases start again
    after the last one, for as long as the target lives (False: idle after the last).

    ``visible``: DAMON clears accessed bits without flushing the TLB, so a page whose translation
    stays cached looks idle while it is used. "flush": the engine drops its cached
    translations before each round of passes; "natural": it does not, like other programs.
    ``memcg``: the memory control group to put the target into, "" for none; "a/b" is b within a.
    """

    name: str
    reason: str
    regions: tuple[PatternRegion, ...]
    phases: tuple[Phase, ...]
    repeat: bool = False
    gap_bytes: int = 64 << 20
    visible: Visible = "flush"
    memcg: str = ""

    @property
    def workers(self) -> tuple[tuple[int, int], ...]:
        """Return all (process, thread) that perform accesses, sorted; (0, 0) is always included."""
        named = {access.worker for phase in self.phases for access in phase.accesses}
        return tuple(sorted({(0, 0), *named, *((process, 0) for process, _ in named)}))

    def region(self, name: str) -> PatternRegion:
        for region in self.regions:
            if region.name == name:
                return region
        raise KeyError(name)

    @property
    def cycle_ns(self) -> int:
        """Return the duration of all phases together."""
        return sum(phase.duration_ns for phase in self.phases)

    def phase_start_ns(self, number: int) -> int:
        """Return the planned start, relative to go, of the phase with this running number."""
        cycles, index = divmod(number, len(self.phases))
        return cycles * self.cycle_ns + sum(phase.duration_ns for phase in self.phases[:index])
