# SPDX-License-Identifier: GPL-2.0
"""Read the files that the engine publishes, described in ``workloads/src/engine_publish.c``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from damon_tests.ports import HarnessError
from damon_tests.workload.pass_log_truth import PASS_RECORD, PassRecords
from damon_tests.workload.slice_truth import Slices, SliceWindow

SLICE_HEAD = np.dtype([("start_ns", "<u8"), ("end_ns", "<u8"), ("worker", "<u8")])
"""The head before a slice's bits: [start, end), monotonic ns, and the worker's number."""


@dataclass(frozen=True)
class TermCount:
    """Counters of an access term: passes, touches, and passes missed because the engine was late."""

    passes: int
    accesses: int
    missed: int


@dataclass(frozen=True)
class Status:
    """The engine's status file. Times are monotonic ns, 0 before the event.

    ``flush_ns``: the time spent in ``flushes``, which make accesses visible. ``late_max_ns``: the largest
    delay of a pass. ``first_dropped_ns``: from then on the pass log is incomplete; 0 if it is complete.
    ``workers``: (process, thread, pid). ``terms``: by (phase index, term index).
    """

    state: str
    now_ns: int
    go_ns: int
    stopped_ns: int
    flushes: int
    flush_ns: int
    late_max_ns: int
    phases: int
    phases_dropped: int
    passes_logged: int
    passes_dropped: int
    first_dropped_ns: int
    slices_logged: int
    slices_dropped: int
    slice_bytes: int
    workers: tuple[tuple[int, int, int], ...] = ()
    windows: tuple[SliceWindow, ...] = ()
    terms: Mapping[tuple[int, int], TermCount] = field(default_factory=dict)


_COUNTERS = (
    "now_ns",
    "go_ns",
    "stopped_ns",
    "flushes",
    "flush_ns",
    "late_max_ns",
    "phases",
    "phases_dropped",
    "passes_logged",
    "passes_dropped",
    "first_dropped_ns",
    "slices_logged",
    "slices_dropped",
    "slice_bytes",
)


def parse_status(data: bytes) -> Status:
    """Parse the status file. Raises HarnessError for anything else."""
    lines = [line.split() for line in data.decode("ascii", "replace").splitlines()]
    values = {words[0]: words[1] for words in lines if len(words) == 2}
    try:
        counters = {name: int(values[name]) for name in _COUNTERS}
        windows = tuple(
            SliceWindow(int(words[2]), int(words[3]), int(words[4]))
            for words in lines
            if words[0] == "window"
        )
        workers = tuple(
            (int(words[2]), int(words[3]), int(words[4])) for words in lines if words[0] == "worker"
        )
        terms = {}
        for words in lines:
            if words[0] == "term":
                phase, term, passes, accesses, missed = map(int, words[1:])
                terms[phase, term] = TermCount(passes, accesses, missed)
        return Status(state=values["state"], workers=workers, windows=windows, terms=terms, **counters)
    except (KeyError, ValueError, IndexError) as error:
        raise HarnessError(f"the engine's status is not understood ({error}): {data[:500]!r}") from None


def parse_phases(data: bytes) -> list[int]:
    """Return the start times of the phases."""
    return [int(start) for start in np.frombuffer(data[: len(data) // 8 * 8], dtype="<u8")]


def parse_passes(data: bytes) -> PassRecords:
    """Return the pass log, dtype PASS_RECORD."""
    size = PASS_RECORD.itemsize
    records: PassRecords = np.frombuffer(data[: len(data) // size * size], dtype=PASS_RECORD)
    return records


def parse_slices(data: bytes, status: Status) -> tuple[Slices, ...]:
    """Return the slices of each worker, in the order of ``status.workers``."""
    head = SLICE_HEAD.itemsize
    size = head + status.slice_bytes
    rows: npt.NDArray[np.uint8] = np.frombuffer(data[: len(data) // size * size], dtype=np.uint8)
    rows = rows.reshape(-1, size)
    heads = np.ascontiguousarray(rows[:, :head]).view(SLICE_HEAD)[:, 0]
    by_worker = []
    for worker in range(len(status.workers)):
        mine = heads["worker"] == worker
        times = [heads[name][mine].astype(np.int64) for name in ("start_ns", "end_ns")]
        by_worker.append(Slices(times[0], times[1], rows[mine, head:]))
    return tuple(by_worker)
