# SPDX-License-Identifier: GPL-2.0
"""A run whose first scheme watches all others, from which every pass is held against what was asked."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any

from damon_tests.damon.params import DamonCtx
from damon_tests.experiment.live import Live
from damon_tests.experiment.targets import Cover
from damon_tests.judge.monitoring.driven import invariants
from damon_tests.judge.schemes import watched_passes
from damon_tests.judge.schemes.age_resets import aftermath
from damon_tests.judge.schemes.stats import told_after_passes
from damon_tests.judge.verdict import Check
from damon_tests.scenario.fixtures import LiveFixture


def watched(
    live: LiveFixture, pattern: Any, ctx: DamonCtx, *more_events: str, cover: Cover = "regions"
) -> AbstractContextManager[Live]:
    """``live`` that also records what ``watched_passes.of_run`` reads, and ``more_events`` that exist."""
    events = watched_passes.wanted_events(live.backend().capabilities(), *more_events)
    return live(pattern, ctx, cover=cover, source="events", extra_events=events)


def checks(run: Live) -> list[Check]:
    """Of a request that did not change: what was tried, what that left behind, and what was told of it."""
    seen = watched_passes.of_run(run)
    return [
        *invariants(run),
        *watched_passes.tried_as_asked(seen, run.ctx),
        *aftermath(seen, run.ctx, run.level),
        *told_after_passes(seen, run.ctx),
    ]
