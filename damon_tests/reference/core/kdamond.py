# SPDX-License-Identifier: GPL-2.0
"""The kdamond: DAMON's main loop, in the kernel's order (specification §2.2)."""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

from damon_tests.reference.core.context import Context
from damon_tests.reference.core.damos import DamosPass, watermark_wait_us
from damon_tests.reference.core.intervals import tune
from damon_tests.reference.core.merge import merge_regions, scores
from damon_tests.reference.core.ops import Operations
from damon_tests.reference.core.schemes import Walk
from damon_tests.reference.core.split import SplitHistory, split_regions
from damon_tests.reference.core.tracepoints import ReferenceEvents, ThreadEvents
from damon_tests.reference.machine.clock import VirtualClock
from damon_tests.reference.rules.errors import CoreError
from damon_tests.reference.rules.monitoring import is_due

OnDone = Callable[[Exception | int], None]


class Host(Protocol):
    """What kdamonds share: the system they run on."""

    clock: VirtualClock
    events: ReferenceEvents
    split_history: SplitHistory

    def operations_of(self, name: str) -> Operations: ...

    def kdamond_exits(self, kdamond: Kdamond) -> None: ...


@dataclass(frozen=True)
class Request:
    """A function that the thread is asked to run. ``at_aggregation``: not before one ends. ``fatal``: the
    thread ends when the request is refused, and its requester gets no error."""

    function: Callable[[], int]
    on_done: OnDone
    at_aggregation: bool = False
    fatal: bool = False


