# SPDX-License-Identifier: GPL-2.0
"""The simulated machine that is served to other programs: it runs in real time, its pids are real ones."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from damon_tests.ports import NSEC_PER_MSEC, TreeError, Truth, page_size
from damon_tests.ports.ranges import Range
from damon_tests.reference.core.kdamond import Kdamond
from damon_tests.reference.live.live_truth import LiveSystem, LiveTruth
from damon_tests.reference.live.periodic_truth import PeriodicAccess, PeriodicTruth
from damon_tests.reference.serve.helper_process import HelperProcess
from damon_tests.reference.sysfs.system import ReferenceSystem

MIB = 1 << 20
_MAPS_EVERY_NS = 200 * NSEC_PER_MSEC

TruthOf = Callable[[int], Truth]
"""The truth about a real process, by its pid."""


class ServedSystem(LiveSystem):
    """A simulated machine in real time. Its pids are those of real, idle processes."""

    def __init__(self, level: str, seed: int, helper: HelperProcess) -> None:
        self._helper = helper
        super().__init__(level, seed)

    def new_pid(self) -> int:
        return self._helper.spawn(f"kdamond.{self.nr_running}")

    def kdamond_exits(self, kdamond: Kdamond) -> None:
        super().kdamond_exits(kdamond)
        self._helper.kill(kdamond.pid)

    def add_simulated(self) -> Mapping[str, int]:
        """Add the default processes, by name: something to monitor without a real workload."""
        return {name: self._add(name, size, hot) for name, size, hot in SIMULATED}

    def _add(self, name: str, size: int, hot: tuple[tuple[int, int, int], ...]) -> int:
        pid = self._helper.spawn(name)
        heap = (SIMULATED_HEAP, SIMULATED_HEAP + size)
        stack = (0x7FFC_0000_0000, 0x7FFC_0000_0000 + 33 * page_size())
        code = (0x5555_5555_4000, 0x5555_5555_4000 + 16 * page_size())
        accesses = [PeriodicAccess(heap[0] + start, heap[0] + end, period) for start, end, period in hot]
        self.add_process([code, heap, stack], PeriodicTruth([heap], accesses), pid)
        return pid


SIMULATED_HEAP = 0x7F00_0000_0000
SIMULATED = (
    # name, bytes of heap, what is touched of it: (start, end, period in ns)
    ("sim-hot", 256 * MIB, ((0, 32 * MIB, NSEC_PER_MSEC),)),
    (
        "sim-stairs",
        256 * MIB,
        tuple((i * 64 * MIB, i * 64 * MIB + 32 * MIB, 4**i * 2 * NSEC_PER_MSEC) for i in range(4)),
    ),
    ("sim-idle", 128 * MIB, ()),
)


@dataclass
class _Adopted:
    started: str
    vmas: list[Range]
    looked_ns: int
    truth: Truth


class RealProcesses:
    """Real processes whose pids were staged: their mappings, and accesses as ``truth_of`` says.

    Use ``before_write`` as ``SysfsFiles.before_write`` and ``refresh`` as housekeeping.
    """

    def __init__(self, system: ReferenceSystem, truth_of: TruthOf = lambda pid: PeriodicTruth()) -> None:
        self._system = system
        self._truth_of = truth_of
        self._adopted: dict[int, _Adopted] = {}

    def before_write(self, path: str, text: str) -> None:
        """Make the pids known that a command will look up."""
        if not path.endswith("/state") or text.strip() not in ("on", "commit"):
            return
        kdamond = path.removesuffix("/state")
        for target in self._names(f"{kdamond}/contexts/0/targets"):
            pid = self._read_pid(f"{kdamond}/contexts/0/targets/{target}/pid_target")
            if pid > 0 and pid not in self._system.memory.processes:
                self.adopt(pid)

    def _names(self, path: str) -> list[str]:
        try:
            return [entry.path for entry in self._system.tree.list(path) if entry.is_dir]
        except TreeError:
            return []

    def _read_pid(self, path: str) -> int:
        try:
            return int(self._system.tree.read(path))
        except (TreeError, ValueError):
            return 0

    def adopt(self, pid: int) -> None:
        """Make a real process known, before it is monitored; do nothing when there is none of that pid."""
        started = start_time(pid)
        if started is None:
            return  # the tree answers that there is no such process
        vmas = mappings(pid)
        truth = self._truth_of(pid)
        self._adopted[pid] = _Adopted(started, vmas, 0, truth)
        self._system.add_process(vmas, truth, pid)

    def refresh(self) -> None:
        """Remove processes that ended from the simulation; read the mappings of the others again."""
        now = time.monotonic_ns()
        for pid, known in list(self._adopted.items()):
            if start_time(pid) != known.started or not self._system.nr_running:
                self._release(pid)
            elif now - known.looked_ns >= _MAPS_EVERY_NS:
                known.looked_ns = now
                if isinstance(known.truth, LiveTruth):
                    known.truth.arm()
                vmas = mappings(pid)
                if vmas and vmas != known.vmas:
                    known.vmas = vmas
                    self._system.set_vmas(pid, vmas)

    def _release(self, pid: int) -> None:
        """Stop watching, also when nothing is monitored any more: it costs the process something."""
        known = self._adopted.pop(pid)
        self._system.remove_process(pid)
        if isinstance(known.truth, LiveTruth):
            known.truth.close()


def start_time(pid: int) -> str | None:
    """Return what distinguishes a process from a later one with its pid; None when there is none."""
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as file:
            return file.read().rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return None


_MAPPING = re.compile(r"([0-9a-f]+)-([0-9a-f]+) (?:\S+ +){4}(.*)")


def mappings(pid: int) -> list[Range]:
    """Return bytes [start, end) of each mapping; empty when they may not be read, or the process ended."""
    try:
        with open(f"/proc/{pid}/maps", encoding="utf-8", errors="replace") as file:
            matches = [_MAPPING.match(line) for line in file]
    except OSError:
        return []
    return [(int(match[1], 16), int(match[2], 16)) for match in matches if match and match[3] != "[vsyscall]"]
