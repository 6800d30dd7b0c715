# SPDX-License-Identifier: GPL-2.0
"""Tracepoints that are lost: counted, told, and never taken for a mistake of DAMON's."""

from dataclasses import replace

import pytest

from damon_tests.damon.params import DamonAttrs, DamonCtx
from damon_tests.judge.driven import invariants
from damon_tests.judge.verdict import Measurement

pytestmark = pytest.mark.needs("ops.fvaddr", "commands.commit", "damon_aggregated")

FEW = DamonAttrs(min_nr_regions=10, max_nr_regions=40)
# Thousands of events at once do not fit into a buffer for about a hundred, however fast it is read.
MANY = replace(FEW, min_nr_regions=2_000, max_nr_regions=8_000)
BUFFER_KIB = 8


def test_losses_are_counted_and_what_is_whole_is_right(live, expect):
    """More regions for a while than the trace buffer holds: that time is lost, the rest is judged as ever."""
    ctx = DamonCtx("fvaddr", attrs=FEW)
    with live("idle", ctx, cover="regions", trace_buffer_kib=BUFFER_KIB) as run:
        run.record(1)
        run.commit_attrs(MANY)
        run.record(1.5)
        run.commit_attrs(FEW)
        run.record(1)
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


def test_nothing_is_lost_in_a_large_buffer(live, expect):
    """The same many regions with the usual buffer: every event arrives."""
    with live("idle", DamonCtx("fvaddr", attrs=MANY), cover="regions") as run:
        run.record(1)
    recording = run.recording()
    expect.equal(
        Measurement("lost events", recording.lost_events, "events"), 0, because="the buffer is large"
    )
    cut = [str(s.time_ns) for s in recording.snapshots if not s.complete]
    expect.nothing("incomplete snapshots", cut, because="nothing was lost")
    expect.add(invariants(run))
