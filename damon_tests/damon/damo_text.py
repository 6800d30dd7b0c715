# SPDX-License-Identifier: GPL-2.0
"""Read DAMON's aggregation events as perf script, perf trace, trace-cmd, trace_pipe or damo print them.

Only the time, the event's name and its text are read: damo itself writes ``xxxx`` for pid and CPU,
and the lines of each target in a separate block.
"""

from __future__ import annotations

import re
from collections.abc import Container
from typing import Any

from damon_tests.damon import trace
from damon_tests.ports import LOST_EVENTS, NSEC_PER_SEC, NSEC_PER_USEC, Event, HarnessError

# Regular expressions, as such lines come by the hundred thousand (``ports.lines``).
_LINE = re.compile(r"(?:^|\s)(\d+)\.(\d+): +(?:damon:)?(\w+):\s+(.*?)\s*$")
# perf trace: milliseconds since it began, and the event's text in parentheses.
_PERF_TRACE = re.compile(r"^\s*(\d+)\.(\d{3}) .*?\bdamon:(\w+)\((.*)\)\s*$")
_LOST = re.compile(r"LOST (\d+)? ?EVENTS|PERF_RECORD_LOST lost (\d+)")
_TARGET = re.compile(r"target_id=(\d+) ")
# Kernels before 5.16 print no age; damo's copy of their events has None.
_NO_AGE = re.compile(r"(: \d+)(?: None)?$")
# The region that damo adds after a single snapshot, so that a reader can derive its start time.
_FAKE = re.compile(r" 0-0: -1 -1$")
_AGGREGATIONS = (trace.AGGREGATED, trace.REGION_AGGREGATED)


def records(text: str) -> list[dict[str, Any]]:
    """Return a record for each target; [] when there is no aggregation in the text.

    The time of the added snapshot gives the start of the only snapshot. Raises HarnessError for malformed
    events.
    """
    events: dict[int, list[Event]] = {}
    fakes: dict[int, int] = {}
    tunings: list[tuple[int, int]] = []
    ageless: set[int] = set()  # times
    lost, source = 0, ""
    for line in text.splitlines():
        hole = _LOST.search(line)
        match = None if hole else _LINE.search(line) or _PERF_TRACE.match(line)
        if hole:
            lost += int(hole[1] or hole[2] or 1)
            for of_target in events.values():
                of_target.append(Event(of_target[-1].time_ns, LOST_EVENTS, "1"))
        elif match and match[3] == trace.INTERVALS_TUNE:
            tunings.append((_ns(match), int(match[4].partition("=")[2])))
        elif match and match[3] in _AGGREGATIONS:
            target = _TARGET.match(match[4])
            if target is None:
                raise HarnessError(f"malformed event: {line!r}")
            if _FAKE.search(match[4]):
                fakes[int(target[1])] = _ns(match)
                continue
            source = source or match[3]
            with_age, without = _NO_AGE.subn(r"\1 0", match[4])
            if without:
                ageless.add(_ns(match))
            event = Event(_ns(match), match[3], with_age)
            events.setdefault(int(target[1]), []).append(event)
    shared = {"lost_events": lost, "tunings": tunings, "source": source}
    return [
        shared | _record(target, of_target, fakes.get(target), ageless)
        for target, of_target in events.items()
    ]


def _ns(match: re.Match[str]) -> int:
    if match.re is _PERF_TRACE:
        return (int(match[1]) * 1000 + int(match[2])) * NSEC_PER_USEC
    return int(match[1]) * NSEC_PER_SEC + int(match[2].ljust(9, "0")[:9])


def _record(
    target_id: int, events: list[Event], fake_ns: int | None, ageless: Container[int]
) -> dict[str, Any]:
    """Return the record of a target in the shape of damo's JSON; ``ageless``: times of events without age."""
    snapshots, previous_ns = [], None
    for snap in trace.snapshots(events):
        start_ns = previous_ns if fake_ns is None else 2 * snap.time_ns - fake_ns
        hits = [[]] * len(snap) if snap.probe_hits is None else snap.probe_hits.tolist()
        columns = (snap.start.tolist(), snap.end.tolist(), snap.nr_accesses.tolist(), snap.age.tolist(), hits)
        regions = [
            {
                "start": start,
                "end": end,
                "nr_accesses": {"samples": nr},
                "age": {"aggr_intervals": None if snap.time_ns in ageless else age},
                "probe_hits": hit,
            }
            for start, end, nr, age, hit in zip(*columns, strict=True)
        ]
        snapshots.append(
            {
                "start_time": start_ns,
                "end_time": snap.time_ns,
                "regions": regions,
                "complete": snap.complete,
                "nr_regions": snap.nr_regions,
            }
        )
        previous_ns = snap.time_ns
    return {"target_id": target_id, "snapshots": snapshots}
