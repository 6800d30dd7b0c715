# SPDX-License-Identifier: GPL-2.0
"""Write recordings as damo's record files.

Three of damo's formats: ``json_compressed`` (zlib; its default), ``json``, and ``perf_script`` (text). JSON
is a list of records, one for each target (or scheme), of snapshots, of regions:

- record: ``kdamond_idx``, ``context_idx``, ``intervals``, ``scheme_idx`` (null: aggregations of a target),
  ``target_id`` (null: a scheme's tried regions), ``scheme_filters``, ``snapshots``, ``data_source``;
- snapshot: ``start_time``, ``end_time`` (ns), ``regions``, ``total_bytes``, ``damos_stats``,
  ``sample_interval_us`` (the tuned one, else null);
- region: ``start``, ``end`` (bytes), ``nr_accesses`` {``samples``, ``percent``}, ``age`` {``usec``,
  ``aggr_intervals``}, ``probe_hits``, ``sz_filter_passed``.

What damo 3.4 reads depends on what the ``file`` command calls a file: "zlib compressed data" is always
read; "JSON data" is what older versions of ``file`` say, newer ones, with "JSON text data", make damo
refuse any plain JSON; text has no intervals, without which ``damo report access`` needs ``--raw_form``.

A region of a recording without ages or counts (``Recording.missing``) has null there, in text no age.

damo cannot express lost events: incomplete snapshots are left out (``left_out`` names what else is). The key
``damon_tests`` of each record, which damo ignores, keeps the rest of a recording. ``damo_import`` reads
all of this back.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from damon_tests.damon import damo_params
from damon_tests.damon.params import DamonAttrs, DamonCtx, DamonIntervalsGoal, DamosFilter
from damon_tests.damon.records import Recording, SchemeReport, Snapshot
from damon_tests.ports import NSEC_PER_SEC, NSEC_PER_USEC, output_file

DamoFormat = Literal["json_compressed", "json", "perf_script"]

OURS = "damon_tests"
"""Key of a record for everything that damo has no key for."""

KDAMONDS = ".kdamonds"
"""Suffix of the file with the parameters, beside the record."""

FAKE_TAIL = "0-0: -1 -1"
"""The region that damo adds in text after a single snapshot, as text has no start times."""


def save(
    path: Path,
    recording: Recording,
    format: DamoFormat = "json_compressed",
    *,
    ctx: DamonCtx | None = None,
    schemes: Sequence[SchemeReport] = (),
) -> int:
    """Write ``recording`` to ``path``, and the request, if given, to ``path`` + ".kdamonds".

    ``schemes``: write their last tried regions and stats as separate records (not in text, which has
    none). Return how many incomplete snapshots were left out.
    """
    if format == "perf_script":
        data = "".join(f"{line}\n" for line in perf_script(recording)).encode()
    else:
        text = json.dumps(records(recording, ctx=ctx, schemes=schemes), indent=1).encode()
        data = zlib.compress(text) if format == "json_compressed" else text
    output_file.write_bytes(path, data)
    if ctx is not None and output_file.regular_file(path) is not None:
        notes = json.dumps(damo_params.ctx_to_json(ctx), indent=1)
        output_file.write_bytes(path.with_name(path.name + KDAMONDS), notes.encode())
    return sum(not s.complete for s in recording.snapshots)


def left_out(recording: Recording, format: DamoFormat, ctx: DamonCtx | None = None) -> tuple[str, ...]:
    """Return a phrase about each part of the recording that a file of that format does not hold."""
    lost = []
    incomplete = sum(not s.complete for s in recording.snapshots)
    if incomplete:
        lost.append(f"incomplete snapshots ({incomplete}): damo cannot express lost events")
    if ctx is not None and ctx.attrs.probes:
        lost.append("the probes of the request: damo's parameters have no probes")
    if format != "perf_script":
        return tuple(lost)
    lost.append("the requested intervals: text has no intervals")
    if "nr_accesses" in recording.missing:
        lost.append("that access counts are unknown: text has 0")
    for what, there in (
        ("probe hits", any(s.probe_hits is not None for s in recording.snapshots)),
        ("bytes that passed filters", any(s.sz_filter_passed is not None for s in recording.snapshots)),
        ("scheme filters", bool(recording.scheme_filters)),
        ("scheme statistics", any(s.stats for s in recording.snapshots)),
    ):
        if there:
            lost.append(f"{what}: text has none")
    return tuple(lost)


# --- JSON ------------------------------------------------------------------------------------


def records(
    recording: Recording, *, ctx: DamonCtx | None = None, schemes: Sequence[SchemeReport] = ()
) -> list[dict[str, Any]]:
    """Return the JSON value: a record for each target, then for each scheme that has tried regions."""
    attrs = replace(
        ctx.attrs if ctx else _noted_attrs(recording),
        sample_us=recording.sample_us,
        aggr_us=recording.aggr_us,
    )
    entries = [_of_target(recording, attrs, target_idx) for target_idx in _targets(recording)]
    return entries + [_of_scheme(recording, attrs, report, ctx) for report in schemes if report.tried]


def _noted_attrs(recording: Recording) -> DamonAttrs:
    """Return the attributes that the recording itself says."""
    attrs = DamonAttrs(intervals_goal=recording.goal or DamonIntervalsGoal())
    return attrs if recording.update_us is None else replace(attrs, update_us=recording.update_us)


def _targets(recording: Recording) -> list[int]:
    return sorted({s.target_idx for s in recording.snapshots})


def _of_target(recording: Recording, attrs: DamonAttrs, target_idx: int) -> dict[str, Any]:
    tried = recording.source == "tried_regions"
    snapshots = [
        _snapshot(snap, start_ns, recording.addr_unit, _tuned_us(recording, snap), recording.missing)
        for snap, start_ns in _spanned(recording, target_idx)
    ]
    return {
        **_head(recording, attrs),
        "scheme_idx": 0 if tried else None,
        "target_id": None if tried else target_idx,
        "snapshots": snapshots,
    }


def _filters_of(ctx: DamonCtx | None, scheme_idx: int) -> tuple[DamosFilter, ...]:
    """Return all filters of a scheme, in the order in which they are evaluated."""
    if ctx is None or scheme_idx >= len(ctx.schemes):
        return ()
    scheme = ctx.schemes[scheme_idx]
    return (*scheme.core_filters, *scheme.filters, *scheme.ops_filters)


def _of_scheme(
    recording: Recording, attrs: DamonAttrs, report: SchemeReport, ctx: DamonCtx | None
) -> dict[str, Any]:
    snapshots = []
    for tried in report.tried:
        start_ns = tried.regions.time_ns - recording.aggr_us * NSEC_PER_USEC
        snapshots.append(_snapshot(tried.regions, start_ns, recording.addr_unit, None))
        if tried.total_bytes is not None:
            snapshots[-1]["total_bytes"] = str(tried.total_bytes * recording.addr_unit)
        snapshots[-1]["damos_stats"] = damo_params.stats_to_json(report.stats, recording.addr_unit)
    filters = _filters_of(ctx, report.tried[0].scheme_idx)
    head = _head(replace(recording, source="tried_regions", scheme_filters=filters), attrs)
    return head | {"scheme_idx": report.tried[0].scheme_idx, "target_id": None, "snapshots": snapshots}


def _head(recording: Recording, attrs: DamonAttrs) -> dict[str, Any]:
    """Return the keys that all records of a recording share."""
    return {
        "kdamond_idx": 0,
        "context_idx": 0,
        "intervals": damo_params.intervals_to_json(attrs),
        "scheme_filters": [
            damo_params.filter_to_json(f, recording.addr_unit) for f in recording.scheme_filters
        ],
        "data_source": "unknown",
        OURS: {
            "source": recording.source,
            "operations": recording.operations,
            "started_ns": recording.started_ns,
            "stopped_ns": recording.stopped_ns,
            "lost_events": recording.lost_events,
        },
    }


def _spanned(recording: Recording, target_idx: int) -> Iterator[tuple[Snapshot, int]]:
    """Yield the complete snapshots of a target, each with the time from which it counts."""
    previous_ns = recording.started_ns
    for snap in recording.of_target(target_idx):
        start_ns = previous_ns
        if recording.source == "tried_regions":
            start_ns = snap.time_ns - recording.aggr_us * NSEC_PER_USEC
        if snap.complete:
            yield snap, start_ns
        previous_ns = snap.time_ns


def _tuned_us(recording: Recording, snap: Snapshot) -> int | None:
    """Return the sampling interval at the snapshot's time, None unless DAMON tuned it."""
    if not recording.intervals:
        return None
    before = [us for at, us in recording.intervals if at < snap.time_ns]
    return before[-1] if before else recording.sample_us


