# SPDX-License-Identifier: GPL-2.0
"""Frames of physical memory: state of each, and which are free.

Arrays have one element per frame and start as zeros, so unused RAM costs nothing.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from damon_tests.ports import UsageError, huge_page_size, page_size, pages_per_huge
from damon_tests.ports.arrays import I64, Bools
from damon_tests.ports.ranges import Range
from damon_tests.reference.machine.accessed_bits import pages_of

LOW_RAM_END = 0x9F000
HIGH_RAM_START = 0x100000
NOBODY = -1
"""Owner of reserved huge pages with nothing in them."""


class Frames:
    """RAM of ``ram_bytes`` in ``nr_nodes`` equal parts, and swap (``swap_bytes``; None: without end).

    Memory is handed out in blocks of a huge page, in random order, from the first node that has one.
    """

    def __init__(
        self,
        ram_bytes: int,
        rng: np.random.Generator,
        nr_nodes: int = 1,
        swap_bytes: int | None = None,
    ) -> None:
        block = huge_page_size()
        if nr_nodes < 1 or ram_bytes < 2 * block * nr_nodes or ram_bytes % block:
            raise UsageError(
                f"ram_bytes={ram_bytes} with nr_nodes={nr_nodes}: "
                f"a multiple of {block >> 20} MiB is needed, and at least {2 * block >> 20} MiB for each node"
            )
        self.nr_nodes = nr_nodes
        self.swap_pages = None if swap_bytes is None else swap_bytes // page_size()
        nr_frames = ram_bytes // page_size()
        self.owner: I64 = np.zeros(nr_frames, np.int64)  # pid, 0: free
        self.page: I64 = np.zeros(nr_frames, np.int64)  # page number in the owner
        self.out_since: I64 = np.zeros(nr_frames, np.int64)  # reclaimed at this time, 0: resident
        self.cleared_at: I64 = np.zeros(nr_frames, np.int64)  # accessed bit cleared, 0: never
        self.active: Bools = np.zeros(nr_frames, np.bool_)  # on the active LRU list
        self.referenced: Bools = np.zeros(nr_frames, np.bool_)  # marked accessed once (6.19 and older)
        self.isolated: Bools = np.zeros(nr_frames, np.bool_)  # on no LRU list
        self.dirty: Bools = np.zeros(nr_frames, np.bool_)  # of files: to be written back first
        self.locked: Bools = np.zeros(nr_frames, np.bool_)  # mlock()ed: on the unevictable list
        self.file: Bools = np.zeros(nr_frames, np.bool_)  # not anonymous
        self.shmem: Bools = np.zeros(nr_frames, np.bool_)  # of those: swapped out like anonymous ones
        self.huge_blocks: Bools = np.zeros(nr_frames // pages_per_huge(), np.bool_)  # huge folios
        blocks = np.arange(nr_frames // pages_per_huge())
        edges = [len(blocks) * node // nr_nodes for node in range(nr_nodes + 1)]
        self._node_edges: I64 = np.array(edges, np.int64) * pages_per_huge()
        # Block 0 holds the low memory of the machine and is never given away.
        self._free_blocks: list[list[int]] = [
            rng.permutation(blocks[max(low, 1) : high]).tolist() for low, high in pairwise(edges)
        ]
        self._free_pages: list[list[int]] = [[] for _ in range(nr_nodes)]
        self.hugetlb_blocks: Bools = np.zeros(nr_frames // pages_per_huge(), np.bool_)  # reserved for hugetlb
        self._free_hugetlb: list[int] = []
        self.swapped_in = self.swapped_out = 0  # pages read from and written to swap so far
        # Counts that are asked for at every sample, until something changes.
        self._used_pages: dict[int | None, int] = {}
        self._out_frames: I64 | None = None

    # RAM and nodes

    @property
    def nr_frames(self) -> int:
        return len(self.owner)

    def ram_ranges(self) -> list[Range]:
        """Return system RAM as byte ranges, as /proc/iomem lists it (but half-open)."""
        low = (page_size(), LOW_RAM_END // page_size() * page_size())
        return [low, (HIGH_RAM_START, self.nr_frames * page_size())]

    def has_node(self, nid: int) -> bool:
        return 0 <= nid < self.nr_nodes

    def node_of(self, frames: I64) -> I64:
        return (np.searchsorted(self._node_edges, frames, side="right") - 1).astype(np.int64)

    def span(self, nid: int | None) -> slice:
        """Return the frames of one node, or all."""
        if nid is None:
            return slice(0, self.nr_frames)
        return slice(int(self._node_edges[nid]), int(self._node_edges[nid + 1]))

    def total_pages(self, nid: int | None = None) -> int:
        """Return the pages of RAM, of one node or all."""
        span = self.span(nid)
        return sum(
            max(0, min(end // page_size(), span.stop) - max(start // page_size(), span.start))
            for start, end in self.ram_ranges()
        )

    # Free memory

    def take_blocks(self, count: int, nid: int | None = None) -> I64:
        """Take up to ``count`` free blocks, of one node or each of the first node that has one."""
        nodes = range(self.nr_nodes) if nid is None else [nid]
        taken: list[int] = []
        for node in nodes:
            free = self._free_blocks[node]
            while free and len(taken) < count:
                taken.append(free.pop())
        for node in nodes:
            if len(taken) < count:
                self._collect_blocks(node)
                free = self._free_blocks[node]
                while free and len(taken) < count:
                    taken.append(free.pop())
        return np.array(taken, np.int64)

    def _collect_blocks(self, node: int) -> None:
        """Make blocks whole again whose pages are all free."""
        pages = np.array(self._free_pages[node], np.int64)
        blocks, counts = np.unique(pages // pages_per_huge(), return_counts=True)
        whole = blocks[counts == pages_per_huge()]
        self._free_blocks[node] = whole.tolist()
        self._free_pages[node] = pages[~np.isin(pages // pages_per_huge(), whole)].tolist()

    def take_pages(self, count: int, nid: int) -> I64:
        """Take up to ``count`` free frames of a node."""
        pool, free = self._free_pages[nid], self._free_blocks[nid]
        while len(pool) < count and free:
            block = free.pop()
            pool.extend(range(block * pages_per_huge(), (block + 1) * pages_per_huge()))
        taken = pool[:count]
        del pool[:count]
        return np.array(taken, np.int64)

    def reserve_hugetlb(self, count: int) -> None:
        """Set blocks aside for hugetlb, of all nodes in turn: they are in use from now on, with or without
        contents. Raises UsageError when there are not that many."""
        shares = [len(range(nid, count, self.nr_nodes)) for nid in range(self.nr_nodes)]
        blocks = np.concatenate([self.take_blocks(share, nid) for nid, share in enumerate(shares)])
        # What one node has not, another one may have.
        blocks = np.concatenate([blocks, self.take_blocks(count - len(blocks))])
        if len(blocks) < count:
            raise UsageError(f"{count} huge pages cannot be reserved, RAM has {len(blocks)} left")
        self.hugetlb_blocks[blocks] = True
        self._into_pool(blocks)

    def _into_pool(self, blocks: I64) -> None:
        self._free_hugetlb += blocks.tolist()
        self.owner[pages_of(blocks)] = NOBODY
        self.contents_changed()

    def take_hugetlb(self, count: int, nid: int | None = None) -> I64:
        """Take ``count`` of the reserved blocks, of one node or the first nodes that have some. Raises
        UsageError when there are not that many."""
        free = np.array(self._free_hugetlb[::-1], np.int64)
        nodes = self.node_of(free * pages_per_huge())
        usable = free[np.argsort(nodes, kind="stable")] if nid is None else free[nodes == nid]
        if len(usable) < count:
            where = "the simulated machine" if nid is None else f"NUMA node {nid} of the simulated machine"
            raise UsageError(f"{count} reserved huge pages are wanted, and {where} has {len(usable)}")
        taken = set(usable[:count].tolist())
        self._free_hugetlb = [block for block in self._free_hugetlb if block not in taken]
        return usable[:count]

    def is_hugetlb(self, frames: I64) -> Bools:
        """Whether each frame belongs to hugetlb, whose pages are on no LRU list. Frames must be in RAM."""
        reserved: Bools = self.hugetlb_blocks[frames // pages_per_huge()]
        return reserved

    def is_listed(self, frames: I64) -> Bools:
        """Whether each frame's folio, if it is in memory, is on an LRU list; physical monitoring leaves
        others alone (specification §3.5). Frames must be in RAM."""
        listed: Bools = ~(self.is_hugetlb(frames) | self.isolated[frames])
        return listed

    def whole_folios(self, frames: I64) -> I64:
        """Return the frames, and with one of a huge page all of them."""
        huge = self.huge_blocks[frames // pages_per_huge()]
        if not huge.any():
            return frames
        return np.concatenate([frames[~huge], pages_of(np.unique(frames[huge] // pages_per_huge()))])

    def give_back(self, frames: I64) -> None:
        """Free frames that hold nothing any more."""
        self.contents_changed()
        reserved = self.is_hugetlb(frames)
        if reserved.any():
            self._into_pool(np.unique(frames[reserved] // pages_per_huge()))
            frames = frames[~reserved]
        self.owner[frames] = self.out_since[frames] = 0
        self.isolated[frames] = self.locked[frames] = self.dirty[frames] = False
        self.huge_blocks[frames // pages_per_huge()] = False
        node = self.node_of(frames)
        for nid, pool in enumerate(self._free_pages):
            pool.extend(frames[node == nid].tolist())

    # State of frames

    def contents_changed(self) -> None:
        """Forget cached counts before frames change what they hold."""
        self._used_pages.clear()
        self._out_frames = None

    def used_pages(self, nid: int | None = None) -> int:
        """Return the number of pages that hold something now."""
        if nid not in self._used_pages:
            self._used_pages[nid] = int(self.resident(self.span(nid)).sum())
        return self._used_pages[nid]

    def out_frames(self) -> I64:
        """Return the frames whose pages were reclaimed."""
        if self._out_frames is None:
            self._out_frames = np.flatnonzero(self.out_since).astype(np.int64)
        return self._out_frames

    def resident(self, span: slice) -> Bools:
        """Return which frames hold something now."""
        here: Bools = (self.owner[span] != 0) & (self.out_since[span] == 0)
        return here

    def activate(self, frames: I64, in_one_step: bool) -> None:
        """Move pages that are not locked to the active list; in two steps, only those marked accessed
        before."""
        frames = frames[~self.locked[frames]]
        if in_one_step:
            self.active[frames] = True
            return
        marked, was_active = self.referenced[frames], self.active[frames]
        self.active[frames] = was_active | marked
        self.referenced[frames] = was_active | ~marked  # the mark is used up where it activates

    def deactivate(self, frames: I64) -> None:
        """Move pages to the inactive list, as if never used."""
        self.active[frames] = self.referenced[frames] = False

    def on_lru(self, frames: I64) -> Bools:
        """Whether each frame's page is present and on a list (that of unevictable ones included), so that
        it can be isolated by its frame. Frames must be in RAM."""
        here = (self.owner[frames] > 0) & (self.out_since[frames] == 0)
        listed: Bools = here & self.is_listed(frames)
        return listed

    def reclaimable(self, frames: I64, *, locked_too: bool = False, dirty_too: bool = False) -> I64:
        """Return those of the frames whose pages can be taken away: not locked, no dirty ones of files (but
        for faults), and as far as there is swap for them."""
        frames = frames if locked_too else frames[~self.locked[frames]]
        frames = frames if dirty_too else frames[~self.dirty[frames]]
        if self.swap_pages is None:
            return frames
        swapped = self.needs_swap(frames)
        beyond = np.cumsum(swapped) > self.swap_pages - self.swapped_pages()
        return frames[~(swapped & beyond)]

    def write_out(self, frames: I64, now_ns: int) -> None:
        """Take the pages out of memory; their frames stay reserved for their return."""
        self.contents_changed()
        self.swapped_out += int(self.needs_swap(frames).sum())
        self.out_since[frames] = now_ns
        self.deactivate(frames)

    def needs_swap(self, frames: I64) -> Bools:
        """Whether each frame's page can only be written to swap, not back to its file."""
        needs: Bools = ~self.file[frames] | self.shmem[frames]
        return needs

    def swapped_pages(self) -> int:
        """Return the number of pages that are in swap now."""
        return int(self.needs_swap(self.out_frames()).sum())

    def bring_back(self, frames: I64) -> None:
        """Make pages resident again, as if never looked at."""
        out = frames[self.out_since[frames] != 0]
        if not len(out):
            return
        self.contents_changed()
        self.swapped_in += int(self.needs_swap(out).sum())
        self.out_since[out] = self.cleared_at[out] = 0

    def note_cleared(self, frames: I64, now_ns: int) -> None:
        """Note that the accessed bits of these frames' pages were cleared; a huge page's is that of all its
        pages. Frames may lie outside RAM."""
        inside = frames[(frames >= 0) & (frames < self.nr_frames)]
        self.cleared_at[self.whole_folios(inside)] = now_ns

    def copy_state(self, source: I64, target: I64) -> None:
        """Copy the contents of frames, with all their state, to other frames."""
        self.contents_changed()
        for array in (self.owner, self.page, self.out_since, self.cleared_at):
            array[target] = array[source]
        for flags in (self.active, self.referenced, self.file, self.shmem, self.dirty, self.locked):
            flags[target] = flags[source]
