# SPDX-License-Identifier: GPL-2.0
"""A recording on disk: the "damon-tests recording" format, version 1.

One ``.npz`` file (a zip of numpy arrays, readable with numpy alone, nothing pickled):

``header``            JSON text, UTF-8 bytes as uint8: ``format`` ("damon-tests recording"), ``version`` (1),
                      and the scalar fields of ``records.Recording`` under their names.
``time_ns`` int64 (s,), ``target_idx`` int32 (s,), ``nr_regions`` int64 (s,), ``complete`` bool (s,)
                      one element a snapshot, in the recording's order.
``offset`` int64 (s + 1,)
                      snapshot i's regions are ``[offset[i], offset[i+1])`` of the arrays below.
``start``, ``end`` uint64 (r,), ``nr_accesses``, ``age`` uint32 (r,)
                      as in ``records.Snapshot``: core address units, samples, aggregations.
``probe_hits`` uint8 (r, probes), ``sz_filter_passed`` uint64 (r,)
                      only when the recording has them.

What really happened may stand beside it (``TruthSpans``), so that a recording can be judged and drawn
again later: ``truth_t0_ns``, ``truth_t1_ns`` int64 (w,), ``truth_offset`` int64 (w + 1,), ``truth_start``,
``truth_end`` int64 (t,) in bytes, ``truth_rate`` float64 (t,).
"""

from __future__ import annotations

import json
import os
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from damon_tests.damon.records import Recording, Snapshot
from damon_tests.ports.errors import UsageError

FORMAT = "damon-tests recording"
VERSION = 1
SUFFIX = ".damon.npz"

I64 = npt.NDArray[np.int64]
F64 = npt.NDArray[np.float64]

_SCALARS = (
    "source",
    "operations",
    "sample_us",
    "aggr_us",
    "started_ns",
    "stopped_ns",
    "lost_events",
    "addr_unit",
)


@dataclass(frozen=True, eq=False)
class TruthSpans:
    """What was touched, window by window, run-length encoded.

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
        """(start, end, rate) of one window."""
        part = slice(int(self.offset[index]), int(self.offset[index + 1]))
        return self.start[part], self.end[part], self.rate[part]


def save(path: Path, recording: Recording, truth: TruthSpans | None = None) -> None:
    """Write ``recording`` (and ``truth``) to ``path``; the file appears complete or not at all."""
    arrays = _arrays(recording)
    if truth is not None:
        arrays |= {f"truth_{name}": value for name, value in vars(truth).items()}
    temporary = path.with_name(f"{path.name}.{os.getpid()}")
    # What numpy.savez_compressed writes, at the lightest compression: twice as fast.
    with zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array(member, np.ascontiguousarray(array), allow_pickle=False)
    os.replace(temporary, path)


def load(path: Path) -> tuple[Recording, TruthSpans | None]:
    """Read a file written by ``save``. Raises UsageError for anything that is not one."""
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
    except FileNotFoundError:
        raise UsageError(f"{path}: no such recording") from None
    except (ValueError, OSError, zipfile.BadZipFile, EOFError) as error:
        raise UsageError(f"{path}: not a damon-tests recording ({error})") from None
    try:
        header = json.loads(arrays["header"].tobytes())
        return _recording(header, arrays, path), _truth(arrays)
    except (KeyError, ValueError, TypeError) as error:
        raise UsageError(f"{path}: not a damon-tests recording (missing or bad {error})") from None


def _arrays(recording: Recording) -> dict[str, npt.NDArray[Any]]:
    snapshots = recording.snapshots
    header: dict[str, object] = {"format": FORMAT, "version": VERSION}
    header |= {name: getattr(recording, name) for name in _SCALARS}
    header["intervals"] = [list(pair) for pair in recording.intervals]
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


def _joined(parts: list[npt.NDArray[Any]], dtype: type[np.generic]) -> npt.NDArray[Any]:
    return np.concatenate([np.asarray(p, dtype=dtype) for p in parts]) if parts else np.empty(0, dtype)


def _recording(header: Mapping[str, Any], arrays: Mapping[str, npt.NDArray[Any]], path: Path) -> Recording:
    if header["format"] != FORMAT:
        raise UsageError(f"{path}: not a damon-tests recording (format {header['format']!r})")
    if header["version"] != VERSION:
        raise UsageError(
            f"{path}: recording format version {header['version']}, this program reads {VERSION}"
        )
    snapshots = tuple(_snapshot(arrays, i) for i in range(len(arrays["time_ns"])))
    return Recording(
        snapshots=snapshots,
        intervals=tuple((int(t), int(us)) for t, us in header["intervals"]),
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
