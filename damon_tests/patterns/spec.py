# SPDX-License-Identifier: GPL-2.0
"""A pattern: which memory will be touched, how often, when.

A pattern is the only source of truth for both kinds of target. The engine (C) performs
it in a real process; the simulated memory of the reference answers it in closed form.
Both follow the same rule, so it is stated here, once:

* Regions are anonymous mappings, laid out in list order at ascending addresses with a gap
  of at least ``gap_bytes`` after each (so that DAMON's three-regions rule sees what we say).
* Phases follow each other without pause; within a phase each access term runs in *passes*:
  pass ``j`` starts at ``phase start + j * period_ns`` and touches its pages as fast as possible.
* ``sequential`` touches offset, offset + stride, ... over the whole span in every pass;
  ``random`` touches ``touches`` pages of the span in every pass, drawn by the generator of
  ``damon_tests.workload.truth.pass_pages`` from (seed, phase, term, pass): the engine
  implements the same generator, so the truth of a random term is known in closed form, too.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Order = Literal["sequential", "random"]
Kind = Literal["read", "write"]


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
    """One access term of a phase: ``[start_bytes, end_bytes)`` of ``region``."""

    region: str
    start_bytes: int
    end_bytes: int
    order: Order = "sequential"
    stride_bytes: int = 4096
    period_ns: int = 2_000_000
    touches: int = 0  # random only: touches per pass
    kind: Kind = "write"


@dataclass(frozen=True)
class Phase:
    name: str
    duration_ns: int
    accesses: tuple[Access, ...]


@dataclass(frozen=True)
class Pattern:
    """``reason`` says in one line what the pattern is for. ``repeat``: the phases start again
    after the last one, for as long as the target lives (False: idle after the last)."""

    name: str
    reason: str
    regions: tuple[PatternRegion, ...]
    phases: tuple[Phase, ...]
    repeat: bool = False
    gap_bytes: int = 64 << 20

    def region(self, name: str) -> PatternRegion:
        for region in self.regions:
            if region.name == name:
                return region
        raise KeyError(name)

    @property
    def cycle_ns(self) -> int:
        """How long all phases take together."""
        return sum(phase.duration_ns for phase in self.phases)
