# SPDX-License-Identifier: GPL-2.0
"""Replicas of runs with schemes and online commits repeat the recorded sleeps of the kdamond."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from damon_tests.damon.params import ANY, DamonAttrs, DamonCtx, Damos, Kdamond
from damon_tests.experiment.committed_steps import served_ns, steps_through
from damon_tests.experiment.experiment import Experiment, observe
from damon_tests.experiment.live import live
from damon_tests.experiment.observation import Observation
from damon_tests.experiment.reference_backend import ReferenceBackend
from damon_tests.experiment.replica import replica, replicas
from damon_tests.experiment.sampling_timetable import timetable
from damon_tests.patterns import load
from damon_tests.reference.machine.clock import VirtualClock

MS = 1_000_000
WORK_NS = 3 * MS
"""How long this file's kdamond works without watching a region before it samples. It works as long again
while it watches, so that of each sampling interval of 5 ms it sleeps 2 ms."""

ATTRS = DamonAttrs(max_nr_regions=100)
STAT = Damos(action="stat", access_pattern=ANY)


@contextmanager
def working(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[tuple[int, int]]]:
    """Let every kdamond work for twice WORK_NS before each sleep; yield its sleeps."""
    sleeps: list[tuple[int, int]] = []
    with monkeypatch.context() as patched:
        wake_ns = VirtualClock.wake_ns

        def slept(clock: VirtualClock, sample_us: int) -> int:
            until_ns = wake_ns(clock, sample_us)
            sleeps.append((clock.now_ns() + WORK_NS, until_ns))
            return until_ns

        def busy_until_ns(clock: VirtualClock, sample_us: int) -> int:
            reports = bool(sleeps) and clock.now_ns() == sleeps[-1][1] and len(sleeps) not in worked
            worked.add(len(sleeps))
            return clock.now_ns() + (WORK_NS if reports or not sleeps else 0)

        worked: set[int] = set()
        patched.setattr(VirtualClock, "wake_ns", slept)
        patched.setattr(VirtualClock, "busy_until_ns", busy_until_ns)
        yield sleeps


def committed(monkeypatch: pytest.MonkeyPatch, seed: int, after: DamonAttrs) -> Observation:
    """Observe half_rate; commit ``after`` amid an aggregation."""
    request = Kdamond(DamonCtx("fvaddr", attrs=ATTRS))
    with (
        working(monkeypatch) as sleeps,
        live(ReferenceBackend("7.3"), [load.load("half_rate")], [request], seed, cover="regions") as run,
    ):
        run.record(0.537)
        run.commit_attrs(after)
        run.record(1.3)
    return replace(run.seen_of(1), sleeps=tuple(sleeps))


def hits(observation: Observation) -> float:
    """Return the mean accesses of the half used set."""
    low, high = observation.layout["warm"]
    counts = []
    for snap in observation.recording.snapshots:
        part = np.minimum(snap.end, high).astype(np.int64) - np.maximum(snap.start, low).astype(np.int64)
        counts.append(float((np.maximum(part, 0) * snap.nr_accesses).sum()) / (high - low))
    return float(np.mean(counts))


@pytest.mark.parametrize(
    "after",
    [replace(ATTRS, max_nr_regions=20), replace(ATTRS, sample_us=10_000), replace(ATTRS, aggr_us=150_000)],
)
def test_replicas_sleep_when_the_recorded_kdamond_slept(
    monkeypatch: pytest.MonkeyPatch, after: DamonAttrs
) -> None:
    """Through a commit, too: the same sleeps, so reports at the same times to the nanosecond."""
    observation = committed(monkeypatch, 1, after)
    recorded = [s.time_ns for s in observation.recording.snapshots]
    for run in replicas(observation, [1, 2]):
        times = [s.time_ns for s in run.snapshots]
        # The recording may have ended between the last sample of an aggregation and its report.
        assert times[: len(recorded)] == recorded
        assert len(times) <= len(recorded) + 1


def test_steps_go_through_a_commit_amid_an_aggregation(monkeypatch: pytest.MonkeyPatch) -> None:
    """The aggregation has the samples before the commit and all samples of the new request."""
    observation = committed(monkeypatch, 1, replace(ATTRS, aggr_us=150_000))
    assert observation.committed is not None
    steps = steps_through(observation)
    reports = [i for i, step in enumerate(steps) if step.reported_ns is not None]
    between = [b - a for a, b in pairwise([-1, *reports])]
    whole = observation.committed.whole.of_target(0)
    assert [steps[i].reported_ns for i in reports] == [s.time_ns for s in whole]
    at = served_ns(observation.committed, observation.committed.commits[1], observation.sleeps)
    before = sum(whole[2].time_ns < to <= at for _, to in observation.sleeps)
    assert between[:3] == [20, 20, 20], between
    assert between[3] == before + 30, between
    assert 0 < before < 20
    assert set(between[4:]) == {30}


def test_lost_sleeps_around_a_commit_are_spread_evenly(monkeypatch: pytest.MonkeyPatch) -> None:
    observation = committed(monkeypatch, 1, replace(ATTRS, aggr_us=150_000))
    assert observation.committed is not None
    at = served_ns(observation.committed, observation.committed.commits[1], observation.sleeps)
    few = [s for s in observation.sleeps if not at + 20 * MS < s[0] < at + 60 * MS]
    spread = steps_through(replace(observation, sleeps=tuple(few)))
    assert len(spread) == len(steps_through(observation))
    for run in replicas(replace(observation, sleeps=tuple(few)), [1]):
        times = np.array([s.time_ns for s in run.snapshots])
        assert (times == [s.time_ns for s in observation.recording.snapshots]).all()


def test_replicas_of_commits_see_as_little_as_the_recorded_kdamond(monkeypatch: pytest.MonkeyPatch) -> None:
    """It does not watch for 3 ms of every 8; replicas at its pace only would count more."""
    after = replace(ATTRS, max_nr_regions=20)
    observation = committed(monkeypatch, 1, after)
    others = [hits(committed(monkeypatch, seed, after)) for seed in range(2, 10)]
    exact = [hits(replace(observation, recording=run)) for run in replicas(observation, list(range(8)))]
    at_pace = [
        hits(replace(observation, recording=run))
        for run in replicas(replace(observation, sleeps=()), list(range(8)))
    ]
    assert np.mean(exact) == pytest.approx(np.mean(others), rel=0.05)
    assert np.mean(at_pace) > 1.1 * np.mean(others)


def test_replicas_with_schemes_sleep_when_the_recorded_kdamond_slept(monkeypatch: pytest.MonkeyPatch) -> None:
    ctx = DamonCtx("fvaddr", attrs=ATTRS, schemes=(STAT,))
    with working(monkeypatch) as sleeps:
        observation = observe(
            Experiment(load.load("half_rate"), ctx, 1_000 * MS, "regions"), ReferenceBackend("7.3"), 1
        )
    observation = replace(observation, sleeps=tuple(sleeps))
    assert [s.time_ns for s in replica(observation, 3).snapshots] == [
        s.time_ns for s in observation.recording.snapshots
    ]


def test_without_traced_sleeps_work_takes_no_time(monkeypatch: pytest.MonkeyPatch) -> None:
    observation = committed(monkeypatch, 1, replace(ATTRS, max_nr_regions=20))
    assert timetable(observation).work_ns is not None
    assert timetable(replace(observation, sleeps=())).work_ns is None
