# SPDX-License-Identifier: GPL-2.0
"""Pausing: everything stands still, requests are served, and it goes on as if nothing had been."""

import errno
from dataclasses import replace

import pytest

from damon_tests.damon.params import ANY, DamonAttrs, DamonCtx, Damos
from damon_tests.judge.verdict import Measurement
from damon_tests.ports import TreeError

pytestmark = pytest.mark.needs("ops.fvaddr", "ctx.pause", "damon_aggregated")

CTX = DamonCtx(
    "fvaddr", attrs=DamonAttrs(min_nr_regions=10, max_nr_regions=100), schemes=(Damos("stat", ANY),)
)


def test_everything_stands_still(live, expect):
    """While paused nothing is sampled, aggregated or tried; ages go on from where they were."""
    with live("idle", CTX, cover="regions", source="events") as run:
        run.record(1)
        run.session.pause()
        paused_ns = run.clock.now_ns()
        first = run.client.stats(0, 0)
        run.record(1)
        second = run.client.stats(0, 0)
        try:
            run.client.command(0, "update_schemes_tried_regions")
            answer = "0"
        except TreeError as error:
            answer = error.errno_name
        resumed_ns = run.clock.now_ns()
        run.session.pause(False)
        run.record(1, aggregations=1)
    snaps = run.recording().snapshots
    meanwhile = [s for s in snaps if paused_ns < s.time_ns <= resumed_ns]
    expect.equal(Measurement("aggregations while paused", len(meanwhile), "count"), 0, because="I37")
    m = Measurement("regions tried while paused", second.nr_tried - first.nr_tried, "count")
    expect.equal(m, 0, because="I37: statistics are frozen, and still told")
    wrong = [] if answer == errno.errorcode[errno.ECANCELED] else [answer]
    expect.nothing("answers of tried_regions while paused", wrong, because="§5.4: nothing will be tried")
    before = [s for s in snaps if s.time_ns <= paused_ns]
    after = [s for s in snaps if s.time_ns > resumed_ns]
    m = Measurement("aggregations after resuming", len(after), "count")
    expect.at_least(m, 1, because="it was resumed a second ago")
    if before and after:
        m = Measurement(
            "age lost or won by the pause", float(after[0].age.max()) - float(before[-1].age.max()), "count"
        )
        expect.equal(m, 1, because="I37: ages count aggregations, and there was none", kind="closed form")


def test_starting_paused(live, expect):
    """A request that is paused from the beginning starts, and monitors nothing until it is resumed."""
    with live("idle", replace(CTX, pause=True), cover="regions", source="events") as run:
        run.record(0.7)
        early = len(run.session.recording().snapshots)
        running = run.session.running()
        run.session.pause(False)
        run.record(0.7, aggregations=1)
        late = len(run.session.recording().snapshots)
    expect.equal(
        Measurement("kdamonds that run", float(running), "count"), 1, because="pausing is not stopping"
    )
    expect.equal(Measurement("aggregations while paused", early, "count"), 0, because="I37")
    expect.at_least(Measurement("aggregations after resuming", late, "count"), 1, because="it was resumed")
