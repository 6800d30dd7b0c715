# SPDX-License-Identifier: GPL-2.0
"""hugepage, nohugepage and collapse, measured on which pages are part of transparent huge pages."""

from dataclasses import replace

import pytest

from damon_tests.damon.params import DamonAttrs, DamonCtx, DamonTarget
from damon_tests.judge.schemes import effects
from damon_tests.judge.verdict import Measurement
from damon_tests.ports import huge_page_size, page_size
from damon_tests.scenario.acting import BEFORE_APPLY, PATIENCE_NS, act, middle, scheme, waiting
from damon_tests.workload.pages import bytes_of

HUGE = huge_page_size()
# The guest gives huge pages only on advice, and its khugepaged is at work all the time. The patterns have 12
# huge pages and 24 MiB; the rest is for the kernel, and for free blocks of that size.
pytestmark = pytest.mark.needs(
    "schemes.hugepage", "filters.addr", BEFORE_APPLY, thp_on_advice=1, memory_mib=48 * HUGE >> 20
)

ATTRS = DamonAttrs(min_nr_regions=10, max_nr_regions=100)
VADDR = DamonCtx("vaddr", attrs=ATTRS)
# Regions that are not cut: each has whole blocks of a huge page.
FEW = DamonCtx("vaddr", attrs=DamonAttrs(min_nr_regions=3, max_nr_regions=3))
WATCHED = {"cover": "regions", "watched": 1, "extra_events": [BEFORE_APPLY]}
TWO = ["two_idle_regions", "huge_if_advised"]
WHOLE = "sz_applied is the whole length (§4.10)"


def huge(pages):
    return pages.huge


def all_huge(run, target, span):
    """Whether all whole blocks of a range of bytes are huge pages now."""
    pages = run.subject.pages(target, *span)
    return bool(pages.huge[effects.in_whole_blocks(pages, [span])].all())


def test_hugepage_makes_whole_blocks_huge(live, expect):
    """hugepage makes exactly the blocks that lie wholly in its memory huge pages."""
    with live(TWO, VADDR, **WATCHED) as run, waiting(run, "huge_if_advised") as target:
        part = middle(target.layout["data"])
        done = act(run, scheme("hugepage", part), over=[part], more=[target])
        run.session.record(PATIENCE_NS, until=lambda: all_huge(run, target, part))
        before, after = done.before[2, "data"], run.subject.pages(target, *target.layout["data"])
    asked = effects.in_whole_blocks(before, [part])
    effect = effects.effect(before, after, asked, huge, able=asked & before.present)
    effect += effects.all_spared(pair for key, pair in done.pairs().items() if key != (2, "data"))
    why = "khugepaged collapses memory advised with madvise(MADV_HUGEPAGE) (§4.10)"
    expect.add(effects.takes_effect("hugepage", effect, why, least=HUGE))
    size = done.sz_counted()
    counted, gained = done.stats[0].sz_applied, effect.gained
    expect.add(effects.applied("hugepage", counted, size, size, WHOLE, effect=gained))


@pytest.mark.needs("schemes.nohugepage", swap_mib=max(256, 16 * HUGE >> 20))
def test_nohugepage_keeps_small_pages(live, expect):
    """Memory with nohugepage after hugepage gets small pages when
    it is used again; the rest gets huge ones."""
    with live("two_idle_regions", VADDR, **WATCHED) as run, waiting(run, "huge_if_advised") as target:
        whole = target.layout["data"]
        part = (whole[0] + 4 * HUGE + 3 * page_size(), whole[1])
        rest = (whole[0], whole[0] + 4 * HUGE)
        # What is in swap is not collapsed: both advices are there before khugepaged can follow one.
        act(run, scheme("pageout"), over=[whole], more=[target])
        act(run, scheme("hugepage"), over=[whole], more=[target])
        done = act(run, scheme("nohugepage", part), over=[part], more=[target])
        target.go()
        run.session.record(PATIENCE_NS, until=lambda: all_huge(run, target, rest))
        run.record(0.5)
        after = run.subject.pages(target, *whole)
    before = done.before[1, "data"]
    inside = effects.in_ranges(before, [rest])
    m = Measurement("huge where it was advised", bytes_of(inside & after.huge), "bytes")
    expect.equal(m, rest[1] - rest[0], because="memory with hugepage advice only gets huge pages")
    against = effects.in_ranges(before, [part])
    m = Measurement("huge where it was advised against", bytes_of(against & after.huge), "bytes")
    expect.equal(m, 0, because="the last advice, madvise(MADV_NOHUGEPAGE), counts (§4.10)")
    size = done.sz_counted()
    others = effects.all_spared(pair for key, pair in done.pairs().items() if key != (2, "data"))
    expect.add(effects.spares_others("nohugepage", others))
    counted, small = done.stats[0].sz_applied, bytes_of(against & after.present & ~after.huge)
    expect.add(effects.applied("nohugepage", counted, size, size, WHOLE, effect=small))


