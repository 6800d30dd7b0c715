# SPDX-License-Identifier: GPL-2.0
"""Where regions are cut after an aggregation: at a random tenth, each as likely."""

import pytest

from damon_tests.damon.params import ANY, DamonAttrs, DamonCtx, Damos
from damon_tests.judge.schemes.split_points import evenly_cut
from damon_tests.scenario.invariants import invariants
from damon_tests.scenario.watched_run import passes_of, watched

pytestmark = pytest.mark.needs(
    "ops.fvaddr", "schemes.stat", "schemes.apply_interval_us", "damon_aggregated", "damos_before_apply"
)

ALPHA = 1e-6
"""Probability that a correct DAMON fails the test."""
ATTRS = DamonAttrs(10_000, 100_000, min_nr_regions=20, max_nr_regions=100)
WATCHER = Damos("stat", ANY, apply_interval_us=50_000)


def test_regions_are_cut_at_every_tenth_alike(live, expect):
    """Each of the nine tenths of a region is drawn alike, and regions are cut nowhere else (I15).

    A scheme that is applied twice in an aggregation sees regions before and after the cut.
    """
    with watched(live, "idle", DamonCtx("fvaddr", attrs=ATTRS, schemes=(WATCHER,))) as run:
        run.record(3.5, aggregations=30)
    expect.add(invariants(run))
    expect.add(evenly_cut(passes_of(run), ALPHA))
