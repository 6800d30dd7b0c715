# SPDX-License-Identifier: GPL-2.0
"""A pattern: which memory will be touched, how often, when.

A pattern is the only source of truth for both kinds of target. The engine (C) performs
it in a real process; the simulated memory of the reference answers it in closed form.
Both follow the same rule, so it is stated here, once:

* Regions are anonymous mappings, laid out in list order at ascending addresses with a gap
  of at least ``gap_bytes`` after each (so that DAMON's three-regions rule sees what we say).
* Phases follow each other without pause; within a phase each access term runs in *passes*:
  pass ``j`` starts at ``phase start + j * period_ns``, for every ``j`` with
  ``j * period_ns < duration_ns``, and touches its pages as fast as possible. In closed form a
  pass takes no time; what a real pass took is in the engine's pass log.
* A term has *slots*: one byte address every ``stride_bytes`` within each of its islands,
  numbered upwards from 0. ``sequential`` touches every slot in every pass, in order;
  ``random`` touches ``touches`` slots in every pass, drawn by the generator of
  ``damon_tests.workload.truth.pass_pages`` from (seed, phase, term, pass): the engine
  implements the same generator, so the truth of a random term is known in closed form, too.
* With ``repeat`` the phases start again after the last one. Phases are counted on, never back
  to 0: with two phases, phase 2 is the first one again. The generator gets this running number,
  so that a repeated phase draws other pages.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Order = Literal["sequential", "random"]
Kind = Literal["read", "write"]
Visible = Literal["flush", "natural"]


@dataclass(frozen=True)
class PatternRegion:
    """One mapping. ``populate``: touch every page once before ready (else memory is lazily
    faulted). ``hugepage``: madvise(MADV_HUGEPAGE / MADV_NOHUGEPAGE), None leaves the default."""

    name: str
    size_bytes: int
    populate: bool = True
    hugepage: bool | None = False


@dataclass(frozen=True)
class Access:
    """One access term of a phase: ``[start_bytes, end_bytes)`` of ``region``.

    ``islands`` repeats the span that many times, ``every_bytes`` apart: island ``i`` is
    ``[start_bytes + i * every_bytes, end_bytes + i * every_bytes)``.
    """

    region: str
    start_bytes: int
    end_bytes: int
    order: Order = "sequential"
    stride_bytes: int = 4096
    period_ns: int = 2_000_000
    touches: int = 0  # random only: touches per pass
    kind: Kind = "write"
    islands: int = 1
    every_bytes: int = 0  # only with more than one island

    @property
    def slots_per_island(self) -> int:
        return -(-(self.end_bytes - self.start_bytes) // self.stride_bytes)

    @property
    def slots(self) -> int:
        """How many different addresses the term can touch."""
        return self.slots_per_island * self.islands

    @property
    def touches_per_pass(self) -> int:
        return self.touches if self.order == "random" else self.slots

    def spans(self) -> tuple[tuple[int, int], ...]:
        """Byte ranges [start, end) within the region, one per island, ascending."""
        return tuple(
            (self.start_bytes + i * self.every_bytes, self.end_bytes + i * self.every_bytes)
            for i in range(self.islands)
        )


@dataclass(frozen=True)
class Phase:
    """What is accessed for ``duration_ns``. No accesses: the target idles."""

    name: str
    duration_ns: int
    accesses: tuple[Access, ...]


@dataclass(frozen=True)
class Pattern:
    """``reason`` says in one line what the pattern is for. ``repeat``: the phases start again
    after the last one, for as long as the target lives (False: idle after the last).

    ``visible``: DAMON clears accessed bits without flushing the TLB, so a page whose translation
    stays cached looks idle while it is used. "flush" makes the engine drop its cached
    translations before it touches anything; "natural" leaves that to chance, as programs do.
    """

    name: str
    reason: str
    regions: tuple[PatternRegion, ...]
    phases: tuple[Phase, ...]
    repeat: bool = False
    gap_bytes: int = 64 << 20
    visible: Visible = "flush"

    def region(self, name: str) -> PatternRegion:
        for region in self.regions:
            if region.name == name:
                return region
        raise KeyError(name)

    @property
    def cycle_ns(self) -> int:
        """How long all phases take together."""
        return sum(phase.duration_ns for phase in self.phases)

    def phase_start_ns(self, number: int) -> int:
        """When the phase with this running number starts, from go, by the plan."""
        cycles, index = divmod(number, len(self.phases))
        return cycles * self.cycle_ns + sum(phase.duration_ns for phase in self.phases[:index])
