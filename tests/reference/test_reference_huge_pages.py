# SPDX-License-Identifier: GPL-2.0
"""A huge page has one accessed bit and one cached translation, whoever reads or clears them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from reference_support import HEAP, MIB, STAT_ALL, Box, HotTruth, TimedTruth, heap

from damon_tests.damon.params import ANY, DamonProbe, DamonProbeFilter, DamonTarget, Damos, DamosFilter
from damon_tests.ports import page_size
from damon_tests.reference.machine.process import Process
from damon_tests.reference.machine.tlb import Tlb

PAGE = page_size()
BLOCK = 512  # pages
FIRST = HEAP // PAGE
YOUNG = replace(STAT_ALL, ops_filters=(DamosFilter("young", True, True),))


def huge_box(size: int, *, huge: bool = True, hot=(), others=(), **machine) -> Box:
    """A machine whose only process has its heap in huge pages (or small ones)."""
    box = Box(size, ram_bytes=128 * MIB, **machine)
    box.system.remove_process(box.pid)
    span = (HEAP, HEAP + size)
    box.pid = box.system.add_process(
        heap(size), HotTruth([span], hot), huge=[span] if huge else [], others=others
    )
    return box


def process_of(box: Box) -> Process:
    return box.system.memory.processes[box.pid]


def frames(box: Box, pages: int) -> np.ndarray:
    """The frames of the first pages of the heap."""
    box.system.memory.place()
    return process_of(box).frames_of(np.arange(FIRST, FIRST + pages))


@pytest.mark.parametrize(("huge", "low", "high"), [(True, 0, 0), (False, 7 * MIB, 12 * MIB)])
@pytest.mark.parametrize("operations", ["fvaddr", "paddr"])
def test_a_sample_makes_a_huge_page_old_as_a_whole(operations, huge, low, high):
    """200 samples of three to six regions: all 6 huge pages were cleared, of 3072 small ones 1200 at most."""
    box = huge_box(12 * MIB, huge=huge)
    places = box.system.physical_ranges(box.pid, HEAP, HEAP + 12 * MIB)
    ranges = tuple(places) if operations == "paddr" else ((HEAP, HEAP + 12 * MIB),)
    scheme = replace(YOUNG, apply_interval_us=1_000_000)
    ctx = box.ctx(operations=operations, min_nr_regions=3, max_nr_regions=3, schemes=(scheme,))
    box.start(replace(ctx, targets=(DamonTarget(0 if operations == "paddr" else box.pid, ranges),)))
    box.run(1.001)
    assert low <= box.client.stats(0, 0).sz_ops_filter_passed <= high


def test_a_huge_page_has_one_translation():
    """Each page of it is touched once, one a millisecond: through a translation that the first one loaded."""

    def hot(t0_ns, t1_ns):
        first, last = t0_ns // 1_000_000, -(-t1_ns // 1_000_000)
        return [(HEAP + n % BLOCK * PAGE, HEAP + n % BLOCK * PAGE + PAGE) for n in range(first, last)]

    counts = {}
    for huge in (True, False):
        box = Box(ram_bytes=128 * MIB, tlb=Tlb(100_000_000))
        truth = TimedTruth([(HEAP, HEAP + 2 * MIB)], hot)
        spans = [(HEAP, HEAP + 2 * MIB)] if huge else []
        box.pid = box.system.add_process(heap(2 * MIB), truth, huge=spans)
        steps = range(200_000_000, 700_000_000, 5_000_000)
        pages = np.arange(FIRST, FIRST + BLOCK)
        hits = [process_of(box).accessed(pages, t, t + 5_000_000) for t in steps]
        assert all(row.all() or not row.any() for row in hits) is huge
        counts[huge] = sum(bool(row.any()) for row in hits)
    assert counts == {True: 5, False: 100}, (
        "one eviction in 100 ms; small pages are touched for the first time"
    )


def test_the_accessed_bit_is_the_same_for_one_time_and_for_a_time_of_each():
    box = huge_box(4 * MIB, hot=[(HEAP + 2 * MIB + 7 * PAGE, HEAP + 2 * MIB + 8 * PAGE)])
    frames(box, 1)
    pages = np.arange(FIRST, FIRST + 2 * BLOCK)
    assert process_of(box).accessed(pages, 0, 5).tolist() == [False] * BLOCK + [True] * BLOCK
    process_of(box).tlb = Tlb(10)  # asks for a time of each; long idle, and then touched
    assert process_of(box).accessed(pages, 0, 20).tolist() == [False] * BLOCK + [True] * BLOCK


def test_a_huge_page_that_another_process_touches_is_accessed_as_a_whole():
    touched = HotTruth([(HEAP, HEAP + 4 * MIB)], [(HEAP + 2 * MIB, HEAP + 2 * MIB + PAGE)])
    box = huge_box(4 * MIB, others=(((HEAP, HEAP + 4 * MIB), touched),))
    hits = box.system.memory.frames_accessed(frames(box, 2 * BLOCK), 0, 5)
    assert hits.tolist() == [False] * BLOCK + [True] * BLOCK


def test_a_new_huge_page_is_young():
    box = huge_box(2 * MIB, huge=False)
    memory = box.system.memory
    memory.note_cleared(frames(box, BLOCK), 5)
    assert not memory.is_young(frames(box, BLOCK), 10).any()
    memory.make_huge(process_of(box), [(HEAP, HEAP + 2 * MIB)])
    assert memory.is_young(frames(box, BLOCK), 20).all()
    memory.note_cleared(frames(box, BLOCK)[7:8], 30)
    memory.split_huge(frames(box, 1))
    assert not memory.is_young(frames(box, BLOCK), 40).any(), "small pages inherit the bit"


def test_cold_splits_huge_pages_that_it_is_about_in_part():
    box = huge_box(8 * MIB)
    box.start(
        box.fvaddr(ranges=[(HEAP, HEAP + 3 * MIB)], schemes=(Damos(action="cold", access_pattern=ANY),))
    )
    box.run(0.102)
    assert process_of(box).huge[1:].tolist() == [False, True, True]


@pytest.mark.parametrize("operations", ["fvaddr", "paddr"])
def test_what_was_reclaimed_is_no_huge_page_any_more(operations):
    box = huge_box(4 * MIB)
    ranges = box.system.physical_ranges(box.pid, HEAP, HEAP + 4 * MIB)
    ranges = ranges if operations == "paddr" else [(HEAP, HEAP + 4 * MIB)]
    pageout = (Damos(action="pageout", access_pattern=ANY),)
    target = DamonTarget(0 if operations == "paddr" else box.pid, tuple(ranges))
    ctx = box.ctx(operations=operations, schemes=pageout, min_nr_regions=3, max_nr_regions=3)
    box.start(replace(ctx, targets=(target,)))
    box.run(5)
    assert len(box.system.memory.out_frames()) == 2 * BLOCK
    assert not process_of(box).huge.any()
    assert not box.system.memory.huge_blocks.any()


def test_without_swap_a_huge_page_stays_one():
    box = huge_box(4 * MIB, swap_bytes=0)
    assert box.system.memory.reclaim(frames(box, 2 * BLOCK), 5) == 0
    assert process_of(box).huge.all()


def test_folios_on_no_list_are_no_business_of_physical_monitoring():
    """§3.5, §2.10: neither accessed nor with any attribute."""
    box = huge_box(2 * MIB, huge=False, hot=[(HEAP, HEAP + 2 * MIB)])
    memory = box.system.memory
    memory.isolated[frames(box, 100)] = True
    assert memory.frames_accessed(frames(box, BLOCK), 0, 5).sum() == BLOCK - 100
    assert memory.has_folio(frames(box, BLOCK), 5).sum() == BLOCK - 100
    assert memory.has_folio(np.array([-1, memory.nr_frames]), 5).tolist() == [False, False]


@pytest.mark.parametrize(("allow", "hits"), [(True, 0), (False, 20)])
def test_probes_find_no_folio_in_hugetlb_frames(allow, hits):
    """Anonymous or not is false where there is none; what matches nothing is as the last filter is not."""
    span = (HEAP, HEAP + 8 * MIB)
    box = Box(ram_bytes=128 * MIB, hugetlb_pages=4)
    box.system.remove_process(box.pid)
    pid = box.system.add_process(heap(8 * MIB), HotTruth([span]), hugetlb=[span])
    places = tuple(box.system.physical_ranges(pid, *span))
    probe = DamonProbe(filters=(DamonProbeFilter("anon", True, allow),))
    box.start(box.ctx(operations="paddr", targets=(DamonTarget(0, places),), probes=(probe,)))
    box.run(0.101)
    assert set(box.core().regions.last_probe_hits[:, 0].tolist()) == {hits}
