# SPDX-License-Identifier: GPL-2.0
"""Turn a paddr observation into one of an address space of physical addresses.

Everything that judges virtual address spaces, replicas included, then judges paddr, too."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from damon_tests.damon.params import DamonTarget
from damon_tests.damon.records import Recording, Snapshot
from damon_tests.experiment.observation import Observation
from damon_tests.ports import HarnessError, NotSupported, page_size
from damon_tests.workload.frame_truth import FrameTruth, frame_ranges


def as_virtual(observed: Observation) -> Observation:
    """Return the observation of a paddr attempt as one of fvaddr over physical byte addresses.

    ``layout`` names the physical ranges of the pattern's regions ("data 0", "data 1" ...), ``truth`` is by
    physical address, and so on. Raises HarnessError when no frames are known, NotSupported when a core
    address unit is larger than a page.
    """
    ctx, unit = observed.ctx, observed.recording.addr_unit
    if page_size() % unit:
        raise NotSupported(f"physical memory in units of {unit} bytes as an address space of pages")
    layout = {
        f"{name} {number}": extent
        for name, frames in observed.frames.items()
        for number, extent in enumerate(frame_ranges(frames))
    }
    if not layout:
        raise HarnessError("the target's page frames are unknown")
    ranges = tuple((start * unit, end * unit) for target in ctx.targets for start, end in target.regions)
    pid = max(1, observed.ctx.targets[0].pid_target)
    return replace(
        observed,
        ctx=replace(ctx, operations="fvaddr", addr_unit=1, targets=(DamonTarget(pid, ranges),)),
        truth=FrameTruth(observed.truth, observed.layout, observed.frames),
        layout=layout,
        vmas=_joined(ranges),
        recording=_in_bytes(observed.recording),
        frames={},
        core_unit=unit,
    )


def _joined(ranges: tuple[tuple[int, int], ...]) -> tuple[tuple[int, int], ...]:
    """Return the ranges rounded outwards to pages, and joined where they touch."""
    pages = [np.arange(start // page_size(), -(-end // page_size())) for start, end in ranges]
    return frame_ranges(np.concatenate([np.zeros(0, np.int64), *pages]))


def _in_bytes(recording: Recording) -> Recording:
    unit = np.uint64(recording.addr_unit)

    def scaled(snapshot: Snapshot) -> Snapshot:
        return replace(snapshot, start=snapshot.start * unit, end=snapshot.end * unit)

    return replace(
        recording,
        operations="fvaddr",
        addr_unit=1,
        snapshots=tuple(scaled(snapshot) for snapshot in recording.snapshots),
    )
