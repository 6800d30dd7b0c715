# SPDX-License-Identifier: GPL-2.0
"""The kdamond's timetable of a recording, for a reference that runs once more over the same accesses."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, replace

from damon_tests.experiment.committed_steps import steps_through
from damon_tests.experiment.observation import Observation
from damon_tests.experiment.sampling_pace import pace
from damon_tests.experiment.sampling_steps import exact
from damon_tests.reference.core.batch import Step
from damon_tests.reference.machine.clock import SleepNs, WorkNs


@dataclass(frozen=True)
class Timetable:
    """How long each sampling sleep takes, and each work before and after it; as for ``ReferenceSystem``.

    ``work_ns`` None: the kdamond's sleeps were not traced; then ``sleep_ns`` follows the recorded pace, and
    work takes no time.
    """

    sleep_ns: SleepNs
    work_ns: WorkNs | None = None


def timetable(observed: Observation) -> Timetable:
    """Return the times that a replica of ``observed`` keeps, through all its online commits."""
    at_pace, steps = pace(observed), steps_through(observed)
    if not steps:
        return Timetable(at_pace)
    return _exactly([*steps, *_unreported(steps, observed)], _requested_us(observed), at_pace)


def _unreported(steps: Sequence[Step], observed: Observation) -> list[Step]:
    """Return the steps after the last recorded aggregation; the recording ended amid the next one."""
    last_ns = steps[-1].reported_ns or steps[-1].checked_ns
    sleeps = [sleep for sleep in observed.sleeps if sleep[1] > last_ns]
    return [replace(step, reported_ns=None) for step in exact(last_ns, last_ns, sleeps)] if sleeps else []


def _requested_us(observed: Observation) -> set[int]:
    """Return the sampling intervals in µs, of all requests; a tuned interval has other times."""
    made = observed.committed
    if made is None:
        return {observed.recording.sample_us}
    return {commit.kdamonds[0].ctx.attrs.sample_us for commit in made.commits}


def _exactly(steps: Sequence[Step], sample_intervals_us: set[int], otherwise: SleepNs) -> Timetable:
    """Return the timetable of these steps; before, after and for other intervals that of ``otherwise``."""
    checked = [step.checked_ns for step in steps]

    def sleep_ns(now_ns: int, sample_us: int) -> int:
        i = bisect_right(checked, now_ns)
        if i == len(steps) or sample_us not in sample_intervals_us:
            return otherwise(now_ns, sample_us)
        return checked[i] - now_ns

    def work_ns(now_ns: int, sample_us: int) -> int:
        i = bisect_right(checked, now_ns)
        if sample_us not in sample_intervals_us:
            return 0
        reported_ns = steps[i - 1].reported_ns if i else None
        if reported_ns is not None and now_ns < reported_ns:
            return reported_ns - now_ns
        return max(0, steps[i].prepared_ns - now_ns) if i < len(steps) else 0

    return Timetable(sleep_ns, work_ns)
