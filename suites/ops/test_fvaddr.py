# SPDX-License-Identifier: GPL-2.0
"""fvaddr: fixed ranges of processes, several of them, whatever their mappings do."""

from dataclasses import replace

import pytest

from damon_tests.damon.params import DamonAttrs, DamonCtx, DamonTarget
from damon_tests.judge.monitoring.driven import invariants
from damon_tests.judge.verdict import Measurement

pytestmark = pytest.mark.needs("ops.fvaddr", "damon_aggregated")

ATTRS = DamonAttrs(update_us=200_000, min_nr_regions=10, max_nr_regions=100)
FVADDR = DamonCtx("fvaddr", attrs=ATTRS)


def test_ranges_are_fixed(live, expect):
    """Exactly the given ranges are watched, however often mappings would be read again."""
    with live("idle", FVADDR, cover="regions") as run:
        run.record(1.5)
    expect.add(invariants(run))


def test_several_ranges_with_holes(live, expect):
    """Ranges apart from each other are never joined; unaligned bounds are rounded outwards."""
    with live("hot_cold", FVADDR, cover="regions") as run:
        (start, _) = run.target.layout["data"]
        mib = 1 << 20
        ranges = (
            (start + 100, start + 5 * mib),
            (start + 8 * mib, start + 8 * mib + 1),
            (start + 15 * mib, start + 40 * mib),
        )
        run.commit(replace(run.ctx, targets=(DamonTarget(run.target.pid, ranges),)))
        run.record(1.5)
    expect.add(invariants(run))


def test_no_range_at_all(live, expect):
    """A living target without ranges is nothing to watch: the kdamond runs and reports nothing."""
    with live("idle", FVADDR) as run:
        run.record(1)
        running = run.session.running()
    reports = len(run.recording().snapshots)
    expect.equal(Measurement("kdamonds that run", float(running), "count"), 1, because="its target lives")
    expect.equal(Measurement("reports of no memory", reports, "count"), 0, because="§3: fvaddr finds none")


def test_targets_are_told_apart(live, expect):
    """Three processes at once: each is reported under its own index, by its own truth."""
    patterns = ["idle", "everything_hot", "hot_cold"]
    with live(patterns, FVADDR, cover="regions") as run:
        run.record(2, aggregations=10)
    expect.add(invariants(run))
    hottest = [
        max(int(s.nr_accesses.max()) for s in run.recording().of_target(i)[5:]) for i in range(len(patterns))
    ]
    m = Measurement("hottest region of the idle process", hottest[0], "samples")
    expect.equal(m, 0, because="nobody touched its memory", kind="closed form")
    for i in (1, 2):
        m = Measurement(f"hottest region of {patterns[i]}", hottest[i], "samples")
        expect.at_least(m, 1, because="it touches memory in every sampling interval", kind="closed form")
