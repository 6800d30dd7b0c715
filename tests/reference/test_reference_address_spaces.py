# SPDX-License-Identifier: GPL-2.0
"""Odd address spaces, and targets that come and go (§3.1 to §3.3, §2.4)."""

from __future__ import annotations

from dataclasses import replace

import pytest
from reference_support import HEAP, MIB, STACK, STAT_ALL, Box, HotTruth, heap

from damon_tests.damon.params import DamonTarget
from damon_tests.ports import page_size
from damon_tests.ports.ranges import joined
from damon_tests.reference.core.ops import divide_evenly
from damon_tests.reference.core.regions import Regions
from damon_tests.reference.rules.monitoring import align_down

PAGE = page_size()


def pages(*spans: tuple[int, int]) -> list[tuple[int, int]]:
    """Mappings given in pages."""
    return [(start * PAGE, end * PAGE) for start, end in spans]


def ranges_of(box: Box, target: int = 0) -> list[tuple[int, int]]:
    """What of a target is monitored, touching regions joined."""
    return joined(box.core().regions.of_target(target).ranges())


ODD_SPACES = [
    (pages((5, 6), (9, 10), (20, 21)), pages((5, 6), (9, 10), (20, 21))),  # tiny: a page each
    (pages((0, 1), (2, 3), (4, 5), (6, 7)), pages((0, 1), (2, 3), (4, 7))),  # equal gaps: the earlier two
    (pages((0, 1), (3, 4), (5, 6), (8, 9)), pages((0, 1), (3, 6), (8, 9))),  # the smaller one in between
    (pages((0, 1), (2, 3), (6, 7), (16, 17)), pages((0, 3), (6, 7), (16, 17))),  # ever larger ones
    (pages((0, 1), (10, 11), (15, 16), (17, 18)), pages((0, 1), (10, 11), (15, 18))),  # ever smaller ones
    (pages((1, 2), (2, 3), (3, 9), (10, 11), (12, 13)), pages((1, 9), (10, 11), (12, 13))),  # touching
]


@pytest.mark.parametrize(("vmas", "expected"), ODD_SPACES)
@pytest.mark.parametrize("level", ["7.0", "7.3"])
def test_three_ranges_of_odd_address_spaces(vmas, expected, level):
    box = Box(vmas=vmas, level=level)
    box.start(box.ctx())
    assert ranges_of(box) == expected
    box.run(1)
    assert ranges_of(box) == expected


@pytest.mark.parametrize(
    "vmas", [[], pages((5, 90)), pages((5, 9), (20, 30)), pages((1, 3), (3, 9), (20, 30))]
)
def test_fewer_than_two_gaps_are_monitored_as_nothing_until_there_are_two(vmas):
    """Init fails silently; the next update that succeeds builds the regions."""
    box = Box(vmas=vmas)
    box.start(box.ctx(update_us=200_000, schemes=(STAT_ALL,)))
    assert box.record(0.15) == []
    assert box.read("state") == "on"
    box.system.set_vmas(box.pid, heap(MIB))
    box.run(0.06)
    assert ranges_of(box) == heap(MIB)
    assert len(box.snapshots(0.1)[0]) >= 10


def test_an_update_that_fails_leaves_the_regions_as_they_were():
    box = Box(8 * MIB)
    box.start(box.ctx(update_us=100_000))
    box.system.set_vmas(box.pid, [(HEAP, HEAP + MIB)])
    box.run(0.5)
    assert ranges_of(box) == heap(8 * MIB)


def test_given_regions_of_vaddr_last_until_the_first_update():
    box = Box(8 * MIB)
    given = ((HEAP, HEAP + MIB),)
    box.start(box.ctx(update_us=200_000, targets=(DamonTarget(box.pid, given),)))
    box.run(0.19)
    assert ranges_of(box) == list(given)
    box.run(0.02)
    assert ranges_of(box) == heap(8 * MIB)


@pytest.mark.parametrize("level", ["6.12", "7.0"])
def test_the_first_layout_is_divided_evenly_up_to_7_0(level):
    """14 pages over at least 5 regions: pieces of 2.8 pages, of whole pages, and the rest in the last one."""
    ten_three_one = Regions.of_ranges(pages((0, 10), (20, 23), (30, 31)))
    expected = pages((0, 3), (3, 6), (6, 10), (20, 23), (30, 31))
    assert divide_evenly(ten_three_one, 5, PAGE).ranges() == expected
    box = Box(vmas=pages((0, 10), (20, 23), (30, 31)), level=level)
    box.start(box.ctx(min_nr_regions=5))
    assert box.core().regions.ranges() == expected


