# SPDX-License-Identifier: GPL-2.0
"""Pausing: a paused kdamond samples nothing, serves requests, and continues where it stopped."""

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


def test_paused_kdamond_samples_nothing(live, expect):
    """A paused kdamond samples, aggregates and applies nothing; on
    resume ages continue from where they were."""
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
    expect.equal(
        Measurement("aggregations while paused", len(meanwhile), "count"),
        0,
        because="a paused kdamond aggregates nothing (I37)",
    )
    m = Measurement("regions tried while paused", second.nr_tried - first.nr_tried, "count")
    expect.equal(m, 0, because="a paused kdamond applies no scheme, and still reports its statistics (I37)")
    wrong = [] if answer == errno.errorcode[errno.ECANCELED] else [answer]
    expect.nothing(
        "answers of tried_regions while paused",
        wrong,
        because="the command is cancelled, because no scheme will be applied (§5.4)",
    )
    before = [s for s in snaps if s.time_ns <= paused_ns]
    after = [s for s in snaps if s.time_ns > resumed_ns]
    m = Measurement("aggregations after resuming", len(after), "count")
    expect.at_least(m, 1, because="the kdamond was resumed a second ago, ten aggregations")
    if before and after:
        m = Measurement(
            "change of age over the pause", float(after[0].age.max()) - float(before[-1].age.max()), "count"
        )
        expect.equal(
            m, 1, because="ages count aggregations, and there was none while paused (I37)", kind="closed form"
        )


def test_paused_start_monitors_after_resume(live, expect):
    """A kdamond that is turned on paused runs, and monitors nothing until it is resumed."""
    with live("idle", replace(CTX, pause=True), cover="regions", source="events") as run:
        run.record(0.7)
        early = len(run.session.recording().snapshots)
        running = run.session.running()
        run.session.pause(False)
        run.record(0.7, aggregations=1)
        late = len(run.session.recording().snapshots)
    expect.equal(
        Measurement("kdamonds that run", float(running), "count"),
        1,
        because="a paused kdamond is not stopped (I37)",
    )
    expect.equal(
        Measurement("aggregations while paused", early, "count"),
        0,
        because="a paused kdamond aggregates nothing (I37)",
    )
    expect.at_least(
        Measurement("aggregations after resuming", late, "count"), 1, because="the kdamond was resumed"
    )
