# SPDX-License-Identifier: GPL-2.0
"""Applying schemes: one pass over the regions of all targets, at each sample at which a scheme is due."""

from __future__ import annotations

import errno
from collections.abc import Sequence

import numpy as np

from damon_tests.reference.context import Context
from damon_tests.reference.events import ThreadEvents
from damon_tests.reference.filters import FilterLists, core_verdict
from damon_tests.reference.ops import Operations
from damon_tests.reference.regions import Regions
from damon_tests.reference.schemes import Scheme, TriedRegion, Walk


class Row:
    """One region during a pass. ``origin`` is its row in the context's arrays."""

    __slots__ = ("age", "end", "last", "nr", "origin", "rows", "start", "value")

    def __init__(
        self, rows: list[Row], start: int, end: int, nr: int, last: int, age: int, value: int, origin: int
    ) -> None:
        self.rows = rows
        self.start, self.end = start, end
        self.nr, self.last, self.age = nr, last, age
        self.value = value  # access frequency as schemes see it
        self.origin = origin

    @property
    def size(self) -> int:
        return self.end - self.start

    def split_at(self, address: int) -> None:
        """Cut at ``address``; the right part becomes the next row, to be visited later in this pass."""
        right = Row(self.rows, address, self.end, self.nr, self.last, self.age, self.value, self.origin)
        self.rows.insert(self.rows.index(self) + 1, right)
        self.end = address


