# SPDX-License-Identifier: GPL-2.0
"""A running target: a real process that performs a pattern, or a simulated target."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from damon_tests.patterns.spec import Pattern
from damon_tests.ports import Truth


@dataclass(frozen=True)
class PhaseTime:
    """When one phase ran, monotonic ns of the machine; ``end_ns`` None: still running."""

    name: str
    start_ns: int
    end_ns: int | None


class RunningTarget(Protocol):
    """A target that performs a pattern. It is *ready* (mapped, populated, waiting) when this object exists;
    ``go`` starts the first phase; ``stop`` ends it and may be called at any time, twice.

    ``layout`` gives each region's byte range [start, end) by name, in virtual addresses.
    ``memcg`` is the path of its memory control group, "" when it has none of its own.
    ``physical`` returns the physical ranges of each region where the machine shows them (for paddr).
    """

    pid: int
    pattern: Pattern
    seed: int
    layout: Mapping[str, tuple[int, int]]
    memcg: str

    def go(self) -> None: ...

    def phases(self) -> Sequence[PhaseTime]:
        """Return the phases that have begun."""
        ...

    def accesses(self) -> Mapping[tuple[int, str], int]:
        """Return the number of accesses so far, by (phase index, region)."""
        ...

    def truth(self) -> Truth:
        """Return the accesses since ``go``; complete only after ``stop``."""
        ...

    def disturbances(self, slack_ns: int) -> Sequence[tuple[int, int]]:
        """Return the stretches [from, to) in which it was more than ``slack_ns`` behind its schedule, in
        order: it lost its processor. Complete only after ``stop``."""
        ...

    def physical(self) -> Mapping[str, Sequence[tuple[int, int]]]: ...

    def stop(self) -> None: ...
