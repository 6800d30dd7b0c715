# SPDX-License-Identifier: GPL-2.0
"""Machine disturbances that the oracle accounts for, reported with each verdict and their size.

Replicas keep the recorded pace (``experiment.sampling_pace``, ``experiment.sampling_steps``) over the
accesses that the target made. Verdicts report the size of what this accounts for. A machine without such
disturbances, such as the reference, has none to report.
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
    """Return a sentence for each disturbance with its largest size over the attempts.

    Such as "aggregations longer than requested, replicas take as long: up to 3.1%".
    """
    largest: dict[str, float] = {}
    for observation in attempts:
        for name, share in _sizes(observation, after_s, until_s):
            largest[name] = max(share, largest.get(name, 0.0))
    return tuple(f"{name}: up to {share:.1%}" for name, share in largest.items() if share >= _NAMED_FROM)


def _sizes(observation: Observation, after_s: float, until_s: float | None) -> Iterator[tuple[str, float]]:
    """Yield (disturbance, share of the time or of the windows, 0 to 1) of one attempt."""
    judged = judged_windows(observation, after_s, until_s)
    start = observation.recording.started_ns
    until = None if until_s is None else start + int(until_s * NSEC_PER_SEC)
    asked = within(windows(observation.recording), start + int(after_s * NSEC_PER_SEC), until)
    total = sum(w.duration_ns for w in judged)
    if not total:
        return
    if not observation.recording.intervals:
        yield "aggregations longer than requested, replicas take as long", _longer(observation, judged)
    if observation.sleeps:
        yield "kdamond at work, half of it unwatched", 1 - _slept_ns(observation, judged) / total
    stalled = sum(stalled_ns(observation, w) for w in judged)
    yield "target without a CPU, replicas use its real accesses", stalled / total
    yield "windows left out, the times of samples are not known", 1 - len(judged) / len(asked)


def _longer(observation: Observation, judged: Sequence[Window]) -> float:
    """Return the largest relative excess of a window over the requested length; the first is left out."""
    asked_ns = (
        observation.recording.samples_per_aggr * max(1, observation.recording.sample_us) * NSEC_PER_USEC
    )
    return max((w.duration_ns / max(1, asked_ns) - 1 for w in judged if w.index > 0), default=0.0)


def _slept_ns(observation: Observation, judged: Sequence[Window]) -> int:
    return sum(
        max(0, min(to_ns, w.t1_ns) - max(from_ns, w.t0_ns))
        for w in judged
        for from_ns, to_ns in observation.sleeps
    )
