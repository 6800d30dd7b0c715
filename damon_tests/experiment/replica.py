# SPDX-License-Identifier: GPL-2.0
"""How a correct DAMON would have seen it: the reference with clean rules over an observed truth."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from damon_tests.damon.client import DamonClient
from damon_tests.damon.params import Kdamond
from damon_tests.damon.records import Recording
from damon_tests.damon.session import Session
from damon_tests.experiment.observation import Observation
from damon_tests.ports import NSEC_PER_USEC, NotSupported
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
        level=seen.level, seed=seed, origin_ns=recording.started_ns, sleep_ns=_pace(recording)
    )
    pid = seen.ctx.targets[0].pid_target
    system.add_process(seen.vmas, seen.truth, pid)
    client = DamonClient(system.tree, system.clock)
    with Session(client, system.events, (Kdamond(seen.ctx),), source="events") as session:
        session.start()
        session.record(max(0, recording.stopped_ns - system.clock.now_ns()))
    return session.recording()


def _pace(recording: Recording) -> Callable[[int, int], int]:
    """How long a sleep of ``sample_us`` begun at ``now_ns`` really took: a kernel's sampling step takes
    longer than asked, and slows down with the machine. Constant within a recorded aggregation."""
    ends = [snapshot.time_ns for snapshot in recording.of_target(0)]
    times = np.array([recording.started_ns, *ends], dtype=np.int64)
    steps = np.diff(times) // max(1, recording.samples_per_aggr)
    shortest = max(1, recording.sample_us) * NSEC_PER_USEC

    def sleep_ns(now_ns: int, sample_us: int) -> int:
        asked = max(1, sample_us) * NSEC_PER_USEC
        if len(steps) == 0 or asked != shortest:
            return asked
        index = min(int(np.searchsorted(times, now_ns, side="right")) - 1, len(steps) - 1)
        return max(asked, int(steps[max(index, 0)]))

    return sleep_ns
