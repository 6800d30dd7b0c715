# SPDX-License-Identifier: GPL-2.0
"""Check all invariants of monitoring: the single entry for every kind of report.

It judges attempts, parts of runs whose request changed, further attempts, and recordings on disk. The
invariants are in ``invariants`` (geometry, coverage, counters, timing), ``region_counts`` and ``ages``; what
known accesses make certain is in ``closed_forms`` and ``merged_ages``.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from damon_tests.damon.records import Recording
from damon_tests.experiment.observation import Observation
from damon_tests.experiment.physical_view import as_virtual
from damon_tests.judge.monitoring import ages, closed_forms, invariants, merged_ages, region_counts
from damon_tests.judge.monitoring.report import NOTHING_JUDGED, KnownMemory, Report
from damon_tests.judge.verdict import Check
from damon_tests.ports import NSEC_PER_USEC, page_size
from damon_tests.workload.maybe_touched import MaybeTouched

_LONG_WINDOWS = 10
"""A recording of as many aggregation intervals has aggregations that can be compared."""


def all_invariants(whole: Recording, reports: Iterable[Report]) -> list[Check]:
    """Check all invariants in all ``reports``, the parts of the ``whole`` recording.

    A part without a complete aggregation is not judged; a recording without any is undecided.
    """
    checks = []
    for report in reports:
        if any(snapshot.complete for snapshot in report.recording.snapshots):
            checks += _of_report(report)
    return [invariants.recorded(whole), *_without_answered(checks, whole)]


def _without_answered(checks: Sequence[Check], whole: Recording) -> list[Check]:
    """Return the checks without those that looked at nothing, where another part of the recording answers.

    A recording too short to compare aggregations is not asked what only several of them show.
    """
    answered = {_question(check) for check in checks if not _looked_at_nothing(check)}
    lasted_ns = whole.stopped_ns - whole.started_ns
    short = lasted_ns < _LONG_WINDOWS * max(whole.aggr_us, 1) * NSEC_PER_USEC
    return [
        check
        for check in checks
        if not _looked_at_nothing(check) or not (short or _question(check) in answered)
    ]


def _looked_at_nothing(check: Check) -> bool:
    return check.holds is None and check.detail == NOTHING_JUDGED


def _question(check: Check) -> tuple[str, str]:
    return check.invariant, check.measurement.name


def _of_report(report: Report) -> list[Check]:
    checks = [
        *invariants.geometry(report),
        *invariants.coverage(report),
        *region_counts.region_counts(report),
        *invariants.counters(report),
    ]
    if report.recording.source == "tried_regions":
        return checks
    checks += [*ages.ages(report), *invariants.timing(report), *invariants.initial_layout(report)]
    if not weighs_probes(report):
        for memory in report.known:
            checks += _of_memory(memory, report.level)
    return checks


def weighs_probes(report: Report) -> bool:
    """Return whether weighted probes replace accesses: then nr_accesses is 0, and ages follow the probes."""
    return any(probe.weight for probe in report.ctx.attrs.probes)


def _of_memory(known: KnownMemory, level: str) -> list[Check]:
    recording, ctx, truth, i = known.recording, known.ctx, known.truth, known.target_idx
    return [
        *closed_forms.untouched_is_silent(recording, ctx, truth, target_idx=i),
        *closed_forms.untouched_ages(recording, ctx, level, truth, target_idx=i),
        *merged_ages.merged_ages(recording, ctx, level, truth, target_idx=i),
        *closed_forms.no_excess_accesses(recording, ctx, level, truth, target_idx=i),
    ]


# --- attempts ----------------------------------------------------------------------------------


def of_attempt(observation: Observation) -> list[Check]:
    """Check all invariants in one attempt."""
    return all_invariants(observation.recording, [report_of(observation)])


def report_of(observation: Observation) -> Report:
    """Return the attempt as a Report, with the known accesses of its first target."""
    from_start = observation.committed is None
    if observation.ctx.operations == "paddr":
        return Report(
            observation.recording,
            observation.ctx,
            observation.level,
            from_start,
            known=known_frames(observation),
        )
    truth = MaybeTouched(observation.truth, observation.vmas, observation.disturbances)
    known = (KnownMemory(0, truth, observation.recording, observation.ctx),)
    vmas = observation.vmas if from_start and len(observation.ctx.targets) == 1 else ()
    return Report(observation.recording, observation.ctx, observation.level, from_start, known, vmas)


def known_frames(observation: Observation) -> tuple[KnownMemory, ...]:
    """Return the known accesses of physical memory: those to the first target's frames that did not move.

    All other frames count as touched all the time. Empty where addr_unit exceeds a page.
    """
    if page_size() % observation.ctx.addr_unit or not observation.frames:
        return ()
    view = as_virtual(observation)
    truth = MaybeTouched(view.truth, view.vmas, view.disturbances)
    return (KnownMemory(0, truth, view.recording, view.ctx),)


def full_counts(observation: Observation) -> list[Check]:
    """Check that regions that were certainly touched in every sampling interval have nr_accesses W. Exact.

    Windows in which the target was irregular or disturbed are left out. Undecided without such a region.
    """
    stalls = (*observation.irregular, *observation.disturbances)
    return closed_forms.always_touched_is_full(
        observation.recording, observation.ctx, observation.truth, stalls=stalls
    )
