# SPDX-License-Identifier: GPL-2.0
"""Read the passes of one scheme from tracepoints: the regions it tried, and those it selected from.

For schemes with apply_interval_us 0, which are applied once per aggregation: the kdamond traces a pass just
before the regions of its aggregation, without a sleep. damon_aggregated prints regions after the pass; those
before it follow, because a pass changes only the ages of regions that it tried.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from damon_tests.damon import trace
from damon_tests.damon.trace import AggregatedEvent, BeforeApplyEvent, EszEvent, LostEvent, StatEvent

Place = tuple[int, int]
"""(index of the target, address): the order in which schemes go through memory."""


EXTRA_EVENTS = (trace.BEFORE_APPLY, trace.ESZ, trace.STAT_AFTER_APPLY)
"""The tracepoints that a run must record besides damon_aggregated, as far as the DAMON has them."""


@dataclass(frozen=True)
class Piece:
    """Memory with one nr_accesses and age when the pass began: core address units, samples, aggregations."""

    target_idx: int
    start: int
    end: int
    nr_accesses: int
    age: int

    @property
    def size(self) -> int:
        return self.end - self.start


@dataclass(frozen=True)
class Pass:
    """One pass of a scheme. ``begin_ns``, ``end_ns``: the times of its first and last event.

    ``applied``: the tried regions, in order. ``esz``: the effective quotas traced in it. ``stat``: the
    counters after it; None before 7.0. ``regions``: the aggregation's, of all targets.
    """

    begin_ns: int
    end_ns: int
    applied: tuple[BeforeApplyEvent, ...]
    esz: tuple[EszEvent, ...]
    stat: StatEvent | None
    regions: tuple[AggregatedEvent, ...]

    def pieces(self) -> list[Piece]:
        """Return all monitored memory as it was when the pass began, in order."""
        applied = [Piece(e.target_idx, e.start, e.end, e.nr_accesses, e.age) for e in self.applied]
        applied.sort(key=lambda p: (p.target_idx, p.start))
        before_pass: list[Piece] = []
        for r in self.regions:
            here = [p for p in applied if p.target_idx == r.target_id and p.start < r.end and p.end > r.start]
            at = r.start
            for p in here:
                start, end = max(p.start, r.start), min(p.end, r.end)
                if at < start:
                    before_pass.append(Piece(r.target_id, at, start, r.nr_accesses, r.age))
                before_pass.append(Piece(r.target_id, start, end, p.nr_accesses, p.age))
                at = end
            if at < r.end:
                before_pass.append(Piece(r.target_id, at, r.end, r.nr_accesses, r.age))
        return before_pass


def of_events(events: Sequence[trace.TypedEvent], scheme_idx: int = 0) -> list[Pass]:
    """Return the complete passes of a scheme from a run's events, in order. Empty if events were lost."""
    if any(isinstance(e, LostEvent) for e in events):
        return []
    complete: list[Pass] = []
    events_before: list[trace.TypedEvent] = []
    regions: list[AggregatedEvent] = []
    for event in events:
        ends = regions and (not isinstance(event, AggregatedEvent) or _place(event) <= _place(regions[-1]))
        if ends:
            complete.append(_pass(events_before, regions, scheme_idx))
            events_before, regions = [], []
        if isinstance(event, AggregatedEvent):
            regions.append(event)
        else:
            events_before.append(event)
    if regions and _complete(regions):
        complete.append(_pass(events_before, regions, scheme_idx))
    return complete


def _place(event: AggregatedEvent) -> Place:
    return event.target_id, event.start


def _complete(regions: Sequence[AggregatedEvent]) -> bool:
    """Return whether all regions of the last target were traced."""
    last = regions[-1]
    return sum(r.target_id == last.target_id for r in regions) == last.nr_regions


def _pass(
    events_before: Sequence[trace.TypedEvent], regions: Sequence[AggregatedEvent], scheme_idx: int
) -> Pass:
    mine = [e for e in events_before if getattr(e, "scheme_idx", scheme_idx) == scheme_idx]
    stats = [e for e in mine if isinstance(e, StatEvent)]
    return Pass(
        begin_ns=mine[0].time_ns if mine else regions[0].time_ns,
        end_ns=regions[-1].time_ns,
        applied=tuple(e for e in mine if isinstance(e, BeforeApplyEvent)),
        esz=tuple(e for e in mine if isinstance(e, EszEvent)),
        stat=stats[-1] if stats else None,
        regions=tuple(regions),
    )
