# SPDX-License-Identifier: GPL-2.0
"""Filter lists in every order and mixture: what they let through, in bytes, against the state of each page.

Each test is a table of lists, a scheme for each in one context (judge.filtered); what must come out is
computed page by page from the specification (judge.filters).
"""

from dataclasses import replace
from itertools import product

import pytest

from damon_tests.damon.params import ANY, DamonCtx, Damos, DamosFilter
from damon_tests.ports import huge_page_size
from damon_tests.scenario.filtered_run import STILL, WatchedMemory, pass_once, table_holds

HUGE = huge_page_size()
ANON = DamosFilter("anon")
IS_HUGE = DamosFilter("hugepage_size", min=HUGE, max=HUGE)

PADDR = pytest.param("paddr", marks=pytest.mark.needs("ops.paddr"))
# stat asks page filters about virtual memory since 6.18, as does everything else that is new in it.
NEEDS_6_18 = pytest.mark.needs("ops.fvaddr", "ctx.addr_unit")
FVADDR = pytest.param("fvaddr", marks=NEEDS_6_18)
FVADDR_FULL = pytest.param("fvaddr", marks=[NEEDS_6_18, pytest.mark.profile("full")])
EITHER = pytest.mark.parametrize("operations", [PADDR, FVADDR])
KINDS = "kinds_of_memory"


def lists(kinds, lengths, *, allows=(False, True)):
    """Return all lists of these lengths of filters of these kinds,
    with either value of matching and allow."""
    variants = [replace(k, matching=m, allow=a) for k, m, a in product(kinds, (False, True), allows)]
    return [items for n in lengths for items in product(variants, repeat=n)]


def named(items):
    """A list in words."""
    words = []
    for f in items:
        which = {"hugepage_size": "huge", "addr": f"[{f.addr_start:#x}, {f.addr_end:#x})"}.get(f.type, f.type)
        what = f"target {f.damon_target_idx}" if f.type == "target" else which
        words.append(f"{'allow' if f.allow else 'reject'} {'' if f.matching else 'not '}{what}")
    return ", ".join(words) or "no filter"


def table_of(some, action="stat", directory=None):
    """A scheme for each list. The ends of some lists stand in ``filters/``, which comes after the others;
    ``directory`` "filters": all do."""
    table = {}
    for number, items in enumerate(some):
        cut = 0 if directory == "filters" else len(items)
        if not directory and number % 3 == 0:
            cut = number // 3 % (len(items) + 1)
        head, tail = items[:cut], items[cut:]
        core = tuple(f for f in head if f.type in ("addr", "target"))
        ops = tuple(f for f in head if f.type not in ("addr", "target"))
        scheme = Damos(action, ANY, core_filters=core, ops_filters=ops, filters=tuple(tail))
        table[named(items)] = scheme
    return table


def check(live, expect, operations, patterns, make, **options):
    """Apply the table of ``make(memory)`` at least once, and judge it."""
    with live(
        list(patterns),
        DamonCtx(operations, attrs=STILL),
        watched=1,
        cover="regions",
        source="none",
        **options,
    ) as run:
        memory = WatchedMemory(run, operations)
        table = pass_once(run, memory, make(memory))
    expect.add(table_holds(table))


def addr(memory, low, high, target=0):
    """A filter for a part of a target's ranges, by fractions; its borders are between ranges."""
    ranges = memory.ranges[target]
    first, last = ranges[int(low * len(ranges))], ranges[max(int(high * len(ranges)) - 1, 0)]
    return DamosFilter("addr", addr_start=first[0], addr_end=last[1])


@EITHER
@pytest.mark.needs("ops_filters.hugepage_size", "stats.sz_ops_filter_passed")
@pytest.mark.parametrize(
    "lengths", [(0, 1, 2), pytest.param((0, 3), marks=pytest.mark.profile("full"))], ids=["short", "long"]
)
def test_first_matching_page_filter_decides(live, expect, operations, lengths):
    """The first page filter that matches decides; a page that none
    matches passes unless the last filter allows."""
    check(live, expect, operations, [KINDS], lambda memory: table_of(lists((ANON, IS_HUGE), lengths)))


@pytest.mark.needs("ops.fvaddr", "core_filters.addr")
@pytest.mark.parametrize(
    "lengths", [(0, 1), pytest.param((0, 2), marks=pytest.mark.profile("full"))], ids=["short", "long"]
)
def test_first_matching_core_filter_decides(live, expect, lengths):
    """The first core filter that matches decides, by address range and by target, for whole regions."""

    def make(memory):
        kinds = (addr(memory, 0, 0.6), addr(memory, 0.3, 1), DamosFilter("target", damon_target_idx=1))
        return table_of(lists(kinds, lengths))

    check(live, expect, "fvaddr", [KINDS, KINDS], make)


@pytest.mark.parametrize("operations", [PADDR, FVADDR_FULL])
@pytest.mark.needs("core_filters.addr", "ops_filters.anon", "stats.sz_ops_filter_passed")
@pytest.mark.parametrize(
    "lengths", [(0, 1), pytest.param((0, 2), marks=pytest.mark.profile("full"))], ids=["short", "long"]
)
def test_core_filters_come_before_page_filters(live, expect, operations, lengths):
    """Core filters come first; page filters decide the rest, except what a core filter allows."""

    def make(memory):
        core = lists((addr(memory, 0, 0.5), DamosFilter("target", damon_target_idx=0)), lengths)
        return table_of([c + p for c, p in product(core, lists((ANON,), (0, 1)))])

    check(live, expect, operations, [KINDS], make)


@pytest.mark.needs("ops.fvaddr", "filters.addr")
def test_core_filters_without_allow_reject_what_matches(live, expect):
    """Without allow, as until 6.13, core filters reject whatever matches, in any order."""

    def make(memory):
        kinds = (addr(memory, 0, 0.6), addr(memory, 0.3, 1), DamosFilter("target", damon_target_idx=1))
        return table_of(lists(kinds, (0, 1, 2), allows=(False,)), directory="filters")

    check(live, expect, "fvaddr", [KINDS, KINDS], make)


@pytest.mark.needs("ops.paddr", "schemes.lru_deprio", "filters.anon")
def test_page_filters_without_allow_reject_what_matches(live, expect):
    """Without allow, page filters reject whatever matches, measured by how much lru_deprio is applied to."""

    def make(memory):
        kinds = (ANON, DamosFilter("memcg", memcg_path=memory.memcg()))
        return table_of(lists(kinds, (0, 1, 2), allows=(False,)), "lru_deprio", "filters")

    check(live, expect, "paddr", [KINDS], make)


@pytest.mark.known_defect("page-filters-ask-core-filters")
@pytest.mark.needs("ops.paddr", "schemes.lru_deprio", "filters.addr")
def test_filters_of_both_layers_without_allow_reject_what_matches(live, expect):
    """Without allow, page filters with core filters before, between
    and after them reject whatever matches."""

    def make(memory):
        kinds = (ANON, addr(memory, 0.2, 0.7))
        return table_of(lists(kinds, (0, 1, 2), allows=(False,)), "lru_deprio", "filters")

    check(live, expect, "paddr", [KINDS], make)
