# SPDX-License-Identifier: GPL-2.0
"""pageout, and willneed, which reads pages back, measured on pages in memory or in swap."""

from dataclasses import replace

import numpy as np
import pytest

from damon_tests.damon.params import U32_MAX, U64_MAX, DamonAttrs, DamonCtx, Damos, DamosAccessPattern
from damon_tests.judge.schemes import effects
from damon_tests.judge.verdict import Measurement
from damon_tests.patterns.spec import Pattern, PatternRegion, Phase
from damon_tests.ports import NSEC_PER_MSEC, NSEC_PER_SEC, huge_page_size, page_size
from damon_tests.scenario.acting import (
    BEFORE_APPLY,
    PATIENCE_NS,
    act,
    middle,
    scheme,
    upper_frames,
    waiting,
)
from damon_tests.workload.pages import bytes_of

pytestmark = pytest.mark.needs("schemes.pageout", "filters.addr", BEFORE_APPLY)
SWAP = pytest.mark.needs(swap_mib=256)

ATTRS = DamonAttrs(min_nr_regions=10, max_nr_regions=100)
VADDR = DamonCtx("vaddr", attrs=ATTRS)
PADDR = DamonCtx("paddr", attrs=ATTRS)
WATCHED = {"cover": "regions", "watched": 1, "extra_events": [BEFORE_APPLY]}
TWO = ["two_idle_regions", "two_idle_regions"]


def swapped(pages):
    return pages.swapped


@SWAP
@pytest.mark.parametrize("ops", ["vaddr", pytest.param("fvaddr", marks=pytest.mark.profile("full"))])
def test_vaddr_pageout_swaps_out_exactly_its_pages(live, expect, ops):
    """pageout by virtual address swaps out exactly its pages, and no pages of others."""
    with live(TWO, replace(VADDR, operations=ops), **WATCHED) as run:
        part = middle(run.target.layout["data"])
        done = act(run, scheme("pageout", part), over=[part])
    before, after = done.pair("data")
    effect = effects.effect(before, after, effects.in_ranges(before, [part]), swapped)
    effect += effects.all_spared(done.others("data"))
    expect.add(effects.takes_effect("pageout", effect, "madvise(MADV_PAGEOUT) reclaims the region (§4.10)"))
    size, why = done.sz_counted(), "sz_applied is the whole length each time, whatever was reclaimed (§4.10)"
    expect.add(effects.applied("pageout", done.stats[0].sz_applied, size, size, why, effect=effect.gained))


@SWAP
def test_paddr_pageout_empties_exactly_its_frames(live, expect):
    """pageout by physical address empties exactly its frames; sz_applied is what really left memory."""
    with live(TWO, PADDR, **WATCHED) as run:
        span, frames = upper_frames(run.target)
        # The first pass finds pages young since they were filled, and makes them old.
        done = act(run, scheme("pageout", span), over=frames, passes=3)
    effect = effects.all_spared(done.others("data", "other"))
    for region in run.target.layout:
        before, after = done.pair(region)
        effect += effects.effect(before, after, effects.in_frames(before, [span]), swapped)
    expect.add(effects.takes_effect("pageout", effect, "idle pages are reclaimed (§4.10)"))
    # Pages on their way to an LRU list may be reclaimed between the last statistics and the end.
    low, why = (
        effect.gained - (effect.asked - effect.able),
        "sz_applied counts the pages that were reclaimed (§4.10)",
    )
    expect.add(
        effects.applied("pageout", done.stats[0].sz_applied, low, effect.gained, why, effect=effect.gained)
    )


@SWAP
@pytest.mark.accuracy
def test_pageout_of_cold_memory_spares_used_memory(live, expect):
    """pageout of cold memory swaps out all that was tried and not used again, and nothing else."""
    cold = DamosAccessPattern(0, U64_MAX, 0, 0, 3, U32_MAX)
    with live("half_used", VADDR, **WATCHED) as run:
        run.record(1)
        last = run.target.layout["data"][1]
        done = act(run, Damos("pageout", cold), over=[(last - (4 << 20), last)])
    before, after = done.pair("data")
    asked = effects.in_ranges(before, [(event.start, event.end) for event in done.tried])
    pages = before.start // page_size() + np.arange(len(before))
    # A pass that began shortly before the look may be in the truth and not yet in the pages.
    margin_ns = 100 * NSEC_PER_MSEC
    touched = run.target.truth().touched(pages, before.time_ns - margin_ns, after.time_ns + margin_ns)
    idle = asked & ~touched
    effect = effects.effect(before, after, idle, swapped, excused=touched)
    expect.add(
        effects.takes_effect(
            "pageout", effect, "pages that were tried and not used are reclaimed (§4.10)", least=4 << 20
        )
    )
    used = run.target.truth().touched(pages, before.time_ns - margin_ns, before.time_ns)
    gone = Measurement(
        "used pages that were not tried and left", bytes_of(used & ~asked & after.swapped), "bytes"
    )
    expect.equal(gone, 0, because="an action is applied to its regions only")


