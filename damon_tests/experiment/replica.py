# SPDX-License-Identifier: GPL-2.0
"""Replicas: what a correct DAMON (the reference with clean rules) records over an observed truth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from damon_tests.damon.client import DamonClient
from damon_tests.damon.params import Kdamond
from damon_tests.damon.records import Recording
from damon_tests.damon.session import Session
from damon_tests.experiment.committed_steps import served_ns
from damon_tests.experiment.observation import Observation
from damon_tests.experiment.parts import parts_of
from damon_tests.experiment.sampling_pace import pace
from damon_tests.experiment.sampling_steps import steps
from damon_tests.experiment.sampling_timetable import timetable
from damon_tests.ports import NSEC_PER_USEC, NotSupported
from damon_tests.reference.core.batch import Batch, missing_for_batch
from damon_tests.reference.machine.process import Process
from damon_tests.reference.rules.levels import LEVELS
from damon_tests.reference.rules.ruleset import Rules
from damon_tests.reference.sysfs.system import ReferenceSystem


def replica(observed: Observation, seed: int) -> Recording:
    """Run the level's clean reference with the same request, the same mappings, the same accesses at the same
    times, and the kdamond's recorded sleeps; if these were not traced, aggregations that take as long.

    Only for virtual address spaces: convert paddr with ``physical_view.as_virtual`` (else NotSupported).
    """
    if observed.ctx.operations == "paddr":
        raise NotSupported("a replica of physical addresses", remedy="use physical_view.as_virtual")
    recording, times = observed.recording, timetable(observed)
    system = ReferenceSystem(
        level=observed.level,
        seed=seed,
        rules=rules_of(observed),
        origin_ns=recording.started_ns,
        sleep_ns=times.sleep_ns,
        work_ns=times.work_ns,
    )
    pid = observed.ctx.targets[0].pid_target
    system.add_process(observed.vmas, observed.truth, pid)
    client = DamonClient(system.tree, system.clock)
    with Session(client, system.events, (Kdamond(observed.ctx),), source="events") as session:
        session.start()
        session.record(max(0, recording.stopped_ns - system.clock.now_ns()))
    return session.recording()


def replicas(observed: Observation, seeds: Sequence[int]) -> list[Recording]:
    """Return a replica for every seed; run all at once where the request allows it, which is much faster.

    Runs at once depend on all seeds together: the same seeds give the same runs.
    """
    if observed.committed is not None:
        return [replay(observed, seed) for seed in seeds]
    ctx, recording = observed.ctx, observed.recording
    length_us = (recording.stopped_ns - recording.started_ns) // NSEC_PER_USEC
    rereads_mappings = ctx.operations == "vaddr" and ctx.attrs.update_us <= 2 * length_us
    if missing_for_batch(ctx) or rereads_mappings or not seeds:
        return [replica(observed, seed) for seed in seeds]
    process = Process(ctx.targets[0].pid_target, observed.vmas, observed.truth)
    rng = np.random.Generator(np.random.SFC64(list(seeds)))
    batch = Batch(rules_of(observed), ctx, [process], len(seeds), rng)
    known = steps(observed)
    if known:
        runs = batch.run_steps(known)
    else:
        runs = batch.run(recording.started_ns, recording.stopped_ns, pace(observed))
    clean = replace(recording, source="damon_aggregated", lost_events=0, intervals=())
    return [replace(clean, snapshots=runs.snapshots(i)) for i in range(len(seeds))]


def rules_of(observed: Observation) -> Rules:
    """Return the level's rules. A kdamond whose core address unit is larger than a byte rounds the size limit
    of regions in that unit (specification 2.6 and 3.7); its other arithmetic is in whole pages.
    """
    rules, unit = LEVELS[observed.level].rules, observed.core_unit
    if unit == 1:
        return rules
    limit = rules.merge_size_limit

    def in_units(total_size: int, min_nr_regions: int, min_region_sz: int) -> int:
        return limit(total_size // unit, min_nr_regions, min_region_sz // unit) * unit

    return replace(rules, merge_size_limit=in_units)


def replay(observed: Observation, seed: int) -> Recording:
    """Run a replica of an attempt with online commits: the same commits and sleeps at the same times.

    Return the part of its recording under the last commit. Raises NotSupported for several targets.
    """
    made = observed.committed
    assert made is not None
    requests = [commit.kdamonds[0] for commit in made.commits]
    pids = {target.pid_target for request in requests for target in request.ctx.targets}
    if len(pids) != 1 or any(request.ctx.operations == "paddr" for request in requests):
        raise NotSupported("replicas of online commits to several targets, or to physical memory")
    times = timetable(observed)
    system = ReferenceSystem(
        level=observed.level,
        seed=seed,
        origin_ns=made.whole.started_ns,
        sleep_ns=times.sleep_ns,
        work_ns=times.work_ns,
    )
    system.add_process(observed.vmas, observed.truth, pids.pop())
    client, done = DamonClient(system.tree, system.clock), [made.commits[0]]
    with Session(client, system.events, (requests[0],), source="events") as session:
        session.start()
        for commit in made.commits[1:]:
            # A moment before the sample after which the recorded kdamond served it.
            at_ns = served_ns(made, commit, observed.sleeps) - 1
            session.record(max(0, at_ns - system.clock.now_ns()))
            session.commit((commit.kdamonds[0],))
            done.append(replace(commit, end_ns=system.clock.now_ns()))
        session.record(max(0, observed.recording.stopped_ns - system.clock.now_ns()))
    return parts_of(session.recording(), done)[-1].recording
