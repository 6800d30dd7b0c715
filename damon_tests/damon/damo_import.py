# SPDX-License-Identifier: GPL-2.0
"""Read recordings of damo: its JSON, compressed or not, and the text of ``perf script`` or trace_pipe.

``damo_format`` describes the JSON. The reader is lenient: a region needs only its bounds, a snapshot only its
regions; ``Imported.notes`` says what was missing and what replaces it. A truncated file, or a file of another
kind, raises a UsageError that says so.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any, cast

import numpy as np

from damon_tests.damon import damo_params, damo_text
from damon_tests.damon import damo_values as values
from damon_tests.damon.damo_format import KDAMONDS, OURS
from damon_tests.damon.params import DamonAttrs, DamonCtx, DamosFilter
from damon_tests.damon.records import Recording, Snapshot, Source
from damon_tests.ports import NSEC_PER_USEC, HarnessError, UsageError

# damo converts perf's microseconds to nanoseconds in floating point, with errors of this size.
_FLOAT_ERROR_NS = 50

_ZLIB = (b"x\x01", b"x\x5e", b"x\x9c", b"x\xda")

_DEFAULT_W = 20
"""Samples per aggregation when neither the file nor the user gives them: DAMON's default."""


@dataclass(frozen=True, eq=False)
class Imported:
    """A recording of a file. ``name`` identifies it: "kdamond 0, context 0, scheme 1".

    ``ctx``: the parameters noted beside the file, None without. ``intervals_known``: they were in the file,
    beside it, or given by the user. ``notes``: sentences about what was missing.
    """

    name: str
    recording: Recording
    ctx: DamonCtx | None
    intervals_known: bool
    notes: tuple[str, ...] = ()


def load(path: Path, intervals: tuple[int, int] | None = None) -> tuple[Imported, ...]:
    """Return all recordings of a file: one for each context's targets, one for each scheme.

    ``intervals``: (sample_us, aggr_us) for files without intervals. Raises UsageError.
    """
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise UsageError(f"{path}: no such recording") from None
    except OSError as error:
        raise UsageError(f"{path}: cannot be read ({error.strerror})") from None
    asked, trouble = _noted(path)
    records = _records(path, data)
    if not any(r.get("snapshots") for r in records):
        raise UsageError(f"{path}: damo recorded no snapshot")
    groups: dict[tuple[int, int, int | None], list[Mapping[str, Any]]] = {}
    for i, record in enumerate(records):
        with _Place(path, f"record {i}"):
            groups.setdefault(_key(record), []).append(record)
    imported = [_imported(path, key, group, asked.get(key[:2]), intervals) for key, group in groups.items()]
    return tuple(replace(item, notes=(*trouble, *item.notes)) for item in imported)


def _noted(path: Path) -> tuple[dict[tuple[int, int], DamonCtx], tuple[str, ...]]:
    """Return the parameters noted beside the file, if any, and why they could not be read."""
    notes = path.with_name(path.name + KDAMONDS)
    if not notes.is_file():
        return {}, ()
    try:
        with _Place(notes, "not damo's parameters, so they are not used"):
            return damo_params.contexts(json.loads(notes.read_text(encoding="utf-8"))), ()
    except (UsageError, OSError) as error:
        return {}, (str(error),)


class _Place:
    """Turns errors from reading foreign values into a UsageError that names the place."""

    def __init__(self, path: Path, what: str) -> None:
        self._text = f"{path}: {what}"

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, KeyError):
            raise UsageError(f"{self._text}: {error} is missing") from None
        wrong = (ValueError, TypeError, AttributeError, OverflowError, ZeroDivisionError, HarnessError)
        if isinstance(error, wrong):
            raise UsageError(f"{self._text}: {error}") from None


# --- files -----------------------------------------------------------------------------------


def _records(path: Path, data: bytes) -> Sequence[Mapping[str, Any]]:
    """Return the file's records, whatever its format."""
    if data.startswith(b"PERFILE"):
        raise UsageError(f"{path}: perf's data file; make text of it first: perf script -i {path} > TEXT")
    if data[:2] in _ZLIB:
        data = _inflated(path, data)
    text = data.decode("utf-8", "replace").lstrip("\ufeff")
    if text.lstrip()[:1] not in ("[", "{"):
        with _Place(path, "trace"):
            from_text = damo_text.records(text)
        if not from_text:
            raise UsageError(f"{path}: neither a damon-tests recording nor one of damo's, nor a DAMON trace")
        return from_text
    try:
        value = json.loads(text)
    except json.JSONDecodeError as error:
        raise UsageError(f"{path}: JSON that is damaged or cut off ({error})") from None
    # Newer damo versions wrap the list: {"damo_records": {"damon_records": {"record_list": [...]}}}.
    for key in ("damo_records", "damon_records", "record_list"):
        value = value.get(key, value) if isinstance(value, dict) else value
    if not isinstance(value, list) or not all(isinstance(r, dict) and "snapshots" in r for r in value):
        raise UsageError(f"{path}: JSON, but no list of damo's records")
    if not all(isinstance(r["snapshots"] or [], list) for r in value):
        raise UsageError(f"{path}: a record of damo whose snapshots are no list")
    return value


