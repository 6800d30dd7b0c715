# SPDX-License-Identifier: GPL-2.0
"""Filters and what is really done: which pages pageout takes, and which it leaves."""

from dataclasses import replace

import pytest

from damon_tests.damon.params import ANY, DamonAttrs, DamonCtx, DamonTarget, Damos, DamosFilter
from damon_tests.judge.schemes import effects
from damon_tests.judge.verdict import Check, Measurement
from damon_tests.patterns import load
from damon_tests.ports import NSEC_PER_SEC, PAGE_SIZE
from damon_tests.scenario.filtered_run import STILL, WatchedMemory
from damon_tests.workload.pages import bytes_of

pytestmark = pytest.mark.needs("schemes.pageout", "filters.anon", swap_mib=256)

KINDS = "kinds_of_memory"
NOWHERE = (DamonTarget(),)
# Few samples: each clears an accessed bit, of one page in each region.
SLOW = DamonAttrs(sample_us=500_000, aggr_us=500_000, min_nr_regions=3, max_nr_regions=3)
SMALL = ("small", "file", "shmem")
KEPT = ("present", "swapped", "huge", "node")
PATIENCE_NS = 20 * NSEC_PER_SEC
HUGE = 2 << 20
PADDR = pytest.mark.needs("ops.paddr")


def gone(pages):
    return ~pages.present


def addr(memory, part):
    """A filter for the second half of the watched ranges."""
    ranges = memory.ranges[0]
    start = ranges[int(part * len(ranges))][0]
    return DamosFilter("addr", matching=True, addr_start=start, addr_end=ranges[-1][1])


def measured(memory, scheme, before, after):
    """What pageout did to all regions, against what its filters let through."""
    asked, found = memory.asked(scheme, before), effects.Effect()
    for name, state in before.items():
        able = asked[name] & state.present & state.lru & ~state.unevictable
        found += effects.effect(state, after[name], asked[name], gone, able=able, kept=KEPT)
    return found


def page_out(run, memory, scheme, attrs=STILL):
    """Let the scheme work until all that it should take is gone: the bytes that it missed, and others."""
    before = memory.states()
    ctx = DamonCtx(memory.operations, attrs=attrs, targets=memory.targets(), schemes=(scheme,))
    run.commit(ctx)
    run.session.record(
        until=lambda: not measured(memory, scheme, before, memory.states()).missed, timeout_ns=PATIENCE_NS
    )
    return measured(memory, scheme, before, memory.states())


REJECTS = {
    "anonymous": lambda memory: {"filters": (DamosFilter("anon", matching=True),)},
    "not anonymous": lambda memory: {"filters": (DamosFilter("anon", matching=False),)},
    "range": lambda memory: {"filters": (addr(memory, 0.5),)},
    "group": lambda memory: {"filters": (DamosFilter("memcg", matching=False, memcg_path=memory.memcg()),)},
    "huge": lambda memory: {
        "ops_filters": (DamosFilter("hugepage_size", matching=True, min=HUGE, max=HUGE),)
    },
}


@PADDR
@pytest.mark.parametrize(
    "rejected",
    [
        "anonymous",
        pytest.param("not anonymous", marks=pytest.mark.profile("full")),
        pytest.param("range", marks=[pytest.mark.profile("full"), pytest.mark.needs("filters.addr")]),
        pytest.param(
            "huge", marks=[pytest.mark.profile("full"), pytest.mark.needs("ops_filters.hugepage_size")]
        ),
    ],
)
def test_rejected_pages_stay(live, expect, rejected):
    """Of physical memory exactly the pages that filters reject stay, and all others go."""
    with live(KINDS, DamonCtx("paddr", attrs=STILL), cover="regions", source="none") as run:
        memory = WatchedMemory(run, "paddr")
        found = page_out(run, memory, Damos("pageout", ANY, **REJECTS[rejected](memory)))
    expect.add(effects.takes_effect("pageout", found, "§4.8: all that no filter rejects"))


