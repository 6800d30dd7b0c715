# SPDX-License-Identifier: GPL-2.0
"""Which pages filter lists let through, worked out by hand."""

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
    """Return small anonymous pages from address 0 on, with the attributes of ``facts``."""
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
        ((), [False] * 4),  # stat visits no page without a filter
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
def test_first_match_decides_and_last_filter_sets_default(filters, passed):
    assert verdicts(Damos("stat", ANY, ops_filters=filters), MIXED, "paddr").passed.tolist() == passed


def test_ops_filters_are_evaluated_before_filters():
    scheme = Damos("stat", ANY, ops_filters=(allow(),), filters=(reject(),))
    assert verdicts(scheme, MIXED, "paddr").passed.tolist() == [True] * 4
    scheme = Damos("stat", ANY, ops_filters=(reject(),), filters=(allow(),))
    assert not verdicts(scheme, MIXED, "paddr").passed.any()


def test_address_ranges_are_aligned_down():
    scheme = Damos("stat", ANY, core_filters=(allow("addr", addr_start=PAGE + 5, addr_end=3 * PAGE + 5),))
    assert verdicts(scheme, pages(), "fvaddr").tried.tolist() == [False, True, True, False]


def test_page_filters_decide_what_no_core_filter_matches():
    core = (allow("addr", addr_start=0, addr_end=PAGE),)
    alone = Damos("stat", ANY, core_filters=core)
    assert verdicts(alone, MIXED, "paddr").tried.tolist() == [True, False, False, False]
    both = Damos("stat", ANY, core_filters=core, ops_filters=(allow(matching=False),))
    result = verdicts(both, MIXED, "paddr")
    assert result.tried.all()
    # Page filters do not apply to the first page.
    assert result.passed.tolist() == [True, False, True, True]
    assert allowed_by_core(both, MIXED)[1].tolist() == [True, False, False, False]


def test_target_filter_rejects_its_target():
    scheme = Damos("stat", ANY, core_filters=(reject("target", damon_target_idx=1),))
    assert verdicts(scheme, pages(2, target_idx=[0, 1]), "vaddr").tried.tolist() == [True, False]


def test_paddr_pageout_rejects_young_pages():
    young = pages(2, young=[True, False])
    assert verdicts(Damos("pageout", ANY), young, "paddr").acted_on.tolist() == [False, True]
    assert verdicts(Damos("pageout", ANY), young, "vaddr").acted_on.all()
    # A young filter of the user's replaces it; a core filter that allows bypasses it.
    asked = Damos("pageout", ANY, ops_filters=(allow("young"),))
    assert verdicts(asked, young, "paddr").acted_on.tolist() == [True, False]
    allowed = Damos("pageout", ANY, core_filters=(allow("target"),))
    assert verdicts(allowed, young, "paddr").acted_on.all()
    # It comes last, and does not change what happens without a match.
    anon = pages(2, young=[True, False], anon=[False, False])
    assert not verdicts(Damos("pageout", ANY, ops_filters=(allow(),)), anon, "paddr").acted_on.any()


def test_vaddr_pageout_ignores_page_filters():
    result = verdicts(Damos("pageout", ANY, ops_filters=(reject(),)), pages(), "vaddr")
    assert result.acted_on.all()
    assert result.passed_bytes == 0
    assert result.tried_bytes == 4 * PAGE


def test_page_on_no_lru_list_does_not_pass():
    scheme = Damos("stat", ANY, ops_filters=(allow(),))
    assert passed_bounds(scheme, [pages(), pages(met=[True, False, True, True])], "paddr") == (
        3 * PAGE,
        4 * PAGE,
    )


def test_folio_is_counted_whole_and_once():
    address = np.arange(512) * PAGE + HUGE
    huge = pages(512, address=address, folio_bytes=np.full(512, HUGE))
    assert folio_bytes(huge, np.arange(512) > 500) == HUGE
    two = PageFacts.joined(
        [huge, pages(512, address=address, folio_bytes=np.full(512, HUGE), target_idx=np.ones(512))]
    )
    assert folio_bytes(two, np.ones(1024, bool)) == 2 * HUGE


def test_separate_ranges_do_not_touch_and_have_whole_folios():
    small = pages(100)
    ranges = separate_ranges(small, 40 * PAGE)
    assert ranges == ((0, 40 * PAGE), (41 * PAGE, 81 * PAGE), (82 * PAGE, 99 * PAGE))
    huge = pages(4 * 512, address=np.arange(4 * 512) * PAGE + HUGE, folio_bytes=np.full(4 * 512, HUGE))
    assert separate_ranges(huge) == ((HUGE, 2 * HUGE), (3 * HUGE, 4 * HUGE))
    joined = separate_ranges(PageFacts.joined([small, huge]), 40 * PAGE)
    assert all(a[1] < b[0] for a, b in itertools.pairwise(joined))
