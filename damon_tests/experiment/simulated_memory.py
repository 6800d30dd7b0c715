# SPDX-License-Identifier: GPL-2.0
"""The reference's memory in the form in which a kernel's memory is read: page states and sizes."""

from __future__ import annotations

import numpy as np

from damon_tests.ports import page_size, pages_per_huge
from damon_tests.reference.machine.process import NO_FRAME
from damon_tests.reference.sysfs.system import ReferenceSystem
from damon_tests.workload.memory_info import MemoryInfo
from damon_tests.workload.pages import PageStates


def simulated_pages(system: ReferenceSystem, pid: int, start: int, end: int) -> PageStates:
    """See ``workload.pages.read_pages``. Reclaimed anonymous pages are in swap, other pages are dropped."""
    memory, now = system.memory, system.clock.now_ns()
    memory.settle_all(now)
    process = memory.processes[pid]
    first = start // page_size()
    page = np.arange(first, -(-end // page_size()), dtype=np.int64)
    frame = np.where(process.is_mapped(page), process.frames_of(page), NO_FRAME)
    known = np.where(frame == NO_FRAME, 0, frame)
    out = memory.out_since[known] > 0
    present = (frame != NO_FRAME) & ~out
    return PageStates(
        first * page_size(),
        now,
        present=present,
        swapped=(frame != NO_FRAME) & out & memory.needs_swap(known),
        huge=present & memory.huge_blocks[known // pages_per_huge()],
        lru=present & memory.is_listed(known),
        active=present & memory.active[known],
        referenced=present & memory.referenced[known],
        unevictable=present & memory.locked[known],
        node=np.where(present, memory.node_of(known), -1),
        frame=np.where(present, frame, -1),
    )


def simulated_memory_info(system: ReferenceSystem) -> MemoryInfo:
    """See ``workload.memory_info.read_memory_info``. Swap is unlimited: ``swap_total`` is all of RAM."""
    memory, now = system.memory, system.clock.now_ns()
    memory.settle_all(now)
    nodes = range(memory.nr_nodes)
    total = {nid: memory.total_pages(nid) * page_size() for nid in nodes}
    free = {nid: total[nid] - memory.used_pages(nid) * page_size() for nid in nodes}
    swap = sum(total.values()) if memory.swap_pages is None else memory.swap_pages * page_size()
    return MemoryInfo(
        now,
        total=sum(total.values()),
        free=sum(free.values()),
        active=memory.lru_pages(active=True) * page_size(),
        inactive=memory.lru_pages(active=False) * page_size(),
        swap_total=swap,
        swap_used=memory.swapped_pages() * page_size(),
        node_total=total,
        node_free=free,
        psi_some_us=memory.psi_some_us,
        counters={
            "pswpin": memory.swapped_in,
            "pswpout": memory.swapped_out,
            "nr_file_pages": memory.file_pages(),
        },
        memcg_lru={
            path: sum(memory.lru_pages(active, memcg=path) for active in (True, False)) * page_size()
            for path in memory.memcgs - {"/"}
        },
    )
