# SPDX-License-Identifier: GPL-2.0
"""Choose and make the chart that shows why a check of an observation does not hold."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

from damon_tests.damon.recording_file import TruthSpans
from damon_tests.experiment.observation import Observation
from damon_tests.judge.chart import Band, Chart, Mark, Panel, band, curve
from damon_tests.judge.monitoring.aggregation_windows import Window, windows
from damon_tests.judge.monitoring.report_vs_truth import byte_ranges, in_order, look_up
from damon_tests.judge.monitoring.true_ages import age_error, true_ages
from damon_tests.judge.monitoring.true_rates import spans_of
from damon_tests.judge.verdict import Check
from damon_tests.ports import NSEC_PER_SEC
from damon_tests.ports.arrays import F64, I64
from damon_tests.ports.ranges import Range

_AGE = re.compile(r"\bages?\b|\baged\b")
_PAUSE = re.compile(r"paus|resum")
_REGIONS = re.compile(r"region count|number of regions|nr_regions|regions? (at most|at least)")
_TUNING = re.compile(r"tuning|sample_us|sampling interval")
_RANGE = re.compile(r"reference's ([\d.,e+-]+) to ([\d.,e+-]+)")  # as judge.oracle writes a limit
_MOST_REGIONS = 4  # of a pattern, of which curves are drawn
_AGE_SLACK = 1.0  # aggregations: a rate may change anywhere in one


def chart_of(check: Check, observation: Observation) -> Chart | None:
    """Return the picture that shows this failure; None where the heat map does.

    Ages are drawn against the truth, a pause as a timeline, numbers of regions and tuned intervals between
    their limits.
    """
    text = f"{check.measurement.name} {check.reason}".lower()
    if observation.recording.source == "none" or not observation.recording.snapshots:
        return None
    if _PAUSE.search(text):
        return timeline(observation)
    if _AGE.search(text):
        return age_chart(observation, check.limit)
    if _TUNING.search(text) and observation.recording.intervals:
        return tuning_chart(observation)
    if check.measurement.name == "region count" or _REGIONS.search(text):
        return regions_chart(observation)
    return None


# --- ages --------------------------------------------------------------------------------------


def age_chart(observation: Observation, limit: str = "") -> Chart | None:
    """Return the reported age of each of the pattern's regions against the true one, and the mean error.

    ``limit``: of the check; the range of the reference in it is drawn as the error's band.
    """
    recording = observation.recording
    chosen = windows(recording)
    if not chosen or not observation.layout or recording.operations == "paddr":
        return None
    spans = spans_of(observation.truth, chosen, recording, observation.disturbances)
    seconds = _ends(observation, chosen)
    panels = [
        _age_panel(observation, chosen, spans, name, range_, seconds)
        for name, range_ in list(observation.layout.items())[:_MOST_REGIONS]
    ]
    error = curve("mean error", seconds, age_error(recording, spans=spans).samples, "dots")
    panels.append(Panel("error of age, aggregations", (error,), _reference(limit, seconds)))
    return Chart("age reported and true", tuple(panels), _marks(observation))


def _age_panel(
    observation: Observation,
    chosen: Sequence[Window],
    spans: TruthSpans,
    name: str,
    range_: Range,
    seconds: F64,
) -> Panel:
    truth = true_ages(spans)
    reported, true = [], []
    for window, (age, idle_age) in zip(chosen, truth.of_windows(), strict=True):
        snapshot = in_order(window.snapshot)
        start, end = byte_ranges(snapshot, observation.recording.addr_unit)
        reported.append(_mean(start, end, snapshot.age.astype(np.float64), range_))
        true.append(_mean(truth.grid[:-1], truth.grid[1:], age, range_, outside=idle_age))
    expected = np.array(true)
    low, high = np.maximum(expected - _AGE_SLACK, 0), expected + _AGE_SLACK
    return Panel(
        f"age of {name}, aggregations",
        (curve("reported", seconds, reported), curve("true", seconds, expected, "expected")),
        (band("true, ± 1 aggregation", seconds, low, high),),
    )


def _mean(start: I64, end: I64, value: F64, range_: Range, outside: float = float("nan")) -> float:
    """Return the mean over the bytes of a range of a value of ascending pieces; ``outside``: between them."""
    edges = np.unique(np.concatenate([np.clip(start, *range_), np.clip(end, *range_), np.array(range_)]))
    if len(edges) < 2:
        return outside
    inside, values = look_up(edges[:-1], start, end, value)
    values = np.where(inside, values, outside)
    weight = np.diff(edges) * np.isfinite(values)
    return float((np.nan_to_num(values) * weight).sum() / weight.sum()) if weight.sum() else float("nan")


def _reference(limit: str, seconds: F64) -> tuple[Band, ...]:
    """Return the band of "not above the reference's 0.08 to 0.1", if a limit says one."""
    bounds = _RANGE.search(limit)
    if bounds is None or not len(seconds):
        return ()
    low, high = (float(text.replace(",", "")) for text in bounds.groups())
    x = (float(seconds[0]), float(seconds[-1]))
    return (Band("mean of the reference", x, (low, low), (high, high)),)


# --- the others --------------------------------------------------------------------------------


def timeline(observation: Observation) -> Chart:
    """Return when DAMON aggregated, how old its oldest region was, and when it was paused."""
    recording = observation.recording if observation.committed is None else observation.committed.whole
    snapshots = recording.of_target(0)
    seconds = np.array([_since(recording.started_ns, s.time_ns) for s in snapshots])
    ages = [float(s.age.max(initial=0)) for s in snapshots]
    gaps = np.diff(np.array([0.0, *seconds])) if len(seconds) else seconds
    return Chart(
        "aggregations over time",
        (
            Panel("oldest age, aggregations", (curve("oldest age", seconds, ages, "dots"),)),
            Panel(
                "since the aggregation before, s",
                (
                    curve("time since the last", seconds, gaps, "dots"),
                    curve("aggregation interval", seconds, [recording.aggr_us / 1e6] * len(gaps), "expected"),
                ),
            ),
        ),
        _marks(observation),
    )


def regions_chart(observation: Observation) -> Chart:
    """Return the number of regions over time, all targets together, between the request's limits."""
    recording = observation.recording
    groups: dict[int, int] = {}
    last: dict[int, int] = {}
    for snapshot in recording.snapshots:
        last[snapshot.target_idx] = snapshot.nr_regions
        groups[snapshot.time_ns] = sum(last.values())
    seconds = [_since(recording.started_ns, time_ns) for time_ns in groups]
    attrs = observation.ctx.attrs
    low, high = attrs.min_nr_regions, attrs.max_nr_regions
    limits = band("requested", seconds, [float(low)] * len(seconds), [float(high)] * len(seconds))
    regions = curve("regions", seconds, list(map(float, groups.values())), "steps")
    return Chart("number of regions", (Panel("regions", (regions,), (limits,)),), _marks(observation))


