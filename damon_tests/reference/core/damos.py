# SPDX-License-Identifier: GPL-2.0
"""Apply schemes: one pass over the regions of all targets, at each sample at which a scheme is due."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from damon_tests.ports.arrays import I64, Bools
from damon_tests.reference.core.actions import Application
from damon_tests.reference.core.context import Context, Target
from damon_tests.reference.core.filters import core_verdict
from damon_tests.reference.core.goals import achievements
from damon_tests.reference.core.merge import merge_alike
from damon_tests.reference.core.ops import Operations
from damon_tests.reference.core.region_list import ListedRegion, list_regions, store_regions
from damon_tests.reference.core.schemes import Scheme, TriedRegion, Walk
from damon_tests.reference.core.tracepoints import ThreadEvents
from damon_tests.reference.machine.clock import VirtualClock
from damon_tests.reference.machine.process import NO_FRAME


class DamosPass:
    """One pass of the due and active schemes of a context (specification §4.1 and §4.2)."""

    def __init__(
        self, ctx: Context, ops: Operations, clock: VirtualClock, events: ThreadEvents, walk: Walk | None
    ) -> None:
        self.ctx, self.ops, self.clock, self.events, self.walk = ctx, ops, clock, events, walk
        self.rules = ctx.rules
        is_due = ctx.rules.scheme_is_due
        due = [(i, s) for i, s in enumerate(ctx.schemes) if s.activated and is_due(ctx.passed, s.next_apply)]
        self.due = ctx.rules.scheme_order(due)
        self.values: I64 = np.zeros(0, np.int64)
        self.size_limit = 0
        self._last_folio = dict.fromkeys(range(len(ctx.schemes)), NO_FRAME)

    def run(self) -> None:
        """Apply the schemes that are due and active; without any, nothing happens, not even rescheduling."""
        if not self.due:
            return
        ctx = self.ctx
        self.ops.memory.khugepaged()
        self.values = ctx.access_values(ctx.regions)
        for index, scheme in self.due:
            self._adjust_quota(index, scheme)
        self.size_limit = self.rules.merge_size_limit(
            ctx.regions.total_size(), ctx.attrs.min_nr_regions, ctx.min_region_sz
        )
        if self._all_only_watch():
            self._watch()
        else:
            for index, target in enumerate(ctx.targets):
                if self.ops.target_valid(target):
                    self._apply_to_target(index, target)
                else:
                    self._forget_continuation(target)
        self._finish()

    # Schemes that only count need no walk from region to region

    def _all_only_watch(self) -> bool:
        return (
            all(scheme.only_watches for _, scheme in self.due)
            and not self.events.enabled("damos_before_apply")
            and all(self.ops.target_valid(target) for target in self.ctx.targets)
        )

    def _watch(self) -> None:
        """Do the whole walk at once, for schemes that only count."""
        ctx, regions = self.ctx, self.ctx.regions
        last = np.append(regions.target[1:] != regions.target[:-1], True)[: len(regions.target)]
        for scheme_idx, scheme in self.due:
            chosen = scheme.matches_all(regions.sizes, self.values, regions.age)
            count, size = int(chosen.sum()), int(regions.sizes[chosen].sum())
            if self.walk is not None and scheme_idx not in self.walk.complete:
                self._report_all(scheme_idx, chosen)
            scheme.quota.charge(scheme.params.quota, size, 0)
            self.rules.account(scheme.stats, count, size, 0, 0)
            regions.age = np.where(chosen, self.rules.age_after_action("stat", regions.age, 0), regions.age)
            scheme.stats.nr_snapshots += sum(map(self.rules.snapshot_counts, chosen[last].tolist()))
        if self.rules.remerge_after_apply:
            ctx.regions = merge_alike(regions, self.size_limit)

    def _report_all(self, scheme_idx: int, chosen: Bools) -> None:
        for index in range(len(self.ctx.targets)):
            for region in list_regions(self.ctx, index, self.values):
                if chosen[region.origin]:
                    self._report(scheme_idx, region, 0)

    # Quota

    def _adjust_quota(self, index: int, scheme: Scheme) -> None:
        """Begin a new charge window if it is time, and compute the lowest priority that gets quota."""
        quota, params, ctx = scheme.quota, scheme.params.quota, self.ctx
        requested = bool(params.bytes or params.ms or params.goals)
        if not self.rules.window_needs_turn(quota.is_set(params), requested):
            return

        def on_esz(size: int) -> None:
            if self.events.enabled("damos_esz"):
                self.events.emit("damos_esz", [f"ctx_idx=0 scheme_idx={index} esz={size}"])

        exceeded = quota.adjust_window(
            params,
            self.clock.jiffies(),
            ctx.min_region_sz,
            lambda: achievements(ctx, scheme, self.ops.memory, self.clock.now_ns()),
            on_esz,
        )
        scheme.stats.qt_exceeds += self.rules.window_exceeded(exceeded)
        quota.min_score = self.rules.min_score(self._histogram(scheme), quota.effective_size)

    def _histogram(self, scheme: Scheme) -> list[int]:
        """Return the bytes of matching regions that the core filters let through, by priority."""
        if self.rules.histogram_asks_core_filters and scheme.lists.core:
            chosen = self._allowed_rows(scheme)
        else:
            regions = self.ctx.regions
            chosen = scheme.matches_all(regions.sizes, self.values, regions.age)
        regions = self.ctx.regions.take(chosen)
        scores = self._priorities(scheme, self.values[chosen], regions.nr_accesses, regions.age)
        histogram = [0] * 100
        for score, size in zip(scores.tolist(), regions.sizes.tolist(), strict=True):
            histogram[score] += size
        return histogram

    def _allowed_rows(self, scheme: Scheme) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
        """Choose the regions that match and pass; asking address filters may split regions."""
        ctx, allowed = self.ctx, []
        for index in range(len(ctx.targets)):
            regions = list_regions(ctx, index, self.values)
            for region in regions:  # grows while it is walked: right parts of splits come next
                passes = scheme.matches(region.size, region.value, region.age)
                if passes:
                    passes, _ = core_verdict(scheme.lists, region, index, ctx.min_region_sz, self.rules)
                allowed.append(passes)
            self._store(index, regions)
        return np.array(allowed, np.bool_)

    def _priorities(self, scheme: Scheme, values: I64, counters: I64, ages: I64) -> I64:
        ctx, values = self.ctx, self.rules.priority_value(values, counters)
        return scheme.priorities(ctx.operations, values, ages, max(ctx.window, 1), ctx.attrs.aggr_us)

    def _forget_continuation(self, target: Target) -> None:
        for _, scheme in self.due:
            if scheme.quota.continue_target is target:
                scheme.quota.forget()

    # Regions

    def _apply_to_target(self, index: int, target: Target) -> None:
        regions = list_regions(self.ctx, index, self.values)
        at = 0
        while at < len(regions):
            region, next_region = regions[at], regions[at + 1] if at + 1 < len(regions) else None
            for scheme_idx, scheme in self.due:
                region = self._visit(scheme_idx, scheme, region, index, target)
            if not self.rules.rest_of_split_is_visited:
                at = regions.index(next_region) if next_region is not None else len(regions)
            elif at > 0 and self.rules.remerge_after_apply and self._alike(regions[at - 1], region):
                regions[at - 1].end = region.end
                del regions[at]
            else:
                at += 1
        self._store(index, regions)

    def _store(self, index: int, regions: list[ListedRegion]) -> None:
        if store_regions(self.ctx, index, regions):
            self.values = self.ctx.access_values(self.ctx.regions)

    def _visit(
        self, scheme_idx: int, scheme: Scheme, region: ListedRegion, target_idx: int, target: Target
    ) -> ListedRegion:
        """Try one scheme on one region; the quota may skip it, split it, or have none left.

        Returns the region that the next scheme visits: the same, but for 6.12's continuation.
        """
        quota, params, m = scheme.quota, scheme.params, self.ctx.min_region_sz
        if quota.is_full(params.quota, m):
            return region
        skips, region = self._skips(scheme, region, target)
        if skips or self.rules.snapshot_limit_reached(scheme.stats.nr_snapshots, params.max_nr_snapshots):
            return region
        wanted = self._is_wanted(scheme, region)
        if wanted:
            self._apply(scheme_idx, scheme, region, target_idx, target)
        if region is region.siblings[-1]:
            scheme.stats.nr_snapshots += self.rules.snapshot_counts(wanted)
        return region

    def _is_wanted(self, scheme: Scheme, region: ListedRegion) -> bool:
        """Whether a region matches the pattern and, where a quota is set, has priority enough."""
        if not scheme.matches(region.size, region.value, region.age):
            return False
        quota = scheme.quota
        if not quota.is_set(scheme.params.quota) or quota.min_score <= 0:
            return True
        score = self._priorities(
            scheme, *(np.array([column]) for column in (region.value, region.nr, region.age))
        )
        return int(score[0]) >= quota.min_score

    def _skips(self, scheme: Scheme, region: ListedRegion, target: Target) -> tuple[bool, ListedRegion]:
        """Return whether the last charge window got beyond this region already, and the region to go on
        with."""
        quota = scheme.quota
        if quota.continue_target is None:
            return False, region
        if quota.continue_target is not target:
            return True, region
        in_place = not self.rules.rest_of_split_is_visited
        if in_place and region is region.siblings[-1]:
            quota.forget()
            return True, region
        skipped = self.rules.skipped_size(region.start, region.end, quota.continue_at, self.ctx.min_region_sz)
        if 0 < skipped < region.size:
            region.split_at(region.start + skipped)
            if in_place:
                region, skipped = region.siblings[region.siblings.index(region) + 1], 0
        if region is region.siblings[-1] or (in_place and not skipped):
            quota.forget()
        return skipped > 0, region

    def _apply(
        self, scheme_idx: int, scheme: Scheme, region: ListedRegion, target_idx: int, target: Target
    ) -> None:
        ctx, rules, quota, stats = self.ctx, self.rules, scheme.quota, scheme.stats
        part = quota.cut(scheme.params.quota, region.size, ctx.min_region_sz)
        if part == 0:
            stats.nr_tried += 1
            return
        if part is not None:
            region.split_at(region.start + part)
        whole = region.size
        allowed, explicitly = core_verdict(scheme.lists, region, target_idx, ctx.min_region_sz, rules)
        if not allowed:
            return
        size = rules.tried_size(whole, region.size)
        self._trace(scheme_idx, region, target_idx)
        applied, passed = self._act(scheme_idx, scheme, region, target, explicitly)
        self._report(scheme_idx, region, passed)
        quota.charge(scheme.params.quota, size, applied)
        if quota.is_full(scheme.params.quota, ctx.min_region_sz):
            quota.remember(target, region.end)
        region.age = rules.age_after_action(scheme.params.action, region.age, applied)
        rules.account(stats, 1, size, applied, passed)

    def _act(
        self, scheme_idx: int, scheme: Scheme, region: ListedRegion, target: Target, bypass: bool
    ) -> tuple[int, int]:
        """Apply the action; return (bytes applied, bytes that passed) in core address units."""
        unit = self.ctx.addr_unit if self.ctx.operations == "paddr" else 1
        app = Application(
            scheme.params,
            scheme.lists,
            (region.start * unit, region.end * unit),
            bypass,
            self.clock.now_ns(),
            self._last_folio[scheme_idx],
        )
        applied, passed = self.ops.apply(app, target, self.rules)
        self._last_folio[scheme_idx] = app.last_folio
        scheme.quota.total_charged_ns += self.ops.memory.apply_ns(region.end - region.start)
        return applied // unit, passed // unit

    def _alike(self, left: ListedRegion, right: ListedRegion) -> bool:
        return (
            left.end == right.start
            and left.age == right.age
            and left.last == right.last
            and left.nr == right.nr
            and right.end - left.start <= self.size_limit
        )

    # Reporting

    def _finish(self) -> None:
        """Reschedule every due scheme, inactive ones included, and end its part of a walk."""
        ctx = self.ctx
        for index, scheme in enumerate(ctx.schemes):
            if not self.rules.scheme_is_due(ctx.passed, scheme.next_apply):
                continue
            if self.walk is not None:
                self._end_walk_of(index, self.walk)
            scheme.schedule(ctx.passed, ctx.samples, ctx.attrs.aggr_us)
            if self.events.enabled("damos_stat_after_apply_interval"):
                self.events.emit("damos_stat_after_apply_interval", [stat_text(index, scheme)])

    def _end_walk_of(self, scheme_idx: int, walk: Walk) -> None:
        walk.passes[scheme_idx] += 1
        if self.rules.walk_ends(walk.passes[scheme_idx], walk.regions[scheme_idx]):
            walk.complete.add(scheme_idx)

    def _report(self, scheme_idx: int, region: ListedRegion, passed: int) -> None:
        if self.walk is None or scheme_idx in self.walk.complete:
            return
        nr_probes, hits = len(self.ctx.probes), ()
        if nr_probes:
            values = self.ctx.probe_values(self.ctx.regions.take(slice(region.origin, region.origin + 1)))
            hits = tuple(values[0, :nr_probes].tolist())
        self.walk.regions[scheme_idx] += 1
        tried = TriedRegion(region.start, region.end, region.value, region.age, passed, hits)
        self.walk.on_region(scheme_idx, tried)

    def _trace(self, scheme_idx: int, region: ListedRegion, target_idx: int) -> None:
        if self.events.enabled("damos_before_apply"):
            text = (
                f"ctx_idx=0 scheme_idx={scheme_idx} target_idx={target_idx} "
                f"nr_regions={len(region.siblings)} {region.start}-{region.end}: {region.value} {region.age}"
            )
            self.events.emit("damos_before_apply", [text])


def stat_text(index: int, scheme: Scheme) -> str:
    """Return the printed fields of damos_stat_after_apply_interval."""
    s = scheme.stats
    return (
        f"ctx_idx=0 scheme_idx={index} nr_tried={s.nr_tried} sz_tried={s.sz_tried} "
        f"nr_applied={s.nr_applied} sz_applied={s.sz_applied} "
        f"sz_ops_filter_passed={s.sz_ops_filter_passed} qt_exceeds={s.qt_exceeds} "
        f"nr_snapshots={s.nr_snapshots}"
    )


def watermark_wait_us(schemes: Sequence[Scheme], free_permil: int) -> int:
    """Update which schemes the watermarks activate; return how long to sleep before the next look, 0: go
    on."""
    waits = []
    for scheme in schemes:
        marks = scheme.params.watermarks
        if marks.metric == "none":
            waits.append(0)
            continue
        scheme.activated = scheme.rules.watermark_active(
            free_permil, marks.high, marks.mid, marks.low, scheme.activated
        )
        waits.append(0 if scheme.activated else marks.interval_us)
    return schemes[0].rules.watermark_wait_us(waits) if waits else 0
