# SPDX-License-Identifier: GPL-2.0
"""The truth of passes: the common part of PatternTruth (by plan) and RecordedTruth (by log).

A truth is a sequence of *runs*: one phase at one time, with one track for each of its access
terms. A window of time then touches a set of whole terms, some passes that are cut by the window's
ends, and some passes of random terms. The reference looks up such a window in each
sampling interval, so this path must be fast: the set of whole terms is a bit mask, and each mask
has a table.
"""

from __future__ import annotations

import abc
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from damon_tests.patterns.spec import Pattern
from damon_tests.ports import Bools, Pages, page_size
from damon_tests.ports.arrays import I64
from damon_tests.ports.ranges import Range, joined
from damon_tests.workload.access_slots import PhaseGeometry, TermPages
from damon_tests.workload.pass_times import Track

# Draw random passes in chunks of this many touches, and keep this many chunks.
_CHUNK_TOUCHES = 1 << 13
_MAX_CHUNKS = 256


@dataclass(frozen=True, eq=False)
class Run:
    """The phase with running number ``number``; ``[start_ns, end_ns)`` holds all its touches."""

    number: int
    geometry: PhaseGeometry
    tracks: tuple[Track, ...]
    start_ns: int
    end_ns: int


@dataclass
class _Window:
    """The touches of a run in a window of time."""

    run: Run
    mask: int = 0  # sequential terms with a whole pass
    # Sequential: touches [a, b) of a pass.
    cuts: list[tuple[TermPages, int, int, int]] = field(default_factory=list)
    rows: list[Pages] = field(default_factory=list)  # drawn: pages


