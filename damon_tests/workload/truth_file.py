# SPDX-License-Identifier: GPL-2.0
"""Save what a program accessed as a small file, from which the reference can repeat it at any settings.

A file is a NumPy archive (.npz): ``header`` (JSON as bytes) and arrays of integers. ``header``: ``format``
("damon-tests truth"), ``version``, ``title``, ``release`` (the kernel's), ``level``, ``space`` ("virtual" or
"physical"), ``seed``, ``span_ns`` ([from, to)), ``gap_ns``, ``mapped`` (a list of [start, end) byte ranges:
the mappings, or System RAM). ``page``: accessed pages, ascending; ``count``: the number of runs of each;
``idle`` and ``length``: for each run, ns since the end of the one before on the same page (or since the
begin of the span), and its ns.
"""

from __future__ import annotations

import json
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from damon_tests.ports import UsageError, output_file
from damon_tests.ports.arrays import I64
from damon_tests.ports.ranges import Range
from damon_tests.workload.access_truth import AccessTruth

FORMAT, VERSION = "damon-tests truth", 1
_ARRAYS = ("page", "count", "idle", "length")


@dataclass(frozen=True, eq=False)
class SavedTruth:
    """A truth and its context. ``mapped``: sorted byte ranges, the mappings or System RAM."""

    truth: AccessTruth
    title: str
    release: str
    level: str
    space: Literal["virtual", "physical"]
    seed: int
    mapped: tuple[Range, ...]


def save(path: Path, saved: SavedTruth) -> None:
    """Write ``path``, as ``ports.output_file`` does."""
    truth = saved.truth
    start_ns = truth.span_ns()[0]
    page, count = np.unique(truth.pages, return_counts=True)
    before = np.roll(truth.last_ns, 1)
    first_of_page = np.diff(truth.pages, prepend=-1) != 0
    idle = truth.first_ns - np.where(first_of_page, start_ns, before)
    header = {
        "format": FORMAT,
        "version": VERSION,
        "title": saved.title,
        "release": saved.release,
        "level": saved.level,
        "space": saved.space,
        "seed": saved.seed,
        "span_ns": list(truth.span_ns()),
        "gap_ns": truth.gap_ns,
        "mapped": [list(extent) for extent in saved.mapped],
    }
    arrays = {
        "header": np.frombuffer(json.dumps(header).encode(), np.uint8),
        "page": np.diff(page, prepend=0),
        "count": count,
        "idle": idle,
        "length": truth.last_ns - truth.first_ns,
    }
    with output_file.writing(path) as file, zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array(member, _smallest(array), allow_pickle=False)


def load(path: Path) -> SavedTruth:
    """Read a file written by ``save``. Raises UsageError for any other file."""
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        header = json.loads(arrays["header"].tobytes())
        if header["format"] != FORMAT:
            raise UsageError(f"{path}: not the truth of a program (format {header['format']!r})")
        if header["version"] != VERSION:
            raise UsageError(f"{path}: truth of version {header['version']}; this program reads {VERSION}")
        return _saved(header, {name: arrays[name].astype(np.int64) for name in _ARRAYS})
    except FileNotFoundError:
        raise UsageError(f"{path}: no such file") from None
    except (OSError, ValueError, KeyError, TypeError, IndexError, AttributeError, zipfile.BadZipFile):
        raise UsageError(f"{path}: not the truth of a program, or a damaged one") from None


def _saved(header: dict[str, Any], arrays: dict[str, I64]) -> SavedTruth:
    start_ns, end_ns = (int(ns) for ns in header["span_ns"])
    page = np.repeat(np.cumsum(arrays["page"]), arrays["count"])
    ends = np.cumsum(arrays["idle"] + arrays["length"])
    first_rows = np.cumsum(arrays["count"]) - arrays["count"]
    # What has passed before the page's first run belongs to other pages.
    passed = np.repeat(np.append(0, ends)[first_rows], arrays["count"])
    last = start_ns + ends - passed
    mapped = tuple((int(start), int(end)) for start, end in header["mapped"])
    truth = AccessTruth(
        page,
        last - arrays["length"],
        last,
        span_ns=(start_ns, end_ns),
        gap_ns=int(header["gap_ns"]),
        mapped=mapped,
    )
    title, release, level = (str(header[name]) for name in ("title", "release", "level"))
    space: Literal["virtual", "physical"] = "physical" if header["space"] == "physical" else "virtual"
    return SavedTruth(truth, title, release, level, space, int(header["seed"]), mapped)


def _smallest(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return the same numbers in the smallest type that holds them all."""
    if array.dtype == np.uint8 or not len(array):
        return array
    return array.astype(np.min_scalar_type(int(array.max()))) if array.min() >= 0 else array
