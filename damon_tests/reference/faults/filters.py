# SPDX-License-Identifier: GPL-2.0
"""Wrong filters: order, matching, defaults of the core and ops layers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from damon_tests.ports.arrays import I64, Bools
from damon_tests.reference.faults.fault import Fault
from damon_tests.reference.rules import filters


def _inverted(wrong: str) -> Callable[[str, Bools], Bools]:
    def hit(kind: str, hits: Bools) -> Bools:
        return ~hits if kind == wrong else hits

    return hit


def _none(wrong: str) -> Callable[[str, Bools], Bools]:
    def hit(kind: str, hits: Bools) -> Bools:
        return np.zeros(len(hits), np.bool_) if kind == wrong else hits

    return hit


def _all(wrong: str) -> Callable[[str, Bools], Bools]:
    def hit(kind: str, hits: Bools) -> Bools:
        return np.ones(len(hits), np.bool_) if kind == wrong else hits

    return hit


def _every_eighth(kind: str, hits: Bools) -> Bools:
    return hits | (np.arange(len(hits)) % 8 == 1) if kind == "young" else hits


def _with_children(path: str, known: Any) -> Sequence[str]:
    return [path, *(other for other in known if other.startswith(path))]


def _above_minimum(sizes: I64, low: int, high: int) -> Bools:
    return filters.size_within(sizes, low + 1, high)


def _below_maximum(sizes: I64, low: int, high: int) -> Bools:
    return filters.size_within(sizes, low, high - 1)


FAULTS = (
    Fault(
        "filter_matching_ignored",
        "filters",
        "matching N behaves as Y",
        "filter_verdict",
        lambda hit, matching, allow: allow if hit else None,
    ),
    Fault(
        "filter_allow_ignored",
        "filters",
        "allow filters reject (no allow before 6.14)",
        "filter_verdict",
        lambda hit, matching, allow: False if hit == matching else None,
    ),
    Fault(
        "filter_core_default_allow",
        "filters",
        "what no core filter matches is allowed",
        "core_default_reject",
        lambda allows_last, has_ops: False,
    ),
    Fault(
        "filter_core_default_reject",
        "filters",
        "core filters reject before page filters are asked",
        "core_default_reject",
        lambda allows_last, has_ops: allows_last,
    ),
    Fault(
        "filter_ops_default_allow",
        "filters",
        "what no page filter matches is allowed",
        "ops_default_reject",
        lambda allows_last: False,
    ),
    Fault(
        "filter_core_allow_not_final",
        "filters",
        "page filters are asked although a core filter allowed",
        "core_allow_is_final",
        False,
    ),
    Fault(
        "page_filters_ask_core_filters",
        "filters",
        "page filters also ask filters of the core layer, as if none of them were true (6.12)",
        "page_filters_ask_core_filters",
        True,
    ),
    Fault(
        "filters_last_directory_first",
        "filters",
        "filters/ is evaluated before the others",
        "filter_order",
        lambda core, ops, both: [*both, *core, *ops],
    ),
    Fault(
        "filters_reversed",
        "filters",
        "the last filter that matches decides",
        "filter_order",
        lambda core, ops, both: [*core, *ops, *both][::-1],
    ),
    Fault(
        "filters_first_only",
        "filters",
        "only the first filter of a scheme is installed",
        "filter_order",
        lambda core, ops, both: [*core, *ops, *both][:1],
    ),
    Fault(
        "filter_addr_not_aligned",
        "filters",
        "borders of address filters are not aligned to pages",
        "address_range",
        lambda start, end, m: (start, end),
    ),
    Fault(
        "filter_addr_aligned_up",
        "filters",
        "the end of an address filter is aligned up",
        "address_range",
        lambda start, end, m: (filters.address_range(start, end, m)[0], -(-end // m) * m),
    ),
    Fault(
        "filter_addr_takes_whole_regions",
        "filters",
        "a region that crosses a border is taken as inside",
        "address_filter_cuts",
        False,
    ),
    Fault(
        "filter_target_off_by_one",
        "filters",
        "targets are counted from 1",
        "target_is",
        lambda index, wanted: index + 1 == wanted,
    ),
    Fault(
        "filter_target_matches_all",
        "filters",
        "the target's index is ignored",
        "target_is",
        lambda index, wanted: True,
    ),
    Fault("filter_anon_inverted", "filters", "anon means file", "page_filter_hit", _inverted("anon")),
    Fault(
        "filter_active_inverted",
        "filters",
        "active means inactive",
        "page_filter_hit",
        _inverted("active"),
    ),
    Fault("filter_active_never", "filters", "active is never true", "page_filter_hit", _none("active")),
    Fault(
        "filter_unmapped_always",
        "filters",
        "unmapped is always true",
        "page_filter_hit",
        _all("unmapped"),
    ),
    Fault("filter_young_always", "filters", "young is always true", "page_filter_hit", _all("young")),
    Fault(
        "filter_young_one_in_eight",
        "filters",
        "one in eight pages is young whether or not it was accessed",
        "page_filter_hit",
        _every_eighth,
    ),
    Fault("filter_young_never", "filters", "young is never true", "page_filter_hit", _none("young")),
    Fault(
        "filter_memcg_never",
        "filters",
        "memcg is never true: paths are compared wrongly",
        "page_filter_hit",
        _none("memcg"),
    ),
    Fault(
        "filter_hugepage_min_exclusive",
        "filters",
        "a folio of the least size does not match",
        "size_within",
        _above_minimum,
    ),
    Fault(
        "filter_hugepage_max_exclusive",
        "filters",
        "a folio of the largest size does not match",
        "size_within",
        _below_maximum,
    ),
    Fault(
        "filter_memcg_with_children",
        "filters",
        "memcg is true for groups below it, too",
        "memcgs_meant",
        _with_children,
    ),
    Fault(
        "filter_young_keeps_young",
        "filters",
        "asking whether a page is young leaves it young",
        "asking_makes_old",
        False,
    ),
    Fault(
        "filter_counts_folios_twice",
        "filters",
        "a folio counts once for each region that has a part of it",
        "folio_counts_once",
        False,
    ),
    Fault(
        "filters_of_commit_lost",
        "filters",
        "filters stay what they were when a commit changes them",
        "commit_takes_filters",
        False,
    ),
)
