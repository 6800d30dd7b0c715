# SPDX-License-Identifier: GPL-2.0
"""lru_prio, lru_deprio and cold, measured on the LRU list that each page is on."""

from dataclasses import replace

import pytest

from damon_tests.damon.params import DamonAttrs, DamonCtx, Kdamond
from damon_tests.damon.series import Series
from damon_tests.judge.schemes import effects
from damon_tests.judge.verdict import Check, Measurement
from damon_tests.kernel.guest.topology import Topology
from damon_tests.ports import page_size
from damon_tests.scenario.acting import BEFORE_APPLY, PATIENCE_NS, act, middle, scheme, upper_frames
from damon_tests.workload.pages import bytes_of

# Multi-generational LRU shows in no page flag how it ranks a page: the guest has the two lists instead.
pytestmark = pytest.mark.needs("schemes.lru_prio", "filters.addr", BEFORE_APPLY, lru_lists=1)

ATTRS = DamonAttrs(min_nr_regions=10, max_nr_regions=100)
PADDR = DamonCtx("paddr", attrs=ATTRS)
WATCHED = {"cover": "regions", "watched": 1, "extra_events": [BEFORE_APPLY]}
TWO = ["two_idle_regions", "two_idle_regions"]

# Pages change lists in batches of 31 (include/linux/pagevec.h), one for each CPU and kind of change; until
# one is full its pages wait, with their old flag. Kinds: to any list, to the active one, to the inactive one.
KINDS = 3
WAITING = 30 * Topology().cpus * KINDS * page_size()


def active(pages):
    return pages.active


def inactive(pages):
    return ~pages.active


def moved(done, asked_of, wanted):
    """The effect on both regions of the first target, and on all other memory."""
    effect = effects.all_spared(done.others("data", "other"))
    for region in ("data", "other"):
        before, after = done.pair(region)
        effect += effects.effect(before, after, asked_of(region, before), wanted)
    return effect


def visited(name, done, effect):
    """Check sz_applied of an action that counts every visited page, whatever became of it."""
    size, passes = done.sz_counted(), -(-done.sz_counted() // max(1, effect.asked))
    why = "sz_applied counts all pages of visited folios, except those waiting in a batch (§4.10)"
    return effects.applied(
        name, done.stats[0].sz_applied, size - passes * WAITING, size, why, effect=effect.gained
    )


def test_lru_prio_activates_and_lru_deprio_deactivates(live, expect):
    """lru_prio moves exactly its pages to the active list, and
    lru_deprio exactly its pages to the inactive one."""
    with live(TWO, PADDR, **WATCHED) as run:
        span, frames = upper_frames(run.target)
        everything = [f for ranges in run.target.physical().values() for f in ranges]
        passes = 1 if Series.of(run.level).activates_in_one_step else 2
        up = act(run, scheme("lru_prio", span), over=frames, passes=passes)
        act(run, scheme("lru_prio"), over=everything, passes=passes)
        down = act(run, scheme("lru_deprio", span), over=frames)
    least = bytes_of(effects.in_frames(up.before[0, "data"], [span])) // 2 or page_size()
    for name, done, wanted in (("lru_prio", up, active), ("lru_deprio", down, inactive)):
        effect = moved(done, lambda _, pages: effects.in_frames(pages, [span]), wanted)
        expect.add(
            effects.takes_effect(
                name, effect, "exactly its pages change lists (§4.10)", least=least, waiting=WAITING
            )
        )
        expect.add(visited(name, done, effect))
    was = Measurement("active before", sum(bytes_of(p.active) for p in up.before.values()), "bytes")
    expect.equal(was, 0, because="new anonymous memory begins on the inactive list")


def test_lru_prio_activates_at_the_first_visit_since_7_0(live, expect):
    """Since 7.0 one visit activates a page; before, the first visit only
    marks it accessed and the second activates it."""
    with live("two_idle_regions", PADDR, **WATCHED) as run:
        everything = [f for ranges in run.target.physical().values() for f in ranges]
        # Filling memory may have marked it accessed. What is deactivated has no mark any more.
        act(run, scheme("lru_prio"), over=everything, passes=2)
        act(run, scheme("lru_deprio"), over=everything)
        once = act(run, scheme("lru_prio", apply_us=2_000_000), over=everything)
        again = act(run, scheme("lru_prio", apply_us=2_000_000), over=everything)
    size = sum(end - start for start, end in everything)
    visits = sum(event.end - event.start for event in once.tried) / size
    m = Measurement("visits of the first pass", visits, "count")
    expect.add(Check("invariant", m, "== 1", "a single visit shows single steps", visits == 1 or None))
    first, second = (moved(done, lambda _, pages: pages.present, active) for done in (once, again))
    shown = {"least": size // 2, "waiting": WAITING}
    if Series.of(run.level).activates_in_one_step:
        expect.add(
            effects.takes_effect("first visit", first, "a visit activates at once since 7.0 (§4.10)", **shown)
        )
    else:
        m = Measurement("activated by the first visit", first.gained, "bytes")
        expect.at_most(m, WAITING, because="in 6.19 and older folio_mark_accessed() takes two steps")
        marked = moved(once, lambda _, pages: pages.present, lambda pages: pages.referenced)
        expect.add(
            effects.takes_effect("marked accessed", marked, "the first visit marks pages accessed", **shown)
        )
    expect.add(effects.takes_effect("second visit", second, "the second visit activates (§4.10)", **shown))


@pytest.mark.needs("schemes.cold")
def test_cold_moves_pages_to_the_inactive_list(live, expect):
    """cold moves exactly its pages to the inactive list, and takes none away."""
    prio = scheme("lru_prio")
    contexts = [Kdamond(DamonCtx("vaddr", attrs=ATTRS)), Kdamond(replace(PADDR, schemes=(prio,)))]
    with live(TWO, contexts, **WATCHED) as run:
        run.session.record(PATIENCE_NS, until=lambda: nearly_all_active(run))
        physical = run.session.kdamonds[1]
        without = replace(physical, ctx=replace(physical.ctx, schemes=()))
        run.session.commit((run.session.kdamonds[0], without))
        part = middle(run.target.layout["data"])
        done = act(run, scheme("cold", part), over=[part])
    effect = moved(done, lambda region, pages: in_part(region, pages, part), inactive)
    before = done.before[0, "data"]
    m = Measurement("active before", bytes_of(effects.in_ranges(before, [part]) & before.active), "bytes")
    expect.at_least(
        m, (part[1] - part[0]) // 2, because="lru_prio activated it before; else nothing is tested"
    )
    expect.add(
        effects.takes_effect(
            "cold", effect, "madvise(MADV_COLD) deactivates the pages (§4.10)", least=4 << 20, waiting=WAITING
        )
    )
    size = done.sz_counted()
    why = "sz_applied is the whole length (§4.10)"
    expect.add(effects.applied("cold", done.stats[0].sz_applied, size, size, why, effect=effect.gained))


def in_part(region, pages, part):
    """Which pages of a region are in the part."""
    return effects.in_ranges(pages, [part] if region == "data" else [])


def nearly_all_active(run):
    """Whether all but pages that may wait in a batch are on the active list."""
    return all(bytes_of(~run.pages(name).active) <= WAITING for name in run.target.layout)
