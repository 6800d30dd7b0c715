# SPDX-License-Identifier: GPL-2.0
"""The young filter: whether a page was accessed since its
accessed bit was last cleared; checking clears it."""

from dataclasses import replace

import pytest

from damon_tests.damon.params import ANY, DamonAttrs, DamonCtx, Damos, DamosFilter
from damon_tests.judge.schemes.filters import folio_bytes
from damon_tests.judge.schemes.young_filter import questions, young_bytes
from damon_tests.judge.verdict import Measurement
from damon_tests.patterns.spec import Access, Pattern, PatternRegion, Phase
from damon_tests.ports import NSEC_PER_MSEC, NSEC_PER_SEC, NSEC_PER_USEC, huge_page_size, page_size
from damon_tests.scenario.filtered_run import WatchedMemory
from damon_tests.workload.frame_truth import FrameTruth, frame_ranges
from damon_tests.workload.huge_page_truth import HugePages

pytestmark = pytest.mark.needs("ops_filters.young", "stats.sz_ops_filter_passed", "damos_before_apply")

PADDR = pytest.param("paddr", marks=pytest.mark.needs("ops.paddr"))
# stat asks page filters about virtual memory since 6.18, as does everything else that is new in it.
NEEDS_6_18 = pytest.mark.needs("ops.fvaddr", "ctx.addr_unit")
FVADDR = pytest.param("fvaddr", marks=[NEEDS_6_18, pytest.mark.profile("full")])
EITHER = pytest.mark.parametrize("operations", [PADDR, FVADDR])

# One sample for each pass: sampling clears accessed bits as well, of one page in each region.
SLOW = DamonAttrs(sample_us=300_000, aggr_us=300_000, min_nr_regions=3, max_nr_regions=3)
SAMPLES_BETWEEN = 2
PAGE = page_size()
HUGE = huge_page_size()
PATIENCE_NS = 30 * NSEC_PER_SEC

ANON = DamosFilter("anon", matching=True, allow=True)
YOUNG = DamosFilter("young", matching=True, allow=True)
OLD = DamosFilter("young", matching=False, allow=True)


def pattern(*regions, hot="", stride_bytes=None):
    accesses = [
        Access(r.name, 0, r.size_bytes, period_ns=2 * NSEC_PER_MSEC, stride_bytes=stride_bytes or page_size())
        for r in regions
        if r.name == hot
    ]
    phase = Phase("steady", 3600 * NSEC_PER_SEC, tuple(accesses))
    return Pattern("small", "small memory for young filters", regions, (phase,), repeat=True)


# At addresses of its own: DAMON keeps regions at the same ones when it turns to another target.
BYSTANDER = replace(pattern(PatternRegion("data", 16 * PAGE)), gap_bytes=1 << 30)


def watched_later(live, of, operations):
    """Return a run that monitors a bystander until the memory of
    interest is committed: none of its bits is cleared."""
    ctx = DamonCtx(operations, attrs=SLOW)
    return live(
        [BYSTANDER, of], ctx, watched=1, cover="regions", source="none", extra_events=["damos_before_apply"]
    )


@EITHER
def test_young_filter_clears_the_accessed_bit(live, expect, operations):
    """Of pages that nobody touches, the first filter list that checks finds them young and the next does
    not; a list that decides without checking leaves their bits set."""
    of = pattern(PatternRegion("anon", 128 * PAGE), PatternRegion("file", 96 * PAGE, memory="file"))
    lists = {
        "anon, young": (ANON, YOUNG),  # asks only what is not anonymous
        "young": (YOUNG,),  # so the anonymous ones are still young
        "young again": (YOUNG,),
        "not young": (OLD,),
    }
    schemes = (Damos("stat", ANY), *(Damos("stat", ANY, ops_filters=items) for items in lists.values()))
    with watched_later(live, of, operations) as run:
        memory = WatchedMemory(run, operations, only=(1,), most_pages=16)
        pages = memory.pages()
        run.commit(replace(run.ctx, targets=memory.targets(), schemes=schemes))
        run.session.record(until=lambda: run.client.stats(0, 0).nr_tried > 0)
        stats = [run.client.stats(0, i, update=i == 0) for i in range(len(schemes))]
    total, anon = folio_bytes(pages, pages.met), folio_bytes(pages, pages.met & pages.anon)
    lost = len(memory.ranges[0]) * SAMPLES_BETWEEN * page_size()
    passes, rest = divmod(stats[0].sz_tried, len(pages) * page_size())
    expect.at_least(Measurement("passes", passes, "count"), 1, because="the run waited for a pass")
    expect.equal(
        Measurement("bytes of a pass cut short", rest, "bytes"), 0, because="each pass tries all pages"
    )
    repeated = (passes - 1) * anon
    for (name, low, high), got in zip(
        (
            ("anon, young", total - lost + repeated, total + repeated),
            ("young", anon - lost, anon),
            ("young again", 0, 0),
            ("not young", passes * total, passes * total),
        ),
        stats[1:],
        strict=True,
    ):
        m = Measurement(f"bytes that passed {name!r}", got.sz_ops_filter_passed, "bytes")
        expect.between(
            m, low, high, because=f"populated once, {passes} passes; sampling may clear {lost} bytes (§4.8)"
        )


