# SPDX-License-Identifier: GPL-2.0
"""Machine disturbances that the oracle accounts for, reported with each verdict and their size.

Replicas keep the recorded pace (``experiment.sampling_pace``, ``experiment.sampling_steps``) over the
accesses that the target really made. What that takes out of the comparison is reported, so that a reader
sees how much there was. Nothing is reported of a machine on which there was nothing to model, such as the
reference.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from damon_tests.experiment.observation import Observation
from damon_tests.judge.monitoring.aggregation_windows import Window, windows, within
from damon_tests.judge.monitoring.judged_windows import judged_windows, stalled_ns
from damon_tests.ports import NSEC_PER_SEC, NSEC_PER_USEC

_NAMED_FROM = 0.001
"""Smaller shares than one in a thousand change no metric visibly."""


def modelled(
    attempts: Sequence[Observation], after_s: float, until_s: float | None = None
) -> tuple[str, ...]:
    """Return the sentences with the largest size over the attempts: "aggregations longer than asked: up to
    3.1 %"."""
    largest: dict[str, float] = {}
    for seen in attempts:
        for name, share in _sizes(seen, after_s, until_s):
            largest[name] = max(share, largest.get(name, 0.0))
    return tuple(f"{name}: up to {share:.1%}" for name, share in largest.items() if share >= _NAMED_FROM)


def _sizes(seen: Observation, after_s: float, until_s: float | None) -> Iterator[tuple[str, float]]:
    """Yield (what, share of the time or of the windows) of one attempt."""
    judged = judged_windows(seen, after_s, until_s)
    start = seen.recording.started_ns
    until = None if until_s is None else start + int(until_s * NSEC_PER_SEC)
    asked = within(windows(seen.recording), start + int(after_s * NSEC_PER_SEC), until)
    total = sum(w.duration_ns for w in judged)
    if not total:
        return
    if not seen.recording.intervals:
        yield "aggregations longer than asked, replicas take as long", _longer(seen, judged)
    if seen.sleeps:
        yield "kdamond at work, half of it unwatched", 1 - _slept_ns(seen, judged) / total
    stalled = sum(stalled_ns(seen, w) for w in judged)
    yield "target without a processor, its accesses taken as they were", stalled / total
    yield "windows left out, when DAMON sampled is not known", 1 - len(judged) / len(asked)


def _longer(seen: Observation, judged: Sequence[Window]) -> float:
    """Return how much longer than asked the longest window was; the first begins before DAMON is on."""
    asked_ns = seen.recording.samples_per_aggr * max(1, seen.recording.sample_us) * NSEC_PER_USEC
    return max((w.duration_ns / max(1, asked_ns) - 1 for w in judged if w.index > 0), default=0.0)


def _slept_ns(seen: Observation, judged: Sequence[Window]) -> int:
    return sum(
        max(0, min(to_ns, w.t1_ns) - max(from_ns, w.t0_ns)) for w in judged for from_ns, to_ns in seen.sleeps
    )
