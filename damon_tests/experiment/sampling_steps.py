# SPDX-License-Identifier: GPL-2.0
"""When a kdamond prepared and checked each sample of a recording, derived from the kdamond's sleeps.

A kdamond prepares the access checks of all regions, sleeps, and checks all of them. It watches a region from
preparation to check: during the sleep, the rest of the preparations, and the checks before this one. As
preparing and checking a region take about equally long, that is the sleep and half of the work, for each
region; during the other half, and while the kdamond merges, splits and reports, it does not watch the region.
Under emulation the work is some hundred µs of a step of 5 ms.

Measured with a set that is used half of the time (14 runs each on 7.3.4 and 6.12.107, two cores, load 4 to
9): replicas that watch whole steps count 5 % and 3 % more accesses than the kernels, these 0.4 % more. Time
in which another thread had the processor amid the work counts as work, which is right on average only
(``unsure``).
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from damon_tests.experiment.observation import Observation
from damon_tests.reference.core.batch import Step

Sleep = tuple[int, int]


def steps(observed: Observation) -> list[Step]:
    """Return every sampling step of the recorded aggregations; an empty list if no sleep was traced.

    If an aggregation does not have exactly W sleeps (tracing began late, or a sleep was over before it
    began), spread its steps evenly.
    """
    recording = observed.recording
    times = [recording.started_ns, *(s.time_ns for s in recording.of_target(0))]
    w = max(1, recording.samples_per_aggr)
    known = [sleeps_within(observed.sleeps, start, end) for start, end in pairwise(times)]
    if not any(len(sleeps) == w for sleeps in known):
        return []
    usual_ns = int(np.median([usual_work(sleeps) for sleeps in known if len(sleeps) == w]))
    recorded: list[Step] = []
    for (start, end), sleeps in zip(pairwise(times), known, strict=True):
        if len(sleeps) == w:
            recorded += exact(start, end, sleeps)
        else:
            recorded += even(start, end, w, usual_ns)
    return recorded


def unsure(observed: Observation, spans: Sequence[tuple[int, int]]) -> list[float]:
    """Return, for the span (t0_ns, t1_ns] of each aggregation, the share of time in which the kdamond worked
    longer than usual: another thread had its processor, and how many regions it had checked by then is
    unknown. 1 where its sleeps are unknown."""
    w, shares = max(1, observed.recording.samples_per_aggr), []
    for t0_ns, t1_ns in spans:
        sleeps = sleeps_within(observed.sleeps, t0_ns, t1_ns)
        usual = usual_work(sleeps)
        longer = sum(max(0, b[0] - a[1] - 2 * usual) for a, b in pairwise(sleeps))
        shares.append(longer / (t1_ns - t0_ns) if len(sleeps) == w else 1.0)
    return shares


def sleeps_within(sleeps: Sequence[Sleep], start: int, end: int) -> list[Sleep]:
    """Return the sleeps that ended in (start, end]; checks follow each, the report follows the last."""
    return [sleep for sleep in sleeps if start < sleep[1] <= end]


def usual_work(sleeps: Sequence[Sleep]) -> int:
    """Return the median work between two sleeps of an aggregation, ns: check and prepare all regions."""
    works = [b[0] - a[1] for a, b in pairwise(sleeps)]
    return int(np.median(works)) if works else 0


def exact(start: int, end: int, sleeps: Sequence[Sleep]) -> list[Step]:
    """Return the steps of the aggregation (start, end] with these sleeps; it is reported at ``end``."""
    watched, free_ns, work_ns = [], start, usual_work(sleeps)
    for i, (from_ns, to_ns) in enumerate(sleeps):
        before_ns = max(from_ns - free_ns, 0)
        # Before the first sleep the kdamond also split regions and reported the aggregation to user space.
        before_ns = before_ns if i else min(before_ns, work_ns)
        watched.append(Step(from_ns - before_ns // 2, to_ns))
        free_ns = to_ns
    return [*watched[:-1], Step(watched[-1].prepared_ns, watched[-1].checked_ns, end)]


def even(start: int, end: int, w: int, work_ns: int) -> list[Step]:
    """Return ``w`` steps spread evenly over the aggregation (start, end], with as much work in each."""
    edges = [start + (end - start) * i // w for i in range(w + 1)]
    spare = [min(work_ns // 2, (b - a) // 2) for a, b in pairwise(edges)]
    spread = [Step(a + unwatched, b) for (a, b), unwatched in zip(pairwise(edges), spare, strict=True)]
    return [*spread[:-1], Step(spread[-1].prepared_ns, spread[-1].checked_ns, end)]
