# SPDX-License-Identifier: GPL-2.0
"""The cost of threads by scheduler time: which threads count, from when, and that a real one does."""

import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import cast

import pytest

from damon_tests.kernel.host.machine import LocalMachine
from damon_tests.kernel.schedstat import SchedstatProbe
from damon_tests.ports import NSEC_PER_MSEC, FileOp, Machine, NotSupported
from damon_tests.ports.tree import Entry


class Proc:
    """A machine whose /proc holds ``threads``: {pid: (name, ns, times scheduled)}."""

    def __init__(self) -> None:
        self.threads: dict[int, tuple[str, int, int]] = {}
        self.time_ns = 0
        self.clock = self
        self.unreadable = False

    def now_ns(self) -> int:
        return self.time_ns

    def batch(self, ops: Sequence[FileOp]) -> list[object]:
        return [self._answer(op.path.split("/")) for op in ops]

    def _answer(self, parts: list[str]) -> object:
        if self.unreadable:
            return PermissionError("/proc")
        if len(parts) == 2:
            return [Entry(str(pid), 0o555, True) for pid in self.threads] + [Entry("meminfo", 0o444, False)]
        name, used_ns, switches = self.threads[int(parts[2])]
        return f"{name}\n".encode() if parts[3] == "comm" else f"{used_ns} 77 {switches}\n".encode()


def test_window_counts_threads_of_the_name_only() -> None:
    proc = Proc()
    proc.threads = {5: ("kdamond.0", 1_000, 3), 6: ("kdamond.1", 50, 1), 7: ("kswapd0", 10, 1)}
    with SchedstatProbe(cast(Machine, proc)).window("kdamond") as window:
        proc.threads = {5: ("kdamond.0", 1_400, 5), 6: ("kdamond.1", 150, 2), 7: ("kswapd0", 9_999, 9)}
        proc.time_ns = 2_000
    cost = window.result
    assert (cost.source, cost.unit, cost.tree) == ("schedstat", "ns", None)
    assert (cost.used, cost.switches, cost.window_ns) == (400 + 100, 2 + 1, 2_000)
    assert cost.threads["kdamond"].used == cost.used


def test_thread_that_begins_in_the_window_counts_from_its_start() -> None:
    proc = Proc()
    with SchedstatProbe(cast(Machine, proc)).window("kdamond") as window:
        proc.threads = {9: ("kdamond.0", 300, 4)}
    assert (window.result.used, window.result.switches) == (300, 4)


def test_thread_that_ends_in_the_window_does_not_count() -> None:
    proc = Proc()
    proc.threads = {5: ("kdamond.0", 1_000, 3)}
    with SchedstatProbe(cast(Machine, proc)).window("kdamond") as window:
        proc.threads = {}
    assert (window.result.used, window.result.switches) == (0, 0)


def test_whole_machine_and_unreadable_proc_are_refused() -> None:
    proc = Proc()
    probe = SchedstatProbe(cast(Machine, proc))
    with pytest.raises(NotSupported, match="the cost of a whole machine"), probe.window(""):
        pass
    proc.unreadable = True
    with pytest.raises(NotSupported, match="/proc"), probe.window("kdamond"):
        pass


def test_busy_process_is_charged_its_time_and_waiting_one_nothing(tmp_path: Path) -> None:
    machine = LocalMachine()
    probe = SchedstatProbe(machine)
    for name, script in (("dtbusy", "while :; do :; done"), ("dtwaits", "read line")):
        program = tmp_path / name
        program.write_text(f"#!/bin/sh\n{script}\n")
        program.chmod(0o755)
    waits = subprocess.Popen([tmp_path / "dtwaits"], stdin=subprocess.PIPE)
    busy = subprocess.Popen([tmp_path / "dtbusy"])
    try:
        deadline = time.monotonic() + 60
        used_ns, window_ns = 0, 0
        while used_ns < 10 * NSEC_PER_MSEC and time.monotonic() < deadline:
            with probe.window("dtbusy") as window:
                time.sleep(0.1)
            used_ns += window.result.used
            window_ns += window.result.window_ns
        assert used_ns >= 10 * NSEC_PER_MSEC
        # One thread: the clock's error is what passes between two reads, a fraction of a window.
        assert used_ns <= 2 * window_ns
        with probe.window("dtwaits") as window:
            time.sleep(0.05)
        assert (window.result.used, window.result.switches) == (0, 0)
    finally:
        for process in (busy, waits):
            process.kill()
            process.communicate()