@EITHER
def test_young_filter_passes_pages_touched_since_the_last_check(live, expect, operations):
    """Memory in use is young at every pass; memory that was only populated is young at the first one."""
    of = pattern(PatternRegion("hot", 64 * PAGE), PatternRegion("cold", 64 * PAGE), hot="hot")
    for name, asked, passes, passed, truth in asked_in_passes(live, of, operations):
        judge(expect, name, passes, passed, young_bytes(asked, truth, SAMPLES_BETWEEN))


@EITHER
@pytest.mark.profile("full")
@pytest.mark.needs(memory_mib=48 * HUGE >> 20)
def test_young_filter_treats_a_huge_page_as_a_whole(live, expect, operations):
    """A huge page of which one small page is in use passes as a
    whole; one that nobody touches does not pass."""
    regions = [PatternRegion(name, 6 * HUGE, hugepage=True) for name in ("hot", "cold")]
    of = pattern(*regions, hot="hot", stride_bytes=HUGE)
    for name, asked, passes, passed, truth in asked_in_passes(live, of, operations):
        # A sample clears all of a huge page, and the next touch sets it again.
        judge(expect, name, passes, passed, young_bytes(asked, truth, 0, SLOW.sample_us * NSEC_PER_USEC))


def asked_in_passes(live, of, operations):
    """Yield, for the memory in use and the other: its name, the checked
    pages, passes, passed bytes, and the truth."""
    with watched_later(live, of, operations) as run:
        target = run.targets[1]
        memory = WatchedMemory(run, operations, only=(1,), most_pages=16)
        states = {name: run.pages(name, target) for name in target.layout}
        ranges = memory.ranges[0]
        of_hot = frame_ranges(states["hot"].frame) if memory.physical else (target.layout["hot"],)
        hot = [r for r in ranges if inside(r, of_hot)]
        cold = [r for r in ranges if r not in hot]
        schemes = (only(hot, cold), only(cold, hot), Damos("stat", ANY))
        run.commit(replace(run.ctx, targets=memory.targets(), schemes=schemes))
        enough = 4 * len(cold)
        run.session.record(until=lambda: run.client.stats(0, 1).nr_tried >= enough, timeout_ns=PATIENCE_NS)
        stats = [run.client.stats(0, i, update=i == 0) for i in range(2)]
    events = run.session.events("damos_before_apply")
    truth = HugePages(
        target.truth(), [span for name, span in target.layout.items() if states[name].huge.all()]
    )
    if memory.physical:
        truth = FrameTruth(truth, target.layout, {name: state.frame for name, state in states.items()})
    for number, (name, mine) in enumerate((("hot", hot), ("cold", cold))):
        asked = questions(events, number, len(schemes) - 1, stats[number].nr_tried)
        passes = len(asked) // max(1, len(mine))
        yield name, asked, passes, stats[number].sz_ops_filter_passed, truth


def judge(expect, name, passes, passed, bounds):
    m = Measurement(f"passes over {name} memory", passes, "count")
    expect.at_least(m, 2, because="the run waited for four passes")
    m = Measurement(f"young bytes of {name} memory", passed, "bytes")
    expect.between(m, *bounds, because=f"pages touched between {passes} passes are young (§4.8)")


def inside(span, ranges):
    return any(start <= span[0] and span[1] <= end for start, end in ranges)


def only(mine, others):
    """Return a scheme for young pages of these ranges. It rejects the
    others: a core filter that allows skips page filters."""
    rejected = tuple(DamosFilter("addr", matching=True, addr_start=a, addr_end=b) for a, b in others)
    return Damos("stat", ANY, core_filters=rejected, ops_filters=(YOUNG,))
