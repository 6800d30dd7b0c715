# SPDX-License-Identifier: GPL-2.0
"""Effects of actions on made-up page states: done, missed, collateral."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from damon_tests.damon.params import DamosDest
from damon_tests.judge.schemes import effects
from damon_tests.judge.schemes.effects import Effect
from damon_tests.judge.verdict import Verdict, decide
from damon_tests.ports import page_size
from damon_tests.workload.pages import PageStates

START = 64 << 20
HUGE = 2 << 20


def states(count: int = 8, **flags: list[int]) -> PageStates:
    """Return pages in memory, on an LRU list, of node 0; ``flags``: the pages with a flag (or without
    present, lru)."""
    pages = PageStates(
        START,
        0,
        present=np.ones(count, np.bool_),
        swapped=np.zeros(count, np.bool_),
        huge=np.zeros(count, np.bool_),
        lru=np.ones(count, np.bool_),
        active=np.zeros(count, np.bool_),
        referenced=np.zeros(count, np.bool_),
        unevictable=np.zeros(count, np.bool_),
        node=np.zeros(count, np.int64),
        frame=np.arange(100, 100 + count),
    )
    for name, chosen in flags.items():
        array = getattr(pages, name)
        array[chosen] = not array[0] if name in ("present", "lru") else True
        if name == "swapped":
            pages.present[chosen] = False
    return pages


def page(number: int) -> int:
    return START + number * page_size()


def test_pages_count_only_wholly_inside_ranges() -> None:
    pages = states()
    inside = effects.in_ranges(pages, [(page(1) + 1, page(4)), (page(6), page(7))])
    assert inside.nonzero()[0].tolist() == [2, 3, 6]  # page 1 only partly
    pages.present[3] = False
    frames = effects.in_frames(pages, [(102 * page_size(), 105 * page_size())])
    assert frames.nonzero()[0].tolist() == [2, 4]


def test_only_whole_2_mib_blocks_become_huge() -> None:
    pages = states(3 * 512)
    # Two ranges that touch are two calls: the block between them is in neither.
    ranges = [(page(0), page(700)), (page(700), page(3 * 512)), (page(100), page(500))]
    inside = effects.in_whole_blocks(pages, ranges)
    assert inside.reshape(3, 512).all(axis=1).tolist() == [True, False, True]
    assert inside.sum() == 1024


def test_effect_counts_done_missed_gained_and_collateral() -> None:
    before, after = states(lru=[3], swapped=[4]), states(swapped=[1, 4, 6])
    asked = effects.in_ranges(before, [(page(1), page(5))])
    measured = effects.effect(before, after, asked, lambda p: p.swapped)
    p = page_size()
    # 1 went, 2 should have, 3 was on no list, 4 was there already; 6 went though nobody asked.
    assert measured == Effect(asked=4 * p, able=2 * p, done=2 * p, missed=p, gained=p, collateral=p)
    excused = effects.effect(
        before, after, asked, lambda p: p.swapped, excused=effects.changed(before, after)
    )
    assert excused.collateral == 0
    assert measured + measured == Effect(8 * p, 4 * p, 4 * p, 2 * p, 2 * p, 2 * p)


@pytest.mark.parametrize("name", ["present", "swapped", "huge", "active"])
def test_change_of_other_memory_is_collateral(name: str) -> None:
    measured = effects.spared(states(), states(**{name: [2, 5]}))
    assert measured.collateral == 2 * page_size()
    assert not effects.spares_others("x", measured).holds


def test_moved_page_is_collateral_and_page_waiting_for_lru_is_not() -> None:
    moved = states()
    moved.node[3] = 1
    assert effects.spared(states(), moved).collateral == page_size()
    assert effects.spared(states(lru=[1]), states(referenced=[4])).collateral == 0
    assert effects.spared(states(), states(lru=[1], active=[1])).collateral == 0
    assert effects.all_spared([(states(), moved), (states(), states())]).collateral == page_size()


def verdict(measured: Effect, least: int = page_size()) -> Verdict:
    return decide(effects.takes_effect("x", measured, "because", least=least))[0]


def test_missed_bytes_fail_and_nothing_able_is_inconclusive() -> None:
    p = page_size()
    good = Effect(asked=4 * p, able=3 * p, done=3 * p, gained=3 * p)
    assert verdict(good) is Verdict.PASS
    assert verdict(replace(good, missed=p)) is Verdict.FAIL
    assert verdict(replace(good, collateral=p)) is Verdict.FAIL
    assert verdict(good, least=4 * p) is Verdict.INCONCLUSIVE
    late = replace(good, missed=2 * p, collateral=p)
    for waiting, holds in ((p, False), (2 * p, True)):
        assert all(c.holds for c in effects.takes_effect("x", late, "", waiting=waiting)) is holds
    assert verdict(Effect()) is Verdict.INCONCLUSIVE


def test_sz_applied_beyond_bounds_fails() -> None:
    for claimed, holds in ((99, False), (100, True), (150, True), (200, True), (203, False)):
        check = effects.applied("x", claimed, 100, 200, "because", effect=120)
        assert (check.measurement.value, check.measurement.unit) == (claimed - 120, "bytes")
        assert (check.limit, check.holds) == ("-20 to 80", holds)


def test_isolated_page_on_no_lru_list_fails() -> None:
    pairs = [
        (states(), states(lru=[1, 2])),
        (states(lru=[0]), states(lru=[0])),
        (states(), states(swapped=[3])),
    ]
    for waiting, holds in ((page_size(), False), (2 * page_size(), True)):
        assert effects.put_back("x", pairs, waiting).holds is holds


def test_ranges_with_holes_are_not_fully_mapped() -> None:
    mapped = [(0x3000, 0x5000), (0x1000, 0x3000), (0x6000, 0x8000)]
    tried = [(0x1000, 0x4000), (0x4000, 0x6000), (0x6000, 0x8000), (0x7000, 0x9000), (0x2000, 0x3000)]
    assert effects.fully_mapped(tried, mapped) == 0x3000 + 0x2000 + 0x1000


def test_interleaving_follows_weights() -> None:
    """Specification 4.10: the address over the page's size, modulo the sum of weights."""
    pages = states(8)
    dests = (DamosDest(0, 1), DamosDest(3, 2))
    first = START // page_size() % 3
    cycle = [0, 3, 3]
    assert effects.interleaved(pages, dests).tolist() == [cycle[(first + i) % 3] for i in range(8)]
    assert effects.interleaved(pages, (DamosDest(1, 0),)).tolist() == [-1] * 8
    huge = states(1024)
    huge.huge[512:] = True
    nodes = effects.interleaved(huge, dests)
    assert set(nodes[512:].tolist()) == {cycle[(START // HUGE + 1) % 3]}
