# SPDX-License-Identifier: GPL-2.0
"""A recording on disk: the "damon-tests recording" format, version 1. This text is its definition.

A file is a zip archive (deflated or stored) of ``NAME.npy`` members, one array each, in numpy's .npy format,
version 1.0 or later, never pickled: ``numpy.load(path, allow_pickle=False)["start"]`` reads one. Any other
reader needs zip, and a .npy header: magic, a dict with the element type ("<u8": little-endian, unsigned,
8 bytes), the order, the shape; then the elements. We write little-endian; a reader follows the header.

**What DAMON reported.** s snapshots, each with the regions of one target at one moment; r regions in total.

===================  ===========  =================================================================
array                type, shape  meaning
===================  ===========  =================================================================
``header``           uint8 (b,)   UTF-8 bytes of one JSON object, see below
``time_ns``          int64 (s,)   when the aggregation ended (its last event), or when the tried
                                  regions were read: CLOCK_MONOTONIC of the monitored machine, ns;
                                  never descends within a target
``target_idx``       int32 (s,)   position of the target in its context, from 0
``nr_regions``       int64 (s,)   how many regions the events said there are
``complete``         bool (s,)    false: events of this snapshot were lost, regions may be missing
``offset``           int64 (s+1,) the regions of snapshot i are [offset[i], offset[i+1]) of:
``start``, ``end``   uint64 (r,)  bounds [start, end) in core address units: times ``addr_unit`` gives
                                  bytes. Virtual addresses for vaddr and fvaddr, physical ones for paddr
``nr_accesses``      uint32 (r,)  samples with an access, of ``aggr_us div sample_us`` in all
``age``              uint32 (r,)  aggregations
``probe_hits``       uint8 (r, p) optional: samples that hit, for each of the p probes
``sz_filter_passed`` uint64 (r,)  optional: address units that passed the scheme's filters
===================  ===========  =================================================================

``header`` has: ``format`` (always "damon-tests recording"), ``version`` (1), ``source``
("damon_aggregated" or "damon_region_aggregated": tracepoints; "tried_regions": a scheme's directories;
"none": regions were not recorded, there are no snapshots),
``operations`` ("vaddr", "fvaddr", "paddr", or "unknown"), ``sample_us``, ``aggr_us`` (as asked for),
``started_ns``, ``stopped_ns`` (recording began, before DAMON was turned on, and ended; same clock),
``lost_events`` (0: the recording is whole), ``addr_unit`` (bytes), ``intervals`` (a list of
[time_ns, sample_us]: from then on DAMON sampled at that interval, which it had tuned; the aggregation
interval keeps its ratio to it).

A snapshot counts what happened since the one before it of the same target (the first: since
``started_ns``); that stretch is its window. Only complete snapshots have one; with lost events, only
those not later than 1.5 ``aggr_us`` after the one before. A "tried_regions" snapshot's window are the last
``aggr_us``.

**What really happened** (optional; of target 0), so that a recording can be judged and drawn again: the w
windows of the target's snapshots in order, each with the memory touched in it, run-length encoded.

===================================  ==============  ====================================================
``truth_t0_ns``, ``truth_t1_ns``     int64 (w,)      the window (t0, t1]
``truth_offset``                     int64 (w+1,)    its spans are [truth_offset[i], truth_offset[i+1]) of:
``truth_start``, ``truth_end``       int64 (t,)      bytes, ascending, disjoint, multiples of the page size
``truth_rate``                       float64 (t,)    fraction of sampling intervals with a touch of each
                                                     page of the span, above 0
===================================  ==============  ====================================================

Memory of the pattern's regions outside the spans was not touched in that window; of other memory nothing
is known.

**What it is about** (optional; keys of ``header``): ``title`` (a test's name), ``level`` ("7.3": the kernel
series whose behaviour is expected), ``release`` ("7.3.4": of the kernel that made it), ``layout`` ({name:
[start, end]}: the workload's regions, bytes in the monitored address space), ``phases`` (a list of [name,
time_ns]: when each phase of the workload began), ``request`` (what DAMON was asked for:
``damon.params.DamonCtx``, ``damon.params_json``), ``missing`` (names of arrays of regions that the maker of
the recording did not have, of some regions at least: their 0 means nothing), ``scheme_filters`` (a list of
``damon.params.DamosFilter`` of the scheme whose tried regions these are), ``damos_stats`` (for each
snapshot the scheme's ``damon.records.DamosStats`` or null), ``schemes`` (for each scheme what its files said
at the end: {``stats``: a DamosStats, ``effective_bytes``: bytes or null, ``tried``: a list with its tried
regions, if they were read: {``time_ns``, ``total_bytes`` or null, and the columns ``start``, ``end``,
``nr_accesses``, ``age`` and maybe ``sz_filter_passed``, ``probe_hits``}}), ``update_us`` and ``goal`` (update
interval, and ``damon.params.DamonIntervalsGoal``, of a recording without ``request``).

Readers ignore keys and arrays they do not know. What they could not ignore will get another version.
"""

