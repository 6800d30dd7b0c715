# SPDX-License-Identifier: GPL-2.0
"""The one entry to the invariants of monitoring: every check that a report and known memory allow.

Attempts, parts of runs that changed their request, replicas' further attempts, and recordings on disk are all
judged here. Which invariant is where: ``invariants`` (geometry, coverage, counters, timing),
``region_counts``, ``ages``; what known memory makes certain: ``closed_forms``, ``merged_ages``.
"""

from __future__ import annotations

from collections.abc import Iterable

from damon_tests.damon.records import Recording
from damon_tests.experiment.observation import Observation
from damon_tests.experiment.physical_view import as_virtual
from damon_tests.judge.monitoring import ages, closed_forms, invariants, merged_ages, region_counts
from damon_tests.judge.monitoring.report import KnownMemory, Report
from damon_tests.judge.verdict import Check
from damon_tests.ports import PAGE_SIZE
from damon_tests.workload.maybe_touched import MaybeTouched


def all_invariants(whole: Recording, reports: Iterable[Report]) -> list[Check]:
    """Return the checks of all ``reports``, the parts of the ``whole`` recording.

    A part too short to have an aggregation of its own says nothing; a recording without any is undecided.
    """
    checks = [invariants.recorded(whole)]
    for report in reports:
        if any(snapshot.complete for snapshot in report.recording.snapshots):
            checks += _of_report(report)
    return checks


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
    """Return whether probes with weights take the place of accesses: then nr_accesses is 0, and ages are
    theirs."""
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


def of_attempt(seen: Observation) -> list[Check]:
    """Return all checks of one attempt."""
    return all_invariants(seen.recording, [report_of(seen)])


def report_of(seen: Observation) -> Report:
    """Return the attempt's report with all that is known of its first target."""
    from_start = seen.committed is None
    if seen.ctx.operations == "paddr":
        return Report(seen.recording, seen.ctx, seen.level, from_start, known=known_frames(seen))
    truth = MaybeTouched(seen.truth, seen.vmas, seen.disturbances)
    known = (KnownMemory(0, truth, seen.recording, seen.ctx),)
    vmas = seen.vmas if from_start and len(seen.ctx.targets) == 1 else ()
    return Report(seen.recording, seen.ctx, seen.level, from_start, known, vmas)


def known_frames(seen: Observation) -> tuple[KnownMemory, ...]:
    """Return what is known of physical memory: the first target's frames that did not move.

    All others count as touched all the time. Nothing in units larger than a page.
    """
    if PAGE_SIZE % seen.ctx.addr_unit or not seen.frames:
        return ()
    view = as_virtual(seen)
    truth = MaybeTouched(view.truth, view.vmas, view.disturbances)
    return (KnownMemory(0, truth, view.recording, view.ctx),)


def full_counts(seen: Observation) -> list[Check]:
    """Check that regions of memory that was certainly touched in every sampling interval have all hits.
    Exact.

    Only where the truth is certain: not in windows in which the target was irregular. Undecided when there
    is no such region.
    """
    stalls = (*seen.irregular, *seen.disturbances)
    return closed_forms.always_touched_is_full(seen.recording, seen.ctx, seen.truth, stalls=stalls)
