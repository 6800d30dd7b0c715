# SPDX-License-Identifier: GPL-2.0
"""What every run of DAMON shares: a pristine subject, running targets, and the Observation at the end.

``live`` runs kdamonds of the sysfs interface on it, ``scenario.module_run`` a built-in module.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress

from damon_tests.damon.params import DamonCtx
from damon_tests.damon.records import Recording, SchemeReport
from damon_tests.damon.sleeps import Sleep
from damon_tests.experiment.backend import Backend, Subject
from damon_tests.experiment.observation import Observation
from damon_tests.experiment.page_frames import frames_of, unmoved
from damon_tests.kernel.guest.topology import Topology
from damon_tests.patterns.spec import Pattern
from damon_tests.ports import NSEC_PER_USEC, DamonTestsError
from damon_tests.ports.arrays import I64
from damon_tests.ports.stopwatch import timed
from damon_tests.workload.target import RunningTarget

Complained = Callable[[Sequence[str]], None]
"""A callback that receives the titles of the kernel's complaints during an attempt."""

OnAttempt = Callable[[Observation], None]
"""A callback that receives the observation of an attempt when it has ended."""


class Seconds:
    """Wall time by activity. Add to it with ``with seconds("monitor"):``."""

    def __init__(self) -> None:
        self.spent: dict[str, float] = {}

    def __call__(self, what: str) -> AbstractContextManager[None]:
        return timed(what, self.spent)


@contextmanager
def pristine_subject(
    backend: Backend,
    seed: int,
    seconds: Seconds,
    *,
    topology: Topology | None = None,
    trace_buffer_kib: int | None = None,
    complained: Complained | None = None,
) -> Iterator[Subject]:
    """Open a subject of ``backend``; close it on leaving.

    ``trace_buffer_kib``: size of the trace buffer of each CPU, None for one that is large enough.
    ``complained`` receives the kernel's complaints, also when the body raises.
    """
    with seconds("prepare"):
        subject = backend.subject(seed, topology)
    try:
        if trace_buffer_kib is not None:
            subject.limit_trace_buffer(trace_buffer_kib)
        yield subject
    finally:
        if complained is not None:
            with suppress(DamonTestsError):  # a machine that is lost is reported by what the body raises
                complained(subject.splats())
        with seconds("close"):
            subject.close()


class Attempt:
    """The targets of an attempt on a subject. ``start_targets`` makes it; the targets wait for ``go``."""

    def __init__(
        self, subject: Subject, targets: Sequence[RunningTarget], seed: int, number: int, seconds: Seconds
    ) -> None:
        self.subject = subject
        self.targets = tuple(targets)
        self.seed = seed
        self.number = number
        self.seconds = seconds
        self.vmas = tuple(tuple(subject.vmas(target)) for target in targets)
        self.frames: Mapping[str, I64] = {}
        self._kdamond_pids: set[int] = set()
        self._sleeps: tuple[Sleep, ...] = ()
        self._watch = subject.watch_sleeps()

    def go(self) -> None:
        """Let all targets begin their first phase."""
        for target in self.targets:
            target.go()

    def note_frames(self) -> None:
        """Record the page frames of the first target; a second call keeps only frames that did not change.

        Record no frames if the target has ended.
        """
        if not self.targets:
            return
        try:
            now = frames_of(self.subject, self.targets[0])
            self.frames = unmoved(self.frames, now) if self.frames else now
        except (OSError, KeyError):
            self.frames = {}

    def note_kdamond(self, pid: int | None) -> None:
        """Record the pid of the observed kdamond, so that its sleeps can be picked out."""
        if pid is not None and pid > 0:
            self._kdamond_pids.add(pid)

    def note_sleeps(self) -> None:
        """Read the sleeps of the observed kdamond until now; call it before closing the subject."""
        if self._watch is not None:
            self._sleeps = tuple(sorted(s for pid in self._kdamond_pids for s in self._watch.sleeps(pid)))

    def close(self) -> None:
        """Stop the targets. May be called twice."""
        if self._watch is not None:
            self._watch.close()
        for target in self.targets:
            target.stop()

    def observation(
        self, ctx: DamonCtx, recording: Recording, schemes: Sequence[SchemeReport] = ()
    ) -> Observation:
        """Return the Observation of the first target; call it once the targets are stopped.

        ``ctx``: the request with which DAMON was turned on, targets filled in.
        """
        target = self.targets[0]
        with self.seconds("collect"):
            return Observation(
                pattern=target.pattern,
                ctx=ctx,
                level=self.subject.level,
                seed=self.seed,
                attempt=self.number,
                truth=target.truth(),
                layout=dict(target.layout),
                vmas=self.vmas[0],
                phases=tuple(target.phases()),
                recording=recording,
                schemes=tuple(schemes),
                disturbances=tuple(target.disturbances(ctx.attrs.sample_us * NSEC_PER_USEC // 2)),
                irregular=tuple(target.disturbances(_irregular_ns(target.pattern, ctx))),
                sleeps=self._sleeps,
                frames=self.frames,
                kernel_log=self.subject.kernel_log(),
                splats=tuple(self.subject.splats()),
                seconds=self.seconds.spent,
            )


@contextmanager
def start_targets(
    subject: Subject, patterns: Sequence[Pattern], seed: int, seconds: Seconds, *, number: int = 1
) -> Iterator[Attempt]:
    """Start a target for each pattern; stop all of them on leaving.

    ``number``: the number of this attempt of the test.
    """
    targets: list[RunningTarget] = []
    try:
        with seconds("start target"):
            for index, pattern in enumerate(patterns):
                targets.append(subject.start_target(pattern, seed + index))
        attempt = Attempt(subject, targets, seed, number, seconds)
        try:
            yield attempt
        finally:
            attempt.close()
    finally:
        for target in targets:
            target.stop()


def _irregular_ns(pattern: Pattern, ctx: DamonCtx) -> int:
    """Return the largest pass delay plus duration that still touches pages in every sampling interval, ns.

    With it, the time from the start of a pass to the end of the next pass is at most a sampling interval.
    Return half an interval if no access of the pattern has such frequent passes.
    """
    sample_ns = ctx.attrs.sample_us * NSEC_PER_USEC
    periods = [
        access.period_ns for phase in pattern.phases for access in phase.accesses if not access.free_running
    ]
    spare_ns = sample_ns - max(periods, default=0)
    return (spare_ns if spare_ns > 0 else sample_ns) // 2