from __future__ import annotations

import json
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from damon_tests.damon.params import DamonCtx, DamonIntervalsGoal, DamosFilter
from damon_tests.damon.params_json import ctx_from_json, ctx_to_json, from_json
from damon_tests.damon.records import DamosStats, Recording, SchemeReport, Snapshot
from damon_tests.damon.scheme_reports_json import reports_from_json, reports_to_json
from damon_tests.damon.series import Level, Series
from damon_tests.ports import output_file
from damon_tests.ports.arrays import F64, I64
from damon_tests.ports.errors import UsageError

FORMAT = "damon-tests recording"
VERSION = 1


_TEXTS = ("source", "operations")
_NUMBERS = ("sample_us", "aggr_us", "started_ns", "stopped_ns", "lost_events", "addr_unit")
_SCALARS = (*_TEXTS, *_NUMBERS)

_LEAST = {"sample_us": 0, "aggr_us": 0, "lost_events": 0, "addr_unit": 1}
_I64_MAX = (1 << 63) - 1

# Arrays of one length each, with the kind of their elements; ``offset`` and ``truth_offset`` are one longer.
_OF_SNAPSHOTS = {"time_ns": "i", "target_idx": "i", "nr_regions": "i", "complete": "b"}
_OF_REGIONS = {"start": "u", "end": "u", "nr_accesses": "u", "age": "u"}
_OF_REGIONS_OPTIONAL = {"probe_hits": "u", "sz_filter_passed": "u"}
_OF_WINDOWS = {"truth_t0_ns": "i", "truth_t1_ns": "i"}
_OF_SPANS = {"truth_start": "i", "truth_end": "i", "truth_rate": "f"}

# What numpy and zipfile raise for files that are truncated, damaged, or of another kind.
_DAMAGED = (
    ValueError,
    OSError,
    EOFError,
    zipfile.BadZipFile,
    zlib.error,
    RuntimeError,
    MemoryError,
    KeyError,
)


@dataclass(frozen=True, eq=False)
class TruthSpans:
    """The touched memory of each window, run-length encoded.

    Window i is [t0_ns[i], t1_ns[i]); its spans are ``[offset[i], offset[i+1])`` of ``start``, ``end``
    (bytes, ascending, disjoint) and ``rate`` (fraction of sampling intervals in which each page of the span
    was touched, > 0). Memory outside the spans was not touched in that window.
    """

    t0_ns: I64
    t1_ns: I64
    offset: I64
    start: I64
    end: I64
    rate: F64

    def __len__(self) -> int:
        return len(self.t0_ns)

    def of_window(self, index: int) -> tuple[I64, I64, F64]:
        """Return (start, end, rate) of one window."""
        part = slice(int(self.offset[index]), int(self.offset[index + 1]))
        return self.start[part], self.end[part], self.rate[part]


@dataclass(frozen=True)
class About:
    """The context of a recording, as far as it is known.

    ``layout``: the workload's regions, byte ranges by name. ``phases``: (name, monotonic ns at which it
    began). ``ctx``: the request, targets filled in. ``level``: the series whose behaviour is expected, or "".
    """

    title: str = ""
    level: str = ""
    layout: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    phases: tuple[tuple[str, int], ...] = ()
    ctx: DamonCtx | None = None


@dataclass(frozen=True, eq=False)
class Saved:
    """The contents of a file."""

    recording: Recording
    truth: TruthSpans | None = None
    about: About = field(default_factory=About)
    schemes: tuple[SchemeReport, ...] = ()


def save(
    path: Path,
    recording: Recording,
    truth: TruthSpans | None = None,
    about: About | None = None,
    schemes: Sequence[SchemeReport] = (),
) -> None:
    """Write a recording, its truth, its context and its schemes' reports to ``path``, as
    ``ports.output_file`` does.
    """
    arrays = _arrays(recording, about or About(), schemes)
    if truth is not None:
        arrays |= {f"truth_{name}": value for name, value in vars(truth).items()}
    # As numpy.savez_compressed, but with the fastest compression: twice as fast.
    with (
        output_file.writing(path) as file,
        zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive,
    ):
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array(member, np.ascontiguousarray(array), allow_pickle=False)


