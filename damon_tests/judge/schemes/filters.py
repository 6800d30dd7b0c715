# SPDX-License-Identifier: GPL-2.0
"""Which pages a scheme's filters let through, from the specification alone (§4.8).

A second, independent statement of the rules: nothing of the reference is used here. It looks at single
pages, as if DAMON could, because filters split regions at the borders of address ranges, so that
each part lies wholly inside or outside. A list is folded from its end: the default first, then
each filter overrides what those after it say.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import numpy.typing as npt

from damon_tests.damon.params import Damos, DamosFilter
from damon_tests.patterns.spec import Pattern
from damon_tests.ports import PAGE_SIZE, Bools
from damon_tests.ports.arrays import I64
from damon_tests.ports.ranges import page_ranges
from damon_tests.workload.pages import PageStates

CORE_TYPES = ("addr", "target")
HUGE_BYTES = 2 << 20
_ANONYMOUS = ("anonymous", "heap")


@dataclass(frozen=True, eq=False)
class PageFacts:
    """Pages that a scheme may meet, and what filters ask about them; arrays of shape (pages,).

    ``address``: in the monitored address space, bytes. ``folio_bytes``: size of the folio it is part of,
    which is aligned to its size. ``met``: whether page filters and actions see it at all (physical
    memory: on an LRU list; virtual: present). ``memcg``: path. ``target_idx``: position of its target.
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
        """Return all pages of several, in that order."""
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
    """Return what is known about pages of a pattern's regions: their kind from the pattern, the rest as read.

    ``states``: by region name. ``physical``: by physical addresses, pages not in memory left out.
    """
    parts = []
    for name, state in states.items():
        count = len(state)
        kind = pattern.region(name).memory
        address = state.frame * PAGE_SIZE if physical else state.start + np.arange(count) * PAGE_SIZE
        parts.append(
            PageFacts(
                address=address.astype(np.int64),
                target_idx=np.full(count, target_idx, np.int64),
                folio_bytes=np.where(state.huge, HUGE_BYTES, PAGE_SIZE).astype(np.int64),
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
    """Return (allowed, by a filter that says so) of the core layer, per page.

    What no filter decides is rejected if the list ends with an allow filter, unless there are page
    filters, which then decide.
    """
    core, ops = layers(scheme)
    default = not (core and core[-1].allow and not ops)
    allowed = _fold(core, pages, default)
    decided = _fold(core, pages, False) | ~_fold(core, pages, True)
    return allowed, allowed & decided


def passes_ops(filters: Sequence[DamosFilter], pages: PageFacts, *, default_of: int | None = None) -> Bools:
    """Return what page filters let through, per page. ``default_of``: how many of the filters count for what
    happens without a match (those that the user installed); None: all."""
    listed = filters if default_of is None else filters[:default_of]
    return _fold(filters, pages, not (listed and listed[-1].allow))


def _fold(filters: Sequence[DamosFilter], pages: PageFacts, default: bool) -> Bools:
    passes = np.full(len(pages), default)
    for item in reversed(filters):
        passes = np.where(_holds(item, pages) == item.matching, item.allow, passes)
    return passes


def _holds(item: DamosFilter, pages: PageFacts) -> Bools:
    """Return whether what the filter is about is true for each page."""
    holds: Any
    match item.type:
        case "target":
            holds = pages.target_idx == item.damon_target_idx
        case "addr":
            start, end = (bound // PAGE_SIZE * PAGE_SIZE for bound in (item.addr_start, item.addr_end))
            holds = (pages.address >= start) & (pages.address < end)
        case "memcg":
            holds = pages.memcg == item.memcg_path
        case "hugepage_size":
            holds = (pages.folio_bytes >= item.min) & (pages.folio_bytes <= min(item.max, 1 << 62))
        case "anon" | "active" | "young" | "unmapped":
            holds = getattr(pages, item.type)
        case other:
            raise ValueError(f"no filter type: {other}")
    found: Bools = np.asarray(holds, np.bool_)
    return found


# --- what a scheme does --------------------------------------------------------------------------

FILTERED_VIRTUALLY = ("stat", "migrate_hot", "migrate_cold")
_YOUNG_IS_SPARED = DamosFilter(type="young", matching=True, allow=False)


@dataclass(frozen=True, eq=False)
class Verdicts:
    """Per page: ``tried``: its region is (the core layer allowed it). ``passed``: page filters were asked
    and let it through; for sz_ops_filter_passed. ``acted_on``: what the action is done to."""

    pages: PageFacts
    tried: Bools
    passed: Bools
    acted_on: Bools

    @property
    def tried_bytes(self) -> int:
        return int(self.tried.sum()) * PAGE_SIZE

    @property
    def passed_bytes(self) -> int:
        """Return the whole folios, each once."""
        return folio_bytes(self.pages, self.passed)


def verdicts(scheme: Damos, pages: PageFacts, operations: str) -> Verdicts:
    """Return which pages of the monitored ranges a pass of a scheme that matches all tries and acts on
    (I52)."""
    _, ops = layers(scheme)
    tried, explicitly = allowed_by_core(scheme, pages)
    asked = operations == "paddr" or scheme.action in FILTERED_VIRTUALLY
    effective: tuple[DamosFilter, ...] = ops if asked else ()
    if operations == "paddr" and scheme.action == "pageout" and all(f.type != "young" for f in ops):
        effective = (*ops, _YOUNG_IS_SPARED)
    passes = explicitly | passes_ops(effective, pages, default_of=len(ops) if asked else 0)
    acted_on = tried & pages.met & passes
    # ``stat`` looks at pages only for its filters' sake; hints about virtual memory never look.
    counted = acted_on if asked and (ops or scheme.action != "stat") else np.zeros(len(pages), np.bool_)
    return Verdicts(pages, tried, counted, acted_on)


def passed_bounds(scheme: Damos, moments: Sequence[PageFacts], operations: str) -> tuple[int, int]:
    """Return the fewest and most bytes that may pass in one pass (I43), if pages are as they were in one of
    the moments.

    ``moments``: the same pages, read before and after; what does not change makes both equal.
    """
    return _bounds(moments, [verdicts(scheme, pages, operations).passed for pages in moments])


def acted_bounds(scheme: Damos, moments: Sequence[PageFacts], operations: str) -> tuple[int, int]:
    """Return the same for the bytes that the action is done to."""
    return _bounds(moments, [verdicts(scheme, pages, operations).acted_on for pages in moments])


def _bounds(moments: Sequence[PageFacts], each: Sequence[Bools]) -> tuple[int, int]:
    always, ever = np.logical_and.reduce(each), np.logical_or.reduce(each)
    return folio_bytes(moments[0], always), folio_bytes(moments[0], ever)


def folio_bytes(pages: PageFacts, chosen: Bools) -> int:
    """Return the size of the folios that the chosen pages are part of."""
    size = pages.folio_bytes[chosen]
    heads = np.stack([pages.target_idx[chosen], pages.address[chosen] // size * size])
    _, first = np.unique(heads, axis=1, return_index=True)
    return int(size[first].sum())


# --- layout --------------------------------------------------------------------------------------


def separate_ranges(pages: PageFacts, most_bytes: int = 256 << 10) -> tuple[tuple[int, int], ...]:
    """Return the byte ranges of whole folios, apart from each other, so that DAMON neither merges nor splits
    them.

    Runs of small pages are cut into ranges of ``most_bytes``, with a page left out between them; of huge
    pages that touch every second one is left out. Few pages on their own are left out, too.
    """
    found: list[tuple[int, int]] = []
    for size in np.unique(pages.folio_bytes).tolist():
        for first, last in page_ranges(np.unique(pages.address[pages.folio_bytes == size]) // PAGE_SIZE):
            found += _cut(-(-first // size) * size, last // size * size, size, most_bytes)
    return _apart(sorted(found))


def _cut(start: int, end: int, folio: int, most_bytes: int) -> list[tuple[int, int]]:
    """Return the ranges of a run of folios of one size; the last small page is always left out."""
    most = max(most_bytes, folio)
    least = folio if folio > PAGE_SIZE else min(8 * PAGE_SIZE, most)
    spare = folio if folio == PAGE_SIZE else 0
    ranges = []
    while end - start >= least:
        ranges.append((start, min(start + most, end - spare)))
        start = ranges[-1][1] + folio
    return ranges


def _apart(ranges: Sequence[tuple[int, int]]) -> tuple[tuple[int, int], ...]:
    """Return the ranges without those that touch the one before."""
    kept: list[tuple[int, int]] = []
    for start, end in ranges:
        if not kept or start > kept[-1][1]:
            kept.append((start, end))
    return tuple(kept)