@pytest.mark.needs("schemes.collapse")
def test_collapse_makes_whole_blocks_huge_at_once(live, expect):
    """collapse makes blocks that lie wholly in a tried region huge pages before it returns."""
    with live(TWO, FEW, **WATCHED) as run, waiting(run, "huge_if_advised") as target:
        part = middle(target.layout["data"])
        done = act(run, scheme("collapse", part), over=[part], more=[target])
    before, after = done.before[2, "data"], done.after[2, "data"]
    tried = [(event.start, event.end) for event in done.tried]
    asked = effects.in_whole_blocks(before, tried)
    effect = effects.effect(before, after, asked, huge, able=asked & before.present)
    effect += effects.all_spared(pair for key, pair in done.pairs().items() if key != (2, "data"))
    expect.add(
        effects.takes_effect(
            "collapse", effect, "madvise(MADV_COLLAPSE) collapses at once (§4.10)", least=HUGE
        )
    )
    regions = [(event.start, event.end) for event in done.counted[0]]
    # A call for a region without a whole block has nothing to do; kernels differ in what they call that.
    low = sum(end - start for start, end in regions if -(-start // HUGE) < end // HUGE)
    why = "sz_applied is the whole length where the call succeeds (§4.10)"
    expect.add(
        effects.applied(
            "collapse", done.stats[0].sz_applied, low, done.sz_counted(), why, effect=effect.gained
        )
    )


@pytest.mark.profile("full")
@pytest.mark.needs("schemes.collapse", "ops.fvaddr")
def test_collapse_does_not_count_regions_with_holes(live, expect):
    """collapse makes exactly the whole mapped blocks huge, and does not count a region with a hole."""
    few = replace(FEW, operations="fvaddr")
    with live(TWO, few, **WATCHED) as run, waiting(run, "huge_if_advised") as target:
        start, end = target.layout["data"]
        # Of the same size, so that DAMON cuts none: two whole blocks, one, and one before unmapped memory.
        firsts = (start, start + 3 * HUGE + 3 * page_size(), end - HUGE)
        regions = tuple((at, at + 2 * HUGE) for at in firsts)
        run.commit(replace(run.ctx, targets=(DamonTarget(target.pid, regions),)))
        done = act(run, scheme("collapse"), over=regions, more=[target])
    before, after = done.before[2, "data"], done.after[2, "data"]
    asked = effects.in_whole_blocks(before, regions[:2]) | effects.in_ranges(before, [(firsts[2], end)])
    effect = effects.effect(before, after, asked, huge, able=asked & before.present)
    effect += effects.all_spared(pair for key, pair in done.pairs().items() if key != (2, "data"))
    why = "madvise(MADV_COLLAPSE) collapses what is mapped (§4.10)"
    expect.add(effects.takes_effect("collapse", effect, why, least=4 * HUGE))
    tried = [(event.start, event.end) for event in done.counted[0]]
    wrong = [f"{r[0]:#x}-{r[1]:#x}" for r in sorted(set(tried) - set(regions))]
    expect.nothing("other regions", wrong, because="no region can be merged or split", judged=len(tried))
    size = sum(b - a for a, b in tried if (a, b) in regions[:2])
    why = "sz_applied is the whole length, or 0 where part is not mapped (§4.10)"
    expect.add(effects.applied("collapse", done.stats[0].sz_applied, size, size, why, effect=effect.gained))
