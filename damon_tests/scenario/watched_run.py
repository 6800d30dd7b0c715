# SPDX-License-Identifier: GPL-2.0
"""Runs whose first scheme, the watcher, traces every region, so that each pass can be judged exactly."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any

from damon_tests.damon import trace
from damon_tests.damon.client import DamonClient
from damon_tests.damon.params import DamonCtx
from damon_tests.experiment.live import Live
from damon_tests.experiment.targets import Cover
from damon_tests.judge.schemes import watched_passes
from damon_tests.judge.schemes.age_resets import ages_after_passes
from damon_tests.judge.schemes.stats import Reading, stats_after_passes
from damon_tests.judge.schemes.tried_regions import Answer
from damon_tests.judge.schemes.watched_passes import WatchedPass
from damon_tests.judge.verdict import Check
from damon_tests.scenario.fixtures import LiveFixture
from damon_tests.scenario.invariants import invariants


def watched(
    live: LiveFixture, pattern: Any, ctx: DamonCtx, *more_events: str, cover: Cover = "regions"
) -> AbstractContextManager[Live]:
    """Open a live run that traces what ``passes_of`` reads.

    It also traces those of ``more_events`` that the DAMON under test has. Arguments as of ``LiveFixture``.
    """
    wanted = (*watched_passes.EXTRA_EVENTS, *more_events)
    events = [name for name in wanted if live.backend().capabilities().has(name)]
    return live(pattern, ctx, cover=cover, source="events", extra_events=events)


def passes_of(run: Live, kdamond_idx: int = 0) -> tuple[WatchedPass, ...]:
    """Return the passes of the schemes in a run opened with ``watched``, in order."""
    return watched_passes.passes(
        run.session.events([trace.AGGREGATED, *watched_passes.EXTRA_EVENTS], kdamond_idx)
    )


def read_stats(client: DamonClient, nr_schemes: int, kdamond_idx: int = 0) -> list[Reading]:
    """Update the statistics with one command, and return one Reading for each scheme.

    Raises what the command raises.
    """
    begin = client.clock.now_ns()
    client.command(kdamond_idx, "update_schemes_stats")
    end = client.clock.now_ns()
    stats = [client.stats(kdamond_idx, i, update=False) for i in range(nr_schemes)]
    return [Reading(begin, end, i, scheme_stats) for i, scheme_stats in enumerate(stats)]


def read_tried_regions(client: DamonClient, nr_schemes: int, kdamond_idx: int = 0) -> Answer:
    """Update the tried regions with one command, and return those of every scheme.

    Raises what the command raises.
    """
    begin = client.clock.now_ns()
    client.command(kdamond_idx, "update_schemes_tried_regions")
    end = client.clock.now_ns()
    return Answer(
        begin, end, tuple(client.tried_regions(kdamond_idx, i, update=False) for i in range(nr_schemes))
    )


def checks(run: Live) -> list[Check]:
    """Check a run whose request did not change.

    The checks: monitoring's invariants, what the schemes tried (I51), the ages after it, the statistics.
    """
    passes = passes_of(run)
    return [
        *invariants(run),
        *watched_passes.tried_as_asked(passes, run.ctx),
        *ages_after_passes(passes, run.ctx, run.level),
        *stats_after_passes(passes, run.ctx, run.level),
    ]
