# SPDX-License-Identifier: GPL-2.0
"""DAMON_LRU_SORT: moves hot memory to the head of the LRU lists, cold memory to their tail.

It is measured by page flags, and so only on machines with the two classic lists: with multi-generational LRU
the flag of the active list means nothing (the guest is set up without it).
"""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from damon_tests.damon.module_params import DamonLruSort
from damon_tests.damon.trace import BeforeApplyEvent, EszEvent, TuneEvent
from damon_tests.judge.modules import schemes as module_schemes
from damon_tests.judge.schemes.time_quotas import first_throughput
from damon_tests.judge.verdict import Check, Measurement
from damon_tests.patterns.spec import Access, Pattern, PatternRegion, Phase
from damon_tests.ports import NSEC_PER_SEC, page_size
from damon_tests.scenario.module_attributes import attributes_follow_parameters

pytestmark = pytest.mark.needs(
    "modules.damon_lru_sort", "damos_before_apply", "damon_aggregated", lru_lists=1
)
full = pytest.mark.profile("full")

MIB = 1 << 20
FREE = DamonLruSort(
    cold_min_age=500_000,
    quota_ms=0,
    wmarks_interval=100_000,
    wmarks_high=1000,
    wmarks_mid=999,
    wmarks_low=0,
    min_nr_regions=100,
)
LONG_S = 60
"""What a busy emulated machine may take for what is done in a second or two otherwise."""

MOST = 0.9
"""Of a mapping that must be on the list: changes are collected in batches per CPU, and regions at its edges
may hold something else."""


# Rests long enough for the cold scheme to look at each page, and make it old; then half of the pages are
# used, so that its regions are hot.
EVERY_SECOND_PAGE = Pattern(
    name="every_second_page",
    reason="hot regions of which half of the pages are not used",
    regions=(PatternRegion("data", 8 * MIB),),
    phases=(
        Phase("rest", 3 * NSEC_PER_SEC, ()),
        Phase("half", 3600 * NSEC_PER_SEC, (Access("data", 0, 8 * MIB, stride_bytes=2 * page_size()),)),
    ),
)


CHANGED = ("hot_thres_access_freq", "cold_min_age")


def active(run, region: str) -> float:
    """Return the share of a region's pages that are on the active list."""
    return float(run.pages(region).active.mean())


def tried_after(run, commit_ns: int) -> list[list[BeforeApplyEvent]]:
    """Return what the hot and the cold scheme tried in passes that began after a commit had returned.

    Before 7.2 the commit returns before it is done: a pass with the old parameters may be under way.
    """
    schemes = [module_schemes.passes(run.raw, index) for index in (0, 1)]
    return [[e for tried in passes for e in tried if tried[0].time_ns > commit_ns] for passes in schemes]


