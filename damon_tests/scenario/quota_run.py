# SPDX-License-Identifier: GPL-2.0
"""Runs of a scheme with a quota, whose every pass is judged by what the quota allows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from damon_tests.damon import trace
from damon_tests.damon.params import DamonCtx
from damon_tests.damon.series import Series
from damon_tests.experiment.live import Live
from damon_tests.experiment.targets import Cover
from damon_tests.judge.schemes import quota_passes, quotas
from damon_tests.judge.schemes.quota_passes import Pass
from damon_tests.judge.schemes.quotas import ReadStats
from damon_tests.judge.verdict import Check
from damon_tests.ports import NSEC_PER_SEC, DamonHangs
from damon_tests.ports.ranges import Range
from damon_tests.scenario.exact_clock import has_exact_clock
from damon_tests.scenario.fixtures import LiveFixture


@dataclass(frozen=True)
class QuotaRun:
    """A run that has ended.

    ``ctx``: its first request. ``read``: the scheme's counters just before the end. ``ticks_ns``: the largest
    error of a charge window's observed begin.
    """

    run: Live
    ctx: DamonCtx
    passes: list[Pass]
    read: ReadStats
    ticks_ns: int

    @property
    def level(self) -> Series:
        return Series.of(self.run.level)

    @property
    def memory(self) -> tuple[Range, ...]:
        """Return the monitored memory of the first target: the ranges of its pattern's regions, in bytes."""
        return tuple(sorted(self.run.target.layout.values()))

    @property
    def tried(self) -> list[int]:
        """Return the bytes tried in each pass."""
        return [sum(e.end - e.start for e in p.applied) for p in self.passes]

    @property
    def traces_sizes(self) -> bool:
        """Return whether the run traced changes of the effective quota, damos_esz (6.17)."""
        return any(p.esz for p in self.passes)

    def checks(self, *, windows: int = 0, **replay: Any) -> list[Check]:
        """Check the whole run with ``quotas.follow``.

        ``windows``: the fewest charge windows to judge. ``replay``: fields of ``QuotaReplay``.
        """
        later = [(c.begin_ns, c.end_ns, c.kdamonds[0].ctx.schemes[0]) for c in self.run.commits[1:]]
        followed = quotas.QuotaReplay(
            self.ctx.schemes[0], self.ctx, self.level, later=later, ticks_ns=self.ticks_ns, **replay
        )
        return quotas.follow(followed, self.passes, self.read, windows=windows)


def quota_events(live: LiveFixture) -> list[str]:
    """Return the tracepoints that ``passes_of`` reads besides damon_aggregated, of those this DAMON has."""
    return [name for name in quota_passes.EXTRA_EVENTS if live.backend().capabilities().has(name)]


def passes_of(run: Live, scheme_idx: int = 0, kdamond_idx: int = 0) -> list[Pass]:
    """Return the complete passes of one scheme, in order. Empty if events were lost."""
    events = run.session.events([trace.AGGREGATED, *quota_passes.EXTRA_EVENTS], kdamond_idx)
    return quota_passes.of_events(events, scheme_idx)


def let_pass(run: Live, count: int) -> None:
    """Wait for ``count`` more aggregations, however long a busy machine takes.

    Raises DamonHangs after three minutes.
    """
    wanted = _aggregations(run) + count
    if not run.session.record(180 * NSEC_PER_SEC, until=lambda: _aggregations(run) >= wanted):
        raise DamonHangs(f"{count} aggregations did not come within three minutes")


def read_sizes(run: Live, read: list[tuple[int, int, int]], count: int) -> None:
    """Read the first scheme's effective size after each of ``count`` aggregations: (begin_ns, end_ns, bytes).

    Kernels before 6.17 do not trace it.
    """
    for _ in range(count):
        let_pass(run, 1)
        begin = run.clock.now_ns()
        value = run.client.effective_bytes(0, 0)
        read.append((begin, run.clock.now_ns(), value))


def _aggregations(run: Live) -> int:
    return len(run.session.recording().of_target(0))


def quota_run(
    live: LiveFixture,
    ctx: DamonCtx,
    count: int,
    *,
    pattern: Any = "idle",
    cover: Cover = "regions",
    while_running: Callable[[Live], None] | None = None,
) -> QuotaRun:
    """Run ``ctx`` for ``count`` aggregations, call ``while_running``, and return the first scheme's passes.

    Raises DamonHangs when aggregations do not come.
    """
    extra = quota_events(live)
    with live(pattern, ctx, cover=cover, extra_events=extra) as run:
        if count:
            let_pass(run, count)
        if while_running is not None:
            while_running(run)
        read = read_stats(run)
    return of_run(live, run, read)


def read_stats(run: Live) -> ReadStats:
    """Read the counters of the first scheme, with when they were read."""
    begin = run.clock.now_ns()
    stats = run.client.stats(0, 0)
    return ReadStats(begin, run.clock.now_ns(), stats)


def of_run(live: LiveFixture, run: Live, read: ReadStats) -> QuotaRun:
    """Return the passes of the first scheme of a run that traced ``quota_events`` and has ended."""
    first = run.commits[0].kdamonds[0].ctx
    ticks_ns = quotas.EXACT_TICKS_NS if has_exact_clock(live.backend()) else quotas.LATE_TICKS_NS
    return QuotaRun(run, first, passes_of(run), read, ticks_ns)
