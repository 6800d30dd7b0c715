# SPDX-License-Identifier: GPL-2.0
"""Tracepoints that are lost: counted, told, and never taken for a mistake of DAMON's."""

from dataclasses import replace

import pytest

from damon_tests.damon.params import DamonAttrs, DamonCtx
from damon_tests.damon.series import Series
from damon_tests.judge.monitoring.driven import invariants
from damon_tests.judge.verdict import Measurement
from damon_tests.ports import NSEC_PER_SEC

pytestmark = pytest.mark.needs("ops.fvaddr", "commands.commit", "damon_aggregated")

FEW = DamonAttrs(min_nr_regions=10, max_nr_regions=40)
# Thousands of events at once do not fit into a buffer for about a hundred, however fast it is read.
MANY = replace(FEW, min_nr_regions=2_000, max_nr_regions=8_000)
BUFFER_KIB = 8


def test_losses_are_counted_and_what_is_whole_is_right(live, expect, backend):
    """More regions for a while than the trace buffer holds: that time is lost, the rest is judged as ever."""
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
    expect.at_least(m, 1, because="thousands of events do not fit into 8 KiB, or nothing was tested")
    snaps = recording.snapshots
    cut = sum(not s.complete for s in snaps)
    expect.at_least(Measurement("incomplete snapshots", cut, "count"), 1, because="what was lost is told")
    covered = sum(end - start for start, end in run.target.layout.values())
    wrong = [
        f"{len(s)} of {s.nr_regions} regions, {int(s.sizes.sum())} bytes"
        for s in snaps
        if s.complete and (len(s) != s.nr_regions or int(s.sizes.sum()) != covered)
    ]
    why = f"what is called complete has every region, {covered} bytes"
    expect.nothing("complete snapshots with something missing", wrong, because=why)
    expect.add(invariants(run))  # with holes none of them accuses anybody


def _whole_ones_since(run, time_ns):
    """How many complete snapshots have arrived that are later."""
    return sum(s.complete and s.time_ns > time_ns for s in run.session.recording().snapshots)


def test_nothing_is_lost_in_a_large_buffer(live, expect):
    """The same many regions with the usual buffer: every event arrives."""
    with live("idle", DamonCtx("fvaddr", attrs=MANY), cover="regions") as run:
        run.session.record(60 * NSEC_PER_SEC, until=lambda: _whole_ones_since(run, 0) > 3)
    recording = run.recording()
    expect.equal(
        Measurement("lost events", recording.lost_events, "events"), 0, because="the buffer is large"
    )
    cut = [str(s.time_ns) for s in recording.snapshots if not s.complete]
    expect.nothing("incomplete snapshots", cut, because="nothing was lost")
    expect.add(invariants(run))
