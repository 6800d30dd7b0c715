# SPDX-License-Identifier: GPL-2.0
"""Cut a recording at online commits, so that each part is judged by the request that was in force."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from damon_tests.damon.params import DamonCtx
from damon_tests.damon.records import Recording, Snapshot
from damon_tests.experiment.observation import Commit
from damon_tests.ports import NSEC_PER_USEC


@dataclass(frozen=True, eq=False)
class Part:
    """A stretch of a recording in which one request was in force.

    ``recording`` has that request's intervals and only aggregations that began and ended under it.
    ``from_start``: the part begins where the kdamond was turned on.
    """

    recording: Recording
    ctx: DamonCtx
    from_start: bool


def parts_of(whole: Recording, commits: Sequence[Commit], kdamond_idx: int = 0) -> tuple[Part, ...]:
    """Return the parts of a recording, cut where the request changed.

    The aggregation in which a commit returned counted under both requests, and belongs to no part.
    """
    parts = []
    for i, commit in enumerate(commits):
        until = commits[i + 1].begin_ns if i + 1 < len(commits) else None
        snaps = [s for s in whole.snapshots if until is None or s.time_ns <= until]
        started = whole.started_ns
        if i:
            snaps = [s for s in snaps if s.time_ns > commit.end_ns]
            started = snaps[0].time_ns if snaps else commit.end_ns
            # DAMON traces all targets of an aggregation within far less than a sampling interval.
            ctx = commit.kdamonds[kdamond_idx].ctx
            together = started + max(1, ctx.attrs.sample_us) * NSEC_PER_USEC // 2
            snaps = [s for s in snaps if s.time_ns > together]
        parts.append(_part(whole, snaps, started, until, commit.kdamonds[kdamond_idx].ctx, first=i == 0))
    return tuple(parts)


def _part(
    whole: Recording,
    snaps: Sequence[Snapshot],
    started_ns: int,
    until_ns: int | None,
    ctx: DamonCtx,
    *,
    first: bool,
) -> Part:
    recording = replace(
        whole,
        snapshots=tuple(snaps),
        started_ns=started_ns,
        stopped_ns=whole.stopped_ns if until_ns is None else until_ns,
        sample_us=ctx.attrs.sample_us,
        aggr_us=ctx.attrs.aggr_us,
        operations=ctx.operations,
    )
    return Part(recording, ctx, first)
