# SPDX-License-Identifier: GPL-2.0
"""How many samples lie between aggregations, passes or updates, held from both sides.

A kdamond counts its intervals in samples (specification 2.1). Where the scheduler traced its sleeps the
samples are counted, exactly on any clock; how long each sleep is, ``sampling_interval`` holds. Where no sleep
is traced (the reference) a sample takes sample_us.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from statistics import median

import numpy as np

from damon_tests.experiment.observation import Observation
from damon_tests.judge.monitoring.sampling_interval import longest_sleep_us
from damon_tests.judge.verdict import Check, Measurement
from damon_tests.ports import NSEC_PER_USEC

FEWEST_INTERVALS = 3
_ROUNDING = 1e-3
"""The trace's times are whole µs, at least a thousandth of a sampling interval of 1 ms."""


def interval_in_samples(
    name: str, times_ns: Sequence[int], observation: Observation, samples: int, why: str, invariant: str
) -> Check:
    """Check that the median interval between ``times_ns`` has exactly ``samples`` samples.

    The median: a sleep that was over before the kdamond gave its processor up is not traced, and an event
    that the test waits for may come late. Undecided below FEWEST_INTERVALS.
    """
    counts = samples_between(times_ns, observation)
    m = Measurement(f"median samples of {name}", median(counts) if counts else 0.0, "samples", tuple(counts))
    if len(counts) < FEWEST_INTERVALS:
        detail = f"only {len(counts)} intervals are known"
        return Check("invariant", m, f"== {samples}", why, None, detail, invariant=invariant)
    most = samples * (1 + _ROUNDING)
    if not observation.sleeps:
        sample_us = max(1, observation.recording.sample_us)
        most = samples * longest_sleep_us(sample_us) / sample_us
    holds = samples * (1 - _ROUNDING) <= m.value <= most
    return Check("invariant", m, f"== {samples}", why, holds, invariant=invariant)


def samples_between(times_ns: Sequence[int], observation: Observation) -> list[float]:
    """Return how many samples were taken in each interval between two of ``times_ns``, which ascend.

    Intervals that began before the first traced sleep are left out.
    """
    pairs = list(pairwise(times_ns))
    if not observation.sleeps:
        sample_ns = max(1, observation.recording.sample_us) * NSEC_PER_USEC
        return [(b - a) / sample_ns for a, b in pairs]
    ends = np.array([to for _, to in observation.sleeps], dtype=np.int64)
    known = [(a, b) for a, b in pairs if a >= ends[0]]
    return [float(np.searchsorted(ends, b, "right") - np.searchsorted(ends, a, "right")) for a, b in known]
