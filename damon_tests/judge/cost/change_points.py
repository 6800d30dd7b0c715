# SPDX-License-Identifier: GPL-2.0
"""Find the runs at which the level of a metric's history changed, with ruptures (PELT)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from damon_tests.ports import NotSupported

LEAST_STEP = 0.0025
"""The smallest step, as a fraction of the level; the same bound as in comparisons."""


@dataclass(frozen=True)
class ChangePoint:
    """From the run at ``index`` on, the level is ``after`` instead of ``before``."""

    index: int
    before: float
    after: float

    @property
    def change(self) -> float:
        return self.after / self.before - 1


def change_points(values: Sequence[float], least_step: float = LEAST_STEP) -> list[ChangePoint]:
    """Return the changes of level in a sequence of medians, in order; none for fewer than two medians.

    The penalty of a step is what ``least_step`` of the level saves on one run, or what the noise of
    neighbouring runs saves, whichever is larger. Raises NotSupported without ruptures.
    """
    if len(values) < 2 or not np.median(values):
        return []
    try:
        import ruptures
    except ImportError:
        raise NotSupported(
            "change points need the package ruptures", remedy="pip install 'damon-tests[history]'"
        ) from None
    levels = np.asarray(values, dtype=float) / np.median(values)
    ends = ruptures.Pelt(model="l2", min_size=1, jump=1).fit(levels).predict(pen=_penalty(levels, least_step))
    starts = [0, *ends[:-1]]
    means = [float(np.mean(values[a:b])) for a, b in zip(starts, ends, strict=True)]
    pairs = zip(starts[1:], means[:-1], means[1:], strict=True)
    points = [ChangePoint(index, before, after) for index, before, after in pairs]
    return [point for point in points if abs(point.change) >= least_step]


def _penalty(levels: np.ndarray, least_step: float) -> float:
    """Return PELT's penalty of a segment.

    Noise is the median difference of neighbours, which few steps do not change.
    """
    noise = float(np.median(np.abs(np.diff(levels)))) / 0.6745 / np.sqrt(2)
    return float(max(least_step**2 / 2, 4 * np.log(len(levels)) * noise**2))
