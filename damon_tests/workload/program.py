# SPDX-License-Identifier: GPL-2.0
"""What the engine reads and writes: its program, and the files it publishes.

The program is text, a statement a line, numbers in decimal, sizes in bytes, times in ns; it begins with
the version and ends with "end" (``workloads/src/engine_program.c`` reads it). The published
files are described in ``workloads/src/engine_publish.c``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from damon_tests.patterns.spec import Access, Action, Pattern, PatternRegion
from damon_tests.ports import HarnessError, NotSupported, UsageError
from damon_tests.workload.recorded import PASS_RECORD, PassRecords, SliceTruth, SliceWindow
from damon_tests.workload.weights import buckets_of

VERSION = "damon-tests-engine 2"

# A pass every millisecond for an hour; 115 MB that are only used when they are needed.
MAX_PASSES = 3_600_000
# Slices stop when their file is this large (in a guest it is guest memory).
MAX_SLICES_BYTES = 64 << 20

_HUGEPAGE = {False: "no", True: "yes", None: "default"}
_ORDERS = {"zipf": "weighted", "gaussian": "weighted"}
_ANY_NODE = 64


@dataclass(frozen=True)
class Files:
    """Where one engine publishes."""

    directory: str

    @property
    def status(self) -> str:
        return f"{self.directory}/status"

    @property
    def phases(self) -> str:
        return f"{self.directory}/phases"

    @property
    def passes(self) -> str:
        return f"{self.directory}/passes"

    @property
    def slices(self) -> str:
        return f"{self.directory}/slices"


def write_program(
    pattern: Pattern, seed: int, files: Files, slices_ns: int | None, *, pass_log: bool = True
) -> bytes:
    """The program for a pattern.

    Raises UsageError for a directory that a line cannot hold, NotSupported for slices that cannot be.
    """
    if slices_ns is not None:
        _refuse_slices(pattern)
    if "\n" in files.directory or len(files.directory) > 4000:
        raise UsageError(f"{files.directory!r} cannot be the engine's directory: use a shorter, plain path")
    lines = [
        VERSION,
        f"seed {seed & (1 << 64) - 1}",
        f"repeat {int(pattern.repeat)}",
        f"gap {pattern.gap_bytes}",
        f"visible {pattern.visible}",
        f"status {files.status}",
        f"phases {files.phases}",
    ]
    if pass_log:
        lines.append(f"passes {MAX_PASSES} {files.passes}")
    if slices_ns is not None:
        lines.append(f"slices {slices_ns} {MAX_SLICES_BYTES} {files.slices}")
    if pattern.memcg:
        lines.append(f"memcg {pattern.memcg}")
    lines += [_region(region) for region in pattern.regions]
    numbers = {region.name: number for number, region in enumerate(pattern.regions)}
    for phase in pattern.phases:
        lines.append(f"phase {phase.name} {phase.duration_ns}")
        for access in phase.accesses:
            lines.append(_access(access, numbers[access.region]))
            if access.order in _ORDERS:
                lines += _buckets(access)
        lines += [_action(action, numbers.get(action.region, 0)) for action in phase.actions]
    return "\n".join([*lines, "end", ""]).encode()


def _refuse_slices(pattern: Pattern) -> None:
    if len(pattern.workers) > 1:
        raise NotSupported(
            f"touched-page slices of {pattern.name}, which has several threads or processes",
            remedy="use the pass log",
        )
    if any(action.do == "exec" for phase in pattern.phases for action in phase.actions):
        raise NotSupported(
            f"touched-page slices of {pattern.name}, which does exec", remedy="use the pass log"
        )


def _region(region: PatternRegion) -> str:
    words = (
        region.name,
        region.size_bytes,
        int(region.populate),
        _HUGEPAGE[region.hugepage],
        region.memory,
        int(region.lock),
        _ANY_NODE if region.node is None else region.node,
        region.initially_mapped,
        region.file or "-",
    )
    return "region " + " ".join(str(word) for word in words)


def _buckets(access: Access) -> list[str]:
    buckets = buckets_of(access)
    pairs = zip(buckets.ends.tolist(), buckets.cumulative.tolist(), strict=True)
    return [f"bucket {end} {cumulative}" for end, cumulative in pairs]


def _action(action: Action, region: int) -> str:
    words = (
        action.do,
        action.at_ns,
        region,
        action.start_bytes,
        action.end_bytes,
        int(action.populate),
        action.children,
        action.lifetime_ns,
        int(action.exec_children),
    )
    return "action " + " ".join(str(word) for word in words)


def _access(access: Access, region: int) -> str:
    words = (
        region,
        access.start_bytes,
        access.end_bytes,
        _ORDERS.get(access.order, access.order),
        access.stride_bytes,
        access.period_ns,
        access.touches,
        access.kind,
        access.islands,
        access.every_bytes,
        int(access.free_running),
        access.weight,
        access.drift_bytes,
        access.drift_passes,
        access.drift_positions,
        access.process,
        access.thread,
    )
    return "access " + " ".join(str(word) for word in words)


@dataclass(frozen=True)
class TermCount:
    """What one access term has done: passes, touches, and passes lost because the engine was late."""

    passes: int
    accesses: int
    missed: int


@dataclass(frozen=True)
class Status:
    """The engine's status file. Times are monotonic ns, 0 before they happened.

    ``flush_ns`` is the time spent in ``flushes`` (making accesses visible), ``late_max_ns`` the longest
    that a pass started after its due time. ``first_dropped_ns``: from there on the pass log is
    incomplete, 0 when it is complete. ``terms``: by (phase index, term index).
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


def parse_status(data: bytes) -> Status | None:
    """The status, None when it was read while being written. Raises HarnessError when it is no status."""
    lines = [line.split() for line in data.decode("ascii", "replace").splitlines()]
    values = {words[0]: words[1] for words in lines if len(words) == 2}
    if "seq" not in values or values.get("end") != values["seq"]:
        return None
    try:
        counters = {name: int(values[name]) for name in _COUNTERS}
        windows = tuple(
            SliceWindow(int(words[2]), int(words[3]), int(words[4]))
            for words in lines
            if words[0] == "window"
        )
        terms = {}
        for words in lines:
            if words[0] == "term":
                phase, term, passes, accesses, missed = map(int, words[1:])
                terms[phase, term] = TermCount(passes, accesses, missed)
        return Status(state=values["state"], windows=windows, terms=terms, **counters)
    except (KeyError, ValueError) as error:
        raise HarnessError(f"the engine's status is not understood ({error}): {data[:500]!r}") from None


def parse_phases(data: bytes) -> list[int]:
    """Start times of the phases."""
    return [int(start) for start in np.frombuffer(data[: len(data) // 8 * 8], dtype="<u8")]


def parse_passes(data: bytes) -> PassRecords:
    """The pass log, dtype PASS_RECORD."""
    size = PASS_RECORD.itemsize
    records: PassRecords = np.frombuffer(data[: len(data) // size * size], dtype=PASS_RECORD)
    return records


def parse_slices(data: bytes, status: Status, ranges: Sequence[tuple[int, int]]) -> SliceTruth:
    """The truth of the slices file; ``ranges`` are the regions' bytes."""
    size = 16 + status.slice_bytes
    rows: npt.NDArray[np.uint8] = np.frombuffer(data[: len(data) // size * size], dtype=np.uint8)
    rows = rows.reshape(-1, size)
    times = np.ascontiguousarray(rows[:, :16]).view("<u8").astype(np.int64)
    return SliceTruth(ranges, status.windows, times[:, 0], times[:, 1], rows[:, 16:])
