# SPDX-License-Identifier: GPL-2.0
"""When exactly each sample of a recording was prepared and looked at, from the kdamond's own sleeps.

A kdamond prepares all regions, sleeps, and looks at all of them. A region is watched from its preparation to
its look: the sleep, what was left of preparing, and what had been looked at before it. As both take about as
long for one region, that is the sleep and half of the work, for each region; in the other half, and while it
merges, splits and reports, nobody watches. Under emulation the work is some hundred µs of a step of 5 ms.

Seen with a set that is used half of the time (14 runs each on 7.3.4 and 6.12.107, two cores, load 4 to 9):
replicas that watch whole steps saw 5 % and 3 % more than the kernels, these 0.4 % more. Time that somebody
else had the processor amid the work counts as work, which is right on average only (``unsure``).
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from damon_tests.experiment.observation import Observation
from damon_tests.reference.core.batch import Step

Sleep = tuple[int, int]


def steps(seen: Observation) -> list[Step]:
    """Every sampling step of the recorded aggregations; none when no sleep is known.

    Where the sleeps of an aggregation are not exactly W (recording them began late, or one was over before
    it began), its steps are evenly spread.
    """
    recording = seen.recording
    times = [recording.started_ns, *(s.time_ns for s in recording.of_target(0))]
    w = max(1, recording.samples_per_aggr)
    known = [_within(seen.sleeps, start, end) for start, end in pairwise(times)]
    if not any(len(sleeps) == w for sleeps in known):
        return []
    usual_ns = int(np.median([_usual_work(sleeps) for sleeps in known if len(sleeps) == w]))
    found: list[Step] = []
    for (start, end), sleeps in zip(pairwise(times), known, strict=True):
        if len(sleeps) == w:
            found += _exact(start, end, sleeps)
        else:
            found += _even(start, end, w, usual_ns)
    return found


def unsure(seen: Observation, spans: Sequence[tuple[int, int]]) -> list[float]:
    """For the span (t0_ns, t1_ns] of each aggregation the share of time in which the kdamond worked longer
    than usual: somebody else had its processor, and it is not known how many regions it had looked at by
    then. 1 where its sleeps are not known."""
    w, shares = max(1, seen.recording.samples_per_aggr), []
    for t0_ns, t1_ns in spans:
        sleeps = _within(seen.sleeps, t0_ns, t1_ns)
        usual = _usual_work(sleeps)
        longer = sum(max(0, b[0] - a[1] - 2 * usual) for a, b in pairwise(sleeps))
        shares.append(longer / (t1_ns - t0_ns) if len(sleeps) == w else 1.0)
    return shares


def _within(sleeps: Sequence[Sleep], start: int, end: int) -> list[Sleep]:
    """Those that ended in (start, end]; the kdamond then looks, and at the end of all reports."""
    return [sleep for sleep in sleeps if start < sleep[1] <= end]


def _usual_work(sleeps: Sequence[Sleep]) -> int:
    """What it usually does between two sleeps of one aggregation, ns: look at all regions, prepare all."""
    works = [b[0] - a[1] for a, b in pairwise(sleeps)]
    return int(np.median(works)) if works else 0


def _exact(start: int, end: int, sleeps: Sequence[Sleep]) -> list[Step]:
    found, free_ns, work_ns = [], start, _usual_work(sleeps)
    for i, (from_ns, to_ns) in enumerate(sleeps):
        before_ns = max(from_ns - free_ns, 0)
        # Before the first one it also split regions, and user space was told of the aggregation.
        before_ns = before_ns if i else min(before_ns, work_ns)
        found.append(Step(from_ns - before_ns // 2, to_ns))
        free_ns = to_ns
    return [*found[:-1], Step(found[-1].prepared_ns, found[-1].checked_ns, end)]


def _even(start: int, end: int, w: int, work_ns: int) -> list[Step]:
    edges = [start + (end - start) * i // w for i in range(w + 1)]
    spare = [min(work_ns // 2, (b - a) // 2) for a, b in pairwise(edges)]
    found = [Step(a + unwatched, b) for (a, b), unwatched in zip(pairwise(edges), spare, strict=True)]
    return [*found[:-1], Step(found[-1].prepared_ns, found[-1].checked_ns, end)]
