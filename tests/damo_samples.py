# SPDX-License-Identifier: GPL-2.0
"""A recording of two targets, and the figures about it that damo prints, worked out here.

Independently of the project's pictures and metrics: plain loops over regions.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
from synthetic_recordings import BASE, MIB, MS, hot_cold

from damon_tests.damon.params import DamonAttrs, DamonCtx, DamonTarget
from damon_tests.damon.records import Recording

FAR = 1 << 40
STEPS = 8


def sample() -> Recording:
    """Eight aggregations of two targets; the second is elsewhere and reported 0.1 ms later."""
    _, _, report = hot_cold(STEPS, seed=1, hot_mib=2, total_mib=16)
    _, _, two = hot_cold(STEPS, seed=2, hot_mib=4, total_mib=16)
    shift = np.uint64(FAR)
    others = [
        replace(s, target_idx=1, time_ns=s.time_ns + MS // 10, start=s.start + shift, end=s.end + shift)
        for s in two.snapshots
    ]
    snapshots = sorted([*report.snapshots, *others], key=lambda s: s.time_ns)
    return replace(report, snapshots=tuple(snapshots), stopped_ns=snapshots[-1].time_ns)


def request() -> DamonCtx:
    """What such a recording might have been asked for."""
    ranges = [((a, a + 16 * MIB),) for a in (BASE, BASE + FAR)]
    targets = tuple(DamonTarget(100 + i, r) for i, r in enumerate(ranges))
    return DamonCtx("fvaddr", attrs=DamonAttrs(min_nr_regions=10, max_nr_regions=1000), targets=targets)


Rows = list[tuple[int, int, float]]


def heat(recording: Recording, target_idx: int, times: int, addresses: int) -> Rows:
    """(time ns, address, accesses a second) of each pixel, over the whole target: a mean over time and space.

    Pixels begin at the first snapshot's beginning and the lowest address.
    """
    snaps = recording.of_target(target_idx)
    t0, t1 = recording.started_ns, snaps[-1].time_ns
    a0, a1 = int(snaps[0].start[0]), int(snaps[0].end[-1])
    dt, da = (t1 - t0) / times, (a1 - a0) / addresses
    rows = []
    for i in range(times):
        for j in range(addresses):
            box = (t0 + i * dt, t0 + (i + 1) * dt, a0 + j * da, a0 + (j + 1) * da)
            total = sum(nr * area for nr, area in _overlaps(recording, target_idx, box))
            rows.append((int(t0 + i * dt), int(a0 + j * da), total / (dt * da) / (recording.aggr_us / 1e6)))
    return rows


def _overlaps(
    recording: Recording, target_idx: int, box: tuple[float, float, float, float]
) -> Iterator[tuple[int, float]]:
    before = recording.started_ns
    for snap in recording.of_target(target_idx):
        time = min(box[1], snap.time_ns) - max(box[0], before)
        before = snap.time_ns
        if time <= 0:
            continue
        for start, end, nr in zip(
            snap.start.tolist(), snap.end.tolist(), snap.nr_accesses.tolist(), strict=True
        ):
            space = min(box[3], end) - max(box[2], start)
            if space > 0:
                yield nr, time * space


def working_sets(recording: Recording, target_idx: int) -> list[int]:
    """Bytes in regions with any access, of each snapshot."""
    return [int(s.sizes[s.nr_accesses > 0].sum()) for s in recording.of_target(target_idx)]