def _inflated(path: Path, data: bytes) -> bytes:
    inflate = zlib.decompressobj()
    try:
        text = inflate.decompress(data)
    except zlib.error as error:
        raise UsageError(f"{path}: looks compressed, but is damaged ({error})") from None
    if not inflate.eof:
        raise UsageError(f"{path}: cut off: the compressed data has no end")
    return text


# --- records ---------------------------------------------------------------------------------


def _key(record: Mapping[str, Any]) -> tuple[int, int, int | None]:
    """Return (kdamond, context, scheme or None)."""
    scheme = record.get("scheme_idx")
    return (
        values.count(record.get("kdamond_idx") or 0),
        values.count(record.get("context_idx") or 0),
        None if scheme is None else values.count(scheme),
    )


def _imported(
    path: Path,
    key: tuple[int, int, int | None],
    group: Sequence[Mapping[str, Any]],
    ctx: DamonCtx | None,
    given: tuple[int, int] | None,
) -> Imported:
    name = f"kdamond {key[0]}, context {key[1]}" + ("" if key[2] is None else f", scheme {key[2]}")
    with _Place(path, f"{name}, target_id"):
        targets = _target_numbers(group)
    unit = ctx.addr_unit if ctx else 1
    starts, snaps, tuned = [], [], []
    for record, target_idx in zip(group, targets, strict=True):
        with _Place(path, f"{name}, intervals"):
            attrs = _attrs(record, ctx, given)
        for number, value in enumerate(record["snapshots"] or ()):
            with _Place(path, f"{name}, snapshot {number}"):
                snaps.append(_snapshot(value, target_idx, attrs))
                start = value.get("start_time")
                starts.append(None if start is None else _exact(values.time_ns(start)))
                us = value.get("sample_interval_us")
                tuned.append((snaps[-1].time_ns, values.time_us(us) if us is not None else 0))
    with _Place(path, name):
        made = _recording(name, group[0], (snaps, starts, tuned), (ctx, given), unit, key[2] is not None)
        notes, missing = [*made.notes], _missing(group)
        notes += [f"some regions have no {column}: it is not judged, and not exported" for column in missing]
        filters = _filters(group[0], notes)
        recording = replace(made.recording, missing=missing, scheme_filters=filters)
        return replace(made, recording=recording, notes=tuple(notes))


def _target_numbers(group: Sequence[Mapping[str, Any]]) -> list[int]:
    """Return the positions of the targets; older kernels print pointers instead: order of appearance."""
    ids = [record.get("target_id") for record in group]
    known = [values.count(i) for i in ids if i is not None]
    if known and max(known) < 1024 and min(known) >= 0:
        return [values.count(i) if i is not None else 0 for i in ids]
    order = list(dict.fromkeys(known))
    return [order.index(values.count(i)) if i is not None else 0 for i in ids]


def _attrs(
    record: Mapping[str, Any], ctx: DamonCtx | None, given: tuple[int, int] | None
) -> DamonAttrs | None:
    """Return the intervals: given by the user, else of the record, else noted beside it; None if unknown."""
    attrs = ctx.attrs if ctx else None
    if record.get("intervals"):
        attrs = damo_params.intervals(record["intervals"], attrs or DamonAttrs())
    if given is not None:
        attrs = replace(attrs or DamonAttrs(), sample_us=given[0], aggr_us=given[1])
    return attrs


def _exact(ns: int) -> int:
    """Return whole microseconds where damo's floating point is off by a few ns."""
    us = round(ns / NSEC_PER_USEC) * NSEC_PER_USEC
    return us if abs(ns - us) <= _FLOAT_ERROR_NS else ns


def _snapshot(value: Mapping[str, Any], target_idx: int, attrs: DamonAttrs | None) -> Snapshot:
    regions = value["regions"]
    end = value.get("end_time")
    if end is None:
        end = values.time_ns(value["start_time"]) + (attrs.aggr_us if attrs else 0) * NSEC_PER_USEC
    w = attrs.samples_per_aggr if attrs else _DEFAULT_W
    hits = [r.get("probe_hits") for r in regions]
    passed = [values.size(r.get("sz_filter_passed") or 0) for r in regions]
    stats = value.get("damos_stats")
    claimed = values.count(value.get("nr_regions", len(regions)))
    return Snapshot(
        time_ns=_exact(values.time_ns(end)),
        target_idx=target_idx,
        start=np.array([values.size(r["start"]) for r in regions], dtype=np.uint64),
        end=np.array([values.size(r["end"]) for r in regions], dtype=np.uint64),
        nr_accesses=np.array([_accesses(r.get("nr_accesses"), w) for r in regions], dtype=np.uint32),
        age=np.array([_age(r.get("age"), attrs) for r in regions], dtype=np.uint32),
        nr_regions=claimed,
        complete=bool(value.get("complete", True)),
        probe_hits=np.array(hits, dtype=np.uint8) if hits and all(hits) else None,
        sz_filter_passed=np.array(passed, dtype=np.uint64) if any(passed) else None,
        stats=damo_params.stats_from_json(stats) if stats else None,
    )


