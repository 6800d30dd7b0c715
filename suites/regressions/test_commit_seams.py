# SPDX-License-Identifier: GPL-2.0
"""Commits of touching ranges: a region across the seam of two keeps its results in both (§8.3, 33)."""

from dataclasses import replace
from itertools import pairwise

import pytest

from damon_tests.damon.params import DamonAttrs, DamonCtx, DamonTarget
from damon_tests.judge.verdict import Check, Measurement
from damon_tests.ports import page_size
from damon_tests.scenario.invariants import invariants

PAGE = page_size()
RANGES = 40
# Idle memory merges into 3 to 6 regions, so that most of the ranges lie within one of them.
FVADDR = DamonCtx("fvaddr", attrs=DamonAttrs(min_nr_regions=3, max_nr_regions=100))


@pytest.mark.known_defect("commit-forgets-across-seam")
@pytest.mark.needs("ops.fvaddr", "commands.commit", "damon_aggregated")
def test_ranges_within_one_region_keep_its_age(live, expect):
    """Committing many touching ranges in place of the one that they make up loses no age."""
    with live("idle", FVADDR, cover="regions") as run:
        start, end = run.target.layout["data"]
        run.record(1.5)
        seams = [start + (end - start) * i // RANGES // PAGE * PAGE for i in range(RANGES)]
        ranges = tuple(pairwise([*seams, end]))
        run.commit(replace(run.ctx, targets=(DamonTarget(run.target.pid, ranges),)))
        run.record(0.7, aggregations=3)
    expect.add(invariants(run))
    (commit,) = run.commits[1:]
    snaps = run.recording().snapshots
    before = [s for s in snaps if s.time_ns < commit.begin_ns][-1]
    after = next(s for s in snaps if s.time_ns > commit.end_ns)
    within = sum(
        any(s <= a and b <= e for s, e in zip(before.start, before.end, strict=True)) for a, b in ranges
    )
    m = Measurement("ranges within one region", within, "ranges")
    expect.add(
        Check("invariant", m, ">= 1", "a region across a seam; else nothing is tested", within >= 1 or None)
    )
    # Nobody touches this memory, so that all of it is of one age.
    m = Measurement("youngest region after the commit", float(after.age.min()), "aggregations")
    why = "the monitored memory stays the same, so that regions keep their ages (I63)"
    expect.at_least(m, float(before.age.min()) + 1, because=why, kind="closed form")
