# SPDX-License-Identifier: GPL-2.0
"""A simulated address space: mappings, page table, and who touched what."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from damon_tests.ports import Truth, UsageError, page_size, pages_per_huge
from damon_tests.ports.arrays import I64, Bools
from damon_tests.ports.ranges import Range, clip, joined, without
from damon_tests.reference.machine.accessed_bits import AccessedBits, Touches
from damon_tests.reference.machine.tlb import Tlb

NO_FRAME = -1


class Process:
    """``vmas`` are sorted byte ranges; accesses come only from ``truth``.

    The page table has one row of frames for each huge page of addresses that has memory.
    ``huge[row]`` says that the row is one huge page. ``nodes``: byte ranges that may only have memory of
    one NUMA node, and which; ``hugetlb``: those backed by reserved huge pages. ``others``: what other
    processes touch of memory that they share with this one, at the same addresses. ``locked``: mlock()ed.
    """

    def __init__(
        self,
        pid: int,
        vmas: Sequence[Range],
        truth: Truth,
        memcg: str = "/",
        tlb: Tlb | None = None,
        nodes: Sequence[tuple[Range, int]] = (),
        hugetlb: Sequence[Range] = (),
        others: Sequence[tuple[Range, Truth]] = (),
        locked: Sequence[Range] = (),
    ) -> None:
        self.pid = pid
        self.nodes = tuple(nodes)
        self.hugetlb = tuple(hugetlb)
        self.others = tuple(others)
        self.locked = tuple(locked)
        self.tlb = tlb
        self.truth: Truth = truth
        self.memcg = memcg
        self.vmas: tuple[Range, ...] = ()
        self.rows: I64 = np.zeros(0, np.int64)  # first page of each row, ascending
        self.table: I64 = np.zeros((0, pages_per_huge()), np.int64)
        self.huge: Bools = np.zeros(0, np.bool_)
        self.advised: list[Range] = []  # where huge pages were asked for after its memory was filled
        self._vma_starts: I64 = np.zeros(0, np.int64)
        self._vma_ends: I64 = np.zeros(0, np.int64)
        self._all_mapped = False
        self.set_vmas(vmas)

    def set_vmas(self, vmas: Sequence[Range]) -> None:
        """Change the mappings. Raises UsageError for ones that overlap or are not page aligned."""
        ordered = tuple(sorted((int(start), int(end)) for start, end in vmas))
        for start, end in ordered:
            if start >= end or start % page_size() or end % page_size():
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
        self._vma_starts = np.array([start // page_size() for start, _ in ordered], np.int64)
        self._vma_ends = np.array([end // page_size() for _, end in ordered], np.int64)
        known = list(self.truth.ranges())
        self._all_mapped = clip(known, ordered) == joined(known)

    def is_mapped(self, pages: I64) -> Bools:
        """Whether each page lies within a mapping."""
        if not len(self._vma_starts):
            return np.zeros(len(pages), np.bool_)
        at = np.searchsorted(self._vma_starts, pages, side="right") - 1
        return (at >= 0) & (pages < self._vma_ends[at])

    def mapping_starts(self, pages: I64) -> I64:
        """Return the first page of the mapping that each page, which must be mapped, lies in."""
        return self._vma_starts[np.searchsorted(self._vma_starts, pages, side="right") - 1]

    def are_shared(self, pages: I64) -> Bools:
        """Whether other processes map each page, too."""
        shared = np.zeros(len(pages), np.bool_)
        for (start, end), _ in self.others:
            shared |= (pages >= start // page_size()) & (pages < end // page_size())
        return shared

    def is_fully_mapped(self, start: int, end: int) -> bool:
        """Whether [start, end) has no unmapped hole (madvise fails on one)."""
        return clip([(start, end)], joined(self.vmas)) == [(start, end)]

    def accessed(self, pages: I64, t0_ns: int, t1_ns: int) -> Bools:
        """Whether each page was touched within [t0, t1) as its accessed bit in this page table shows it."""
        hits = self._seen(self.truth, pages, t0_ns, t1_ns)
        return hits if self._all_mapped else hits & self.is_mapped(pages)

    def accessed_by_anybody(self, pages: I64, t0_ns: int, t1_ns: int) -> Bools:
        """The same through any page table that maps the pages: what monitoring of frames shows."""
        hits = self.accessed(pages, t0_ns, t1_ns)
        for (start, end), truth in self.others:
            inside = (pages >= start // page_size()) & (pages < end // page_size())
            hits = hits | (inside & self._seen(truth, pages, t0_ns, t1_ns))
        return hits

    def _seen(self, truth: Truth, pages: I64, t0_ns: int, t1_ns: int) -> Bools:
        """Return what ``truth`` leaves in accessed bits that were cleared at ``t0_ns``; a huge page has one
        bit, and one cached translation."""
        bits: Touches = truth
        if len(self.huge) and self.huge.any():
            bits = AccessedBits(truth, self.is_huge)
            pages = bits.bit_of(pages)
        if self.tlb is None:
            return bits.touched(pages, t0_ns, t1_ns)
        return self.tlb.seen(bits, pages, t0_ns, t1_ns)

    def is_huge(self, pages: I64) -> Bools:
        """Whether each page is part of a huge page."""
        row = self.rows_of(pages)
        mapped: Bools = row >= 0
        mapped[mapped] = self.huge[row[mapped]]
        return mapped

    def touched_since(self, pages: I64, since_ns: I64, now_ns: int) -> Bools:
        """Whether each page was touched, by any process, from its own time on until now."""
        if not len(pages):
            return np.zeros(0, np.bool_)
        until = np.full(len(pages), now_ns, np.int64)
        hits = self.truth.touched_each(pages, since_ns, until)
        for (start, end), truth in self.others:
            inside = (pages >= start // page_size()) & (pages < end // page_size())
            hits = hits | (inside & truth.touched_each(pages, since_ns, until))
        return hits

    def advise_huge(self, ranges: Sequence[Range], wanted: bool) -> None:
        """Do MADV_HUGEPAGE or MADV_NOHUGEPAGE: the last advice counts."""
        kept = without(self.advised, ranges)
        self.advised = joined([*kept, *ranges]) if wanted else kept

    def populated(self) -> list[Range]:
        """Return the byte ranges that have memory: what the truth knows about, as far as it is mapped."""
        return clip(self.truth.ranges(), self.vmas)

    def nodes_of_rows(self, first_pages: I64) -> I64:
        """Return the node that the memory of each row must come from; -1: any."""
        nids: I64 = np.full(len(first_pages), -1, np.int64)
        for span, nid in self.nodes:
            nids[_rows_within(first_pages, span)] = nid
        return nids

    def are_hugetlb(self, first_pages: I64) -> Bools:
        """Return whether the memory of each row must be a reserved huge page."""
        reserved = np.zeros(len(first_pages), np.bool_)
        for span in self.hugetlb:
            reserved |= _rows_within(first_pages, span)
        return reserved

    # Page table

    def rows_of(self, pages: I64) -> npt.NDArray[np.intp]:
        """Return the row of the page table for each page, -1 where there is none."""
        if not len(self.rows):
            return np.full(len(pages), -1, np.intp)
        at = np.searchsorted(self.rows, pages, side="right") - 1
        inside = (at >= 0) & (pages - self.rows[at] < pages_per_huge())
        return np.where(inside, at, -1)

    def frames_of(self, pages: I64) -> I64:
        """Return the physical frame of each page, NO_FRAME where it has none."""
        row = self.rows_of(pages)
        if not len(self.rows):
            return np.full(len(pages), NO_FRAME, np.int64)
        safe = np.maximum(row, 0)
        return np.where(row >= 0, self.table[safe, (pages - self.rows[safe]) % pages_per_huge()], NO_FRAME)

    def set_frames(self, pages: I64, frames: I64) -> None:
        """Change the frames of pages that have a row already."""
        row = self.rows_of(pages)
        self.table[row, pages - self.rows[row]] = frames

    def add_rows(self, first_pages: Sequence[int]) -> None:
        """Add rows (without frames) for these page numbers, each the first of a row, unless they exist."""
        new = np.setdiff1d(np.array(first_pages, np.int64), self.rows)
        rows = np.concatenate([self.rows, new])
        order = np.argsort(rows, kind="stable")
        empty = np.full((len(new), pages_per_huge()), NO_FRAME, np.int64)
        self.rows = rows[order]
        self.table = np.concatenate([self.table, empty])[order]
        self.huge = np.concatenate([self.huge, np.zeros(len(new), np.bool_)])[order]

    def drop_empty_rows(self) -> None:
        used = (self.table != NO_FRAME).any(axis=1)
        self.rows, self.table, self.huge = self.rows[used], self.table[used], self.huge[used]


def _rows_within(first_pages: I64, span: Range) -> Bools:
    """Return which rows have some of the bytes of a range."""
    start, end = span
    return (first_pages + pages_per_huge() > start // page_size()) & (first_pages < -(-end // page_size()))
