# SPDX-License-Identifier: GPL-2.0
"""DAMON_RECLAIM on a machine without enough memory for all, where the kernel reclaims by itself.

All processes together need about as much memory as the machine has, which is more than is free: on a real
machine some of it must go to swap. A simulated machine has nothing else in its memory, and is just full.
"""

from __future__ import annotations

import pytest

from damon_tests.damon.module_params import DamonReclaim
from damon_tests.judge.modules import schemes as module_schemes
from damon_tests.judge.schemes.watermarks import MARGIN_PERMIL
from damon_tests.judge.verdict import Check, Measurement
from damon_tests.kernel.guest.topology import Topology
from damon_tests.patterns.spec import Access, Action, Pattern, PatternRegion, Phase
from damon_tests.ports import NSEC_PER_SEC
from damon_tests.ports.numbers import number
from damon_tests.workload.pages import bytes_of

pytestmark = [
    pytest.mark.needs("modules.damon_reclaim", "damos_before_apply", "damon_aggregated"),
    pytest.mark.spoiled_by("reclaim-inert"),
]

MIB = 1 << 20
SMALL = Topology(memory_mib=256, swap_zram_mib=160)
HOT = 4 * MIB
LOW = 150
"""Of 1000, must be free, or it is left to the kernel; wmarks_low is 200 by default."""
FULL = 0.95
QUOTA, RESET_MS = 8 * MIB, 200
WATCH_S = 1
LONG_S = 60

ASKED = DamonReclaim(
    min_age=500_000,
    quota_ms=0,
    quota_sz=QUOTA,
    quota_reset_interval_ms=RESET_MS,
    wmarks_interval=50_000,
    wmarks_high=1000,
    wmarks_mid=999,
    wmarks_low=LOW,
    min_nr_regions=100,
)


def service(idle):
    """Return a pattern with some memory in use, and more that is idle."""
    return Pattern(
        name="service",
        reason="a service that uses little of its memory",
        regions=(PatternRegion("hot", HOT), PatternRegion("idle", idle)),
        phases=(Phase("serving", 3600 * NSEC_PER_SEC, (Access("hot", 0, HOT, period_ns=4_000_000),)),),
        repeat=True,
    )


def grower(size):
    """Return a process that maps and fills this much once it runs, whether there is room or not."""
    region = PatternRegion("data", size, populate=False, mapped_bytes=0)
    grow = Action("mmap", 0, "data", 0, size, populate=True)
    phase = Phase("grown", 3600 * NSEC_PER_SEC, (), (grow,))
    return Pattern("grower", "a process that needs more memory than is free", (region,), (phase,))


def filled(run, target):
    """Return whether all of its memory was written, and is in memory or in swap."""
    return not lost(run, target)


def lost(run, target):
    """Return the bytes that are neither in memory nor in swap."""
    states = [run.subject.pages(target, *span) for span in target.layout.values()]
    return sum(bytes_of(~state.present & ~state.swapped) for state in states)


def passes_since(run, time_ns):
    """Return in how many passes the module's scheme tried regions after ``time_ns``."""
    return len(module_schemes.passes([e for e in run.raw if e.time_ns > time_ns]))


def is_scarce(free_permil):
    """Check that so little is free that wmarks_low holds; else nothing is tested."""
    m = Measurement("free memory while it is scarce", free_permil, "per mille")
    why = "free memory is below wmarks_low; else nothing is tested"
    holds = free_permil < LOW - MARGIN_PERMIL or None
    return Check("invariant", m, f"< {number(LOW - MARGIN_PERMIL)}", why, holds)


@pytest.mark.profile("full")
def test_reclaim_sleeps_below_wmarks_low(module, subject_memory, expect):
    """Below wmarks_low DAMON_RECLAIM sleeps; with wmarks_low of 0 it
    works there, too, and no memory is lost."""
    total, free = subject_memory
    idle = free // 2 // MIB * MIB
    with module(ASKED, service(idle), watch="ram", topology=SMALL) as run:
        run.enable()
        works = run.until(lambda: bool(run.tried()), LONG_S / 3)
        patience_s = LONG_S if works else WATCH_S
        hog = run.subject.start_target(grower((int(FULL * total) - idle - HOT) // MIB * MIB), 1)
        hog.go()
        grown = run.until(lambda: filled(run, hog), LONG_S)
        run.run_for(0.3)
        first, asleep_ns = run.memory_info(), run.clock.now_ns()
        run.run_for(WATCH_S)
        second, awake_ns = run.memory_info(), run.clock.now_ns()
        _, committed_ns = run.commit(wmarks_low=0)
        run.until(lambda: passes_since(run, committed_ns) >= 5, patience_s)
        timed = run.timed_stats()
        gone = [lost(run, target) for target in (run.target, hog)]
        hog.stop()
        ended_ns = run.clock.now_ns()
        on = run.until(lambda: any(e.time_ns > ended_ns for e in run.tried()), patience_s)
        run.disable()
    tried = run.tried()
    meanwhile = [e for e in tried if asleep_ns < e.time_ns < awake_ns]
    expect.add([is_scarce(max(first.free_permil, second.free_permil))])
    expect.equal(Measurement("filled in time", grown, "count"), 1, because="the kernel reclaims to make room")
    expect.equal(Measurement("worked before", works, "count"), 1, because="more than wmarks_low was free")
    m = Measurement("regions tried while memory is scarce", len(meanwhile), "regions")
    expect.equal(m, 0, because="below wmarks_low the module sleeps (I59)")
    late = [e for e in tried if committed_ns < e.time_ns < ended_ns]
    m = Measurement("regions tried once wmarks_low is 0", len(late), "regions")
    expect.at_least(m, 5, because="wmarks_low of 0 lets it work however little is free")
    expect.equal(
        Measurement("works afterwards", on, "count"),
        1,
        because="it works again when more than wmarks_low is free",
    )
    expect.equal(
        Measurement("bytes lost", sum(gone), "bytes", tuple(map(float, gone))),
        0,
        because="reclaimed pages go to swap",
        detail=f"{first.swap_used} bytes in swap when memory was short",
    )
    ctx = module_schemes.derived(run.session.parameters, (), run.level)
    expect.add(module_schemes.as_asked("reclaim", tried, ctx.schemes[0], ctx.targets[0].regions[0]))
    applied = module_schemes.passes(run.raw)
    expect.add(module_schemes.counted("reclaim", *timed, applied))
    expect.add(module_schemes.within_quota("reclaim", applied, QUOTA, RESET_MS))


@pytest.fixture
def subject_memory(backend):
    """Return the bytes of memory that a machine has, and that are free."""
    subject = backend.subject(0, SMALL)
    try:
        info = subject.memory_info()
        return info.total, info.free
    finally:
        subject.close()
