# SPDX-License-Identifier: GPL-2.0
"""Record the accesses of a guest's programs with the QEMU plugin (workloads/src/qemu_plugin_accesses.c)."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import numpy.typing as npt

from damon_tests.kernel.guest.cost_plugin import parse_report
from damon_tests.kernel.guest.plugin_control import Order, Plugin, Window
from damon_tests.kernel.images.programs import program
from damon_tests.ports import (
    NSEC_PER_MSEC,
    NSEC_PER_SEC,
    Entry,
    FileOp,
    HarnessError,
    Machine,
    Process,
    SpawnRequest,
)
from damon_tests.ports.accesses import GAP_NS, AccessRuns, AccessWindow, Recorded, Space
from damon_tests.ports.arrays import I64

CLOCKS = "damon-tests-clocks"

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
_STAT = re.compile(r"(\d+) \((.*)\) \S (.*)", re.DOTALL)
_NUM_THREADS = 16  # of /proc/PID/stat, counted from the field after the state
_CLOCKS_IN_GUEST = f"/tmp/{CLOCKS}"
_CLOCKS_NS = 10 * NSEC_PER_SEC
_NAMES = ("dt-pid-0", "dt-pid-1", "dt-pid-2", "dt-pid-3")
"""Of tasks from which the plugin learns where pids are; one more than it needs."""

ToMonotonic = Callable[[npt.NDArray[np.uint64]], I64]


class EmulatorAccesses:
    """Record the accesses of a guest's programs (implements ``ports.accesses.AccessProbe``)."""

    def __init__(self, plugin: Plugin) -> None:
        self._plugin = plugin
        self._ready = False
        self._pids_known = False

    def prepare(self) -> None:
        """Read the guest's symbols, and put the program into it that compares its clocks."""
        self._plugin.symbols()
        if not self._ready:
            contents = program(CLOCKS).read_bytes()
            self._plugin.machine.write_file(_CLOCKS_IN_GUEST, contents, create=True, mode=0o755)
            self._ready = True

    @contextmanager
    def window(self, gap_ns: int = GAP_NS, *, thread: str | None = None) -> Iterator[AccessWindow]:
        """See ``AccessProbe``."""
        self.prepare()
        plugin, machine = self._plugin, self._plugin.machine
        waiting = [] if self._pids_known else [_task(machine, name) for name in _NAMES]
        plugin.files.tasks.write_text(task_table(machine))
        what = Window.ACCESSES if thread is None else Window.ACCESSES | Window.COST
        order = Order(what, thread or "", gap_ns, str(plugin.files.tasks))
        window = AccessWindow()
        before, used_s = clocks(machine), _cpu_s(plugin.pid)
        plugin.begin(order)
        with plugin.ended_on_errors(order):
            for process in waiting:
                process.close_stdin()
                process.wait(_CLOCKS_NS)
            began_ns = machine.clock.now_ns()
            yield window
        ended_ns = machine.clock.now_ns()
        report = plugin.end(order)
        _require_pids(report)
        self._pids_known = True
        after, used_s = clocks(machine), _cpu_s(plugin.pid) - used_s
        span = began_ns, ended_ns
        window.runs = parse_runs(
            plugin.files.accesses, report, span, gap_ns, to_monotonic(before, after), used_s
        )
        plugin.files.accesses.unlink()
        if thread is not None:
            window.cost = parse_report(report, plugin.symbols(), thread, ended_ns - began_ns)


def _task(machine: Machine, name: str) -> Process:
    """Start a task of this name that runs again when its standard input is closed."""
    process = machine.spawn(SpawnRequest([_CLOCKS_IN_GUEST, name]))
    deadline = machine.clock.now_ns() + _CLOCKS_NS
    if not machine.clock.wait_until(lambda: bool(process.read_stdout()), deadline, NSEC_PER_MSEC):
        raise HarnessError(f"the program {CLOCKS} did not begin in 10 s of the guest")
    return process


def _require_pids(report: str) -> None:
    """Raise HarnessError when the plugin did not learn the pids of tasks."""
    match = re.search(r"^pid_offset (\d+)$", report, re.MULTILINE)
    if match is None or match[1] == "0":
        raise HarnessError("the QEMU plugin did not learn the pids of the guest's tasks in this window")


def task_table(machine: Machine) -> str:
    """Return lines of "PID NAME" for tasks whose process has only them, and whose name only they have."""
    (listed,) = machine.batch([FileOp("list", "/proc")])
    if isinstance(listed, OSError):
        raise listed
    pids = [entry.path for entry in listed if isinstance(entry, Entry) and entry.path.isdecimal()]
    texts = machine.batch([FileOp("read", f"/proc/{pid}/stat") for pid in pids])
    named: dict[str, int] = {}
    twice = set()
    for text in texts:
        match = _STAT.match(text.decode("utf-8", "replace")) if isinstance(text, bytes) else None
        if match is None or int(match[3].split()[_NUM_THREADS]) != 1:
            continue
        # The name of a kworker is followed by what it works on; the task itself does not have that.
        name = re.split("[-+]", match[2])[0] if match[2].startswith("kworker/") else match[2]
        if name in named:
            twice.add(name)
        named[name] = int(match[1])
    return "".join(f"{pid} {name}\n" for name, pid in named.items() if name not in twice)


def clocks(machine: Machine) -> tuple[int, int]:
    """Return the time stamp counter and CLOCK_MONOTONIC of the guest at one moment."""
    process = machine.spawn(SpawnRequest([_CLOCKS_IN_GUEST]))
    process.close_stdin()
    status = process.wait(_CLOCKS_NS)
    words = process.read_stdout().split()
    if not status.ok or len(words) != 3:
        raise HarnessError(f"the program that compares the guest's clocks failed ({status})")
    return int(words[0]), int(words[1])


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


def _cpu_s(pid: int) -> float:
    """Return the CPU seconds that a process of this machine has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
