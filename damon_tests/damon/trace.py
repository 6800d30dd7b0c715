# SPDX-License-Identifier: GPL-2.0
"""Parse DAMON's six tracepoints, as trace_pipe and ``perf script`` print them, into typed values.

Aggregations come by the hundred thousand, so ``snapshots`` parses them by column; single
events go through ``parse_event``. A malformed line is a HarnessError: it is never skipped.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from damon_tests.damon.records import Snapshot
from damon_tests.ports import LOST_EVENTS, NSEC_PER_SEC, NSEC_PER_USEC, Event, HarnessError

AGGREGATED = "damon_aggregated"
REGION_AGGREGATED = "damon_region_aggregated"
BEFORE_APPLY = "damos_before_apply"
ESZ = "damos_esz"
INTERVALS_TUNE = "damon_monitor_intervals_tune"
STAT_AFTER_APPLY = "damos_stat_after_apply_interval"
MARK = "tracing_mark_write"
"""Text that user space wrote to ``trace_marker``."""


@dataclass(frozen=True, slots=True)
class AggregatedEvent:
    """A region of a target at the end of an aggregation; addresses in core address units.

    ``target_id``: the target's position; ``nr_regions``: the target's current number of regions."""

    time_ns: int
    target_id: int
    nr_regions: int
    start: int
    end: int
    nr_accesses: int
    age: int


@dataclass(frozen=True, slots=True)
class RegionAggregatedEvent:
    """An AggregatedEvent with the hits of each installed probe."""

    time_ns: int
    target_id: int
    nr_regions: int
    start: int
    end: int
    nr_accesses: int
    age: int
    probe_hits: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class BeforeApplyEvent:
    """A scheme is about to apply its action to a region (after core filters and the quota's split)."""

    time_ns: int
    ctx_idx: int
    scheme_idx: int
    target_idx: int
    nr_regions: int
    start: int
    end: int
    nr_accesses: int
    age: int


@dataclass(frozen=True, slots=True)
class EszEvent:
    """A scheme's effective size quota changed; core address units."""

    time_ns: int
    ctx_idx: int
    scheme_idx: int
    esz: int


@dataclass(frozen=True, slots=True)
class TuneEvent:
    """The sampling interval was tuned; the aggregation interval keeps its ratio to it."""

    time_ns: int
    sample_us: int


@dataclass(frozen=True, slots=True)
class StatEvent:
    """A scheme's counters after one apply interval."""

    time_ns: int
    ctx_idx: int
    scheme_idx: int
    nr_tried: int
    sz_tried: int
    nr_applied: int
    sz_applied: int
    sz_ops_filter_passed: int
    qt_exceeds: int
    nr_snapshots: int


@dataclass(frozen=True, slots=True)
class LostEvent:
    """``count`` events were lost here."""

    time_ns: int
    count: int


TypedEvent = (
    AggregatedEvent | RegionAggregatedEvent | BeforeApplyEvent | EszEvent | TuneEvent | StatEvent | LostEvent
)

_N = r"(\d+)"
_REGION = rf"{_N}-{_N}: {_N} {_N}"
_HITS = r"((?:[0-9a-f]{2}(?: [0-9a-f]{2})*)?)"
_CTX_SCHEME = rf"ctx_idx={_N} scheme_idx={_N}"
_STATS = " ".join(
    f"{name}={_N}"
    for name in (
        "nr_tried",
        "sz_tried",
        "nr_applied",
        "sz_applied",
        "sz_ops_filter_passed",
        "qt_exceeds",
        "nr_snapshots",
    )
)

FORMATS: Mapping[str, tuple[str, Callable[..., TypedEvent]]] = {
    AGGREGATED: (rf"target_id={_N} nr_regions={_N} {_REGION}", AggregatedEvent),
    REGION_AGGREGATED: (
        rf"target_id={_N} nr_regions={_N} {_REGION} probe_hits={_HITS}",
        RegionAggregatedEvent,
    ),
    BEFORE_APPLY: (rf"{_CTX_SCHEME} target_idx={_N} nr_regions={_N} {_REGION}", BeforeApplyEvent),
    ESZ: (rf"{_CTX_SCHEME} esz={_N}", EszEvent),
    INTERVALS_TUNE: (rf"sample_us={_N}", TuneEvent),
    STAT_AFTER_APPLY: (rf"{_CTX_SCHEME} {_STATS}", StatEvent),
    LOST_EVENTS: (_N, LostEvent),
}
"""Printed format of each event: (pattern of the text, constructor from its fields)."""

_PATTERNS = {name: (re.compile(pattern), make) for name, (pattern, make) in FORMATS.items()}


def parse_event(event: Event) -> TypedEvent:
    """Return the typed value of an event. Raises HarnessError for an unknown event or malformed text."""
    format = _PATTERNS.get(event.name)
    match = format[0].fullmatch(event.text) if format else None
    if format is None or match is None:
        what = "malformed" if format else "unknown"
        raise HarnessError(f"{what} event: {event.name}: {event.text!r}")
    fields: list[Any] = list(match.groups())
    hits = [tuple(bytes.fromhex(fields.pop()))] if event.name == REGION_AGGREGATED else []
    return format[1](event.time_ns, *map(int, fields), *hits)


def parse_events(events: Iterable[Event]) -> list[TypedEvent]:
    """Return ``parse_event`` of all events, in order."""
    return [parse_event(event) for event in events]


# --- lines ---------------------------------------------------------------------------------------

# trace_pipe:   "     kdamond.0-4452    [000] .....    82.877315: damon_aggregated: target_id=0 ..."
# perf script:  "kdamond.0  4452 [000] 82877.315633: damon:damon_aggregated: target_id=0 ..."
# A regular expression, as such lines come by the hundred thousand (``ports.lines``).
_LINE = re.compile(
    r"\s*.{1,16}?[- ]\s*(\d+)\s+\[\d+\](?:\s+[^\s:]{4,6})?\s+"  # thread, CPU, flags
    r"(\d+)\.(\d{6}|\d{9}): +(?:\w+:)?(\w+):(?: (.*))?"  # time, event, text
)
_LOST_LINE = re.compile(r"\s*CPU:\d+ \[LOST(?: (\d+))? EVENTS\]\s*")


def parse_line(line: str) -> Event:
    """Parse a line of trace_pipe or ``perf script``; a "[LOST n EVENTS]" line becomes an Event of time 0.

    trace_pipe prints microseconds, perf optionally nanoseconds. Raises HarnessError naming the line.
    """
    match = _LINE.fullmatch(line)
    if match:
        pid, seconds, fraction, name, text = match.groups()
        ns = int(fraction) * (NSEC_PER_USEC if len(fraction) == 6 else 1)
        return Event(int(seconds) * NSEC_PER_SEC + ns, name, (text or "").rstrip(), int(pid))
    lost = _LOST_LINE.fullmatch(line)
    if lost:
        return Event(0, LOST_EVENTS, lost[1] or "1")  # at least 1 if the kernel does not know how many
    raise HarnessError(f"malformed trace line: {line!r}")


# --- snapshots -----------------------------------------------------------------------------------

_TO_BLANKS = str.maketrans(dict.fromkeys("abcdefghijklmnopqrstuvwxyz_=-:\n", " "))
_ONE = re.compile(FORMATS[AGGREGATED][0])
_CHUNK = 20_000


@dataclass(frozen=True, eq=False)
class Columns:
    """Aggregation events by column, each of shape (n,); ``probe_hits`` (n, probes) or None."""

    time_ns: npt.NDArray[np.int64]
    target_id: npt.NDArray[np.uint64]
    nr_regions: npt.NDArray[np.uint64]
    start: npt.NDArray[np.uint64]
    end: npt.NDArray[np.uint64]
    nr_accesses: npt.NDArray[np.uint64]
    age: npt.NDArray[np.uint64]
    probe_hits: npt.NDArray[np.uint8] | None = None


def columns(events: Sequence[Event]) -> Columns:
    """Parse ``damon_aggregated`` or ``damon_region_aggregated`` events, all of one name, at once."""
    texts = [event.text for event in events]
    hits = None
    if events and events[0].name == REGION_AGGREGATED:
        texts, hits = _split_hits(texts)
    parts = [_numbers(texts[i : i + _CHUNK]) for i in range(0, len(texts), _CHUNK)]
    table = np.concatenate(parts) if parts else np.empty((0, 6), np.uint64)
    times = np.fromiter((event.time_ns for event in events), np.int64, len(events))
    target_id, nr_regions, start, end, nr_accesses, age = (np.ascontiguousarray(column) for column in table.T)
    return Columns(times, target_id, nr_regions, start, end, nr_accesses, age, hits)


def _numbers(texts: Sequence[str]) -> npt.NDArray[np.uint64]:
    """The six numbers of each text, shape (n, 6)."""
    for text in texts:
        if not _ONE.fullmatch(text):
            raise HarnessError(f"malformed event: {text!r}")
    numbers = "\n".join(texts).translate(_TO_BLANKS)
    return np.fromstring(numbers, np.uint64, sep=" ").reshape(-1, 6)


def _split_hits(texts: Sequence[str]) -> tuple[list[str], npt.NDArray[np.uint8]]:
    pairs = [text.partition(" probe_hits=") for text in texts]
    try:
        rows = [bytes.fromhex(hits) for _, _, hits in pairs]
        table = np.frombuffer(b"".join(rows), np.uint8).reshape(len(rows), -1)
    except ValueError:
        raise HarnessError(f"malformed event or varying number of probes, first: {texts[0]!r}") from None
    return [text for text, _, _ in pairs], table


def snapshots(events: Sequence[Event]) -> list[Snapshot]:
    """Group aggregation events into one Snapshot per aggregation and target, in time order.

    Each target's regions come in an ascending run of ``nr_regions`` events. A run that is shorter, that
    contradicts itself, or that touches a hole (``LOST_EVENTS``) is marked incomplete; so a snapshot is
    complete only if no region can be missing. Raises HarnessError for events of several names.
    """
    names = {event.name for event in events} - {LOST_EVENTS}
    if len(names) > 1:
        raise HarnessError(f"cannot group events of several names: {', '.join(sorted(names))}")
    # A hole has the index of the event that follows it: the number of events before the hole.
    kept = [event for event in events if event.name != LOST_EVENTS]
    is_hole = np.fromiter((event.name == LOST_EVENTS for event in events), np.bool_, len(events))
    holes = np.flatnonzero(is_hole)
    return _group(columns(kept), set((holes - np.arange(len(holes))).tolist()))


def _group(table: Columns, holes: set[int]) -> list[Snapshot]:
    """Cut the columns into runs; ``holes`` are the indices of events that follow a hole."""
    n = len(table.time_ns)
    if n == 0:
        return []
    begins = np.ones(n, np.bool_)
    begins[1:] = (
        (table.target_id[1:] != table.target_id[:-1])
        | (table.start[1:] < table.end[:-1])
        | (table.nr_regions[1:] != table.nr_regions[:-1])
    )
    begins[[hole for hole in holes if hole < n]] = True
    # A run never has more than nr_regions events; for a target of one region, only this ends a run.
    firsts = np.flatnonzero(begins).tolist()
    out: list[Snapshot] = []
    for first, last in zip(firsts, [*firsts[1:], n], strict=True):
        step = max(int(table.nr_regions[first]), 1)
        for lo in range(first, last, step):
            hi = min(lo + step, last)
            out.append(_snapshot(table, lo, hi, whole=hi - lo == step))
    return out


def _snapshot(table: Columns, lo: int, hi: int, whole: bool) -> Snapshot:
    return Snapshot(
        time_ns=int(table.time_ns[hi - 1]),
        target_idx=int(table.target_id[lo]),
        start=table.start[lo:hi],
        end=table.end[lo:hi],
        nr_accesses=table.nr_accesses[lo:hi].astype(np.uint32),
        age=table.age[lo:hi].astype(np.uint32),
        nr_regions=int(table.nr_regions[lo]),
        complete=whole,
        probe_hits=None if table.probe_hits is None else table.probe_hits[lo:hi],
    )
