# SPDX-License-Identifier: GPL-2.0
"""Schemes on real programs choose the memory that they should, by what is accessed afterwards."""

import pytest

from damon_tests.damon import trace
from damon_tests.damon.params import U32_MAX, U64_MAX, DamonAttrs, DamonCtx, Damos, DamosAccessPattern
from damon_tests.judge.schemes.needed_memory import needed_again, needed_by_chance
from damon_tests.judge.verdict import Measurement

pytestmark = [
    pytest.mark.profile("full"),
    pytest.mark.needs("ops.vaddr", "damos_before_apply", "damon_aggregated", instructions=1),
]

ATTRS = DamonAttrs(sample_us=5_000, aggr_us=50_000, min_nr_regions=200, max_nr_regions=1_000)
IDLE = DamosAccessPattern(0, U64_MAX, 0, 0, 4, U32_MAX)
BUSY = DamosAccessPattern(0, U64_MAX, 5, U32_MAX, 0, U32_MAX)
SECOND_NS = 10**9
PROGRAMS = ("python3", "redis")


def shares(program, name, scheme, seconds):
    """Return the shares of tried memory, and of all memory, that the program accesses within a second."""
    ctx = DamonCtx("vaddr", attrs=ATTRS, schemes=(scheme,))
    made = program(name, ctx, seconds=seconds, swap_mib=64, extra_events=(trace.BEFORE_APPLY,))(1)
    truth = made.certain().truth
    return needed_again(truth, made.events, SECOND_NS), needed_by_chance(truth, made.events, SECOND_NS)


def some_tried(expect, tried, because):
    """Expect that the scheme tried any regions."""
    expect.at_least(Measurement("regions tried", len(tried.samples), "regions"), 1, because=because)


@pytest.mark.parametrize("name", PROGRAMS)
def test_proactive_reclaim_spares_what_the_program_needs_soon(program, expect, name):
    """Of the memory that is paged out, less is accessed within a second than of memory chosen at random."""
    tried, chance = shares(program, name, Damos("pageout", IDLE), 2.5)
    some_tried(expect, tried, "a program always has memory that is idle for four aggregations")
    expect.at_most(
        tried, chance.value, because="regions that were idle hold less memory in use than all memory does"
    )


@pytest.mark.parametrize("name", PROGRAMS)
def test_hot_schemes_choose_what_the_program_uses(program, expect, name):
    """Of memory that a scheme for hot memory tries, more is accessed within a second than of all memory."""
    tried, chance = shares(program, name, Damos("stat", BUSY), 2.5)
    some_tried(expect, tried, "the program's stack is accessed all the time")
    expect.at_least(
        tried, chance.value, because="regions with many accesses hold more memory in use than others"
    )
