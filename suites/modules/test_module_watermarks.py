# SPDX-License-Identifier: GPL-2.0
"""Watermarks of DAMON_RECLAIM and DAMON_LRU_SORT: when they work, and when they stop by themselves.

Processes take and return memory to move the share of free memory. Whether a module works is read from what it
tries: its parameters let it try something in each aggregation.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import replace

import pytest

from damon_tests.damon.module_params import DamonLruSort, DamonReclaim
from damon_tests.judge.schemes.watermarks import MARGIN_PERMIL, Stretch, states_hold
from damon_tests.judge.verdict import Measurement
from damon_tests.kernel.guest.topology import Topology
from damon_tests.ports import huge_page_size
from damon_tests.scenario.free_memory import FreeMemory, held
from damon_tests.workload.pages import bytes_of

pytestmark = pytest.mark.needs("damos_before_apply", "damon_aggregated")
NOT_INERT = pytest.mark.spoiled_by("reclaim-inert")
full = pytest.mark.profile("full")

MIB = 1 << 20
# The reference with larger pages has a larger machine, too.
HOG_MIB = max(128, 4 * huge_page_size() >> 20)
INTERVAL_US, AGGR_US = 50_000, 50_000
SETTLE_S = 0.3
"""Several looks at the watermarks, and an aggregation."""
WATCH_S = 1
LONG_S = 60

# Both try all that they watch, again and again, and change nothing of it: it is anonymous, and active.
RECLAIM = DamonReclaim(min_age=0, quota_ms=0, quota_sz=0, skip_anon=True, aggr_interval=AGGR_US)
LRU_SORT = DamonLruSort(hot_thres_access_freq=0, cold_min_age=0, quota_ms=0, aggr_interval=AGGR_US)
MODULES = [
    pytest.param(
        RECLAIM, marks=[pytest.mark.needs("modules.damon_reclaim", swap_mib=512), NOT_INERT], id="reclaim"
    ),
    pytest.param(LRU_SORT, marks=pytest.mark.needs("modules.damon_lru_sort"), id="lru_sort"),
]


def marked(parameters, marks):
    """Return the same parameters with these watermarks."""
    return replace(
        parameters,
        wmarks_interval=marks.interval_us,
        wmarks_high=marks.high,
        wmarks_mid=marks.mid,
        wmarks_low=marks.low,
    )


@contextmanager
def watched(module, parameters, pattern, hog_mib=HOG_MIB, **options):
    """Run a module, not yet enabled, with its free memory."""
    with module(parameters, pattern, **options) as run:
        free = FreeMemory(run.subject, run.run_for, hog_mib)
        try:
            yield run, free
        finally:
            free.take(0)


def tried_since(run, since_ns, schemes):
    """Return which of the schemes were tried since then."""
    return [any(e.time_ns > since_ns for e in run.tried(index)) for index in range(schemes)]


def walk(run, free, steps, schemes):
    """Return the stretches of a walk over amounts of held memory, and which schemes worked in each."""
    stretches = []
    for step in steps:
        free.take(step)
        run.run_for(SETTLE_S)
        first, since_ns = free.now(), run.clock.now_ns()
        run.until(lambda since_ns=since_ns: all(tried_since(run, since_ns, schemes)), WATCH_S)
        works = tried_since(run, since_ns, schemes)
        stretches.append((Stretch.between(first, free.now()), works))
    return stretches


@pytest.mark.parametrize("parameters", MODULES)
def test_module_activates_below_mid_and_stops_above_high_or_below_low(module, expect, parameters):
    """A module stops above high and below low, starts below mid, and keeps its state between mid and high."""
    schemes = 2 if parameters is LRU_SORT else 1
    with watched(module, parameters, held(2)) as (run, free):
        marks = free.marks(0.5, 1.5, 2.5, INTERVAL_US)
        run.session.stage(marked(run.session.parameters, marks))
        run.enable()
        walked = walk(run, free, [0, 1, 2, 1, 0, 2, 3, 2], schemes)
        run.disable()
    for index in range(schemes):
        states = [(stretch, works[index]) for stretch, works in walked]
        expect.add(states_hold(f"scheme {index}", states, marks))


@full
@pytest.mark.parametrize("parameters", MODULES)
def test_module_is_active_after_enable_and_after_commit(module, expect, parameters):
    """Between mid and high a module is active when it is enabled, and again after commit_inputs."""
    schemes = 2 if parameters is LRU_SORT else 1
    with watched(module, parameters, held(2)) as (run, free):
        free.take(1)
        marks = free.marks(0.5, 1.5, 99, INTERVAL_US)
        run.session.stage(marked(run.session.parameters, marks))
        run.enable()
        first = walk(run, free, [1, 0, 1], schemes)
        run.commit(min_nr_regions=11)
        committed = walk(run, free, [1, 0, 1], schemes)
        run.disable()
        run.enable()
        again = walk(run, free, [1], schemes)
        run.disable()
    for index in range(schemes):
        for name, walked in (("turned on", first), ("committed", committed), ("turned on again", again)):
            states = [(stretch, works[index]) for stretch, works in walked]
            expect.add(states_hold(f"scheme {index}, {name}", states, marks))


# Pages of a process may be anywhere in memory: on a small machine a round through all takes few passes.
SMALL = Topology(memory_mib=256, swap_zram_mib=160)
QUOTA = 8 * MIB


@NOT_INERT
@pytest.mark.needs("modules.damon_reclaim")
def test_reclaim_stops_at_its_own_high_mark(module, expect):
    """DAMON_RECLAIM stops when its own reclaim has freed more than high, and starts again below mid."""
    asked = replace(RECLAIM, skip_anon=False, quota_sz=QUOTA, quota_reset_interval_ms=0, min_nr_regions=100)
    with watched(module, asked, "idle", hog_mib=32, topology=SMALL) as (run, free):
        # 16 MiB more shall be free, 8 would do, and it starts at once.
        marks = free.marks(-0.5, -0.25, 99, INTERVAL_US)
        run.session.stage(marked(run.session.parameters, marks))
        run.enable()
        works = run.until(lambda: bool(run.tried()), LONG_S / 3)
        reached = run.until(lambda: free.now() > marks.high, LONG_S if works else WATCH_S)
        run.run_for(SETTLE_S)
        stopped_ns, at_rest, out = run.clock.now_ns(), free.now(), gone(run)
        run.run_for(WATCH_S)
        after_rest, still_out = tried_since(run, stopped_ns, 1)[0], gone(run)
        free.take(1)
        begun = run.until(lambda: gone(run) > still_out, LONG_S if reached else WATCH_S)
        run.disable()
        total = run.memory_info().total
    m = Measurement("high mark reached", reached, "count")
    expect.equal(
        m, 1, because=f"64 MiB of idle memory can be reclaimed; {free.first} of 1000 were free, {marks}"
    )
    m = Measurement("free memory beyond the high mark", at_rest - marks.high, "per mille")
    # The pass that crosses the mark goes on to its end.
    most = QUOTA * 1000 / total + 1 + MARGIN_PERMIL
    expect.at_most(m, most, because=f"it checks before each pass, and a pass takes {QUOTA} bytes")
    m = Measurement("regions tried while enough is free", after_rest, "count")
    expect.equal(m, 0, because="above high the module sleeps (I59)")
    expect.equal(
        Measurement("bytes taken meanwhile", still_out - out, "bytes"),
        0,
        because="a module that sleeps reclaims nothing",
    )
    expect.equal(
        Measurement("begun again", begun, "count"), 1, because="32 MiB less are free, which is below mid"
    )


def gone(run):
    """Return the bytes of the target that are not in memory."""
    return bytes_of(~run.pages("data").present)
