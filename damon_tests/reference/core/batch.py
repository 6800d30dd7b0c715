# SPDX-License-Identifier: GPL-2.0
"""Many replicas of one monitoring run at once: the same engine over one more array dimension.

Gives distributions of what a correct DAMON reports. All replicas see the same accesses at the same times
and differ in their random numbers. One replica with the random stream of a ``ReferenceSystem``'s context
gives that system's result, region by region.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from damon_tests.damon.params import DamonCtx
from damon_tests.damon.records import Snapshot
from damon_tests.ports import NotSupported, huge_page_size
from damon_tests.ports.arrays import I64, U64, Bools
from damon_tests.reference.core.build import check_request
from damon_tests.reference.core.context import min_region_size
from damon_tests.reference.core.merge import merge_pass
from damon_tests.reference.core.ops import divide_evenly, page_numbers
from damon_tests.reference.core.regions import Regions, cut_to_limit, set_ranges
from damon_tests.reference.core.split import cut
from damon_tests.reference.machine.clock import SleepNs, VirtualClock
from damon_tests.reference.machine.memory import Memory
from damon_tests.reference.machine.process import Process
from damon_tests.reference.rules.monitoring import align_up, can_split, can_split_partially
from damon_tests.reference.rules.ruleset import Rules


@dataclass(frozen=True)
class Step:
    """One sampling step as it really was: regions are watched from ``prepared_ns`` to ``checked_ns``. The
    last step of an aggregation has the time at which the aggregation was reported."""

    prepared_ns: int
    checked_ns: int
    reported_ns: int | None = None


@dataclass(frozen=True, eq=False)
class Aggregation:
    """Regions of all replicas at the end of one aggregation (before the split), as traced.

    ``regions.target`` is replica * nr_targets + target. ``bounds``: rows of replica-target i are
    [bounds[i], bounds[i + 1]).
    """

    time_ns: int
    regions: Regions
    bounds: tuple[int, ...]

    @cached_property
    def counters(self) -> tuple[npt.NDArray[np.uint32], npt.NDArray[np.uint32]]:
        """nr_accesses and age of all rows, as snapshots have them."""
        return self.regions.nr_accesses.astype(np.uint32), self.regions.age.astype(np.uint32)


@dataclass(frozen=True, eq=False)
class BatchRecording:
    """What all replicas reported."""

    nr_replicas: int
    nr_targets: int
    aggregations: tuple[Aggregation, ...]

    def snapshots(self, replica: int, target_idx: int = 0) -> tuple[Snapshot, ...]:
        """One replica's snapshots of one target, in time order."""
        which = replica * self.nr_targets + target_idx
        return tuple(_snapshot(a, which, target_idx) for a in self.aggregations)


def _snapshot(aggregation: Aggregation, which: int, target_idx: int) -> Snapshot:
    rows = slice(aggregation.bounds[which], aggregation.bounds[which + 1])
    regions, (nr_accesses, age) = aggregation.regions, aggregation.counters
    return Snapshot(
        time_ns=aggregation.time_ns,
        target_idx=target_idx,
        start=regions.start[rows],
        end=regions.end[rows],
        nr_accesses=nr_accesses[rows],
        age=age[rows],
        nr_regions=rows.stop - rows.start,
    )


def missing_for_batch(ctx: DamonCtx) -> tuple[str, ...]:
    """Name what of a request a batch cannot do; such requests need a ReferenceSystem for each replica."""
    missing = []
    if ctx.operations == "paddr":
        missing.append("paddr")
    if ctx.schemes:
        missing.append("schemes")
    if ctx.attrs.probes:
        missing.append("probes")
    if ctx.attrs.intervals_goal.aggrs:
        missing.append("intervals_goal")
    return tuple(missing)


