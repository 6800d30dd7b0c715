# SPDX-License-Identifier: GPL-2.0
"""Collect a session's snapshots from DAMON's tracepoints, or by polling its tried regions."""

from __future__ import annotations

import errno
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Literal, Protocol

from damon_tests.damon import trace
from damon_tests.damon.client import DamonClient
from damon_tests.damon.params import ANY, Damos, DamosQuota, DamosWatermarks, Kdamond
from damon_tests.damon.records import Recording, Snapshot, Source
from damon_tests.ports import (
    LOST_EVENTS,
    NSEC_PER_MSEC,
    Event,
    Events,
    EventStream,
    NotSupported,
    TreeError,
)

Wanted = Literal["events", "tried_regions", "none"]

POLLED_SCHEME = Damos(action="stat", access_pattern=ANY)
"""The scheme to poll: it tries every region at every aggregation, and only counts."""


class Collector(Protocol):
    """Collects snapshots. ``kdamonds``: the requests to stage; ``period_ns``: how often to collect."""

    kdamonds: tuple[Kdamond, ...]
    period_ns: int

    def adapt(self, kdamonds: Sequence[Kdamond]) -> tuple[Kdamond, ...]:
        """Return the requests to stage for new requests that are committed online."""
        ...

    def open(self) -> None:
        """Begin; called before any kdamond is turned on."""
        ...

    def started(self, kdamond_idx: int, pid: int) -> None: ...

    def collect(self) -> None:
        """Fetch the snapshots that are available now."""
        ...

    def close(self) -> None:
        """Fetch the rest and end; called when all kdamonds are off. May be called twice."""
        ...

    def recording(self, kdamond_idx: int, started_ns: int, stopped_ns: int, final: bool) -> Recording: ...

    def typed(self, names: Sequence[str], kdamond_idx: int) -> list[trace.TypedEvent]: ...


def wanted_source(source: str, events: Events | None, kdamonds: Sequence[Kdamond]) -> Wanted:
    """Return the source that "auto" stands for. Raises NotSupported if it cannot serve these requests."""
    traced = events is not None and trace.AGGREGATED in events.available()
    if source == "none" or not kdamonds:
        return "none"
    if source == "tried_regions" or (source == "auto" and not traced):
        if any(len(k.ctx.targets) > 1 for k in kdamonds):
            raise NotSupported(
                "recording several targets by tried regions, which do not name their target",
                remedy="mount tracefs: the tracepoint damon_aggregated names the target",
            )
        return "tried_regions"
    if not traced:
        raise NotSupported(f"tracepoint {trace.AGGREGATED}", remedy="mount tracefs, run as root")
    return "events"


class Tracing:
    """Records every aggregation, through tracepoints."""

    period_ns = 250 * NSEC_PER_MSEC

    def __init__(
        self, events: Events | None, kdamonds: Sequence[Kdamond], extra: Sequence[str], wanted: Wanted
    ) -> None:
        self.kdamonds = tuple(kdamonds)
        self._first_requests = self.kdamonds
        self._events = events
        available = events.available() if events else frozenset()
        self._regions = [_region_event(k, available) for k in kdamonds] if wanted == "events" else []
        names = [*self._regions, *extra]
        if wanted == "events" and trace.INTERVALS_TUNE in available:
            names += [trace.INTERVALS_TUNE for k in kdamonds if k.ctx.attrs.intervals_goal.aggrs]
        self._names = list(dict.fromkeys(names))
        self._stream: EventStream | None = None
        self._seen: list[Event] = []
        self._pids: dict[int, int] = {}
        self._lost = 0

    def adapt(self, kdamonds: Sequence[Kdamond]) -> tuple[Kdamond, ...]:
        self.kdamonds = tuple(kdamonds)
        return self.kdamonds

    def open(self) -> None:
        if self._names:
            if self._events is None:
                raise NotSupported(*(f"tracepoint {name}" for name in self._names), remedy="mount tracefs")
            self._stream = self._events.open(self._names)

    def started(self, kdamond_idx: int, pid: int) -> None:
        self._pids[kdamond_idx] = pid

    def collect(self) -> None:
        if self._stream is not None:
            self._seen += self._stream.read()
            self._lost = self._stream.lost()

    def close(self) -> None:
        if self._stream is not None:
            self._stream.close()
            self.collect()
            self._stream = None

    def recording(self, kdamond_idx: int, started_ns: int, stopped_ns: int, final: bool) -> Recording:
        name = self._regions[kdamond_idx]
        arrived = trace.snapshots(self._of(kdamond_idx, name))
        snapshots = [s for s in arrived if s.time_ns <= stopped_ns]
        if not final and snapshots and not snapshots[-1].complete:
            snapshots.pop()  # still arriving
        tuned = (trace.parse_event(e) for e in self._of(kdamond_idx, trace.INTERVALS_TUNE))
        return _recording(
            "damon_region_aggregated" if name == trace.REGION_AGGREGATED else "damon_aggregated",
            self._first_requests[kdamond_idx],
            snapshots,
            (started_ns, stopped_ns),
            lost_events=self._lost,
            intervals=tuple((e.time_ns, e.sample_us) for e in tuned if isinstance(e, trace.TuneEvent)),
        )

    def typed(self, names: Sequence[str], kdamond_idx: int) -> list[trace.TypedEvent]:
        return trace.parse_events(self._of(kdamond_idx, *names))

    def _of(self, kdamond_idx: int, *names: str) -> list[Event]:
        """Return the events of one kdamond with these names in time order, holes included."""
        names = (*names, LOST_EVENTS)
        pids = (0, self._pids.get(kdamond_idx, 0))
        anybody = len(self.kdamonds) == 1 and pids[1] <= 0  # it ended before its pid could be read
        events = [e for e in self._seen if e.name in names and (anybody or e.pid in pids)]
        if any(b.time_ns < a.time_ns for a, b in pairwise(events)):
            events.sort(key=lambda e: e.time_ns)  # stable: a hole stays before what follows it
        return events


