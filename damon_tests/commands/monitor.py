# SPDX-License-Identifier: GPL-2.0
"""``damon-tests monitor``: the reference watches a real process, and shows what it sees while it does."""

from __future__ import annotations

import contextlib
import os
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console

from damon_tests.commands import live_view
from damon_tests.damon import recording_file, trace
from damon_tests.damon.client import DamonClient
from damon_tests.damon.params import DamonAttrs, DamonCtx, DamonTarget, Kdamond
from damon_tests.damon.records import Recording, Snapshot
from damon_tests.ports import NSEC_PER_MSEC, NSEC_PER_SEC, EventStream, TreeError, UsageError, output_file
from damon_tests.reference.live.live_truth import LiveSystem, LiveTruth, has_no_memory, watch
from damon_tests.reference.live.realtime_clock import RealTime
from damon_tests.reference.serve.served_system import RealProcesses
from damon_tests.report import wording

_SLICES_NS = 2 * NSEC_PER_MSEC  # of a workload of ours: well below the sampling interval


def watch_process(
    target: str,
    *,
    level: str = "7.3",
    operations: str = "auto",
    seconds: float | None = None,
    record: Path | None = None,
    seed: int = 0,
) -> int:
    """Watch a pid, or a workload that is started for it, until it ends, ``seconds`` passed or Ctrl-C.

    Raises UsageError (no such process, pattern, level, operations set) and NotSupported.
    """
    system = LiveSystem(level, seed)
    if seconds is not None and not seconds > 0:
        raise UsageError(f"{seconds:g} seconds are no time to watch in")
    if record is not None:
        output_file.check_writable(record)
    with _process(target, seed) as pid:
        truth = watch(pid, time.monotonic_ns(), operations)
        watched = _Watched(system, truth, pid)
        try:
            watched.start()
            live_view.show(watched, seconds, Console())
        finally:
            truth.close()
    recording = watched.recording()
    print(watched.outcome())
    if record is not None:
        recording_file.save(record, recording)
        print(f"{record}: {wording.plural(len(recording.snapshots), 'aggregation')}")
    return 0


@contextlib.contextmanager
def _process(target: str, seed: int) -> Iterator[int]:
    """The pid to watch; a pattern's workload runs meanwhile, and says itself what it touches."""
    if target.isdecimal():
        if not os.path.isdir(f"/proc/{target}"):
            raise UsageError(f"no process has pid {target}")
        yield int(target)
        return
    from damon_tests.kernel.host.machine import LocalMachine
    from damon_tests.kernel.images.programs import ENGINE, program
    from damon_tests.patterns.load import load
    from damon_tests.workload import engine

    pattern = load(target)
    with tempfile.TemporaryDirectory(prefix="damon-tests-monitor-") as directory:
        path = str(program(ENGINE))
        workload = engine.start(LocalMachine(), pattern, seed, path, directory, slices_ns=_SLICES_NS)
        try:
            workload.go()
            yield workload.pid
        finally:
            workload.stop()


@dataclass
class _Watched:
    """One process under the reference's eyes, and what was seen so far."""

    system: LiveSystem
    truth: LiveTruth
    pid: int
    snapshots: list[Snapshot] = field(default_factory=list)

    def start(self) -> None:
        self.truth.arm()
        self._began_s, self._spent_s = time.monotonic(), time.process_time()
        self._processes = RealProcesses(self.system, lambda pid: self.truth)
        self._processes.adopt(self.pid)
        self._real_time = RealTime(self.system.clock, self._processes.refresh)
        self._client = DamonClient(self.system.tree, self.system.clock)
        self._attrs = DamonAttrs()
        context = DamonCtx(operations="vaddr", attrs=self._attrs, targets=(DamonTarget(self.pid),))
        self._client.stage((Kdamond(context),))
        self._stream: EventStream = self.system.events.open([trace.AGGREGATED])
        self.started_ns = self.system.clock.now_ns()
        try:
            self._client.command(0, "on")
        except TreeError:
            if not has_no_memory(self.pid):
                raise
            raise UsageError(f"process {self.pid} has ended before it was watched") from None

    @property
    def running(self) -> bool:
        return self.system.nr_running > 0

    def go_on(self) -> None:
        """Sleep until something is due, do it, and take what was reported."""
        time.sleep(self._real_time.wait_ns() / NSEC_PER_SEC)
        self._real_time.advance()
        self.snapshots += trace.snapshots(self._stream.read())

    @property
    def head(self) -> str:
        return f"process {self.pid}, watched by {self.truth.kind.name}: {self.truth.kind.sees}"

    def cost(self) -> str:
        """Return the share of one CPU that watching takes, of this program's own time."""
        elapsed = time.monotonic() - self._began_s
        spent = time.process_time() - self._spent_s
        return f"the reference {spent / elapsed:.1%} of a CPU" if elapsed > 0 else ""

    def recording(self) -> Recording:
        """Return what was seen. The operations set is named by how it was found out."""
        return Recording(
            source="damon_aggregated",
            operations=f"live:{self.truth.kind.name}",
            sample_us=self._attrs.sample_us,
            aggr_us=self._attrs.aggr_us,
            snapshots=tuple(self.snapshots),
            started_ns=self.started_ns,
            stopped_ns=self.system.clock.now_ns(),
        )

    def outcome(self) -> str:
        ended = "" if self.running else f"process {self.pid} has ended; "
        return f"{ended}seen: {wording.plural(len(self.snapshots), 'aggregation')} ({self.truth.kind.sees})"
