# SPDX-License-Identifier: GPL-2.0
"""Wrong filters (beside the order of verdicts, see ``damos_faults``) and watermarks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from damon_tests.ports.arrays import I64, Bools
from damon_tests.reference.faults.catalogue import Fault
from damon_tests.reference.rules import filters
from damon_tests.reference.rules import schemes as damos


def _filter(name: str, imitates: str, rule: str, wrong: Any) -> Fault:
    return Fault(name, "filters", imitates, rule, wrong)


def _marks(name: str, imitates: str, rule: str, wrong: Any) -> Fault:
    return Fault(name, "watermarks", imitates, rule, wrong)


def _inverted(wrong: str) -> Callable[[str, Bools], Bools]:
    def hit(kind: str, hits: Bools) -> Bools:
        return ~hits if kind == wrong else hits

    return hit


def _all(wrong: str) -> Callable[[str, Bools], Bools]:
    def hit(kind: str, hits: Bools) -> Bools:
        return np.ones(len(hits), np.bool_) if kind == wrong else hits

    return hit


def _none(wrong: str) -> Callable[[str, Bools], Bools]:
    def hit(kind: str, hits: Bools) -> Bools:
        return np.zeros(len(hits), np.bool_) if kind == wrong else hits

    return hit


def _above_minimum(sizes: I64, low: int, high: int) -> Bools:
    return filters.size_within(sizes, low + 1, high)


def _below_maximum(sizes: I64, low: int, high: int) -> Bools:
    return filters.size_within(sizes, low, high - 1)


def _with_children(path: str, known: Any) -> Sequence[str]:
    return [path, *(other for other in known if other.startswith(path))]


def _mid_ignored(value: int, high: int, mid: int, low: int, active: bool) -> bool:
    return low <= value <= high


def _high_ignored(value: int, high: int, mid: int, low: int, active: bool) -> bool:
    return value >= low and (active or value < mid)


def _borders_outside(value: int, high: int, mid: int, low: int, active: bool) -> bool:
    return low < value < high and (active or value < mid)


def _used_memory(value: int, high: int, mid: int, low: int, active: bool) -> bool:
    return damos.watermark_active(1000 - value, high, mid, low, active)


FAULTS = (
    _filter(
        "filters_last_directory_first",
        "filters/ is evaluated before the others",
        "filter_order",
        lambda core, ops, both: [*both, *core, *ops],
    ),
    _filter(
        "filters_reversed",
        "the last filter that matches decides",
        "filter_order",
        lambda core, ops, both: [*core, *ops, *both][::-1],
    ),
    _filter(
        "filters_first_only",
        "only the first filter of a scheme is installed",
        "filter_order",
        lambda core, ops, both: [*core, *ops, *both][:1],
    ),
    _filter(
        "filter_addr_not_aligned",
        "borders of address filters are not aligned to pages",
        "address_range",
        lambda start, end, m: (start, end),
    ),
    _filter(
        "filter_addr_aligned_up",
        "the end of an address filter is aligned up",
        "address_range",
        lambda start, end, m: (filters.address_range(start, end, m)[0], -(-end // m) * m),
    ),
    _filter(
        "filter_addr_takes_whole_regions",
        "a region that crosses a border is taken as inside",
        "address_filter_cuts",
        False,
    ),
    _filter(
        "filter_target_off_by_one",
        "targets are counted from 1",
        "target_is",
        lambda index, wanted: index + 1 == wanted,
    ),
    _filter(
        "filter_target_matches_all", "the target's index is ignored", "target_is", lambda index, wanted: True
    ),
    _filter("filter_anon_inverted", "anon means file", "page_filter_hit", _inverted("anon")),
    _filter("filter_active_inverted", "active means inactive", "page_filter_hit", _inverted("active")),
    _filter("filter_active_never", "active is never true", "page_filter_hit", _none("active")),
    _filter("filter_unmapped_always", "unmapped is always true", "page_filter_hit", _all("unmapped")),
    _filter("filter_young_always", "young is always true", "page_filter_hit", _all("young")),
    _filter("filter_young_never", "young is never true", "page_filter_hit", _none("young")),
    _filter(
        "filter_memcg_never",
        "memcg is never true: paths are compared wrongly",
        "page_filter_hit",
        _none("memcg"),
    ),
    _filter(
        "filter_memcg_with_children", "memcg is true for groups below it, too", "memcgs_meant", _with_children
    ),
    _filter(
        "filter_hugepage_min_exclusive",
        "a folio of the least size does not match",
        "size_within",
        _above_minimum,
    ),
    _filter(
        "filter_hugepage_max_exclusive",
        "a folio of the largest size does not match",
        "size_within",
        _below_maximum,
    ),
    _filter(
        "filter_young_keeps_young",
        "asking whether a page is young leaves it young",
        "asking_makes_old",
        False,
    ),
    _filter(
        "filter_counts_folios_twice",
        "a folio counts once for each region that has a part of it",
        "folio_counts_once",
        False,
    ),
    _filter(
        "filters_of_commit_lost",
        "filters stay what they were when a commit changes them",
        "commit_takes_filters",
        False,
    ),
    _marks(
        "watermark_mid_ignored",
        "schemes become active anywhere between low and high",
        "watermark_active",
        _mid_ignored,
    ),
    _marks(
        "watermark_high_ignored",
        "schemes that are active stay so above the high watermark",
        "watermark_active",
        _high_ignored,
    ),
    _marks(
        "watermark_borders_outside",
        "low and high themselves are outside",
        "watermark_active",
        _borders_outside,
    ),
    _marks(
        "watermark_of_used_memory", "the metric is used, not free memory", "watermark_active", _used_memory
    ),
    _marks(
        "watermark_checked_too_rarely",
        "the kdamond looks every other interval",
        "watermark_wait_us",
        lambda waits: 2 * damos.watermark_wait_us(waits),
    ),
    _marks(
        "watermark_checked_too_often",
        "the kdamond looks twice in each interval",
        "watermark_wait_us",
        lambda waits: damos.watermark_wait_us(waits) // 2,
    ),
    _marks(
        "watermark_monitors_on",
        "monitoring goes on while all schemes are inactive",
        "watermark_wait_us",
        lambda waits: 0,
    ),
    _marks("watermark_starts_inactive", "schemes start inactive", "schemes_start_active", False),
    _marks(
        "watermark_commit_keeps_inactive", "a commit does not make schemes active", "commit_activates", False
    ),
    _marks(
        "watermark_sleep_forgets_ages",
        "ages are lost while all schemes are inactive",
        "ages_after_sleep",
        lambda ages: ages * 0,
    ),
)
