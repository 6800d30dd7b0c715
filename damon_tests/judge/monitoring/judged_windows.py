# SPDX-License-Identifier: GPL-2.0
"""Which windows of an attempt are judged, and the report beside the truth in them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from damon_tests.experiment.observation import Observation
from damon_tests.experiment.sampling_steps import unsure
from damon_tests.judge.monitoring.aggregation_windows import Window, windows, within
from damon_tests.judge.monitoring.report_vs_truth import Comparison, compare
from damon_tests.ports import NSEC_PER_SEC
from damon_tests.ports.ranges import Range

MOST_STALLED = 0.5
"""Windows in which the target was without a processor for more of the time are not judged: replicas
stall where the machine did, but do not know when exactly the sampling thread ran."""

MOST_UNSURE = 0.2
"""Where the kdamond's sleeps are known, windows in which for more of the time somebody else had its processor
while it looked at regions are not judged. Up to there replicas were seen to be right: 0.1 of 8 hits less than
7.3.4 and 6.12.107 had of a half used set, with the spread that they had (219 windows, load 30 to 37)."""

FEWEST_WINDOWS = 5


def judged_windows(seen: Observation, after_s: float, until_s: float | None = None) -> tuple[Window, ...]:
    """Return the windows from ``after_s`` seconds after DAMON was turned on (to ``until_s``).

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
    """Return how long the target was without a processor in a window, by what it missed of its schedule."""
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
    """Return the report beside the truth, restricted to the pattern's regions: of other memory nothing is
    known.

    ``chosen`` overrides the windows; else those of ``judged_windows``.
    """
    picked = judged_windows(seen, after_s, until_s) if chosen is None else tuple(chosen)
    compared = compare(seen.recording, picked, seen.truth, stalls=seen.disturbances)
    return clip(compared, sorted(seen.layout.values()))


def clip(c: Comparison, ranges: Sequence[Range]) -> Comparison:
    """Return the part of every piece that lies in one of ``ranges`` (sorted, disjoint byte ranges)."""
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
