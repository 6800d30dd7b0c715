# SPDX-License-Identifier: GPL-2.0
"""nr_snapshots counts the passes of a scheme, and max_nr_snapshots limits them."""

from dataclasses import replace

import pytest

from damon_tests.damon.params import ANY, DamonAttrs, DamonCtx, Damos
from damon_tests.judge.schemes.stats import stats_after_passes
from damon_tests.judge.verdict import Measurement
from damon_tests.scenario.watched_run import (
    checks,
    passes_of,
    watched,
)

pytestmark = pytest.mark.needs(
    "ops.fvaddr",
    "schemes.max_nr_snapshots",
    "stats.nr_snapshots",
    "damon_aggregated",
    "damos_before_apply",
    "damos_stat_after_apply_interval",
)

ATTRS = DamonAttrs(10_000, 100_000, min_nr_regions=5, max_nr_regions=15)
WATCHER = Damos("stat", ANY, apply_interval_us=50_000)


def limited(limit, action="stat", interval_us=0, pattern=ANY):
    """Return a scheme that is limited to this number of passes."""
    return Damos(action, pattern, apply_interval_us=interval_us, max_nr_snapshots=limit)


SCHEMES = (
    WATCHER,
    limited(1),
    limited(5, interval_us=50_000),
    limited(3, "willneed", 50_000, replace(ANY, nr_accesses_max=0)),
    limited(4, pattern=replace(ANY, nr_accesses_min=200)),  # passes count that try nothing
    limited(1000),
    Damos("stat", ANY),
)


@pytest.mark.parametrize(
    "patterns", [["idle"], pytest.param(["idle", "hot_cold"], marks=pytest.mark.profile("full"))], ids=len
)
def test_passes_are_counted_and_limited(live, expect, patterns):
    """A scheme is applied until its passes, counted for each target, reach max_nr_snapshots."""
    ctx = DamonCtx("fvaddr", attrs=ATTRS, schemes=SCHEMES)
    with watched(live, patterns, ctx) as run:
        run.record(0.9, aggregations=9)
        counts = [run.client.stats(0, i).nr_snapshots for i in range(len(SCHEMES))]
        run.record(0.1)
    expect.add(checks(run))
    for i, scheme in enumerate(SCHEMES):
        if 0 < scheme.max_nr_snapshots < 1000:
            m = Measurement(f"nr_snapshots of scheme {i}", counts[i], "count")
            expect.equal(
                m,
                scheme.max_nr_snapshots,
                because="a scheme stops at its limit, and there were 9 passes or more (I55)",
            )


@pytest.mark.profile("full")
@pytest.mark.needs("commands.commit")
def test_committed_limit_holds_at_once(live, expect):
    """A higher limit lets a scheme continue where it stopped, a
    lower one stops it, and 0 lets it continue."""
    ctx = DamonCtx("fvaddr", attrs=ATTRS, schemes=(WATCHER, limited(2, interval_us=50_000)))
    counts = []
    with watched(live, "idle", ctx) as run:
        for limit in (2, 5, 3):
            if limit != 2:
                run.commit(replace(run.ctx, schemes=(WATCHER, limited(limit, interval_us=50_000))))
            run.record(0.4, aggregations=3)
            counts.append(run.client.stats(0, 1).nr_snapshots)
        run.commit(replace(run.ctx, schemes=(WATCHER, limited(0, interval_us=50_000))))
        run.record(0.4, aggregations=3)
        counts.append(run.client.stats(0, 1).nr_snapshots)
    expect.add(stats_after_passes(passes_of(run), run.ctx, run.level))
    for count, wanted, why in zip(
        counts,
        (2, 5, 5),
        ("a scheme stops at its limit", "a higher limit allows 3 more", "a lower limit stops it"),
        strict=False,
    ):
        expect.equal(Measurement("nr_snapshots", count, "count"), wanted, because=f"{why} (§4.12)")
    m = Measurement("nr_snapshots without a limit", counts[-1], "count")
    expect.at_least(m, 6, because="a limit of 0 means none (§4.12)")