def tuning_chart(observation: Observation) -> Chart:
    """Return the tuned sampling interval and the share of positive checks that it is tuned to."""
    recording, goal = observation.recording, observation.ctx.attrs.intervals_goal
    times = [_since(recording.started_ns, t) for t, _ in recording.intervals]
    values = [us / 1000 for _, us in recording.intervals]
    bounds = band(
        "the goal's bounds",
        times,
        [goal.min_sample_us / 1000] * len(times),
        [goal.max_sample_us / 1000] * len(times),
    )
    panels = [Panel("sampling interval, ms", (curve("tuned", times, values, "steps"),), (bounds,))]
    w = max(1, recording.samples_per_aggr)
    chosen = windows(recording)
    seconds = _ends(observation, chosen)
    shares = [
        float((s.sizes * s.nr_accesses.astype(np.float64)).sum() / max(1.0, float(s.sizes.sum()) * w))
        for s in (window.snapshot for window in chosen)
    ]
    wanted = curve("goal", seconds, [goal.access_bp / 10_000] * len(seconds), "expected")
    panels.append(Panel("share of checks with access", (curve("reported", seconds, shares, "dots"), wanted)))
    return Chart("interval tuning", tuple(panels), _marks(observation))


def _ends(observation: Observation, chosen: Sequence[Window]) -> F64:
    started = observation.recording.started_ns
    return np.array([_since(started, w.t1_ns) for w in chosen], np.float64)


def _since(started_ns: int, time_ns: int) -> float:
    return (time_ns - started_ns) / NSEC_PER_SEC


def _marks(observation: Observation) -> tuple[Mark, ...]:
    """Return when phases of the workload began, what was committed, and when DAMON was paused."""
    committed = observation.committed
    started = observation.recording.started_ns if committed is None else committed.whole.started_ns
    begun = [(p.name, p.start_ns) for p in observation.phases if p.start_ns >= started]
    if committed is not None:
        begun += [("commit", c.end_ns) for c in committed.commits[1:]]
    pauses = [Mark("paused", *(_since(started, t) for t in pause)) for pause in observation.paused]
    return (*(Mark(name, _since(started, at), _since(started, at)) for name, at in begun), *pauses)
