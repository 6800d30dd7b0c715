# SPDX-License-Identifier: GPL-2.0
"""Check quota goals: replay the tuners' recurrence on their input (specification 4.4).

In each window the tuner computes the next effective size from the last one and the score of the goals. Where
the score is known the sizes follow exactly; where it lies between two measurements, so does the next size,
because the recurrence is monotone in both. The recurrence is written from the specification and shares no
code with the reference, so that an error in one of them shows.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import mean, median

from damon_tests.damon.params import U64_MAX, DamosQuota, DamosQuotaGoal
from damon_tests.damon.series import Series
from damon_tests.damon.trace import EszEvent
from damon_tests.judge.chart import explain, explained
from damon_tests.judge.schemes.quota_chart import sizes_chart, tuner_chart
from damon_tests.judge.schemes.quota_passes import Pass
from damon_tests.judge.schemes.quotas import LATE_TICKS_NS, TICK_NS
from damon_tests.judge.verdict import Check, Measurement
from damon_tests.ports import NSEC_PER_MSEC
from damon_tests.ports.numbers import number
from damon_tests.ports.ranges import Range

BP = 10_000
UNLIMITED = U64_MAX // BP
"""The temporal tuner's effective size without a size quota."""

_FEW = 3
"""Fewest windows whose length is judged."""


def feedback(last: int, score: int) -> int:
    """Return the next input of the tuner after ``last``, for a score in bp; the goal is 10000."""
    if score == BP:
        return last
    if score >= 2 * BP:
        return BP
    error = abs(BP - score)
    change = last * error // BP if last < U64_MAX // error else last // BP * error
    return max(last - change, BP) if score > BP else min(last + change, U64_MAX)


