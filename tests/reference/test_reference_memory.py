# SPDX-License-Identifier: GPL-2.0
"""The machine's memory: several NUMA nodes, swap that is full, what it can write out."""

from __future__ import annotations

import numpy as np
import pytest
from reference_support import HEAP, MIB, STACK, Box, HotTruth, heap

from damon_tests.damon.params import ANY, DamonCtx, DamonTarget, Damos
from damon_tests.experiment.reference_backend import ReferenceBackend
from damon_tests.kernel.topology import Topology
from damon_tests.patterns import load
from damon_tests.ports import PAGE_SIZE, UsageError

PAGEOUT = Damos(action="pageout", access_pattern=ANY)


def nodes(box: Box, pid: int, start: int, end: int) -> set[int]:
    """NUMA nodes that hold [start, end) of a process."""
    box.system.memory.place()
    frames = box.system.memory.processes[pid].frames_of(np.arange(start // PAGE_SIZE, end // PAGE_SIZE))
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
    assert box.system.memory.used_pages(1) == 32 * MIB // PAGE_SIZE
    assert box.system.memory.unplaced_pages == 8 * MIB // PAGE_SIZE
    assert nodes(box, pid, HEAP, HEAP + MIB) == {1}


def test_memory_of_a_node_that_does_not_exist_is_refused():
    box = Box(4 * MIB)
    with pytest.raises(
        UsageError, match=r"wants memory of NUMA node 1, and the simulated machine has 1 node"
    ):
        box.system.add_process(
            heap(4 * MIB), HotTruth([(HEAP, HEAP + MIB)]), nodes=(((HEAP, HEAP + MIB), 1),)
        )


def paddr(box: Box) -> DamonCtx:
    ram = tuple(box.system.ram_ranges())[1:]
    return box.ctx(operations="paddr", targets=(DamonTarget(0, ram),), schemes=(PAGEOUT,))


def out_bytes(box: Box) -> int:
    return len(box.system.memory.out_frames()) * PAGE_SIZE


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


def test_swap_is_free_again_when_pages_come_back():
    box = Box(8 * MIB, ram_bytes=128 * MIB, swap_bytes=8 * MIB)
    memory = box.system.memory
    memory.place()
    frames = memory.processes[box.pid].frames_of(np.arange(HEAP // PAGE_SIZE, (HEAP + 8 * MIB) // PAGE_SIZE))
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
