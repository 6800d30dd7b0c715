# SPDX-License-Identifier: GPL-2.0
"""The machine's memory: NUMA nodes, swap that is full, memory that is shared, reserved huge pages."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from reference_support import HEAP, MIB, STACK, Box, HotTruth, heap

from damon_tests.damon.params import ANY, DamonCtx, DamonTarget, Damos, DamosDest, DamosQuota, DamosQuotaGoal
from damon_tests.experiment.reference_backend import ReferenceBackend
from damon_tests.kernel.guest.topology import Topology
from damon_tests.patterns import load
from damon_tests.ports import UsageError, page_size
from damon_tests.reference.core.goals import achievements

PAGEOUT = Damos(action="pageout", access_pattern=ANY)


def nodes(box: Box, pid: int, start: int, end: int) -> set[int]:
    """NUMA nodes that hold [start, end) of a process."""
    box.system.memory.place()
    frames = box.system.memory.processes[pid].frames_of(np.arange(start // page_size(), end // page_size()))
    return set(box.system.memory.node_of(frames).tolist())


def test_memory_comes_from_the_node_that_was_asked_for():
    box = Box(4 * MIB, ram_bytes=128 * MIB, nr_nodes=2)
    at = HEAP + (1 << 30)
    far = [(at, at + 8 * MIB)]
    pid = box.system.add_process([*far, (STACK, STACK + 0x1000)], HotTruth(far), nodes=((far[0], 1),))
    assert nodes(box, pid, *far[0]) == {1}
    assert nodes(box, box.pid, HEAP, HEAP + 4 * MIB) == {0}
    box.system.set_vmas(pid, [(STACK, STACK + 0x1000)])
    box.system.set_vmas(pid, [*far, (STACK, STACK + 0x1000)])
    assert nodes(box, pid, *far[0]) == {1}, "mapped anew"


def test_a_node_gives_no_more_than_it_has_and_no_other_steps_in():
    box = Box(4 * MIB, ram_bytes=64 * MIB, nr_nodes=2)
    large = (HEAP, HEAP + 40 * MIB)
    pid = box.system.add_process(heap(40 * MIB), HotTruth([large]), nodes=((large, 1),))
    box.system.memory.place()
    assert box.system.memory.used_pages(1) == 32 * MIB // page_size()
    assert box.system.memory.unplaced_pages == 8 * MIB // page_size()
    assert nodes(box, pid, HEAP, HEAP + MIB) == {1}


def test_small_mappings_fill_the_memory_that_whole_blocks_leave():
    box = Box(4 * MIB, ram_bytes=64 * MIB)
    mappings = [(HEAP + 2 * i * MIB, HEAP + (2 * i + 1) * MIB) for i in range(40)]  # 32 blocks of 2 MiB
    pid = box.system.add_process([*mappings, (STACK, STACK + 0x1000)], HotTruth(mappings))
    box.system.memory.place()
    assert box.system.memory.unplaced_pages == 0
    frames = np.concatenate(
        [
            box.system.memory.processes[pid].frames_of(np.arange(start // page_size(), end // page_size()))
            for start, end in mappings
        ]
    )
    assert len(np.unique(frames)) == 40 * MIB // page_size()
    assert (box.system.memory.owner[frames] == pid).all()


def test_memory_of_a_node_that_does_not_exist_is_refused():
    box = Box(4 * MIB)
    with pytest.raises(
        UsageError, match=r"wants memory of NUMA node 1, and the simulated machine has 1 node"
    ):
        box.system.add_process(
            heap(4 * MIB), HotTruth([(HEAP, HEAP + MIB)]), nodes=(((HEAP, HEAP + MIB), 1),)
        )


TWO_PROCESSES = (
    "{reason: r, regions: [{name: data, size: 32 MiB}, {name: common, size: 8 MiB, memory: shmem}],"
    " phases: [{name: p, duration: 100 s, accesses: ["
    "{region: data, span: 4 MiB .. 6 MiB, period: 2 ms},"
    "{region: data, span: 20 MiB .. 24 MiB, period: 2 ms, process: 1},"
    "{region: common, span: 0 .. 2 MiB, period: 2 ms, process: 1}]}]}"
)


def test_other_processes_have_memory_of_their_own():
    """4 MiB more, at the target's addresses in other frames; they and 2 MiB of shared ones are in use."""
    subject = ReferenceBackend("7.3").subject(1, Topology(memory_mib=256))
    system = subject._system
    target = subject.start_target(load.parse(TWO_PROCESSES), 1)
    assert system.memory.used_pages() == (32 + 8 + 4) * MIB // page_size()
    target.go()
    start, end = subject.ram_ranges()[1]
    frames = np.arange(start // page_size(), end // page_size())
    now = system.clock.now_ns()
    hit = frames[system.memory.frames_accessed(frames, now, now + 5_000_000)]
    mine = {
        name: np.concatenate([np.arange(s, e, page_size()) for s, e in spans]) // page_size()
        for name, spans in target.physical().items()
    }
    assert len(hit) == (2 + 4 + 2) * MIB // page_size()
    assert np.isin(hit, mine["data"]).sum() == 2 * MIB // page_size()
    assert np.isin(hit, mine["common"]).sum() == 2 * MIB // page_size()
    low = target.layout["data"][0]
    pages = np.arange(low // page_size(), low // page_size() + 8192)
    hit_pages = pages[system.memory.processes[target.pid].accessed(pages, now, now + 5_000_000)]
    assert (hit_pages[0] * page_size() - low, len(hit_pages)) == (4 * MIB, 2 * MIB // page_size())
    target.stop()
    assert system.memory.used_pages() == 0


def paddr(box: Box) -> DamonCtx:
    ram = tuple(box.system.ram_ranges())[1:]
    return box.ctx(operations="paddr", targets=(DamonTarget(0, ram),), schemes=(PAGEOUT,))


@pytest.mark.parametrize(("weights", "moved"), [((0, 0), 0), ((0, 1), 2048)])
def test_destinations_without_weight_move_nothing(weights: tuple[int, int], moved: int):
    """The sum of weights is 0: not migrated, and not to target_nid instead."""
    box = Box(8 * MIB, ram_bytes=128 * MIB, nr_nodes=2)
    dests = tuple(DamosDest(nid, weight) for nid, weight in enumerate(weights))
    scheme = Damos(action="migrate_cold", access_pattern=ANY, target_nid=1, dests=dests)
    box.start(box.fvaddr(schemes=(scheme,)))
    box.run(0.5)
    assert (box.system.memory.used_pages(0), box.system.memory.used_pages(1)) == (2048 - moved, moved)
    assert box.client.stats(0, 0).sz_applied == moved * page_size()


@pytest.mark.parametrize(("nid", "moved"), [(1, 2048), (-1, 0)])
def test_physical_memory_goes_to_the_target_node_whatever_the_destinations(nid: int, moved: int):
    box = Box(8 * MIB, ram_bytes=128 * MIB, nr_nodes=2)
    scheme = Damos(
        action="migrate_cold", access_pattern=ANY, target_nid=nid, dests=(DamosDest(0, 1), DamosDest(1, 3))
    )
    box.start(replace(paddr(box), schemes=(scheme,)))
    box.run(0.5)
    assert (box.system.memory.used_pages(0), box.system.memory.used_pages(1)) == (2048 - moved, moved)


def out_bytes(box: Box) -> int:
    return len(box.system.memory.out_frames()) * page_size()


def test_anonymous_memory_is_paged_out_as_far_as_there_is_swap():
    for swap, expected in ((None, 16 * MIB), (64 * MIB, 16 * MIB), (6 * MIB, 6 * MIB), (0, 0)):
        box = Box(16 * MIB, ram_bytes=128 * MIB, swap_bytes=swap)
        box.start(paddr(box))
        box.run(1)
        assert out_bytes(box) == expected
        assert box.client.stats(0, 0).sz_applied == expected


def test_files_need_no_swap_and_shmem_does():
    for kind, expected in (("file", 16 * MIB), ("shmem", 0)):
        box = Box(4 * MIB, ram_bytes=128 * MIB, swap_bytes=0)
        box.system.remove_process(box.pid)
        given = {kind: [(HEAP, HEAP + 16 * MIB)]}
        box.system.add_process(heap(16 * MIB), HotTruth([(HEAP, HEAP + 16 * MIB)]), **given)
        box.start(paddr(box))
        box.run(1)
        assert out_bytes(box) == expected


def test_pages_of_a_file_stay_when_nobody_maps_them():
    box = Box(4 * MIB, ram_bytes=128 * MIB)
    file = (HEAP + (1 << 30), HEAP + (1 << 30) + 4 * MIB)
    pid = box.system.add_process([file, (STACK, STACK + 0x1000)], HotTruth([file]), file=[file])
    memory = box.system.memory
    frames = memory.processes[pid].frames_of(np.arange(file[0] // page_size(), file[1] // page_size()))
    used = memory.used_pages()
    box.system.set_vmas(pid, [(STACK, STACK + 0x1000)])
    assert memory.used_pages() == used
    assert not memory.is_mapped(frames).any()
    assert box.system.physical_ranges(pid, *file) == []
    box.system.set_vmas(pid, [file, (STACK, STACK + 0x1000)])
    again = memory.processes[pid].frames_of(np.arange(file[0] // page_size(), file[1] // page_size()))
    assert (again == frames).all()
    assert memory.is_mapped(frames).all()
    box.system.remove_process(pid)
    assert memory.used_pages() == used - 1024


def test_swap_is_free_again_when_pages_come_back():
    box = Box(8 * MIB, ram_bytes=128 * MIB, swap_bytes=8 * MIB)
    memory = box.system.memory
    memory.place()
    frames = memory.processes[box.pid].frames_of(
        np.arange(HEAP // page_size(), (HEAP + 8 * MIB) // page_size())
    )
    assert memory.reclaim(frames[:1024], 1) == 1024
    assert memory.reclaim(frames[1024:], 1) == 1024
    memory.bring_back(frames[:100])
    assert memory.swapped_pages() == 1948
    assert memory.reclaim(frames[:200], 2) == 100


def test_a_subject_is_the_machine_that_was_asked_for():
    text = (
        "{reason: r, regions: [{name: near, size: 4 MiB}, {name: far, size: 8 MiB, node: 1}],"
        " phases: [{name: p, duration: 1 s, accesses: [{region: near}]}]}"
    )
    pattern = load.parse(text)
    backend = ReferenceBackend("7.3")
    subject = backend.subject(1, Topology(memory_mib=512, numa_nodes=2))
    target = subject.start_target(pattern, 1)
    assert subject.ram_ranges()[-1][1] == 512 * MIB
    where = target.physical()
    assert all(end <= 256 * MIB for _, end in where["near"])
    assert all(start >= 256 * MIB for start, _ in where["far"])
    with pytest.raises(UsageError, match="NUMA node 1"):
        backend.subject(1).start_target(pattern, 1)


def watched(box: Box, operations: str) -> int:
    """Bytes that are seen as accessed in the last of ten aggregations."""
    ctx = paddr(box) if operations == "paddr" else box.fvaddr()
    box.start(replace(ctx, schemes=()))
    last = box.snapshots(1)[-1]
    return int(last.sizes[last.nr_accesses >= 10].sum())


def test_memory_that_others_share_is_seen_in_frames_only():
    whole, used = (HEAP, HEAP + 32 * MIB), (HEAP + 8 * MIB, HEAP + 16 * MIB)
    for operations, visible in (("fvaddr", False), ("paddr", True)):
        box = Box(32 * MIB, ram_bytes=128 * MIB)
        box.system.remove_process(box.pid)
        others = ((whole, HotTruth([whole], [used])),)
        box.pid = box.system.add_process(heap(32 * MIB), HotTruth([whole]), shmem=[whole], others=others)
        tried = watched(box, operations)
        assert (4 * MIB < tried < 16 * MIB) if visible else tried == 0


def test_shared_memory_comes_back_when_others_touch_it():
    whole = (HEAP, HEAP + 4 * MIB)
    box = Box(4 * MIB, ram_bytes=64 * MIB)
    box.system.remove_process(box.pid)
    others = ((whole, HotTruth([whole], [(HEAP, HEAP + MIB)])),)
    pid = box.system.add_process(heap(4 * MIB), HotTruth([whole]), shmem=[whole], others=others)
    memory = box.system.memory
    memory.place()
    memory.reclaim(
        memory.processes[pid].frames_of(np.arange(HEAP // page_size(), (HEAP + 4 * MIB) // page_size())), 1
    )
    memory.settle_all(box.clock.now_ns())
    assert out_bytes(box) == 3 * MIB


def hugetlb_box(hot=(), **machine):
    """A machine whose only process has 16 MiB of hugetlb memory."""
    whole = (HEAP, HEAP + 16 * MIB)
    box = Box(16 * MIB, ram_bytes=128 * MIB, hugetlb_pages=10, **machine)
    box.system.remove_process(box.pid)
    box.pid = box.system.add_process(heap(16 * MIB), HotTruth([whole], hot), hugetlb=[whole])
    return box


def test_hugetlb_memory_comes_from_the_reserve_and_goes_back():
    box, more = hugetlb_box(), (HEAP, HEAP + 8 * MIB)
    memory = box.system.memory
    assert memory.used_pages() == 20 * MIB // page_size(), "reserved, in use or not"
    assert memory.lru_pages(active=False) == 0
    with pytest.raises(UsageError, match="4 reserved huge pages are wanted, and the simulated machine has 2"):
        box.system.add_process(heap(8 * MIB), HotTruth([more]), hugetlb=[more])
    box.system.remove_process(box.pid)
    assert len(memory.take_hugetlb(10)) == 10
    with pytest.raises(UsageError, match="1000 huge pages cannot be reserved"):
        Box(ram_bytes=128 * MIB, hugetlb_pages=1000)


def test_hugetlb_memory_comes_from_the_node_that_was_asked_for():
    """The reserve is of both nodes in turn: 5 and 4 huge pages."""
    box = Box(ram_bytes=128 * MIB, nr_nodes=2, hugetlb_pages=9)

    def add(at: int, **asked: object) -> int:
        span = (at, at + 8 * MIB)
        return box.system.add_process([span], HotTruth([span]), hugetlb=[span], **asked)

    at, further = HEAP + (1 << 30), HEAP + (2 << 30)
    first = add(at, nodes=(((at, at + 8 * MIB), 1),))
    assert nodes(box, first, at, at + 8 * MIB) == {1}
    with pytest.raises(UsageError, match=r"4 reserved huge pages are wanted, and NUMA node 1 of .* has 0"):
        add(at, nodes=(((at, at + 8 * MIB), 1),))
    second = add(further)
    assert nodes(box, second, further, further + 8 * MIB) == {0}


def test_hugetlb_memory_has_one_accessed_bit_a_page_and_is_on_no_list():
    one_page = [(HEAP + 4 * MIB, HEAP + 4 * MIB + page_size())]
    box = hugetlb_box(one_page)
    accessed = box.system.memory.processes[box.pid].accessed(
        np.arange(HEAP // page_size(), HEAP // page_size() + 4096), 0, 1
    )
    assert accessed.sum() == 512
    assert watched(hugetlb_box([(HEAP, HEAP + 16 * MIB)]), "fvaddr") == 16 * MIB
    assert watched(hugetlb_box([(HEAP, HEAP + 16 * MIB)]), "paddr") == 0


def test_actions_that_hugetlb_memory_refuses():
    for action, applied in (("cold", 0), ("pageout", 0), ("hugepage", 0), ("willneed", 16 * MIB)):
        box = hugetlb_box()
        box.start(box.fvaddr(schemes=(Damos(action=action, access_pattern=ANY),)))
        box.run(0.102)
        assert box.client.stats(0, 0).sz_applied == applied, action
        assert out_bytes(box) == 0
    box = hugetlb_box()
    box.start(paddr(box))
    box.run(0.5)
    assert box.client.stats(0, 0).sz_applied == 0


def test_cold_moves_pages_to_the_inactive_list_and_nowhere_else():
    box = Box(8 * MIB, ram_bytes=64 * MIB)
    memory = box.system.memory
    memory.place()
    at, pages = HEAP // page_size(), 8 * MIB // page_size()
    memory.active[memory.processes[box.pid].frames_of(np.arange(at, at + pages))] = True
    box.start(box.fvaddr(schemes=(Damos(action="cold", access_pattern=ANY),)))
    box.run(0.102)
    assert memory.lru_pages(active=True) == 0
    assert memory.lru_pages(active=False) == pages
    assert out_bytes(box) == 0


@pytest.mark.parametrize("path", ["/outer/small", "/outer"])
def test_goals_of_a_memory_control_group_read_that_group(path):
    """And what is in the groups within it."""
    box = Box(16 * MIB, ram_bytes=64 * MIB)
    small = (HEAP, HEAP + 4 * MIB)
    box.system.add_process(heap(4 * MIB), HotTruth([small]), memcg="/outer/small")
    goal = DamosQuotaGoal("node_memcg_used_bp", target_value=1, path=path)
    scheme = replace(PAGEOUT, action="stat", quota=DamosQuota(goals=(goal,)))
    box.start(replace(paddr(box), schemes=(scheme,)))
    core = box.core()
    ((current, _),) = achievements(core, core.schemes[0], box.system.memory, box.clock.now_ns())
    assert current == pytest.approx(10_000 * 4 / 64, rel=0.02)


def test_eligible_memory_is_what_is_on_lists():
    """Hugetlb pages are in use on both nodes, and on no list."""
    box = Box(16 * MIB, ram_bytes=128 * MIB, nr_nodes=2, hugetlb_pages=8)
    goals = tuple(DamosQuotaGoal("node_eligible_mem_bp", target_value=1, nid=nid) for nid in (0, 1))
    box.start(replace(paddr(box), schemes=(replace(PAGEOUT, action="stat", quota=DamosQuota(goals=goals)),)))
    core = box.core()
    achieved = achievements(core, core.schemes[0], box.system.memory, box.clock.now_ns())
    assert [current for current, _ in achieved] == [10_000, 0]
