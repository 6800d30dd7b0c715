# SPDX-License-Identifier: GPL-2.0
"""Lost trace events are counted and reported, and never taken for a mistake of DAMON."""

from dataclasses import replace

import pytest

from damon_tests.damon.params import DamonAttrs, DamonCtx
from damon_tests.damon.series import Series
from damon_tests.judge.verdict import Measurement
from damon_tests.ports import NSEC_PER_SEC
from damon_tests.scenario.invariants import invariants

pytestmark = pytest.mark.needs("ops.fvaddr", "commands.commit", "damon_aggregated")

FEW = DamonAttrs(min_nr_regions=10, max_nr_regions=40)
# Thousands of events at once do not fit into a buffer for about a hundred, however fast it is read.
MANY = replace(FEW, min_nr_regions=2_000, max_nr_regions=8_000)
BUFFER_KIB = 8


def test_losses_are_counted_and_complete_snapshots_are_right(live, expect, backend):
    """Snapshots that the trace buffer could not hold are marked
    incomplete; the others are judged as usual."""
    # Before 7.1 minimums do not split: regions become many one aggregation after the other, and stay it.
    strict = Series.of(backend.level).enforces_min_nr_regions
    ctx = DamonCtx("fvaddr", attrs=FEW if strict else MANY)
    with live("idle", ctx, cover="regions", trace_buffer_kib=BUFFER_KIB) as run:
        if strict:
            run.record(1)
            run.commit_attrs(MANY)
        run.session.record(60 * NSEC_PER_SEC, until=lambda: run.session.recording().lost_events > 0)
        if strict:
            run.commit_attrs(FEW)
            after_ns = run.commits[-1].end_ns
            run.session.record(60 * NSEC_PER_SEC, until=lambda: _whole_ones_since(run, after_ns) > 3)
    recording = run.recording()
    m = Measurement("lost events", recording.lost_events, "events")
    expect.at_least(
        m, 1, because="thousands of events do not fit into 8 KiB; without loss nothing was tested"
    )
    snaps = recording.snapshots
    cut = sum(not s.complete for s in snaps)
    expect.at_least(
        Measurement("incomplete snapshots", cut, "count"),
        1,
        because="a snapshot that lost events is marked incomplete",
    )
    covered = sum(end - start for start, end in run.target.layout.values())
    wrong = [
        f"{len(s)} of {s.nr_regions} regions, {int(s.sizes.sum())} bytes"
        for s in snaps
        if s.complete and (len(s) != s.nr_regions or int(s.sizes.sum()) != covered)
    ]
    why = f"a complete snapshot has every region, {covered} bytes"
    expect.nothing("complete snapshots with something missing", wrong, because=why, judged=len(snaps) - cut)
    expect.add(invariants(run))  # incomplete snapshots accuse nobody


def _whole_ones_since(run, time_ns):
    """How many complete snapshots have arrived that are later."""
    return sum(s.complete and s.time_ns > time_ns for s in run.session.recording().snapshots)


def test_nothing_is_lost_in_a_large_buffer(live, expect):
    """The same number of regions with the default trace buffer: every event arrives."""
    with live("idle", DamonCtx("fvaddr", attrs=MANY), cover="regions") as run:
        run.session.record(60 * NSEC_PER_SEC, until=lambda: _whole_ones_since(run, 0) > 3)
    recording = run.recording()
    expect.equal(
        Measurement("lost events", recording.lost_events, "events"),
        0,
        because="the default buffer holds all events",
    )
    cut = [str(s.time_ns) for s in recording.snapshots if not s.complete]
    expect.nothing("incomplete snapshots", cut, because="no event was lost")
    expect.add(invariants(run))
