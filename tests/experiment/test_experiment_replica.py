# SPDX-License-Identifier: GPL-2.0
"""Replicas of an observed run have its pace, stalls, commits and truth, and follow the clean rules."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from two_samples import ks_test

from damon_tests.damon.params import DamonAttrs, DamonCtx, Kdamond
from damon_tests.damon.records import Recording
from damon_tests.experiment.experiment import Experiment, derive_seed, observe
from damon_tests.experiment.live import live
from damon_tests.experiment.observation import Observation
from damon_tests.experiment.physical_view import as_virtual
from damon_tests.experiment.reference_backend import ReferenceBackend
from damon_tests.experiment.replica import replica, replicas
from damon_tests.experiment.sampling_pace import _steps, _within_aggregation
from damon_tests.patterns import load
from damon_tests.ports import NSEC_PER_MSEC, NSEC_PER_SEC, NotSupported

ATTRS = DamonAttrs(max_nr_regions=100)


@pytest.fixture(scope="module")
def seen() -> Observation:
    experiment = Experiment(load.load("hot_cold"), DamonCtx("fvaddr", attrs=ATTRS), NSEC_PER_SEC, "regions")
    return observe(experiment, ReferenceBackend("7.3"), seed=5)


def slowed(observation: Observation, aggr_ns: int) -> Observation:
    """Return the observation as if every aggregation had taken ``aggr_ns``."""
    start = observation.recording.started_ns
    snapshots = tuple(
        replace(s, time_ns=start + (i + 1) * aggr_ns) for i, s in enumerate(observation.recording.snapshots)
    )
    stop = start + (len(snapshots) + 1) * aggr_ns
    return replace(
        observation, recording=replace(observation.recording, snapshots=snapshots, stopped_ns=stop)
    )


def hits(run: Recording) -> float:
    last = run.snapshots[-1]
    return float((last.sizes * last.nr_accesses).sum())


def test_seeds_differ_by_every_part_and_are_stable() -> None:
    seeds = {
        derive_seed(run, test, attempt, role)
        for run in (1, 2)
        for test in ("a", "b")
        for attempt in (1, 2)
        for role in ("target", "subject")
    }
    assert len(seeds) == 16
    assert derive_seed(1, "a", 1, "target") == derive_seed(1, "a", 1, "target") < 1 << 63


def test_same_seed_same_observation(seen: Observation) -> None:
    experiment = Experiment(seen.pattern, DamonCtx("fvaddr", attrs=ATTRS), NSEC_PER_SEC, "regions")
    again = observe(experiment, ReferenceBackend("7.3"), seed=5)
    other = observe(experiment, ReferenceBackend("7.3"), seed=6)

    def report(o: Observation) -> list[list[int]]:
        return [[*s.start.tolist(), *s.nr_accesses.tolist()] for s in o.recording.snapshots]

    assert report(again) == report(seen)
    assert report(other) != report(seen)


def test_replica_keeps_the_recorded_pace(seen: Observation) -> None:
    """If a machine needs 130 ms for an aggregation of 100 ms, its replicas do, too."""
    slow = slowed(seen, 130 * NSEC_PER_MSEC)
    times = np.array([s.time_ns for s in replica(slow, seed=1).snapshots])
    wanted = np.array([s.time_ns for s in slow.recording.snapshots])
    n = min(len(times), len(wanted))
    assert n >= len(wanted) - 1
    assert np.abs(times[:n] - wanted[:n]).max() <= 100  # rounding of 20 steps, in ns


def test_replica_covers_the_same_memory(seen: Observation) -> None:
    snapshot = replica(seen, seed=1).snapshots[0]
    assert (snapshot.start[0], snapshot.end[-1]) == seen.layout["data"]


def test_replicas_at_once_are_like_single_ones(seen: Observation) -> None:
    """The batched runs have the same times and coverage, and as many accesses and regions on average."""
    many = replicas(seen, list(range(40)))
    single = [replica(seen, seed) for seed in range(40)]
    assert [s.time_ns for s in many[0].snapshots] == [s.time_ns for s in single[0].snapshots]
    assert many[0].snapshots[0].start[0] == single[0].snapshots[0].start[0]

    for of in (hits, lambda run: len(run.snapshots[-1])):
        assert ks_test([of(r) for r in many], [of(r) for r in single], seed=1) > 0.001
    assert len({hits(r) for r in many}) > 5, "replicas must differ"


def test_replicas_follow_the_seeds(seen: Observation) -> None:
    def starts(seeds: list[int]) -> list[list[int]]:
        return [r.snapshots[-1].start.tolist() for r in replicas(seen, seeds)]

    assert starts([1, 2]) == starts([1, 2]) != starts([1, 3])


def committed(seed: int, after: DamonAttrs) -> Observation:
    request = Kdamond(DamonCtx("fvaddr", attrs=ATTRS))
    with live(ReferenceBackend("7.3"), [load.load("hot_cold")], [request], seed, cover="regions") as run:
        run.record(0.537)
        run.commit_attrs(after)
        run.record(0.9)
    return run.seen_of(1)


@pytest.mark.parametrize(
    "after",
    [replace(ATTRS, max_nr_regions=20), replace(ATTRS, sample_us=10_000), replace(ATTRS, aggr_us=150_000)],
)
def test_replicas_go_through_the_same_commits(after: DamonAttrs) -> None:
    """Aggregations come at the same times, with the same distribution of access counts."""
    seen = committed(1, after)
    runs = replicas(seen, list(range(12)))
    wanted = np.array([s.time_ns for s in seen.recording.snapshots])
    for run in runs:
        times = np.array([s.time_ns for s in run.snapshots])
        assert len(times) == len(wanted)
        assert np.abs(times - wanted).max() <= 1000  # rounding of steps
        assert (run.sample_us, run.aggr_us) == (after.sample_us, after.aggr_us)
    others = [committed(seed, after) for seed in range(2, 14)]
    assert ks_test([hits(r) for r in runs], [hits(o.recording) for o in others], seed=1) > 0.001


@pytest.mark.parametrize("addr_unit", [1, 4096])
def test_replicas_of_physical_memory_agree_with_the_observed_run(addr_unit: int) -> None:
    ctx = DamonCtx("paddr", addr_unit=addr_unit, attrs=ATTRS)
    experiment = Experiment(load.load("hot_cold"), ctx, NSEC_PER_SEC, "regions")
    views = [as_virtual(observe(experiment, ReferenceBackend("7.3"), seed)) for seed in range(12)]
    first = views[0]
    assert sum(end - start for start, end in first.layout.values()) == 64 << 20
    assert int(first.recording.snapshots[0].sizes.sum()) == 64 << 20
    runs = replicas(first, list(range(12)))
    assert [s.time_ns for s in runs[0].snapshots] == [s.time_ns for s in first.recording.snapshots]
    assert ks_test([hits(r) for r in runs], [hits(view.recording) for view in views], seed=1) > 0.001


@pytest.mark.parametrize(("addr_unit", "most_pages"), [(1, 205), (4096, 204)])
def test_replicas_round_in_units_of_the_kdamond(addr_unit: int, most_pages: int) -> None:
    """Of 2,048 pages with min_nr_regions 10, a region has at most 8 MiB / 10, rounded up to pages; in units
    of a page at most 2,048 / 10 pages, rounded down."""
    ctx = DamonCtx("paddr", addr_unit=addr_unit, attrs=ATTRS)
    experiment = Experiment(load.load("everything_hot"), ctx, NSEC_PER_SEC, "regions")
    view = as_virtual(observe(experiment, ReferenceBackend("7.3"), 1))
    for recording in (view.recording, *replicas(view, [1, 2]), replica(view, 3)):
        assert int(recording.snapshots[0].sizes.sum()) == 2048 * 4096
        assert {int(s.sizes.max()) for s in recording.snapshots} == {most_pages * 4096}


def test_units_larger_than_a_page_are_not_supported() -> None:
    ctx = DamonCtx("paddr", addr_unit=16384, attrs=ATTRS)
    seen = observe(Experiment(load.load("idle"), ctx, NSEC_PER_SEC // 2), ReferenceBackend("7.3"), 1)
    with pytest.raises(NotSupported, match="16384"):
        as_virtual(seen)


def test_steps_are_spread_evenly_without_stalls() -> None:
    assert _within_aggregation(0, 100, [], 20, 5.0) == [(100.0, 20.0)]


def test_extra_time_goes_into_the_stall() -> None:
    """100 ns of 20 steps with a stall of 50 ns: outside the stall, steps take their usual 5 ns."""
    points = dict(_within_aggregation(0, 150, [(40, 90)], 20, 5.0))
    assert points[40.0] == pytest.approx(8, rel=0.01)
    assert points[90.0] == pytest.approx(8, rel=0.03)
    assert points[150.0] == 20.0


def test_a_stall_of_the_target_alone_does_not_bend_time() -> None:
    """An aggregation that took no longer than usual shows that the sampling thread did not stall."""
    assert _within_aggregation(0, 100, [(40, 90)], 20, 5.0) == [(100.0, 20.0)]


@pytest.mark.parametrize("stalls", [(), ((10**9 + 20_000_000, 10**9 + 60_000_000),) * 2])
def test_polygon_ascends(seen: Observation, stalls: tuple[tuple[int, int], ...]) -> None:
    slow = replace(slowed(seen, 140 * NSEC_PER_MSEC), disturbances=stalls)
    points = np.array(_steps(slow))
    assert (np.diff(points, axis=0) > 0).all()
    assert points[-1, 1] == 20 * len(slow.recording.snapshots)