class DamosPass:
    """One pass of the due schemes of a context."""

    def __init__(self, ctx: Context, ops: Operations, events: ThreadEvents, walk: Walk | None) -> None:
        self.ctx = ctx
        self.ops = ops
        self.events = events
        self.walk = walk
        self.due = [s for s in ctx.schemes if s.activated and ctx.rules.is_due(ctx.passed, s.next_apply)]
        self.values = ctx.access_values(ctx.regions)
        self.size_limit = ctx.rules.merge_size_limit(
            ctx.regions.total_size(), ctx.attrs.min_nr_regions, ctx.min_region_sz
        )

    def run(self) -> None:
        """Apply; without any due and active scheme nothing happens, not even rescheduling."""
        if not self.due:
            return
        for index, target in enumerate(self.ctx.targets):
            if self.ops.target_valid(target):
                self._apply_to_target(index)
        self._finish()

    def _apply_to_target(self, index: int) -> None:
        bounds = self.ctx.regions.bounds(len(self.ctx.targets))
        rows = self._rows(bounds[index], bounds[index + 1])
        at = 0
        while at < len(rows):
            row = rows[at]
            for scheme in self.due:
                self._visit(scheme, row, rows, index)
            if at > 0 and self.ctx.rules.remerge_after_apply and self._alike(rows[at - 1], row):
                rows[at - 1].end = row.end
                del rows[at]
            else:
                at += 1
        self._store(index, rows, bounds[index], bounds[index + 1])

    def _visit(self, scheme: Scheme, row: Row, rows: list[Row], target_idx: int) -> None:
        limit = scheme.params.max_nr_snapshots
        if limit and scheme.stats.nr_snapshots >= limit:
            return
        if scheme.matches(row.size, row.value, row.age):
            self._apply(scheme, row, rows, target_idx)
        if row is rows[-1]:
            scheme.stats.nr_snapshots += 1

    def _apply(self, scheme: Scheme, row: Row, rows: list[Row], target_idx: int) -> None:
        lists = FilterLists.of(scheme.params)
        allowed, _ = core_verdict(lists, row, target_idx, self.ctx.min_region_sz)
        if not allowed:
            return
        size = row.size
        applied, passed = 0, 0
        self._trace(scheme, row, rows, target_idx)
        if self.walk is not None and self._index(scheme) not in self.walk.complete:
            self.walk.on_region(self._index(scheme), self._tried(row, passed))
        if scheme.params.action != "stat":
            row.age = 0
        stats = scheme.stats
        stats.nr_tried += 1
        stats.sz_tried += size
        stats.nr_applied += applied > 0
        stats.sz_applied += applied
        stats.sz_ops_filter_passed += passed

    def _finish(self) -> None:
        """Reschedule every due scheme, inactive ones included, and end its part of a walk."""
        ctx = self.ctx
        for index, scheme in enumerate(ctx.schemes):
            if not ctx.rules.is_due(ctx.passed, scheme.next_apply):
                continue
            if self.walk is not None:
                self.walk.complete.add(index)
            scheme.schedule(ctx.passed, ctx.samples, ctx.attrs.aggr_us)
            if self.events.enabled("damos_stat_after_apply_interval"):
                self.events.emit("damos_stat_after_apply_interval", [stat_text(index, scheme)])

    def _alike(self, left: Row, right: Row) -> bool:
        return (
            left.end == right.start
            and left.age == right.age
            and left.last == right.last
            and left.nr == right.nr
            and right.end - left.start <= self.size_limit
        )

    def _rows(self, low: int, high: int) -> list[Row]:
        regions = self.ctx.regions
        rows: list[Row] = []
        columns = zip(
            regions.start[low:high].tolist(),
            regions.end[low:high].tolist(),
            regions.nr_accesses[low:high].tolist(),
            regions.last_nr_accesses[low:high].tolist(),
            regions.age[low:high].tolist(),
            self.values[low:high].tolist(),
            strict=True,
        )
        for origin, (start, end, nr, last, age, value) in enumerate(columns, low):
            rows.append(Row(rows, start, end, nr, last, age, value, origin))
        return rows

    def _store(self, target_idx: int, rows: Sequence[Row], low: int, high: int) -> None:
        """Write the rows back; unchanged layouts keep their arrays."""
        ctx = self.ctx
        ages = np.array([row.age for row in rows], np.int64)
        old = ctx.regions
        if len(rows) == high - low and [row.start for row in rows] == old.start[low:high].tolist():
            old.age[low:high] = ages
            return
        new = old.take(np.array([row.origin for row in rows], np.intp))
        new.start = np.array([row.start for row in rows], np.uint64)
        new.end = np.array([row.end for row in rows], np.uint64)
        new.age = ages
        parts = [old.take(slice(0, low)), new, old.take(slice(high, None))]
        values = [self.values[:low], ctx.access_values(new), self.values[high:]]
        ctx.regions = Regions.concat(parts)
        self.values = np.concatenate(values)

    def _index(self, scheme: Scheme) -> int:
        return self.ctx.schemes.index(scheme)

    def _tried(self, row: Row, passed: int) -> TriedRegion:
        nr_probes = len(self.ctx.probes)
        hits: tuple[int, ...] = ()
        if nr_probes:
            values = self.ctx.probe_values(self.ctx.regions.take(slice(row.origin, row.origin + 1)))
            hits = tuple(values[0, :nr_probes].tolist())
        return TriedRegion(row.start, row.end, row.value, row.age, passed, hits)

    def _trace(self, scheme: Scheme, row: Row, rows: Sequence[Row], target_idx: int) -> None:
        if self.events.enabled("damos_before_apply"):
            text = (
                f"ctx_idx=0 scheme_idx={self._index(scheme)} target_idx={target_idx} "
                f"nr_regions={len(rows)} {row.start}-{row.end}: {row.value} {row.age}"
            )
            self.events.emit("damos_before_apply", [text])


def stat_text(index: int, scheme: Scheme) -> str:
    """The printed fields of damos_stat_after_apply_interval."""
    s = scheme.stats
    return (
        f"ctx_idx=0 scheme_idx={index} nr_tried={s.nr_tried} sz_tried={s.sz_tried} "
        f"nr_applied={s.nr_applied} sz_applied={s.sz_applied} "
        f"sz_ops_filter_passed={s.sz_ops_filter_passed} qt_exceeds={s.qt_exceeds} "
        f"nr_snapshots={s.nr_snapshots}"
    )


def cancel(walk: Walk | None) -> None:
    """Tell the requester of a walk that it will not happen."""
    if walk is not None:
        walk.on_done(errno.ECANCELED)
