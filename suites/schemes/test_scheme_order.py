# SPDX-License-Identifier: GPL-2.0
"""Several schemes on one context are applied in order, each to memory as those before it left it."""

from dataclasses import replace

import pytest

from damon_tests.damon.params import ANY, DamonAttrs, DamonCtx, Damos
from damon_tests.judge.verdict import Measurement
from damon_tests.scenario.watched_run import (
    checks,
    passes_of,
    watched,
)

pytestmark = pytest.mark.needs(
    "ops.fvaddr",
    "schemes.stat",
    "schemes.lru_prio",
    "schemes.apply_interval_us",
    "damon_aggregated",
    "damos_before_apply",
)

ATTRS = DamonAttrs(10_000, 100_000, min_nr_regions=5, max_nr_regions=20)
WATCHER = Damos("stat", ANY, apply_interval_us=20_000)


def scheme(action="stat", interval_us=0, **bounds):
    """Return a scheme for what is within these bounds, applied at each aggregation by default."""
    return Damos(action, replace(ANY, **bounds), apply_interval_us=interval_us)


# vaddr has no lru_prio: nothing is achieved, and the age is reset all the same.
NOTHING = scheme("lru_prio", 60_000, age_min=2, nr_accesses_min=1)
ACTS = scheme("willneed", age_min=3, nr_accesses_max=0)
ORDERS = {
    "act_first": (ACTS, scheme(age_max=0), scheme(age_min=3), NOTHING, scheme(age_min=1)),
    "act_last": (scheme(age_min=1), scheme(age_min=3), NOTHING, scheme(age_max=0), ACTS),
    "act_twice": (ACTS, ACTS, scheme("willneed", age_max=0), scheme(age_max=0)),
    "act_often": (scheme("willneed", 20_000, age_min=2), scheme("stat", 20_000, age_min=2), ACTS),
}


FULL = pytest.mark.profile("full")


@pytest.mark.parametrize(
    "order",
    ["act_first", pytest.param("act_last", marks=FULL), pytest.param("act_twice", marks=FULL), "act_often"],
)
def test_schemes_see_the_ages_that_earlier_schemes_reset(live, expect, order):
    """A region that one scheme acted on has age 0 for the next scheme in the same pass, and afterwards."""
    ctx = DamonCtx("fvaddr", attrs=ATTRS, schemes=(WATCHER, *ORDERS[order]))
    with watched(live, "hot_cold", ctx) as run:
        run.record(1.3, aggregations=12)
    expect.add(checks(run))
    _acted(run, expect)


@FULL
def test_all_schemes_visit_a_target_before_the_next(live, expect):
    """With several targets all schemes go through the first one before the next."""
    ctx = DamonCtx("fvaddr", attrs=ATTRS, schemes=(WATCHER, *ORDERS["act_first"]))
    with watched(live, ["hot_cold", "idle"], ctx) as run:
        run.record(1.3, aggregations=12)
    expect.add(checks(run))
    targets = {t.target_idx for p in passes_of(run) for t in p.tries}
    expect.equal(Measurement("targets tried", len(targets), "count"), 2, because="both targets match")


def _acted(run, expect):
    """Expect that something was acted on; else nothing was tested."""
    acts = {i for i, s in enumerate(run.ctx.schemes) if s.action == "willneed"}
    count = sum(t.scheme_idx in acts for p in passes_of(run) for t in p.tries)
    expect.at_least(
        Measurement("regions acted on", count, "count"), 1, because="cold memory is old enough for the scheme"
    )
