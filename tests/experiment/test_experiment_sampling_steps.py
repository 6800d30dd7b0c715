# SPDX-License-Identifier: GPL-2.0
"""Sampling steps derived from the kdamond's sleeps."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from damon_tests.damon.params import DamonAttrs, DamonCtx
from damon_tests.experiment import experiment as act
from damon_tests.experiment.experiment import Experiment
from damon_tests.experiment.observation import Observation
from damon_tests.experiment.reference_backend import ReferenceBackend
from damon_tests.experiment.replica import replicas
from damon_tests.experiment.sampling_steps import steps
from damon_tests.judge.monitoring.judged_windows import judged_windows
from damon_tests.patterns import load
from damon_tests.reference.machine.clock import VirtualClock

MS = 1_000_000
WORK_NS = MS


@pytest.fixture(scope="module")
def seen() -> Observation:
    """Observe half_rate on the reference; add sleeps as if the kdamond worked for 1 ms of each step."""
    experiment = Experiment(
        load.load("half_rate"), DamonCtx("fvaddr", attrs=DamonAttrs()), 2_000 * MS, "regions"
    )
    observation = act.observe(experiment, ReferenceBackend("7.3"), 1)
    times = [observation.recording.started_ns, *(s.time_ns for s in observation.recording.snapshots)]
    w = observation.recording.samples_per_aggr
    sleeps = []
    for start, end in pairwise(times):
        edges = np.linspace(start, end, w + 1).astype(np.int64).tolist()
        sleeps += [(a + WORK_NS // 2, b - WORK_NS // 2) for a, b in pairwise(edges)]
    return replace(observation, sleeps=tuple(sleeps))


def test_half_of_the_work_is_watched(seen: Observation) -> None:
    sampled = steps(seen)
    watched = [s.checked_ns - s.prepared_ns for s in sampled]
    slept = [b - a for a, b in seen.sleeps]
    # Only half of the work before the first sleep of an aggregation belongs to that aggregation.
    assert {w - s for w, s in zip(watched, slept, strict=True)} == {WORK_NS // 2, WORK_NS // 4}
    assert [s.reported_ns for s in sampled if s.reported_ns] == [s.time_ns for s in seen.recording.snapshots]


def test_an_aggregation_with_a_sleep_missing_is_evenly_spread(seen: Observation) -> None:
    w = seen.recording.samples_per_aggr
    spread = steps(replace(seen, sleeps=seen.sleeps[:3] + seen.sleeps[4:]))
    assert len(spread) == len(steps(seen))
    first = np.diff([s.checked_ns for s in spread[:w]])
    assert first.max() - first.min() <= 1
    assert spread[w:] == steps(seen)[w:]


def test_without_sleeps_there_are_no_steps(seen: Observation) -> None:
    assert steps(replace(seen, sleeps=())) == []


def test_replicas_see_less_when_less_is_watched(seen: Observation) -> None:
    """The kdamond watches one of the two passes of a step, so it counts as many fewer hits as expected."""

    def hits(observation: Observation) -> float:
        runs = replicas(observation, range(20))
        low, high = observation.layout["warm"]
        total = 0.0
        for run in runs:
            for snap in run.snapshots:
                part = np.minimum(snap.end, high).astype(np.int64) - np.maximum(snap.start, low).astype(
                    np.int64
                )
                total += float((np.maximum(part, 0) * snap.nr_accesses).sum())
        return total

    # Passes are at 0 and 2.5 ms of each step of 5 ms, each hits with 1 - 2 ** -0.5. With 3.2 ms of work, half
    # of it before the sleep, only the first is watched; in the first step of an aggregation none.
    blind = replace(seen, sleeps=tuple((a - WORK_NS // 2 + MS // 5, a + 3 * MS // 2) for a, _ in seen.sleeps))
    expected = 0.95 * (1 - 2**-0.5) / 0.5
    assert hits(blind) / hits(replace(seen, sleeps=())) == pytest.approx(expected, rel=0.1)


def test_stalled_windows_are_judged_when_sleeps_are_known(seen: Observation) -> None:
    stalled = replace(seen, disturbances=((0, 1 << 62),))
    assert len(judged_windows(stalled, 0)) == len(seen.recording.snapshots)
    assert judged_windows(replace(stalled, sleeps=()), 0) == ()


def test_windows_in_which_the_kdamond_waited_amid_its_work_are_not_judged(seen: Observation) -> None:
    w = seen.recording.samples_per_aggr
    late = [*seen.sleeps]
    for i in range(w + 2, w + 11):  # of the second window; 9 times 2.5 ms more than twice as long as usual
        late[i] = (late[i][0] + 7 * MS // 2, late[i][1])
    every = [s.time_ns for s in seen.recording.snapshots]
    judged = [window.t1_ns for window in judged_windows(replace(seen, sleeps=tuple(late)), 0)]
    assert judged == [every[0], *every[2:]]


def test_stalled_machine_is_recorded_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    """Steps of 25 ms instead of 5: two aggregations fit into a second, five are waited for, at most 3 s."""

    def length_ms(step_ms: int) -> tuple[int, int]:
        monkeypatch.setattr(VirtualClock, "wake_ns", lambda self, sample_us: self.now_ns() + step_ms * MS)
        experiment = Experiment(
            load.load("idle"), DamonCtx("fvaddr", attrs=DamonAttrs()), 1_000 * MS, "regions"
        )
        recording = act.observe(experiment, ReferenceBackend("7.3"), 1).recording
        return len(recording.snapshots), (recording.stopped_ns - recording.started_ns) // MS

    assert length_ms(5) == (10, 1000)
    snapshots, length = length_ms(25)
    assert snapshots == 5
    assert 2500 <= length < 2700
    assert 2900 <= length_ms(100)[1] <= 3100
