# SPDX-License-Identifier: GPL-2.0
"""When watermarks must let a scheme be applied, from how much memory was free (specification §4.9).

The amount of free memory of a real machine is never quite still. It is read at the beginning and at the
end of each stretch of time that is judged; a stretch in which a mark is too close to be sure has no
expectation, nor has what follows until it is sure again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from damon_tests.damon.params import DamosWatermarks
from damon_tests.judge.verdict import Check, Measurement

MARGIN_PERMIL = 4
"""How far free memory may wander between the readings at both ends of a stretch: 4 MiB of each GiB."""


@dataclass(frozen=True)
class Stretch:
    """Free memory did not leave ``lowest``..``highest`` (per mille) by more than the margin."""

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
    """Check I59: in each stretch the scheme worked exactly when its marks say so. Undecided unless most are
    sure."""
    wanted = active([stretch for stretch, _ in walked], marks, at_first)
    wrong = [
        f"stretch {i} at {s.lowest}..{s.highest}: {'active' if got else 'not active'}"
        for i, ((s, got), want) in enumerate(zip(walked, wanted, strict=True))
        if want is not None and want != got
    ]
    m = Measurement(f"wrong states of {name}", float(len(wrong)), "count")
    sure = sum(want is not None for want in wanted)
    why = f"high {marks.high}, mid {marks.mid}, low {marks.low}; {sure} of {len(wanted)} stretches sure"
    decided = (not wrong) if sure > len(wanted) // 2 else None
    found = wrong or [f"{s.lowest}..{s.highest}" for s, _ in walked if decided is None]
    return Check("invariant", m, "== 0", why, decided, "; ".join(found), invariant="I59")


def active(
    stretches: Sequence[Stretch],
    marks: DamosWatermarks,
    at_first: bool | None = True,
    margin: int = MARGIN_PERMIL,
) -> list[bool | None]:
    """Return whether a scheme is active at the end of each stretch, None where that is not certain.

    ``at_first``: before the first one; a scheme starts active.
    """
    state, found = at_first, []
    for one in stretches:
        state = _next(one, marks, state, margin) if marks.metric != "none" else True
        found.append(state)
    return found


def _next(one: Stretch, marks: DamosWatermarks, before: bool | None, margin: int) -> bool | None:
    low, high = one.lowest - margin, one.highest + margin
    if low > marks.high or high < marks.low:
        return False
    if marks.low <= low and high < min(marks.mid, marks.high + 1):
        return True
    if max(marks.low, marks.mid) <= low and high <= marks.high:
        return before
    return None
