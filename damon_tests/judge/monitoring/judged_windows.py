# SPDX-License-Identifier: GPL-2.0
"""Select the windows of an attempt that are judged, and compare the report with the truth in them."""

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
"""Largest share of a judged window in which the target may have been without a CPU. Replicas stall where the
machine did, but do not know when exactly the kdamond ran."""

MOST_UNSURE = 0.2
"""Largest share of a judged window, where the kdamond's sleeps are known, in which other threads may have had
its CPU while it checked regions. Up to this share replicas measured right: 0.1 of 8 hits less than 7.3.4 and
6.12.107 reported of a half used set, with the same spread (219 windows, load 30 to 37)."""

FEWEST_WINDOWS = 5


def judged_windows(
    observation: Observation, after_s: float, until_s: float | None = None
) -> tuple[Window, ...]:
    """Return the windows from ``after_s`` to ``until_s`` seconds after DAMON was turned on.

    Windows in which the times of the kdamond's samples are too uncertain are left out.
    """
    start = observation.recording.started_ns
    until = None if until_s is None else start + int(until_s * NSEC_PER_SEC)
    chosen = within(windows(observation.recording), start + int(after_s * NSEC_PER_SEC), until)
    shares = unsure(observation, [(w.t0_ns, w.t1_ns) for w in chosen])
    if any(share < 1 for share in shares):
        return tuple(w for w, share in zip(chosen, shares, strict=True) if share <= MOST_UNSURE)
    return tuple(w for w in chosen if stalled_ns(observation, w) <= MOST_STALLED * w.duration_ns)


def stalled_ns(observation: Observation, window: Window) -> int:
    """Return how long, in ns, the target was without a CPU in a window, by what it missed of its schedule."""
    total, at = 0, window.t0_ns
    for start, end in observation.disturbances:  # sorted, may overlap
        low, high = max(start, at), min(end, window.t1_ns)
        if low < high:
            total += high - low
            at = high
    return total


def comparison(
    observation: Observation,
    after_s: float,
    until_s: float | None = None,
    *,
    chosen: Sequence[Window] | None = None,
) -> Comparison:
    """Compare the report with the truth in the pattern's regions; of other memory the truth is not known.

    ``chosen``: the windows; None: those of ``judged_windows``.
    """
    picked = judged_windows(observation, after_s, until_s) if chosen is None else tuple(chosen)
    compared = compare(observation.recording, picked, observation.truth, stalls=observation.disturbances)
    return clip(compared, sorted(observation.layout.values()))


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
