# SPDX-License-Identifier: GPL-2.0
"""``damon-tests monitor TARGET --kernel K``: a kernel's DAMON, watched while it watches a workload."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console

from damon_tests.commands import live_view
from damon_tests.damon import recording_file
from damon_tests.damon.client import DamonClient
from damon_tests.damon.params import DamonAttrs, DamonCtx, DamonTarget, Kdamond
from damon_tests.damon.records import Recording
from damon_tests.damon.session import Session
from damon_tests.experiment.backend import Subject
from damon_tests.experiment.kernel_request import KernelRequest
from damon_tests.experiment.live import live
from damon_tests.experiment.observation import Observation
from damon_tests.experiment.open_backend import open_backend
from damon_tests.patterns.load import load
from damon_tests.ports import NSEC_PER_MSEC, NotSupported, TreeError, UsageError, output_file
from damon_tests.report import wording
from damon_tests.report.artifacts import saved_of

_STEP_NS = 200 * NSEC_PER_MSEC
_NANOSECONDS_FIELD = 0  # of /proc/PID/schedstat: time on a processor


def watch_on_kernel(
    target: str,
    request: KernelRequest,
    *,
    seconds: float | None = None,
    record: Path | None = None,
    seed: int = 0,
    console: Console | None = None,
) -> int:
    """Show what a kernel's DAMON reports of a pattern, or of a process of this machine.

    Until it ends, ``seconds`` passed, q or Ctrl-C; what was recorded is then written to ``record``. Raises
    UsageError (no such process, pattern, kernel) and NotSupported.
    """
    request.check()
    pid = int(target) if target.isdecimal() else None
    if pid is not None and not request.is_host:
        raise UsageError(
            f"--kernel {request.kernel}: process {target} does not run there;"
            " name a pattern, such as hot_cold"
        )
    pattern = None if pid is not None else load(target)
    if pid is not None and not Path(f"/proc/{pid}").is_dir():
        raise UsageError(f"no process has pid {pid}")
    if record is not None:
        output_file.check_writable(record)
    shown = console or Console()
    kept: list[Observation] = []
    with (
        tempfile.TemporaryDirectory(prefix="damon-tests-monitor-") as directory,
        open_backend(request, Path(directory)) as backend,
    ):
        backend.capabilities().require("ops.vaddr")
        if pattern is None:
            assert pid is not None
            with _process(backend.subject(seed), pid, request.kernel) as watched:
                live_view.show(watched, seconds, shown)
                recording = watched.recording()
        else:
            ctx = DamonCtx("vaddr", attrs=DamonAttrs())
            with live(backend, [pattern], [Kdamond(ctx)], seed, keep=kept.append) as run:
                head = f"{target} (process {run.target.pid}), watched by DAMON of {request.kernel}"
                watched = _Watched(run.session, run.subject, head)
                live_view.show(watched, seconds, shown)
            recording = run.recording()
    print(f"seen: {wording.plural(len(recording.snapshots), 'aggregation')}")
    if record is not None:
        if kept:
            saved = saved_of(f"{target} on {request.kernel}", kept[0])
            recording_file.save(record, saved.recording, saved.truth, saved.about, kept[0].schemes)
        else:
            recording_file.save(record, recording)
        print(f"{record}: written")
    return 0


@contextmanager
def _process(subject: Subject, pid: int, kernel: str) -> Iterator[_Watched]:
    """Turn DAMON on for a process of this machine, which only the host's kernel can watch."""
    ctx = DamonCtx("vaddr", attrs=DamonAttrs(), targets=(DamonTarget(pid),))
    client = DamonClient(subject.tree, subject.clock)
    try:
        with Session(client, subject.events, [Kdamond(ctx)]) as session:
            session.start()
            yield _Watched(session, subject, f"process {pid}, watched by DAMON of {kernel}")
            session.stop()
    finally:
        subject.close()


@dataclass
class _Watched:
    """A session of a kernel's DAMON, as ``live_view`` shows it."""

    session: Session
    subject: Subject
    head: str
    _spent: list[tuple[int, int]] = field(default_factory=list)

    @property
    def running(self) -> bool:
        return self.session.running()

    def go_on(self) -> None:
        self.session.record(_STEP_NS)

    def recording(self) -> Recording:
        return self.session.recording()

    def cost(self) -> str:
        """Return the share of one CPU that the kdamond took since monitoring began."""
        try:
            pid = self.session.client.pid(0)
            fields = self.subject.kernel_file(f"/proc/{pid}/schedstat").split()
            self._spent.append((self.subject.clock.now_ns(), int(fields[_NANOSECONDS_FIELD])))
        except (OSError, ValueError, IndexError, TreeError, NotSupported):
            return ""
        (began_ns, first_ns), (now_ns, last_ns) = self._spent[0], self._spent[-1]
        del self._spent[1:-1]
        if now_ns <= began_ns:
            return ""
        return f"kdamond {(last_ns - first_ns) / (now_ns - began_ns):.2%} of a CPU"
