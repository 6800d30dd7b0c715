# SPDX-License-Identifier: GPL-2.0
"""Compute when watermarks activate a scheme, from the free memory (specification §4.9).

Free memory of a real machine always varies a little. A test reads it at the begin and the end of each stretch
of time. A stretch too close to a mark has no expectation, nor have the following ones until one is certain
again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import median

from damon_tests.damon.params import DamosWatermarks
from damon_tests.judge.monitoring.sampling_interval import TICK_US, longest_sleep_us
from damon_tests.judge.verdict import Check, Measurement
from damon_tests.ports import NSEC_PER_USEC

MARGIN_PERMIL = 4
"""How far free memory may leave the readings at both ends of a stretch: 4 MiB of each GiB."""


@dataclass(frozen=True)
class Stretch:
    """A stretch of time with free memory within ``lowest``..``highest`` per mille, and the margin."""

    lowest: int
    highest: int

    @staticmethod
    def between(*readings: int) -> Stretch:
        return Stretch(min(readings), max(readings))


def states_hold(
    name: str,
    walked: Sequence[tuple[Stretch, bool]],
    marks: DamosWatermarks,
    at_first: bool | None = True,
) -> Check:
    """Check I59: in each stretch the scheme was active exactly when its marks say so.

    ``walked``: the stretches in order, and whether the scheme was active. Undecided unless all are certain:
    a step of free memory is far larger than the margin, so that only a machine that does something else
    leaves a stretch uncertain (none of 150 on guests of 6.12 to 7.3).
    """
    wanted = active([stretch for stretch, _ in walked], marks, at_first)
    wrong = [
        f"stretch {i} at {s.lowest}..{s.highest}: {'active' if got else 'not active'}"
        for i, ((s, got), want) in enumerate(zip(walked, wanted, strict=True))
        if want is not None and want != got
    ]
    m = Measurement(f"wrong states of {name}", float(len(wrong)), "count")
    sure = sum(want is not None for want in wanted)
    marks_text = f"high {marks.high}, mid {marks.mid}, low {marks.low}"
    why = f"watermarks activate the scheme: {marks_text}; {sure} of {len(wanted)} stretches certain"
    decided = False if wrong else True if sure == len(wanted) else None
    shown = wrong or [f"{s.lowest}..{s.highest}" for s, _ in walked if decided is None]
    return Check("invariant", m, "== 0", why, decided, "; ".join(shown), invariant="I59")


def checked_once_per_interval(
    interval_us: int, answers_ns: Sequence[int], sleeps: Sequence[tuple[int, int]], late_us: int = 0
) -> Check:
    """Check that an inactive kdamond checks its watermarks every ``interval_us``, no sooner and hardly later.

    ``answers_ns``: when each of several commands was answered, given one after the other; a kdamond answers
    one in each of its checks. ``sleeps``: its sleeps [from, to), if they were traced; those between the first
    and the last answer then replace the times between answers. ``late_us``: how late a timer may be, on a
    clock that goes on while the machine waits for a processor of its host.
    """
    chosen = [(a, b) for a, b in sleeps if answers_ns[0] < b <= answers_ns[-1]]
    gaps_us = [(b - a) / NSEC_PER_USEC for a, b in chosen or pairwise(answers_ns)]
    m = Measurement("median time between two checks of the watermarks", median(gaps_us), "µs", tuple(gaps_us))
    # The timer may begin within a tick, too; 512 ms on 7.3.
    most = longest_sleep_us(interval_us) + TICK_US + late_us
    why = "an inactive kdamond sleeps the shortest watermark interval between two checks (§4.9, I38)"
    # The trace's times are whole µs.
    holds = interval_us - 1 <= m.value <= most
    return Check("invariant", m, f"{interval_us} to {most:,.0f} µs", why, holds, invariant="I38")


def active(
    stretches: Sequence[Stretch],
    marks: DamosWatermarks,
    at_first: bool | None = True,
    margin: int = MARGIN_PERMIL,
) -> list[bool | None]:
    """Return whether a scheme is active at the end of each stretch; None: not certain.

    ``at_first``: the state before the first stretch; a scheme starts active.
    """
    state, states = at_first, []
    for stretch in stretches:
        state = _next(stretch, marks, state, margin) if marks.metric != "none" else True
        states.append(state)
    return states


def _next(stretch: Stretch, marks: DamosWatermarks, before: bool | None, margin: int) -> bool | None:
    low, high = stretch.lowest - margin, stretch.highest + margin
    if low > marks.high or high < marks.low:
        return False
    if marks.low <= low and high < min(marks.mid, marks.high + 1):
        return True
    if max(marks.low, marks.mid) <= low and high <= marks.high:
        return before
    return None
