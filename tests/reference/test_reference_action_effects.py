# SPDX-License-Identifier: GPL-2.0
"""What Linux does to pages when an action is applied, one region at a time, without a kdamond."""

from __future__ import annotations

import numpy as np
import pytest
from reference_support import HEAP, MIB, RULES, HotTruth, make_system

from damon_tests.damon.params import ANY, Damos, DamosDest, DamosFilter
from damon_tests.ports import huge_page_size, page_size
from damon_tests.reference.core.actions import Actions, Application
from damon_tests.reference.core.filters import FilterLists
from damon_tests.reference.rules.levels import level

PAGE = page_size()
HUGE = huge_page_size()
WHOLE = (HEAP, HEAP + 16 * MIB)
NOW = 1_000_000_000


class Machine:
    """A process with 16 MiB at HEAP, unless ``populated`` and ``vmas`` say otherwise, all on active lists."""

    def __init__(self, vmas=(WHOLE,), populated=None, rules=RULES, nr_nodes=1, swap_bytes=None, **process):
        self.system = make_system(
            ram_bytes=64 * HUGE, nr_nodes=nr_nodes, swap_bytes=swap_bytes, hugetlb_pages=8
        )
        truth = HotTruth(list(vmas) if populated is None else [populated])
        self.pid = self.system.add_process(list(vmas), truth, **process)
        self.memory, self.rules = self.system.memory, rules
        self.memory.place()
        self.process = self.memory.processes[self.pid]
        self.memory.active[self.frames(*WHOLE)] = True

    def frames(self, start, end):
        frames = self.process.frames_of(np.arange(start // PAGE, end // PAGE))
        return frames[frames >= 0]

    def apply(self, action, start=WHOLE[0], end=WHOLE[1], now_ns=NOW, **scheme):
        """An action on [start, end) of the process: bytes applied."""
        params = Damos(action, ANY, **scheme)
        app = Application(params, FilterLists.of(params, self.rules), (start, end), False, now_ns)
        return Actions(self.memory, self.rules).apply_virtual(app, self.process)[0]

    def apply_to_frames(self, action, **scheme):
        """An action on all of physical memory."""
        params = Damos(action, ANY, **scheme)
        span = (0, self.memory.nr_frames * PAGE)
        app = Application(params, FilterLists.of(params, self.rules), span, False, NOW)
        return Actions(self.memory, self.rules).apply_physical(app)[0]

    def out(self, start, end):
        """MiB of [start, end) that were reclaimed."""
        return int((self.memory.out_since[self.frames(start, end)] != 0).sum()) * PAGE / MIB

    def inactive(self, start, end):
        """MiB of [start, end) on the inactive list."""
        return int((~self.memory.active[self.frames(start, end)]).sum()) * PAGE / MIB

    def huge(self):
        """Numbers of the blocks from HEAP on that are huge pages."""
        return [(int(page) * PAGE - HEAP) // HUGE for page in self.process.rows[self.process.huge]]


# madvise(): mappings, holes, refusals

MIDDLE = (HEAP + 6 * MIB, HEAP + 10 * MIB)


@pytest.mark.parametrize(("action", "affected"), [("pageout", Machine.out), ("cold", Machine.inactive)])
def test_advice_ends_at_locked_memory(action, affected):
    machine = Machine(locked=(MIDDLE,))
    assert machine.apply(action) == 0
    assert [affected(machine, a, b) for a, b in ((HEAP, MIDDLE[0]), MIDDLE, (MIDDLE[1], WHOLE[1]))] == [
        6,
        0,
        0,
    ]
    assert machine.apply(action, MIDDLE[1], WHOLE[1]) == 6 * MIB
    assert affected(machine, MIDDLE[1], WHOLE[1]) == 6


@pytest.mark.parametrize("action", ["cold", "pageout", "hugepage", "collapse"])
def test_advice_ends_at_hugetlb_memory(action):
    machine = Machine(hugetlb=(MIDDLE,))
    assert machine.apply(action) == 0
    machine.memory.khugepaged()
    done = {
        "cold": machine.inactive(HEAP, MIDDLE[0]) - machine.inactive(MIDDLE[1], WHOLE[1]),
        "pageout": machine.out(HEAP, MIDDLE[0]) - machine.out(MIDDLE[1], WHOLE[1]),
    }
    hugetlb = [3, 4]
    assert done.get(action, 6) == 6
    assert machine.huge() == ([0, 1, 2, *hugetlb] if action in ("hugepage", "collapse") else hugetlb)


def test_advice_goes_on_behind_a_hole():
    machine = Machine(vmas=((HEAP, MIDDLE[0]), (MIDDLE[1], WHOLE[1])))
    assert machine.apply("pageout") == 0
    assert machine.out(*WHOLE) == 12


def test_locked_memory_takes_other_advice():
    machine = Machine(locked=(MIDDLE,))
    assert machine.apply("willneed") == machine.apply("collapse") == 16 * MIB
    assert machine.huge() == list(range(8))


# Memory that others map, too


def test_dirty_pages_of_files_stay():
    """Reclaim leaves them to whoever writes them back; clean ones are dropped, without swap."""
    dirty = (HEAP, HEAP + 4 * MIB)
    for apply in ("apply", "apply_to_frames"):
        machine = Machine(file=[WHOLE], dirty=[dirty], swap_bytes=0)
        machine.memory.note_cleared(machine.frames(*WHOLE), NOW // 2)  # young pages are spared
        getattr(machine, apply)("pageout")
        assert (machine.out(*dirty), machine.out(HEAP + 4 * MIB, WHOLE[1])) == (0, 12), apply


def test_shared_memory_is_left_to_the_others():
    """madvise() skips it, which is no failure. Reclaim of frames does not."""
    machine = Machine(others=((MIDDLE, HotTruth([MIDDLE])),))
    assert machine.apply("cold") == machine.apply("pageout") == 16 * MIB
    assert (machine.out(*WHOLE), machine.out(*MIDDLE), machine.inactive(*MIDDLE)) == (12, 0, 0)
    everything = DamosFilter("young", False, False)  # or pageout spares what never was asked about
    assert machine.apply_to_frames("pageout", ops_filters=(everything,)) == 4 * MIB
    assert machine.out(*WHOLE) == 16


# Huge pages


@pytest.mark.parametrize("action", ["cold", "pageout"])
def test_a_part_of_a_huge_page_is_split_off(action):
    machine = Machine(huge=[WHOLE])
    assert machine.apply(action, HEAP + MIB, HEAP + 5 * MIB) == 4 * MIB
    whole = [1] if action == "cold" else []
    assert machine.huge() == [*whole, 3, 4, 5, 6, 7]
    changed = machine.inactive if action == "cold" else machine.out
    assert [changed(HEAP + a * MIB, HEAP + b * MIB) for a, b in ((0, 1), (1, 5), (5, 6))] == [0, 4, 0]


def test_reclaimed_huge_pages_come_back_small():
    for operations in ("paddr", "fvaddr"):
        machine = Machine(huge=[WHOLE], swap_bytes=8 * MIB)
        if operations == "paddr":
            machine.apply_to_frames("pageout", ops_filters=(DamosFilter("young", False, False),))
        else:
            machine.apply("pageout")
        assert machine.out(*WHOLE) == 8
        # What found no swap is as it was.
        assert len(machine.huge()) == 4
        machine.memory.bring_back(machine.frames(*WHOLE))
        assert len(machine.huge()) == 4


def test_collapse_brings_back_what_is_in_swap():
    machine = Machine()
    machine.apply("pageout", HEAP + MIB, HEAP + 3 * MIB)
    assert machine.apply("hugepage") == 16 * MIB
    machine.memory.khugepaged()
    assert machine.huge() == [2, 3, 4, 5, 6, 7]
    assert machine.apply("collapse") == 16 * MIB
    assert machine.huge() == list(range(8))
    assert (machine.out(*WHOLE), machine.memory.swapped_in) == (0, 512)


def test_collapse_fills_blocks_and_fails_where_there_is_nothing():
    machine = Machine(populated=(HEAP, HEAP + 5 * MIB))
    assert machine.apply("collapse") == 0
    assert machine.huge() == [0, 1, 2]
    assert machine.memory.used_pages() == 6 * MIB // PAGE + 8 * 512
    assert machine.apply("collapse", HEAP, HEAP + 6 * MIB + PAGE) == 6 * MIB + PAGE
    # Without a whole block there is nothing to fail at.
    assert machine.apply("collapse", HEAP + 7 * MIB, HEAP + 8 * MIB) == MIB


@pytest.mark.parametrize(("kind", "advised", "collapsed"), [("file", 0, 0), ("shmem", 0, 8), ("", 8, 8)])
def test_what_becomes_huge_of_files_and_shmem(kind, advised, collapsed):
    machine = Machine(**({kind: [WHOLE]} if kind else {}))
    assert machine.apply("hugepage") == 16 * MIB
    machine.memory.khugepaged()
    assert len(machine.huge()) == advised
    assert machine.apply("collapse") == (16 * MIB if collapsed else 0)
    assert len(machine.huge()) == collapsed


# LRU lists


def test_lru_deprio_leaves_inactive_pages_as_they_are():
    """Marked accessed once, they need one more mark to become active (6.19 and older)."""
    machine = Machine(rules=level("6.19").rules)
    machine.memory.active[:] = False
    for action, active in (("lru_prio", 0), ("lru_deprio", 0), ("lru_prio", 4096), ("lru_deprio", 0)):
        assert machine.apply_to_frames(action) == 16 * MIB
        assert machine.memory.lru_pages(active=True) == active, action


def test_locked_memory_is_on_neither_list():
    machine = Machine(locked=(MIDDLE,))
    machine.memory.active[machine.frames(*MIDDLE)] = False
    machine.apply_to_frames("lru_prio")
    assert [machine.memory.lru_pages(active) for active in (True, False)] == [12 * 256, 0]


# Nodes


def place_of(machine, folio_pages=1):
    frames = machine.frames(*WHOLE)[::folio_pages]
    return machine.memory.node_of(frames).tolist()


THREE_TO_ONE = {"dests": (DamosDest(0, 3), DamosDest(1, 1))}


@pytest.mark.parametrize(("kind", "first"), [("", 1), ("file", 0), ("shmem", 0)])
def test_nodes_take_turns_by_the_place_in_memory_or_file(kind, first):
    """The mapping begins at page 1 of 4 in memory, and at the beginning of a file."""
    start = HEAP + PAGE
    machine = Machine(vmas=((start, WHOLE[1]),), nr_nodes=2, **({kind: [(start, WHOLE[1])]} if kind else {}))
    machine.apply("migrate_hot", start, **THREE_TO_ONE)
    wanted = [int((index + first) % 4 == 3) for index in range(4095)]
    assert place_of(machine) == wanted


def test_nodes_take_turns_by_huge_pages():
    """Both the beginning of the mapping and the distance from it are counted in whole huge pages."""
    start = HEAP - MIB
    machine = Machine(vmas=((start, WHOLE[1]),), nr_nodes=2, huge=[WHOLE])
    machine.apply("migrate_hot", **THREE_TO_ONE)
    before = start // HUGE
    assert place_of(machine, 512) == [int((before + block) % 4 == 3) for block in range(8)]


def test_locked_and_shared_memory_moves():
    machine = Machine(nr_nodes=2, locked=(MIDDLE,), others=((WHOLE, HotTruth([WHOLE])),))
    assert machine.apply("migrate_cold", target_nid=1) == 16 * MIB
    assert set(place_of(machine)) == {1}
    assert machine.memory.locked[machine.frames(*MIDDLE)].all()
