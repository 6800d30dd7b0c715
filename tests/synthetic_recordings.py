# SPDX-License-Identifier: GPL-2.0
"""Small truths and recordings for tests of what judges and draws them.

``ListTruth`` answers the Truth port from a list of touched stretches. ``Damon`` is the smallest DAMON
that keeps the rules of 7.3 (sampling, merge, minimum, ages, split), written independently of the
project's reference, so that expectations meet a correct DAMON here already.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from damon_tests.damon.params import DamonAttrs, DamonCtx, DamonTarget
from damon_tests.damon.records import Recording, Snapshot
from damon_tests.ports import Bools, Pages, page_size

MS = 1_000_000
BASE = 0x7F00_0000_0000


@dataclass(frozen=True)
class Touch:
    """[start, end) is touched at t0_ns, t0_ns + period_ns, ... before t1_ns."""

    start: int
    end: int
    t0_ns: int
    t1_ns: int
    period_ns: int = MS


class ListTruth:
    def __init__(self, known: Sequence[tuple[int, int]], touches: Sequence[Touch], until_ns: int) -> None:
        self.known, self.touches, self.until_ns = tuple(known), tuple(touches), until_ns
        self.pages_asked = 0

    def ranges(self) -> Sequence[tuple[int, int]]:
        return self.known

    def span_ns(self) -> tuple[int, int]:
        return 0, self.until_ns

    def touched(self, pages: Pages, t0_ns: int, t1_ns: int) -> Bools:
        self.pages_asked += len(pages)
        result = np.zeros(len(pages), np.bool_)
        for t in self.touches:
            k = max(0, -((t.t0_ns - t0_ns) // t.period_ns))
            first = t.t0_ns + k * t.period_ns
            if first < min(t1_ns, t.t1_ns):
                result |= (pages >= t.start // page_size()) & (pages < t.end // page_size())
        return result

    def touched_each(self, pages: Pages, t0_ns: npt.NDArray[np.int64], t1_ns: npt.NDArray[np.int64]) -> Bools:
        rows = zip(pages, t0_ns, t1_ns, strict=True)
        return np.array([self.touched(np.array([p]), int(a), int(b))[0] for p, a, b in rows], np.bool_)

    def rate(self, pages: Pages, t0_ns: int, t1_ns: int, window_ns: int) -> npt.NDArray[np.float64]:
        starts = range(t0_ns, t1_ns - window_ns + 1, window_ns)
        hits = sum(self.touched(pages, s, s + window_ns).astype(np.float64) for s in starts)
        return np.asarray(hits / max(1, len(starts)), dtype=np.float64)


@dataclass
class Region:
    start: int
    end: int
    nr: int = 0
    last: int = 0
    age: int = 0

    @property
    def size(self) -> int:
        return self.end - self.start


class Damon:
    """Monitors ``ranges`` of ``truth`` as ``attrs`` say; ``run(n)`` records n aggregations."""

    def __init__(
        self, truth: ListTruth, ranges: Sequence[tuple[int, int]], attrs: DamonAttrs, seed: int = 1
    ) -> None:
        self.truth, self.attrs, self.ranges = truth, attrs, tuple(ranges)
        self.rng = np.random.default_rng(seed)
        self.regions = [Region(a, b) for a, b in ranges]
        self.last_n = self.rotation = 0
        total = sum(b - a for a, b in ranges)
        self.limit = -(-max(total // attrs.min_nr_regions, page_size()) // page_size()) * page_size()
        self.enforce_minimum()

    @property
    def ctx(self) -> DamonCtx:
        return DamonCtx("fvaddr", attrs=self.attrs, targets=(DamonTarget(1, self.ranges),))

    def run(self, aggregations: int, start_ns: int = 0) -> Recording:
        w, sample_ns = self.attrs.samples_per_aggr, self.attrs.sample_us * 1000
        snapshots, now = [], start_ns
        for _ in range(aggregations):
            for _ in range(w):
                self.sample(now, now + sample_ns)
                now += sample_ns
            self.merge(max(r.nr for r in self.regions) // 10)
            self.enforce_minimum()
            snapshots.append(self.snapshot(now))
            for r in self.regions:
                r.last, r.nr = r.nr, 0
            self.split()
        return Recording(
            "damon_aggregated",
            "fvaddr",
            self.attrs.sample_us,
            self.attrs.aggr_us,
            tuple(snapshots),
            start_ns,
            now,
        )

    def sample(self, t0_ns: int, t1_ns: int) -> None:
        at = np.array([r.start + int(self.rng.integers(r.size)) for r in self.regions], np.int64)
        for r, hit in zip(self.regions, self.truth.touched(at // page_size(), t0_ns, t1_ns), strict=True):
            r.nr += int(hit)

    def merge(self, threshold: int) -> None:
        w, first = self.attrs.samples_per_aggr, True
        while True:
            merged: list[Region] = []
            for r in self.regions:
                if first:
                    reset = abs(r.nr - r.last) > threshold or (r.nr == 0) != (r.last == 0)
                    r.age = 0 if reset else r.age + 1
                p = merged[-1] if merged else None
                if p and p.end == r.start and abs(p.nr - r.nr) <= threshold and p.size + r.size <= self.limit:
                    both = p.size + r.size
                    p.nr = (p.nr * p.size + r.nr * r.size) // both
                    p.age = (p.age * p.size + r.age * r.size) // both
                    p.end = r.end
                else:
                    merged.append(r)
            self.regions, first = merged, False
            if len(merged) <= self.attrs.max_nr_regions or threshold >= w:
                return
            threshold = max(1, 2 * threshold) if threshold < w // 2 else w

    def enforce_minimum(self) -> None:
        self.regions = [
            Region(at, min(at + self.limit, r.end), r.nr, r.last, r.age)
            for r in self.regions
            for at in range(r.start, r.end, self.limit)
        ]

    def split(self) -> None:
        n, most = len(self.regions), self.attrs.max_nr_regions
        parts = 3 if self.last_n == n and n < most // 3 else 2
        if n > most // 2:
            parts = 1
        self.last_n = n
        self.regions = [piece for r in self.regions for piece in self.parts(r, parts)]

    def parts(self, r: Region, count: int) -> list[Region]:
        """Each further part is cut off the left one."""
        parts = [r]
        for _ in range(count - 1):
            parts[:1] = self.cut(parts[0])
        return parts

    def cut(self, r: Region) -> list[Region]:
        at = int(self.rng.integers(1, 10)) * r.size // 10 // page_size() * page_size()
        if r.size <= 2 * page_size() or at == 0 or at >= r.size:
            return [r]
        return [
            Region(r.start, r.start + at, r.nr, r.last, r.age),
            Region(r.start + at, r.end, r.nr, r.last, r.age),
        ]

    def snapshot(self, now: int) -> Snapshot:
        return snapshot(now, [(r.start, r.end, r.nr, r.age) for r in self.regions])


def snapshot(time_ns: int, regions: Sequence[tuple[int, int, int, int]], target_idx: int = 0) -> Snapshot:
    """From (start, end, nr_accesses, age) rows."""
    table = np.array(regions, np.uint64).reshape(-1, 4)
    return Snapshot(
        time_ns,
        target_idx,
        table[:, 0],
        table[:, 1],
        table[:, 2].astype(np.uint32),
        table[:, 3].astype(np.uint32),
        len(table),
    )


def recording(snapshots: Sequence[Snapshot], sample_us: int = 5000, aggr_us: int = 100_000) -> Recording:
    stop = snapshots[-1].time_ns if snapshots else 0
    return Recording("damon_aggregated", "fvaddr", sample_us, aggr_us, tuple(snapshots), 0, stop)


MIB = 1 << 20


def hot_cold(
    aggregations: int = 40,
    seed: int = 1,
    *,
    hot_mib: int = 8,
    total_mib: int = 64,
    attrs: DamonAttrs | None = None,
) -> tuple[ListTruth, Damon, Recording]:
    """The first ``hot_mib`` of ``total_mib`` touched all the time, the rest never."""
    ranges = [(BASE, BASE + total_mib * MIB)]
    until = (aggregations + 1) * 100 * MS
    truth = ListTruth(ranges, [Touch(BASE, BASE + hot_mib * MIB, 0, until)], until)
    damon = Damon(truth, ranges, attrs or DamonAttrs(), seed)
    return truth, damon, damon.run(aggregations)


def phases(aggregations: int = 60, seed: int = 1) -> tuple[ListTruth, Damon, Recording]:
    """8 MiB hot at the beginning of 64 MiB; half-way another 8 MiB, at 32 MiB, instead."""
    ranges = [(BASE, BASE + 64 * MIB)]
    change, until = aggregations // 2 * 100 * MS, (aggregations + 1) * 100 * MS
    other = BASE + 32 * MIB
    touches = [Touch(BASE, BASE + 8 * MIB, 0, change), Touch(other, other + 8 * MIB, change, until)]
    truth = ListTruth(ranges, touches, until)
    damon = Damon(truth, ranges, DamonAttrs(), seed)
    return truth, damon, damon.run(aggregations)