def score(goals: Sequence[DamosQuotaGoal], current: Sequence[int]) -> int:
    """Return the score in bp: that of the goal achieved most."""
    return max(
        (value * BP // goal.target_value for goal, value in zip(goals, current, strict=True)), default=0
    )


def next_bp(quota: DamosQuota, last_bp: int, achieved: int) -> int:
    """Return the tuner's next effective size, in bytes * 10000."""
    if quota.goal_tuner != "temporal":
        return feedback(max(last_bp, BP), achieved)
    if achieved >= BP:
        return 0
    return quota.bytes * BP if 0 < quota.bytes <= UNLIMITED else U64_MAX


def limited(quota: DamosQuota, bp: int) -> int:
    """Return the effective size in bytes: the tuner's size, at most the requested size."""
    size = bp // BP
    return min(size, quota.bytes) if quota.bytes else size


def sizes(quota: DamosQuota, scores: Sequence[int]) -> list[int]:
    """Return the effective size in bytes after each evaluation, from the start of a scheme."""
    effective_sizes, bp = [], 0
    for achieved in scores:
        bp = next_bp(quota, bp, achieved)
        effective_sizes.append(limited(quota, bp))
    return effective_sizes


# --- exact -------------------------------------------------------------------------------------


def traced_sizes(passes: Sequence[Pass], first: int | None = None) -> list[int | None]:
    """Return the effective size in force after each pass, from damos_esz; None: not known yet.

    DAMON traces changes, and since 7.3 the first size, too. ``first``: the size until the first traced one.
    """
    in_force: list[int | None] = []
    size = first
    for pass_ in passes:
        size = pass_.esz[-1].esz if pass_.esz else size
        in_force.append(size)
    return in_force


def steps_follow(
    passes: Sequence[Pass],
    quota: DamosQuota,
    scores: Callable[[Pass], Sequence[int]],
    *,
    first: Sequence[int] = (),
) -> Check:
    """Check that every traced size follows from the recurrence (I57). Exact, for a reset interval of 0.

    Each pass is then a window, and the first pass evaluates twice. ``scores``: the possible scores of a pass,
    two during a commit. ``first``: those of the first evaluation, if they differ.
    """
    possible, wrong, judged, unchanged = {0}, "", 0, {0}
    for index, (pass_, traced) in enumerate(zip(passes, traced_sizes(passes), strict=True)):
        if index == 0:
            possible = {next_bp(quota, 0, s) for s in first or scores(pass_)}
            unchanged = {limited(quota, bp) for bp in possible}
        possible = {next_bp(quota, bp, s) for bp in possible for s in scores(pass_)}
        judged += 1
        agreeing = {
            bp for bp in possible if limited(quota, bp) in (unchanged if traced is None else {traced})
        }
        if not agreeing:
            expected = " or ".join(str(limited(quota, bp)) for bp in sorted(possible))
            wrong = f"pass {index}: {traced}, expected {expected}"
            break
        possible = agreeing
    m = Measurement("effective sizes that are not the tuner's", float(bool(wrong)), "count")
    why = f"the size follows from the last one and the score (§4.4, {quota.goal_tuner}); {judged} recomputed"
    holds = None if not judged and not wrong else not wrong
    check = Check("closed form", m, "== 0", why, holds, wrong)
    return explained(check, lambda: tuner_chart(passes, quota, traced_sizes(passes), scores=scores))


def windows_follow(
    traced: Sequence[EszEvent],
    quota: DamosQuota,
    achieved: int,
    passes: Sequence[Pass],
    level: Series,
    ticks_ns: int = LATE_TICKS_NS,
) -> list[Check]:
    """Check I45 and that the tuner takes one step in each window of a reset interval, and none in between.

    For a constant score ``achieved`` that changes the size each time. The first window evaluates once.
    ``ticks_ns``: the largest error of a window's begin.
    """
    expected = list(dict.fromkeys(sizes(quota, [achieved] * (len(traced) + 1))))
    esz_values = [event.esz for event in traced]
    if not level.traces_first_tuned_size and esz_values[:1] != expected[:1]:
        expected.pop(0)  # only changes are traced, not the first size
    expected = expected[: len(esz_values)]
    m = Measurement("effective sizes traced", float(len(traced)), "count", tuple(map(float, esz_values)))
    checks = [
        Check(
            "closed form",
            m,
            f"{expected[:8]} ...",
            "the tuner takes one step a window (§4.4)",
            esz_values == expected,
        )
    ]
    reset_ns = quota.reset_interval_ms * NSEC_PER_MSEC
    gaps = [b.time_ns - a.time_ns for a, b in pairwise(traced)]
    # A window begins with the first pass after the reset interval.
    apart = [b.begin_ns - a.begin_ns for a, b in pairwise(passes)]
    high = ticks_ns + max(apart, default=0)
    wrong = [f"{number(gap / NSEC_PER_MSEC)} ms" for gap in gaps if not -ticks_ns <= gap - reset_ns <= high]
    m = Measurement("windows of another length", float(len(wrong)), "count", tuple(map(float, gaps)))
    why = f"a window lasts {quota.reset_interval_ms} ms, rounded up to the next pass (§4.4)"
    holds = None if len(gaps) < _FEW else not wrong
    checks.append(Check("invariant", m, "== 0", why, holds, "; ".join(wrong[:3]), invariant="I45"))
    checks.append(_usual_window(gaps, apart, reset_ns, why))
    return explain(checks, lambda: sizes_chart(traced, quota, lambda _: [achieved], expected))


def _usual_window(gaps: Sequence[int], apart: Sequence[int], reset_ns: int, why: str) -> Check:
    """Check I45 of the median window: late ticks shift single windows, but not half of them."""
    if len(gaps) < _FEW:
        m = Measurement("windows", float(len(gaps)), "count")
        return Check("invariant", m, f">= {_FEW}", "fewer windows decide nothing", None, invariant="I45")
    usual_ns, low, high = median(gaps), reset_ns - 2 * TICK_NS, reset_ns + median(apart) + 2 * TICK_NS
    m = Measurement("median window", usual_ns / NSEC_PER_MSEC, "ms", tuple(g / NSEC_PER_MSEC for g in gaps))
    limit = f"{number(low / NSEC_PER_MSEC)} to {number(high / NSEC_PER_MSEC)}"
    return Check("invariant", m, limit, why, low <= usual_ns <= high, invariant="I45")


def fed_steps_follow(
    traced: Sequence[EszEvent],
    quota: DamosQuota,
    scores: Callable[[int], Sequence[int]],
    level: Series,
) -> Check:
    """Check that each traced size is one step from the last, with any reset interval.

    ``scores``: the possible scores at a time in ns, several during a commit. Windows that do not change the
    size are not traced, so the fraction of a byte that the tuner keeps may have any value.
    """
    lasts, wrong = [(0, 0)], []
    if traced and not level.traces_first_tuned_size:  # the first size is not traced
        lasts += [(bp, bp) for s in scores(traced[0].time_ns) for bp in [next_bp(quota, 0, s)]]
    for event in traced:
        allowed = [
            (limited(quota, next_bp(quota, low, s)), limited(quota, next_bp(quota, high, s)))
            for low, high in lasts
            for s in scores(event.time_ns)
        ]
        if not any(low <= event.esz <= high for low, high in allowed):
            wrong.append(
                f"{lasts[0][0] // BP} became {event.esz}, expected one of {sorted(set(allowed))[:3]}"
            )
        lasts = [(event.esz * BP, event.esz * BP + BP - 1)]
    m = Measurement("effective sizes that are not the tuner's", float(len(wrong)), "count")
    why = f"each size is one step from the last (§4.4, {quota.goal_tuner}); {len(traced)} sizes"
    check = Check("closed form", m, "== 0", why, not wrong if traced else None, "; ".join(wrong[:3]))
    return explained(check, lambda: sizes_chart(traced, quota, scores))


@dataclass(frozen=True)
class Reading:
    """A value read from ``effective_bytes``. ``passes``: the fewest and most passes done until then."""

    value: int
    passes: Range


def readings_follow(readings: Sequence[Reading], expected: Sequence[int]) -> Check:
    """Check that every value read is the size after one of the passes done by then. Exact.

    ``expected``: the sizes after 0, 1, 2, ... passes. For kernels without damos_esz, too.
    """
    wrong = []
    for reading in readings:
        low, high = reading.passes
        admissible = expected[max(low, 0) : high + 1]
        if admissible and reading.value not in admissible:
            wrong.append(f"{reading.value} after {low} to {high} passes, expected {sorted(set(admissible))}")
    m = Measurement("effective_bytes that are not the tuner's", float(len(wrong)), "count")
    holds = None if not readings else not wrong
    why = f"effective_bytes is the tuner's size after a pass (§4.4); {len(readings)} values read"
    return Check("closed form", m, "== 0", why, holds, "; ".join(wrong[:3]))


def possible_sizes(
    passes: Sequence[Pass],
    quota: DamosQuota,
    scores: Callable[[Pass], Sequence[int]],
    level: Series,
    *,
    first: Sequence[int] = (),
    left_out: Callable[[Pass], bool] = lambda _: False,
) -> list[set[int]]:
    """Return the possible effective sizes after 0, 1, 2, ... passes, for a reset interval of 0.

    The first pass evaluates twice; before 6.18 perhaps once. ``left_out``: whether the scheme may have
    skipped an aggregation.
    """
    possible, after_passes = {0}, [{0}]
    for index, pass_ in enumerate(passes):
        before = possible
        if index == 0:
            before = {next_bp(quota, 0, s) for s in first or scores(pass_)}
            evaluated_once = set() if level.evaluates_goals_twice_at_first else before
        else:
            evaluated_once = possible if left_out(pass_) else set()
        possible = {next_bp(quota, bp, s) for bp in before for s in scores(pass_)} | evaluated_once
        after_passes.append({limited(quota, bp) for bp in possible})
    return after_passes


def readings_possible(readings: Sequence[Reading], possible: Sequence[set[int]]) -> Check:
    """Check that every value read is a possible size after a number of passes done by then."""
    wrong = []
    for reading in readings:
        low, high = reading.passes
        admissible = set().union(*possible[max(low, 0) : high + 1])
        if admissible and reading.value not in admissible:
            wrong.append(f"{reading.value} after {low} to {high} passes, expected {sorted(admissible)[:8]}")
    m = Measurement("effective_bytes that are not the tuner's", float(len(wrong)), "count")
    why = f"effective_bytes is the tuner's size after a pass (§4.4); {len(readings)} values read"
    return Check("closed form", m, "== 0", why, None if not readings else not wrong, "; ".join(wrong[:3]))


def readings(passes: Sequence[Pass], read: Sequence[tuple[int, int, int]]) -> list[Reading]:
    """Return a Reading for each (begin_ns, end_ns, value), with the fewest and most passes done by then."""
    return [
        Reading(value, (sum(p.end_ns <= begin for p in passes), sum(p.begin_ns <= end for p in passes)))
        for begin, end, value in read
    ]


def windows_read(
    read: Sequence[tuple[int, int, int]], quota: DamosQuota, achieved: int, passes: Sequence[Pass]
) -> list[Check]:
    """Check by values read once a pass that the tuner takes one step in each window of a reset interval.

    ``read``: (begin_ns, end_ns, value). For a constant score ``achieved`` that changes the size each time.
    The first window is left out: before 6.18 it has no size.
    """
    changes = [(a, b) for a, b in pairwise(read) if a[2] != b[2]][1:]
    steps = list(dict.fromkeys(sizes(quota, [achieved] * (len(read) + 2))))
    following = dict(pairwise(steps))
    wrong = [f"{a[2]} became {b[2]}" for a, b in changes if following.get(a[2]) != b[2]]
    m = Measurement("changes of effective_bytes that are not one step", float(len(wrong)), "count")
    why = f"the tuner takes one step a window (§4.4); {len(changes)} windows"
    enough = len(changes) >= _FEW
    step = Check("closed form", m, "== 0", why, not wrong if enough else None, "; ".join(wrong[:3]))
    reset_ns = quota.reset_interval_ms * NSEC_PER_MSEC
    gaps = [b[1] - a[1] for (_, a), (_, b) in pairwise(changes)]
    # A window begins with the first pass after its reset interval. When it is read matters at both ends only.
    apart_ns = mean([b.begin_ns - a.begin_ns for a, b in pairwise(passes)] or [0])
    look_ns = max((b[1] - a[1] for a, b in pairwise(read)), default=0) / max(1, len(gaps))
    window_ns = mean(gaps or [0])
    low, high = reset_ns - 2 * TICK_NS - look_ns, reset_ns + apart_ns + 2 * TICK_NS + look_ns
    m = Measurement("mean window", window_ns / NSEC_PER_MSEC, "ms", tuple(g / NSEC_PER_MSEC for g in gaps))
    limit = f"{number(low / NSEC_PER_MSEC)} to {number(high / NSEC_PER_MSEC)}"
    holds = low <= window_ns <= high if enough else None
    why = f"a window lasts {quota.reset_interval_ms} ms, rounded up to the next pass (§4.4)"
    return [step, Check("invariant", m, limit, why, holds, invariant="I45")]


# --- how fast, how far ----------------------------------------------------------------------------


def doublings(size: int) -> int:
    """Return how many evaluations with a score of 0 it takes from the start to reach ``size`` bytes."""
    bp, count = 0, 0
    while bp < size * BP:
        bp, count = feedback(max(bp, BP), 0), count + 1
    return count


def settled_after(values: Sequence[float], goal: float, tolerance: float) -> int | None:
    """Return the index from which on all values are within ``tolerance`` of the goal, or None.

    ``tolerance``: a fraction of the goal.
    """
    outside = [i for i, value in enumerate(values) if abs(value - goal) > tolerance * goal]
    after = outside[-1] + 1 if outside else 0
    return after if after < len(values) else None


def overshoot(values: Sequence[float], goal: float) -> float:
    """Return how far the largest value exceeds the goal, as a fraction of the goal."""
    return max((value - goal for value in values), default=0.0) / goal