def test_from_7_1_on_it_is_cut_to_the_size_limit():
    """14 pages over 5: 2.8 pages, rounded up to 3."""
    box = Box(vmas=pages((0, 10), (20, 23), (30, 31)), level="7.1")
    box.start(box.ctx(min_nr_regions=5))
    assert box.core().regions.ranges() == pages((0, 3), (3, 6), (6, 9), (9, 10), (20, 23), (30, 31))


@pytest.mark.parametrize("level", ["7.0", "7.3"])
def test_physical_memory_starts_with_what_was_given(level):
    """§2.6: one region a range up to 7.0."""
    box = Box(MIB, ram_bytes=64 * MIB, level=level)
    given = ((2 * MIB, 4 * MIB), (8 * MIB, 10 * MIB + 1))
    box.start(box.ctx(operations="paddr", targets=(DamonTarget(0, given),)))
    aligned = [(2 * MIB, 4 * MIB), (8 * MIB, 10 * MIB + PAGE)]
    if level == "7.0":
        assert box.core().regions.ranges() == aligned
    else:
        assert ranges_of(box) == aligned
        total = 4 * MIB + PAGE
        limit = align_down(total // 10 + PAGE - 1, PAGE)
        assert len(box.core().regions) == sum(-(-(end - start) // limit) for start, end in aligned)


# Targets


def two_targets(box: Box) -> tuple[int, tuple[DamonTarget, DamonTarget]]:
    span = (HEAP, HEAP + 4 * MIB)
    pid = box.system.add_process(heap(4 * MIB), HotTruth([span], [span]))
    return pid, (DamonTarget(box.pid), DamonTarget(pid))


def test_monitoring_goes_on_until_the_last_target_is_gone():
    """A dead target keeps its regions, is never accessed, and no scheme is applied to it."""
    box = Box(8 * MIB, [(HEAP, HEAP + 8 * MIB)])
    pid, targets = two_targets(box)
    box.start(box.ctx(targets=targets, schemes=(STAT_ALL,)))
    box.run(0.5)
    box.system.remove_process(box.pid)
    box.run(0.2)
    assert box.client.tried_regions(0, 0).total_bytes == 4 * MIB + 2 * PAGE
    dead, alive = box.core().regions.of_target(0), box.core().regions.of_target(1)
    assert ranges_of(box) == heap(8 * MIB)
    assert not dead.last_nr_accesses.any()
    assert alive.last_nr_accesses.any()
    box.system.remove_process(pid)
    box.run(0.01)
    assert (box.read("state"), box.read("pid")) == ("off", "-1")


def test_a_new_process_with_an_old_pid_is_another_one():
    box = Box(8 * MIB, [(HEAP, HEAP + 8 * MIB)])
    box.start(box.ctx())
    box.system.remove_process(box.pid)
    box.system.add_process(heap(8 * MIB), box.truth, box.pid)
    box.run(0.01)
    assert box.read("state") == "off"


def test_a_target_that_a_commit_adds_has_no_regions_until_the_next_update():
    box = Box(8 * MIB)
    _, targets = two_targets(box)
    box.start(box.ctx(update_us=200_000))
    box.run(0.05)
    box.commit(box.ctx(update_us=200_000, targets=targets))
    assert ranges_of(box, 1) == []
    box.run(0.21)
    assert ranges_of(box, 1) == heap(4 * MIB)


def test_an_obsolete_target_takes_its_regions_along():
    """The one behind it takes its place with its own counters; one that never ran cannot be obsolete."""
    box = Box(8 * MIB)
    _, targets = two_targets(box)
    box.start(box.ctx(targets=targets))
    box.run(0.5)
    kept = box.core().regions.of_target(1)
    box.commit(box.ctx(targets=(replace(targets[0], obsolete_target=True), targets[1])))
    now = box.core().regions
    assert now.ranges() == kept.ranges()
    assert now.last_nr_accesses.tolist() == kept.last_nr_accesses.tolist()
    assert set(now.target.tolist()) == {0}
    with pytest.raises(Exception, match="EINVAL"):
        box.commit(box.ctx(targets=(targets[1], replace(targets[0], obsolete_target=True))))
    assert ranges_of(box) == heap(4 * MIB)


def test_a_stack_page_at_the_top_is_monitored():
    box = Box(MIB)
    box.start(box.ctx())
    assert ranges_of(box)[-1] == (STACK, STACK + PAGE)
