# SPDX-License-Identifier: GPL-2.0
"""refresh_ms: the kdamond updates results by itself, without commands."""

import pytest

from damon_tests.damon.params import ANY, DamonAttrs, DamonCtx, DamonIntervalsGoal, Damos, Kdamond
from damon_tests.judge.verdict import Measurement
from damon_tests.ports import NSEC_PER_SEC

pytestmark = pytest.mark.needs("ops.fvaddr", "kdamond.refresh_ms", "schemes.stat")

CTX = DamonCtx(
    "fvaddr", attrs=DamonAttrs(min_nr_regions=10, max_nr_regions=50), schemes=(Damos("stat", ANY),)
)


def tried(run, kdamond_idx=0):
    """Return nr_tried as it stands in the tree, without asking for an update."""
    return run.client.stats(kdamond_idx, 0, update=False).nr_tried


def test_refresh_updates_statistics(live, expect):
    """With refresh_ms statistics in the tree grow without a command; without it they never change."""
    with live("idle", Kdamond(CTX, refresh_ms=100), cover="regions", source="none") as run:
        first = run.session.record(30 * NSEC_PER_SEC, until=lambda: tried(run) > 0)
        now = tried(run)
        again = run.session.record(30 * NSEC_PER_SEC, until=lambda: tried(run) > now)
    m = Measurement("refreshes seen", float(first) + float(again), "count")
    expect.equal(m, 2, because="statistics are updated every 100 ms (§5.7)")
    with live("idle", CTX, cover="regions", source="none") as run:
        run.record(1)
        silent = tried(run)
    expect.equal(
        Measurement("nr_tried without refresh", silent, "count"),
        0,
        because="without refresh_ms only a command updates statistics (I69)",
    )


@pytest.mark.needs("attrs.intervals_goal")
def test_refresh_updates_tuned_intervals(live, expect):
    """With refresh_ms the tuned interval appears in sample_us without a command."""
    goal = DamonIntervalsGoal(access_bp=400, aggrs=2, min_sample_us=5_000, max_sample_us=40_000)
    attrs = DamonAttrs(aggr_us=50_000, intervals_goal=goal, min_nr_regions=10, max_nr_regions=50)
    ctx = DamonCtx("fvaddr", attrs=attrs, schemes=(Damos("stat", ANY),))
    with live("idle", Kdamond(ctx, refresh_ms=100), cover="regions", source="none") as run:
        longer = run.session.record(
            30 * NSEC_PER_SEC,
            until=lambda: run.client.tuned_intervals(0, update=False)[0] == goal.max_sample_us,
        )
    m = Measurement("tuned to the longest interval", float(longer), "count")
    expect.equal(
        m,
        1,
        because="nothing is accessed, so that intervals grow to max_sample_us, which is shown (§5.7)",
    )


def grows(run):
    """Return whether the counters of the first kdamond are refreshed within ten seconds."""
    begin = tried(run)
    return run.session.record(10 * NSEC_PER_SEC, until=lambda: tried(run) > begin)


@pytest.mark.profile("full")
@pytest.mark.known_defect("shared-refresh-deadline")
def test_slow_refresh_does_not_delay_fast_one(live, expect):
    """A kdamond that refreshes once an hour does not keep another one from refreshing every 100 ms."""
    often, rarely = Kdamond(CTX, refresh_ms=100), Kdamond(CTX, refresh_ms=3_600_000)
    for name, kdamonds in (
        ("refreshes of the only one", [often]),
        ("refreshes of the frequent one", [often, rarely]),
    ):
        with live("idle", kdamonds, cover="regions", source="none") as run:
            run.record(1)
            refreshed = grows(run)
        m = Measurement(name, float(refreshed), "count")
        expect.equal(m, 1, because="each kdamond has its own refresh deadline (§5.7)")


@pytest.mark.profile("full")
def test_fast_refresh_does_not_starve_slow_one(live, expect):
    """A kdamond that refreshes every 100 ms does not use up the turns of one that refreshes every 500 ms."""
    often, seldom = Kdamond(CTX, refresh_ms=100), Kdamond(CTX, refresh_ms=500)
    with live("idle", [often, seldom], cover="regions", source="none") as run:
        run.record(1)
        begin = tried(run, 1)
        refreshed = run.session.record(10 * NSEC_PER_SEC, until=lambda: tried(run, 1) > begin)
    m = Measurement("refreshes of the less frequent one", float(refreshed), "count")
    expect.equal(m, 1, because="each kdamond refreshes at its own interval, here 500 ms (§5.7)")
