# SPDX-License-Identifier: GPL-2.0
"""migrate_hot, migrate_cold and their weighted destinations, measured on the node that each page is on."""

from dataclasses import replace

import numpy as np
import pytest

from damon_tests.damon.params import DamonAttrs, DamonCtx, DamosDest
from damon_tests.judge.chart import explained
from damon_tests.judge.schemes import effects
from damon_tests.judge.verdict import Measurement
from damon_tests.kernel.guest.topology import Topology
from damon_tests.patterns.spec import Access, Pattern, PatternRegion, Phase
from damon_tests.ports import NSEC_PER_SEC, huge_page_size, page_size
from damon_tests.scenario.acting import BEFORE_APPLY, act, middle, scheme, upper_frames
from damon_tests.workload.pages import bytes_of

pytestmark = pytest.mark.needs("schemes.migrate_cold", "filters.addr", BEFORE_APPLY, numa_nodes=2)
FULL = pytest.mark.profile("full")
HUGE = huge_page_size()
VADDR_MIGRATES = pytest.mark.needs("schemes.dests")  # came in the same release, 6.17

ATTRS = DamonAttrs(min_nr_regions=10, max_nr_regions=100)
VADDR = DamonCtx("vaddr", attrs=ATTRS)
PADDR = DamonCtx("paddr", attrs=ATTRS)
WATCHED = {"cover": "regions", "watched": 1, "extra_events": [BEFORE_APPLY]}
TWO = ["two_idle_regions", "two_idle_regions"]
EXACT = "sz_applied counts the pages that moved (§4.10)"

# Pages that are put back wait in batches of 31 (include/linux/pagevec.h), one for each CPU.
WAITING = 31 * Topology().cpus * page_size()


def on(nid):
    return lambda pages: pages.node == nid


def moved(done, asked_of, wanted):
    """The effect on both regions of the first target and on all other memory."""
    effect = effects.all_spared(done.others("data", "other"))
    for region in ("data", "other"):
        before, after = done.pair(region)
        effect += effects.effect(before, after, asked_of(region, before), wanted)
    return effect


def check_applied(expect, name, done, effect):
    # Pages on their way to an LRU list may move between the last statistics and the end.
    low = effect.gained - (effect.asked - effect.able)
    counted, gained = done.stats[0].sz_applied, effect.gained
    check = effects.applied(name, counted, max(0, low), gained, EXACT, effect=gained)
    # Memory that stays on its node is worth a picture, too: it was asked to move, or was counted as moved.
    expect.add(explained(check, lambda: effect.chart(name, least_nodes=1)))


@VADDR_MIGRATES
@pytest.mark.parametrize("action", ["migrate_hot", pytest.param("migrate_cold", marks=FULL)])
def test_vaddr_migration_moves_exactly_its_pages(live, expect, action):
    """Migration by virtual address moves exactly its pages to the node, and no pages of others."""
    with live(TWO, VADDR, **WATCHED) as run:
        part = middle(run.target.layout["data"])
        # Visited again, a page that is there already is no success any more.
        done = act(run, scheme(action, part, target_nid=1), over=[part], passes=2)
    effect = moved(
        done, lambda name, pages: effects.in_ranges(pages, [part] if name == "data" else []), on(1)
    )
    expect.add(effects.takes_effect(action, effect, "pages move to target_nid (§4.10)"))
    expect.add(effects.put_back(action, done.pairs().values(), WAITING))
    check_applied(expect, action, done, effect)


@pytest.mark.parametrize("action", [pytest.param("migrate_hot", marks=FULL), "migrate_cold"])
def test_paddr_migration_moves_exactly_its_frames(live, expect, action):
    """Migration by physical address moves exactly the pages in its frames to the node, whoever owns them."""
    with live(TWO, PADDR, **WATCHED) as run:
        span, frames = upper_frames(run.target)
        done = act(run, scheme(action, span, target_nid=1), over=frames, passes=2)
    effect = moved(done, lambda _, pages: effects.in_frames(pages, [span]), on(1))
    expect.add(effects.takes_effect(action, effect, "pages move to target_nid (§4.10)"))
    expect.add(effects.put_back(action, done.pairs().values(), WAITING))
    check_applied(expect, action, done, effect)