@pytest.mark.accuracy
def test_hot_memory_becomes_active_and_cold_memory_inactive(module, expect):
    """Memory in use becomes or stays active, memory idle for
    cold_min_age becomes inactive, also after a commit."""
    everything = replace(FREE, hot_thres_access_freq=0, cold_min_age=3_600_000_000)
    with module(everything, "reclaim_me") as run:
        first = (active(run, "hot"), active(run, "cold"))
        run.enable()
        run.until(lambda: min(active(run, "hot"), active(run, "cold")) >= MOST, LONG_S, 200_000_000)
        promoted = (active(run, "hot"), active(run, "cold"))
        _, changed_ns = run.commit(**{name: getattr(FREE, name) for name in CHANGED})
        # Both at once: as long as regions have memory of both kinds, some in use is taken for cold.
        run.until(lambda: active(run, "cold") <= 1 - MOST and active(run, "hot") >= MOST, LONG_S, 200_000_000)
        # The pass under way at the commit may have done all of that: wait for one that began after it.
        run.until(lambda: all(tried_after(run, changed_ns)), LONG_S, 200_000_000)
        sorted_ = (active(run, "hot"), active(run, "cold"))
        timed = {kind: run.timed_stats(kind) for kind in ("hot", "cold")}
        run.disable()
    ctx = module_schemes.derived(run.session.parameters, (), run.level)
    for index, (kind, tried) in enumerate(zip(("hot", "cold"), tried_after(run, changed_ns), strict=True)):
        applied = module_schemes.passes(run.raw, index)
        expect.add(module_schemes.counted(kind, *timed[kind], applied))
        expect.add(module_schemes.something_tried(kind, tried))
        expect.add(module_schemes.as_asked(kind, tried, ctx.schemes[index], ctx.targets[0].regions[0]))
    m = Measurement("least active share when all is taken for hot", min(promoted), "fraction", first)
    expect.at_least(m, MOST, because="hot_thres_access_freq is 0, so that all memory is hot")
    expect.add(run.kept_schedule(FREE.cold_min_age // 2))
    if run.kept_touching(FREE.cold_min_age // 2):
        m = Measurement("active share of memory in use", sorted_[0], "fraction")
        expect.at_least(m, MOST, because="this memory is touched every 2 ms")
    m = Measurement("active share of memory at rest", sorted_[1], "fraction")
    expect.at_most(m, 1 - MOST, because="this memory was not touched for cold_min_age")
    m = Measurement("bytes counted as sorted, cold", float(timed["cold"][0].sz_applied), "bytes")
    last = sum(e.end - e.start for events in module_schemes.passes(run.raw, 1)[-1:] for e in events)
    expect.at_least(
        m,
        (promoted[1] - sorted_[1]) * 32 * MIB - last,
        because="the bytes that became inactive are counted, except the last pass's",
    )


@full
@pytest.mark.accuracy
def test_hot_threshold_excludes_less_accessed_memory(module, expect):
    """hot_thres_access_freq of 900 of 1000 excludes memory that is used in half of the samples."""
    with module(replace(FREE, hot_thres_access_freq=900), "rate_ladder") as run:
        run.enable()
        run.until(lambda: len(run.tried(0)) >= 20, LONG_S)
        run.disable()
    ctx = module_schemes.derived(run.session.parameters, (), run.level)
    least = ctx.schemes[0].access_pattern.nr_accesses_min
    m = Measurement("samples that make memory hot", float(least), "samples")
    expect.equal(m, 18, because="900 of 1000 of 20 samples are 18 (§6.2)")
    expect.add(module_schemes.something_tried("hot", run.tried(0)))
    expect.add(module_schemes.as_asked("hot", run.tried(0), ctx.schemes[0], ctx.targets[0].regions[0]))


@full
@pytest.mark.known_defect("first-window-without-quota")
def test_each_scheme_gets_half_of_the_time_quota(module, expect):
    """The two schemes share quota_ms evenly; before the first measurement 4 MiB count as one millisecond."""
    asked = replace(FREE, hot_thres_access_freq=0, quota_ms=6, quota_reset_interval_ms=10_000)
    with module(asked, "many_idle_pages") as run:
        run.enable()
        run.until(lambda: all(module_schemes.passes(run.raw, index) for index in (0, 1)), LONG_S)
        run.run_for(0.3)
    for index, kind in enumerate(("hot", "cold")):
        first = sum(e.end - e.start for events in module_schemes.passes(run.raw, index)[:1] for e in events)
        m = Measurement(f"bytes tried in the first window, {kind}", float(first), "bytes")
        expect.equal(m, 3 * first_throughput(), because="the first window is 3 ms at 1024 pages/ms (§4.4)")


@full
@pytest.mark.needs("damos_esz", "modules.damon_lru_sort.active_mem_bp")
def test_active_mem_bp_raises_the_quota_of_the_short_list(module, expect):
    """With active_mem_bp a scheme's quota grows while its LRU list is shorter than that share."""
    with module(
        replace(FREE, active_mem_bp=9_000, quota_ms=10_000, quota_reset_interval_ms=10), "hot_cold"
    ) as run:
        before = run.memory_info()
        run.enable()
        run.until(lambda: len([e for e in run.events(EszEvent) if e.scheme_idx == 0]) >= 6, LONG_S)
        after = run.memory_info()
    sizes = {i: [e.esz for e in run.events(EszEvent) if e.scheme_idx == i] for i in (0, 1)}
    shares = [10_000 * i.active // max(i.active + i.inactive, 1) for i in (before, after)]
    m = Measurement("first effective quota, hot", float(sizes[0][0] if sizes[0] else -1), "bytes")
    why = f"{shares[0]} to {shares[1]} of 10000 are active, below the goal: it grows from one byte (§4.4)"
    expect.between(m, 1, 2, because=why, detail=str(sizes[0]))
    wrong = [f"{a} to {b}" for a, b in pairwise(sizes[0]) if not a < b <= 2 * a + 1]
    expect.nothing(
        "steps of another size",
        wrong,
        because="the quota at most doubles in a window (§4.4)",
        judged=len(sizes[0]) - 1,
    )
    m = Measurement("last effective quota, cold", float(sizes[1][-1] if sizes[1] else -1), "bytes")
    expect.between(
        m, 1, 2, because="most memory is inactive already, so that the goal is overachieved (§4.4)"
    )


@full
@pytest.mark.accuracy
@pytest.mark.needs("modules.damon_lru_sort.filter_young_pages")
def test_filter_young_pages_leaves_unused_pages_inactive(module, expect):
    """With filter_young_pages, pages of a hot region that nobody uses stay inactive."""
    asked = replace(FREE, filter_young_pages=True, hot_thres_access_freq=250)
    with module(asked, EVERY_SECOND_PAGE) as run:
        run.enable()
        run.until(lambda: run.pages("data").active[::2].mean() >= MOST, LONG_S, 200_000_000)
        pages = run.pages("data")
    active_pages, old = pages.active, made_old(run, pages)
    m = Measurement("share of pages in use that are active", float(active_pages[::2].mean()), "fraction")
    expect.at_least(m, MOST, because="these pages are young, in a hot region")
    # Pages that the cold scheme did not look at in time may be young from being filled: they are left out.
    young = float((~old[1::2]).mean())
    unused = active_pages[1::2][old[1::2]]
    share = float(unused.mean()) if len(unused) else 0.0
    m = Measurement("share of unused pages that are active", share, "fraction")
    why = "unused pages are old, since the cold scheme looked at them after they were filled"
    expect.at_most(m, 1 - MOST, because=why, detail=f"{young:.1%} were not looked at")
    m = Measurement("share of unused pages that were looked at", 1 - young, "fraction")
    why = "the cold scheme had three seconds; else little is shown"
    expect.add(Check("invariant", m, ">= 0.5", why, True if young <= 0.5 else None))


def made_old(run, pages):
    """Return which pages the cold scheme was tried on before any of them was used."""
    address = pages.frame * page_size()
    used_ns = run.target.phases()[1].start_ns
    old = np.zeros(len(address), np.bool_)
    for event in run.tried(1):
        if event.time_ns < used_ns:
            old |= (address >= event.start) & (address < event.end)
    return old


@full
def test_monitoring_follows_the_interval_and_region_parameters(module, expect):
    """sample_interval, aggr_interval, min_nr_regions and max_nr_regions set the monitoring attributes."""
    attributes_follow_parameters(module, replace(FREE, cold_min_age=3_600_000_000), expect)


@full
@pytest.mark.needs("modules.damon_lru_sort.addr_unit")
@pytest.mark.known_defect("module-region-aligned-to-4096-units")
def test_memory_outside_the_monitored_region_is_not_sorted(module, expect):
    """With an address unit of 16 bytes the region is in such units, and no memory outside of it is tried."""
    unit = 16
    asked = replace(FREE, hot_thres_access_freq=0, cold_min_age=3_600_000_000, addr_unit=unit)
    with module(asked, "many_idle_pages") as run:
        address = run.pages("data").frame * page_size()
        # Not a multiple of 16 pages: that is where alignment to other sizes would show.
        middle = (int(np.median(address)) // page_size() // unit * unit + 5) * page_size()
        run.session.stage(replace(run.session.parameters, monitor_region_start=middle // unit))
        run.enable()
        inside = address >= middle
        run.until(lambda: run.pages("data").active[inside].mean() >= MOST, LONG_S, 200_000_000)
        run.disable()
        active_pages, tried = run.pages("data").active, run.tried(0)
    m = Measurement("share inside that is active", float(active_pages[inside].mean()), "fraction")
    expect.at_least(m, MOST, because="hot_thres_access_freq is 0, so that all monitored memory is hot")
    outside = [f"{e.start * unit:#x}" for e in tried if e.start * unit < middle]
    why = f"the region begins at {middle:#x}, which is {middle // unit} units of {unit} bytes (§6.2)"
    expect.nothing("regions tried outside of the monitored one", outside, because=why, judged=len(tried))
    expect.add(module_schemes.something_tried("region", tried))


@full
@pytest.mark.needs("modules.damon_lru_sort.autotune_monitoring_intervals", "damon_monitor_intervals_tune")
def test_autotuning_starts_at_5_ms_and_slows_down(module, expect):
    """With autotune_monitoring_intervals sampling of idle memory starts at 5 ms and slows down."""
    asked = replace(FREE, sample_interval=50_000, aggr_interval=500_000, autotune_monitoring_intervals=True)
    with module(asked, "idle") as run:
        run.enable()
        run.until(lambda: len(run.events(TuneEvent)) >= 2, LONG_S)
    tuned_us = [float(e.sample_us) for e in run.events(TuneEvent)]
    m = Measurement("tunings", len(tuned_us), "count", tuple(tuned_us))
    expect.at_least(m, 2, because="it tunes after 3 aggregations of 100 ms, then after longer ones (§6.2)")
    m = Measurement("first tuned sampling interval", tuned_us[0] if tuned_us else 0, "µs")
    expect.between(m, 5_000, 10_000, because="the first step at most doubles 5 ms, never goes below (§2.8)")
