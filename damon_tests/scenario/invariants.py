# SPDX-License-Identifier: GPL-2.0
"""Check the invariants of monitoring in an attempt, or in a run that the test drove."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from damon_tests.experiment.live import Live
from damon_tests.experiment.observation import Observation
from damon_tests.experiment.parts import Part
from damon_tests.judge.monitoring.all_invariants import all_invariants, known_frames, of_attempt
from damon_tests.judge.monitoring.report import KnownMemory, Report
from damon_tests.judge.verdict import Check, Measurement
from damon_tests.ports import NSEC_PER_USEC
from damon_tests.workload.maybe_touched import MaybeTouched


def invariants(run: Live | Observation, kdamond_idx: int = 0, *, shows: Sequence[str] = ()) -> list[Check]:
    """Check every invariant, and what the known accesses make certain.

    A run whose request changed is judged part by part (``Live.parts``), each target separately. ``shows``:
    the invariants that the test is about, as "I25"; undecided when no report is subject to them.
    """
    if isinstance(run, Observation):
        checks = of_attempt(run)
    else:
        reports = (_report(run, part) for part in run.parts(kdamond_idx))
        checks = all_invariants(run.recording(kdamond_idx), reports)
    made = {check.invariant for check in checks}
    return [*checks, *(_not_shown(invariant) for invariant in shows if invariant not in made)]


def _not_shown(invariant: str) -> Check:
    m = Measurement(f"reports subject to {invariant}", 0, "count")
    return Check(
        "invariant", m, ">= 1", "the test needs a report subject to the invariant", None, invariant=invariant
    )


def _report(run: Live, part: Part) -> Report:
    known = _frames(run, part) if part.ctx.operations == "paddr" else tuple(_targets(run, part))
    return Report(part.recording, part.ctx, run.level, part.from_start, known)


def _frames(run: Live, part: Part) -> tuple[KnownMemory, ...]:
    if run.observation is None:
        return ()
    return known_frames(replace(run.observation, recording=part.recording, ctx=part.ctx))


def _targets(run: Live, part: Part) -> Iterator[KnownMemory]:
    for i, target in enumerate(part.ctx.targets):
        known = run.truth_of(target)
        if known is not None:
            truth = MaybeTouched(*known, _stalls(run, part, target.pid_target))
            yield KnownMemory(i, truth, part.recording, part.ctx)


def _stalls(run: Live, part: Part, pid: int) -> list[tuple[int, int]]:
    """Return when, in ns, the target could not run for half a sampling interval or longer."""
    slack_ns = max(1, part.recording.sample_us) * NSEC_PER_USEC // 2
    return [s for target in run.targets if target.pid == pid for s in target.disturbances(slack_ns)]
