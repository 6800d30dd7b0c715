# SPDX-License-Identifier: GPL-2.0
"""What an action did to memory: page by page, before and after, never by DAMON's own counters.

An effect has three sides: what was asked for and happened, what was asked for and did not happen, and
what happened to memory that nobody asked about (collateral). Beside it stands what DAMON says it did
(``sz_applied``), which specification 4.10 makes exact for some actions and loose for others.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from damon_tests.damon.params import DamosDest
from damon_tests.judge.verdict import Check, Measurement
from damon_tests.ports import PAGE_SIZE, Bools
from damon_tests.ports.arrays import I64
from damon_tests.ports.ranges import Range, joined
from damon_tests.workload.pages import PageStates, bytes_of

Is = Callable[[PageStates], Bools]

KEPT = ("present", "swapped", "huge", "active", "node")
"""What no action changes of memory that it is not for. ``lru`` changes by itself: pages wait in the
batches of a CPU until these are full."""

HUGE = 2 << 20


def in_ranges(pages: PageStates, ranges: Iterable[Range]) -> Bools:
    """Return which pages lie wholly in one of the virtual byte ranges."""
    return _inside(pages.start + np.arange(len(pages)) * PAGE_SIZE, ranges)


def in_frames(pages: PageStates, ranges: Iterable[Range]) -> Bools:
    """Return which pages are in memory that lies wholly in one of the physical byte ranges."""
    found: Bools = pages.present & _inside(pages.frame * PAGE_SIZE, ranges)
    return found


def _inside(start: I64, ranges: Iterable[Range]) -> Bools:
    inside = np.zeros(len(start), np.bool_)
    for low, high in ranges:
        inside |= (start >= low) & (start + PAGE_SIZE <= high)
    return inside


def in_whole_blocks(pages: PageStates, ranges: Iterable[Range]) -> Bools:
    """Return which pages are in 2 MiB blocks that lie wholly in one of the ranges: only those become huge
    pages."""
    return in_ranges(pages, [(-(-start // HUGE) * HUGE, end // HUGE * HUGE) for start, end in ranges])


def changed(before: PageStates, after: PageStates, what: Sequence[str] = KEPT) -> Bools:
    """Return which pages differ in one of these respects.

    ``active`` is compared of pages on a list: multi-generational LRU keeps a page's generation in that flag
    while it is on none.
    """
    differs = np.zeros(len(before), np.bool_)
    for name in what:
        other = getattr(before, name) != getattr(after, name)
        differs |= other & before.lru & after.lru if name == "active" else other
    return differs


@dataclass(frozen=True)
class Effect:
    """Bytes of one or more memories. ``asked``: the action was for them. ``able``: and it could do it, as
    far as page flags show. ``done``: asked for, and in the state wanted now. ``missed``: able, not done.
    ``gained``: asked for, done now and not before. ``collateral``: not asked for, and changed all the same.
    """

    asked: int = 0
    able: int = 0
    done: int = 0
    missed: int = 0
    gained: int = 0
    collateral: int = 0

    def __add__(self, other: Effect) -> Effect:
        names = ("asked", "able", "done", "missed", "gained", "collateral")
        return Effect(**{name: getattr(self, name) + getattr(other, name) for name in names})


def effect(
    before: PageStates,
    after: PageStates,
    asked: Bools,
    wanted: Is,
    *,
    able: Bools | None = None,
    kept: Sequence[str] = KEPT,
    excused: Bools | None = None,
) -> Effect:
    """Return the effect of an action that should bring the ``asked`` pages into the state ``wanted``.

    ``able`` None: pages that were in memory and on an LRU list before: others are on their way to one, in
    a batch of some CPU, and cannot be isolated. ``kept``: what must stay as it was of all other pages, but
    for ``excused`` ones, which something else than the action may have changed.
    """
    can = asked & (before.present & before.lru if able is None else able)
    there = wanted(after)
    others = ~asked if excused is None else ~asked & ~excused
    return Effect(
        asked=bytes_of(asked),
        able=bytes_of(can),
        done=bytes_of(asked & there),
        missed=bytes_of(can & ~there),
        gained=bytes_of(asked & there & ~wanted(before)),
        collateral=bytes_of(others & changed(before, after, kept)),
    )


def spared(before: PageStates, after: PageStates, kept: Sequence[str] = KEPT) -> Effect:
    """Return the effect of an action that should not touch this memory at all."""
    return effect(before, after, np.zeros(len(before), np.bool_), lambda pages: pages.present, kept=kept)


def all_spared(pairs: Iterable[tuple[PageStates, PageStates]]) -> Effect:
    """Return ``spared`` of several memories, (before, after) each."""
    return sum((spared(*pair) for pair in pairs), Effect())


def takes_effect(
    name: str, found: Effect, because: str, *, least: int = PAGE_SIZE, waiting: int = 0
) -> list[Check]:
    """Check that all that could be done was done, and nothing else happened. ``least`` bytes must have been
    able: else nothing is shown (INCONCLUSIVE). ``waiting``: bytes that may still wait for what was done to
    them, or have waited for what was done before."""
    enough = Measurement(f"{name}: bytes that it could change", found.able, "bytes")
    shown = Check("invariant", enough, f">= {least}", "else nothing is shown", found.able >= least or None)
    missed = Measurement(f"{name}: bytes missed", found.missed, "bytes")
    detail = f"of {found.asked} asked for, {found.able} could be done, {found.done} are"
    return [
        shown,
        Check("invariant", missed, f"<= {waiting}", because, found.missed <= waiting, detail),
        spares_others(name, found, waiting=waiting),
    ]


def spares_others(name: str, found: Effect, *, waiting: int = 0) -> Check:
    """Check that nothing changed of memory that the action was not for."""
    m = Measurement(f"{name}: collateral", found.collateral, "bytes")
    spared = found.collateral <= waiting
    return Check("invariant", m, f"<= {waiting}", "an action is for its regions only", spared)


def put_back(name: str, pairs: Iterable[tuple[PageStates, PageStates]], waiting: int) -> Check:
    """Check that pages that an action took off their LRU list are on one again, but for ``waiting`` bytes
    that may be on their way. A page on none is never reclaimed, and DAMON does not see it either."""
    lost = sum(bytes_of(before.lru & after.present & ~after.lru) for before, after in pairs)
    m = Measurement(f"{name}: bytes on no LRU list any more", lost, "bytes")
    return Check("invariant", m, f"<= {waiting}", "what was isolated is put back", lost <= waiting)


def applied(name: str, sz_applied: int, low: int, high: int, because: str, *, effect: int) -> Check:
    """Check how far what DAMON says it did is from the measured ``effect``; ``low`` to ``high``: what it may
    say. All in bytes, both bounds inclusive (I42)."""
    m = Measurement(f"{name}: sz_applied beyond the measured effect", float(sz_applied - effect), "bytes")
    detail = f"sz_applied {sz_applied} where it may be {low} to {high}; measured effect {effect}"
    limit = f"{low - effect} to {high - effect}"
    return Check("invariant", m, limit, because, low <= sz_applied <= high, detail)


def fully_mapped(tried: Iterable[Range], mapped: Sequence[Range]) -> int:
    """Return the bytes of those tried ranges that have no hole, by mappings (sorted byte ranges, touching or
    not).

    Specification 4.10: madvise over a range with a hole acts on what is mapped and returns an error.
    """
    without_seams = joined(mapped)
    return sum(end - start for start, end in tried if any(a <= start and end <= b for a, b in without_seams))


def interleaved(pages: PageStates, dests: Sequence[DamosDest]) -> I64:
    """Return the node that each page of an anonymous mapping belongs on, by weights; -1: stays where it is.

    Specification 4.10: a page's index goes round the weights, period their sum. An anonymous private
    mapping counts pages by address, so the index is the address over the page's size.
    """
    address = pages.start + np.arange(len(pages)) * PAGE_SIZE
    index = np.where(pages.huge, address // HUGE, address // PAGE_SIZE)
    total = sum(dest.weight for dest in dests)
    if not total:
        return np.full(len(pages), -1, np.int64)
    slots = np.concatenate([np.full(dest.weight, dest.id, np.int64) for dest in dests])
    nodes: I64 = slots[index % total]
    return nodes
