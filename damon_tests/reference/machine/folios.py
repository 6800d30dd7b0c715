# SPDX-License-Identifier: GPL-2.0
"""Folios of a range of memory, and the operations layer's filters on them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from damon_tests.damon.params import DamosFilter
from damon_tests.ports import page_size, pages_per_huge
from damon_tests.ports.arrays import I64, Bools
from damon_tests.reference.machine.memory import Memory
from damon_tests.reference.machine.process import NO_FRAME
from damon_tests.reference.rules.ruleset import Rules


@dataclass(frozen=True, eq=False)
class Folios:
    """``head``: first frame of each folio, in the order met. ``pages``: 1, or those of a huge page."""

    memory: Memory
    head: I64
    pages: I64

    def __len__(self) -> int:
        return len(self.head)

    @property
    def sizes(self) -> I64:
        """Bytes of each folio."""
        return self.pages * page_size()

    def total_bytes(self) -> int:
        return int(self.sizes.sum())

    def take(self, chosen: Bools) -> Folios:
        return Folios(self.memory, self.head[chosen], self.pages[chosen])

    def frames(self) -> I64:
        """All frames of all folios."""
        if not len(self.head):
            return self.head
        first = np.repeat(self.head, self.pages)
        offset = np.arange(len(first)) - np.repeat(np.cumsum(self.pages) - self.pages, self.pages)
        return first + offset


def folios_in(memory: Memory, frames: I64, now_ns: int, last_folio: int = NO_FRAME) -> Folios:
    """Return the folios that the frames belong to, each once. Free and reclaimed frames have none.

    A folio that begins or ends outside is whole; ``last_folio`` (its head) was handled before and is left
    out.
    """
    frames = frames[(frames >= 0) & (frames < memory.nr_frames)]
    memory.settle(frames, now_ns)
    frames = frames[memory.on_lru(frames)]
    huge = memory.huge_blocks[frames // pages_per_huge()]
    heads = np.where(huge, frames // pages_per_huge() * pages_per_huge(), frames)
    unique, first = np.unique(heads, return_index=True)
    order = np.argsort(first, kind="stable")
    heads = unique[order]
    heads = heads[heads != last_folio]
    pages = np.where(memory.huge_blocks[heads // pages_per_huge()], pages_per_huge(), 1).astype(np.int64)
    return Folios(memory, heads, pages)


def passing(
    folios: Folios, filters: Sequence[DamosFilter], default_reject: bool, rules: Rules, now_ns: int
) -> Folios:
    """Return the folios that the filters let through: the first filter that matches one decides."""
    undecided = np.ones(len(folios), np.bool_)
    allowed = np.full(len(folios), not default_reject, np.bool_)
    for item in filters:
        rows = np.flatnonzero(undecided)
        hit = rules.page_filter_hit(item.type, _test(item, folios.take(undecided), rules, now_ns))
        for outcome in (True, False):
            verdict = rules.filter_verdict(outcome, item.matching, item.allow)
            if verdict is not None:
                decided = rows[hit == outcome]
                allowed[decided] = verdict
                undecided[decided] = False
    return folios.take(allowed)


def _test(item: DamosFilter, folios: Folios, rules: Rules, now_ns: int) -> Bools:
    memory, head = folios.memory, folios.head
    match item.type:
        case "anon":
            return memory.is_anon(head)
        case "active":
            return memory.active[head]
        case "memcg":
            paths = rules.memcgs_meant(item.memcg_path.removesuffix("\n"), memory.memcgs)
            inside: Bools = np.logical_or.reduce([memory.in_memcg(head, path) for path in paths])
            return inside
        case "young":
            return _young(folios, now_ns, forget=rules.asking_makes_old)
        case "hugepage_size":
            return rules.size_within(folios.sizes, item.min, item.max)
        case _:  # unmapped
            return ~memory.is_mapped(head)


def _young(folios: Folios, now_ns: int, *, forget: bool) -> Bools:
    """Return which were accessed since the accessed bit was last cleared; ``forget``: asking clears it."""
    frames, memory = folios.frames(), folios.memory
    cleared_at = memory.cleared_at[frames]
    young = memory.is_young(frames, now_ns)
    if not forget:
        memory.cleared_at[frames] = cleared_at
    starts = np.cumsum(folios.pages) - folios.pages
    if not len(starts):
        return np.zeros(0, np.bool_)
    young_folios: Bools = np.logical_or.reduceat(young, starts)
    return young_folios
