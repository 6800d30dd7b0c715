# SPDX-License-Identifier: GPL-2.0
"""Compute which pages a scheme's filters let through, from the specification alone (§4.8).

The rules are stated a second time, independently of the reference. They apply to single pages, because
address filters split regions at their bounds, so that each part lies wholly inside or outside. A list is
evaluated from its end: the default first, then each filter overrides the filters after it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import numpy.typing as npt

from damon_tests.damon.params import Damos, DamosFilter
from damon_tests.patterns.spec import Pattern
from damon_tests.ports import Bools, huge_page_size, page_size
from damon_tests.ports.arrays import I64
from damon_tests.ports.ranges import page_ranges
from damon_tests.workload.pages import PageStates

CORE_TYPES = ("addr", "target")
_ANONYMOUS = ("anonymous", "heap")


@dataclass(frozen=True, eq=False)
class PageFacts:
    """The attributes of pages that filters match; arrays of shape (pages,).

    ``address``: in the monitored address space, bytes. ``folio_bytes``: size of the page's folio, which is
    aligned to its size. ``met``: whether page filters and actions apply to it (paddr: it is on an LRU list;
    virtual: it is present). ``memcg``: path. ``target_idx``: position of its target.
    """

    address: I64
    target_idx: I64
    folio_bytes: I64
    met: Bools
    anon: Bools
    active: Bools
    young: Bools
    unmapped: Bools
    memcg: npt.NDArray[np.str_]

    def __len__(self) -> int:
        return len(self.address)

    def take(self, chosen: Bools) -> PageFacts:
        return PageFacts(**{f.name: getattr(self, f.name)[chosen] for f in fields(self)})

    def within(self, ranges: Sequence[tuple[int, int]]) -> PageFacts:
        """Return only the pages of these byte ranges."""
        inside = np.zeros(len(self), np.bool_)
        for start, end in ranges:
            inside |= (self.address >= start) & (self.address < end)
        return self.take(inside)

    @staticmethod
    def joined(parts: Sequence[PageFacts]) -> PageFacts:
        """Return the pages of all ``parts``, in that order."""
        return PageFacts(
            **{f.name: np.concatenate([getattr(p, f.name) for p in parts]) for f in fields(PageFacts)}
        )


def pages_of(
    pattern: Pattern,
    states: Mapping[str, PageStates],
    *,
    physical: bool,
    memcg: str = "/",
    target_idx: int = 0,
    young: bool = False,
) -> PageFacts:
    """Return the present pages of a pattern's regions: their kind from the pattern, the rest from ``states``.

    ``states``: by region name. ``physical``: by physical instead of virtual address.
    """
    parts = []
    for name, state in states.items():
        count = len(state)
        kind = pattern.region(name).memory
        address = state.frame * page_size() if physical else state.start + np.arange(count) * page_size()
        parts.append(
            PageFacts(
                address=address.astype(np.int64),
                target_idx=np.full(count, target_idx, np.int64),
                folio_bytes=np.where(state.huge, huge_page_size(), page_size()).astype(np.int64),
                met=state.present & state.lru if physical else state.present,
                anon=np.full(count, kind in _ANONYMOUS),
                active=state.active,
                young=np.full(count, young),
                unmapped=np.zeros(count, np.bool_),
                memcg=np.full(count, memcg),
            ).take(state.present)
        )
    return PageFacts.joined(parts)


# --- the rules -----------------------------------------------------------------------------------


def layers(scheme: Damos) -> tuple[tuple[DamosFilter, ...], tuple[DamosFilter, ...]]:
    """Return (core, ops) filters in the order of evaluation: core_filters/, ops_filters/, filters/."""
    every = (*scheme.core_filters, *scheme.ops_filters, *scheme.filters)
    core = tuple(f for f in every if f.type in CORE_TYPES)
    return core, tuple(f for f in every if f.type not in CORE_TYPES)


def allowed_by_core(scheme: Damos, pages: PageFacts) -> tuple[Bools, Bools]:
    """Return (allowed, allowed by a matching filter) of the core layer, a bool for each page.

    A page that no filter matches is rejected if the list ends with an allow filter, unless there are page
    filters, which then decide.
    """
    core, ops = layers(scheme)
    default = not (core and core[-1].allow and not ops)
    allowed = _fold(core, pages, default)
    decided = _fold(core, pages, False) | ~_fold(core, pages, True)
    return allowed, allowed & decided


def passes_ops(filters: Sequence[DamosFilter], pages: PageFacts, *, default_of: int | None = None) -> Bools:
    """Return the pages that page filters let through, a bool for each page.

    ``default_of``: how many of the filters, those that the user installed, decide the default; None: all.
    """
    listed = filters if default_of is None else filters[:default_of]
    return _fold(filters, pages, not (listed and listed[-1].allow))


def _fold(filters: Sequence[DamosFilter], pages: PageFacts, default: bool) -> Bools:
    passes = np.full(len(pages), default)
    for item in reversed(filters):
        passes = np.where(_holds(item, pages) == item.matching, item.allow, passes)
    return passes


def _holds(item: DamosFilter, pages: PageFacts) -> Bools:
    """Return whether each page is of the filter's type. Raises ValueError for an unknown type."""
    holds: Any
    match item.type:
        case "target":
            holds = pages.target_idx == item.damon_target_idx
        case "addr":
            start, end = (bound // page_size() * page_size() for bound in (item.addr_start, item.addr_end))
            holds = (pages.address >= start) & (pages.address < end)
        case "memcg":
            holds = pages.memcg == item.memcg_path
        case "hugepage_size":
            holds = (pages.folio_bytes >= item.min) & (pages.folio_bytes <= min(item.max, 1 << 62))
        case "anon" | "active" | "young" | "unmapped":
            holds = getattr(pages, item.type)
        case other:
            raise ValueError(f"no filter type: {other}")
    of_type: Bools = np.asarray(holds, np.bool_)
    return of_type


# --- what a scheme does --------------------------------------------------------------------------

FILTERED_VIRTUALLY = ("stat", "migrate_hot", "migrate_cold")
_YOUNG_IS_SPARED = DamosFilter(type="young", matching=True, allow=False)


@dataclass(frozen=True, eq=False)
class Verdicts:
    """The result of the filters, a bool for each page.

    ``tried``: the core layer allows it. ``passed``: page filters let it through and sz_ops_filter_passed
    counts it. ``acted_on``: the action is applied to it.
    """

    pages: PageFacts
    tried: Bools
    passed: Bools
    acted_on: Bools

    @property
    def tried_bytes(self) -> int:
        return int(self.tried.sum()) * page_size()

    @property
    def passed_bytes(self) -> int:
        """Return the bytes of the passed folios, each counted once and whole."""
        return folio_bytes(self.pages, self.passed)


def verdicts(scheme: Damos, pages: PageFacts, operations: str) -> Verdicts:
    """Return which pages a pass tries and acts on (I52).

    The scheme's access pattern must match all regions.
    """
    _, ops = layers(scheme)
    tried, explicitly = allowed_by_core(scheme, pages)
    filtered = operations == "paddr" or scheme.action in FILTERED_VIRTUALLY
    effective: tuple[DamosFilter, ...] = ops if filtered else ()
    if operations == "paddr" and scheme.action == "pageout" and all(f.type != "young" for f in ops):
        effective = (*ops, _YOUNG_IS_SPARED)
    passes = explicitly | passes_ops(effective, pages, default_of=len(ops) if filtered else 0)
    acted_on = tried & pages.met & passes
    # ``stat`` visits pages only for its filters; hints about virtual memory never do.
    counted = acted_on if filtered and (ops or scheme.action != "stat") else np.zeros(len(pages), np.bool_)
    return Verdicts(pages, tried, counted, acted_on)


def passed_bounds(scheme: Damos, moments: Sequence[PageFacts], operations: str) -> tuple[int, int]:
    """Return the fewest and most bytes that may pass the page filters in one pass (I43).

    ``moments``: the same pages, read before and after the pass; both bounds are equal if nothing changed.
    """
    return _bounds(moments, [verdicts(scheme, pages, operations).passed for pages in moments])


def acted_bounds(scheme: Damos, moments: Sequence[PageFacts], operations: str) -> tuple[int, int]:
    """Return the fewest and most bytes to which one pass may apply the action."""
    return _bounds(moments, [verdicts(scheme, pages, operations).acted_on for pages in moments])


def _bounds(moments: Sequence[PageFacts], each: Sequence[Bools]) -> tuple[int, int]:
    always, ever = np.logical_and.reduce(each), np.logical_or.reduce(each)
    return folio_bytes(moments[0], always), folio_bytes(moments[0], ever)


def folio_bytes(pages: PageFacts, chosen: Bools) -> int:
    """Return the bytes of the folios of the chosen pages, each counted once and whole."""
    size = pages.folio_bytes[chosen]
    heads = np.stack([pages.target_idx[chosen], pages.address[chosen] // size * size])
    _, first = np.unique(heads, axis=1, return_index=True)
    return int(size[first].sum())


# --- layout --------------------------------------------------------------------------------------


def separate_ranges(pages: PageFacts, most_bytes: int = 256 << 10) -> tuple[tuple[int, int], ...]:
    """Return byte ranges of whole folios that do not touch, so that DAMON does not merge them.

    Runs of small pages are cut into ranges of ``most_bytes`` with a page left out between them; of adjacent
    huge pages every second one is left out. Runs of few pages are left out.
    """
    ranges: list[tuple[int, int]] = []
    for size in np.unique(pages.folio_bytes).tolist():
        for first, last in page_ranges(np.unique(pages.address[pages.folio_bytes == size]) // page_size()):
            ranges += _cut(-(-first // size) * size, last // size * size, size, most_bytes)
    return _apart(sorted(ranges))


def _cut(start: int, end: int, folio: int, most_bytes: int) -> list[tuple[int, int]]:
    """Cut a run of folios of one size into ranges; the last small page is always left out."""
    most = max(most_bytes, folio)
    least = folio if folio > page_size() else min(8 * page_size(), most)
    spare = folio if folio == page_size() else 0
    ranges = []
    while end - start >= least:
        ranges.append((start, min(start + most, end - spare)))
        start = ranges[-1][1] + folio
    return ranges


def _apart(ranges: Sequence[tuple[int, int]]) -> tuple[tuple[int, int], ...]:
    """Return the ranges without those that touch the range before."""
    kept: list[tuple[int, int]] = []
    for start, end in ranges:
        if not kept or start > kept[-1][1]:
            kept.append((start, end))
    return tuple(kept)
