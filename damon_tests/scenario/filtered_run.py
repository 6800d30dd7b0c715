# SPDX-License-Identifier: GPL-2.0
"""Run many lists of filters at once, and check the bytes that each list lets through.

One context has a scheme for every list. Schemes that do not change memory all see the same pages. DAMON
merges and splits nothing when its regions do not touch and are more than max_nr_regions. Then the bytes that
each list lets through in a pass follow exactly from the pages (``judge.schemes.filters``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from damon_tests.damon.params import DamonAttrs, DamonTarget, Damos
from damon_tests.damon.records import DamosStats
from damon_tests.experiment.live import Live
from damon_tests.judge.schemes.filters import (
    PageFacts,
    acted_bounds,
    allowed_by_core,
    pages_of,
    passed_bounds,
    separate_ranges,
    verdicts,
)
from damon_tests.judge.verdict import Check, Measurement
from damon_tests.ports import NSEC_PER_SEC, Bools, HarnessError, page_size
from damon_tests.workload.pages import PageStates

STILL = DamonAttrs(sample_us=20_000, aggr_us=100_000, min_nr_regions=3, max_nr_regions=3)
"""With more than three ranges that do not touch, DAMON neither merges nor splits regions."""

_PATIENCE_NS = 60 * NSEC_PER_SEC


class WatchedMemory:
    """The memory of a run's targets, and the ranges of it that DAMON watches, which do not touch.

    ``operations`` "paddr": one DamonTarget with the physical ranges of all targets; else one for each target.
    ``only``: numbers of the targets; None: all. ``most_pages``: size of the largest range of small pages.
    Raises HarnessError when DAMON would split the largest range.
    """

    def __init__(
        self, run: Live, operations: str, only: Sequence[int] | None = None, most_pages: int = 64
    ) -> None:
        self.run = run
        self.operations = operations
        self._chosen = tuple(range(len(run.targets)) if only is None else only)
        known = self._known()
        # As many as there are DamonTargets.
        parts = [PageFacts.joined(known)] if self.physical else known
        self.ranges = tuple(separate_ranges(part, most_pages * page_size()) for part in parts)
        sizes = [end - start for ranges in self.ranges for start, end in ranges]
        if not sizes or max(sizes) * STILL.min_nr_regions > sum(sizes):
            raise HarnessError(f"DAMON would split the largest of ranges of {sizes} bytes: too little memory")

    def targets(self) -> tuple[DamonTarget, ...]:
        """Return the DamonTargets to request."""
        if self.physical:
            return (DamonTarget(regions=self.ranges[0]),)
        pids = [self.run.targets[i].pid for i in self._chosen]
        return tuple(DamonTarget(pid, ranges) for pid, ranges in zip(pids, self.ranges, strict=True))

    def pages(self) -> PageFacts:
        """Return the watched pages as they are now."""
        known = self._known()
        if self.physical:
            return PageFacts.joined(known).within(self.ranges[0])
        return PageFacts.joined([p.within(r) for p, r in zip(known, self.ranges, strict=True)])

    def states(self, target_idx: int = 0) -> dict[str, PageStates]:
        """Return all pages of a target's regions, by region name, as they are now, watched or not."""
        target = self.run.targets[self._chosen[target_idx]]
        return {name: self.run.pages(name, target) for name in target.layout}

    def asked(self, scheme: Damos, states: Mapping[str, PageStates], target_idx: int = 0) -> dict[str, Bools]:
        """Return which watched pages the scheme acts on: for each region a bool for each page."""
        ranges = self.ranges[0 if self.physical else target_idx]
        acted_pages = {}
        for name, state in states.items():
            facts = self._facts(target_idx, {name: state})
            inside = np.isin(facts.address, facts.within(ranges).address)
            acted_pages[name] = np.zeros(len(state), np.bool_)
            acted_pages[name][state.present] = inside & verdicts(scheme, facts, self.operations).acted_on
        return acted_pages

    def memcg(self, target_idx: int = 0) -> str:
        """Return the path of a target's memory control group; the root's is "/"."""
        return self.run.targets[self._chosen[target_idx]].memcg or "/"

    @property
    def physical(self) -> bool:
        return self.operations == "paddr"

    def _known(self) -> list[PageFacts]:
        return [self._facts(i, self.states(i)) for i in range(len(self._chosen))]

    def _facts(self, target_idx: int, states: Mapping[str, PageStates]) -> PageFacts:
        return pages_of(
            self.run.targets[self._chosen[target_idx]].pattern,
            states,
            physical=self.physical,
            memcg=self.memcg(target_idx),
            target_idx=0 if self.physical else target_idx,
        )


