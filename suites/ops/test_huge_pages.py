# SPDX-License-Identifier: GPL-2.0
"""Huge pages have one accessed bit: how much hot memory this adds, and what stays exact."""

from dataclasses import replace

import numpy as np
import pytest

from damon_tests.damon.params import ANY, DamonAttrs, DamonCtx, Damos, DamosFilter
from damon_tests.judge.monitoring.aggregation_windows import windows
from damon_tests.judge.monitoring.all_invariants import full_counts
from damon_tests.judge.verdict import Measurement
from damon_tests.patterns.spec import Access, Pattern, PatternRegion, Phase
from damon_tests.ports import NSEC_PER_SEC, huge_page_size, page_size, pages_per_huge
from damon_tests.scenario.invariants import invariants
from damon_tests.scenario.reference_bands import like_the_reference
from damon_tests.workload.huge_page_truth import HugePages

ATTRS = DamonAttrs(min_nr_regions=10, max_nr_regions=200)
FVADDR = DamonCtx("fvaddr", attrs=ATTRS)
HUGE = huge_page_size()
# The patterns have up to 16 huge pages; the rest is for the kernel, and for free blocks of that size.
ROOM = pytest.mark.needs(memory_mib=48 * HUGE >> 20)
YOUNG = DamosFilter("young", matching=True, allow=True)


def every_other_block(hugepage):
    """Return a pattern: one small page of every other huge block is in use, the blocks between are idle."""
    data = PatternRegion("data", 16 * HUGE, hugepage=hugepage)
    use = Access("data", 0, page_size(), islands=8, every_bytes=2 * HUGE)
    reason = "huge pages in use beside idle ones"
    return Pattern("every_other_block", reason, (data,), (Phase("steady", 3600 * NSEC_PER_SEC, (use,)),))


def huge_ranges(states):
    """Return the byte ranges of the region that are mapped with huge pages."""
    edges = np.flatnonzero(np.diff(np.concatenate(([0], states.huge.astype(np.int8), [0]))))
    return [
        (states.start + int(a) * page_size(), states.start + int(b) * page_size())
        for a, b in edges.reshape(-1, 2)
    ]


def seen_with(live, ctx, hugepage):
    """Run one attempt; its truth is what the accessed bits of the mapped pages can show."""
    with live(every_other_block(hugepage), ctx, cover="regions") as run:
        run.record(3.5)
        states = run.pages("data")
    if hugepage and states.huge.sum() < 8 * pages_per_huge():
        pytest.skip(
            "this machine gave the target no huge pages (/sys/kernel/mm/transparent_hugepage/enabled)"
        )
    return replace(run.observation, truth=HugePages(run.observation.truth, huge_ranges(states)))


@ROOM
@pytest.mark.accuracy
@pytest.mark.needs("ops.fvaddr", "damon_aggregated")
@pytest.mark.parametrize("hugepage", [True, False])
def test_access_marks_exactly_its_page(live, expect, hugepage):
    """A touched huge page is hot as a whole and its idle neighbour is not;
    of small pages only the touched ones are hot."""
    names = ["precision", "recall", "boundary"] if hugepage else ["precision", "rate excess"]

    def attempt(number):
        observation = seen_with(live, FVADDR, hugepage)
        if number == 1:
            expect.add(invariants(observation))  # idle blocks (or pages) are silent and grow old
            if hugepage:  # a region of nothing but one small page is rare
                expect.add(full_counts(observation))
        return observation

    expect.add(like_the_reference(attempt, names, after_s=1.5, replicas=40))


SAMPLES = 200
IN_BATCHES = 64
"""New small pages are on no LRU list until their processor has some more of them; a generous number."""


@ROOM
@pytest.mark.needs("ops.fvaddr", "ops_filters.young", "stats.sz_ops_filter_passed", "ctx.addr_unit")
@pytest.mark.parametrize("hugepage", [True, False])
def test_sample_clears_the_accessed_bit_of_the_whole_page(live, expect, hugepage):
    """After 200 samples in each of three regions of untouched memory no huge page
    is young any more, and nearly all small pages still are."""
    data = PatternRegion("data", 6 * HUGE, hugepage=hugepage)
    pattern = Pattern("populated", "untouched memory", (data,), (Phase("idle", 3600 * NSEC_PER_SEC, ()),))
    attrs = DamonAttrs(min_nr_regions=3, max_nr_regions=3)
    asking = Damos("stat", ANY, apply_interval_us=SAMPLES * attrs.sample_us, ops_filters=(YOUNG,))
    with live(
        pattern, DamonCtx("fvaddr", attrs=attrs, schemes=(asking,)), cover="regions", source="none"
    ) as run:
        run.session.record(until=lambda: run.client.stats(0, 0).nr_tried > 0)
        stats, states = run.client.stats(0, 0), run.pages("data")
    if hugepage and not states.huge.all():
        pytest.skip("this machine gave the target no huge pages")
    m = Measurement("young bytes", stats.sz_ops_filter_passed, "bytes")
    if hugepage:
        expect.equal(m, 0, because="a huge page has one accessed bit, and each page was sampled (§3.4)")
    else:
        fewest = data.size_bytes - (3 * SAMPLES + IN_BATCHES) * page_size()
        expect.between(
            m,
            fewest,
            data.size_bytes,
            because=f"each of {SAMPLES} samples clears one page of each region (§3.4)",
        )


@ROOM
@pytest.mark.accuracy
@pytest.mark.profile("full")
@pytest.mark.needs("ops.paddr", "damon_aggregated")
def test_frames_of_a_touched_huge_page_are_hot_together(live, expect):
    """Monitored by physical address, all frames of a touched huge page are hot together."""
    ctx = DamonCtx("paddr", attrs=ATTRS)

    def attempt(number):
        observation = seen_with(live, ctx, True)
        if number == 1:
            expect.add(invariants(observation))
        return observation

    expect.add(like_the_reference(attempt, ["precision", "recall"], after_s=1.5, replicas=40))


@pytest.mark.accuracy
@pytest.mark.needs("ops.fvaddr", "damon_aggregated", hugetlb_pages=8)
def test_hugetlb_memory_in_use_is_found(live, expect):
    """Two of 8 hugetlb pages are in use: DAMON reports these hot, and no access to the rest."""

    def attempt(number):
        with live("hugetlb", FVADDR, cover="regions") as run:
            run.record(3)
        observation = run.observation
        observation = replace(observation, truth=HugePages(observation.truth, [run.target.layout["huge"]]))
        if number == 1:
            expect.add(invariants(observation))
            expect.add(full_counts(observation))
        return observation

    expect.add(like_the_reference(attempt, ["precision", "recall"], after_s=1.5, replicas=40))


@pytest.mark.needs("ops.paddr", "damon_aggregated", hugetlb_pages=8)
def test_paddr_reports_no_access_to_hugetlb_frames(live, expect):
    """hugetlb pages are on no LRU list, so that physical monitoring
    never reports accesses to their frames."""
    with live("hugetlb", DamonCtx("paddr", attrs=ATTRS), cover="regions") as run:
        run.record(1.5)
        in_use = sum(run.target.accesses().values())
    expect.at_least(Measurement("accesses done", in_use, "count"), 1, because="the workload uses these pages")
    counts = [int(w.snapshot.nr_accesses.max(initial=0)) for w in windows(run.recording())]
    m = Measurement("most accesses of a hugetlb frame", max(counts), "samples", tuple(map(float, counts)))
    expect.equal(
        m, 0, because="paddr does not check folios that are not on an LRU list (§3.5)", kind="closed form"
    )
    expect.add(invariants(run))
