# SPDX-License-Identifier: GPL-2.0
"""The memory of running targets that DAMON shall monitor."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal, get_args

from damon_tests.damon.params import DamonCtx, DamonTarget, Kdamond
from damon_tests.experiment.backend import Subject
from damon_tests.ports import UsageError, page_size
from damon_tests.ports.ranges import Range, joined
from damon_tests.workload.target import RunningTarget

Cover = Literal["process", "regions"]
"""What DAMON monitors of a target. "process" leaves the ranges to DAMON: vaddr finds them, paddr takes all
System RAM. "regions": the regions of the pattern, by virtual address, or their physical memory with
paddr."""


def check_cover(cover: str) -> None:
    """Raise UsageError for anything but the values of ``Cover``."""
    if cover not in get_args(Cover):
        raise UsageError(f"cover={cover!r}: the values are {' and '.join(map(repr, get_args(Cover)))}")


def target_of(ctx: DamonCtx, cover: Cover, target: RunningTarget, subject: Subject) -> DamonTarget:
    """Return the DamonTarget that covers a running target."""
    check_cover(cover)
    if ctx.operations == "paddr":
        ranges = subject.ram_ranges() if cover == "process" else physical_ranges(target)
        return DamonTarget(regions=tuple((s // ctx.addr_unit, e // ctx.addr_unit) for s, e in ranges))
    if cover == "process":
        return DamonTarget(pid_target=target.pid)
    return DamonTarget(pid_target=target.pid, regions=tuple(sorted(target.layout.values())))


def physical_ranges(target: RunningTarget) -> tuple[Range, ...]:
    """Return the physical byte ranges of all the pattern's regions, page aligned."""
    parts = (part for ranges in target.physical().values() for part in ranges)
    return tuple(joined((start // page_size() * page_size(), end) for start, end in parts))


def with_targets(
    kdamond: Kdamond, targets: Sequence[RunningTarget], cover: Cover, subject: Subject
) -> Kdamond:
    """Return the request with these targets, unless it has targets of its own."""
    if kdamond.ctx.targets:
        return kdamond
    chosen = tuple(target_of(kdamond.ctx, cover, target, subject) for target in targets)
    return replace(kdamond, ctx=replace(kdamond.ctx, targets=chosen))