def _missing(records: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
    """Return the columns that some region of these records does not have."""
    regions = [r for record in records for s in record["snapshots"] or () for r in s["regions"]]
    keys = {"nr_accesses": ("samples", "percent"), "age": ("aggr_intervals", "usec")}

    def has(region: Mapping[str, Any], column: str) -> bool:
        value = region.get(column)
        return value is not None and any(value.get(key) is not None for key in keys[column])

    return tuple(column for column in keys if not all(has(region, column) for region in regions))


def _filters(record: Mapping[str, Any], notes: list[str]) -> tuple[DamosFilter, ...]:
    """Return the scheme's filters; a note says which could not be read."""
    filters = []
    for number, value in enumerate(record.get("scheme_filters") or ()):
        try:
            filters.append(damo_params.filter_from_json(value))
        except (UsageError, ValueError, TypeError, AttributeError, KeyError) as error:
            notes.append(f"scheme filter {number} is not understood and left out ({error})")
    return tuple(filters)


def _accesses(value: Mapping[str, Any] | None, w: int) -> int:
    """Return nr_accesses in samples, computed from a percentage if that is all there is."""
    if value is None:
        return 0
    if value.get("samples") is not None:
        return values.count(value["samples"])
    return round(values.percent(value.get("percent") or 0) * w / 100)


def _age(value: Mapping[str, Any] | None, attrs: DamonAttrs | None) -> int:
    """Return the age in aggregations, computed from a time if that is all there is."""
    if value is None:
        return 0
    if value.get("aggr_intervals") is not None:
        return values.count(value["aggr_intervals"])
    return values.time_us(value.get("usec") or 0) // (attrs.aggr_us if attrs else 100_000)


def _recording(
    name: str,
    first: Mapping[str, Any],
    content: tuple[list[Snapshot], list[int | None], list[tuple[int, int]]],
    known: tuple[DamonCtx | None, tuple[int, int] | None],
    unit: int,
    tried: bool,
) -> Imported:
    snaps, starts, tuned = content
    ctx, given = known
    ours, noted = first.get(OURS) or {}, first.get("intervals") or {}
    order = sorted(range(len(snaps)), key=lambda i: (snaps[i].time_ns, snaps[i].target_idx))
    attrs, notes = _attrs(first, ctx, given), []
    sample_us, aggr_us = (attrs.sample_us, attrs.aggr_us) if attrs else _guess(snaps)
    if attrs is None:
        notes.append(f"the file has no intervals: {sample_us} µs and {aggr_us} µs are guessed from its times")
    began = [
        s if s is not None else snap.time_ns - aggr_us * NSEC_PER_USEC
        for s, snap in zip(starts, snaps, strict=True)
    ]
    if any(s is None for s in starts):
        notes.append("when the first snapshot began is not in the file: one aggregation before its end")
    source = "tried_regions" if tried else ours.get("source", first.get("source", "damon_aggregated"))
    operations = str(ours.get("operations") or (ctx.operations if ctx else "unknown"))
    recording = Recording(
        source=cast(Source, source),
        operations=operations,
        sample_us=sample_us,
        aggr_us=aggr_us,
        snapshots=tuple(snaps[i] for i in order),
        started_ns=values.count(ours.get("started_ns", min(began, default=0))),
        stopped_ns=values.count(ours.get("stopped_ns", snaps[order[-1]].time_ns if snaps else 0)),
        lost_events=values.count(ours.get("lost_events", first.get("lost_events", 0))),
        addr_unit=unit,
        intervals=_tunings(tuned, sample_us) or tuple(first.get("tunings", ())),
        update_us=attrs.update_us if attrs and "ops_update_us" in noted else None,
        goal=attrs.intervals_goal if attrs and noted.get("intervals_goal") else None,
    )
    return Imported(name, recording, ctx, attrs is not None, tuple(notes))


def _guess(snaps: Sequence[Snapshot]) -> tuple[int, int]:
    """Guess (sample_us, aggr_us): the usual distance of snapshots, with at least the counted samples."""
    by_target: dict[int, list[int]] = {}
    for snap in snaps:
        by_target.setdefault(snap.target_idx, []).append(snap.time_ns)
    gaps = [b - a for times in by_target.values() for a, b in pairwise(sorted(times)) if b > a]
    aggr_us = max(1, round(median(gaps) / NSEC_PER_USEC)) if gaps else 100_000
    most = max((int(s.nr_accesses.max(initial=0)) for s in snaps), default=0)
    return max(1, aggr_us // max(_DEFAULT_W, most)), aggr_us


def _tunings(tuned: Sequence[tuple[int, int]], sample_us: int) -> tuple[tuple[int, int], ...]:
    """Return tune events derived from the sampling interval of each snapshot."""
    tunings, now = [], sample_us
    previous_ns = 0
    for at, us in sorted(tuned):
        if us and us != now:
            tunings.append((previous_ns, us))
            now = us
        previous_ns = at
    return tuple(tunings)