@PADDR
@pytest.mark.profile("full")
def test_pages_of_another_group_stay(live, expect):
    """Of two groups' memory only one's goes."""
    grouped = replace(load.load(KINDS), memcg="damon-tests")
    with live(
        [grouped, KINDS], DamonCtx("paddr", attrs=STILL), watched=1, cover="regions", source="none"
    ) as run:
        memory = WatchedMemory(run, "paddr")
        scheme = Damos("pageout", ANY, **REJECTS["group"](memory))
        other = memory.states(1)
        found = page_out(run, memory, scheme)
        for name, state in memory.states(1).items():
            found += effects.spared(other[name], state, KEPT)
    expect.add(effects.takes_effect("pageout", found, "§4.8: the group that is not rejected"))


@pytest.mark.profile("full")
@pytest.mark.needs("ops.fvaddr")
def test_hints_ask_no_page_filter(live, expect):
    """pageout of virtual memory is a hint for whole regions, and page filters do not matter to it."""
    with live(KINDS, DamonCtx("fvaddr", attrs=STILL), cover="regions", source="none") as run:
        memory = WatchedMemory(run, "fvaddr")
        found = page_out(run, memory, Damos("pageout", ANY, filters=(DamosFilter("anon", matching=True),)))
        stats = run.client.stats(0, 0)
    expect.add(effects.takes_effect("pageout", found, "§4.8: madvise knows no page filters"))
    if stats.sz_ops_filter_passed is not None:
        m = Measurement("bytes that passed page filters", stats.sz_ops_filter_passed, "bytes")
        expect.equal(m, 0, because="I43: none was asked")


YOUNG = DamosFilter("young", matching=True)
FIRST_PASS = {
    # name: (filters, whether pages go that were never looked at)
    "no filter": ({}, False),
    "reject young": ({"filters": (YOUNG,)}, False),
    "reject old": ({"filters": (replace(YOUNG, matching=False),)}, True),
    "allow young": ({"filters": (replace(YOUNG, allow=True),)}, True),
    "core allows": ({"core_filters": (DamosFilter("target", matching=True, allow=True),)}, True),
}


@PADDR
@pytest.mark.parametrize(
    "filters",
    [
        "no filter",
        pytest.param("reject young", marks=pytest.mark.profile("full")),
        pytest.param("reject old", marks=pytest.mark.profile("full")),
        pytest.param("allow young", marks=[pytest.mark.profile("full"), pytest.mark.needs("filters.allow")]),
        pytest.param("core allows", marks=pytest.mark.needs("core_filters.target")),
    ],
)
@pytest.mark.needs("filters.young")
def test_young_pages_are_spared(live, expect, filters):
    """pageout of physical memory spares young pages, unless a young filter or a core filter says otherwise.

    Memory that was populated is young until somebody asks: then the first pass takes nothing of it.
    """
    chosen, goes = FIRST_PASS[filters]
    scheme = Damos("pageout", ANY, apply_interval_us=4_000_000, **chosen)
    with live(KINDS, DamonCtx("paddr", attrs=SLOW, targets=NOWHERE), source="none") as run:
        memory = WatchedMemory(run, "paddr")
        before = memory.states()
        asked = memory.asked(
            Damos("lru_deprio", ANY), before
        )  # all that pageout would take if it asked nobody
        run.commit(replace(run.ctx, targets=memory.targets(), schemes=(scheme,)))
        run.session.record(until=lambda: run.client.stats(0, 0).nr_tried > 0)
        after = memory.states()
        passes = run.client.stats(0, 0).nr_tried // len(memory.ranges[0])
    m = Measurement("passes", passes, "count")
    expect.add(Check("invariant", m, "== 1", "looked at before the next one in 4 s", passes == 1 or None))
    able = taken = 0
    for name in SMALL:
        can = asked[name] & before[name].lru & ~before[name].unevictable
        able += bytes_of(can)
        taken += bytes_of(can & gone(after[name]))
    m = Measurement("memory taken by the first pass", taken, "bytes")
    if goes:
        expect.at_least(m, able * 3 // 4, because=f"§4.8: no young filter; {able} bytes could be taken")
        return
    # Each sample before the pass makes a page of each region look old; there are 8 in 4 s.
    most = len(memory.ranges[0]) * 9 * PAGE_SIZE
    expect.at_most(m, most, because=f"§4.8: all {able} bytes were young, but for what sampling looked at")
