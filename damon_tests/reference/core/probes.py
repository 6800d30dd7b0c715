# SPDX-License-Identifier: GPL-2.0
"""Data-attribute probes: whether the sampled page of a region has an attribute (specification §2.10)."""

from __future__ import annotations

import numpy as np

from damon_tests.damon.params import DamonProbe, DamonProbeFilter
from damon_tests.ports.arrays import I64, Bools
from damon_tests.reference.machine.memory import Memory
from damon_tests.reference.rules.ruleset import Rules


def probe_passes(memory: Memory, frames: I64, probe: DamonProbe, rules: Rules, now_ns: int) -> Bools:
    """Return whether the page in each frame passes the probe.

    The first filter that matches decides; without one, the opposite of what the last would allow. A probe
    without filters always passes.
    """
    if not probe.filters:
        return np.ones(len(frames), np.bool_)
    present = memory.has_folio(frames, now_ns)
    undecided = np.ones(len(frames), np.bool_)
    passes = np.full(len(frames), not probe.filters[-1].allow, np.bool_)
    for item in probe.filters:
        hit = present & _test(memory, np.where(present, frames, 0), item)
        for outcome in (True, False):
            verdict = rules.filter_verdict(outcome, item.matching, item.allow)
            if verdict is not None:
                decided = undecided & (hit == outcome)
                passes[decided] = verdict
                undecided &= ~decided
    return passes


def _test(memory: Memory, frames: I64, item: DamonProbeFilter) -> Bools:
    return memory.is_anon(frames) if item.type == "anon" else memory.in_memcg(frames, item.path)
