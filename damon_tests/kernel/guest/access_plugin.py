# SPDX-License-Identifier: GPL-2.0
"""Record the accesses of a guest's programs with the QEMU plugin (workloads/src/qemu_plugin_accesses.c)."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from damon_tests.kernel.guest.access_report import parse_runs, require_pids, to_monotonic
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
from damon_tests.ports.accesses import GAP_NS, AccessWindow

CLOCKS = "damon-tests-clocks"

_STAT = re.compile(r"(\d+) \((.*)\) \S (.*)", re.DOTALL)
_NUM_THREADS = 16  # of /proc/PID/stat, counted from the field after the state
_CLOCKS_IN_GUEST = f"/tmp/{CLOCKS}"
_CLOCKS_NS = 10 * NSEC_PER_SEC
_NAMES = ("dt-pid-0", "dt-pid-1", "dt-pid-2", "dt-pid-3")
"""Of tasks from which the plugin learns where pids are; one more than it needs."""


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
        require_pids(report)
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


def _cpu_s(pid: int) -> float:
    """Return the CPU seconds that a process of this machine has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
