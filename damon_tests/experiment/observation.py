# SPDX-License-Identifier: GPL-2.0
"""What one act of an experiment brought home: truth and report side by side."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from damon_tests.damon.params import DamonCtx
from damon_tests.damon.records import Recording, SchemeReport
from damon_tests.patterns.spec import Pattern
from damon_tests.ports import Truth
from damon_tests.workload.target import PhaseTime


@dataclass(frozen=True, eq=False)
class Observation:
    """One attempt: what was touched (``truth``), what DAMON said (``recording``, ``schemes``).

    ``ctx`` is the request as staged, targets filled in. ``layout`` names the pattern's regions
    by byte range in the address space that was monitored with vaddr/fvaddr (virtual addresses).
    ``vmas`` are the mappings of the target process when monitoring began, sorted byte ranges.
    ``disturbances`` are the times in which the target lost its processor for half a sampling interval or
    longer. ``kernel_log`` is what the kernel printed meanwhile; ``splats`` the complaints found in it.
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
    kernel_log: str = ""
    splats: tuple[str, ...] = ()
    seconds: Mapping[str, float] = field(default_factory=dict)
