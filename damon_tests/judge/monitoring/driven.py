# SPDX-License-Identifier: GPL-2.0
"""Judging a run that the test body drove (``experiment.live``): part by part, target by target."""

from __future__ import annotations

from dataclasses import replace

from damon_tests.experiment.live import Live
from damon_tests.experiment.parts import Part
from damon_tests.judge.monitoring import closed_forms, merged_ages
from damon_tests.judge.monitoring.invariants import monitoring_invariants, recorded
from damon_tests.judge.monitoring.judged_windows import physical_closed_forms
from damon_tests.judge.verdict import Check
from damon_tests.ports import NSEC_PER_USEC
from damon_tests.workload.unknown_memory import MaybeTouched


def invariants(run: Live, kdamond_idx: int = 0) -> list[Check]:
    """All monitoring invariants of every part, and what known truth makes certain about every target.

    A part too short to have an aggregation of its own says nothing; a run without any is undecided.
    """
    checks = [recorded(run.recording(kdamond_idx))]
    for part in run.parts(kdamond_idx):
        if any(snap.complete for snap in part.recording.snapshots):
            checks += _of_part(run, part)
    return checks


def _of_part(run: Live, part: Part) -> list[Check]:
    checks = monitoring_invariants(part.recording, part.ctx, run.level, from_start=part.from_start)[1:]
    if any(probe.weight for probe in part.ctx.attrs.probes):
        return checks
    if part.ctx.operations == "paddr":
        if run.observation is not None:
            seen = replace(run.observation, recording=part.recording, ctx=part.ctx)
            checks += physical_closed_forms(seen)
        return checks
    for i, target in enumerate(part.ctx.targets):
        known = run.truth_of(target)
        if known is None:
            continue
        truth = MaybeTouched(*known, _stalls(run, part, target.pid_target))
        checks += closed_forms.untouched_is_silent(part.recording, part.ctx, truth, target_idx=i)
        if i == 0:
            checks += closed_forms.untouched_ages(part.recording, part.ctx, run.level, truth)
            checks += merged_ages.merged_ages(part.recording, part.ctx, run.level, truth)
    return checks


def _stalls(run: Live, part: Part, pid: int) -> list[tuple[int, int]]:
    """When the target with this pid was disturbed for half a sampling interval or longer."""
    slack_ns = max(1, part.recording.sample_us) * NSEC_PER_USEC // 2
    return [s for target in run.targets if target.pid == pid for s in target.disturbances(slack_ns)]
