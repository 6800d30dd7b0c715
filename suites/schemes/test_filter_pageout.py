# SPDX-License-Identifier: GPL-2.0
"""Filters and real effects: which pages pageout takes, and which it leaves."""

from dataclasses import replace

import pytest

from damon_tests.damon.params import ANY, DamonAttrs, DamonCtx, DamonTarget, Damos, DamosFilter
from damon_tests.judge.schemes import effects
from damon_tests.judge.verdict import Check, Measurement
from damon_tests.patterns import load
from damon_tests.ports import NSEC_PER_SEC, huge_page_size, page_size
from damon_tests.scenario.filtered_run import STILL, WatchedMemory
from damon_tests.workload.pages import bytes_of

pytestmark = pytest.mark.needs(
    "schemes.pageout", "filters.anon", swap_mib=max(256, 16 * huge_page_size() >> 20)
)

KINDS = "kinds_of_memory"
NOWHERE = (DamonTarget(),)
# Few samples: each clears an accessed bit, of one page in each region.
SLOW = DamonAttrs(sample_us=500_000, aggr_us=500_000, min_nr_regions=3, max_nr_regions=3)
SMALL = ("small", "file", "shmem")
KEPT = ("present", "swapped", "huge", "node")
PATIENCE_NS = 20 * NSEC_PER_SEC
HUGE = huge_page_size()
PADDR = pytest.mark.needs("ops.paddr")


def gone(pages):
    return ~pages.present


def addr(memory, part):
    """Return a filter for the watched ranges from this part of them on."""
    ranges = memory.ranges[0]
    start = ranges[int(part * len(ranges))][0]
    return DamosFilter("addr", matching=True, addr_start=start, addr_end=ranges[-1][1])


def measured(memory, scheme, before, after):
    """Return the effect of pageout on all regions, compared with what its filters let through."""
    asked, effect = memory.asked(scheme, before), effects.Effect()
    for name, state in before.items():
        able = asked[name] & state.present & state.lru & ~state.unevictable
        effect += effects.effect(state, after[name], asked[name], gone, able=able, kept=KEPT)
    return effect


def page_out(run, memory, scheme, attrs=STILL):
    """Run the scheme until all that it should take is gone; return the effect, including missed bytes."""
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
def test_pageout_leaves_exactly_the_rejected_pages(live, expect, rejected):
    """pageout of physical memory leaves exactly the pages that filters reject, and takes all others."""
    with live(KINDS, DamonCtx("paddr", attrs=STILL), cover="regions", source="none") as run:
        memory = WatchedMemory(run, "paddr")
        effect = page_out(run, memory, Damos("pageout", ANY, **REJECTS[rejected](memory)))
    expect.add(
        effects.takes_effect("pageout", effect, "pageout takes all pages that no filter rejects (§4.8)")
    )


@PADDR
@pytest.mark.profile("full")
def test_pageout_leaves_pages_of_other_control_groups(live, expect):
    """A memcg filter lets pageout take the memory of its group only."""
    grouped = replace(load.load(KINDS), memcg="damon-tests")
    with live(
        [grouped, KINDS], DamonCtx("paddr", attrs=STILL), watched=1, cover="regions", source="none"
    ) as run:
        memory = WatchedMemory(run, "paddr")
        scheme = Damos("pageout", ANY, **REJECTS["group"](memory))
        other = memory.states(1)
        effect = page_out(run, memory, scheme)
        for name, state in memory.states(1).items():
            effect += effects.spared(other[name], state, KEPT)
    expect.add(effects.takes_effect("pageout", effect, "pageout takes the group that is not rejected (§4.8)"))


@pytest.mark.profile("full")
@pytest.mark.needs("ops.fvaddr")
def test_pageout_by_virtual_address_ignores_page_filters(live, expect):
    """pageout of virtual memory is madvise() of whole regions, and ignores page filters."""
    with live(KINDS, DamonCtx("fvaddr", attrs=STILL), cover="regions", source="none") as run:
        memory = WatchedMemory(run, "fvaddr")
        effect = page_out(run, memory, Damos("pageout", ANY, filters=(DamosFilter("anon", matching=True),)))
        stats = run.client.stats(0, 0)
    expect.add(
        effects.takes_effect(
            "pageout", effect, "madvise() takes whole regions, and checks no page filters (§4.8)"
        )
    )
    if stats.sz_ops_filter_passed is not None:
        m = Measurement("bytes that passed page filters", stats.sz_ops_filter_passed, "bytes")
        expect.equal(m, 0, because="no page filter was checked (I43)")


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
def test_pageout_spares_young_pages_unless_filters_decide(live, expect, filters):
    """pageout of physical memory spares young pages, unless a young filter or a core filter decides.

    Populated memory is young until it is checked for the first time: the first pass takes nothing of it.
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
    expect.add(
        Check("invariant", m, "== 1", "it was measured before the next pass in 4 s", passes == 1 or None)
    )
    able = taken = 0
    for name in SMALL:
        can = asked[name] & before[name].lru & ~before[name].unevictable
        able += bytes_of(can)
        taken += bytes_of(can & gone(after[name]))
    m = Measurement("memory taken by the first pass", taken, "bytes")
    if goes:
        expect.at_least(
            m,
            able * 3 // 4,
            because=f"the filters let young pages through; {able} bytes could be taken (§4.8)",
        )
        return
    # Each sample before the pass makes a page of each region look old; there are 8 in 4 s.
    most = len(memory.ranges[0]) * 9 * page_size()
    expect.at_most(m, most, because=f"all {able} bytes were young, except what was sampled (§4.8)")
