# SPDX-License-Identifier: GPL-2.0
"""Charts of a scheme's passes: the bytes tried in each charge window against the quota, the tuner's steps."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from damon_tests.damon.params import Damos, DamosQuota
from damon_tests.damon.trace import EszEvent
from damon_tests.judge.chart import SECONDS, Chart, Panel, curve
from damon_tests.judge.schemes.quota_passes import Pass
from damon_tests.ports import NSEC_PER_MSEC, NSEC_PER_SEC

_BP = 10_000


def quota_chart(passes: Sequence[Pass], scheme: Damos, sizes: Sequence[int] | None = None) -> Chart | None:
    """Return the bytes tried in each pass and, added up, in each charge window, beside the quota.

    ``sizes``: the effective quota at each pass, perhaps of more passes; None: the requested one.
    """
    if not passes:
        return None
    seconds = _seconds(passes)
    tried = [sum(e.end - e.start for e in p.applied) for p in passes]
    quota = [scheme.quota.bytes] * len(passes) if sizes is None else list(sizes)[: len(passes)]
    bytes_ = [
        curve("tried in a pass", seconds, tried, "dots"),
        curve("charged in the window so far", seconds, _charged(passes, tried, scheme.quota), "steps"),
    ]
    if any(quota):
        bytes_.append(curve("quota", seconds[: len(quota)], quota, "expected steps"))
    panels = [Panel("bytes", tuple(bytes_))]
    exceeded = [p.stat.qt_exceeds for p in passes if p.stat is not None]
    if len(exceeded) == len(passes):
        panels.append(Panel("qt_exceeds", (curve("qt_exceeds", seconds, exceeded, "steps"),)))
    return Chart("bytes tried, against the quota", tuple(panels), x_label=_LABEL)


def tuner_chart(
    passes: Sequence[Pass],
    quota: DamosQuota,
    effective: Sequence[int | None],
    expected: Sequence[Sequence[int]] = (),
    scores: Callable[[Pass], Sequence[int]] | None = None,
    current: Callable[[Pass], tuple[int, int]] | None = None,
) -> Chart | None:
    """Return the goal's value, the score and the effective quota at each pass.

    ``effective``: the size in force after each pass, None where it is unknown. ``expected``: the sizes that
    the tuner may have after each pass. ``scores``: the possible scores of a pass, in bp; ``current``: the
    lowest and highest measured value of the goal's metric.
    """
    if not passes:
        return None
    seconds = _seconds(passes)
    known = [float("nan") if size is None else float(size) for size in effective]
    sizes = [curve("effective quota", seconds, known, "steps")]
    if expected:
        count = min(len(expected), len(seconds))
        sizes.append(
            curve("expected", seconds[:count], [float(max(e)) for e in expected[:count]], "expected steps")
        )
    panels = []
    if current is not None:
        lows, highs = zip(*(current(p) for p in passes), strict=True)
        targets = [goal.target_value for goal in quota.goals[:1]]
        values = [
            curve("measured, lowest", seconds, lows, "steps"),
            curve("highest", seconds, highs, "steps"),
        ]
        values += [curve("target", seconds, [t] * len(seconds), "expected") for t in targets]
        panels.append(Panel(f"value of the goal, {quota.goals[0].target_metric}", tuple(values)))
    if scores is not None:
        achieved = [max(scores(p), default=0) / _BP for p in passes]
        goal = curve("achieved", seconds, [1.0] * len(seconds), "expected")
        panels.append(Panel("score, share of the goal", (curve("score", seconds, achieved, "steps"), goal)))
    tried = [sum(e.end - e.start for e in p.applied) for p in passes]
    panels.append(Panel("quota, bytes", (*sizes, curve("tried in a pass", seconds, tried, "dots"))))
    return Chart(
        f"the goal and the quota that the {quota.goal_tuner} tuner set", tuple(panels), x_label=_LABEL
    )


def sizes_chart(
    traced: Sequence[EszEvent],
    quota: DamosQuota,
    scores: Callable[[int], Sequence[int]],
    expected: Sequence[int] = (),
) -> Chart | None:
    """Return the traced effective quotas and the score at the time of each.

    ``scores``: the possible scores at a time in ns, bp. ``expected``: the sizes that the tuner sets.
    """
    if not traced:
        return None
    seconds = [(event.time_ns - traced[0].time_ns) / NSEC_PER_SEC for event in traced]
    sizes = [curve("effective quota", seconds, [event.esz for event in traced], "steps")]
    if expected:
        sizes.append(curve("expected", seconds[: len(expected)], expected[: len(seconds)], "expected steps"))
    achieved = [max(scores(event.time_ns), default=0) / _BP for event in traced]
    panels = (
        Panel(
            "score, share of the goal",
            (
                curve("score", seconds, achieved, "steps"),
                curve("achieved", seconds, [1.0] * len(seconds), "expected"),
            ),
        ),
        Panel("quota, bytes", tuple(sizes)),
    )
    label = SECONDS.replace("recording began", "the first traced size")
    return Chart(f"the score and the quota that the {quota.goal_tuner} tuner set", panels, x_label=label)


_LABEL = SECONDS.replace("recording began", "the first pass")


def _seconds(passes: Sequence[Pass]) -> list[float]:
    return [(p.begin_ns - passes[0].begin_ns) / NSEC_PER_SEC for p in passes]


def _charged(passes: Sequence[Pass], tried: Sequence[int], quota: DamosQuota) -> list[int]:
    """Return the bytes tried since the charge window of each pass began, this pass included."""
    reset_ns = quota.reset_interval_ms * NSEC_PER_MSEC
    sums, began, total = [], passes[0].begin_ns, 0
    for pass_, size in zip(passes, tried, strict=True):
        if pass_.begin_ns - began >= reset_ns:
            began, total = pass_.begin_ns, 0
        total += size
        sums.append(total)
    return sums
