# SPDX-License-Identifier: GPL-2.0
"""Every pattern of the library, started for a moment: on this machine, and on the reference."""

from __future__ import annotations

import numpy as np
import pytest
from engine_starter import Starter

from damon_tests.experiment.reference_backend import ReferenceBackend
from damon_tests.kernel.guest.topology import Topology
from damon_tests.patterns.load import load, names
from damon_tests.ports import NSEC_PER_MSEC, NotSupported
from damon_tests.workload.pattern_truth import PatternTruth

PAGE = 4096
A_MOMENT_NS = 200 * NSEC_PER_MSEC

# Patterns with memory control groups would create groups on this machine, which tests must not change.
ONLY_IN_GUESTS = {"own_memcg"}

GUEST = Topology(numa_nodes=2, hugetlb_pages=16)
"""Patterns that need far memory or reserved huge pages."""


def is_idle(name: str) -> bool:
    return not any(phase.accesses for phase in load(name).phases)


@pytest.mark.parametrize("name", sorted(set(names()) - ONLY_IN_GUESTS))
def test_pattern_runs_on_this_machine(start: Starter, name: str) -> None:
    try:
        target = start(load(name))
    except NotSupported as error:
        pytest.skip(str(error))
    target.go()
    start.machine.clock.run_for(A_MOMENT_NS)
    target.stop()
    assert target._failure is None
    truth, status = target.truth(), target.status()
    assert status.passes_dropped == 0
    assert (status.passes_logged > 0) == (not is_idle(name))
    # Only planned pages are touched.
    go = truth.span_ns()[0]
    plan = PatternTruth(target.pattern, target.layout, target.seed, go)
    starts = [a for a, _ in target.layout.values()]
    pages = np.concatenate([np.arange(a // PAGE - 8, a // PAGE + 8192) for a in starts])
    begin, end = truth.span_ns()
    touched, planned = truth.touched(pages, begin, end), plan.touched(pages, begin, end)
    assert not (touched & ~planned).any()


@pytest.mark.parametrize("name", names())
def test_pattern_runs_on_the_reference(name: str) -> None:
    subject = ReferenceBackend("7.3").subject(3, GUEST)
    try:
        target = subject.start_target(load(name), 5)
    except NotSupported as error:
        pytest.skip(str(error))
    target.go()
    subject.clock.run_for(10 * A_MOMENT_NS)
    assert sum(target.accesses().values()) > 0 or is_idle(name)
    assert subject.vmas(target)
    target.stop()
    assert subject.vmas(target) == ()
    subject.close()