class Kdamond:
    """One monitoring thread. It serves requests from outside after samples."""

    def __init__(self, host: Host, ctx: Context, pid: int) -> None:
        self.host = host
        self.ctx = ctx
        self.pid = pid
        self.events = ThreadEvents(host.events, pid)
        self.running = False
        self.exclusive = False
        self.walk: Walk | None = None
        # Hooks: after every sample, and only after those that end an aggregation.
        self.repeating: list[Callable[[], None]] = []
        self.at_aggregations: list[Callable[[], None]] = []
        self._requests: list[Request] = []
        self._stop_waiters: list[Callable[[], None]] = []
        self._stopping = False
        self._thread = self._run()
        self._sleep_us = 0

    # Called by others

    def start(self) -> None:
        self.running = True
        self.host.clock.start(self._thread)

    def stop(self, on_stopped: Callable[[], None]) -> None:
        """Ask the thread to end; it finishes the iteration it is in. A sleep by ticks ends at once."""
        self._stopping = True
        self._stop_waiters.append(on_stopped)
        if self.ctx.rules.sleeps_by_ticks(self._sleep_us):
            self.host.clock.wake(self._thread)

    def call(self, request: Request) -> None:
        """Have the thread run a function; its errno, or what it raised, goes to ``on_done``."""
        if not self.running:
            request.on_done(errno.ECANCELED)
            return
        self._requests.append(request)

    def start_walk(self, walk: Walk) -> None:
        """Collect the regions of the next pass of every scheme. One walk at a time."""
        if not self.running:
            walk.on_done(errno.ECANCELED)
        elif self.walk is not None:
            walk.on_done(errno.EBUSY)
        else:
            self.walk = walk

    # The thread

    def _run(self) -> Iterator[int]:
        try:
            yield from self._main_loop()
        finally:
            self._exit()

    @property
    def _ops(self) -> Operations:
        return self.host.operations_of(self.ctx.operations)

    def _main_loop(self) -> Iterator[int]:
        """Run the steps of specification §2.2, which the numbers cite.

        Requests (2, 8, 9) may change everything; the schedule, sampling interval and mode that an iteration
        begins with stay its own (1).
        """
        ctx, clock = self.ctx, self.host.clock
        rules = ctx.rules
        ctx.start_counting()
        self._ops.init(ctx)
        ctx.enforce_min_regions()
        while not self._must_stop():  # 0
            next_aggr, next_update, sample_us = ctx.next_aggr, ctx.next_update, ctx.attrs.sample_us  # 1
            by_probes = any(ctx.weights)
            if ctx.has_watermarks:  # 2
                yield from self._wait_activation()
                if self._must_stop():
                    break
            ops = self._ops
            yield from self._work(sample_us)
            if not by_probes:  # 3
                ops.prepare(ctx, clock.now_ns())
            yield self._after(sample_us)  # 4
            ctx.passed += 1
            aggregates = rules.aggregation_is_due(ctx.passed, next_aggr)
            if not by_probes:  # 5
                ops.check(ctx, clock.now_ns())
            ops.apply_probes(ctx, by_probes, clock.now_ns())  # 6
            if aggregates:  # 7
                yield from self._work(sample_us)
                ops.complete(ctx)
                self._merge()
            self._serve_requests(aggregates)  # 8
            if ctx.corrupted:
                break
            if rules.is_paused(ctx.pause):  # 9
                yield from self._pause()
                if self._must_stop():
                    break
            self._apply_schemes()  # 10
            if aggregates:  # 11
                self._end_aggregation(next_aggr)
            if rules.update_is_due(ctx.passed, next_update):  # 12
                self._update(next_update)

    def _must_stop(self) -> bool:
        return self._stopping or self.ctx.corrupted or not self._ops.any_valid(self.ctx)

    def _wait_activation(self) -> Iterator[int]:
        """Sleep while the watermarks keep all schemes inactive; serve requests meanwhile."""
        shortest = None
        while self.ctx.has_watermarks:
            memory, now_ns = self._ops.memory, self.host.clock.now_ns()
            wait_us = watermark_wait_us(self.ctx.schemes, memory.free_rate_permil(now_ns))
            shortest = wait_us if shortest is None else min(wait_us, shortest)
            if not shortest:
                return
            self.ctx.regions.age = self.ctx.rules.ages_after_sleep(self.ctx.regions.age)
            yield self._after(shortest)
            self._serve_requests(self.ctx.rules.inactive_serves_commits)
            self._cancel_walk()
            if self._must_stop():
                return

    def _pause(self) -> Iterator[int]:
        """Wait while paused; serve requests meanwhile, one of which may end the pause."""
        while self.ctx.rules.is_paused(self.ctx.pause):
            self._cancel_walk()
            yield self._after(self.ctx.attrs.sample_us)
            self._serve_requests()
            if self._must_stop():
                return

    def _after(self, sample_us: int) -> int:
        self._sleep_us = self.ctx.rules.sleep_us(sample_us)
        return self.host.clock.wake_ns(self._sleep_us)

    def _work(self, sample_us: int) -> Iterator[int]:
        """Let the time pass in which the kdamond works and watches no region."""
        until_ns = self.host.clock.busy_until_ns(sample_us)
        if until_ns > self.host.clock.now_ns():
            yield until_ns

    def _merge(self) -> None:
        ctx, rules = self.ctx, self.ctx.rules
        score = scores(ctx.regions, ctx.weights)
        max_score = int(score.max()) if len(score) else 0
        ctx.regions = merge_regions(
            ctx.regions,
            rules,
            rules.merge_threshold(max_score),
            ctx.merge_limit,
            ctx.window,
            ctx.attrs.max_nr_regions,
            ctx.weights,
        )
        if rules.strict_min_regions:
            ctx.enforce_min_regions()

    def _serve_requests(self, window_ends: bool = True) -> None:
        requests, self._requests = self._requests, []
        for request in requests:
            if request.at_aggregation and not window_ends:
                self._requests.append(request)
                continue
            try:
                outcome: Exception | int = request.function()
            except Exception as error:  # goes to the requester, as a failed write does
                outcome = error
            if request.fatal and isinstance(outcome, CoreError):
                self.ctx.corrupted, outcome = True, 0
            request.on_done(outcome)
        for function in (*self.repeating, *(self.at_aggregations if window_ends else ())):
            function()

    def _apply_schemes(self) -> None:
        ctx = self.ctx
        if not ctx.schemes:
            self._cancel_walk()
            return
        DamosPass(ctx, self._ops, self.host.clock, self.events, self.walk).run()
        if self.walk is not None and len(self.walk.complete) >= len(ctx.schemes):
            walk, self.walk = self.walk, None
            walk.on_done(0)

    def _cancel_walk(self) -> None:
        walk, self.walk = self.walk, None
        if walk is not None:
            walk.on_done(self.ctx.rules.cancelled_walk)

    def _end_aggregation(self, next_aggr: int) -> None:
        ctx, rules, events = self.ctx, self.ctx.rules, self.events
        goal = ctx.attrs.intervals_goal
        if goal.aggrs and is_due(ctx.passed, ctx.next_tune):
            ctx.next_aggr = next_aggr
            ctx.next_tune += ctx.aggr_samples * goal.aggrs
            sample_us = tune(ctx)
            if sample_us is not None and events.enabled("damon_monitor_intervals_tune"):
                events.emit("damon_monitor_intervals_tune", [f"sample_us={sample_us}"])
        ctx.next_aggr = next_aggr + ctx.window
        self._trace_regions()
        rules.reset_aggregated(ctx.regions)
        ctx.regions = split_regions(
            ctx.regions,
            rules,
            ctx.attrs.max_nr_regions,
            ctx.min_region_sz,
            self.host.split_history,
            ctx.rng,
        )

    def _update(self, next_update: int) -> None:
        ctx = self.ctx
        ctx.next_update = next_update + ctx.samples(ctx.attrs.update_us)
        self._ops.update(ctx)
        if not ctx.rules.strict_min_regions:
            ctx.compute_merge_limit()

    def _trace_regions(self) -> None:
        events, ctx = self.events, self.ctx
        plain = events.enabled("damon_aggregated")
        nr_probes = len(ctx.probes)
        with_hits = nr_probes > 0 and events.enabled("damon_region_aggregated")
        if not (plain or with_hits):
            return
        texts = aggregated_texts(ctx)
        if not with_hits:
            events.emit("damon_aggregated", texts)
            return
        for text, row in zip(texts, ctx.regions.probe_hits[:, :nr_probes].tolist(), strict=True):
            if plain:
                events.emit("damon_aggregated", [text])
            hits = " ".join(f"{count:02x}" for count in row)
            events.emit("damon_region_aggregated", [f"{text} probe_hits={hits}"])

    def _exit(self) -> None:
        """Drop the regions and cancel all requests that wait."""
        self.running = False
        self.ctx.targets = []
        self.ctx.regions = self.ctx.regions.take(slice(0, 0))
        requests, self._requests = self._requests, []
        for request in requests:
            request.on_done(errno.ECANCELED)
        self._cancel_walk()
        self.host.kdamond_exits(self)
        for on_stopped in self._stop_waiters:
            on_stopped()


def aggregated_texts(ctx: Context) -> list[str]:
    """Return the printed fields of damon_aggregated, one text a region; nr_regions is the target's."""
    regions = ctx.regions
    bounds = regions.bounds(len(ctx.targets))
    heads = [f"target_id={t} nr_regions={bounds[t + 1] - bounds[t]} " for t in range(len(ctx.targets))]
    rows = zip(
        regions.target.tolist(),
        regions.start.tolist(),
        regions.end.tolist(),
        regions.nr_accesses.tolist(),
        regions.age.tolist(),
        strict=True,
    )
    return [f"{heads[target]}{start}-{end}: {nr} {age}" for target, start, end, nr, age in rows]
