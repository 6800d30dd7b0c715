# SPDX-License-Identifier: GPL-2.0
"""A run whose first scheme watches all others, from which every pass is held against what was asked."""

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
    """Return ``live`` that records what ``passes_of`` reads, and those of ``more_events`` that this DAMON
    has."""
    wanted = (*watched_passes.EXTRA_EVENTS, *more_events)
    events = [name for name in wanted if live.backend().capabilities().has(name)]
    return live(pattern, ctx, cover=cover, source="events", extra_events=events)


def passes_of(run: Live, kdamond_idx: int = 0) -> tuple[WatchedPass, ...]:
    """Return the passes of a run that was made by ``watched``."""
    return watched_passes.passes(
        run.session.events([trace.AGGREGATED, *watched_passes.EXTRA_EVENTS], kdamond_idx)
    )


def read_stats(client: DamonClient, nr_schemes: int, kdamond_idx: int = 0) -> list[Reading]:
    """Update the statistics once, and return those of all schemes."""
    begin = client.clock.now_ns()
    client.command(kdamond_idx, "update_schemes_stats")
    end = client.clock.now_ns()
    stats = [client.stats(kdamond_idx, i, update=False) for i in range(nr_schemes)]
    return [Reading(begin, end, i, one) for i, one in enumerate(stats)]


def read_tried_regions(client: DamonClient, nr_schemes: int, kdamond_idx: int = 0) -> Answer:
    """Request the regions of one pass, and return those of every scheme. Raises what the command raises."""
    begin = client.clock.now_ns()
    client.command(kdamond_idx, "update_schemes_tried_regions")
    end = client.clock.now_ns()
    return Answer(
        begin, end, tuple(client.tried_regions(kdamond_idx, i, update=False) for i in range(nr_schemes))
    )


def checks(run: Live) -> list[Check]:
    """Return the checks of a request that did not change: what was tried, its effect on ages, its
    statistics."""
    seen = passes_of(run)
    return [
        *invariants(run),
        *watched_passes.tried_as_asked(seen, run.ctx),
        *ages_after_passes(seen, run.ctx, run.level),
        *stats_after_passes(seen, run.ctx),
    ]
