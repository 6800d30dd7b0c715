# SPDX-License-Identifier: GPL-2.0
"""What one act of an experiment brought home: truth and report side by side."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from damon_tests.damon.params import DamonCtx, Kdamond
from damon_tests.damon.records import Recording, SchemeReport
from damon_tests.patterns.spec import Pattern
from damon_tests.ports import Truth
from damon_tests.ports.arrays import I64
from damon_tests.workload.target import PhaseTime


@dataclass(frozen=True)
class Commit:
    """A request that was committed online between ``begin_ns`` and ``end_ns``; at 0 the first one."""

    begin_ns: int
    end_ns: int
    kdamonds: tuple[Kdamond, ...]


@dataclass(frozen=True, eq=False)
class Committed:
    """All requests until the one in force (the first at 0), and the recording under all of them."""

    commits: tuple[Commit, ...]
    whole: Recording


@dataclass(frozen=True, eq=False)
class Observation:
    """One attempt: what was touched (``truth``), what DAMON said (``recording``, ``schemes``).

    ``ctx`` is the request as staged, targets filled in. ``layout`` names the pattern's regions
    by byte range in the address space that was monitored with vaddr/fvaddr (virtual addresses).
    ``vmas`` are the mappings of the target process when monitoring began, sorted byte ranges.
    ``disturbances`` are the times in which the target lost its processor for half a sampling interval or
    longer; ``irregular`` those in which it may have left memory alone for a whole one that it touches always.
    ``sleeps`` are the kdamond's sampling sleeps [from, to), where they could be had. ``frames`` (paddr only):
    for each region the page frame of each of its pages, -1 where it is not known or was not the same before
    and after. ``committed``: how this request came into force, when it was not the first; ``recording`` is
    then the part under it. ``core_unit``: in which unit, in bytes, the kdamond did its arithmetic, where
    ``ctx`` and ``recording`` have been turned into bytes (``physical_view``). ``kernel_log`` is what the
    kernel printed meanwhile; ``splats`` the complaints found in it.
    ``seconds`` says where wall time went.
    """

    pattern: Pattern
    ctx: DamonCtx
    level: str
    seed: int
    attempt: int
    truth: Truth
    layout: Mapping[str, tuple[int, int]]
    vmas: tuple[tuple[int, int], ...]
    phases: tuple[PhaseTime, ...]
    recording: Recording
    schemes: tuple[SchemeReport, ...] = ()
    disturbances: tuple[tuple[int, int], ...] = ()
    irregular: tuple[tuple[int, int], ...] = ()
    sleeps: tuple[tuple[int, int], ...] = ()
    frames: Mapping[str, I64] = field(default_factory=dict)
    committed: Committed | None = None
    core_unit: int = 1
    kernel_log: str = ""
    splats: tuple[str, ...] = ()
    seconds: Mapping[str, float] = field(default_factory=dict)
