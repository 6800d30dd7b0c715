# SPDX-License-Identifier: GPL-2.0
"""Measure what an action did to memory, page by page, before and after; never by DAMON's own counters.

An effect has three parts: what was requested and happened, what was requested and did not happen, and what
happened to other memory (collateral). ``applied`` compares it with DAMON's own count (``sz_applied``), which
specification 4.10 makes exact for some actions and loose for others.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from damon_tests.damon.params import DamosDest
from damon_tests.judge.chart import Chart, Curve, Panel, explain, explained
from damon_tests.judge.verdict import Check, Measurement
from damon_tests.ports import Bools, huge_page_size, page_size
from damon_tests.ports.arrays import I64
from damon_tests.ports.numbers import number
from damon_tests.ports.ranges import Range, joined
from damon_tests.workload.pages import PageStates, bytes_of

Is = Callable[[PageStates], Bools]

KEPT = ("present", "swapped", "huge", "active", "node")
"""State that no action may change of memory outside its regions. ``lru`` is not in it: it changes without an
action, because pages wait in the batches of a CPU until these are full."""


def in_ranges(pages: PageStates, ranges: Iterable[Range]) -> Bools:
    """Return which pages lie wholly in one of the virtual byte ranges."""
    return _inside(pages.start + np.arange(len(pages)) * page_size(), ranges)


def in_frames(pages: PageStates, ranges: Iterable[Range]) -> Bools:
    """Return which pages are in memory that lies wholly in one of the physical byte ranges."""
    inside: Bools = pages.present & _inside(pages.frame * page_size(), ranges)
    return inside


def _inside(start: I64, ranges: Iterable[Range]) -> Bools:
    inside = np.zeros(len(start), np.bool_)
    for low, high in ranges:
        inside |= (start >= low) & (start + page_size() <= high)
    return inside


def in_whole_blocks(pages: PageStates, ranges: Iterable[Range]) -> Bools:
    """Return which pages are in blocks of a huge page wholly inside a range: only those become huge pages."""
    return in_ranges(
        pages,
        [
            (-(-start // huge_page_size()) * huge_page_size(), end // huge_page_size() * huge_page_size())
            for start, end in ranges
        ],
    )


def changed(before: PageStates, after: PageStates, what: Sequence[str] = KEPT) -> Bools:
    """Return which pages differ in one of these fields of PageStates.

    ``active`` is compared only for pages on an LRU list: multi-generational LRU stores a page's generation in
    that flag while the page is on none.
    """
    differs = np.zeros(len(before), np.bool_)
    for name in what:
        other = getattr(before, name) != getattr(after, name)
        differs |= other & before.lru & after.lru if name == "active" else other
    return differs


@dataclass(frozen=True)
class Effect:
    """The effect of an action, in bytes.

    ``asked``: memory that the action was for. ``able``: the part of it that the action could change, as far
    as page flags show. ``done``: asked for, and in the wanted state afterwards. ``missed``: able, but not
    done. ``gained``: asked for, done afterwards and not before. ``collateral``: not asked for, but changed.
    ``nodes``: by memory node, the bytes of the asked memory on it before and after. ``differing``: by field,
    the bytes of ``collateral`` that differ in it.
    """

    asked: int = 0
    able: int = 0
    done: int = 0
    missed: int = 0
    gained: int = 0
    collateral: int = 0
    nodes: Mapping[int, tuple[int, int]] = field(default_factory=dict, compare=False)
    differing: Mapping[str, int] = field(default_factory=dict, compare=False)

    def __add__(self, other: Effect) -> Effect:
        names = ("asked", "able", "done", "missed", "gained", "collateral")
        nodes = {
            nid: (a[0] + b[0], a[1] + b[1])
            for nid in sorted({*self.nodes, *other.nodes})
            for a, b in [(self.nodes.get(nid, (0, 0)), other.nodes.get(nid, (0, 0)))]
        }
        sums = {name: getattr(self, name) + getattr(other, name) for name in names}
        differing = Counter(self.differing) + Counter(other.differing)
        return Effect(**sums, nodes=nodes, differing=differing)

    def chart(self, name: str, least_nodes: int = 2) -> Chart | None:
        """Return where the asked memory was before and after, if it was on so many nodes at least."""
        nodes = sorted(nid for nid in self.nodes if nid >= 0)
        if len(nodes) < least_nodes:
            return None
        positions = tuple(map(float, range(len(nodes))))
        bars = tuple(
            Curve(when, positions, tuple(float(self.nodes[nid][i]) for nid in nodes))
            for i, when in enumerate(("before", "after"))
        )
        panel = Panel("bytes of the asked memory", bars, groups=tuple(f"node {nid}" for nid in nodes))
        return Chart(f"memory nodes before and after {name}", (panel,), x_label="")


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
    """Measure an action that should bring the ``asked`` pages into the state ``wanted``.

    ``able`` None: the pages that were in memory and on an LRU list before; others wait in a CPU's batch and
    cannot be isolated. ``kept``: fields that must not change of all other pages, except ``excused`` ones,
    which something else may have changed. Arrays have one element for each page.
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
        nodes=_nodes(before, after, asked),
        differing={name: bytes_of(others & changed(before, after, [name])) for name in kept},
    )


