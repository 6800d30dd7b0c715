# SPDX-License-Identifier: GPL-2.0
"""Turn schemes on for some passes of a live run, and compare the pages before and after."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

from damon_tests.damon import trace
from damon_tests.damon.params import ANY, Damos, DamosFilter
from damon_tests.damon.records import DamosStats
from damon_tests.experiment.live import Live
from damon_tests.patterns.load import load
from damon_tests.ports import NSEC_PER_SEC, page_size
from damon_tests.ports.ranges import Range
from damon_tests.ports.word import user_space_end
from damon_tests.workload.pages import PageStates
from damon_tests.workload.target import RunningTarget

BEFORE_APPLY = "damos_before_apply"
APPLY_US = 20_000
PATIENCE_NS = 180 * NSEC_PER_SEC

Memories = Mapping[tuple[int, str], PageStates]


@dataclass(frozen=True, eq=False)
class Acted:
    """What schemes did to memory.

    ``before``, ``after``: pages by (number of the target, region). ``stats``: of each scheme, read just
    before it was removed. ``counted``: for each scheme the events that its ``stats`` count. ``tried``: all
    events until the schemes were removed. ``in_time``: the passes were done within ``PATIENCE_NS``.
    """

    before: Memories
    after: Memories
    stats: tuple[DamosStats, ...]
    counted: tuple[tuple[trace.BeforeApplyEvent, ...], ...]
    tried: tuple[trace.BeforeApplyEvent, ...]
    in_time: bool

    def pair(self, region: str, target: int = 0) -> tuple[PageStates, PageStates]:
        """Return (before, after) of one region."""
        return self.before[target, region], self.after[target, region]

    def pairs(self) -> dict[tuple[int, str], tuple[PageStates, PageStates]]:
        """Return (before, after) of all regions of all targets."""
        return {key: (pages, self.after[key]) for key, pages in self.before.items()}

    def others(self, *regions: str) -> list[tuple[PageStates, PageStates]]:
        """Return (before, after) of all regions of all targets, except ``regions`` of the first target."""
        named = {(0, region) for region in regions}
        return [pair for key, pair in self.pairs().items() if key not in named]

    def sz_counted(self, scheme_idx: int = 0) -> int:
        """Return the bytes of the regions that ``stats`` count.

        Not ``stats.sz_tried``: until 7.2 it counts a region's size before an address filter cut it.
        """
        return sum(event.end - event.start for event in self.counted[scheme_idx])


def look(run: Live, *more: RunningTarget) -> Memories:
    """Return the pages of all targets now, by (number of the target, region).

    ``more``: further targets, numbered after the run's.
    """
    return {
        (number, name): run.pages(name, target)
        for number, target in enumerate((*run.targets, *more))
        for name in target.layout
    }


def act(
    run: Live,
    *schemes: Damos,
    over: Sequence[Range] = (),
    passes: int = 1,
    until: Callable[[], bool] = lambda: True,
    more: Sequence[RunningTarget] = (),
) -> Acted:
    """Commit these schemes to the first kdamond, wait, remove them, and return what they did.

    It waits until each scheme was tried ``passes`` times on all of ``over`` (monitored byte ranges) and
    ``until`` holds, at most ``PATIENCE_NS``. The run must trace ``BEFORE_APPLY`` and have no schemes, so that
    memory can be read before any scheme is applied. ``more``: further targets to read.
    """
    before, since_ns = look(run, *more), run.clock.now_ns()
    run.commit(replace(run.ctx, schemes=schemes))

    def done() -> bool:
        events_by_scheme = _by_scheme(_tried(run, since_ns), len(schemes))
        return all(not over or fewest(events, over) >= passes for events in events_by_scheme) and until()

    in_time = run.session.record(PATIENCE_NS, until=done)
    stats = tuple(run.client.stats(0, i) for i in range(len(schemes)))
    run.commit(replace(run.ctx, schemes=()))
    after, tried = look(run, *more), _tried(run, since_ns)
    events_by_scheme = _by_scheme(tried, len(schemes))
    counted = tuple(tuple(events[: s.nr_tried]) for events, s in zip(events_by_scheme, stats, strict=True))
    return Acted(before, after, stats, counted, tried, in_time)


def _tried(run: Live, since_ns: int) -> tuple[trace.BeforeApplyEvent, ...]:
    events = run.session.events(BEFORE_APPLY)
    return tuple(e for e in events if isinstance(e, trace.BeforeApplyEvent) and e.time_ns >= since_ns)


def _by_scheme(tried: Sequence[trace.BeforeApplyEvent], schemes: int) -> list[list[trace.BeforeApplyEvent]]:
    return [[event for event in tried if event.scheme_idx == i] for i in range(schemes)]


@contextmanager
def waiting(run: Live, pattern: str) -> Iterator[RunningTarget]:
    """Start one more target, which touches nothing until ``go``.

    The first kdamond monitors it instead of its targets before.
    """
    target = run.subject.start_target(load(pattern), seed=1)
    try:
        run.commit(replace(run.ctx, targets=run.covering(target)))
        yield target
    finally:
        target.stop()


def middle(span: Range) -> Range:
    """Return about the middle half of a byte range: bounds are aligned to pages, but not to huge pages."""
    start, end = span
    quarter = (end - start) // 4 // page_size() * page_size()
    return start + quarter + 3 * page_size(), end - quarter - 5 * page_size()


def upper_frames(target: RunningTarget) -> tuple[Range, list[Range]]:
    """Return about the upper half of a target's physical memory, in bytes.

    That is the span of addresses, and the ranges in it that belong to the target.
    """
    frames = sorted(f for ranges in target.physical().values() for f in ranges)
    start, end = frames[len(frames) // 2]
    span = ((start + end) // 2 // page_size() * page_size(), frames[-1][1])
    return span, [(max(low, span[0]), high) for low, high in frames if high > span[0]]


def fewest(tried: Iterable[trace.BeforeApplyEvent], over: Sequence[Range]) -> int:
    """Return how often the least tried part of ``over`` was tried. ``over``: in the events' units."""
    steps = [step for e in tried for step in ((e.start, 1), (e.end, -1))]
    edges = sorted({at for at, _ in steps} | {at for wanted in over for at in wanted})
    change = dict.fromkeys(edges, 0)
    for at, step in steps:
        change[at] += step
    count, least = 0, None
    for at, after in pairwise(edges):
        count += change[at]
        if any(start <= at and after <= end for start, end in over):
            least = count if least is None else min(least, count)
    return least or 0


def scheme(action: str, span: Range | None = None, apply_us: int = APPLY_US, **fields: Any) -> Damos:
    """Return a scheme for all memory, or exactly for [start, end) of ``span``, of any access pattern.

    By default it is due several times in an aggregation. So a later pass visits the right part of a region
    that the span's bounds cut, which 6.12 leaves out in the pass that cuts.
    """
    filters = () if span is None else only(*span)
    return Damos(action, ANY, apply_interval_us=apply_us, filters=filters, **fields)


def only(start: int, end: int) -> tuple[DamosFilter, ...]:
    """Return ``Damos.filters`` that let a scheme act on exactly [start, end).

    Bounds are page aligned, in core address units. Two filters reject what is below and what is above. A
    single filter that rejects everything outside would do, but with it 6.12 rejects every page of physical
    memory: it takes the address filter for a page filter that no page matches.
    """
    below = DamosFilter("addr", matching=True, addr_start=0, addr_end=start)
    above = DamosFilter("addr", matching=True, addr_start=end, addr_end=user_space_end())
    return below, above
