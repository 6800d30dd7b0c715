# SPDX-License-Identifier: GPL-2.0
"""A target without a process: a pattern's closed form under a clock."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

from damon_tests.patterns.mapped import MAPPING_ACTIONS, Ranges, after, changes_mappings, initial
from damon_tests.patterns.spec import SHARED, Memory, Pattern, PatternRegion
from damon_tests.ports import Clock, HarnessError, NotSupported, Truth, page_size
from damon_tests.ports.ranges import joined, without
from damon_tests.workload.layout import plan_layout, process_vmas
from damon_tests.workload.moved_truth import MovedTruth
from damon_tests.workload.pattern_truth import FOREVER_NS, PatternTruth
from damon_tests.workload.target import PhaseTime

PhysicalRanges = Callable[[int, int], Sequence[tuple[int, int]]]


class SimulatedTarget:
    """``RunningTarget`` for the reference. Runs exactly by plan, in the clock's time.

    ``layout`` None: as the engine chooses it. ``physical_ranges(start, end)`` returns where the
    simulated machine keeps these bytes of the process (for paddr). ``alive`` is False after ``stop``:
    then the address space is gone, and ``vmas()`` is empty.

    Fork, exec and dropped memory leave no trace in a simulated address space, whose pages do not come
    and go. mlock and hints have no effect. Other processes have their private memory from the start, not from
    their first touch of it.
    """

    def __init__(
        self,
        pattern: Pattern,
        seed: int,
        pid: int,
        layout: Mapping[str, tuple[int, int]] | None,
        clock: Clock,
        *,
        physical_ranges: PhysicalRanges | None = None,
    ) -> None:
        self.pid = pid
        self.pattern = pattern
        self.seed = seed
        self.layout: Mapping[str, tuple[int, int]] = plan_layout(pattern) if layout is None else dict(layout)
        self.memcg = f"/{pattern.memcg}" if pattern.memcg else ""
        self.alive = True
        self._clock = clock
        self._physical_ranges = physical_ranges
        self._truth = PatternTruth(pattern, self.layout, seed, go_ns=None)
        self._everybody = self._truth
        if len(pattern.workers) > 1:
            self._everybody = PatternTruth(pattern, self.layout, seed, go_ns=None, process=None)
        others = sorted({process for process, _ in pattern.workers} - {0})
        self._others = {n: PatternTruth(pattern, self.layout, seed, None, process=n) for n in others}

    def _shared(self) -> list[tuple[int, int]]:
        """Return the bytes [start, end) that all processes of the pattern share."""
        return [self.layout[region.name] for region in self.pattern.regions if region.memory in SHARED]

    def others(self) -> tuple[tuple[tuple[int, int], Truth], ...]:
        """Return the ranges that have other mappings, each with the accesses through those.

        Other mappings are those of other processes, and second ones of the target itself.
        """
        shared = [(span, truth) for span in self._shared() for truth in self._others.values()]
        return (*shared, *self._mapped_twice())

    def _mapped_twice(self) -> Iterator[tuple[tuple[int, int], Truth]]:
        """Yield each range that has a second mapping, with the accesses through that one."""
        for region in self.pattern.regions:
            if region.same_as:
                start, end = self.layout[region.name]
                first = self.layout[region.same_as][0]
                truths = (self._truth, *self._others.values())
                for truth in truths:
                    yield (start, end), MovedTruth(truth, first - start)
                    yield (first, first + end - start), MovedTruth(truth, start - first)

    def other_processes(self) -> tuple[tuple[Ranges, PatternTruth], ...]:
        """Return, for each other process, the bytes [start, end) of private memory that it will touch,
        ascending and page aligned, and its accesses (which include memory that is not private)."""
        processes = [(self._own(process), truth) for process, truth in self._others.items()]
        return tuple((spans, truth) for spans, truth in processes if spans)

    def _own(self, process: int) -> Ranges:
        shared = {region.name for region in self.pattern.regions if region.memory in SHARED}
        reached = {
            (self.layout[access.region][0] + start, self.layout[access.region][0] + end)
            for phase in self.pattern.phases
            for access in phase.accesses
            if access.process == process and access.region not in shared
            for start, end in access.reach()
        }
        pages = [
            (start // page_size() * page_size(), -(-end // page_size()) * page_size())
            for start, end in reached
        ]
        return tuple(joined(pages))

    def go(self) -> None:
        """Start the first phase now. Raises HarnessError the second time, and after ``stop``."""
        if not self.alive or self._started:
            raise HarnessError(f"pattern {self.pattern.name}: go was called twice, or after stop")
        self._truth.begin(self._clock.now_ns())
        for truth in (self._everybody, *self._others.values()):
            truth.begin(self._truth.span_ns()[0])

    @property
    def _started(self) -> bool:
        return self._truth.span_ns()[0] != FOREVER_NS

    def _until_ns(self) -> int:
        return min(self._clock.now_ns(), self._truth.span_ns()[1])

    def phases(self) -> Sequence[PhaseTime]:
        if not self._started:
            return ()
        go, end = self._truth.span_ns()[0], self._until_ns()
        times: list[PhaseTime] = []
        for number in range(self._last_number(end) + 1):
            phase = self.pattern.phases[number % len(self.pattern.phases)]
            start = go + self.pattern.phase_start_ns(number)
            stop: int | None = start + phase.duration_ns
            if start + phase.duration_ns > end:
                stop = None if self.alive else end
            times.append(PhaseTime(phase.name, start, stop))
        return tuple(times)

    def _last_number(self, time_ns: int) -> int:
        number = self._truth.number_at(time_ns)
        return number if self.pattern.repeat else min(number, len(self.pattern.phases) - 1)

    def accesses(self) -> Mapping[tuple[int, str], int]:
        counts = {(i, a.region): 0 for i, phase in enumerate(self.pattern.phases) for a in phase.accesses}
        if not self._started:
            return counts
        go, end = self._truth.span_ns()[0], self._until_ns()
        for number in range(self._last_number(end) + 1):
            index = number % len(self.pattern.phases)
            for term, access in enumerate(self.pattern.phases[index].accesses):
                passes = self._everybody.passes(number, term, go, end)
                counts[index, access.region] += passes * access.touches_per_pass
        return counts

    def truth(self) -> PatternTruth:
        """Return the accesses of the target itself (process 0), always the same object; before ``go``, no
        page is touched."""
        return self._truth

    def truth_of(self, process: int | None) -> PatternTruth:
        """Return the accesses of one process so far, None: of all."""
        go, end = self._truth.span_ns()
        started = go if self._started else None
        return PatternTruth(self.pattern, self.layout, self.seed, started, end, process)

    def disturbances(self, slack_ns: int) -> Sequence[tuple[int, int]]:
        """Return no stretches: it runs by plan."""
        return ()

    def vmas(self) -> Sequence[tuple[int, int]]:
        """Return all current mappings as bytes [start, end), ascending; empty once the target is gone."""
        return process_vmas(self.pattern, self.layout, self._mapped) if self.alive else ()

    def _mapped(self, region: PatternRegion) -> Ranges:
        """Return the currently mapped ranges of a region."""
        mapped = initial(region)
        if not self._started:
            return mapped
        go, now = self._truth.span_ns()[0], self._until_ns()
        last = self._last_number(now)
        # With repeat, mappings are in their initial state when the phases start again.
        first = last // len(self.pattern.phases) * len(self.pattern.phases)
        for number in range(first, last + 1):
            start = go + self.pattern.phase_start_ns(number)
            for action in self.pattern.phases[number % len(self.pattern.phases)].actions:
                if start + action.at_ns <= now:
                    mapped = after(mapped, action, region)
        return mapped

    def mapping_times(self) -> Iterator[int]:
        """Yield the times at which ``vmas()`` changes, ascending; endless if the phases repeat."""
        phases = self.pattern.phases
        number = 0
        if not any(changes_mappings(phase) for phase in phases):
            return
        while self.pattern.repeat or number < len(phases):
            start = self._truth.span_ns()[0] + self.pattern.phase_start_ns(number)
            for action in phases[number % len(phases)].actions:
                if action.do in MAPPING_ACTIONS:
                    yield start + action.at_ns
            number += 1

    @property
    def huge(self) -> tuple[tuple[int, int], ...]:
        """Return the bytes [start, end) with advice to use huge pages."""
        return tuple(self.layout[r.name] for r in self.pattern.regions if r.hugepage)

    def backed_by(self, memory: Memory) -> tuple[tuple[int, int], ...]:
        """Return the populated bytes [start, end) of regions of this kind."""
        return tuple(self.layout[r.name] for r in self.pattern.regions if r.memory == memory and r.populate)

    @property
    def dirty(self) -> Ranges:
        """Return the bytes [start, end) of files that stay dirty: those that a pattern with msync does not
        write back, or writes to later. Files of other patterns count as written back by the kernel."""
        ranges: list[tuple[int, int]] = []
        for region in self.pattern.regions:
            accesses = [a for p in self.pattern.phases for a in p.accesses if a.region == region.name]
            actions = [a for p in self.pattern.phases for a in p.actions if a.region == region.name]
            cleaned = [(a.start_bytes, a.end_bytes) for a in actions if a.do == "msync"]
            if not cleaned:
                continue
            written = [(0, region.size_bytes)] if region.populate else []
            left = without(written, joined(cleaned))
            left += [span for a in accesses if a.kind != "read" for span in a.reach()]
            base = self.layout[region.name][0]
            ranges += [(base + start, base + end) for start, end in left]
        return tuple(joined(ranges))

    @property
    def nodes(self) -> tuple[tuple[tuple[int, int], int], ...]:
        """Return the bytes [start, end) that are bound to a NUMA node, each with its node."""
        return tuple((self.layout[r.name], r.node) for r in self.pattern.regions if r.node is not None)

    def physical(self) -> Mapping[str, Sequence[tuple[int, int]]]:
        if self._physical_ranges is None:
            raise NotSupported("this simulated target has no physical memory")
        return {name: self._physical_ranges(start, end) for name, (start, end) in self.layout.items()}

    def stop(self) -> None:
        """End the process; may be called at any time, twice."""
        if not self.alive:
            return
        self.alive = False
        if self._started:
            self._truth.end(self._clock.now_ns())
            for truth in (self._everybody, *self._others.values()):
                truth.end(self._truth.span_ns()[1])
