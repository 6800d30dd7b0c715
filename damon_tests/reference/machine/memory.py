# SPDX-License-Identifier: GPL-2.0
"""Simulated memory: processes and the physical frames that hold their pages."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

from damon_tests.ports import Truth, UsageError, huge_page_size, page_size, pages_per_huge
from damon_tests.ports.arrays import I64, Bools
from damon_tests.ports.ranges import Range
from damon_tests.reference.machine.frames import Frames
from damon_tests.reference.machine.process import NO_FRAME, Process


class Memory(Frames):
    """Each huge page of addresses of a process that its truth knows about takes a free block of RAM.

    A page that is reclaimed keeps its frame reserved: touched again, it comes back there.
    ``psi_some_us`` is the system's memory pressure stall time, for tests to set.
    """

    def __init__(
        self,
        ram_bytes: int,
        rng: np.random.Generator,
        nr_nodes: int = 1,
        swap_bytes: int | None = None,
    ) -> None:
        super().__init__(ram_bytes, rng, nr_nodes, swap_bytes)
        self.processes: dict[int, Process] = {}
        self._waiting: list[Process] = []
        self.psi_some_us = 0
        self.apply_ns_per_page = 0
        self.memcgs = {"/"}
        # Pages of processes that found no frame: physical monitoring would miss them.
        self.unplaced_pages = 0
        # Whether sampling must note when it cleared a page's accessed bit (some scheme asks "young?").
        self.tracks_young = False

    # Processes

    def add(
        self,
        process: Process,
        huge: Sequence[Range] = (),
        file: Sequence[Range] = (),
        shmem: Sequence[Range] = (),
        dirty: Sequence[Range] = (),
    ) -> None:
        """``huge``: byte ranges whose fully populated blocks are huge pages. ``file``: mapped files,
        ``shmem``: of tmpfs, ``dirty``: parts of files that stay so. Raises UsageError when it wants memory of
        a node that does not exist."""
        for (start, end), nid in process.nodes:
            if not self.has_node(nid):
                raise UsageError(
                    f"[{start:#x}, {end:#x}) of process {process.pid} wants memory of NUMA node {nid}, "
                    f"and the simulated machine has {self.nr_nodes} node(s)"
                )
        self.processes[process.pid] = process
        groups = process.memcg.split("/")
        self.memcgs |= {"/".join(groups[:n]) or "/" for n in range(1, len(groups) + 1)}
        self._waiting.append(process)
        self.make_huge(process, (*huge, *process.hugetlb))
        for start, end in (*file, *shmem):
            frames = self._resident_in(process, start, end)
            self.file[frames] = True
            self.shmem[frames] = (start, end) in shmem
        for start, end in dirty:
            self.dirty[self._resident_in(process, start, end)] = True
        for start, end in process.locked:
            self.locked[self._resident_in(process, start, end)] = True

    def _resident_in(self, process: Process, start: int, end: int) -> I64:
        """Frames of the pages of [start, end)."""
        self.place()
        frames = process.frames_of(np.arange(start // page_size(), end // page_size()))
        present: I64 = frames[frames != NO_FRAME]
        return present

    def place(self) -> None:
        """Give frames to new processes, in their order. Done when frames are first needed: monitoring of
        virtual addresses needs none."""
        waiting, self._waiting = self._waiting, []
        for process in waiting:
            self._populate(process)

    def remove(self, pid: int) -> None:
        """Let a process exit; its frames are free again."""
        self.place()
        process = self.processes.pop(pid)
        self.give_back(process.table[process.table != NO_FRAME])

    def set_vmas(self, pid: int, vmas: Sequence[Range]) -> None:
        """Change mappings: pages of files stay in memory, unmapped, until the process exits; others are
        gone."""
        process = self.processes[pid]
        process.set_vmas(vmas)
        if process in self._waiting:
            return
        pages = (process.rows[:, None] + np.arange(pages_per_huge())).ravel()
        frames = process.table.ravel()
        gone = (frames != NO_FRAME) & ~process.is_mapped(pages) & ~self.file[frames]
        self.split_huge(frames[gone])
        self.give_back(frames[gone])
        process.set_frames(pages[gone], np.full(int(gone.sum()), NO_FRAME, np.int64))
        process.drop_empty_rows()
        self._populate(process)

    def set_truth(self, pid: int, truth: Truth) -> None:
        self.processes[pid].truth = truth
        self.set_vmas(pid, self.processes[pid].vmas)

    def _populate(self, process: Process) -> None:
        for start, end in process.populated():
            page, last = start // page_size(), end // page_size()
            # More rows than RAM has blocks cannot all be filled: do not even make them.
            first = page // pages_per_huge()
            stop = min(-(-last // pages_per_huge()), first + self.nr_frames // pages_per_huge() + 1)
            process.add_rows(range(first * pages_per_huge(), stop * pages_per_huge(), pages_per_huge()))
            low, high = np.searchsorted(process.rows, [first * pages_per_huge(), last])
            pages = process.rows[low:high, None] + np.arange(pages_per_huge())
            wanted = (pages >= page) & (pages < last)
            self._fill(process, pages, wanted & (process.table[low:high] == NO_FRAME))
            placed = wanted & (process.table[low:high] != NO_FRAME)
            self.unplaced_pages += last - page - int(placed.sum())
        process.drop_empty_rows()

    def _fill(self, process: Process, pages: I64, missing: Bools) -> None:
        """Give frames to the missing pages (shape (rows, pages)): one block to each row that lacks some, and
        single frames once no block is free."""
        lacking = np.flatnonzero(missing.any(axis=1))
        reserved = process.are_hugetlb(pages[lacking, 0])
        for take, rows in ((self.take_hugetlb, lacking[reserved]), (self.take_blocks, lacking[~reserved])):
            nids = process.nodes_of_rows(pages[rows, 0])
            for number in np.unique(nids).tolist():
                here, nid = rows[nids == number], None if number == -1 else number
                blocks = take(len(here), nid)
                self._fill_rows(process, pages, missing, here, blocks)
                rest = here[len(blocks) :]
                self._fill_pages(process, pages[rest][missing[rest]], nid)

    def _fill_pages(self, process: Process, pages: I64, nid: int | None) -> None:
        """Fill as many of the pages as there are free frames, of one node or of all."""
        for node in range(self.nr_nodes) if nid is None else [nid]:
            frames = self.take_pages(len(pages), node)
            self._own(process, pages[: len(frames)], frames)
            pages = pages[len(frames) :]

    def _fill_rows(
        self, process: Process, pages: I64, missing: Bools, rows: npt.NDArray[np.intp], blocks: I64
    ) -> None:
        """Fill as many of the rows as there are blocks."""
        rows = rows[: len(blocks)]
        frames = blocks[:, None] * pages_per_huge() + np.arange(pages_per_huge())
        used = missing[rows]
        self._own(process, pages[rows][used], frames[used])
        self.give_back(frames[~used])

    def _own(self, process: Process, pages: I64, frames: I64) -> None:
        self.contents_changed()
        process.set_frames(pages, frames)
        self.owner[frames] = process.pid
        self.page[frames] = pages
        self.out_since[frames] = self.cleared_at[frames] = 0
        self.deactivate(frames)
        self.file[frames] = self.shmem[frames] = False

    # Huge pages and migration

    def make_huge(self, process: Process, ranges: Sequence[Range]) -> None:
        """Turn the blocks within the ranges that have memory, none of it in swap or a file's, into huge
        pages."""
        for start, end in ranges:
            rows = self._whole_rows(process, start, end)
            for row in rows[~process.huge[rows]].tolist():
                if not self.file[_frames_in(process.table[row])].any():
                    self._collapse(process, row)

    def collapse(self, process: Process, ranges: Sequence[Range]) -> bool:
        """Make huge pages at once, and with more force: bring back what is in swap, include shmem. Returns
        whether all blocks within the ranges are huge pages now."""
        blocks = huge = 0
        for start, end in ranges:
            rows = self._whole_rows(process, start, end)
            for row in rows[~process.huge[rows]].tolist():
                frames = _frames_in(process.table[row])
                if not (self.file[frames] & ~self.shmem[frames]).any():
                    self.bring_back(frames)
                    self._collapse(process, row)
            blocks += max(end // huge_page_size() - -(-start // huge_page_size()), 0)
            huge += int(process.huge[rows].sum())
        return huge == blocks

    def _whole_rows(self, process: Process, start: int, end: int) -> npt.NDArray[np.intp]:
        """Rows of the page table that lie wholly within [start, end)."""
        self.place()
        first = process.rows * page_size()
        return np.flatnonzero((first >= start) & (first + huge_page_size() <= end))

    def khugepaged(self) -> None:
        """Make huge pages where they were advised: at once, before they are looked at, but never in the
        middle of a pass of schemes."""
        for process in self.processes.values():
            if process.advised:
                self.make_huge(process, process.advised)

    def _collapse(self, process: Process, row: int) -> bool:
        """Make one block a huge page; fill what it lacks. Not while part of it is in swap."""
        missing = process.table[row] == NO_FRAME
        if self.out_since[process.table[row][~missing]].any():
            return False
        if missing.any():
            pages = process.rows[row] + np.arange(pages_per_huge())
            self._fill_rows(process, pages[None], missing[None], np.zeros(1, np.intp), self.take_blocks(1))
        frames = process.table[row].copy()
        if (frames == NO_FRAME).any():
            return False
        if frames[0] % pages_per_huge() or (np.diff(frames) != 1).any():
            blocks = self.take_blocks(1)
            if not len(blocks):
                return False
            self._move(frames, np.arange(pages_per_huge()) + blocks[0] * pages_per_huge())
        process.huge[row] = True
        self.huge_blocks[process.table[row, 0] // pages_per_huge()] = True
        self.cleared_at[process.table[row]] = 0  # a new entry is accessed
        return True

    def reclaim(self, frames: I64, now_ns: int, *, locked_too: bool = False, dirty_too: bool = False) -> int:
        """Take pages away, as far as that is possible (see ``reclaimable``). Huge ones come back as small
        ones. Returns how many are gone."""
        gone = self.reclaimable(frames, locked_too=locked_too, dirty_too=dirty_too)
        self.split_huge(gone)
        self.write_out(gone, now_ns)
        return len(gone)

    def split_partial(self, frames: I64) -> None:
        """Split huge pages of which not all frames are among these."""
        blocks, counts = np.unique(frames // pages_per_huge(), return_counts=True)
        self.split_huge(blocks[counts < pages_per_huge()] * pages_per_huge())

    def split_huge(self, frames: I64) -> None:
        """Split the huge pages that these frames are part of."""
        blocks = np.unique(frames // pages_per_huge())
        blocks = blocks[self.huge_blocks[blocks]]
        self.huge_blocks[blocks] = False
        for frame in (blocks * pages_per_huge()).tolist():
            process = self.processes[int(self.owner[frame])]
            process.huge[process.rows_of(self.page[frame : frame + 1])] = False

    def migrate(self, heads: I64, pages: int, nid: int) -> int:
        """Move folios of ``pages`` pages each to a node, as far as it has room; returns pages moved."""
        if pages == 1:
            target = self.take_pages(len(heads), nid)
            self._move(heads[: len(target)], target)
            return len(target)
        blocks = self.take_blocks(len(heads), nid)
        for head, block in zip(heads.tolist(), blocks.tolist(), strict=False):
            offsets = np.arange(pages_per_huge())
            self._move(head + offsets, block * pages_per_huge() + offsets)
            self.huge_blocks[block] = True
        return len(blocks) * pages_per_huge()

    def _move(self, source: I64, target: I64) -> None:
        """Move the pages of frames to other, free frames, with their state."""
        self.copy_state(source, target)
        for process, mine in self._by_process(self.owner[source]):
            process.set_frames(self.page[source[mine]], target[mine])
        self.give_back(source)

    # Accesses

    def frames_accessed(self, frames: I64, t0_ns: int, t1_ns: int, *, all_mappings: bool = True) -> Bools:
        """Return whether the page in each frame was touched within [t0, t1). Frames may lie outside RAM.

        ``all_mappings``: through any of its mappings, not only its owner's.
        """
        self.place()
        hits = np.zeros(len(frames), np.bool_)
        for process, mine in self._by_process(self.owners(frames)):
            accessed = process.accessed_by_anybody if all_mappings else process.accessed
            hits[mine] = accessed(self.page[frames[mine]], t0_ns, t1_ns)
        hits[hits] = self.is_listed(frames[hits])
        return hits

    def _by_process(self, owners: I64) -> Iterator[tuple[Process, Bools]]:
        """Yield each process that is among the owners, with the places it has."""
        few = len(self.processes) <= 4
        for pid in self.processes if few else np.unique(owners).tolist():
            mine: Bools = owners == pid
            if pid in self.processes and mine.any():
                yield self.processes[pid], mine

    def owners(self, frames: I64) -> I64:
        """Return the pid that owns each frame; 0 for a free one or one outside RAM."""
        inside = (frames >= 0) & (frames < self.nr_frames)
        return np.where(inside, self.owner[np.where(inside, frames, 0)], 0).astype(np.int64)

    def has_folio(self, frames: I64, now_ns: int) -> Bools:
        """Whether physical monitoring finds a folio in each frame now. Frames may lie outside RAM."""
        self.place()
        owned: Bools = self.owners(frames) != 0
        inside = frames[owned]
        self.settle(inside, now_ns)
        owned[owned] = self.on_lru(inside)
        return owned

    def settle(self, frames: I64, now_ns: int) -> None:
        """Make reclaimed pages resident again that were touched since."""
        out = frames[self.out_since[frames] > 0]
        if not len(out):
            return
        for process, mine in self._by_process(self.owner[out]):
            chosen = out[mine]
            back = process.touched_since(self.page[chosen], self.out_since[chosen], now_ns)
            self.bring_back(chosen[back])

    def settle_all(self, now_ns: int) -> None:
        self.place()
        out = self.out_frames()
        if len(out):
            self.settle(out, now_ns)
        self.khugepaged()

    def is_young(self, frames: I64, now_ns: int) -> Bools:
        """Whether each frame's page was accessed since its bit was last cleared; clears it.

        A page whose bit was never cleared is young: it was accessed when it came into being.
        """
        young: Bools = self.cleared_at[frames] == 0
        asked = np.flatnonzero(~young)
        for process, mine in self._by_process(self.owner[frames[asked]]):
            chosen = frames[asked[mine]]
            young[asked[mine]] = process.touched_since(self.page[chosen], self.cleared_at[chosen], now_ns)
        self.cleared_at[frames] = now_ns
        return young

    def apply_ns(self, size: int) -> int:
        """Return the time that an action on ``size`` bytes is charged (time quotas); 0 as on a machine
        where it takes less than a tick of the coarse clock."""
        return size // page_size() * self.apply_ns_per_page

    # Counts

    def free_rate_permil(self, now_ns: int) -> int:
        """Return free pages over all pages, in 1/1000 (the watermark metric)."""
        self.settle_all(now_ns)
        total = self.total_pages()
        return (total - self.used_pages()) * 1000 // total

    def used_pages(self, nid: int | None = None) -> int:
        """Return the number of pages that hold something now."""
        self.place()
        return super().used_pages(nid)

    def lru_pages(self, active: bool, nid: int | None = None, memcg: str | None = None) -> int:
        """Return the resident pages on the active or inactive lists; locked ones are on neither. Those of a
        ``memcg`` include the groups within it, as the kernel's statistics do."""
        self.place()
        span = self.span(nid)
        wanted = self.resident(span) & (self.active[span] == active)
        wanted &= ~(self.locked[span] | self.isolated[span])
        if self.hugetlb_blocks.any():
            wanted &= ~np.repeat(self.hugetlb_blocks, pages_per_huge())[span]
        if memcg is not None:
            group = memcg.rstrip("/") + "/"
            within = [pid for pid, p in self.processes.items() if f"{p.memcg}/".startswith(group)]
            wanted &= np.isin(self.owner[span], within)
        return int(wanted.sum())

    def file_pages(self) -> int:
        """Return the pages of files, tmpfs included, that are in memory."""
        self.place()
        return int((self.file & self.resident(self.span(None))).sum())

    def is_anon(self, frames: I64) -> Bools:
        return ~self.file[frames]

    def is_mapped(self, frames: I64) -> Bools:
        """Whether a process has the page in its address space; files' pages may be without one."""
        mapped = np.zeros(len(frames), np.bool_)
        for process, mine in self._by_process(self.owner[frames]):
            mapped[mine] = process.is_mapped(self.page[frames[mine]])
        return mapped

    def in_memcg(self, frames: I64, path: str) -> Bools:
        """Whether the page belongs to exactly this memory cgroup."""
        members = [pid for pid, p in self.processes.items() if p.memcg == path.removesuffix("\n")]
        charged: Bools = np.isin(self.owner[frames], members)
        return charged

    def has_memcg(self, path: str) -> bool:
        """Whether a memory cgroup has this path; a trailing newline is ignored."""
        return path.removesuffix("\n") in self.memcgs

    def physical_ranges(self, pid: int, start: int, end: int) -> list[Range]:
        """Return where [start, end) of the process lies in physical memory: sorted byte ranges."""
        self.place()
        process = self.processes[pid]
        pages = (process.rows[:, None] + np.arange(pages_per_huge())).ravel()
        wanted = (pages >= start // page_size()) & (pages < -(-end // page_size())) & process.is_mapped(pages)
        frames = process.table.ravel()[wanted]
        frames = np.sort(frames[frames != NO_FRAME])
        if not len(frames):
            return []
        cuts = np.flatnonzero(np.diff(frames) != 1) + 1
        starts, ends = frames[np.append(0, cuts)], frames[np.append(cuts - 1, len(frames) - 1)] + 1
        return [
            (s * page_size(), e * page_size()) for s, e in zip(starts.tolist(), ends.tolist(), strict=True)
        ]


def _frames_in(row: I64) -> I64:
    """The frames of a row of a page table."""
    frames: I64 = row[row != NO_FRAME]
    return frames
