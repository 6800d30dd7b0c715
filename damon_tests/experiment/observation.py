# SPDX-License-Identifier: GPL-2.0
"""The outcome of an attempt: the truth about the target and what DAMON reported of it."""

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
    """A request committed online between ``begin_ns`` and ``end_ns``, which are 0 for the first request."""

    begin_ns: int
    end_ns: int
    kdamonds: tuple[Kdamond, ...]


@dataclass(frozen=True, eq=False)
class Committed:
    """All requests up to the one in force, and the recording under all of them."""

    commits: tuple[Commit, ...]
    whole: Recording


@dataclass(frozen=True, eq=False)
class Observation:
    """An attempt: what was touched (``truth``), what DAMON reported (``recording``, ``schemes``).

    ``ctx`` is the request as staged, targets filled in. ``layout`` gives the byte range of each of the
    pattern's regions in the monitored address space (vaddr/fvaddr: virtual addresses).
    ``vmas`` are the mappings of the target process when monitoring began, sorted byte ranges.
    ``disturbances`` are the times in which the target lost its processor for half a sampling interval or
    longer; ``irregular`` the times in which memory that it touches in every sampling interval may have been
    idle for a whole interval. ``sleeps`` are the kdamond's sampling sleeps [from, to), if they were traced.
    ``paused``: the times [from, to) in which a request paused the kdamond.
    ``frames`` (paddr only): the page frame of each page by region, -1 if it is unknown or changed during the
    recording. ``committed``: the requests until this one, if it is not the first; ``recording`` is then
    the part under it. ``core_unit``: the unit, in bytes, of the kdamond's arithmetic, if ``ctx`` and
    ``recording`` have been converted to bytes (``physical_view``). ``kernel_log`` is what the kernel printed
    meanwhile; ``splats`` are the complaints in it. ``seconds``: wall time by activity.
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
    paused: tuple[tuple[int, int], ...] = ()
    frames: Mapping[str, I64] = field(default_factory=dict)
    committed: Committed | None = None
    core_unit: int = 1
    kernel_log: str = ""
    splats: tuple[str, ...] = ()
    seconds: Mapping[str, float] = field(default_factory=dict)
