# SPDX-License-Identifier: GPL-2.0
"""Replicas of runs with online commits, and of physical memory."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from two_samples import ks_test

from damon_tests.damon.params import DamonAttrs, DamonCtx, Kdamond
from damon_tests.experiment.experiment import Experiment, observe
from damon_tests.experiment.live import live
from damon_tests.experiment.observation import Observation
from damon_tests.experiment.physical_view import as_virtual
from damon_tests.experiment.reference_backend import ReferenceBackend
from damon_tests.experiment.replica import replica, replicas
from damon_tests.patterns import load
from damon_tests.ports import NSEC_PER_SEC, NotSupported

ATTRS = DamonAttrs(max_nr_regions=100)


def committed(seed: int, after: DamonAttrs) -> Observation:
    request = Kdamond(DamonCtx("fvaddr", attrs=ATTRS))
    with live(ReferenceBackend("7.3"), [load.load("hot_cold")], [request], seed, cover="regions") as run:
        run.record(0.537)
        run.commit_attrs(after)
        run.record(0.9)
    return run.seen_of(1)


def hits(seen_of: Observation) -> float:
    last = seen_of.recording.snapshots[-1]
    return float((last.sizes * last.nr_accesses).sum())


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
    assert (
        ks_test([hits(replace(seen, recording=r)) for r in runs], [hits(o) for o in others], seed=1) > 0.001
    )


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
    seen = [hits(view) for view in views]
    assert ks_test([hits(replace(first, recording=r)) for r in runs], seen, seed=1) > 0.001


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
