# SPDX-License-Identifier: GPL-2.0
"""Check that this machine shows accesses at all, before a suite judges accuracy.

DAMON clears accessed bits without flushing the TLB. Where translations stay cached (large TLBs, software
emulation), memory in use looks idle, and accuracy numbers would describe the machine instead of DAMON. The
workload flushes its translations; this check measures whether that is enough.
"""

from __future__ import annotations

import numpy as np

from damon_tests.damon.params import DamonAttrs, DamonCtx
from damon_tests.experiment.backend import Backend
from damon_tests.experiment.experiment import Experiment
from damon_tests.experiment.trial import Trial
from damon_tests.judge.monitoring.judged_windows import comparison
from damon_tests.judge.verdict import Check, Measurement
from damon_tests.patterns import load
from damon_tests.ports import NSEC_PER_SEC
from damon_tests.ports.numbers import number

LEAST = 0.75
"""Least share of the sampling intervals in which DAMON must see a hot page accessed: 15 of 20. Guests that
hide accesses measured 0; guests that show them measured 0.7 to 1 for a set a quarter of this size."""

_ATTRS = DamonAttrs(min_nr_regions=16, max_nr_regions=64)
_SETTLED_S = 0.5
_DURATION_NS = 2 * NSEC_PER_SEC


def visibility(backend: Backend, run_seed: int) -> Check:
    """Check the mean reported access rate of a 1 MiB set that is in use all the time.

    The value is a fraction of the sampling intervals, the median over windows. Below ``LEAST``, ``holds`` is
    None: INCONCLUSIVE, never a skip, because a DAMON that sees nothing looks the same.
    """
    ctx = DamonCtx("fvaddr", attrs=_ATTRS)
    experiment = Experiment(load.load("visibility"), ctx, _DURATION_NS, "regions")
    observation = Trial(experiment, backend, test_id="visibility", run_seed=run_seed).observe()
    c = comparison(observation, _SETTLED_S)
    weight = c.per_window(c.size * c.true)
    rates = c.per_window(c.size * np.minimum(c.seen, c.true)) / np.maximum(weight, 1)
    value = float(np.median(rates)) if len(rates) else 0.0
    m = Measurement("accesses shown by this machine", value, "fraction", tuple(rates.tolist()))
    why = "DAMON must see a 1 MiB hot set before its accuracy is judged"
    detail = (
        ""
        if value >= LEAST
        else "in a guest, boot with pti=on; see the README, 'Machines that hide accesses'"
    )
    return Check("closed form", m, f">= {number(LEAST)}", why, True if value >= LEAST else None, detail)