class Polling:
    """Polls the regions that a ``stat`` scheme tried; misses some aggregations."""

    period_ns = 10 * NSEC_PER_MSEC  # reading waits for the next aggregation anyway

    def __init__(self, client: DamonClient, kdamonds: Sequence[Kdamond]) -> None:
        self._client = client
        self.kdamonds = self.adapt(kdamonds)
        self._first_requests = self.kdamonds
        self._snapshots: list[list[Snapshot]] = [[] for _ in kdamonds]
        self._started: set[int] = set()

    def adapt(self, kdamonds: Sequence[Kdamond]) -> tuple[Kdamond, ...]:
        self.kdamonds = tuple(_with_polled_scheme(k) for k in kdamonds)
        return self.kdamonds

    def open(self) -> None:
        """Do nothing: polling needs no set-up."""

    def started(self, kdamond_idx: int, pid: int) -> None:
        self._started.add(kdamond_idx)

    def collect(self) -> None:
        for i in sorted(self._started):
            scheme_idx = _polled_scheme(self.kdamonds[i])
            assert scheme_idx is not None
            try:
                tried = self._client.tried_regions(i, scheme_idx)
            except TreeError as error:
                # The kdamond is paused, or ended with its targets: there are no tried regions now.
                if error.errno not in (errno.ECANCELED, errno.EINVAL):
                    raise
                continue
            if len(tried.regions):
                self._snapshots[i].append(tried.regions)

    def close(self) -> None:
        """Do nothing: a kdamond that is off has no tried regions."""
        self._started.clear()

    def recording(self, kdamond_idx: int, started_ns: int, stopped_ns: int, final: bool) -> Recording:
        snapshots = self._snapshots[kdamond_idx]
        span = (started_ns, stopped_ns)
        return _recording("tried_regions", self._first_requests[kdamond_idx], snapshots, span)

    def typed(self, names: Sequence[str], kdamond_idx: int) -> list[trace.TypedEvent]:
        raise NotSupported(*(f"tracepoint {name}" for name in names), remedy="mount tracefs, run as root")


def _region_event(kdamond: Kdamond, available: frozenset[str]) -> str:
    probed = kdamond.ctx.attrs.probes and trace.REGION_AGGREGATED in available
    return trace.REGION_AGGREGATED if probed else trace.AGGREGATED


def _recording(
    source: Source,
    kdamond: Kdamond,
    snapshots: Sequence[Snapshot],
    span_ns: tuple[int, int],
    *,
    lost_events: int = 0,
    intervals: tuple[tuple[int, int], ...] = (),
) -> Recording:
    return Recording(
        source=source,
        operations=kdamond.ctx.operations,
        sample_us=kdamond.ctx.attrs.sample_us,
        aggr_us=kdamond.ctx.attrs.aggr_us,
        snapshots=tuple(snapshots),
        started_ns=span_ns[0],
        stopped_ns=span_ns[1],
        lost_events=lost_events,
        addr_unit=kdamond.ctx.addr_unit,
        intervals=intervals,
    )


def _polled_scheme(kdamond: Kdamond) -> int | None:
    """Return the index of a scheme that tries every region at every aggregation, None without one."""
    for i, scheme in enumerate(kdamond.ctx.schemes):
        bare = replace(scheme, target_nid=-1, dests=(), apply_interval_us=0)
        each = scheme.apply_interval_us in (0, kdamond.ctx.attrs.aggr_us)
        if each and bare == replace(POLLED_SCHEME, quota=DamosQuota(), watermarks=DamosWatermarks()):
            return i
    return None


def _with_polled_scheme(kdamond: Kdamond) -> Kdamond:
    if _polled_scheme(kdamond) is not None:
        return kdamond
    schemes = (*kdamond.ctx.schemes, POLLED_SCHEME)
    return replace(kdamond, ctx=replace(kdamond.ctx, schemes=schemes))
