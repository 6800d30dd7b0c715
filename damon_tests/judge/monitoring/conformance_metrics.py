# SPDX-License-Identifier: GPL-2.0
"""The metrics that conformance compares: regions, access rates, ages and scheme statistics of an attempt."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from damon_tests.damon.records import DamosStats
from damon_tests.experiment.observation import Observation
from damon_tests.judge.monitoring import metrics
from damon_tests.judge.monitoring.aggregation_windows import Window
from damon_tests.judge.monitoring.judged_windows import comparison
from damon_tests.judge.monitoring.report_vs_truth import Comparison, byte_ranges, look_up
from damon_tests.ports.arrays import F64

HOT = 0.5
"""Memory is hot when it is accessed in at least half of the sampling intervals."""


@dataclass(frozen=True, eq=False)
class Attempt:
    """An observation, and the ``stats`` of every scheme, read together after ``passes`` aggregations."""

    seen: Observation
    stats: tuple[DamosStats, ...] = ()
    passes: int = 0


def values(attempt: Attempt, judged: Sequence[Window]) -> dict[str, float]:
    """Return the metrics of an attempt by name: of its judged windows, and of its schemes per pass."""
    compared = comparison(attempt.seen, 0, chosen=judged)
    by_name = dict(_of_regions(compared))
    by_name.update(_of_memory(compared, "hot", compared.true >= HOT - 1e-9))
    by_name.update(_of_memory(compared, "idle", compared.true == 0))
    if (compared.true >= HOT - 1e-9).any():
        by_name["hot set boundary error"] = metrics.boundary_error(compared, HOT).value
    for number, stats in enumerate(attempt.stats):
        by_name.update(_of_scheme(number, stats, attempt.passes))
    return by_name


def _of_regions(c: Comparison) -> Iterator[tuple[str, float]]:
    for q in (10, 50, 90):
        yield f"region count p{q}", float(np.percentile(c.nr_regions, q))
    sizes = np.concatenate([w.snapshot.sizes.astype(np.float64) for w in c.windows])
    for q in (50, 90):
        yield f"region size p{q}", float(np.percentile(sizes, q))


def _of_memory(c: Comparison, which: str, chosen: np.typing.NDArray[np.bool_]) -> Iterator[tuple[str, float]]:
    """Yield the reported access rates and ages of the ``chosen`` memory, weighted by bytes."""
    weight = np.where(chosen & c.covered, c.size, 0).astype(np.float64)
    if not weight.sum():
        return
    yield f"access rate of {which} memory", float(np.average(c.seen, weights=weight))
    mass = c.per_window(weight)
    rates = c.per_window(weight * c.seen)[mass > 0] / mass[mass > 0]
    yield (
        f"access rate of {which} memory, worst tenth",
        float(np.percentile(rates, 10 if which == "hot" else 90)),
    )
    ages = _ages(c)
    yield f"age of {which} memory", float(np.average(ages, weights=weight))
    yield f"age of {which} memory, squared", float(np.average(ages**2, weights=weight))


def _ages(c: Comparison) -> F64:
    """Return the age of the region that covers each piece."""
    ages = np.zeros(len(c.start))
    for i, window in enumerate(c.windows):
        mine = c.window == i
        ranges = byte_ranges(window.snapshot, 1)
        ages[mine] = look_up(c.start[mine], *ranges, window.snapshot.age.astype(np.float64))[1]
    return ages


def _of_scheme(number: int, stats: DamosStats, passes: int) -> Iterator[tuple[str, float]]:
    """Yield each counter of a scheme per pass, by its file's name; ``nr_snapshots`` only where it exists."""
    for name in ("nr_tried", "sz_tried", "nr_applied", "sz_applied", "qt_exceeds", "nr_snapshots"):
        value = getattr(stats, name)
        if value is not None:
            yield f"scheme {number} {name} per pass", value / passes