def load(path: Path) -> tuple[Recording, TruthSpans | None]:
    """Read a file written by ``save``; return recording and truth only."""
    saved = read(path)
    return saved.recording, saved.truth


def read(path: Path) -> Saved:
    """Read a file written by ``save``. Raises UsageError for any other file."""
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
    except FileNotFoundError:
        raise UsageError(f"{path}: no such recording") from None
    except _DAMAGED as error:
        # numpy takes unknown files for pickled objects, and its message says how to load those: drop it.
        what = "" if isinstance(error, ValueError) else f" ({error})"
        raise UsageError(f"{path}: not a damon-tests recording, or a damaged one{what}") from None
    try:
        header = json.loads(arrays["header"].tobytes())
        _check_version(header, path)
        for wrong in _inconsistent(header, arrays):
            raise UsageError(f"{path}: a damaged damon-tests recording ({wrong})")
        schemes = reports_from_json(header.get("schemes", ()))
        return Saved(_recording(header, arrays), _truth(arrays), _about(header, path), schemes)
    except (KeyError, ValueError, TypeError, AttributeError, IndexError, OverflowError) as error:
        raise UsageError(f"{path}: not a damon-tests recording (missing or bad {error})") from None


def _check_version(header: Mapping[str, Any], path: Path) -> None:
    if header["format"] != FORMAT:
        raise UsageError(f"{path}: not a damon-tests recording (format {header['format']!r})")
    if header["version"] != VERSION:
        raise UsageError(
            f"{path}: recording format version {header['version']}, this program reads {VERSION}"
        )


def _inconsistent(header: Mapping[str, Any], arrays: Mapping[str, npt.NDArray[Any]]) -> Iterator[str]:
    """Yield each violation of the format's definition. Raises KeyError for a missing key or array."""
    for name in _TEXTS:
        if not isinstance(header[name], str):
            yield f"{name} is {header[name]!r}"
    for name in _NUMBERS:
        number, least = header[name], _LEAST.get(name, -_I64_MAX)
        if type(number) is not int or not least <= number <= _I64_MAX:
            yield f"{name} is {number!r}"
    optional = {name: kind for name, kind in _OF_REGIONS_OPTIONAL.items() if name in arrays}
    yield from _misfits(arrays, _OF_SNAPSHOTS, "offset", _OF_REGIONS | optional)
    if "truth_t0_ns" in arrays:
        yield from _misfits(arrays, _OF_WINDOWS, "truth_offset", _OF_SPANS)


def _misfits(
    arrays: Mapping[str, npt.NDArray[Any]], outer: Mapping[str, str], offset: str, inner: Mapping[str, str]
) -> Iterator[str]:
    """Yield the arrays whose kind or length does not fit the others, and offsets that point outside."""
    lengths = []
    for group in (outer, inner):
        columns = {name: arrays[name] for name in group}
        first = next(iter(columns.values()))
        lengths.append(len(first))
        for name, array in columns.items():
            if array.dtype.kind != group[name] or array.ndim != (2 if name == "probe_hits" else 1):
                yield f"{name} has elements {array.dtype} in {array.ndim} dimensions"
            elif len(array) != len(first):
                yield f"{name} has {len(array)} elements, others {len(first)}"
    at = arrays[offset]
    if at.dtype.kind != "i" or at.shape != (lengths[0] + 1,):
        yield f"{offset} has {at.size} elements {at.dtype} for {lengths[0]}"
    elif at[0] != 0 or at[-1] != lengths[1] or (np.diff(at) < 0).any():
        yield f"{offset} does not ascend from 0 to {lengths[1]}"


def _arrays(
    recording: Recording, about: About, schemes: Sequence[SchemeReport]
) -> dict[str, npt.NDArray[Any]]:
    snapshots = recording.snapshots
    header: dict[str, object] = {"format": FORMAT, "version": VERSION}
    header |= {name: getattr(recording, name) for name in _SCALARS}
    header["intervals"] = [list(pair) for pair in recording.intervals]
    header |= _optional_header(recording)
    header |= _about_header(about)
    if schemes:
        header["schemes"] = reports_to_json(schemes)
    lengths = np.array([len(s) for s in snapshots], dtype=np.int64)
    arrays: dict[str, npt.NDArray[Any]] = {
        "header": np.frombuffer(json.dumps(header).encode(), dtype=np.uint8),
        "time_ns": np.array([s.time_ns for s in snapshots], dtype=np.int64),
        "target_idx": np.array([s.target_idx for s in snapshots], dtype=np.int32),
        "nr_regions": np.array([s.nr_regions for s in snapshots], dtype=np.int64),
        "complete": np.array([s.complete for s in snapshots], dtype=np.bool_),
        "offset": np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths)]),
        "start": _joined([s.start for s in snapshots], np.uint64),
        "end": _joined([s.end for s in snapshots], np.uint64),
        "nr_accesses": _joined([s.nr_accesses for s in snapshots], np.uint32),
        "age": _joined([s.age for s in snapshots], np.uint32),
    }
    if snapshots and all(s.probe_hits is not None for s in snapshots):
        arrays["probe_hits"] = np.concatenate([s.probe_hits for s in snapshots if s.probe_hits is not None])
    if snapshots and all(s.sz_filter_passed is not None for s in snapshots):
        passed = [s.sz_filter_passed for s in snapshots if s.sz_filter_passed is not None]
        arrays["sz_filter_passed"] = _joined(passed, np.uint64)
    return arrays


