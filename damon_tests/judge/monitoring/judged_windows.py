# SPDX-License-Identifier: GPL-2.0
"""Judging functions applied to an Observation: which truth, which windows, which memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from damon_tests.experiment.observation import Observation
from damon_tests.experiment.physical_view import as_virtual
from damon_tests.experiment.steps import unsure
from damon_tests.judge.monitoring import closed_forms, merged_ages
from damon_tests.judge.monitoring.aggregation_windows import Window, windows, within
from damon_tests.judge.monitoring.invariants import initial_layout
from damon_tests.judge.monitoring.report_vs_truth import Comparison, compare
from damon_tests.judge.verdict import Check
from damon_tests.ports import NSEC_PER_SEC, PAGE_SIZE
from damon_tests.ports.ranges import Range
from damon_tests.workload.unknown_memory import MaybeTouched


def invariants(seen: Observation) -> list[Check]:
    """All monitoring invariants, and what known truth makes certain (untouched memory is silent and ages).

    With vaddr, also that the first layout follows from the process's mappings (three regions).
    """
    if seen.ctx.operations == "paddr":
        return closed_forms.monitoring(seen.recording, seen.ctx, seen.level) + physical_closed_forms(seen)
    truth = MaybeTouched(seen.truth, seen.vmas, seen.disturbances)
    checks = closed_forms.monitoring(seen.recording, seen.ctx, seen.level, truth)
    if checks[0].holds is not None:
        checks += merged_ages.merged_ages(seen.recording, seen.ctx, seen.level, truth)
        checks += closed_forms.no_excess_accesses(seen.recording, seen.ctx, seen.level, truth)
    if seen.ctx.operations == "vaddr" and not any(t.regions for t in seen.ctx.targets):
        checks += initial_layout(seen.recording, seen.ctx, seen.vmas, seen.level)
    return checks


def physical_closed_forms(seen: Observation) -> list[Check]:
    """What known truth makes certain about frames: those that held untouched memory were silent and grew old.

    For the first target's frames that are known; all others count as touched all the time. No check where
    accesses are not looked at, or in units larger than a page.
    """
    if any(p.weight for p in seen.ctx.attrs.probes) or PAGE_SIZE % seen.ctx.addr_unit or not seen.frames:
        return []
    view = as_virtual(seen)
    truth = MaybeTouched(view.truth, view.vmas, view.disturbances)
    return [
        *closed_forms.untouched_is_silent(view.recording, view.ctx, truth),
        *closed_forms.untouched_ages(view.recording, view.ctx, seen.level, truth),
        *merged_ages.merged_ages(view.recording, view.ctx, seen.level, truth),
        *closed_forms.no_excess_accesses(view.recording, view.ctx, seen.level, truth),
    ]


def full_counts(seen: Observation) -> list[Check]:
    """Regions of memory that was certainly touched in every sampling interval have all hits. Exact.

    Only where the truth is certain: not in windows in which the target was irregular. No check when there
    is no such region.
    """
    stalls = (*seen.irregular, *seen.disturbances)
    return closed_forms.always_touched_is_full(seen.recording, seen.ctx, seen.truth, stalls=stalls)


MOST_STALLED = 0.5
"""Windows in which the target was without a processor for more of the time are not judged: replicas
stall where the machine did, but do not know when exactly the sampling thread ran."""

MOST_UNSURE = 0.2
"""Where the kdamond's sleeps are known, windows in which for more of the time somebody else had its processor
while it looked at regions are not judged. Up to there replicas were seen to be right: 0.1 of 8 hits less than
7.3.4 and 6.12.107 had of a half used set, with the spread that they had (219 windows, load 30 to 37)."""

FEWEST_WINDOWS = 5


def judged_windows(seen: Observation, after_s: float, until_s: float | None = None) -> tuple[Window, ...]:
    """Windows from ``after_s`` seconds after DAMON was turned on (to ``until_s``).

    Without those in which it is not known well enough when the kdamond sampled.
    """
    start = seen.recording.started_ns
    until = None if until_s is None else start + int(until_s * NSEC_PER_SEC)
    chosen = within(windows(seen.recording), start + int(after_s * NSEC_PER_SEC), until)
    shares = unsure(seen, [(w.t0_ns, w.t1_ns) for w in chosen])
    if any(share < 1 for share in shares):
        return tuple(w for w, share in zip(chosen, shares, strict=True) if share <= MOST_UNSURE)
    return tuple(w for w in chosen if stalled_ns(seen, w) <= MOST_STALLED * w.duration_ns)


def stalled_ns(seen: Observation, window: Window) -> int:
    """How long the target was without a processor in a window, by what it missed of its schedule."""
    total, at = 0, window.t0_ns
    for start, end in seen.disturbances:  # sorted, may overlap
        low, high = max(start, at), min(end, window.t1_ns)
        if low < high:
            total += high - low
            at = high
    return total


def comparison(
    seen: Observation,
    after_s: float,
    until_s: float | None = None,
    *,
    chosen: Sequence[Window] | None = None,
) -> Comparison:
    """Report beside truth, restricted to the pattern's regions: of other memory nothing is known.

    ``chosen`` overrides the windows; else those of ``judged_windows``.
    """
    picked = judged_windows(seen, after_s, until_s) if chosen is None else tuple(chosen)
    compared = compare(seen.recording, picked, seen.truth, stalls=seen.disturbances)
    return clip(compared, sorted(seen.layout.values()))


def clip(c: Comparison, ranges: Sequence[Range]) -> Comparison:
    """The part of every piece that lies in one of ``ranges`` (sorted, disjoint byte ranges)."""
    parts = []
    for start, end in ranges:
        low, high = np.maximum(c.start, start), np.minimum(c.start + c.size, end)
        kept = np.flatnonzero(low < high)
        parts.append((kept, low[kept], high[kept] - low[kept]))
    index = np.concatenate([np.empty(0, np.int64), *(p[0] for p in parts)]).astype(np.int64)
    start_ = np.concatenate([np.empty(0, np.int64), *(p[1] for p in parts)]).astype(np.int64)
    size = np.concatenate([np.empty(0, np.int64), *(p[2] for p in parts)]).astype(np.int64)
    order = np.lexsort((start_, c.window[index]))
    index = index[order]
    return replace(
        c,
        window=c.window[index],
        start=start_[order],
        size=size[order],
        seen=c.seen[index],
        true=c.true[index],
        covered=c.covered[index],
    )
