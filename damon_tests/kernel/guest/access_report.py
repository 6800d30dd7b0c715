# SPDX-License-Identifier: GPL-2.0
"""Parse what the QEMU plugin writes of a window of recorded accesses: its report and its file of runs."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from damon_tests.ports import HarnessError
from damon_tests.ports.accesses import AccessRuns, Recorded, Space
from damon_tests.ports.arrays import I64

_RUN = np.dtype(
    [
        ("first_ns", "<u8"),
        ("last_ns", "<u8"),
        ("page", "<u8"),
        ("frame", "<u4"),
        ("space", "<u2"),
        ("kind", "<u2"),
    ]
)
"""struct access_run of workloads/src/qemu_plugin.h; times are those of the time stamp counter."""
_NO_FRAME = 0xFFFFFFFF

ToMonotonic = Callable[[npt.NDArray[np.uint64]], I64]


def require_pids(report: str) -> None:
    """Raise HarnessError when the plugin did not learn the pids of tasks."""
    match = re.search(r"^pid_offset (\d+)$", report, re.MULTILINE)
    if match is None or match[1] == "0":
        raise HarnessError("the QEMU plugin did not learn the pids of the guest's tasks in this window")


def to_monotonic(before: tuple[int, int], after: tuple[int, int]) -> ToMonotonic:
    """Return the function from the time stamp counter to CLOCK_MONOTONIC, by two pairs of them."""
    (tsc, ns), slope = before, (after[1] - before[1]) / (after[0] - before[0])

    def convert(times: npt.NDArray[np.uint64]) -> I64:
        passed: I64 = times.astype(np.int64) - tsc
        monotonic: I64 = ns + np.rint(passed * slope).astype(np.int64)
        return monotonic

    return convert


def parse_runs(
    path: Path, report: str, span_ns: tuple[int, int], gap_ns: int, convert: ToMonotonic, host_s: float
) -> AccessRuns:
    """Parse what the plugin wrote in a window; leave out what lies wholly outside of ``span_ns``.

    Raises HarnessError when it is incomplete.
    """
    lines = [line.split(" ", 4) for line in report.splitlines()]
    if not lines or lines[-1] != ["end"]:
        raise HarnessError("the QEMU plugin's report is cut off; is the disk full?")
    records = np.fromfile(path, dtype=_RUN)
    accesses = re.search(r"^accesses (\d+) unknown (\d+) runs (\d+)$", report, re.MULTILINE)
    clock = re.search(r"^clock (\d+) exact \d+ idle \d+ behind (\d+)$", report, re.MULTILINE)
    if accesses is None or clock is None or len(records) != int(accesses[3]):
        raise HarnessError(f"the QEMU plugin reports other accesses than it wrote: {len(records)} runs")
    frame = records["frame"].astype(np.int64)
    runs = AccessRuns(
        page=records["page"].astype(np.int64),
        first_ns=convert(records["first_ns"]),
        last_ns=convert(records["last_ns"]),
        frame=np.where(frame == _NO_FRAME, -1, frame),
        space=records["space"].astype(np.int64),
        kind=records["kind"].astype(np.uint8),
        spaces=tuple(_spaces(lines)),
        span_ns=span_ns,
        gap_ns=gap_ns,
        recorded=Recorded(int(accesses[1]), int(accesses[2]), int(clock[1]), int(clock[2]), host_s),
    )
    return runs.chosen((runs.last_ns >= span_ns[0]) & (runs.first_ns < span_ns[1]))


def _spaces(lines: Sequence[Sequence[str]]) -> Iterator[Space]:
    """Yield the address spaces of a report: lines of "space NUMBER PAGE_TABLE PID NAME"."""
    for line in lines:
        if line[0] == "space":
            _, number, _, pid, *name = line
            yield Space(int(number), int(pid), name[0].split("\0", 1)[0] if name else "")
