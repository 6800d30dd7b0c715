# SPDX-License-Identifier: GPL-2.0
"""Simulated address spaces and physical memory.

Accesses come only from the ``Truth`` that each process was given. Physical memory is mapped
by extents, so its cost does not depend on its size.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from damon_tests.ports import PAGE_SIZE, Truth, UsageError
from damon_tests.reference.core_rules import I64, Bools, Range

BLOCK_PAGES = 512  # physical memory is handed out in blocks of 2 MiB
LOW_RAM = (0x1000, 0x9F000)
HIGH_RAM_START = 0x100000


class Process:
    """An address space: mappings, and who touched what. ``vmas`` are sorted byte ranges."""

    def __init__(self, pid: int, vmas: Sequence[Range], truth: Truth) -> None:
        self.pid = pid
        self.truth: Truth = truth
        self.vmas: tuple[Range, ...] = ()
        self._vma_starts: I64 = np.zeros(0, np.int64)
        self._vma_ends: I64 = np.zeros(0, np.int64)
        self._all_mapped = False
        self.set_vmas(vmas)

    def set_vmas(self, vmas: Sequence[Range]) -> None:
        """Change the mappings. Raises UsageError for ones that overlap or are not page aligned."""
        ordered = tuple(sorted((int(start), int(end)) for start, end in vmas))
        for start, end in ordered:
            if start >= end or start % PAGE_SIZE or end % PAGE_SIZE:
                raise UsageError(
                    f"mapping {start:#x}-{end:#x} of process {self.pid}: empty or not page aligned"
                )
        for before, after in pairwise(ordered):
            if after[0] < before[1]:
                raise UsageError(
                    f"mappings {before[0]:#x}-{before[1]:#x} and {after[0]:#x}-{after[1]:#x} "
                    f"of process {self.pid} overlap"
                )
        self.vmas = ordered
        self._vma_starts = np.array([start // PAGE_SIZE for start, _ in ordered], np.int64)
        self._vma_ends = np.array([end // PAGE_SIZE for _, end in ordered], np.int64)
        self._all_mapped = all(self._covers(start, end) for start, end in self.truth.ranges())

    def _covers(self, start: int, end: int) -> bool:
        return clip([(start, end)], self.vmas) == [(start, end)]

    def is_mapped(self, pages: I64) -> Bools:
        """Whether each page lies within a mapping."""
        if not len(self._vma_starts):
            return np.zeros(len(pages), np.bool_)
        at = np.searchsorted(self._vma_starts, pages, side="right") - 1
        return (at >= 0) & (pages < self._vma_ends[at])

    def accessed(self, pages: I64, t0_ns: int, t1_ns: int) -> Bools:
        """Whether each page is mapped and was touched within [t0, t1)."""
        touched = self.truth.touched(pages, t0_ns, t1_ns)
        if self._all_mapped:
            return touched
        return touched & self.is_mapped(pages)

    def populated(self) -> list[Range]:
        """Byte ranges that have memory: what the truth knows about, as far as it is mapped."""
        return clip(self.truth.ranges(), self.vmas)


def clip(ranges: Sequence[Range], within: Sequence[Range]) -> list[Range]:
    """The parts of ``ranges`` inside ``within`` (both sorted and disjoint), touching parts joined."""
    parts: list[Range] = []
    for start, end in ranges:
        for low, high in within:
            part = (max(start, low), min(end, high))
            if part[0] >= part[1]:
                continue
            if parts and parts[-1][1] == part[0]:
                parts[-1] = (parts[-1][0], part[1])
            else:
                parts.append(part)
    return parts


class Memory:
    """All processes, and which of their pages each physical frame holds.

    Frames are assigned when a process appears, from the seed: its populated ranges are cut at
    2 MiB boundaries, and each piece takes a random free 2 MiB block of RAM.
    """

    def __init__(self, ram_bytes: int, rng: np.random.Generator) -> None:
        if ram_bytes < HIGH_RAM_START + BLOCK_PAGES * PAGE_SIZE or ram_bytes % PAGE_SIZE:
            raise UsageError(
                f"ram_bytes={ram_bytes}: at least 3 MiB and a multiple of {PAGE_SIZE} are needed"
            )
        self.processes: dict[int, Process] = {}
        self._ram_bytes = ram_bytes
        block_bytes = BLOCK_PAGES * PAGE_SIZE
        nr_blocks = ram_bytes // block_bytes
        first = -(-HIGH_RAM_START // block_bytes)
        self._free_blocks: npt.NDArray[np.int64] = rng.permutation(
            np.arange(first, nr_blocks, dtype=np.int64)
        )
        self._next_block = 0
        self._returned_blocks: list[int] = []
        # Extents sorted by frame: first frame, length in pages, pid, first page of the process.
        self._extents: list[tuple[int, int, int, int]] = []
        self._index: tuple[I64, I64, I64, I64] | None = None
        # Pages that found no frame, as if swapped out: physical monitoring would miss them.
        self.unplaced_pages = 0

    def has_memcg(self, path: str) -> bool:
        """Whether a memory cgroup has this path; a trailing newline is ignored. Only the root exists."""
        return path.removesuffix("\n") == "/"

    def ram_ranges(self) -> list[Range]:
        """System RAM as byte ranges, as /proc/iomem would list it (but half-open)."""
        return [LOW_RAM, (HIGH_RAM_START, self._ram_bytes)]

    def add(self, process: Process) -> None:
        self.processes[process.pid] = process
        self._populate(process)

    def remove(self, pid: int) -> None:
        """The process exits; its frames are free again."""
        del self.processes[pid]
        self._release(pid)

    def set_vmas(self, pid: int, vmas: Sequence[Range]) -> None:
        self.processes[pid].set_vmas(vmas)
        self._release(pid)
        self._populate(self.processes[pid])

    def set_truth(self, pid: int, truth: Truth) -> None:
        process = self.processes[pid]
        process.truth = truth
        self.set_vmas(pid, process.vmas)

    def _release(self, pid: int) -> None:
        freed = [extent for extent in self._extents if extent[2] == pid]
        self._returned_blocks.extend(extent[0] // BLOCK_PAGES for extent in freed)
        self._extents = [extent for extent in self._extents if extent[2] != pid]
        self._index = None

    def _populate(self, process: Process) -> None:
        for start, end in process.populated():
            page, last = start // PAGE_SIZE, end // PAGE_SIZE
            while page < last:
                count = min(last, (page // BLOCK_PAGES + 1) * BLOCK_PAGES) - page
                block = self._take_block()
                if block is None:
                    self.unplaced_pages += last - page
                    break
                frame = block * BLOCK_PAGES + page % BLOCK_PAGES
                self._extents.append((frame, count, process.pid, page))
                page += count
        self._extents.sort()
        self._index = None

    def _take_block(self) -> int | None:
        """A free block; None when RAM is used up."""
        if self._returned_blocks:
            return self._returned_blocks.pop(0)
        if self._next_block < len(self._free_blocks):
            self._next_block += 1
            return int(self._free_blocks[self._next_block - 1])
        return None

    def _arrays(self) -> tuple[I64, I64, I64, I64]:
        if self._index is None:
            table = np.array(self._extents, np.int64).reshape(-1, 4)
            self._index = (table[:, 0], table[:, 1], table[:, 2], table[:, 3])
        return self._index

    def owners(self, frames: I64) -> tuple[I64, I64]:
        """(pid, page) for each frame; pid -1 for a free frame or none at all."""
        first, count, pid, page = self._arrays()
        if not len(first):
            return np.full(len(frames), -1, np.int64), np.zeros(len(frames), np.int64)
        at = np.maximum(np.searchsorted(first, frames, side="right") - 1, 0)
        inside = (frames >= first[at]) & (frames < first[at] + count[at])
        return np.where(inside, pid[at], -1), page[at] + (frames - first[at])

    def frames_accessed(self, frames: I64, t0_ns: int, t1_ns: int) -> Bools:
        """Whether the page in each frame was touched within [t0, t1)."""
        pid, page = self.owners(frames)
        hits = np.zeros(len(frames), np.bool_)
        for owner in np.unique(pid):
            process = self.processes.get(int(owner))
            if process is not None:
                mine = pid == owner
                hits[mine] = process.accessed(page[mine], t0_ns, t1_ns)
        return hits

    def physical_ranges(self, pid: int, start: int, end: int) -> list[Range]:
        """Where [start, end) of the process lies in physical memory: sorted byte ranges."""
        found: list[Range] = []
        for frame, count, owner, page in self._extents:
            low, high = max(page, start // PAGE_SIZE), min(page + count, -(-end // PAGE_SIZE))
            if owner == pid and low < high:
                at = (frame + low - page) * PAGE_SIZE
                found.append((at, at + (high - low) * PAGE_SIZE))
        joined: list[Range] = []
        for low, high in sorted(found):
            if joined and joined[-1][1] == low:
                joined[-1] = (joined[-1][0], high)
            else:
                joined.append((low, high))
        return joined