@pytest.mark.known_defect("unmovable-pages-left-off-lru")
@pytest.mark.parametrize("ctx", [pytest.param(VADDR, marks=VADDR_MIGRATES), PADDR], ids=["vaddr", "paddr"])
def test_migration_to_a_missing_node_moves_nothing(live, expect, ctx):
    """Without target node, or with one that does not exist, nothing moves and nothing breaks."""
    with live("two_idle_regions", ctx, **WATCHED) as run:
        everything = [r for t in run.ctx.targets for r in t.regions]
        schemes = [scheme("migrate_cold", target_nid=nid) for nid in (-1, 7)]
        done = act(run, *schemes, over=everything)
    expect.add(effects.spares_others("no node", effects.all_spared(done.pairs().values())))
    expect.add(effects.put_back("no node", done.pairs().values(), WAITING))
    applied = Measurement("sz_applied", sum(s.sz_applied for s in done.stats), "bytes")
    expect.equal(applied, 0, because="pages that cannot move are put back (§4.10)")


WEIGHTS = {
    "1:3": (DamosDest(0, 1), DamosDest(1, 3)),
    "2:1": (DamosDest(1, 2), DamosDest(0, 1)),
    "only 1": (DamosDest(1, 5),),
    "0:1": (DamosDest(0, 0), DamosDest(1, 1)),
    "three": (DamosDest(1, 1), DamosDest(0, 4), DamosDest(1, 2)),
    "none": (DamosDest(0, 0), DamosDest(1, 0)),
}
QUICK = ("1:3", "none")


@pytest.mark.needs("schemes.dests")
@pytest.mark.parametrize("name", [w if w in QUICK else pytest.param(w, marks=FULL) for w in WEIGHTS])
def test_destination_weights_split_pages(live, expect, name):
    """dests sends each page to the node that its index and the weights select; without weights none moves."""
    dests = WEIGHTS[name]
    with live(TWO, VADDR, **WATCHED) as run:
        part = middle(run.target.layout["data"])
        done = act(run, scheme("migrate_hot", part, dests=dests), over=[part], passes=2)
    before, after = done.pair("data")
    wanted = effects.interleaved(before, dests)
    wanted = np.where(wanted < 0, before.node, wanted)
    asked = effects.in_ranges(before, [part])
    effect = effects.effect(before, after, asked, lambda pages: pages.node == wanted)
    effect += effects.all_spared(done.others("data"))
    expect.add(
        effects.takes_effect("dests", effect, "pages are interleaved by their index and the weights (§4.10)")
    )
    check_applied(expect, "dests", done, effect)
    if name == "1:3":
        share = float((after.node[asked] == 1).mean())
        m = Measurement("share on node 1", share, "fraction")
        unable = float((asked & ~before.lru).sum() / asked.sum())
        why = "3 of 4 pages go there, except the last period and pages on no LRU list yet (I60)"
        expect.between(m, 0.75 - unable - 4 / asked.sum(), 0.75 + 4 / asked.sum(), because=why)


@pytest.mark.needs("schemes.dests")
def test_paddr_migration_ignores_destinations(live, expect):
    """Migration by physical address moves to target_nid, whatever dests says."""
    dests = (DamosDest(0, 1), DamosDest(1, 1))
    with live("two_idle_regions", PADDR, **WATCHED) as run:
        everything = [f for ranges in run.target.physical().values() for f in ranges]
        done = act(run, scheme("migrate_cold", dests=dests, target_nid=1), over=everything)
    effect = moved(done, lambda _, pages: pages.present, on(1))
    expect.add(
        effects.takes_effect(
            "migrate_cold", effect, "paddr moves to target_nid and ignores dests (§4.10)", least=16 << 20
        )
    )
    check_applied(expect, "migrate_cold", done, effect)


