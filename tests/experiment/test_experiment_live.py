# SPDX-License-Identifier: GPL-2.0
"""Runs that a test body drives: their parts, their end, their ages."""

from dataclasses import replace

import numpy as np
import pytest

from damon_tests.damon.params import DamonAttrs, DamonCtx, Kdamond
from damon_tests.experiment.live import live
from damon_tests.experiment.reference_backend import ReferenceBackend
from damon_tests.judge.monitoring.merged_ages import merged_ages
from damon_tests.patterns import load
from damon_tests.scenario.invariants import invariants

ATTRS = DamonAttrs(min_nr_regions=10, max_nr_regions=50)
CTX = DamonCtx("fvaddr", attrs=ATTRS)


def drive(change=None):
    """Monitor an idle target for a second, change the request, and monitor for another second."""
    with live(ReferenceBackend("7.3"), [load.load("idle")], [Kdamond(CTX)], 1, cover="regions") as run:
        run.record(1)
        if change is not None:
            run.commit_attrs(change)
            run.record(1)
    return run


def test_a_run_without_changes_is_one_part() -> None:
    run = drive()
    (part,) = run.parts()
    assert part.from_start
    assert part.recording.snapshots == run.recording().snapshots
    assert run.observation is not None


def test_parts_have_their_own_request_and_no_mixed_aggregation() -> None:
    changed = replace(ATTRS, aggr_us=200_000)
    run = drive(changed)
    first, second = run.parts()
    assert (first.recording.aggr_us, second.recording.aggr_us) == (100_000, 200_000)
    assert not second.from_start
    assert all(s.time_ns > run.commits[1].end_ns for s in second.recording.snapshots)
    left_out = (
        len(run.recording().snapshots) - len(first.recording.snapshots) - len(second.recording.snapshots)
    )
    assert left_out == 1
    assert all(check.holds for check in invariants(run))


def test_targets_end_with_the_run() -> None:
    run = drive()
    assert not run.target.alive


@pytest.mark.parametrize(("age", "right"), [(7, True), (10, False), (1, False)])
def test_age_of_merged_idle_memory_is_checked_against_the_mean(age, right) -> None:
    run = drive()
    start, end = run.target.layout["data"]
    middle = (start + end) // 2
    first, second = run.recording().snapshots[:2]
    two = replace(first, **_regions([start, middle], [middle, end], [3, 9]))
    merged = replace(second, **_regions([start], [end], [age]))
    recording = replace(run.recording(), snapshots=(two, merged))
    (check,) = merged_ages(recording, run.ctx, "7.3", run.target.truth())
    assert check.holds is right


def _regions(start, end, age):
    u64, u32 = np.uint64, np.uint32
    return {
        "start": np.array(start, u64),
        "end": np.array(end, u64),
        "age": np.array(age, u32),
        "nr_accesses": np.zeros(len(start), u32),
        "nr_regions": len(start),
    }
