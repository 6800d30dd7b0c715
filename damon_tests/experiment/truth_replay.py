# SPDX-License-Identifier: GPL-2.0
"""Run the reference over a saved truth: what a correct DAMON reports of a program, at any settings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from damon_tests.damon.params import DamonAttrs, DamonCtx, DamonTarget
from damon_tests.damon.records import Recording
from damon_tests.experiment.observation import Observation
from damon_tests.experiment.replica import replicas
from damon_tests.patterns.spec import Pattern
from damon_tests.workload.truth_file import SavedTruth

_PID = 1


def request(saved: SavedTruth, attrs: DamonAttrs) -> DamonCtx:
    """Return the request to watch the whole of it: its address space, or its physical memory."""
    if saved.space == "physical":
        return DamonCtx("fvaddr", attrs=attrs, targets=(DamonTarget(_PID, saved.mapped),))
    return DamonCtx("vaddr", attrs=attrs, targets=(DamonTarget(_PID),))


def replay(saved: SavedTruth, attrs: DamonAttrs, level: str, seeds: Sequence[int]) -> list[Observation]:
    """Return an observation for each seed: the reference watched the program from begin to end.

    Raises TreeError for attributes that DAMON refuses.
    """
    ctx = request(saved, attrs)
    start_ns, end_ns = saved.truth.span_ns()
    unseen = Observation(
        pattern=Pattern(saved.title, "a recorded truth", regions=(), phases=()),
        ctx=ctx,
        level=level,
        seed=saved.seed,
        attempt=1,
        truth=saved.truth,
        layout={f"{start:#x}": (start, end) for start, end in saved.mapped},
        vmas=saved.mapped,
        phases=(),
        recording=Recording(
            source="damon_aggregated",
            operations=ctx.operations,
            sample_us=attrs.sample_us,
            aggr_us=attrs.aggr_us,
            snapshots=(),
            started_ns=start_ns,
            stopped_ns=end_ns,
        ),
    )
    return [replace(unseen, recording=run) for run in replicas(unseen, seeds)]
