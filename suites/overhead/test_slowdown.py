# SPDX-License-Identifier: GPL-2.0
"""How much monitoring slows the monitored process down, in pairs of windows without DAMON and with it."""

import pytest

from damon_tests.damon.params import DamonAttrs
from damon_tests.judge.cost.budget import paired
from damon_tests.judge.verdict import Measurement
from damon_tests.patterns.load import load
from damon_tests.scenario.slowdown import slowdown

pytestmark = [pytest.mark.profile("full"), pytest.mark.needs("ops.vaddr", instructions=1)]


@pytest.mark.parametrize("pattern", ["hot_cold", "zipf"])
def test_monitoring_does_not_slow_its_target_down(backend, expect, budgets, pattern):
    """With default intervals and limits the process executes as much for an access as without DAMON, and
    kdamond flushes no TLB."""
    budget = budgets["slowdown.workload"]
    with slowdown(backend, load(pattern), DamonAttrs()) as measured:
        check = paired(budget, budget.of(backend.level), measured.pair)
        windows = measured.windows
    expect.add(check)
    flushes = tuple(float(w.kdamond_flushes) for w in windows)
    m = Measurement("TLB flushes by kdamond", sum(flushes), "count", flushes)
    expect.equal(m, 0, because="checks clear accessed bits without flushing TLBs, whose refills cost time")
