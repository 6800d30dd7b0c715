# SPDX-License-Identifier: GPL-2.0
"""A running target: a real process performing a pattern, or a simulated one."""

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
    """Handshake: the target is *ready* when this object exists (mapped, populated, waiting);
    ``go`` starts the first phase; ``stop`` ends it and is safe to call at any time, twice.

    ``layout`` gives each region's byte range [start, end) by name, in virtual addresses.
    ``memcg`` is the path of its memory control group, "" when it has none of its own.
    ``physical`` gives the same as lists of physical ranges where the machine can tell (for paddr).
    """

    pid: int
    pattern: Pattern
    seed: int
    layout: Mapping[str, tuple[int, int]]
    memcg: str

    def go(self) -> None: ...

    def phases(self) -> Sequence[PhaseTime]:
        """Phases begun so far."""
        ...

    def accesses(self) -> Mapping[tuple[int, str], int]:
        """Accesses done so far, by (phase index, region)."""
        ...

    def truth(self) -> Truth:
        """What was touched since ``go``; complete only after ``stop``."""
        ...

    def disturbances(self, slack_ns: int) -> Sequence[tuple[int, int]]:
        """Stretches [from, to) in which it did not keep its schedule by more than ``slack_ns``, in
        order: somebody took the processor away. Complete only after ``stop``."""
        ...

    def physical(self) -> Mapping[str, Sequence[tuple[int, int]]]: ...

    def stop(self) -> None: ...
