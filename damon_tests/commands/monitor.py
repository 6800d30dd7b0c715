# SPDX-License-Identifier: GPL-2.0
"""``damon-tests monitor``: the reference watches a real process, and shows what it sees while it does."""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console
from rich.live import Live
from rich.text import Text

from damon_tests.commands import playback
from damon_tests.commands.keys import Keys
from damon_tests.damon import recording_file, trace
from damon_tests.damon.client import DamonClient
from damon_tests.damon.params import DamonAttrs, DamonCtx, DamonTarget, Kdamond
from damon_tests.damon.records import Recording, Snapshot
from damon_tests.ports import NSEC_PER_MSEC, NSEC_PER_SEC, EventStream, UsageError, output_file
from damon_tests.reference.live.live_truth import LiveSystem, LiveTruth, watch
from damon_tests.reference.live.realtime_clock import RealTime
from damon_tests.reference.serve.served_system import RealProcesses
from damon_tests.report import heatmap_text, wording
from damon_tests.report.raster import raster

SHOWN_NS = 20 * NSEC_PER_SEC
"""How much of the past the live picture shows."""

_FEWEST_ROWS = 8
_OTHER_LINES = 26  # of the picture at most: between mappings, axis, legend, regions
_REDRAW_NS = 500 * NSEC_PER_MSEC
_PLAIN_EVERY_S = 5.0
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
            _show(watched, seconds, Console())
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
        self._processes = RealProcesses(self.system, lambda pid: self.truth)
        self._processes.adopt(self.pid)
        self._real_time = RealTime(self.system.clock, self._processes.refresh)
        self._client = DamonClient(self.system.tree, self.system.clock)
        self._attrs = DamonAttrs()
        context = DamonCtx(operations="vaddr", attrs=self._attrs, targets=(DamonTarget(self.pid),))
        self._client.stage((Kdamond(context),))
        self._stream: EventStream = self.system.events.open([trace.AGGREGATED])
        self.started_ns = self.system.clock.now_ns()
        self._client.command(0, "on")

    @property
    def running(self) -> bool:
        return self.system.nr_running > 0

    def go_on(self) -> None:
        """Sleep until something is due, do it, and take what was reported."""
        time.sleep(self._real_time.wait_ns() / NSEC_PER_SEC)
        self._real_time.advance()
        self.snapshots += trace.snapshots(self._stream.read())

    def recording(self, since_ns: int = 0) -> Recording:
        """What was seen, all or the last part. The operations set is named by how it was found out."""
        kept = [snapshot for snapshot in self.snapshots if snapshot.time_ns >= since_ns]
        aggr_ns = self._attrs.aggr_us * 1000
        return Recording(
            source="damon_aggregated",
            operations=f"live:{self.truth.kind.name}",
            sample_us=self._attrs.sample_us,
            aggr_us=self._attrs.aggr_us,
            snapshots=tuple(kept),
            started_ns=kept[0].time_ns - aggr_ns if kept and since_ns else self.started_ns,
            stopped_ns=self.system.clock.now_ns(),
        )

    def outcome(self) -> str:
        ended = "" if self.running else f"process {self.pid} has ended; "
        return f"{ended}seen: {wording.plural(len(self.snapshots), 'aggregation')} ({self.truth.kind.sees})"


def _show(watched: _Watched, seconds: float | None, console: Console) -> None:
    """Draw while it runs, if this is a terminal (space: pause, q: end); the last picture stays anyway."""
    deadline = None if seconds is None else time.monotonic() + seconds
    with contextlib.suppress(KeyboardInterrupt):
        if not console.is_terminal:
            _print_live(watched, deadline)
        else:
            _draw_live(watched, deadline, console)
    if not console.is_terminal:
        print(_picture(watched, console.width))
    sys.stdout.flush()


def _print_live(watched: _Watched, deadline: float | None) -> None:
    """Without a terminal: a line every few seconds."""
    due_s = time.monotonic() + _PLAIN_EVERY_S
    while watched.running and (deadline is None or time.monotonic() < deadline):
        watched.go_on()
        if watched.snapshots and time.monotonic() >= due_s:
            due_s = time.monotonic() + _PLAIN_EVERY_S
            print(playback.state(watched.recording(), watched.snapshots[-1]), flush=True)


def _draw_live(watched: _Watched, deadline: float | None, console: Console) -> None:
    next_ns, paused = 0, False
    with Keys() as keys, Live(console=console, auto_refresh=False) as live:
        while watched.running and (deadline is None or time.monotonic() < deadline):
            watched.go_on()
            key = keys.pressed()
            if key == "q":
                return
            paused = paused != (key == " ")
            if not paused and time.monotonic_ns() >= next_ns:
                next_ns = time.monotonic_ns() + _REDRAW_NS
                picture = _picture(watched, console.width, console.height)
                live.update(Text(picture, no_wrap=True), refresh=True)


def _picture(watched: _Watched, width: int, height: int | None = None) -> str:
    """Heat map of the last seconds, and the regions of the last aggregation that are accessed most.

    In a low terminal the heat map has fewer rows; what still does not fit is its legend.
    """
    kind = watched.truth.kind
    lines = [f"process {watched.pid}, watched by {kind.name}: {kind.sees}"]
    if not watched.snapshots:
        return "\n".join([*lines, "(no aggregation has ended yet)"])
    recording = watched.recording(watched.snapshots[-1].time_ns - SHOWN_NS)
    plan = heatmap_text.plan(width, truth=False)
    rows = plan.rows if height is None else max(_FEWEST_ROWS, min(plan.rows, height - _OTHER_LINES))
    drawn = raster(recording, {}, rows=rows, columns=plan.columns)
    return "\n".join([*lines, *heatmap_text.text(drawn), "", *_hottest(recording)])


def _hottest(recording: Recording) -> list[str]:
    last = recording.snapshots[-1]
    samples = recording.samples_per_aggr
    order = (last.nr_accesses.astype(float) * last.sizes).argsort()[::-1][:6]
    lines = [f"{len(last)} regions; most accessed:"]
    for i in order.tolist():
        if not last.nr_accesses[i]:
            break
        rate = int(last.nr_accesses[i]) / samples
        lines.append(
            f"  {int(last.start[i]):#x}-{int(last.end[i]):#x}  {wording.size(int(last.sizes[i])):>10}"
            f"  {rate:5.0%} of samples  age {int(last.age[i])}"
        )
    return lines
