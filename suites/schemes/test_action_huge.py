# SPDX-License-Identifier: GPL-2.0
"""hugepage, nohugepage and collapse: measured on which pages are part of transparent huge pages."""

from dataclasses import replace

import pytest

from damon_tests.damon.params import DamonAttrs, DamonCtx, DamonTarget
from damon_tests.judge.schemes import effects
from damon_tests.judge.verdict import Measurement
from damon_tests.ports import PAGE_SIZE
from damon_tests.scenario.acting import BEFORE_APPLY, PATIENCE_NS, act, middle, scheme, waiting
from damon_tests.workload.pages import bytes_of

# The guest gives huge pages only on advice, and its khugepaged is at work all the time.
pytestmark = pytest.mark.needs("schemes.hugepage", "filters.addr", BEFORE_APPLY, thp_on_advice=1)

ATTRS = DamonAttrs(min_nr_regions=10, max_nr_regions=100)
VADDR = DamonCtx("vaddr", attrs=ATTRS)
# Regions that are not cut: each has whole blocks of 2 MiB.
FEW = DamonCtx("vaddr", attrs=DamonAttrs(min_nr_regions=3, max_nr_regions=3))
WATCHED = {"cover": "regions", "watched": 1, "extra_events": [BEFORE_APPLY]}
TWO = ["two_idle_regions", "huge_if_advised"]
WHOLE = "§4.10: the whole length"


def huge(pages):
    return pages.huge


def all_huge(run, target, span):
    """Whether all whole blocks of a range of bytes are huge pages now."""
    pages = run.subject.pages(target, *span)
    return bool(pages.huge[effects.in_whole_blocks(pages, [span])].all())


def test_advice_makes_huge_pages(live, expect):
    """hugepage: the blocks that lie wholly in its part become huge pages, and no other memory does."""
    with live(TWO, VADDR, **WATCHED) as run, waiting(run, "huge_if_advised") as target:
        part = middle(target.layout["data"])
        done = act(run, scheme("hugepage", part), over=[part], more=[target])
        run.session.record(PATIENCE_NS, until=lambda: all_huge(run, target, part))
        before, after = done.before[2, "data"], run.subject.pages(target, *target.layout["data"])
    asked = effects.in_whole_blocks(before, [part])
    found = effects.effect(before, after, asked, huge, able=asked & before.present)
    found += effects.all_spared(pair for key, pair in done.pairs().items() if key != (2, "data"))
    why = "§4.10: madvise(MADV_HUGEPAGE), and khugepaged follows the advice"
    expect.add(effects.takes_effect("hugepage", found, why, least=effects.HUGE))
    size = done.sz_counted()
    counted, gained = done.stats[0].sz_applied, found.gained
    expect.add(effects.applied("hugepage", counted, size, size, WHOLE, effect=gained))


@pytest.mark.needs("schemes.nohugepage", swap_mib=256)
def test_advice_against_huge_pages(live, expect):
    """nohugepage after hugepage: its part stays in small pages when it is used again, the rest does not."""
    with live("two_idle_regions", VADDR, **WATCHED) as run, waiting(run, "huge_if_advised") as target:
        whole = target.layout["data"]
        part = (whole[0] + 8 * (1 << 20) + 3 * PAGE_SIZE, whole[1])
        rest = (whole[0], whole[0] + 8 * (1 << 20))
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
    expect.equal(m, rest[1] - rest[0], because="the advice before holds where there is none against it")
    against = effects.in_ranges(before, [part])
    m = Measurement("huge where it was advised against", bytes_of(against & after.huge), "bytes")
    expect.equal(m, 0, because="§4.10: madvise(MADV_NOHUGEPAGE); what is advised last counts")
    size = done.sz_counted()
    others = effects.all_spared(pair for key, pair in done.pairs().items() if key != (2, "data"))
    expect.add(effects.spares_others("nohugepage", others))
    counted, small = done.stats[0].sz_applied, bytes_of(against & after.present & ~after.huge)
    expect.add(effects.applied("nohugepage", counted, size, size, WHOLE, effect=small))


@pytest.mark.needs("schemes.collapse")
def test_collapse_does_it_at_once(live, expect):
    """collapse: blocks that lie wholly in a region that it was tried on are huge pages when it is done."""
    with live(TWO, FEW, **WATCHED) as run, waiting(run, "huge_if_advised") as target:
        part = middle(target.layout["data"])
        done = act(run, scheme("collapse", part), over=[part], more=[target])
    before, after = done.before[2, "data"], done.after[2, "data"]
    tried = [(event.start, event.end) for event in done.tried]
    asked = effects.in_whole_blocks(before, tried)
    found = effects.effect(before, after, asked, huge, able=asked & before.present)
    found += effects.all_spared(pair for key, pair in done.pairs().items() if key != (2, "data"))
    expect.add(effects.takes_effect("collapse", found, "§4.10: madvise(MADV_COLLAPSE)", least=effects.HUGE))
    regions = [(event.start, event.end) for event in done.counted[0]]
    # A call for a region without a whole block has nothing to do; kernels differ in what they call that.
    low = sum(end - start for start, end in regions if -(-start // effects.HUGE) < end // effects.HUGE)
    why = "§4.10: the whole length where the call succeeds"
    expect.add(
        effects.applied(
            "collapse", done.stats[0].sz_applied, low, done.sz_counted(), why, effect=found.gained
        )
    )


@pytest.mark.profile("full")
@pytest.mark.needs("schemes.collapse", "ops.fvaddr")
def test_collapse_counts_what_it_did(live, expect):
    """Exactly the whole blocks of what is mapped become huge pages; a region with a hole does not count."""
    few = replace(FEW, operations="fvaddr")
    with live(TWO, few, **WATCHED) as run, waiting(run, "huge_if_advised") as target:
        start, end = target.layout["data"]
        # Of the same size, so that DAMON cuts none: two whole blocks, one, and one before unmapped memory.
        firsts = (start, start + 3 * effects.HUGE + 3 * PAGE_SIZE, end - effects.HUGE)
        regions = tuple((at, at + 2 * effects.HUGE) for at in firsts)
        run.commit(replace(run.ctx, targets=(DamonTarget(target.pid, regions),)))
        done = act(run, scheme("collapse"), over=regions, more=[target])
    before, after = done.before[2, "data"], done.after[2, "data"]
    asked = effects.in_whole_blocks(before, regions[:2]) | effects.in_ranges(before, [(firsts[2], end)])
    found = effects.effect(before, after, asked, huge, able=asked & before.present)
    found += effects.all_spared(pair for key, pair in done.pairs().items() if key != (2, "data"))
    why = "§4.10: madvise(MADV_COLLAPSE) of what is mapped"
    expect.add(effects.takes_effect("collapse", found, why, least=4 * effects.HUGE))
    tried = [(event.start, event.end) for event in done.counted[0]]
    wrong = [f"{r[0]:#x}-{r[1]:#x}" for r in sorted(set(tried) - set(regions))]
    expect.nothing("other regions", wrong, because="none can be merged, and none is larger than another")
    size = sum(b - a for a, b in tried if (a, b) in regions[:2])
    why = "§4.10: the whole length, and nothing where something is not mapped"
    expect.add(effects.applied("collapse", done.stats[0].sz_applied, size, size, why, effect=found.gained))
