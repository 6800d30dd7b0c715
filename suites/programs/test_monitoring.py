# SPDX-License-Identifier: GPL-2.0
"""DAMON watches real programs: its reports are consistent, and those of a correct DAMON."""

import pytest

from damon_tests.damon.params import DamonAttrs, DamonCtx
from damon_tests.judge.monitoring.all_invariants import of_attempt
from damon_tests.scenario.program_fixture import observing
from damon_tests.scenario.reference_bands import like_the_reference

pytestmark = [pytest.mark.profile("full"), pytest.mark.needs("damon_aggregated", instructions=1)]

PROGRAMS = ("memcached", "python3", "redis", "sqlite3", "tcc", "xz")
TUNED = DamonAttrs(sample_us=5_000, aggr_us=100_000, min_nr_regions=500, max_nr_regions=5_000)
SETTINGS = {"defaults": DamonAttrs(), "tuned": TUNED}

METRICS = ("precision", "recall", "working set", "rate error", "rate excess", "regions")
"""Not the access rate itself: a translation that stays cached hides accesses from DAMON, so that a kernel may
report fewer than the reference, which sees all."""


@pytest.mark.needs("ops.vaddr")
@pytest.mark.parametrize("setting", SETTINGS)
@pytest.mark.parametrize("name", PROGRAMS)
def test_address_space_is_reported_as_by_a_correct_damon(program, expect, name, setting):
    """The report of a program's address space obeys all invariants and is as good as the reference's."""
    attempt = program(name, DamonCtx("vaddr", attrs=SETTINGS[setting]), seconds=2)
    expect.add(of_attempt(attempt(1).certain()))
    expect.add(like_the_reference(observing(attempt), METRICS, after_s=0.5))


@pytest.mark.needs("ops.paddr")
@pytest.mark.parametrize("name", PROGRAMS)
def test_physical_memory_is_reported_within_invariants(program, expect, name):
    """The report of all physical memory, while a program uses a little of it, obeys all invariants."""
    made = program(name, DamonCtx("paddr"), seconds=2)(1)
    expect.add(of_attempt(made.certain()))