class Batch:
    """``processes``: one for each target; their mappings must not change while it runs."""

    def __init__(
        self,
        rules: Rules,
        ctx: DamonCtx,
        processes: Sequence[Process],
        nr_replicas: int,
        rng: np.random.Generator,
    ) -> None:
        """Raises NotSupported for requests that need more than monitoring, CoreError for invalid ones."""
        if missing := missing_for_batch(ctx):
            raise NotSupported(*(f"{what} in a batch of replicas" for what in missing))
        memory = Memory(2 * huge_page_size(), np.random.default_rng(0))
        memory.processes = {process.pid: process for process in processes}
        check_request(ctx, memory, rules)
        _keep_freed_memory()
        self.rules, self.attrs, self.rng = rules, ctx.attrs, rng
        self.processes = list(processes)
        self.nr_replicas = nr_replicas
        self.min_region_sz = min_region_size(ctx.operations, ctx.addr_unit)
        self.window = rules.samples_in(ctx.attrs.aggr_us, ctx.attrs.sample_us)
        initial = Regions.concat([self._initial(ctx, i) for i in range(len(processes))])
        self.size_limit = rules.merge_size_limit(
            initial.total_size(), ctx.attrs.min_nr_regions, self.min_region_sz
        )
        if rules.strict_min_regions:
            self.size_limit = align_up(self.size_limit, self.min_region_sz)
            initial = cut_to_limit(initial, self.size_limit)
        initial.drop_probe_hits()
        self.regions = Regions.concat([_shifted(initial, r * len(processes)) for r in range(nr_replicas)])
        # Hits of the window that runs: adding to narrow numbers takes half of the time.
        self._hits: npt.NDArray[np.uint32] = np.zeros(len(self.regions), np.uint32)
        self._last_nr_regions: I64 = np.zeros(nr_replicas, np.int64)
        self._rotation: I64 = np.zeros(nr_replicas, np.int64)

    def _initial(self, ctx: DamonCtx, target: int) -> Regions:
        """Return the regions of one target when monitoring starts."""
        rules, given = self.rules, ctx.targets[target].regions
        ranges = list(given)
        if not ranges and ctx.operations == "vaddr":
            ranges = rules.three_ranges(self.processes[target].vmas) or []
        empty = Regions.of_ranges([])
        regions = set_ranges(empty, ranges, self.min_region_sz, target, rules) or empty
        if ctx.operations == "vaddr" and not given and not rules.strict_min_regions:
            return divide_evenly(regions, self.attrs.min_nr_regions, self.min_region_sz)
        return regions

    def run(self, origin_ns: int, until_ns: int, sleep_ns: SleepNs | None = None) -> BatchRecording:
        """Monitor from ``origin_ns`` until ``until_ns``; ``sleep_ns`` as for ReferenceSystem."""
        clock = VirtualClock(origin_ns, sleep_ns)
        aggregations: list[Aggregation] = []
        passed, next_aggr = 0, self.window
        while True:
            sampled = self._sampled_pages()
            prepared_ns, checked_ns = clock.now_ns(), clock.wake_ns(self.attrs.sample_us)
            if checked_ns > until_ns:
                break
            clock.run_until(checked_ns)
            passed += 1
            self._check(sampled, prepared_ns, checked_ns)
            if self.rules.aggregation_is_due(passed, next_aggr):
                next_aggr += self.window
                aggregations.append(self._aggregate(checked_ns))
        return BatchRecording(self.nr_replicas, len(self.processes), tuple(aggregations))

    def run_steps(self, steps: Iterable[Step]) -> BatchRecording:
        """Monitor in exactly these steps: aggregate where one was reported, not by counting."""
        aggregations: list[Aggregation] = []
        for step in steps:
            self._check(self._sampled_pages(), step.prepared_ns, step.checked_ns)
            if step.reported_ns is not None:
                aggregations.append(self._aggregate(step.reported_ns))
        return BatchRecording(self.nr_replicas, len(self.processes), tuple(aggregations))

    def _aggregate(self, time_ns: int) -> Aggregation:
        self.regions.nr_accesses += self._hits
        self._merge()
        aggregation = self._aggregation(time_ns)
        self.rules.reset_aggregated(self.regions)
        self._split()
        self._hits = np.zeros(len(self.regions), np.uint32)
        return aggregation

    def _sampled_pages(self) -> I64:
        regions = self.regions
        fractions = self.rng.random(len(regions))
        return page_numbers(regions.start + self.rules.sample_offset(fractions, regions.float_sizes))

    def _check(self, pages: I64, prepared_ns: int, checked_ns: int) -> None:
        rules = self.rules
        t0_ns, t1_ns = rules.check_window(prepared_ns, checked_ns)
        if len(self.processes) == 1:
            hits = self.processes[0].accessed(pages, t0_ns, t1_ns)
        else:
            hits = self._hits_of_targets(pages, t0_ns, t1_ns)
        self._hits += rules.observed(hits)

    def _hits_of_targets(self, pages: I64, t0_ns: int, t1_ns: int) -> Bools:
        hits: Bools = np.zeros(len(pages), np.bool_)
        target = self.regions.target % len(self.processes)
        for index, process in enumerate(self.processes):
            mine = target == index
            hits[mine] = process.accessed(pages[mine], t0_ns, t1_ns)
        return hits

    def _aggregation(self, time_ns: int) -> Aggregation:
        # A view: the new window gets arrays of its own.
        regions = self.regions.take(slice(None))
        return Aggregation(time_ns, regions, regions.bounds(self.nr_replicas * len(self.processes)))

    # Merging and splitting, with each replica's own thresholds and counts

    def _replica_of_rows(self) -> I64:
        target, nr_targets = self.regions.target, len(self.processes)
        return target if nr_targets == 1 else target // nr_targets

    def _counts(self) -> I64:
        return np.bincount(self._replica_of_rows(), minlength=self.nr_replicas).astype(np.int64)

    def _merge(self) -> None:
        rules, regions = self.rules, self.regions
        replica = self._replica_of_rows()
        highest: I64 = np.zeros(self.nr_replicas, np.int64)
        np.maximum.at(highest, replica, regions.nr_accesses)
        thresholds: I64 = np.array([rules.merge_threshold(score) for score in highest.tolist()], np.int64)
        by_row: I64 = thresholds[replica]
        # The rule takes one threshold; numpy lets it take one for each row as well.
        regions.age = rules.next_age(
            regions.age,
            regions.nr_accesses,
            regions.last_nr_accesses,
            by_row,  # type: ignore[arg-type]
        )
        while True:
            self.regions = merge_pass(
                self.regions, rules, thresholds[self._replica_of_rows()], self.size_limit
            )
            thresholds = self._raised(thresholds)
            if (thresholds < 0).all():
                break
        if rules.strict_min_regions:
            self.regions = cut_to_limit(self.regions, self.size_limit)

    def _raised(self, thresholds: I64) -> I64:
        """Return the thresholds of the next pass; -1 for replicas that need none."""
        rules, maximum = self.rules, self.attrs.max_nr_regions
        raised = [
            -1
            if t < 0 or rules.may_stop_merging(n, maximum, t, self.window)
            else rules.next_merge_threshold(t, self.window)
            for n, t in zip(self._counts().tolist(), thresholds.tolist(), strict=True)
        ]
        return np.array(raised, np.int64)

    def _split(self) -> None:
        rules, regions, maximum = self.rules, self.regions, self.attrs.max_nr_regions
        counts = self._counts()
        steps: I64 = np.array([rules.partial_split_step(n, maximum) for n in counts.tolist()], np.int64)
        parts: I64 = np.array(
            [
                1 if step else rules.split_parts(n, last, maximum)
                for n, last, step in zip(
                    counts.tolist(), self._last_nr_regions.tolist(), steps.tolist(), strict=True
                )
            ],
            np.int64,
        )
        replica, m = self._replica_of_rows(), self.min_region_sz
        first = (parts[replica] > 1) & can_split(regions.sizes, m)
        first |= self._rotated(replica, steps) & can_split_partially(regions.sizes, m)
        left = regions.sizes
        points = [self._cut_points(left, first)]
        if (parts == 3).any():
            left = np.where(points[0] > 0, points[0], left)
            points.insert(0, self._cut_points(left, (parts[replica] == 3) & can_split(left, m)))
        self.regions = cut(regions, rules, *points)
        remembered = (steps > 0) | (parts > 1) | rules.split_history_always
        self._last_nr_regions = np.where(remembered, counts, self._last_nr_regions)

    def _rotated(self, replica: I64, steps: I64) -> Bools:
        """Choose each step-th row of the replicas that are split partially, beginning one further each
        time."""
        offsets = self._rotation % np.maximum(steps, 1)
        self._rotation += steps > 0
        index = np.arange(len(replica)) - np.searchsorted(replica, np.arange(self.nr_replicas))[replica]
        step = steps[replica]
        chosen: Bools = (step > 0) & (index % np.maximum(step, 1) == offsets[replica])
        return chosen

    def _cut_points(self, sizes: U64, chosen: Bools) -> U64:
        points = np.zeros(len(sizes), np.uint64)
        tenths = self.rng.integers(1, 10, size=int(chosen.sum()), dtype=np.uint64)
        points[chosen] = self.rules.split_size(tenths, sizes[chosen], self.min_region_sz)
        return points


def _keep_freed_memory() -> None:
    """Have glibc reuse freed arrays, which it otherwise returns to the kernel after each step: page faults
    are a tenth of a batch's time. Freeing a large block raises its thresholds (mallopt(3),
    M_MMAP_THRESHOLD)."""
    block = np.empty(16 << 20, np.uint8)
    del block


def _shifted(regions: Regions, first_target: int) -> Regions:
    """Return a copy whose targets are numbered from ``first_target`` on."""
    copy = regions.take(np.arange(len(regions)))
    copy.target = copy.target + first_target
    return copy
