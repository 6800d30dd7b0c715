# SPDX-License-Identifier: GPL-2.0
"""When a kdamond prepared and checked each sample of a run with online commits.

A kdamond serves a commit after a sample. From 6.18 on a commit of unchanged attributes leaves the running
aggregation alone; every other one begins a new aggregation, so that the one in which it was served has the
samples until then and all samples of the new request.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from damon_tests.damon.params import DamonAttrs
from damon_tests.experiment.observation import Commit, Committed, Observation
from damon_tests.experiment.sampling_steps import Sleep, even, exact, sleeps_within, steps, usual_work
from damon_tests.reference.core.batch import Step
from damon_tests.reference.rules.levels import LEVELS


@dataclass(frozen=True)
class _Request:
    """Attributes that took effect at ``from_ns``, after a sample, and began a new aggregation there."""

    from_ns: int
    samples: int


def steps_through(observed: Observation) -> list[Step]:
    """Return every sampling step since DAMON was turned on until the last aggregation of ``observed``.

    Without online commits these are ``steps``. The list is empty if no sleep was traced.
    """
    made = observed.committed
    if made is None:
        return steps(observed)
    keeps = LEVELS[observed.level].rules.equal_attrs_keep_window
    requests = _requests(made, observed.sleeps, keeps)
    ends = [s.time_ns for s in made.whole.of_target(0) if s.time_ns <= observed.recording.stopped_ns]
    aggregations = list(pairwise([made.whole.started_ns, *ends]))
    slept = [sleeps_within(observed.sleeps, start, end) for start, end in aggregations]
    complete = [
        sleeps
        for (start, _), sleeps in zip(aggregations, slept, strict=True)
        if len(sleeps) == _in_force(requests, start).samples
    ]
    if not complete:
        return []
    work_ns = int(np.median([usual_work(sleeps) for sleeps in complete]))
    recorded: list[Step] = []
    for (start, end), sleeps in zip(aggregations, slept, strict=True):
        request = _in_force(requests, start)
        amid = [r for r in requests if sleeps and start < r.from_ns < sleeps[-1][1]]
        if amid:
            recorded += _restarted(start, end, sleeps, amid[-1], work_ns)
        elif len(sleeps) == request.samples:
            recorded += exact(start, end, sleeps)
        else:
            recorded += even(start, end, request.samples, work_ns)
    return recorded


def served_ns(made: Committed, commit: Commit, sleeps: Sequence[Sleep]) -> int:
    """Return the end of the sleep after which the kdamond served a commit; without sleeps when it began.

    The commit took until ``end_ns``: of the sleeps that ended meanwhile, the one with the right number of
    samples between it and the next report, else the last.
    """
    ends = [to_ns for _, to_ns in sleeps]
    meanwhile = ends[bisect_right(ends, commit.begin_ns) : bisect_right(ends, commit.end_ns)]
    if not meanwhile:
        return next((to_ns for to_ns in ends if to_ns > commit.begin_ns), commit.begin_ns)
    reports = [s.time_ns for s in made.whole.of_target(0)]
    samples = _samples(commit.kdamonds[0].ctx.attrs)
    fitting = [at for at in meanwhile if _reported_after(at, samples, ends, reports)]
    return (fitting or meanwhile)[-1]


def _reported_after(at_ns: int, samples: int, ends: Sequence[int], reports: Sequence[int]) -> bool:
    """Return whether the first report after the next sleep came ``samples`` sleeps after ``at_ns``."""
    i = bisect_right(ends, at_ns)
    after = ends[i : i + samples + 1]
    if len(after) < samples:
        return False
    until_ns = after[samples] if len(after) > samples else after[-1] + (1 << 62)
    report = next((r for r in reports if r >= after[0]), None)
    return report is not None and after[samples - 1] <= report < until_ns


def _requests(made: Committed, sleeps: Sequence[Sleep], equal_attrs_keep_window: bool) -> list[_Request]:
    """Return the requests that began a new aggregation, the first one included."""
    attrs = made.commits[0].kdamonds[0].ctx.attrs
    requests = [_Request(made.whole.started_ns, _samples(attrs))]
    for commit in made.commits[1:]:
        before, attrs = attrs, commit.kdamonds[0].ctx.attrs
        if attrs != before or not equal_attrs_keep_window:
            requests.append(_Request(served_ns(made, commit, sleeps), _samples(attrs)))
    return requests


def _samples(attrs: DamonAttrs) -> int:
    return max(1, attrs.samples_per_aggr)


def _in_force(requests: Sequence[_Request], time_ns: int) -> _Request:
    return [r for r in requests if r.from_ns <= max(time_ns, requests[0].from_ns)][-1]


def _restarted(start: int, end: int, sleeps: Sequence[Sleep], request: _Request, work_ns: int) -> list[Step]:
    """Return the steps of an aggregation that ``request`` began anew; even ones after it if some are lost."""
    new = [sleep for sleep in sleeps if sleep[1] > request.from_ns]
    if len(new) == request.samples:
        return exact(start, end, sleeps)
    old = [sleep for sleep in sleeps if sleep[1] <= request.from_ns]
    steps_before = [Step(s.prepared_ns, s.checked_ns) for s in (exact(start, end, old) if old else [])]
    return [*steps_before, *even(request.from_ns, end, request.samples, work_ns)]
