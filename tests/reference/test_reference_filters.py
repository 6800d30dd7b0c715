# SPDX-License-Identifier: GPL-2.0
"""Order, borders and truth of filters (specification §4.8)."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from reference_support import HEAP, MIB, RULES, STAT_ALL, Box

from damon_tests.damon.keywords import WORDS
from damon_tests.damon.params import Damos, DamosFilter
from damon_tests.ports import page_size
from damon_tests.reference.core.filters import FilterLists


def addr(start: int, end: int, **fields: bool) -> DamosFilter:
    return DamosFilter("addr", addr_start=start, addr_end=end, **fields)


def test_filters_are_asked_directory_by_directory_in_their_order():
    first, second, third = (addr(n, n + 1) for n in range(3))
    anon, active, young = DamosFilter("anon"), DamosFilter("active"), DamosFilter("young")
    given = Damos(core_filters=(first, second), ops_filters=(anon, active), filters=(third, young))
    lists = FilterLists.of(given, RULES)
    assert lists.core == (first, second, third)
    assert lists.ops == (anon, active, young)


def tried(*filters: DamosFilter) -> int:
    """Bytes of 8 MiB that are tried in each pass."""
    box = Box(8 * MIB)
    box.start(box.fvaddr(schemes=(replace(STAT_ALL, core_filters=filters),)))
    box.run(0.502)
    stats = box.client.stats(0, 0)
    assert stats.nr_snapshots == 5
    return stats.sz_tried // 5


def test_the_first_filter_that_matches_decides():
    inner = addr(HEAP + MIB, HEAP + 2 * MIB, matching=True, allow=True)
    outer = addr(HEAP, HEAP + 4 * MIB, matching=True, allow=False)
    assert tried(inner, outer) == 5 * MIB
    assert tried(outer, inner) == 0, "an allow list at the end rejects the rest"


@pytest.mark.parametrize(("cut", "pages"), [(0, 0), (1, 0), (4095, 0), (4096, 1), (4097, 1)])
def test_borders_of_address_filters_are_aligned_down(cut: int, pages: int):
    assert RULES.address_range(HEAP + cut, HEAP + cut, 4096) == (HEAP + pages * 4096,) * 2
    reject = addr(HEAP + MIB + cut, HEAP + 2 * MIB + cut, matching=True, allow=False)
    assert tried(reject) == 7 * MIB
    ends = addr(HEAP, HEAP + MIB + cut, matching=True, allow=True)
    assert tried(ends) == MIB + pages * page_size()


def test_active_pages_are_those_on_the_active_list():
    box = Box(8 * MIB, ram_bytes=64 * MIB)
    memory = box.system.memory
    memory.place()
    first = HEAP // page_size()
    memory.active[memory.processes[box.pid].frames_of(np.arange(first, first + 512))] = True
    allow = DamosFilter("active", matching=True, allow=True)
    box.start(box.fvaddr(schemes=(replace(STAT_ALL, ops_filters=(allow,)),)))
    box.run(0.102)
    assert box.client.stats(0, 0).sz_ops_filter_passed == 2 * MIB


def test_folio_sizes_and_intervals_are_inclusive_and_exact():
    sizes = np.array([4096, 8192, 2 * MIB])
    assert RULES.size_within(sizes, 4096, 8192).tolist() == [True, True, False]
    assert RULES.watermark_wait_us([500_000, 300_000]) == 300_000
    assert RULES.ages_after_sleep(np.array([3, 0])).tolist() == [3, 0]


def test_a_commit_brings_new_filters_and_makes_schemes_active_again():
    box = Box(8 * MIB)
    box.start(box.fvaddr(schemes=(STAT_ALL,)))
    box.run(0.5)
    scheme = box.core().schemes[0]
    scheme.activated = False
    reject = addr(HEAP, HEAP + 8 * MIB, matching=True, allow=False)
    box.commit(box.fvaddr(schemes=(replace(STAT_ALL, core_filters=(reject,)),)))
    assert scheme.activated
    before = box.client.stats(0, 0).sz_tried
    box.run(0.5)
    assert box.client.stats(0, 0).sz_tried == before > 0


def test_the_requested_action_is_done_on_the_requested_memory():
    for ops in ("vaddr", "paddr"):
        for action in WORDS["action"]:
            assert RULES.action_done(ops, action) == action
    assert RULES.action_range(HEAP, HEAP + MIB) == (HEAP, HEAP + MIB)
