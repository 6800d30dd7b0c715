# SPDX-License-Identifier: GPL-2.0
"""What only a long life shows: what many starts and stops leave behind, and an hour of monitoring."""

from dataclasses import replace
from itertools import pairwise

import pytest

from damon_tests.damon.params import ANY, DamonAttrs, DamonCtx, Damos, DamosFilter, DamosQuota, Kdamond
from damon_tests.judge.monitoring.aggregation_windows import windows
from damon_tests.judge.verdict import Measurement
from damon_tests.kernel.guest.topology import Topology
from damon_tests.patterns.spec import Pattern, PatternRegion, Phase
from damon_tests.ports import NSEC_PER_MSEC, NSEC_PER_SEC, NSEC_PER_USEC, page_size
from damon_tests.scenario.invariants import invariants
from damon_tests.scenario.target_end import end_target_and_damon

pytestmark = [pytest.mark.profile("full"), pytest.mark.needs("ops.fvaddr", "commands.commit", "schemes.stat")]

MIB = 1 << 20
HOUR_S = 3600


def still(size_bytes):
    """Memory that nobody touches, in small pages: khugepaged, given time, would touch it itself."""
    data = PatternRegion("data", size_bytes, hugepage=False)
    return Pattern("still", "idle for an hour", (data,), (Phase("steady", 24 * HOUR_S * NSEC_PER_SEC, ()),))


# --- many lives ------------------------------------------------------------------------------

WARM_UP, LIVES = 10, 150
"""Half of them is more than what a processor may still have collected (60)."""

GRACE_NS = 500 * NSEC_PER_MSEC
LAZY = frozenset({"vmap_area"})
"""Stacks of threads that ended are unmapped many at once, whenever there are enough of them."""

LONG_PATH = "/" + "x" * 1500
"""A size of its own among what kernels allocate."""

ATTRS = DamonAttrs(sample_us=1_000, aggr_us=5_000, min_nr_regions=10, max_nr_regions=50)
FILTERS = (
    DamosFilter("anon"),
    DamosFilter("memcg", memcg_path="/"),
    DamosFilter("addr", addr_end=page_size()),
)
LIVED = DamonCtx(
    "vaddr",
    attrs=ATTRS,
    schemes=(Damos("stat", ANY), Damos("stat", ANY, filters=FILTERS, quota=DamosQuota(bytes=MIB))),
)


def live_once(run, number):
    """Start a process, monitor it, commit, run commands; let it exit before or after DAMON is turned off."""
    target = run.subject.start_target(still(MIB), number)
    watched = replace(run.ctx, targets=run.covering(target, cover="process"))
    plain = replace(watched, schemes=(replace(LIVED.schemes[1], filters=()),))
    path = run.client.scheme_path(0, 1, "filters", 1, "memcg_path")
    run.client.restage([Kdamond(watched)])
    for text in (LONG_PATH, "/"):
        run.subject.tree.write(path, text)
    run.client.command(0, "on")
    for ctx in (watched, plain, watched):
        run.client.restage([Kdamond(ctx)])
        run.client.command(0, "commit")
    for word in ("update_schemes_stats", "update_schemes_tried_regions", "clear_schemes_tried_regions"):
        run.client.command(0, word)
    end_target_and_damon(run, target, target_first=bool(number % 2))


def objects(run, first, last):
    """Return the kernel's allocated objects by cache after this many more lives."""
    for number in range(first, last):
        live_once(run, number)
    # Since 7.0 a processor collects up to 60 objects that are to be freed after a grace period, and they
    # count as in use: the first look makes it give them back.
    run.clock.run_for(GRACE_NS)
    run.subject.kernel_objects()
    run.clock.run_for(GRACE_NS)
    return run.subject.kernel_objects()


@pytest.mark.needs("ops.vaddr")
def test_many_starts_and_stops_leak_nothing(live, expect):
    """Many starts and stops of kdamonds and their targets leave no kernel objects behind (§8.3: 2, 8, 19)."""
    apart = Topology(cmdline=("slab_nomerge",))
    with live(still(MIB), LIVED, source="none", topology=apart) as run:
        run.client.command(0, "off")
        before = objects(run, 0, WARM_UP)
        after = objects(run, WARM_UP, WARM_UP + LIVES)
    grown = {name: after[name] - before.get(name, 0) for name in after if name not in LAZY}
    left = [f"{name}: {more} more" for name, more in grown.items() if more >= LIVES // 2]
    # One object a life would be as many as lives; nothing else that goes on is in step with them.
    expect.nothing(
        "caches that grew with each life", left, because="a kdamond frees what it allocated when it ends"
    )
    m = Measurement("most objects left", max(grown.values()), "objects", tuple(map(float, grown.values())))
    expect.at_most(m, LIVES // 2 - 1, because="an object leaked at each stop would be as many as lives")


# --- an hour ---------------------------------------------------------------------------------

SLOW = DamonAttrs(sample_us=500_000, aggr_us=10_000_000, min_nr_regions=10, max_nr_regions=20)
WINDOW_S = 60
"""Six passes: a charge window begins with the first pass that is due after it."""


def test_monitoring_goes_on_for_an_hour(live, expect):
    """For an hour every aggregation of idle memory comes in time, ages count them, and quotas reset each
    minute.

    Kernels start counting ticks five minutes before 2^32, so that a window that is compared in too few bits
    never ends, or always has ended, after the first five minutes.
    """
    quota = DamosQuota(bytes=MIB, reset_interval_ms=WINDOW_S * 1000)
    ctx = DamonCtx("fvaddr", attrs=SLOW, schemes=(Damos("stat", ANY, quota=quota),))
    with live(still(8 * MIB), ctx, cover="regions", source="events") as run:
        for _ in range(6):
            run.clock.run_for(HOUR_S // 6 * NSEC_PER_SEC)
            run.session.record(NSEC_PER_SEC)
        stats = run.client.stats(0, 0)
    expect.add(invariants(run))
    snaps = [w.snapshot for w in windows(run.recording())]
    gaps = [(b.time_ns - a.time_ns) / NSEC_PER_USEC for a, b in pairwise(snaps)]
    m = Measurement("longest aggregation", max(gaps), "µs", tuple(gaps))
    # Each of the 20 sleeps may take two ticks (§2.11) of at most 10 ms more, a twenty-fifth of it.
    expect.at_most(
        m, SLOW.aggr_us * 26 / 25, because="on an idle machine a sleep is late by ticks only (§2.11)"
    )
    lost = [f"{a.age.max()} then {b.age.max()}" for a, b in pairwise(snaps) if b.age.max() != a.age.max() + 1]
    expect.nothing(
        "ages that did not grow by one",
        lost,
        because="nobody touches this memory",
        kind="closed form",
        judged=len(snaps) - 1,
    )
    over = len(snaps) * 10 // WINDOW_S
    m = Measurement("windows in which the quota was exceeded", stats.qt_exceeds, "count")
    # A window of 60 s has the six or seven passes of 10 s and some ticks that begin in it.
    expect.between(
        m,
        over * 6 // 7 - 1,
        over + 1,
        because="all memory matches, more than the quota allows in any window (I47)",
    )
