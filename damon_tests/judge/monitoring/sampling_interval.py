# SPDX-License-Identifier: GPL-2.0
"""How long a kdamond sleeps between two samples, held from both sides."""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from damon_tests.experiment.observation import Observation
from damon_tests.judge.verdict import Check, Measurement
from damon_tests.ports import NSEC_PER_USEC

TIMER_SLACK_US = 100
"""A kernel timer may fire 50 µs late by default (timer_slack_ns); as much again for the thread to wake up."""

TICK_US = 10_000
"""The longest tick there is (HZ=100). A sleep that is counted in ticks may take one more than asked."""

COUNTED_IN_TICKS_US = 16_000
"""From here on some series count sleeps in ticks (§2.11)."""

MOST_LONGER = 0.02
"""What a sleep may be longer besides: the clock that the timer uses is corrected while it runs."""

FEWEST_SLEEPS = 20


def sampling_interval(observation: Observation) -> Check:
    """Check the median sleep between two samples, µs, against sample_us.

    Sleeps are those that the scheduler traced. Where there are none (the reference), a sleep is an
    aggregation divided by its samples: nothing else takes time there. Undecided below FEWEST_SLEEPS.
    """
    asked = max(1, observation.recording.sample_us)
    sleeps_us = _sleeps_us(observation)
    median = float(np.median(sleeps_us)) if len(sleeps_us) else float("nan")
    m = Measurement("median sleep between two samples", median, "µs", tuple(sleeps_us[:1000]))
    most = longest_sleep_us(asked)
    limit = f"{asked} to {most:,.0f} µs"
    why = "a kdamond samples once in each sampling interval: it sleeps no less and hardly longer (I34)"
    if len(sleeps_us) < FEWEST_SLEEPS:
        return Check(
            "invariant", m, limit, why, None, f"only {len(sleeps_us)} sleeps are known", invariant="I34"
        )
    # The trace's times are whole µs.
    holds = asked - 1 <= median <= most
    return Check("invariant", m, limit, why, holds, invariant="I34")


def longest_sleep_us(asked_us: int) -> float:
    """Return how long the median of a kdamond's sleeps of ``asked_us`` may take, µs."""
    ticks_us = TICK_US if asked_us >= COUNTED_IN_TICKS_US else 0
    return asked_us * (1 + MOST_LONGER) + TIMER_SLACK_US + ticks_us


def _sleeps_us(observation: Observation) -> list[float]:
    if observation.sleeps:
        return [(to - start) / NSEC_PER_USEC for start, to in observation.sleeps]
    recording = observation.recording
    times = [snapshot.time_ns for snapshot in recording.of_target(0)]
    w = max(1, recording.samples_per_aggr)
    return [(b - a) / w / NSEC_PER_USEC for a, b in pairwise(times) for _ in range(w)]
