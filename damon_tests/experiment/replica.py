# SPDX-License-Identifier: GPL-2.0
"""How a correct DAMON would have seen it: the reference with clean rules over an observed truth."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import pairwise

import numpy as np

from damon_tests.damon.client import DamonClient
from damon_tests.damon.params import Kdamond
from damon_tests.damon.records import Recording
from damon_tests.damon.session import Session
from damon_tests.experiment.observation import Observation
from damon_tests.ports import NSEC_PER_USEC, NotSupported
from damon_tests.reference.batch import Batch, missing_for_batch
from damon_tests.reference.levels import LEVELS
from damon_tests.reference.process import Process
from damon_tests.reference.system import ReferenceSystem


def replica(seen: Observation, seed: int) -> Recording:
    """One run of the level's clean reference: same request, same mappings, same accesses at the same
    times, and aggregations that take as long as those recorded.

    Only for virtual address spaces so far: raises NotSupported for paddr, whose frames a
    replica cannot know.
    """
    if seen.ctx.operations == "paddr":
        raise NotSupported("no oracle for paddr yet", remedy="use invariants and closed forms")
    recording = seen.recording
    system = ReferenceSystem(
        level=seen.level, seed=seed, origin_ns=recording.started_ns, sleep_ns=_pace(seen)
    )
    pid = seen.ctx.targets[0].pid_target
    system.add_process(seen.vmas, seen.truth, pid)
    client = DamonClient(system.tree, system.clock)
    with Session(client, system.events, (Kdamond(seen.ctx),), source="events") as session:
        session.start()
        session.record(max(0, recording.stopped_ns - system.clock.now_ns()))
    return session.recording()


def replicas(seen: Observation, seeds: Sequence[int]) -> list[Recording]:
    """``replica`` for every seed; all at once where the request allows it, which is many times faster.

    Then the runs depend on all seeds together: the same seeds give the same runs.
    """
    ctx, recording = seen.ctx, seen.recording
    length_us = (recording.stopped_ns - recording.started_ns) // NSEC_PER_USEC
    rereads_mappings = ctx.operations == "vaddr" and ctx.attrs.update_us <= 2 * length_us
    if missing_for_batch(ctx) or rereads_mappings or not seeds:
        return [replica(seen, seed) for seed in seeds]
    process = Process(ctx.targets[0].pid_target, seen.vmas, seen.truth)
    rng = np.random.default_rng(list(seeds))
    batch = Batch(LEVELS[seen.level].rules, ctx, [process], len(seeds), rng)
    runs = batch.run(recording.started_ns, recording.stopped_ns, _pace(seen))
    clean = replace(recording, source="damon_aggregated", lost_events=0, intervals=())
    return [replace(clean, snapshots=runs.snapshots(i)) for i in range(len(seeds))]


def _pace(seen: Observation) -> Callable[[int, int], int]:
    """How long each sampling sleep really took, as far as the recording and the target tell.

    A sampling step takes longer than asked, and slows down with the machine: W steps fill each recorded
    aggregation. Where the target lost its processor too, the whole machine may have stood still:
    what an aggregation took longer than usual is placed there first. Spread evenly, such a
    stall would become several samples that see nothing instead of one that sees what came after it.
    """
    recording = seen.recording
    steps = np.array(_steps(seen), dtype=np.float64).reshape(-1, 2)

    def sleep_ns(now_ns: int, sample_us: int) -> int:
        asked = max(1, sample_us) * NSEC_PER_USEC
        if len(steps) < 2 or not steps[0, 0] <= now_ns < steps[-1, 0] or sample_us != recording.sample_us:
            return asked
        done = float(np.interp(now_ns, steps[:, 0], steps[:, 1]))
        # The last step of an aggregation must not end a rounding error before the recorded one.
        return math.ceil(np.interp(done + 1, steps[:, 1], steps[:, 0])) - now_ns

    return sleep_ns


def _steps(seen: Observation) -> list[tuple[float, float]]:
    """(time, sampling steps done until then): a polygon over all recorded aggregations, ascending in both."""
    recording = seen.recording
    times = [recording.started_ns, *(snapshot.time_ns for snapshot in recording.of_target(0))]
    lengths = np.diff(np.array(times, dtype=np.int64))
    if len(lengths) == 0 or lengths.min() <= 0:
        return []
    w = max(1, recording.samples_per_aggr)
    usual = max(float(np.percentile(lengths, 10)) / w, float(recording.sample_us * NSEC_PER_USEC))
    points = [(float(times[0]), 0.0)]
    for k, (start, end) in enumerate(pairwise(times)):
        stalls = _clipped(seen.disturbances, start, end)
        points += [(t, k * w + steps) for t, steps in _within_aggregation(start, end, stalls, w, usual)]
    return points


def _within_aggregation(
    start: int, end: int, stalls: Sequence[tuple[int, int]], w: int, usual: float
) -> list[tuple[float, float]]:
    """How the ``w`` steps of [start, end) lie in time: ``usual`` ns each outside of stalls, the rest in them.

    Where that leaves stalls more than their share (the sampling thread did not stall), evenly.
    """
    stalled = sum(b - a for a, b in stalls)
    running = end - start - stalled
    even = [(float(end), float(w))]
    if stalled <= 0 or running <= 0:
        return even
    fast = min(w / running, 1 / usual)
    slow = (w - fast * running) / stalled
    if slow >= fast:
        return even
    # Never quite still: the polygon has to ascend.
    slow = max(slow, 1e-3 * fast)
    fast = (w - slow * stalled) / running
    points, at, done = [], start, 0.0
    for a, b in stalls:
        done += (a - at) * fast
        points.append((float(a), done))
        done += (b - a) * slow
        points.append((float(b), done))
        at = b
    return [p for p in points if start < p[0] < end] + even


def _clipped(ranges: Sequence[tuple[int, int]], start: int, end: int) -> list[tuple[int, int]]:
    """The parts of sorted ``ranges`` within [start, end), merged where they overlap."""
    found: list[tuple[int, int]] = []
    for a, b in ranges:
        low, high = max(a, start, found[-1][1] if found else start), min(b, end)
        if low < high:
            found.append((low, high))
    return found