def _nodes(before: PageStates, after: PageStates, asked: Bools) -> dict[int, tuple[int, int]]:
    there = np.unique(np.concatenate([before.node[asked], after.node[asked]])).tolist()
    return {
        int(nid): (bytes_of(asked & (before.node == nid)), bytes_of(asked & (after.node == nid)))
        for nid in there
    }


def spared(before: PageStates, after: PageStates, kept: Sequence[str] = KEPT) -> Effect:
    """Measure what changed in memory that no action was for: ``collateral`` of all its pages."""
    return effect(before, after, np.zeros(len(before), np.bool_), lambda pages: pages.present, kept=kept)


def all_spared(pairs: Iterable[tuple[PageStates, PageStates]]) -> Effect:
    """Return the sum of ``spared`` over (before, after) of several regions."""
    return sum((spared(*pair) for pair in pairs), Effect())


def takes_effect(
    name: str, measured: Effect, because: str, *, least: int | None = None, waiting: int = 0
) -> list[Check]:
    """Check that the action changed all that it could, and nothing else.

    ``least``: with fewer able bytes the result is INCONCLUSIVE; default: a page. ``waiting``:
    bytes that may be missed, because pages wait in the batches of CPUs.
    """
    least = page_size() if least is None else least
    enough = Measurement(f"{name}: bytes that it could change", measured.able, "bytes")
    shown = Check(
        "invariant",
        enough,
        f">= {number(least)}",
        "the check needs memory that the action can change",
        measured.able >= least or None,
    )
    missed = Measurement(f"{name}: bytes missed", measured.missed, "bytes")
    detail = f"{measured.asked} requested, {measured.able} of them possible, {measured.done} done"
    checks = [
        shown,
        Check("invariant", missed, f"<= {number(waiting)}", because, measured.missed <= waiting, detail),
        spares_others(name, measured, waiting=waiting),
    ]
    return explain(checks, lambda: measured.chart(name))


def spares_others(name: str, measured: Effect, *, waiting: int = 0) -> Check:
    """Check that memory outside the action's regions did not change, but for ``waiting`` bytes."""
    m = Measurement(f"{name}: collateral", measured.collateral, "bytes")
    spared = measured.collateral <= waiting
    detail = ", ".join(f"{name}: {size} bytes" for name, size in measured.differing.items() if size)
    because = "an action changes its regions only"
    check = Check("invariant", m, f"<= {number(waiting)}", because, spared, detail)
    return explained(check, lambda: measured.chart(name))


def put_back(name: str, pairs: Iterable[tuple[PageStates, PageStates]], waiting: int) -> Check:
    """Check that isolated pages are back on an LRU list, but for ``waiting`` bytes on their way.

    A page on no list is never reclaimed, and DAMON's paddr ignores it.
    """
    lost = sum(bytes_of(before.lru & after.present & ~after.lru) for before, after in pairs)
    m = Measurement(f"{name}: bytes on no LRU list any more", lost, "bytes")
    return Check(
        "invariant", m, f"<= {number(waiting)}", "an isolated page returns to an LRU list", lost <= waiting
    )


def applied(name: str, sz_applied: int, low: int, high: int, because: str, *, effect: int) -> Check:
    """Check that sz_applied is within ``low`` to ``high``; report how far it is from the measured ``effect``.

    All in bytes, both bounds inclusive (I42).
    """
    m = Measurement(f"{name}: sz_applied beyond the measured effect", float(sz_applied - effect), "bytes")
    detail = f"sz_applied {sz_applied} where it may be {low} to {high}; measured effect {effect}"
    limit = f"{low - effect} to {high - effect}"
    return Check("invariant", m, limit, because, low <= sz_applied <= high, detail)


def fully_mapped(tried: Iterable[Range], mapped: Sequence[Range]) -> int:
    """Return the bytes of the tried ranges that ``mapped`` (sorted byte ranges) covers without a hole.

    Specification 4.10: madvise() over a range with a hole acts on what is mapped and returns an error.
    """
    without_seams = joined(mapped)
    return sum(end - start for start, end in tried if any(a <= start and end <= b for a, b in without_seams))


def interleaved(pages: PageStates, dests: Sequence[DamosDest]) -> I64:
    """Return the node for each page of an anonymous mapping by weighted interleaving; -1: no migration.

    Specification 4.10: a page's index modulo the sum of the weights selects the node. In an anonymous private
    mapping the index is the address divided by the page's size.
    """
    address = pages.start + np.arange(len(pages)) * page_size()
    index = np.where(pages.huge, address // huge_page_size(), address // page_size())
    total = sum(dest.weight for dest in dests)
    if not total:
        return np.full(len(pages), -1, np.int64)
    slots = np.concatenate([np.full(dest.weight, dest.id, np.int64) for dest in dests])
    nodes: I64 = slots[index % total]
    return nodes