def _snapshot(
    snap: Snapshot, start_ns: int, unit: int, tuned_us: int | None, missing: Sequence[str] = ()
) -> dict[str, Any]:
    return {
        "start_time": str(start_ns),
        "end_time": str(snap.time_ns),
        "regions": list(_regions(snap, unit, missing)),
        "total_bytes": str(int(snap.sizes.sum(dtype=np.uint64)) * unit),
        "damos_stats": None if snap.stats is None else damo_params.stats_to_json(snap.stats, unit),
        "sample_interval_us": None if tuned_us is None else str(tuned_us),
    }


def _regions(snap: Snapshot, unit: int, missing: Sequence[str]) -> Iterator[dict[str, Any]]:
    no_counts, no_ages = "nr_accesses" in missing, "age" in missing
    n = len(snap)
    hits = [[]] * n if snap.probe_hits is None else snap.probe_hits.tolist()
    passed = [0] * n if snap.sz_filter_passed is None else snap.sz_filter_passed.tolist()
    columns = (snap.start.tolist(), snap.end.tolist(), snap.nr_accesses.tolist(), snap.age.tolist())
    for start, end, nr, age, hit, sz in zip(*columns, hits, passed, strict=True):
        yield {
            "start": str(start * unit),
            "end": str(end * unit),
            "nr_accesses": {"samples": None if no_counts else nr, "percent": None},
            "age": {"usec": None, "aggr_intervals": None if no_ages else str(age)},
            "probe_hits": hit,
            "sz_filter_passed": str(sz * unit),
        }


