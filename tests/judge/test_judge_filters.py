# SPDX-License-Identifier: GPL-2.0
"""What filter lists let through, by hand; and agreement with the worked examples of the specification."""

import itertools

import numpy as np
import pytest

from damon_tests.damon.params import ANY, Damos, DamosFilter
from damon_tests.judge.schemes.filters import (
    PageFacts,
    allowed_by_core,
    folio_bytes,
    passed_bounds,
    separate_ranges,
    verdicts,
)

HUGE = 2 << 20
PAGE = 4096


def pages(count=4, **facts):
    """Small anonymous pages from address 0 on, except for ``facts``."""
    values = {
        "address": np.arange(count) * PAGE,
        "target_idx": np.zeros(count, np.int64),
        "folio_bytes": np.full(count, PAGE),
        "met": np.ones(count, bool),
        "anon": np.ones(count, bool),
        "active": np.zeros(count, bool),
        "young": np.zeros(count, bool),
        "unmapped": np.zeros(count, bool),
        "memcg": np.full(count, "/"),
    }
    values.update({name: np.array(value) for name, value in facts.items()})
    return PageFacts(**values)


def allow(type_="anon", matching=True, **more):
    return DamosFilter(type_, matching, True, **more)


def reject(type_="anon", matching=True, **more):
    return DamosFilter(type_, matching, False, **more)


MIXED = pages(anon=[True, True, False, False], active=[True, False, True, False])


@pytest.mark.parametrize(
    ("filters", "passed"),
    [
        ((), [False] * 4),  # stat does not look at pages without a filter
        ((reject(),), [False, False, True, True]),
        ((allow(),), [True, True, False, False]),
        ((reject(matching=False),), [True, True, False, False]),
        ((allow(matching=False),), [False, False, True, True]),
        ((allow(), reject("active")), [True, True, False, True]),
        ((reject("active"), allow()), [False, True, False, False]),
        ((allow("active"), allow()), [True, True, True, False]),
        ((reject(), allow("active")), [False, False, True, False]),
    ],
)
def test_first_match_decides_and_the_last_filter_makes_the_default(filters, passed):
    assert verdicts(Damos("stat", ANY, ops_filters=filters), MIXED, "paddr").passed.tolist() == passed


def test_directories_are_evaluated_in_their_order():
    scheme = Damos("stat", ANY, ops_filters=(allow(),), filters=(reject(),))
    assert verdicts(scheme, MIXED, "paddr").passed.tolist() == [True] * 4
    scheme = Damos("stat", ANY, ops_filters=(reject(),), filters=(allow(),))
    assert not verdicts(scheme, MIXED, "paddr").passed.any()


def test_address_ranges_are_aligned_down():
    scheme = Damos("stat", ANY, core_filters=(allow("addr", addr_start=PAGE + 5, addr_end=3 * PAGE + 5),))
    assert verdicts(scheme, pages(), "fvaddr").tried.tolist() == [False, True, True, False]


def test_core_default_leaves_the_word_to_page_filters():
    core = (allow("addr", addr_start=0, addr_end=PAGE),)
    alone = Damos("stat", ANY, core_filters=core)
    assert verdicts(alone, MIXED, "paddr").tried.tolist() == [True, False, False, False]
    both = Damos("stat", ANY, core_filters=core, ops_filters=(allow(matching=False),))
    seen = verdicts(both, MIXED, "paddr")
    assert seen.tried.all()
    # The first page is not shown to page filters; the others are.
    assert seen.passed.tolist() == [True, False, True, True]
    assert allowed_by_core(both, MIXED)[1].tolist() == [True, False, False, False]


def test_targets():
    scheme = Damos("stat", ANY, core_filters=(reject("target", damon_target_idx=1),))
    assert verdicts(scheme, pages(2, target_idx=[0, 1]), "vaddr").tried.tolist() == [True, False]


def test_pageout_of_physical_memory_spares_the_young():
    young = pages(2, young=[True, False])
    assert verdicts(Damos("pageout", ANY), young, "paddr").acted_on.tolist() == [False, True]
    assert verdicts(Damos("pageout", ANY), young, "vaddr").acted_on.all()
    # A filter of the user's takes its place; a core filter that allows makes it void.
    asked = Damos("pageout", ANY, ops_filters=(allow("young"),))
    assert verdicts(asked, young, "paddr").acted_on.tolist() == [True, False]
    allowed = Damos("pageout", ANY, core_filters=(allow("target"),))
    assert verdicts(allowed, young, "paddr").acted_on.all()
    # It comes last, and does not change what happens without a match.
    anon = pages(2, young=[True, False], anon=[False, False])
    assert not verdicts(Damos("pageout", ANY, ops_filters=(allow(),)), anon, "paddr").acted_on.any()


def test_hints_about_virtual_memory_ask_no_page_filter():
    seen = verdicts(Damos("pageout", ANY, ops_filters=(reject(),)), pages(), "vaddr")
    assert seen.acted_on.all()
    assert seen.passed_bytes == 0
    assert seen.tried_bytes == 4 * PAGE


def test_pages_that_are_not_met_pass_nothing():
    scheme = Damos("stat", ANY, ops_filters=(allow(),))
    assert passed_bounds(scheme, [pages(), pages(met=[True, False, True, True])], "paddr") == (
        3 * PAGE,
        4 * PAGE,
    )


def test_folios_count_whole_and_once():
    address = np.arange(512) * PAGE + HUGE
    huge = pages(512, address=address, folio_bytes=np.full(512, HUGE))
    assert folio_bytes(huge, np.arange(512) > 500) == HUGE
    two = PageFacts.joined(
        [huge, pages(512, address=address, folio_bytes=np.full(512, HUGE), target_idx=np.ones(512))]
    )
    assert folio_bytes(two, np.ones(1024, bool)) == 2 * HUGE


def test_ranges_are_apart_and_of_whole_folios():
    small = pages(100)
    ranges = separate_ranges(small, 40 * PAGE)
    assert ranges == ((0, 40 * PAGE), (41 * PAGE, 81 * PAGE), (82 * PAGE, 99 * PAGE))
    huge = pages(4 * 512, address=np.arange(4 * 512) * PAGE + HUGE, folio_bytes=np.full(4 * 512, HUGE))
    assert separate_ranges(huge) == ((HUGE, 2 * HUGE), (3 * HUGE, 4 * HUGE))
    joined = separate_ranges(PageFacts.joined([small, huge]), 40 * PAGE)
    assert all(a[1] < b[0] for a, b in itertools.pairwise(joined))
