# SPDX-License-Identifier: GPL-2.0
"""Access patterns: a scheme is tried on exactly the regions of its sizes, access rates and ages."""

from dataclasses import replace

import pytest

from damon_tests.damon.params import ANY, U64_MAX, DamonAttrs, DamonCtx, Damos
from damon_tests.judge.schemes import watched_passes
from damon_tests.judge.verdict import Measurement
from damon_tests.ports import page_size
from damon_tests.scenario.watched_run import (
    checks,
    passes_of,
    watched,
)

pytestmark = pytest.mark.needs(
    "ops.fvaddr", "schemes.stat", "schemes.apply_interval_us", "damon_aggregated", "damos_before_apply"
)

MIB = 1 << 20
ATTRS = DamonAttrs(min_nr_regions=10, max_nr_regions=30)
WATCHER = Damos("stat", ANY)


def stat(**bounds):
    """Return a scheme that only counts what is within these bounds."""
    return Damos("stat", replace(ANY, **bounds))


# hot_cold is 64 MiB: its first regions are ten of 6.4 MiB, rounded up to a page, since 7.1, one before.
FIRST = -(-64 * MIB // 10 // page_size()) * page_size()
SIZES = (
    stat(sz_min=FIRST, sz_max=FIRST),
    stat(sz_min=FIRST + 1),
    stat(sz_max=FIRST - 1),
    stat(sz_min=64 * MIB, sz_max=64 * MIB),
    stat(sz_min=64 * MIB + 1),
    stat(sz_max=64 * MIB - 1),
    stat(sz_min=FIRST, sz_max=FIRST - 1),
    stat(sz_min=1 << 63),
)
RATES = (
    stat(nr_accesses_max=0),
    stat(nr_accesses_min=1),
    stat(nr_accesses_min=20),
    stat(nr_accesses_max=19),
    stat(nr_accesses_min=1, nr_accesses_max=19),
    stat(nr_accesses_min=21),
    stat(nr_accesses_min=20, nr_accesses_max=0),
)
AGES = (
    stat(age_max=0),
    stat(age_min=1),
    stat(age_min=3, age_max=3),
    stat(age_min=4, age_max=7),
    stat(age_min=7, age_max=4),
    stat(age_min=1000),
)
# sysfs keeps 64 bits of each bound; for access rates and ages the core keeps 32 of them.
WIDE = (
    stat(nr_accesses_max=1 << 32),
    stat(nr_accesses_max=(1 << 32) + 19),
    stat(nr_accesses_min=(1 << 32) + 1),
    stat(age_max=1 << 32),
    stat(age_min=(1 << 32) + 2, age_max=U64_MAX),
    stat(age_min=(7 << 32) + 3, age_max=(9 << 32) + 5),
    stat(sz_min=(1 << 32) + FIRST),
)
ALL_THREE = (
    stat(nr_accesses_max=0, age_min=2, sz_max=FIRST - 1),
    stat(nr_accesses_min=20, age_min=2, sz_min=page_size()),
    stat(nr_accesses_max=0, age_max=5, sz_min=MIB),
    stat(),
)


FULL = pytest.mark.profile("full")


@pytest.mark.parametrize(
    ("schemes", "edges"),
    [
        pytest.param((*SIZES, *RATES, *AGES), ("size", "nr_accesses", "age"), id="each"),
        pytest.param(WIDE, ("nr_accesses", "age"), id="wider_than_32_bits"),
        pytest.param(ALL_THREE, ("age",), id="all_three", marks=FULL),
    ],
)
def test_exactly_the_matching_regions_are_tried(live, expect, schemes, edges):
    """At each aggregation every scheme is tried on the regions within its bounds, and on no other."""
    ctx = DamonCtx("fvaddr", attrs=ATTRS, schemes=(WATCHER, *schemes))
    with watched(live, "hot_cold", ctx) as run:
        run.record(1.2, aggregations=11)
    passes = passes_of(run)
    expect.add(watched_passes.edges_met(passes, run.ctx.schemes, edges))
    expect.add(checks(run))


@pytest.mark.needs("commands.commit")
def test_committed_pattern_holds_from_the_next_pass(live, expect):
    """A committed access pattern decides from the next pass on, whatever was tried before."""
    nothing = stat(nr_accesses_min=21)
    ctx = DamonCtx("fvaddr", attrs=ATTRS, schemes=(WATCHER, stat(), nothing))
    with watched(live, "idle", ctx) as run:
        run.record(0.4, aggregations=3)
        run.commit(replace(run.ctx, schemes=(WATCHER, nothing, stat(sz_min=1))))
        run.record(0.5, aggregations=4)
    passes, commit = passes_of(run), run.commits[1]
    since = [p for p in passes if p.time_ns > commit.end_ns]
    tries = [sum(t.scheme_idx == i for p in since for t in p.tries) for i in range(3)]
    expect.add(watched_passes.tried_as_asked([p for p in passes if p.time_ns < commit.begin_ns], ctx))
    expect.at_least(
        Measurement("passes since", len(since), "count"), 1, because="four aggregations were recorded"
    )
    m = Measurement("tries since of a scheme that matches nothing now", tries[1], "count")
    expect.equal(m, 0, because="a commit gives each scheme the pattern of its index (§5.6)")
    m = Measurement("tries since of a scheme that matches everything now", tries[2], "count")
    expect.equal(
        m, tries[0], because="it matches everything since the commit, as the first scheme does (§5.6)"
    )


@FULL
@pytest.mark.needs("ops.paddr")
def test_patterns_match_physical_memory_alike(live, expect):
    """Access patterns match regions of physical memory by the same rules."""
    ctx = DamonCtx("paddr", attrs=ATTRS, schemes=(WATCHER, *RATES, *AGES))
    with watched(live, "hot_cold", ctx, cover="process") as run:
        run.record(1.2, aggregations=8)
    expect.add(checks(run))


@FULL
@pytest.mark.needs("ops.paddr", "ctx.addr_unit")
def test_sizes_are_in_address_units(live, expect):
    """With an address unit of 8 bytes, sizes of regions and their bounds count units."""
    megabytes = [stat(sz_min=n * MIB // 8, sz_max=2 * n * MIB // 8 - 1) for n in (1, 2, 4, 8, 16, 32, 64)]
    ctx = DamonCtx("paddr", addr_unit=8, attrs=ATTRS, schemes=(WATCHER, *megabytes))
    with watched(live, "idle", ctx, cover="process") as run:
        run.record(1.2, aggregations=8)
        memory = sum((end - start) // 8 for start, end in run.subject.ram_ranges())
    passes = passes_of(run)
    expect.add(checks(run))
    all_units = sum(v.region.end - v.region.start for v in passes[0].visits)
    # Ranges are rounded outwards to pages.
    units_per_page = page_size() // 8
    m = Measurement("units watched", all_units, "address units")
    expect.between(
        m, memory, memory + 2 * units_per_page * 16, because="all RAM is monitored, in address units (§3.7)"
    )
