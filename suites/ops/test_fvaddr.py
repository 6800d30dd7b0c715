# SPDX-License-Identifier: GPL-2.0
"""fvaddr: fixed ranges of one or more processes, whatever their mappings do."""

from dataclasses import replace

import pytest

from damon_tests.damon.params import DamonAttrs, DamonCtx, DamonTarget
from damon_tests.judge.monitoring.aggregation_windows import settled
from damon_tests.judge.verdict import Measurement
from damon_tests.ports import NSEC_PER_SEC
from damon_tests.scenario.invariants import invariants

pytestmark = pytest.mark.needs("ops.fvaddr", "damon_aggregated")

ATTRS = DamonAttrs(update_us=200_000, min_nr_regions=10, max_nr_regions=100)
FVADDR = DamonCtx("fvaddr", attrs=ATTRS)


def test_given_ranges_never_change(live, expect):
    """Exactly the given ranges are monitored, through many update intervals."""
    with live("idle", FVADDR, cover="regions") as run:
        run.record(1.5)
    expect.add(invariants(run))


def test_ranges_with_holes_are_never_joined(live, expect):
    """Ranges with holes between them are never joined, and unaligned bounds are rounded outwards."""
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


def test_target_without_ranges_is_not_reported(live, expect):
    """A kdamond whose living target has no ranges runs, and reports nothing."""
    with live("idle", FVADDR) as run:
        run.record(1)
        running = run.session.running()
    reports = len(run.recording().snapshots)
    expect.equal(Measurement("kdamonds that run", float(running), "count"), 1, because="its target lives")
    expect.equal(
        Measurement("snapshots", reports, "count"),
        0,
        because="fvaddr has no memory but the given ranges (§3)",
    )


def test_each_target_is_reported_by_its_own_accesses(live, expect):
    """Of three processes each is reported under its own index, by its own accesses."""
    patterns = ["idle", "everything_hot", "hot_cold"]
    with live(patterns, FVADDR, cover="regions") as run:
        run.record(2, aggregations=10)
    expect.add(invariants(run))
    # Before, accessed bits that were set before monitoring began may show.
    after_ns = run.recording().started_ns + NSEC_PER_SEC // 2
    hottest = [
        max(int(w.snapshot.nr_accesses.max()) for w in settled(run.recording(), after_ns, target_idx=i))
        for i in range(len(patterns))
    ]
    m = Measurement("hottest region of the idle process", hottest[0], "samples")
    expect.equal(m, 0, because="nobody touched the memory of this process", kind="closed form")
    for i in (1, 2):
        m = Measurement(f"hottest region of {patterns[i]}", hottest[i], "samples")
        expect.at_least(
            m, 1, because="the process touches memory in every sampling interval", kind="closed form"
        )