class PassTruth(abc.ABC):
    """Implements ``damon_tests.ports.Truth`` over runs.

    ``layout`` is in the order of the pattern's regions. ``process``: whose accesses count; None for all.
    """

    def __init__(
        self,
        pattern: Pattern,
        layout: Mapping[str, tuple[int, int]],
        seed: int,
        process: int | None = 0,
    ) -> None:
        self.pattern = pattern
        self.seed = seed
        self._process = process
        self._ranges = tuple(sorted(layout.values()))
        self._region_starts = {name: start for name, (start, _) in layout.items()}
        self._geometries = tuple(PhaseGeometry(phase, layout) for phase in pattern.phases)
        self._chunks: dict[tuple[int, int, int], Pages] = {}

    def _counts(self, geometry: PhaseGeometry, term: int) -> bool:
        """Return whether this term belongs to the selected process (None: all processes)."""
        asked = self._process is None or geometry.terms[term].process == self._process
        return geometry.touching[term] and asked

    @abc.abstractmethod
    def span_ns(self) -> tuple[int, int]: ...

    @abc.abstractmethod
    def _runs(self, t0: int, t1: int) -> Sequence[Run]:
        """Return the runs that may have touches within [t0, t1)."""

    def ranges(self) -> Sequence[tuple[int, int]]:
        return self._ranges

    def reach(self) -> Sequence[Range]:
        """Return the byte ranges that some pass or action may touch: a part of ``ranges``, page aligned."""
        spans = [
            (self._region_starts[access.region] + start, self._region_starts[access.region] + end)
            for phase in self.pattern.phases
            for access in phase.accesses
            for start, end in access.reach()
        ]
        spans += [
            (
                self._region_starts[action.region] + action.start_bytes,
                self._region_starts[action.region] + action.end_bytes,
            )
            for phase in self.pattern.phases
            for action in phase.actions
            if action.touches
        ]
        pages = [
            (start // page_size() * page_size(), -(-end // page_size()) * page_size()) for start, end in spans
        ]
        return tuple(joined(pages))

    def touched(self, pages: Pages, t0_ns: int, t1_ns: int) -> Bools:
        """See ``Truth.touched``; takes about 10 µs for 1,000 pages and a window within one phase."""
        result: Bools | None = None
        for run in self._runs(t0_ns, t1_ns):
            part = _resolve(self._window(run, t0_ns, t1_ns), pages)
            result = part if result is None else result | part
        return np.zeros(len(pages), dtype=np.bool_) if result is None else result

    def _window(self, run: Run, t0: int, t1: int) -> _Window:
        window = _Window(run)
        for number, (term, track) in enumerate(zip(run.geometry.terms, run.tracks, strict=True)):
            first, last, cuts = track.within(t0, t1)
            if term.drawn:
                for position in range(first, last):
                    window.rows.append(self._row(run, number, track.pass_index(position)))
                for position, a, b in cuts:
                    window.rows.append(self._row(run, number, track.pass_index(position))[a:b])
                continue
            if term.moving:
                self._add_moving(window, term, track, first, last)
            elif first < last:
                window.mask |= 1 << number
                continue
            window.cuts += [(term, track.pass_index(p), a, b) for p, a, b in cuts if a < b]
        return window

    @staticmethod
    def _add_moving(window: _Window, term: TermPages, track: Track, first: int, last: int) -> None:
        """Add the whole passes of a moving term, each place once."""
        places: set[tuple[int, int]] = set()
        for position in range(first, last):
            index = track.pass_index(position)
            begin = index * term.touches % term.slots if term.touches < term.slots else 0
            place = (begin, term.displacement(index))
            if place not in places:
                places.add(place)
                window.cuts.append((term, index, 0, term.touches))

    def _row(self, run: Run, term_number: int, pass_index: int) -> Pages:
        """Return the pages of one pass of a random term, in the order of the touches."""
        term = run.geometry.terms[term_number]
        per_chunk = max(1, _CHUNK_TOUCHES // term.touches)
        chunk_index, row = divmod(pass_index, per_chunk)
        key = (run.number, term_number, chunk_index)
        chunk = self._chunks.get(key)
        if chunk is None:
            passes = np.arange(chunk_index * per_chunk, (chunk_index + 1) * per_chunk, dtype=np.int64)
            chunk = term.drawn_pages(self.seed, run.number, term_number, passes)
            # A chunk may be a single long pass, much larger than other chunks.
            room = max(1, _MAX_CHUNKS * _CHUNK_TOUCHES // max(chunk.size, _CHUNK_TOUCHES))
            while len(self._chunks) >= room:
                self._chunks.pop(next(iter(self._chunks)))
            self._chunks[key] = chunk
        row_pages: Pages = chunk[row]
        return row_pages

    def touched_each(self, pages: Pages, t0_ns: I64, t1_ns: I64) -> Bools:
        """See ``Truth.touched_each``."""
        result = np.zeros(len(pages), dtype=np.bool_)
        if len(pages) == 0:
            return result
        for run in self._runs(int(t0_ns.min()), int(t1_ns.max())):
            for number, (term, track) in enumerate(zip(run.geometry.terms, run.tracks, strict=True)):
                covered, first, last = term.slots_of(pages)
                if term.access.drift_bytes:
                    covered = (pages >= term.first_page) & (pages <= term.last_page)
                asked = np.flatnonzero(covered & ~result)
                if len(asked) == 0:
                    continue
                t0, t1 = t0_ns[asked], t1_ns[asked]
                if term.drawn:
                    hit = self._random_each(run, number, pages[asked], t0, t1)
                elif term.moving:
                    hit = self._moving_each(run, number, pages[asked], t0, t1)
                else:
                    hit = track.any_within(t0, t1, first[asked], last[asked])
                result[asked] |= hit
        return result

    def _random_each(self, run: Run, term_number: int, pages: Pages, t0: I64, t1: I64) -> Bools:
        hit = np.zeros(len(pages), dtype=np.bool_)
        for touched, times in self._random_touches(run, term_number, int(t0.min()), int(t1.max())):
            # Touches are in time order, so that a window of time is a range of their indexes; one
            # sorted list of (page, index) then answers every page's range by two searches.
            count = len(times)
            keys = np.sort(touched * (count + 1) + np.arange(count))
            low = pages * (count + 1) + np.searchsorted(times, t0)
            high = pages * (count + 1) + np.searchsorted(times, t1)
            hit |= np.searchsorted(keys, low) < np.searchsorted(keys, high)
        return hit

    def _moving_each(self, run: Run, term_number: int, pages: Pages, t0: I64, t1: I64) -> Bools:
        track, term = run.tracks[term_number], run.geometry.terms[term_number]
        hit = np.zeros(len(pages), dtype=np.bool_)
        begin, end = int(t0.min()), int(t1.max())
        first, last, cuts = track.within(begin, end)
        for position in sorted({*range(first, last), *(position for position, _, _ in cuts)}):
            asked = np.flatnonzero(~hit)
            if not len(asked):
                break
            index = track.pass_index(position)
            covered, low, high = term.slots_of(pages[asked] - term.displacement(index))
            earliest = track.touch_from(position, t0[asked])
            touch = term.next_touch(low, high, index, earliest)
            done = covered & (touch < term.touches)
            hit[asked] = done & (track.touch_time(position, touch) < t1[asked])
        return hit

    def _random_touches(self, run: Run, term_number: int, t0: int, t1: int) -> Iterator[tuple[Pages, I64]]:
        """Yield (page, time) of a random term's touches in [t0, t1) and a few more, in time order."""
        track, term = run.tracks[term_number], run.geometry.terms[term_number]
        first, last, cuts = track.within(t0, t1)
        positions = sorted({*range(first, last), *(position for position, _, _ in cuts)})
        step = max(1, _CHUNK_TOUCHES // term.touches)
        for begin in range(0, len(positions), step):
            some = positions[begin : begin + step]
            rows = [self._row(run, term_number, track.pass_index(position)) for position in some]
            times = track.touch_times(np.array(some, dtype=np.int64))
            yield np.concatenate(rows), times.ravel()

    def rate(self, pages: Pages, t0_ns: int, t1_ns: int, window_ns: int) -> npt.NDArray[np.float64]:
        """See ``Truth.rate``; ignore the rest of [t0, t1) that is shorter than a window."""
        windows = (t1_ns - t0_ns) // window_ns
        if windows <= 0:
            raise ValueError(f"[{t0_ns}, {t1_ns}) is shorter than one window of {window_ns} ns")
        hits = np.zeros(len(pages), dtype=np.int64)
        # Most windows touch the same set of whole terms: look each set up once.
        alike: Counter[tuple[PhaseGeometry, int]] = Counter()
        example: dict[tuple[PhaseGeometry, int], _Window] = {}
        for number in range(windows):
            start = t0_ns + number * window_ns
            parts = [
                self._window(run, start, start + window_ns) for run in self._runs(start, start + window_ns)
            ]
            if len(parts) == 1 and not parts[0].cuts and not parts[0].rows:
                key = (parts[0].run.geometry, parts[0].mask)
                alike[key] += 1
                example[key] = parts[0]
                continue
            touched = np.zeros(len(pages), dtype=np.bool_)
            for part in parts:
                touched |= _resolve(part, pages)
            hits += touched
        for key, count in alike.items():
            hits += count * _resolve(example[key], pages)
        return hits / windows


def _resolve(window: _Window, pages: Pages) -> Bools:
    """Return which of the pages a window touches."""
    geometry = window.run.geometry
    if not geometry.tables:
        return _resolve_slowly(window, pages)
    index = geometry.index_of(pages)
    result = geometry.sequential(window.mask).take(index, mode="clip")
    for term, pass_index, a, b in window.cuts:
        result |= term.covers_touches(pages, pass_index, a, b)
    if window.rows:
        scratch = geometry.scratch()
        rows = [geometry.index_of(row) for row in window.rows]
        for row in rows:
            scratch[row] = True
        result |= scratch.take(index, mode="clip")
        for row in rows:
            scratch[row] = False
    return result


def _resolve_slowly(window: _Window, pages: Pages) -> Bools:
    """As ``_resolve``, without tables, for terms that are far apart."""
    result = np.zeros(len(pages), dtype=np.bool_)
    for number, term in enumerate(window.run.geometry.terms):
        if window.mask >> number & 1:
            result |= term.covers(pages)
    for term, pass_index, a, b in window.cuts:
        result |= term.covers_touches(pages, pass_index, a, b)
    if window.rows:
        result |= np.isin(pages, np.concatenate(window.rows))
    return result