def huge_pages():
    """Return a pattern of huge pages, one small page of each in use."""
    count = max(8, (64 << 20) // HUGE)
    data = PatternRegion("data", count * HUGE, hugepage=True)
    use = Access("data", 0, page_size(), islands=count, every_bytes=HUGE, period_ns=2_000_000)
    phase = Phase("steady", 3600 * NSEC_PER_SEC, (use,))
    return Pattern("huge_pages", "one small page in use of each", (data,), (phase,), repeat=True)


@FULL
@pytest.mark.needs("schemes.dests", thp_on_advice=1, memory_mib=48 * HUGE >> 20)
def test_huge_pages_move_as_a_whole(live, expect):
    """Each huge page moves as a whole, to the node that its index selects."""
    dests = (DamosDest(0, 1), DamosDest(1, 2))
    with live(huge_pages(), VADDR, **WATCHED) as run:
        whole = run.target.layout["data"]
        done = act(run, scheme("migrate_hot", dests=dests), over=[whole], passes=2)
    before, after = done.pair("data")
    m = Measurement("huge before", bytes_of(before.huge), "bytes")
    expect.at_least(m, max(32 << 20, 4 * HUGE), because="there are huge pages; else nothing is tested")
    wanted = effects.interleaved(before, dests)
    kept = replace(after, huge=before.huge)
    effect = effects.effect(before, kept, before.present, lambda pages: pages.node == wanted)
    expect.add(
        effects.takes_effect(
            "dests", effect, "huge pages are interleaved by their index and the weights (§4.10)"
        )
    )
    m = Measurement("huge pages that were split", bytes_of(before.huge & ~after.huge), "bytes")
    expect.equal(m, 0, because="folios are moved as a whole (§4.10)")


SMALL_NODES = Topology(memory_mib=512, numa_nodes=2)
ROOM = 6 << 20


def filling(size):
    """A process with so much memory of node 1, left alone."""
    region = PatternRegion("data", size, hugepage=True, node=1)
    phase = Phase("idle", 3600 * NSEC_PER_SEC, ())
    return Pattern("filling", "memory that fills a node", (region,), (phase,), repeat=True)


@pytest.mark.known_defect("migration-within-own-node")
@FULL
@pytest.mark.parametrize("ctx", [pytest.param(VADDR, marks=VADDR_MIGRATES), PADDR], ids=["vaddr", "paddr"])
def test_pages_that_do_not_fit_into_the_node_stay(live, expect, ctx):
    """A node that is almost full gets as many pages as fit; the others
    stay, and sz_applied counts those that moved."""
    with live("two_idle_regions", ctx, **WATCHED, topology=SMALL_NODES) as run:
        size = (run.subject.memory_info().node_free[1] - ROOM) // huge_page_size() * huge_page_size()
        hog = run.subject.start_target(filling(size), 1)
        try:
            everything = [r for t in run.ctx.targets for r in t.regions]
            free = run.subject.memory_info().node_free[1]
            done = act(run, scheme("migrate_cold", target_nid=1), over=everything, passes=3, more=[hog])
            left = run.subject.memory_info()
        finally:
            hog.stop()
    pairs = [done.pair(region) for region in run.target.layout]
    moved = sum(bytes_of((after.node == 1) & (before.node == 0)) for before, after in pairs)
    m = Measurement("bytes that moved", moved, "bytes")
    # What was on its way to the node's free lists, and what others gave back meanwhile.
    expect.between(
        m,
        page_size(),
        free + (1 << 20),
        because=f"the node had {free} bytes free, {left.node_free[1]} are left",
    )
    stayed = sum(bytes_of(before.present & (after.node == before.node)) for before, after in pairs)
    whole = sum(bytes_of(before.present) for before, _ in pairs)
    m = Measurement("bytes that neither moved nor stayed", whole - moved - stayed, "bytes")
    copied = sum(
        bytes_of((after.node == before.node) & (after.frame != before.frame)) for before, after in pairs
    )
    expect.equal(
        m, 0, because="pages that do not fit are put back (§4.10)", detail=f"{copied} in other frames now"
    )
    expect.add(effects.put_back("full node", done.pairs().values(), WAITING))
    before, after = done.before[1, "data"], done.after[1, "data"]
    expect.add(effects.spares_others("full node", effects.spared(before, after)))
    # After the last statistics a page may still have gone where one had become free.
    low = max(0, moved - WAITING)
    expect.add(effects.applied("full node", done.stats[0].sz_applied, low, moved, EXACT, effect=moved))
    tried = Measurement("bytes tried", done.sz_counted(), "bytes")
    expect.at_least(tried, 3 * whole, because="each of three passes tried all memory")
