# SPDX-License-Identifier: GPL-2.0
"""What each DAMOS action does to the memory model, and how many bytes it counts as applied.

An action that an operations set does not know does nothing, which is no error (quirk Q14).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from damon_tests.damon.params import Damos, DamosFilter
from damon_tests.ports import page_size, pages_per_huge
from damon_tests.ports.arrays import I64
from damon_tests.ports.ranges import Range, clip
from damon_tests.reference.core.filters import FilterLists
from damon_tests.reference.machine.folios import Folios, folios_in, passing
from damon_tests.reference.machine.memory import Memory
from damon_tests.reference.machine.process import NO_FRAME, Process
from damon_tests.reference.rules.ruleset import Rules

NOTHING = (0, 0)
YOUNG_REJECT = DamosFilter(type="young", matching=True, allow=False)
MADVISE = ("willneed", "cold", "pageout", "hugepage", "nohugepage", "collapse")


@dataclass
class Application:
    """One scheme applied to one region. ``bytes_`` is the region in bytes of its address space.

    ``bypass``: a core filter allowed it, so no filter of the operations layer is asked.
    ``last_folio``: head of the folio the scheme handled last in this pass, updated.
    """

    scheme: Damos
    lists: FilterLists
    bytes_: Range
    bypass: bool
    now_ns: int
    last_folio: int = NO_FRAME


class Actions:
    """Effects of actions on one memory. Results are (bytes applied, bytes that passed the page filters)."""

    def __init__(self, memory: Memory, rules: Rules) -> None:
        self.memory = memory
        self.rules = rules

    # Physical memory

    def apply_physical(self, app: Application) -> tuple[int, int]:
        self.memory.place()
        action = self.rules.action_done("paddr", app.scheme.action)
        if action == "stat" and not app.lists.ops:
            return NOTHING
        if action not in ("pageout", "lru_prio", "lru_deprio", "migrate_hot", "migrate_cold", "stat"):
            return NOTHING
        start, end = self.rules.action_range(*app.bytes_)
        frames = np.arange(start // page_size(), min(-(-end // page_size()), self.memory.nr_frames))
        asks_young = action == "pageout" and self.rules.pageout_spares_young
        extra = (YOUNG_REJECT,) if asks_young and not _has_young(app.lists.ops) else ()
        folios = self._passing(frames, app, extra)
        return self._act_on_folios(action, folios, app), folios.total_bytes()

    def _passing(self, frames: I64, app: Application, extra: Sequence[DamosFilter] = ()) -> Folios:
        frames = self.rules.walked_frames(frames, self.memory.huge_blocks[frames // pages_per_huge()])
        folios = folios_in(self.memory, frames, app.now_ns, app.last_folio)
        if len(folios):
            app.last_folio = int(folios.head[-1]) if self.rules.folio_counts_once else NO_FRAME
        if app.bypass:
            return folios
        if self.rules.page_filters_ask_core_filters and any(
            self.rules.filter_verdict(False, item.matching, item.allow) is False for item in app.lists.core
        ):
            return folios.take(np.zeros(len(folios), np.bool_))
        default_reject = self.rules.ops_default_reject(app.lists.ops_allows_last)
        return passing(folios, (*app.lists.ops, *extra), default_reject, self.rules, app.now_ns)

    def _act_on_folios(self, action: str, folios: Folios, app: Application) -> int:
        frames = folios.frames()
        match action:
            case "pageout":
                done = self._reclaim(frames, app.now_ns) * page_size()
                return self.rules.pages_applied(done, folios.total_bytes())
            case "lru_prio":
                self.memory.activate(frames, self.rules.lru_prio_in_one_step)
                return folios.total_bytes()
            case "lru_deprio":
                self.memory.deactivate(frames[self.memory.active[frames]])
                return folios.total_bytes()
            case "migrate_hot" | "migrate_cold":
                return self._migrate(folios, self._nids(folios, app, None))
        return 0

    def _reclaim(self, frames: I64, now_ns: int) -> int:
        rules = self.rules
        return self.memory.reclaim(
            frames, now_ns, locked_too=not rules.locked_stays, dirty_too=not rules.dirty_stays
        )

    def _nids(self, folios: Folios, app: Application, process: Process | None) -> I64:
        """Return the node that each folio goes to: by weight only in the memory of a process."""
        dests = () if process is None and self.rules.dests_need_vaddr else app.scheme.dests
        if not dests:
            return np.full(len(folios), app.scheme.target_nid)
        index = self._place_in_order(folios, process)
        return self.rules.interleaved(index, [(dest.id, dest.weight) for dest in dests])

    def _place_in_order(self, folios: Folios, process: Process | None) -> I64:
        """Return each folio's place in the order in which nodes take turns, counted in folios: where its
        mapping begins (files are mapped from their start, anonymous memory counts from address 0), plus its
        distance from there."""
        pages = self.memory.page[folios.head]
        if process is None or not len(pages):
            return pages // folios.pages
        first = process.mapping_starts(pages)
        offset = np.where(self.memory.file[folios.head], 0, first)
        return offset // folios.pages + (pages - first) // folios.pages

    def _migrate(self, folios: Folios, nids: I64) -> int:
        """Move each folio to its node, as far as there is room; never to another node instead."""
        moved, nids = 0, self.rules.migration_node(nids)
        at = self.memory.node_of(folios.head)
        for nid in np.unique(nids).tolist():
            if self.memory.has_node(nid):
                for pages in (1, pages_per_huge()):
                    chosen = folios.take((nids == nid) & (at != nid) & (folios.pages == pages))
                    done = self.memory.migrate(chosen.head, pages, nid)
                    moved += done
                    if not self.rules.full_node_refuses:
                        moved += self._move_elsewhere(chosen.head[done // pages :], pages)
            elif not self.rules.unmovable_is_put_back:
                self.memory.isolated[folios.take(nids == nid).frames()] = True
        return self.rules.pages_applied(moved * page_size(), folios.total_bytes())

    def _move_elsewhere(self, heads: I64, pages: int) -> int:
        """Move folios that found no room within the nodes they are on; return pages moved (a fault)."""
        at = self.memory.node_of(heads)
        return sum(self.memory.migrate(heads[at == nid], pages, nid) for nid in np.unique(at).tolist())

    # Virtual memory

    def apply_virtual(self, app: Application, process: Process) -> tuple[int, int]:
        self.memory.place()
        action = self.rules.action_done("vaddr", app.scheme.action)
        if action in MADVISE:
            return self._madvise(action, app, process), 0
        if action == "stat" and app.lists.ops and self.rules.vaddr_filters_pages:
            frames = self._frames(self._mapped(app, process), process)
            return 0, self._passing(frames, app).total_bytes()
        if action in ("migrate_hot", "migrate_cold") and self.rules.vaddr_migrates:
            return self._migrate_virtual(app, process)
        return NOTHING

    def _mapped(self, app: Application, process: Process) -> list[Range]:
        return clip([self.rules.action_range(*app.bytes_)], process.vmas)

    def _frames(self, ranges: Sequence[Range], process: Process) -> I64:
        """Frames of the pages of mapped ranges, in the order of their addresses."""
        frames = process.frames_of(_pages(ranges))
        present: I64 = frames[frames != NO_FRAME]
        return present

    def _madvise(self, action: str, app: Application, process: Process) -> int:
        """Advise what is mapped, up to the first memory that refuses; count bytes only when all took the
        advice."""
        start, end = app.bytes_
        ranges, refused = self._mapped(app, process), self._refusing(action, app, process)
        if refused:
            ranges = clip(ranges, [(0, min(refused)[0])])
        done = self._advise(action, ranges, app, process)
        failed = bool(refused) or not done or not process.is_fully_mapped(start, end)
        return self.rules.madvise_applied(end - start, failed)

    def _refusing(self, action: str, app: Application, process: Process) -> list[Range]:
        """Return the memory that refuses: hugetlb takes only ``willneed``; locked memory no ``cold`` and
        ``pageout``."""
        refusing = clip([app.bytes_], process.hugetlb) if action != "willneed" else []
        if action in ("cold", "pageout") and self.rules.locked_stays:
            refusing += clip([app.bytes_], process.locked)
        return refusing

    def _advise(self, action: str, ranges: Sequence[Range], app: Application, process: Process) -> bool:
        """Do what an madvise() does to mapped ranges that do not refuse it. Returns whether it succeeds."""
        memory, frames = self.memory, self._frames(ranges, process)
        memory.settle(frames, app.now_ns)
        match action:
            case "willneed":
                memory.bring_back(frames)
            case "cold" | "pageout":
                resident = frames[memory.out_since[frames] == 0]
                # What others map, too, is left to them.
                own = resident[~process.are_shared(memory.page[resident])]
                memory.split_partial(own)
                if action == "pageout":
                    self._reclaim(own, app.now_ns)
                else:
                    memory.deactivate(own)
                    memory.note_cleared(own, app.now_ns)
            case "hugepage" | "nohugepage":
                process.advise_huge(ranges, action == "hugepage")
            case "collapse":
                return memory.collapse(process, ranges)
        return True

    def _migrate_virtual(self, app: Application, process: Process) -> tuple[int, int]:
        folios = self._passing(self._frames(self._mapped(app, process), process), app)
        return self._migrate(folios, self._nids(folios, app, process)), folios.total_bytes()


def _has_young(filters: Sequence[DamosFilter]) -> bool:
    return any(item.type == "young" for item in filters)


def _pages(ranges: Sequence[Range]) -> I64:
    if not ranges:
        return np.zeros(0, np.int64)
    return np.concatenate([np.arange(start // page_size(), end // page_size()) for start, end in ranges])
