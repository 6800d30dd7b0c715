# SPDX-License-Identifier: GPL-2.0
"""The samples of one metric of cost, and the call tree of the last one."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from damon_tests.judge.verdict import Measurement
from damon_tests.ports.cost import CallTree

EXACT_UNITS = ("instructions", "bytes")


@dataclass(frozen=True)
class CostSamples:
    """``metric``: its name ("check.fvaddr"). ``values``: raw samples in ``unit``, in the order taken.

    ``tree``: the call tree of the last window; None: instructions were not counted.
    """

    metric: str
    unit: str
    values: tuple[float, ...]
    tree: CallTree | None = None

    @property
    def median(self) -> float:
        return float(np.median(self.values))

    @property
    def measurement(self) -> Measurement:
        return Measurement(self.metric, self.median, self.unit, self.values)


def instructions(metric: str, values: Iterable[float], tree: CallTree | None = None) -> CostSamples:
    """Return the samples of a metric in guest instructions."""
    return CostSamples(metric, "instructions", tuple(values), tree)
