# SPDX-License-Identifier: GPL-2.0
"""The address axis of pictures: which memory each row shows.

Gaps between regions have no row. A region of which little is busy is cut around the busy parts, and idle
memory gets few rows, so that a megabyte that is hot in a 64 GiB reservation can be seen.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from damon_tests.damon.recording_file import TruthSpans
from damon_tests.damon.records import Recording
from damon_tests.judge.monitoring.report_vs_truth import byte_ranges
from damon_tests.ports import page_size
from damon_tests.ports.arrays import I64
from damon_tests.ports.ranges import Range, joined

# A region is cut when its smallest busy part would else have fewer rows than this, and when busy parts are
# together less than this share of it.
_LEAST_ROWS = 5
_SMALL_SHARE = 0.25
_MOST_BUSY = 12
_SHOWN_OF_MANY = 5
# Without truth: memory is busy when it was reported accessed in this share of the snapshots.
_OFTEN = 0.1


@dataclass(frozen=True)
class Stretch:
    """Rows [row0, row1) show bytes [start, end) of region ``name`` (which begins at ``origin``).

    ``note`` says what the rows leave out, if anything."""

    name: str
    origin: int
    start: int
    end: int
    row0: int
    row1: int
    note: str = ""

    @property
    def bytes_per_row(self) -> int:
        return (self.end - self.start) // (self.row1 - self.row0)


def round_offsets(s: Stretch, most: int) -> list[tuple[float, int]]:
    """(row edge, bytes into the region) of at most ``most`` offsets inside, multiples of a power of two."""
    if most < 1:
        return []
    step = page_size()
    while (s.end - s.start) // step > most:
        step *= 2
    rows_per_byte = (s.row1 - s.row0) / (s.end - s.start)
    begin = (s.start - s.origin) // step * step + step
    offsets = range(begin, s.end - s.origin, step)
    return [(s.row0 + (s.origin + offset - s.start) * rows_per_byte, offset) for offset in offsets]


@dataclass(frozen=True)
class _Piece:
    start: int
    end: int
    weight: float
    note: str = ""
    busy: bool = False


def stretches(layout: Mapping[str, Range], busy: Sequence[Range], rows: int) -> tuple[Stretch, ...]:
    """Return about ``rows`` rows for the named byte ranges, ascending. ``busy``: sorted, disjoint ranges."""
    pieces: list[tuple[str, int, _Piece]] = []
    whole = sum((end - start) ** 0.5 for start, end in layout.values()) or 1.0
    for name, (start, end) in sorted(layout.items(), key=lambda item: item[1]):
        least = _LEAST_ROWS * (end - start) ** 0.5 * whole / max(1, rows)
        most = min(_SHOWN_OF_MANY, max(2, rows // 8))
        pieces += [(name, start, piece) for piece in _pieces(start, end, busy, least, most)]
    total = sum(piece.weight for *_, piece in pieces) or 1.0
    made, row = [], 0
    for name, origin, piece in pieces:
        height = max(1, round(rows * piece.weight / total))
        if piece.busy:
            # A quarter of a busy piece is margin on either side: rows end where the memory does.
            height = max(4, round(height / 4) * 4)
        height = max(1, min(height, (piece.end - piece.start) // page_size()))
        made.append(Stretch(name, origin, piece.start, piece.end, row, row + height, piece.note))
        row += height
    return tuple(made)


def everything(recording: Recording, spans: TruthSpans | None, target_idx: int) -> dict[str, Range]:
    """Return covered or touched memory, joined where it touches, named by its address."""
    parts = list(zip(spans.start.tolist(), spans.end.tolist(), strict=True)) if spans else []
    for snapshot in recording.of_target(target_idx):
        start, end = byte_ranges(snapshot, recording.addr_unit)
        parts += zip(start.tolist(), end.tolist(), strict=True)
    return {f"{a:#x}": (a, b) for a, b in joined([p for p in parts if p[0] < p[1]])}


def busy_ranges(recording: Recording, spans: TruthSpans | None, target_idx: int) -> list[Range]:
    """Return memory that was really touched; without truth, that was reported accessed again and again."""
    if spans is not None:
        return joined(list(zip(spans.start.tolist(), spans.end.tolist(), strict=True)))
    snapshots = recording.of_target(target_idx)
    ranges = [byte_ranges(s, recording.addr_unit) for s in snapshots]
    accessed = [s.nr_accesses > 0 for s in snapshots]
    empty = np.empty(0, np.int64)
    start = np.concatenate([empty, *(a[hit] for (a, _), hit in zip(ranges, accessed, strict=True))])
    end = np.concatenate([empty, *(b[hit] for (_, b), hit in zip(ranges, accessed, strict=True))])
    return _often(start, end, max(1, round(_OFTEN * len(snapshots))))


def _often(start: I64, end: I64, least: int) -> list[Range]:
    """Return where at least ``least`` of the ranges lie over one another."""
    edges, index = np.unique(np.concatenate([start, end]), return_inverse=True)
    steps = np.zeros(len(edges) + 1, np.int64)
    np.add.at(steps, index[: len(start)], 1)
    np.add.at(steps, index[len(start) :], -1)
    often = np.flatnonzero(np.cumsum(steps[:-1]) >= least)
    return joined([(int(edges[i]), int(edges[i + 1])) for i in often])


def _pieces(start: int, end: int, busy: Sequence[Range], least: float, most: int) -> list[_Piece]:
    """A region whole, or cut around busy parts of which one is smaller than ``least`` bytes; of very many
    only the first ``most``."""
    size = end - start
    inside = [(max(a, start), min(b, end)) for a, b in busy if a < end and b > start]
    used = sum(b - a for a, b in inside)
    full = float(size) ** 0.5
    if not inside or used > _SMALL_SHARE * size or min(b - a for a, b in inside) >= least:
        return [_Piece(start, end, full)]
    # Some idle memory around each busy part is shown at its scale: boundaries matter most.
    margin = max(page_size(), used // len(inside) // 2 // page_size() * page_size())
    wide = joined([(max(start, a - margin), min(end, b + margin)) for a, b in inside])
    shown, note = wide, ""
    if len(wide) > _MOST_BUSY:
        shown, note = wide[:most], f"mean of {len(wide) - most} more"
    pieces, at = [], start
    idle = full * 0.25 / (len(shown) + 1)
    for a, b in shown:
        if a > at:
            pieces.append(_Piece(at, a, idle, "compressed"))
        pieces.append(_Piece(a, b, full * 0.75 / len(shown), busy=True))
        at = b
    if at < end:
        pieces.append(_Piece(at, end, full * 0.2, note or "compressed"))
    return pieces
