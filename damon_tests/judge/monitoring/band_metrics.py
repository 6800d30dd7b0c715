# SPDX-License-Identifier: GPL-2.0
"""The metrics that oracle bands judge, by name: each is one number of an attempt's judged windows."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from damon_tests.experiment.observation import Observation
from damon_tests.judge.monitoring import metrics
from damon_tests.judge.monitoring.aggregation_windows import Window, windows
from damon_tests.judge.monitoring.judged_windows import comparison, judged_windows
from damon_tests.judge.monitoring.report_vs_truth import Comparison
from damon_tests.judge.monitoring.true_ages import age_error
from damon_tests.judge.oracle import BandMetric
from damon_tests.judge.verdict import Measurement

HOT = 0.5
"""Memory is hot when it is accessed in at least half of the sampling intervals."""


@dataclass(frozen=True)
class NamedMetric:
    """A metric. ``of`` computes it from the judged windows; ``of_seen``, from the whole attempt."""

    band: BandMetric
    of: Callable[[Comparison], Measurement] | None = None
    of_seen: Callable[[Observation, Sequence[Window]], Measurement] | None = None


def _age_error(observation: Observation, judged: Sequence[Window]) -> Measurement:
    return age_error(observation.recording, observation.truth, chosen=judged, stalls=observation.disturbances)


def _latency(observation: Observation, judged: Sequence[Window]) -> Measurement:
    """Return the detection latency from the beginning of the second phase, over all windows from then on."""
    change_ns = observation.phases[1].start_ns
    every = windows(observation.recording)
    compared = comparison(observation, 0, chosen=[w for w in every if w.t1_ns >= change_ns])
    return metrics.detection_latency(compared, change_ns, HOT)


METRICS: Mapping[str, NamedMetric] = {
    "precision": NamedMetric(
        BandMetric("precision of hot bytes", "fraction", "low"), lambda c: metrics.precision(c, HOT)
    ),
    "recall": NamedMetric(
        BandMetric("recall of hot bytes", "fraction", "low"), lambda c: metrics.recall(c, HOT)
    ),
    "working set": NamedMetric(
        BandMetric("working set error", "fraction", "both"), metrics.working_set_error
    ),
    "rate bias": NamedMetric(BandMetric("access rate bias", "fraction", "both"), metrics.rate_bias),
    # Where something else than DAMON may hide accesses, such as frames that are not known.
    "rate excess": NamedMetric(BandMetric("access rate bias", "fraction", "high"), metrics.rate_bias),
    "rate error": NamedMetric(
        BandMetric("access rate error of accessed memory", "fraction", "high"), metrics.rate_error_of_accessed
    ),
    "boundary": NamedMetric(
        BandMetric("hot set boundary error", "bytes", "high"), lambda c: metrics.boundary_error(c, HOT)
    ),
    "regions": NamedMetric(BandMetric("region count", "regions", "both"), metrics.region_count),
    "age error": NamedMetric(BandMetric("age error", "aggregations", "high"), of_seen=_age_error),
    "latency": NamedMetric(BandMetric("detection latency", "ms", "high"), of_seen=_latency),
}


def values(
    observation: Observation, chosen: Sequence[NamedMetric], after_s: float, until_s: float | None
) -> dict[str, float]:
    """Return the value of each chosen metric over the judged windows of an attempt."""
    judged = judged_windows(observation, after_s, until_s)
    compared = comparison(observation, after_s, chosen=judged) if any(c.of for c in chosen) else None
    by_name = {}
    for c in chosen:
        if c.of is not None and compared is not None:
            by_name[c.band.name] = c.of(compared).value
        elif c.of_seen is not None:
            by_name[c.band.name] = c.of_seen(observation, judged).value
    return by_name
