# SPDX-License-Identifier: GPL-2.0
"""Regions of all targets of a context, as a numpy structure of arrays.

Rows are ordered by target, then by address. Counters are changed in place; every change of
the layout makes a new ``Regions``, so derived arrays can be kept with it.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from damon_tests.ports.arrays import F64, I64, U64, Bools
from damon_tests.ports.ranges import Range
from damon_tests.reference.rules.monitoring import align_down, align_up
from damon_tests.reference.rules.ruleset import Rules

NR_PROBES_MAX = 4


class Regions:
    """``start``, ``end``: uint64, core address units. ``target``: index of the target. The rest
    are the counters of ``struct damon_region``, int64; probe hits have shape (n, 4). A region takes
    about 144 bytes, however large it is (``ci/bench/bench_reference.py``)."""

    __slots__ = (
        "_bounds",
        "_float_sizes",
        "_sizes",
        "age",
        "end",
        "last_nr_accesses",
        "last_probe_hits",
        "nr_accesses",
        "nr_accesses_bp",
        "probe_hits",
        "start",
        "target",
    )

    def __init__(self, start: U64, end: U64, target: I64) -> None:
        """Regions with all counters zero."""
        n = len(start)
        self.start, self.end, self.target = start, end, target
        self.nr_accesses: I64 = np.zeros(n, np.int64)
        self.last_nr_accesses: I64 = np.zeros(n, np.int64)
        self.age: I64 = np.zeros(n, np.int64)
        self.nr_accesses_bp: I64 = np.zeros(n, np.int64)
        self.probe_hits: I64 = np.zeros((n, NR_PROBES_MAX), np.int64)
        self.last_probe_hits: I64 = np.zeros((n, NR_PROBES_MAX), np.int64)
        self._sizes: U64 | None = None
        self._float_sizes: F64 | None = None
        self._bounds: tuple[int, ...] | None = None

    def __len__(self) -> int:
        return len(self.start)

    @classmethod
    def of_ranges(cls, ranges: Sequence[Range], target: int = 0) -> Regions:
        """Return one region for each half-open range."""
        start = np.array([r[0] for r in ranges], np.uint64)
        end = np.array([r[1] for r in ranges], np.uint64)
        return cls(start, end, np.full(len(ranges), target, np.int64))

    def take(self, index: npt.NDArray[np.intp] | Bools | slice) -> Regions:
        """Return the rows at ``index``, in its order, with their counters."""
        if isinstance(index, np.ndarray) and index.dtype == np.bool_:
            index = np.flatnonzero(index)  # once for all columns
        taken = Regions.__new__(Regions)
        taken.start, taken.end, taken.target = self.start[index], self.end[index], self.target[index]
        taken.nr_accesses = self.nr_accesses[index]
        taken.last_nr_accesses = self.last_nr_accesses[index]
        taken.age = self.age[index]
        taken.nr_accesses_bp = self.nr_accesses_bp[index]
        taken.probe_hits = self.probe_hits[index]
        taken.last_probe_hits = self.last_probe_hits[index]
        taken._sizes = taken._float_sizes = taken._bounds = None
        return taken

    @staticmethod
    def concat(parts: Sequence[Regions]) -> Regions:
        """Return all rows of the parts; each part keeps its target column."""
        if not parts:
            return Regions.of_ranges([])
        joined = Regions.__new__(Regions)
        for name in ("start", "end", "target", *COUNTERS):
            setattr(joined, name, np.concatenate([getattr(part, name) for part in parts]))
        joined._sizes = joined._float_sizes = joined._bounds = None
        return joined

    def drop_probe_hits(self) -> None:
        """Have no columns for probe hits, which halves what ``take`` copies; for runs without probes."""
        self.probe_hits = self.last_probe_hits = np.zeros((len(self), 0), np.int64)

    @property
    def sizes(self) -> U64:
        if self._sizes is None:
            self._sizes = self.end - self.start
        return self._sizes

    @property
    def float_sizes(self) -> F64:
        if self._float_sizes is None:
            sizes = self.sizes
            # A double holds 53 bits: larger sizes are rounded down, so that no sample lies beyond the end.
            exact = np.where(sizes >> np.uint64(53), sizes & np.uint64(~0x7FF & (1 << 64) - 1), sizes)
            self._float_sizes = exact.astype(np.float64)
        return self._float_sizes

    def total_size(self) -> int:
        return int(self.sizes.sum())

    def bounds(self, nr_targets: int) -> tuple[int, ...]:
        """Return the row numbers where targets begin: target t has rows [bounds[t], bounds[t + 1])."""
        if self._bounds is None or len(self._bounds) != nr_targets + 1:
            self._bounds = tuple(np.searchsorted(self.target, np.arange(nr_targets + 1)).tolist())
        return self._bounds

    def of_target(self, target: int) -> Regions:
        """Return the rows of one target (views of the arrays)."""
        low, high = np.searchsorted(self.target, [target, target + 1])
        return self.take(slice(int(low), int(high)))

    def ranges(self) -> list[Range]:
        return list(zip(self.start.tolist(), self.end.tolist(), strict=True))


COUNTERS = ("nr_accesses", "last_nr_accesses", "age", "nr_accesses_bp", "probe_hits", "last_probe_hits")


def cut_to_limit(regions: Regions, limit: int) -> Regions:
    """Cut every region above ``limit`` into pieces of that size from its start, the rest last (§2.6)."""
    sizes = regions.sizes
    size = np.uint64(limit)
    if not len(regions) or sizes.max() <= size:
        return regions
    pieces = (sizes // size + (sizes % size > 0)).astype(np.int64)
    return divide(regions, pieces, np.full(len(regions), size, np.uint64))


def divide(regions: Regions, pieces: I64, piece_size: U64) -> Regions:
    """Cut region i into ``pieces[i]`` parts of ``piece_size[i]``; the last takes what is left."""
    row = np.repeat(np.arange(len(regions)), pieces)
    firsts = np.cumsum(pieces) - pieces
    nth = (np.arange(len(row)) - firsts[row]).astype(np.uint64)
    cut = regions.take(row)
    cut.start = regions.start[row] + nth * piece_size[row]
    is_last = np.zeros(len(row), np.bool_)
    is_last[firsts + pieces - 1] = True
    cut.end = np.where(is_last, regions.end[row], cut.start + piece_size[row])
    return cut


def ranges_are_valid(ranges: Sequence[Range], min_region_sz: int) -> bool:
    """Whether ranges are sorted, non-empty and disjoint after alignment to the minimum region size."""
    previous_end = 0
    for start, end in ranges:
        low, high = align_down(start, min_region_sz), align_up(end, min_region_sz)
        if low >= high or low < previous_end:
            return False
        previous_end = high
    return True


def set_ranges(
    regions: Regions, ranges: Sequence[Range], min_region_sz: int, target: int, rules: Rules
) -> Regions | None:
    """Return the regions of one target made to cover exactly ``ranges`` (§3.3); None when those are
    invalid.

    Regions that still intersect a range keep their counters, though their size may change; holes within a
    range are filled with new regions.
    """
    if not rules.refuses_empty_ranges:
        ranges = [(start, end) for start, end in ranges if start != end]
    if not ranges_are_valid(ranges, min_region_sz):
        return None
    keep = np.zeros(len(regions), np.bool_)
    for start, end in ranges:
        keep |= rules.intersects(regions.start, regions.end, start, end)
    old = regions.take(keep)
    aligned = [(align_down(s, min_region_sz), align_up(e, min_region_sz)) for s, e in ranges]
    if not len(old):
        return Regions.of_ranges(aligned, target)
    rows = _fit([(s, e, i) for i, (s, e) in enumerate(old.ranges())], ranges, aligned)
    return _rebuilt(old, rows, target)


_Row = tuple[int, int, int]  # start, end, row of the old regions or -1 for a new one


def _fit(rows: list[_Row], ranges: Sequence[Range], aligned: Sequence[Range]) -> list[_Row]:
    """Walk forward through old rows and ranges together, as the kernel does."""
    at = 0
    for (start, end), (low, high) in zip(ranges, aligned, strict=True):
        first = last = -1
        while at < len(rows):
            if rows[at][1] > start and rows[at][0] < end:
                first = at if first < 0 else first
                last = at
            if rows[at][0] >= end:
                break
            at += 1
        if first < 0:
            rows.insert(at, (low, high, -1))
            at += 1
            continue
        covered = rows[first : last + 1]
        covered[0] = (low, *covered[0][1:])
        covered[-1] = (covered[-1][0], high, covered[-1][2])
        filled = _without_holes(covered)
        rows[first : last + 1] = filled
        at += len(filled) - len(covered)
    return rows


def _without_holes(rows: list[_Row]) -> list[_Row]:
    filled = rows[:1]
    for row in rows[1:]:
        if filled[-1][1] != row[0]:
            filled.append((filled[-1][1], row[0], -1))
        filled.append(row)
    return filled


def _rebuilt(old: Regions, rows: Sequence[_Row], target: int) -> Regions:
    origin = np.array([row[2] for row in rows], np.int64)
    new = Regions.of_ranges([row[:2] for row in rows], target)
    known = origin >= 0
    for name in COUNTERS:
        getattr(new, name)[known] = getattr(old, name)[origin[known]]
    return new