@dataclass(frozen=True, eq=False)
class Table:
    """Statistics of schemes that differ in their filters. The first has no filter and the others' action.

    ``schemes``: by name. ``stats``: in the same order. ``before``, ``after``: all watched pages, read before
    the first and after the last pass.
    """

    schemes: Mapping[str, Damos]
    stats: Sequence[DamosStats]
    before: PageFacts
    after: PageFacts
    operations: str


def pass_once(
    run: Live, memory: WatchedMemory, schemes: Mapping[str, Damos], known: PageFacts | None = None
) -> Table:
    """Commit the schemes to the run, wait for at least one pass, and return their statistics.

    ``known``: the watched pages, for pages that cannot be read (unmapped ones); None: read them.
    """
    before = memory.pages() if known is None else known
    ctx = run.ctx
    chosen = tuple(schemes.values())
    run.commit(type(ctx)(memory.operations, attrs=STILL, targets=memory.targets(), schemes=chosen))
    run.session.record(until=lambda: run.client.stats(0, 0).nr_tried > 0, timeout_ns=_PATIENCE_NS)
    stats = [run.client.stats(0, i, update=i == 0) for i in range(len(chosen))]
    after = memory.pages() if known is None else known
    return Table(schemes, stats, before, after, memory.operations)


def table_holds(table: Table) -> list[Check]:
    """Check the bytes that each list of filters lets through in whole passes (§4.8).

    The bytes are sz_tried, sz_ops_filter_passed where the kernel has it, and sz_applied of lru_prio and
    lru_deprio.
    """
    total = len(table.before) * page_size()
    passes, rest = divmod(table.stats[0].sz_tried, total)
    m = Measurement("bytes tried without a filter", float(table.stats[0].sz_tried), "bytes")
    whole = passes > 0 and rest == 0
    checks = [Check("invariant", m, f"a multiple of {total}", "each pass tries all of it", whole)]
    if not whole:
        return checks
    wrong = []
    for (name, scheme), got in zip(table.schemes.items(), table.stats, strict=True):
        wrong += [f"{name}: {what}" for what in _differences(table, scheme, got, passes)]
    many = Measurement("filter lists that let other bytes through", float(len(wrong)), "count")
    why = f"filters decide in order (§4.8); {len(table.schemes)} lists, {len(table.before)} pages"
    shown = "; ".join(wrong[:4]) + (f"; and {len(wrong) - 4} more" if len(wrong) > 4 else "")
    return [*checks, Check("closed form", many, "== 0", why, not wrong, shown)]


def _differences(table: Table, scheme: Damos, got: DamosStats, passes: int) -> list[str]:
    wrong = []
    allowed, _ = allowed_by_core(scheme, table.before)
    tried = int(allowed.sum()) * page_size() * passes
    if got.sz_tried != tried:
        wrong.append(f"tried {got.sz_tried} instead of {tried} bytes")
    moments = (table.before, table.after)
    if got.sz_ops_filter_passed is not None:
        low, high = (size * passes for size in passed_bounds(scheme, moments, table.operations))
        if not low <= got.sz_ops_filter_passed <= high:
            wrong.append(f"{got.sz_ops_filter_passed} bytes passed instead of {low} to {high}")
    if scheme.action in ("lru_prio", "lru_deprio"):
        low, high = (size * passes for size in acted_bounds(scheme, moments, table.operations))
        if not low <= got.sz_applied <= high:
            wrong.append(f"applied to {got.sz_applied} instead of {low} to {high} bytes")
    return wrong
