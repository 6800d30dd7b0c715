# SPDX-License-Identifier: GPL-2.0
"""The repeatable act: (pattern, request, backend, seed, attempt) to Observation."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import Literal

from damon_tests.damon.client import DamonClient
from damon_tests.damon.params import DamonCtx, DamonTarget, Kdamond
from damon_tests.damon.session import Session
from damon_tests.damon.sleeps import SleepWatch
from damon_tests.experiment.backend import Backend, Subject
from damon_tests.experiment.machine_backend import MachineSubject
from damon_tests.experiment.observation import Observation
from damon_tests.experiment.physical_view import frames_of, unmoved
from damon_tests.kernel.guest.topology import Topology
from damon_tests.patterns.spec import Pattern
from damon_tests.ports import NSEC_PER_USEC, PAGE_SIZE, NotSupported
from damon_tests.ports.ranges import joined
from damon_tests.workload.target import RunningTarget

Cover = Literal["process", "regions"]


@dataclass(frozen=True)
class Experiment:
    """What to do, without saying on which DAMON.

    ``ctx`` has no targets: the act fills in the running target. ``cover`` says what is
    monitored: "process" leaves the ranges to DAMON (vaddr finds them itself), "regions" sets the
    pattern's regions as initial ranges (virtual, or their physical frames with paddr).
    ``duration_ns`` is how long DAMON records after it was turned on.
    """

    pattern: Pattern
    ctx: DamonCtx
    duration_ns: int
    cover: Cover = "process"
    topology: Topology | None = None


def derive_seed(run_seed: int, test_id: str, attempt: int, role: str) -> int:
    """hash(run seed, test id, attempt, role) as a raw 63-bit integer; the same on every machine."""
    text = f"{run_seed}\0{test_id}\0{attempt}\0{role}".encode()
    return int.from_bytes(hashlib.sha256(text).digest()[:8], "little") >> 1


def observe(experiment: Experiment, backend: Backend, seed: int, attempt: int = 1) -> Observation:
    """Perform ``experiment`` once on a pristine subject of ``backend``.

    Raises NotSupported when the subject lacks something the request needs, TreeError when DAMON
    refuses it, HarnessError when target, guest or harness broke.
    """
    seconds: dict[str, float] = {}
    with _timed(seconds, "prepare"):
        subject = backend.subject(seed, experiment.topology)
    try:
        return _act(experiment, subject, seed, attempt, seconds)
    finally:
        with _timed(seconds, "close"):
            subject.close()


def _act(
    experiment: Experiment, subject: Subject, seed: int, attempt: int, seconds: dict[str, float]
) -> Observation:
    with _timed(seconds, "start target"):
        target = subject.start_target(experiment.pattern, seed)
    try:
        with ExitStack() as stack:
            physical = experiment.ctx.operations == "paddr"
            with _timed(seconds, "start DAMON"):
                frames = frames_of(subject, target) if physical else {}
                covered = target_of(experiment.ctx, experiment.cover, target, subject)
                ctx = replace(experiment.ctx, targets=(covered,))
                vmas = tuple(subject.vmas(target))
                client = DamonClient(subject.tree, subject.clock)
                watch = watch_sleeps(subject, stack)
                session = stack.enter_context(Session(client, subject.events, (Kdamond(ctx),)))
                target.go()
                session.start()
                pid = client.pid(0)
            with _timed(seconds, "monitor"):
                session.record(experiment.duration_ns)
                _make_up(session, ctx, experiment.duration_ns)
            with _timed(seconds, "stop DAMON"):
                schemes = session.scheme_reports() if ctx.schemes else ()
                session.stop()
                sleeps = watch.sleeps(pid) if watch else ()
                stack.close()
                frames = unmoved(frames, frames_of(subject, target)) if physical else frames
        recording = session.recording()
        target.stop()
        with _timed(seconds, "collect"):
            log, splats = subject.kernel_log(), tuple(subject.splats())
            return Observation(
                pattern=experiment.pattern,
                ctx=ctx,
                level=subject.level,
                seed=seed,
                attempt=attempt,
                truth=target.truth(),
                layout=dict(target.layout),
                vmas=vmas,
                phases=tuple(target.phases()),
                recording=recording,
                schemes=schemes,
                disturbances=tuple(target.disturbances(ctx.attrs.sample_us * NSEC_PER_USEC // 2)),
                irregular=tuple(target.disturbances(_irregular_ns(experiment.pattern, ctx))),
                sleeps=sleeps,
                frames=frames,
                kernel_log=log,
                splats=splats,
                seconds=seconds,
            )
    finally:
        target.stop()


def _make_up(session: Session, ctx: DamonCtx, duration_ns: int) -> None:
    """Record on, at most twice as long again, while there are less than half of the aggregations that fit
    into the duration: the machine stood still for much of it."""
    if ctx.attrs.intervals_goal.aggrs:
        return
    wanted = duration_ns // (2 * max(1, ctx.attrs.aggr_us) * NSEC_PER_USEC)

    def enough() -> bool:
        return len(session.recording().of_target(0)) >= wanted

    if not enough():
        session.record(2 * duration_ns, until=enough)


def watch_sleeps(subject: Subject, stack: ExitStack) -> SleepWatch | None:
    """Watch when kdamonds sleep, until ``stack`` ends; None where there is no kernel or no way to do so."""
    if not isinstance(subject, MachineSubject):
        return None
    try:
        watch = SleepWatch(subject.machine)
    except NotSupported:
        return None
    stack.callback(watch.close)
    return watch


def _irregular_ns(pattern: Pattern, ctx: DamonCtx) -> int:
    """How late a pass may begin, and how long take, ns, so that each page is still touched in every sampling
    interval: from the begin of one to the end of the next then is no more than that. Half an interval
    where none of the pattern's passes come that often."""
    sample_ns = ctx.attrs.sample_us * NSEC_PER_USEC
    periods = [
        access.period_ns for phase in pattern.phases for access in phase.accesses if not access.free_running
    ]
    spare_ns = sample_ns - max(periods, default=0)
    return (spare_ns if spare_ns > 0 else sample_ns) // 2


def target_of(ctx: DamonCtx, cover: Cover, target: RunningTarget, subject: Subject) -> DamonTarget:
    """The target directory's contents for what is to be covered."""
    if ctx.operations == "paddr":
        ranges = subject.ram_ranges() if cover == "process" else _physical(target)
        return DamonTarget(regions=tuple((s // ctx.addr_unit, e // ctx.addr_unit) for s, e in ranges))
    if cover == "process":
        return DamonTarget(pid_target=target.pid)
    return DamonTarget(pid_target=target.pid, regions=tuple(sorted(target.layout.values())))


def _physical(target: RunningTarget) -> tuple[tuple[int, int], ...]:
    """Physical ranges of all the pattern's regions, merged where they touch."""
    parts = (part for ranges in target.physical().values() for part in ranges)
    return tuple(joined((start // PAGE_SIZE * PAGE_SIZE, end) for start, end in parts))


@contextmanager
def _timed(seconds: dict[str, float], what: str) -> Iterator[None]:
    began = time.monotonic()
    try:
        yield
    finally:
        seconds[what] = seconds.get(what, 0.0) + time.monotonic() - began