# --- text ------------------------------------------------------------------------------------


def perf_script(recording: Recording) -> Iterator[str]:
    """Yield lines as ``perf script`` prints damon_aggregated, and tuned intervals, in time order.

    Times have nanoseconds if microseconds are too coarse. Text has neither intervals nor the start of the
    first snapshot.
    """
    times = [s.time_ns for s in recording.snapshots] + [at for at, _ in recording.intervals]
    digits = 6 if all(t % NSEC_PER_USEC == 0 for t in times) else 9
    tunes = list(recording.intervals)
    for snap in recording.snapshots:
        while tunes and tunes[0][0] <= snap.time_ns:
            at, us = tunes.pop(0)
            yield _line(at, digits, f"damon_monitor_intervals_tune: sample_us={us}")
        if snap.complete:
            yield from _text(snap, recording.addr_unit, digits, ages="age" not in recording.missing)
    for target_idx in _targets(recording):
        shown = [s for s in recording.of_target(target_idx) if s.complete]
        if len(shown) == 1:
            at = 2 * shown[0].time_ns - recording.started_ns
            tail = f"damon_aggregated: target_id={target_idx} nr_regions=1 {FAKE_TAIL}"
            yield _line(at, digits, tail)


def _text(snap: Snapshot, unit: int, digits: int, *, ages: bool) -> Iterator[str]:
    """Yield the lines of a snapshot; without ``ages`` as kernels before 5.16 print them."""
    head = f"damon_aggregated: target_id={snap.target_idx} nr_regions={len(snap)}"
    columns = (snap.start.tolist(), snap.end.tolist(), snap.nr_accesses.tolist(), snap.age.tolist())
    for start, end, nr, age in zip(*columns, strict=True):
        shown = f"{nr} {age}" if ages else str(nr)
        yield _line(snap.time_ns, digits, f"{head} {start * unit}-{end * unit}: {shown}")


def _line(time_ns: int, digits: int, text: str) -> str:
    seconds, ns = divmod(time_ns, NSEC_PER_SEC)
    return f"kdamond.0  0000 [000] {seconds}.{ns:09d}"[: digits - 9 or None] + f": damon:{text}"
