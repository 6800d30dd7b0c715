# SPDX-License-Identifier: GPL-2.0
"""Simulated physical memory: which process page each frame holds, on which list and node it is.

Arrays have one element per frame and start as zeros, so RAM that nobody uses costs nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from damon_tests.ports import PAGE_SIZE, Truth, UsageError
from damon_tests.reference.core_rules import I64, Bools, Range
from damon_tests.reference.process import CHUNK_PAGES, NO_FRAME, Process

CHUNK_BYTES = CHUNK_PAGES * PAGE_SIZE
LOW_RAM = (0x1000, 0x9F000)
HIGH_RAM_START = 0x100000


class Memory:
    """RAM of ``ram_bytes`` in ``nr_nodes`` equal parts, and the processes in it.

    Each 2 MiB of a process that its truth knows about takes a random free 2 MiB block, of the
    first node that has one. A page that is reclaimed keeps its frame reserved: touched again,
    it comes back there. ``psi_some_us`` is the system's memory pressure stall time, for tests to set.
    """

    def __init__(self, ram_bytes: int, rng: np.random.Generator, nr_nodes: int = 1) -> None:
        if ram_bytes < 2 * CHUNK_BYTES * nr_nodes or ram_bytes % CHUNK_BYTES or nr_nodes < 1:
            raise UsageError(
                f"ram_bytes={ram_bytes} with nr_nodes={nr_nodes}: "
                "a multiple of 2 MiB is needed, and at least 4 MiB for each node"
            )
        self.processes: dict[int, Process] = {}
        self._waiting: list[Process] = []
        self.nr_nodes = nr_nodes
        self.psi_some_us = 0
        self.memcgs = {"/"}
        # Pages of processes that found no frame: physical monitoring would miss them.
        self.unplaced_pages = 0
        # Whether sampling must note when it cleared a page's accessed bit (some scheme asks "young?").
        self.tracks_young = False
        nr_frames = ram_bytes // PAGE_SIZE
        self.owner: I64 = np.zeros(nr_frames, np.int64)  # pid, 0: free
        self.page: I64 = np.zeros(nr_frames, np.int64)  # page number in the owner
        self.active: Bools = np.zeros(nr_frames, np.bool_)  # on the active LRU list
        self.out_since: I64 = np.zeros(nr_frames, np.int64)  # reclaimed at this time, 0: resident
        self.cleared_at: I64 = np.zeros(nr_frames, np.int64)  # accessed bit cleared, 0: never
        blocks = np.arange(nr_frames // CHUNK_PAGES)
        edges = [len(blocks) * node // nr_nodes for node in range(nr_nodes + 1)]
        self._node_edges: I64 = np.array(edges, np.int64) * CHUNK_PAGES
        self._free_blocks = [
            rng.permutation(blocks[max(low, 1) : high]).tolist() for low, high in pairwise(edges)
        ]
        self._free_pages: list[list[int]] = [[] for _ in range(nr_nodes)]

    # RAM

    @property
    def nr_frames(self) -> int:
        return len(self.owner)

    def ram_ranges(self) -> list[Range]:
        """System RAM as byte ranges, as /proc/iomem would list it (but half-open)."""
        return [LOW_RAM, (HIGH_RAM_START, self.nr_frames * PAGE_SIZE)]

    def total_pages(self, nid: int | None = None) -> int:
        """Pages of RAM, of one node or all."""
        low, high = self._span(nid)
        return sum(
            max(0, min(end // PAGE_SIZE, high) - max(start // PAGE_SIZE, low))
            for start, end in self.ram_ranges()
        )

    def used_pages(self, nid: int | None = None) -> int:
        """Pages that hold something now."""
        self.place()
        low, high = self._span(nid)
        return int(((self.owner[low:high] != 0) & (self.out_since[low:high] == 0)).sum())

    def lru_pages(self, active: bool, nid: int | None = None, memcg: str | None = None) -> int:
        """Resident pages on the active or inactive lists."""
        self.place()
        low, high = self._span(nid)
        wanted = (self.owner[low:high] != 0) & (self.out_since[low:high] == 0)
        wanted &= self.active[low:high] == active
        if memcg is not None:
            pids = [pid for pid, process in self.processes.items() if process.memcg == memcg]
            wanted &= np.isin(self.owner[low:high], pids)
        return int(wanted.sum())

    def _span(self, nid: int | None) -> tuple[int, int]:
        if nid is None:
            return 0, self.nr_frames
        return int(self._node_edges[nid]), int(self._node_edges[nid + 1])

    def node_of(self, frames: I64) -> I64:
        return (np.searchsorted(self._node_edges, frames, side="right") - 1).astype(np.int64)

    def has_node(self, nid: int) -> bool:
        return 0 <= nid < self.nr_nodes

    def has_memcg(self, path: str) -> bool:
        """Whether a memory cgroup has this path; a trailing newline is ignored."""
        return path.removesuffix("\n") in self.memcgs

    # Processes

    def add(self, process: Process, huge: Sequence[Range] = ()) -> None:
        """``huge``: byte ranges whose fully populated 2 MiB blocks are huge pages."""
        self.processes[process.pid] = process
        self.memcgs.add(process.memcg)
        self._waiting.append(process)
        if huge:
            self.make_huge(process, huge)

    def place(self) -> None:
        """Give frames to processes that came, in their order. Done when somebody asks: monitoring
        of virtual addresses needs none."""
        waiting, self._waiting = self._waiting, []
        for process in waiting:
            self._populate(process)

    def remove(self, pid: int) -> None:
        """The process exits; its frames are free again."""
        self.place()
        process = self.processes.pop(pid)
        self._free(process.table[process.table != NO_FRAME])

    def set_vmas(self, pid: int, vmas: Sequence[Range]) -> None:
        process = self.processes[pid]
        process.set_vmas(vmas)
        if process in self._waiting:
            return
        pages = (process.rows[:, None] + np.arange(CHUNK_PAGES)).ravel()
        frames = process.table.ravel()
        gone = (frames != NO_FRAME) & ~process.is_mapped(pages)
        self._free(frames[gone])
        process.set_frames(pages[gone], np.full(int(gone.sum()), NO_FRAME, np.int64))
        process.huge &= (process.table != NO_FRAME).all(axis=1)
        process.drop_empty_rows()
        self._populate(process)

    def set_truth(self, pid: int, truth: Truth) -> None:
        self.processes[pid].truth = truth
        self.set_vmas(pid, self.processes[pid].vmas)

    def _populate(self, process: Process) -> None:
        for start, end in process.populated():
            page, last = start // PAGE_SIZE, end // PAGE_SIZE
            # More rows than RAM has blocks cannot all be filled: do not even make them.
            stop = min(-(-last // CHUNK_PAGES), page // CHUNK_PAGES + self.nr_frames // CHUNK_PAGES + 1)
            process.add_rows(range(page // CHUNK_PAGES * CHUNK_PAGES, stop * CHUNK_PAGES, CHUNK_PAGES))
            low, high = np.searchsorted(process.rows, [page // CHUNK_PAGES * CHUNK_PAGES, last])
            pages = process.rows[low:high, None] + np.arange(CHUNK_PAGES)
            wanted = (pages >= page) & (pages < last)
            self._fill(process, pages, wanted & (process.table[low:high] == NO_FRAME))
            placed = wanted & (process.table[low:high] != NO_FRAME)
            self.unplaced_pages += last - page - int(placed.sum())
        process.drop_empty_rows()

    def _fill(self, process: Process, pages: I64, missing: Bools) -> None:
        """Frames for the missing pages (shape (rows, 512)): one block for each row that lacks some."""
        rows = np.flatnonzero(missing.any(axis=1))
        blocks = self._take_blocks(len(rows))
        rows = rows[: len(blocks)]
        frames = blocks[:, None] * CHUNK_PAGES + np.arange(CHUNK_PAGES)
        used = missing[rows]
        self._own(process, pages[rows][used], frames[used])
        self._give_back(frames[~used])

    def _own(self, process: Process, pages: I64, frames: I64) -> None:
        process.set_frames(pages, frames)
        self.owner[frames] = process.pid
        self.page[frames] = pages
        self.active[frames] = False
        self.out_since[frames] = self.cleared_at[frames] = 0

    def _free(self, frames: I64) -> None:
        """Frames that no longer hold anything."""
        self.owner[frames] = 0
        self._give_back(frames)

    def _give_back(self, frames: I64) -> None:
        node = self.node_of(frames)
        for nid, pool in enumerate(self._free_pages):
            pool.extend(frames[node == nid].tolist())

    def _take_blocks(self, count: int) -> I64:
        """Up to ``count`` free 2 MiB blocks, each of the first node that has one."""
        taken: list[int] = []
        for free in self._free_blocks:
            while free and len(taken) < count:
                taken.append(free.pop())
        while len(taken) < count and (block := self._reclaimed_block()) is not None:
            taken.append(block)
        return np.array(taken, np.int64)

    def _reclaimed_block(self) -> int | None:
        """A block whose pages were all freed again."""
        for pages in self._free_pages:
            blocks, counts = np.unique(np.array(pages, np.int64) // CHUNK_PAGES, return_counts=True)
            whole = blocks[counts == CHUNK_PAGES]
            if len(whole):
                block = int(whole[0])
                pages[:] = [frame for frame in pages if frame // CHUNK_PAGES != block]
                return block
        return None

    def take_pages(self, nid: int, count: int) -> I64:
        """Up to ``count`` free frames of a node."""
        pool, free = self._free_pages[nid], self._free_blocks[nid]
        while len(pool) < count and free:
            block = int(free.pop())
            pool.extend(range(block * CHUNK_PAGES, (block + 1) * CHUNK_PAGES))
        taken = pool[:count]
        del pool[:count]
        return np.array(taken, np.int64)

    def make_huge(self, process: Process, ranges: Sequence[Range]) -> int:
        """Turn the fully resident 2 MiB blocks within the ranges into huge pages; returns how many."""
        self.place()
        made = 0
        for start, end in ranges:
            first = process.rows * PAGE_SIZE
            rows = np.flatnonzero((first >= start) & (first + CHUNK_BYTES <= end) & ~process.huge)
            for row in rows.tolist():
                made += self._collapse(process, row)
        return made

    def _collapse(self, process: Process, row: int) -> bool:
        frames = process.table[row]
        if (frames == NO_FRAME).any() or self.out_since[frames].any():
            return False
        if frames[0] % CHUNK_PAGES or (np.diff(frames) != 1).any():
            blocks = self._take_blocks(1)
            if not len(blocks):
                return False
            self.move(frames.copy(), np.arange(CHUNK_PAGES) + blocks[0] * CHUNK_PAGES)
        process.huge[row] = True
        return True

    # Frames

    def move(self, source: I64, target: I64) -> None:
        """Move the pages of frames to other, free frames, with their state."""
        for array in (self.owner, self.page, self.active, self.out_since, self.cleared_at):
            array[target] = array[source]
        for pid in np.unique(self.owner[source]).tolist():
            mine = self.owner[source] == pid
            self.processes[pid].set_frames(self.page[source[mine]], target[mine])
        self._free(source)

    def frames_accessed(self, frames: I64, t0_ns: int, t1_ns: int) -> Bools:
        """Whether the page in each frame was touched within [t0, t1). Frames may lie outside RAM."""
        self.place()
        hits = np.zeros(len(frames), np.bool_)
        owner = self.owners(frames)
        for pid in np.unique(owner[owner > 0]).tolist():
            mine = owner == pid
            hits[mine] = self.processes[pid].accessed(self.page[frames[mine]], t0_ns, t1_ns)
        return hits

    def owners(self, frames: I64) -> I64:
        """Pid that owns each frame; 0 for a free one or one outside RAM."""
        inside = (frames >= 0) & (frames < self.nr_frames)
        return np.where(inside, self.owner[np.where(inside, frames, 0)], 0).astype(np.int64)

    def note_cleared(self, frames: I64, now_ns: int) -> None:
        """Sampling cleared the accessed bits of these frames."""
        inside = frames[(frames >= 0) & (frames < self.nr_frames)]
        self.cleared_at[inside] = now_ns

    def settle(self, frames: I64, now_ns: int) -> None:
        """Reclaimed pages that were touched since are resident again."""
        out = frames[self.out_since[frames] > 0]
        for pid in np.unique(self.owner[out]).tolist():
            process = self.processes.get(pid)
            if process is not None:
                mine = out[self.owner[out] == pid]
                back = mine[process.touched_since(self.page[mine], self.out_since[mine], now_ns)]
                self.out_since[back] = self.cleared_at[back] = 0

    def settle_all(self, now_ns: int) -> None:
        out = np.flatnonzero(self.out_since)
        if len(out):
            self.settle(out, now_ns)

    def is_young(self, frames: I64, now_ns: int) -> Bools:
        """Whether each frame's page was accessed since its bit was last cleared; clears it.

        A page whose bit was never cleared is young: it was accessed when it came into being.
        """
        young: Bools = self.cleared_at[frames] == 0
        for pid in np.unique(self.owner[frames]).tolist():
            mine = (self.owner[frames] == pid) & ~young
            chosen = frames[mine]
            process = self.processes[pid]
            young[mine] = process.touched_since(self.page[chosen], self.cleared_at[chosen], now_ns)
        self.cleared_at[frames] = now_ns
        return young

    def physical_ranges(self, pid: int, start: int, end: int) -> list[Range]:
        """Where [start, end) of the process lies in physical memory: sorted byte ranges."""
        self.place()
        process = self.processes[pid]
        pages = (process.rows[:, None] + np.arange(CHUNK_PAGES)).ravel()
        wanted = (pages >= start // PAGE_SIZE) & (pages < -(-end // PAGE_SIZE))
        frames = process.table.ravel()[wanted]
        frames = np.sort(frames[frames != NO_FRAME])
        if not len(frames):
            return []
        cuts = np.flatnonzero(np.diff(frames) != 1) + 1
        starts, ends = frames[np.append(0, cuts)], frames[np.append(cuts - 1, len(frames) - 1)] + 1
        return [(s * PAGE_SIZE, e * PAGE_SIZE) for s, e in zip(starts.tolist(), ends.tolist(), strict=True)]
