# SPDX-License-Identifier: GPL-2.0
"""refresh_ms: results that keep themselves up to date."""

import pytest

from damon_tests.damon.params import ANY, DamonAttrs, DamonCtx, DamonIntervalsGoal, Damos, Kdamond
from damon_tests.judge.verdict import Measurement
from damon_tests.ports import NSEC_PER_SEC

pytestmark = pytest.mark.needs("ops.fvaddr", "kdamond.refresh_ms", "schemes.stat")

CTX = DamonCtx(
    "fvaddr", attrs=DamonAttrs(min_nr_regions=10, max_nr_regions=50), schemes=(Damos("stat", ANY),)
)


def tried(run, kdamond_idx=0):
    """nr_tried as it stands in the tree, without asking for an update."""
    return run.client.stats(kdamond_idx, 0, update=False).nr_tried


def test_statistics_refresh_themselves(live, expect):
    """With refresh_ms statistics grow in the tree without a command; without it they never change."""
    with live("idle", Kdamond(CTX, refresh_ms=100), cover="regions", source="none") as run:
        first = run.session.record(30 * NSEC_PER_SEC, until=lambda: tried(run) > 0)
        now = tried(run)
        again = run.session.record(30 * NSEC_PER_SEC, until=lambda: tried(run) > now)
    m = Measurement("refreshes seen", float(first) + float(again), "count")
    expect.equal(m, 2, because="§5.7: every 100 ms")
    with live("idle", CTX, cover="regions", source="none") as run:
        run.record(1)
        silent = tried(run)
    expect.equal(Measurement("nr_tried without refresh", silent, "count"), 0, because="I69: only by command")


@pytest.mark.needs("attrs.intervals_goal")
def test_tuned_intervals_refresh_themselves(live, expect):
    """Tuned intervals appear in sample_us by themselves, too."""
    goal = DamonIntervalsGoal(access_bp=400, aggrs=2, min_sample_us=5_000, max_sample_us=40_000)
    attrs = DamonAttrs(aggr_us=50_000, intervals_goal=goal, min_nr_regions=10, max_nr_regions=50)
    ctx = DamonCtx("fvaddr", attrs=attrs, schemes=(Damos("stat", ANY),))
    with live("idle", Kdamond(ctx, refresh_ms=100), cover="regions", source="none") as run:
        longer = run.session.record(
            30 * NSEC_PER_SEC,
            until=lambda: run.client.tuned_intervals(0, update=False)[0] == goal.max_sample_us,
        )
    m = Measurement("tuned to the longest interval", float(longer), "count")
    expect.equal(m, 1, because="§5.7; nothing is accessed, so intervals grow to max_sample_us")


@pytest.mark.profile("full")
@pytest.mark.known_defect(
    name="kdamonds share one refresh deadline",
    evidence="specification 8.3, 28; shown by this test on 6.18.15",
    levels=("6.18",),
    kernels_only=True,
)
def test_each_kdamond_has_its_own_timer(live, expect):
    """A kdamond that refreshes rarely does not keep another from refreshing often."""
    often, rarely = Kdamond(CTX, refresh_ms=100), Kdamond(CTX, refresh_ms=3_600_000)
    with live("idle", [often, rarely], cover="regions", source="none") as run:
        run.record(1)
        begin = tried(run)
        refreshed = run.session.record(10 * NSEC_PER_SEC, until=lambda: tried(run) > begin)
    m = Measurement("refreshes of the frequent one", float(refreshed), "count")
    expect.equal(m, 1, because="§5.7: one deadline for each kdamond (since 7.3)")


@pytest.mark.profile("full")
def test_nobody_refreshes_instead_of_another(live, expect):
    """A kdamond that refreshes often does not use up the turns of one that refreshes less often."""
    often, seldom = Kdamond(CTX, refresh_ms=100), Kdamond(CTX, refresh_ms=500)
    with live("idle", [often, seldom], cover="regions", source="none") as run:
        run.record(1)
        begin = tried(run, 1)
        refreshed = run.session.record(10 * NSEC_PER_SEC, until=lambda: tried(run, 1) > begin)
    m = Measurement("refreshes of the less frequent one", float(refreshed), "count")
    expect.equal(m, 1, because="§5.7: every 500 ms of its own (since 7.3)")