def _optional_header(recording: Recording) -> dict[str, object]:
    """Return the optional keys of the header."""
    header: dict[str, object] = {}
    if recording.update_us is not None:
        header["update_us"] = recording.update_us
    if recording.goal is not None:
        header["goal"] = asdict(recording.goal)
    if recording.missing:
        header["missing"] = list(recording.missing)
    if recording.scheme_filters:
        header["scheme_filters"] = [asdict(f) for f in recording.scheme_filters]
    if any(s.stats for s in recording.snapshots):
        header["damos_stats"] = [asdict(s.stats) if s.stats else None for s in recording.snapshots]
    return header


def _joined(parts: list[npt.NDArray[Any]], dtype: type[np.generic]) -> npt.NDArray[Any]:
    return np.concatenate([np.asarray(p, dtype=dtype) for p in parts]) if parts else np.empty(0, dtype)


def _recording(header: Mapping[str, Any], arrays: Mapping[str, npt.NDArray[Any]]) -> Recording:
    snapshots = [_snapshot(arrays, i) for i in range(len(arrays["time_ns"]))]
    for i, stats in enumerate(header.get("damos_stats", ())):
        snapshots[i] = replace(snapshots[i], stats=from_json(DamosStats | None, stats or None))
    return Recording(
        snapshots=tuple(snapshots),
        missing=tuple(str(name) for name in header.get("missing", ())),
        scheme_filters=tuple(from_json(DamosFilter, f) for f in header.get("scheme_filters", ())),
        intervals=tuple((int(t), int(us)) for t, us in header["intervals"]),
        update_us=from_json(int | None, header.get("update_us")),
        goal=from_json(DamonIntervalsGoal | None, header.get("goal")),
        **{name: header[name] for name in _SCALARS},
    )


def _snapshot(arrays: Mapping[str, npt.NDArray[Any]], i: int) -> Snapshot:
    part = slice(int(arrays["offset"][i]), int(arrays["offset"][i + 1]))
    hits, passed = arrays.get("probe_hits"), arrays.get("sz_filter_passed")
    return Snapshot(
        time_ns=int(arrays["time_ns"][i]),
        target_idx=int(arrays["target_idx"][i]),
        start=arrays["start"][part],
        end=arrays["end"][part],
        nr_accesses=arrays["nr_accesses"][part],
        age=arrays["age"][part],
        nr_regions=int(arrays["nr_regions"][i]),
        complete=bool(arrays["complete"][i]),
        probe_hits=None if hits is None else hits[part],
        sz_filter_passed=None if passed is None else passed[part],
    )


def _truth(arrays: Mapping[str, npt.NDArray[Any]]) -> TruthSpans | None:
    if "truth_t0_ns" not in arrays:
        return None
    return TruthSpans(**{name: arrays[f"truth_{name}"] for name in TruthSpans.__dataclass_fields__})


def _about_header(about: About) -> dict[str, object]:
    header: dict[str, object] = {
        "title": about.title,
        "level": about.level,
        "release": Series.of(about.level).release if about.level else "",
        "layout": {name: list(r) for name, r in about.layout.items()},
        "phases": [list(phase) for phase in about.phases],
    }
    return header if about.ctx is None else header | {"request": ctx_to_json(about.ctx)}


def _about(header: Mapping[str, Any], path: Path) -> About:
    request = header.get("request")
    try:
        ctx = None if request is None else ctx_from_json(request)
    except UsageError as error:
        raise UsageError(f"{path}: {error}") from None
    return About(
        title=str(header.get("title", "")),
        level=_level(str(header.get("level", "")), str(header.get("release", ""))),
        layout={str(n): (int(a), int(b)) for n, (a, b) in header.get("layout", {}).items()},
        phases=tuple((str(name), int(at)) for name, at in header.get("phases", ())),
        ctx=ctx,
    )


def _level(series: str, release: str) -> str:
    return Level(series, release) if release else series
