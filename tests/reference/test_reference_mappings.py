# SPDX-License-Identifier: GPL-2.0
"""Large gaps (§3.1), mappings of several targets that change at once (§3.2), and second mappings."""

from __future__ import annotations

import pytest
from reference_support import HEAP, MIB, Box, HotTruth, heap

from damon_tests.damon.params import DamonTarget
from damon_tests.ports.ranges import joined

PAGE = 4096
GIB = 1 << 30


def ranges_of(box: Box, target: int) -> list[tuple[int, int]]:
    return joined(box.core().regions.of_target(target).ranges())


def placed(*gaps: int) -> list[tuple[int, int]]:
    """Mappings of a page each, these bytes apart."""
    vmas, at = [(PAGE, 2 * PAGE)], 2 * PAGE
    for gap in gaps:
        vmas.append((at + gap, at + gap + PAGE))
        at += gap + PAGE
    return vmas


@pytest.mark.parametrize(
    ("gaps", "left_out"),
    [
        ((4 * GIB, 3 * GIB, 5 * GIB), (0, 2)),
        ((GIB, 8 * GIB + PAGE, 16 * GIB), (1, 2)),
        ((PAGE, 64 << 40, 16 * PAGE, 30 << 40, GIB), (1, 3)),
        ((GIB, GIB, GIB, GIB), (0, 1)),
    ],
)
def test_the_two_largest_gaps_are_left_out_wherever_they_are(gaps, left_out):
    vmas = placed(*gaps)
    box = Box(vmas=vmas)
    box.start(box.ctx())
    first, second = left_out
    expected = [(vmas[0][0], vmas[first][1]), (vmas[first + 1][0], vmas[second][1])]
    assert ranges_of(box, 0) == [*expected, (vmas[second + 1][0], vmas[-1][1])]


def test_mappings_of_all_targets_are_read_again():
    box = Box()
    others = [box.system.add_process(heap(MIB), HotTruth([(HEAP, HEAP + MIB)])) for _ in range(2)]
    pids = (box.pid, *others)
    box.start(box.ctx(update_us=100_000, targets=tuple(DamonTarget(pid) for pid in pids)))
    for number, pid in enumerate(pids):
        box.system.set_vmas(pid, heap((number + 2) * MIB))
    box.run(0.3)
    assert [ranges_of(box, n)[1] for n in range(3)] == [(HEAP, HEAP + (n + 2) * MIB) for n in range(3)]


def shared(hot: bool) -> tuple[Box, int]:
    """A machine with a process whose heap others use, too; it uses it itself if ``hot``."""
    box = Box(size=MIB)
    everything = [(HEAP, HEAP + MIB)]
    others = [((HEAP, HEAP + MIB), HotTruth(everything, everything))]
    own = HotTruth(everything, everything if hot else ())
    return box, box.system.add_process(heap(MIB), own, others=others)


@pytest.mark.parametrize("hot", [False, True])
def test_addresses_show_accesses_through_their_own_page_table_only(hot):
    box, pid = shared(hot)
    box.start(box.ctx(operations="fvaddr", targets=(DamonTarget(pid, ((HEAP, HEAP + MIB),)),)))
    snapshots = box.snapshots(0.4)
    assert {int(count) for s in snapshots for count in s.nr_accesses} == {20 if hot else 0}


def test_frames_show_accesses_through_every_mapping():
    box, pid = shared(hot=False)
    ranges = tuple(box.system.physical_ranges(pid, HEAP, HEAP + MIB))
    box.start(box.ctx(operations="paddr", targets=(DamonTarget(0, ranges),)))
    snapshots = box.snapshots(0.4)
    assert {int(count) for s in snapshots for count in s.nr_accesses} == {20}


def test_rare_accesses_count_like_frequent_ones():
    """Of four ranges one is in use: it has full counts."""
    box = Box(hot=[(HEAP, HEAP + MIB)])
    ranges = tuple((HEAP + i * 2 * MIB, HEAP + i * 2 * MIB + MIB) for i in range(4))
    box.start(box.fvaddr(ranges))
    snapshots = box.snapshots(0.4)
    assert {int(s.nr_accesses[s.end <= HEAP + MIB].max()) for s in snapshots} == {20}