@SWAP
@pytest.mark.accuracy
def test_paddr_pageout_spares_pages_in_use(live, expect):
    """pageout of all physical memory spares the pages that were used since its last pass."""
    apply_ns, passes = 500 * NSEC_PER_MSEC, 3
    with live("half_used", PADDR, **WATCHED) as run:
        frames = sorted(f for ranges in run.target.physical().values() for f in ranges)
        everything = scheme("pageout", apply_us=apply_ns // 1000)
        done = act(run, everything, over=frames, passes=passes)
    before, after = done.pair("data")
    start, end = run.target.layout["data"]
    hot = effects.in_ranges(before, [(start, (start + end) // 2)])
    effect = effects.effect(before, after, ~hot, swapped, excused=hot)
    expect.add(effects.takes_effect("pageout", effect, "idle pages are reclaimed (§4.10)", least=6 << 20))
    visits, hot_bytes = len(done.counted[0]), bytes_of(hot)
    # The access check makes a page of each region old in every sample: it may not have been used since then,
    # for a period of the pattern, and for as long as the target did not run.
    period_ns, sample_ns = 10 * NSEC_PER_MSEC, ATTRS.sample_us * 1000
    stall_ns = max((end - start for start, end in run.target.disturbances(sample_ns)), default=0)
    excess = min(visits * (1 + (period_ns + stall_ns) // sample_ns) * page_size(), hot_bytes * (passes + 2))
    if stall_ns >= apply_ns // 2:  # all its pages may have been old
        excess = hot_bytes * (passes + 2)
    why = "a page that was used since the last pass is young, and is rejected (§4.10)"
    low = effect.gained - (effect.asked - effect.able)
    counted, high = done.stats[0].sz_applied, effect.gained + excess
    expect.add(effects.applied("pageout", counted, low, high, why, effect=effect.gained))


@pytest.mark.needs(swap_mib=4)
@pytest.mark.parametrize(
    "ctx", [pytest.param(VADDR, marks=pytest.mark.profile("full")), PADDR], ids=["vaddr", "paddr"]
)
def test_pages_that_do_not_fit_into_swap_stay(live, expect, ctx):
    """With little swap little is swapped out, and the rest stays. madvise()
    counts as success all the same; paddr counts what left."""
    with live("two_idle_regions", ctx, **WATCHED) as run:
        everything = [r for t in run.ctx.targets for r in t.regions]
        done = act(run, scheme("pageout"), over=everything, passes=3)
        info = run.subject.memory_info()
    pairs = [done.pair(region) for region in run.target.layout]
    gone = sum(bytes_of(after.swapped) for _, after in pairs)
    m = Measurement("bytes in swap", gone, "bytes")
    expect.between(m, 1 << 20, info.swap_total, because="swap holds no more, and nobody else uses it")
    lost = sum(bytes_of(~after.present & ~after.swapped) for _, after in pairs)
    expect.equal(
        Measurement("bytes lost", lost, "bytes"), 0, because="pages that cannot be written stay in memory"
    )
    applied, tried = done.stats[0].sz_applied, done.sz_counted()
    if ctx is PADDR:
        # A pass between the last statistics and the end finds no more room than those before.
        size, why = gone, "sz_applied counts the pages that were reclaimed (§4.10)"
    else:
        size, why = tried, "the call succeeds whatever was reclaimed (§4.10)"
    expect.add(effects.applied("pageout", applied, size, size, why, effect=gone))


@SWAP
@pytest.mark.parametrize(
    "operations",
    [
        pytest.param("paddr", marks=pytest.mark.needs("ops.paddr")),
        pytest.param("fvaddr", marks=[pytest.mark.needs("ops.fvaddr"), pytest.mark.profile("full")]),
    ],
)
def test_pageout_swaps_out_shared_memory(live, expect, operations):
    """Pages of shmem go to swap as anonymous ones do, and none is lost."""
    regions = (PatternRegion("anonymous", 4 << 20), PatternRegion("shared", 4 << 20, memory="shmem"))
    idle = Phase("idle", 3600 * NSEC_PER_SEC, ())
    of = Pattern("anonymous_and_shared", "memory of both kinds, left alone", regions, (idle,), repeat=True)
    with live(of, DamonCtx(operations, attrs=ATTRS), **WATCHED) as run:
        used = run.subject.memory_info().swap_used
        over = [r for t in run.ctx.targets for r in t.regions]
        if operations == "paddr":
            over = sorted(f for ranges in run.target.physical().values() for f in ranges)
        done = act(run, scheme("pageout"), over=over, passes=3)
        used = run.subject.memory_info().swap_used - used
    effect = effects.Effect()
    for region in run.target.layout:
        before, after = done.pair(region)
        effect += effects.effect(before, after, before.present, lambda pages: ~pages.present)
    expect.add(effects.takes_effect("pageout", effect, "idle pages are reclaimed (§4.10)", least=4 << 20))
    m = Measurement("bytes more in swap", used, "bytes")
    # Each CPU may have taken some swap for what comes next.
    expect.between(
        m,
        effect.gained,
        effect.gained + huge_page_size(),
        because="every page that is not in memory is in swap",
    )
    if operations == "paddr":
        low, high = effect.gained - (effect.asked - effect.able), effect.gained
    else:
        low = high = done.sz_counted()
    why = "sz_applied counts reclaimed pages, or the whole length of virtual memory (§4.10)"
    expect.add(effects.applied("pageout", done.stats[0].sz_applied, low, high, why, effect=effect.gained))


@SWAP
@pytest.mark.needs("schemes.willneed")
def test_willneed_reads_exactly_its_pages_from_swap(live, expect):
    """willneed reads exactly its pages from swap; of the others only the used pages come back."""
    with live("two_idle_regions", VADDR, **WATCHED) as run, waiting(run, "half_used") as target:
        start, end = target.layout["data"]
        wanted, used = middle((start, start + (8 << 20))), (start, start + (8 << 20))
        act(run, scheme("pageout"), over=[(start, end)], more=[target])
        out, reads = run.subject.pages(target, start, end), [reads_from_swap(run)]
        done = act(run, scheme("willneed", wanted), over=[wanted], more=[target])
        reads.append(reads_from_swap(run))
        target.go()
        back = run.session.record(PATIENCE_NS, until=lambda: there(run, target, used))
        reads.append(reads_from_swap(run))
        after = run.subject.pages(target, start, end)
    asked = effects.in_ranges(out, [wanted])
    first = Measurement("read by willneed", (reads[1] - reads[0]) * page_size(), "bytes")
    expect.equal(
        first, bytes_of(asked & out.swapped), because="madvise(MADV_WILLNEED) reads exactly its pages (§4.10)"
    )
    size, why = done.sz_counted(), "sz_applied is the whole length (§4.10)"
    expect.add(
        effects.applied("willneed", done.stats[0].sz_applied, size, size, why, effect=int(first.value))
    )
    used_pages = effects.in_ranges(out, [used])
    m = Measurement("used pages that came back", bytes_of(used_pages & after.present), "bytes")
    expect.equal(
        m,
        bytes_of(used_pages),
        because="touched memory is faulted in" if back else "touched memory is faulted in, in time",
    )
    second = Measurement("read by use", (reads[2] - reads[1]) * page_size(), "bytes")
    # What willneed read is in memory already, and not read again.
    why = "only used pages are read, and those read before are not"
    expect.equal(second, bytes_of(used_pages & out.swapped & ~asked), because=why)
    idle = ~used_pages & out.swapped
    m = Measurement("unused pages that came back", bytes_of(idle & ~after.swapped), "bytes")
    expect.equal(m, 0, because="nobody used these pages, and no scheme matched them")


def there(run, target, span):
    """Whether all pages of a range of bytes are in memory now."""
    return bool(run.subject.pages(target, *span).present.all())


def reads_from_swap(run):
    """Pages read from swap so far, of all processes."""
    return run.subject.memory_info().counters["pswpin"]
