# SPDX-License-Identifier: GPL-2.0
"""Judge a recording on disk, such as one made by damo, without a machine or workload.

Invariants need the request. Unknown parts of it take the loosest value, and checks that cannot fail then are
not made. If the file has the truth, accuracy is measured but not judged, because there is no expectation.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from damon_tests.damon.params import U32_MAX, DamonAttrs, DamonCtx, DamonTarget
from damon_tests.damon.recording_file import Saved
from damon_tests.damon.records import Recording
from damon_tests.damon.series import Level
from damon_tests.judge.monitoring import metrics
from damon_tests.judge.monitoring.aggregation_windows import windows
from damon_tests.judge.monitoring.all_invariants import all_invariants
from damon_tests.judge.monitoring.report import Report
from damon_tests.judge.monitoring.window_sums import summed
from damon_tests.judge.verdict import Check, Measurement, Verdict, decide
from damon_tests.ports import UsageError
from damon_tests.reference.rules.levels import LEVELS

_HOT = 0.5
_BY_LIMITS = ("I10", "I11", "I12", "I16")
_BY_START = ("I4", "I6")
_BY_COLUMN = {
    "age": ("I23", "I29", "I30", "I32", "I33"),
    "nr_accesses": ("I19", "I20", "I25", "I26", "I29", "I30", "I33"),
}
"""Invariants that read a column; they are not judged where the file does not have it."""
_FEWEST = 3
"""The smallest min_nr_regions that kernels accept."""


@dataclass(frozen=True)
class Request:
    """What the user knows about the recording; None: as in the file.

    ``limits``: (min_nr_regions, max_nr_regions); ``intervals``: (sample_us, aggr_us)."""

    level: str | None = None
    limits: tuple[int, int] | None = None
    intervals: tuple[int, int] | None = None
    operations: str | None = None


@dataclass(frozen=True)
class Judged:
    """The verdict on a recording with its reason, checks, accuracy, and notes on what was not judged."""

    verdict: Verdict
    reason: str
    level: str
    checks: tuple[Check, ...]
    measurements: tuple[Measurement, ...]
    notes: tuple[str, ...]


def judge_recording(saved: Saved, request: Request, *, intervals_known: bool = True) -> Judged:
    """Judge all invariants that apply. Raises UsageError when the series or the intervals are not known."""
    # Of a foreign recording the release is not known: as the first one of its series, with all its defects.
    level = Level(request.level, request.level) if request.level else saved.about.level
    if not level:
        raise UsageError("the recording does not say which kernel series made it: give --level, such as 7.3")
    if level not in LEVELS:
        raise UsageError(f"unknown level {level!r}: there are rules for {', '.join(LEVELS)}")
    if not intervals_known and request.intervals is None:
        raise UsageError("the recording does not say its intervals: give --intervals SAMPLE_US AGGR_US")
    recording, notes = saved.recording, []
    if request.operations:
        recording = replace(recording, operations=request.operations)
    known = saved.about.ctx
    ctx = _ctx(recording, known, request)
    ours = saved.about.level != ""
    # A foreign recording does not say when monitoring began.
    checks = all_invariants(recording, [Report(recording, ctx, level, from_start=ours)])
    if known is None and request.limits is None:
        checks = _without(checks, _BY_LIMITS)
        notes.append("limits of the number of regions are not known (--nr-regions MIN MAX): not judged")
    for column in recording.missing:
        checks = _without(checks, _BY_COLUMN[column])
        notes.append(f"the file has no {column}: invariants about it are not judged")
    if not ours and recording.operations == "vaddr":
        checks = _without(checks, _BY_START) if any(t.regions for t in ctx.targets) else checks
    if not ours and any(c.holds is False for c in checks):
        notes.append(
            "a foreign file may hide lost events, which can look like missing or overlapping regions"
        )
    verdict, reason = decide(checks)
    measured = (*_intervals(recording), *_accuracy(saved))
    return Judged(verdict, reason, level, tuple(checks), measured, tuple(notes))


def _ctx(recording: Recording, known: DamonCtx | None, request: Request) -> DamonCtx:
    """Return the request as far as it is known, with the loosest values for the rest."""
    ctx = known or DamonCtx(attrs=DamonAttrs(min_nr_regions=_FEWEST, max_nr_regions=U32_MAX))
    low, high = request.limits or (ctx.attrs.min_nr_regions, ctx.attrs.max_nr_regions)
    goal = ctx.attrs.intervals_goal
    if recording.intervals and not goal.aggrs:
        # Intervals changed: they were tuned, at least down to the shortest recorded one.
        least = min(recording.sample_us, *(us for _, us in recording.intervals))
        goal = replace(goal, aggrs=1, min_sample_us=least)
    attrs = replace(
        ctx.attrs,
        sample_us=recording.sample_us,
        aggr_us=recording.aggr_us,
        intervals_goal=goal,
        min_nr_regions=low,
        max_nr_regions=high,
    )
    count = 1 + max((s.target_idx for s in recording.snapshots), default=0)
    targets = (ctx.targets + (DamonTarget(),) * count)[: max(count, len(ctx.targets))]
    return replace(
        ctx, operations=recording.operations, addr_unit=recording.addr_unit, attrs=attrs, targets=targets
    )


def _without(checks: Sequence[Check], invariants: tuple[str, ...]) -> list[Check]:
    return [c for c in checks if c.invariant not in invariants]


def _intervals(recording: Recording) -> tuple[Measurement, ...]:
    """Return how long aggregations took, if each of them was traced with the requested intervals."""
    if recording.source in ("tried_regions", "none") or recording.intervals or len(recording.snapshots) < 2:
        return ()
    return metrics.aggregation_interval(recording), metrics.aggregation_jitter(recording)


def _accuracy(saved: Saved) -> tuple[Measurement, ...]:
    """Return the accuracy of the report, if the file has the truth."""
    if saved.truth is None or not saved.truth:
        return ()
    # Without a layout all memory counts; with one, the truth of other memory is not known.
    known = sorted(saved.about.layout.values()) or None
    c = summed(saved.recording, windows(saved.recording), saved.truth, (0.0, _HOT), known)
    return (
        metrics.precision(c, _HOT),
        metrics.recall(c, _HOT),
        metrics.rate_error_of_accessed(c),
        metrics.true_working_set(c),
        metrics.working_set(c),
        metrics.region_count(c),
        metrics.coverage(c),
    )
