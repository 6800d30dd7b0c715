# SPDX-License-Identifier: GPL-2.0
"""Run DAMON: start targets and the kdamonds that monitor them, and let a body drive both.

Begin at ``live``. A test's body changes what runs (commits, targets, pauses); an ``Experiment`` only records.
Each attempt has a pristine subject and its own seed, so it can be repeated.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import partial

from damon_tests.damon.client import DamonClient
from damon_tests.damon.params import (
    DamonAttrs,
    DamonCtx,
    DamonIntervalsGoal,
    DamonTarget,
    Damos,
    DamosWatermarks,
    Kdamond,
)
from damon_tests.damon.records import Recording, SchemeReport
from damon_tests.damon.session import Session, Source
from damon_tests.experiment.attempt import (
    Attempt,
    Complained,
    OnAttempt,
    Seconds,
    pristine_subject,
    start_targets,
)
from damon_tests.experiment.backend import Backend
from damon_tests.experiment.endings import kept, observed, stopped
from damon_tests.experiment.observation import Commit, Committed, Observation
from damon_tests.experiment.parts import Part, parts_of
from damon_tests.experiment.targets import Cover, check_cover, target_of, with_targets
from damon_tests.kernel.guest.topology import Topology
from damon_tests.patterns.spec import Pattern
from damon_tests.ports import (
    NSEC_PER_SEC,
    NSEC_PER_USEC,
    HarnessError,
    NotSupported,
    TreeError,
    Truth,
)
from damon_tests.ports.arrays import I64
from damon_tests.ports.ranges import Range
from damon_tests.workload.pages import PageStates
from damon_tests.workload.target import RunningTarget

LONGEST_APPLY_US = 500_000
"""Tried regions are read at the end of a run if every scheme is applied this often, in µs: reading them takes
as long."""


class Live:
    """The running targets and the DAMON that monitors them, for the body of ``live``.

    ``observation``: what the first kdamond reported of the first target, once the run is over; None without
    a target. A run that does not record regions has one of source "none".
    """

    def __init__(
        self, attempt: Attempt, session: Session, requests: Sequence[Kdamond], *, records: bool = True
    ) -> None:
        """``requests``: what was asked for, targets filled in. ``records``: whether regions are recorded."""
        self.attempt = attempt
        self.subject = attempt.subject
        self.session = session
        self.client = session.client
        self.clock = self.subject.clock
        self.level = self.subject.level
        self.targets = attempt.targets
        self.vmas = attempt.vmas
        self.commits = [Commit(0, 0, session.kdamonds)]
        self.observation: Observation | None = None
        self._final: Mapping[int, Recording] = {}
        self._schemes: tuple[SchemeReport, ...] = ()
        self._requests = tuple(requests)
        self._records = records

    # --- while it runs ---------------------------------------------------------------------------

    @property
    def target(self) -> RunningTarget:
        return self.targets[0]

    @property
    def frames(self) -> Mapping[str, I64]:
        """Return the frames of the first target's pages by region, if physical memory is monitored."""
        return self.attempt.frames

    @property
    def ctx(self) -> DamonCtx:
        """Return the first kdamond's request that is in force now."""
        return self.session.kdamonds[0].ctx

    def record(self, seconds: float, *, aggregations: int = 0) -> None:
        """Let DAMON run for ``seconds``, and until it has reported this many aggregations meanwhile.

        A busy machine may stall for most of that time. If the aggregations do not come within another minute,
        the recording stays as it is.
        """
        begin = self.clock.now_ns()
        self.session.record(int(seconds * NSEC_PER_SEC))
        if aggregations and self._reported(begin) < aggregations:
            enough = partial(self._has_reported, begin, aggregations)
            self.session.record(60 * NSEC_PER_SEC, until=enough)

    def make_up(self, duration_ns: int) -> None:
        """Keep recording if the machine stalled for much of ``duration_ns``.

        Record until DAMON has reported half of the aggregations that fit into the duration, at most twice as
        long again.
        """
        attrs = self.ctx.attrs
        if attrs.intervals_goal.aggrs:
            return
        wanted = duration_ns // (2 * max(1, attrs.aggr_us) * NSEC_PER_USEC)

        def enough() -> bool:
            return len(self.session.recording().of_target(0)) >= wanted

        if not enough():
            self.session.record(2 * duration_ns, until=enough)

    def _reported(self, since_ns: int) -> int:
        """Return how many aggregations of its first target the first kdamond reported since ``since_ns``."""
        return sum(s.time_ns > since_ns for s in self.session.recording().of_target(0))

    def _has_reported(self, since_ns: int, aggregations: int) -> bool:
        return self._reported(since_ns) >= aggregations

    def commit(self, ctx: DamonCtx, word: str = "commit") -> None:
        """Commit a changed request to the first kdamond. Raises TreeError when DAMON refuses."""
        begin = self.clock.now_ns()
        wanted = (replace(self.session.kdamonds[0], ctx=ctx), *self.session.kdamonds[1:])
        self.session.commit(wanted, word)
        self.commits.append(Commit(begin, self.clock.now_ns(), self.session.kdamonds))

    def commit_attrs(self, attrs: DamonAttrs) -> None:
        self.commit(replace(self.ctx, attrs=attrs))

    def feed_goals(self, scheme: Damos) -> None:
        """Commit only the quota goals of the only scheme, with ``commit_schemes_quota_goals``."""
        self.commit(replace(self.ctx, schemes=(scheme,)), word="commit_schemes_quota_goals")

    def commit_unchanged(self) -> tuple[int, int]:
        """Commit the request that is in force already; return when the command began and returned, ns."""
        begin = self.clock.now_ns()
        self.client.command(0, "commit")
        return begin, self.clock.now_ns()

    def covering(self, *targets: RunningTarget, cover: Cover = "regions") -> tuple[DamonTarget, ...]:
        """Return the DamonTargets that monitor these processes."""
        return tuple(target_of(self.ctx, cover, t, self.subject) for t in targets)

    def pages(self, region: str, target: RunningTarget | None = None) -> PageStates:
        """Return the current state of the pages of a region, of the first target by default."""
        chosen = target or self.target
        return self.subject.pages(chosen, *chosen.layout[region])

    # --- afterwards --------------------------------------------------------------------------------

    def recording(self, kdamond_idx: int = 0) -> Recording:
        """Return the whole recording, under all requests."""
        return self._final.get(kdamond_idx) or self.session.recording(kdamond_idx)

    def truth_of(self, target: DamonTarget) -> tuple[Truth, tuple[Range, ...]] | None:
        """Return what the process of a DamonTarget touched, and its mappings; None for other processes."""
        for running, vmas in zip(self.targets, self.vmas, strict=True):
            if running.pid == target.pid_target:
                return running.truth(), vmas
        return None

    def parts(self, kdamond_idx: int = 0) -> tuple[Part, ...]:
        """Return the recording, cut where the request changed; see ``parts_of``."""
        return parts_of(self.recording(kdamond_idx), self.commits, kdamond_idx)

    def seen_of(self, part: int) -> Observation:
        """Return the Observation under the request with this number, 0 for the first; once the run is over.

        It can be judged like a whole attempt (``scenario.reference_bands``): replicas repeat the same
        commits at the same times. For the first kdamond and target.
        """
        if self.observation is None:
            raise HarnessError("there is nothing to judge before a run is over, or without a recording")
        chosen = self.parts()[part]
        committed = Committed(tuple(self.commits[: part + 1]), self.recording()) if part else None
        return replace(self.observation, recording=chosen.recording, ctx=chosen.ctx, committed=committed)

    # --- its ends ------------------------------------------------------------------------------------

    def _start(self) -> None:
        if self._monitors_frames():
            self.attempt.note_frames()
        self.attempt.go()
        self.session.start()
        self._note_kdamond()

    def _stop(self, *, ask: bool = True) -> None:
        """Turn DAMON off; record what can be read only now. ``ask``: also what needs commands of DAMON."""
        self.session.end_recording()
        if ask:
            self._schemes = self._scheme_reports()
        self._note_kdamond()
        self.session.stop()
        self.attempt.note_sleeps()
        if self.frames:
            self.attempt.note_frames()

    def observe(self) -> None:
        """Make the observation of the first target. Call it when the targets have stopped."""
        if self._records:
            self._final = {i: self.session.recording(i) for i in range(len(self._requests))}
        if self.targets:
            recording = self.recording() if self._records else self.session.unrecorded()
            observation = self.attempt.observation(self._requests[0].ctx, recording, self._schemes)
            self.observation = replace(observation, paused=self.session.paused())

    def _monitors_frames(self) -> bool:
        return any(k.ctx.operations == "paddr" for k in self.session.kdamonds)

    def _note_kdamond(self) -> None:
        with suppress(TreeError):
            self.attempt.note_kdamond(self.client.pid(0))

    def _scheme_reports(self) -> tuple[SchemeReport, ...]:
        """Return what the first kdamond's schemes report; nothing if it has ended."""
        for tried in (self._answers_soon(), False):  # a kernel may refuse tried regions only
            with suppress(TreeError, NotSupported):
                if self.session.running():
                    return self.session.scheme_reports(tried=tried)
        return ()

    def _answers_soon(self) -> bool:
        """Return whether the first kdamond soon applies every scheme, and so answers about tried regions.

        It does not while it is paused, or while watermarks keep a scheme inactive; and up to 7.3 it may never
        while intervals are tuned (known defect tuning-restarts-intervals).
        """
        ctx = self.ctx
        if ctx.attrs.intervals_goal != DamonIntervalsGoal():
            return False
        intervals_us = [scheme.apply_interval_us or ctx.attrs.aggr_us for scheme in ctx.schemes]
        waits = ctx.pause or any(scheme.watermarks != DamosWatermarks() for scheme in ctx.schemes)
        return not waits and max(intervals_us, default=0) <= LONGEST_APPLY_US


@contextmanager
def live(
    backend: Backend,
    patterns: Sequence[Pattern],
    kdamonds: Sequence[Kdamond],
    seed: int,
    *,
    cover: Cover = "process",
    watched: int | None = None,
    source: Source = "auto",
    extra_events: Sequence[str] = (),
    topology: Topology | None = None,
    trace_buffer_kib: int | None = None,
    complained: Complained | None = None,
    keep: OnAttempt | None = None,
    number: int = 1,
) -> Iterator[Live]:
    """Start a target for each pattern and turn DAMON on for them; end all of it on leaving.

    ``cover``: which memory of the first ``watched`` targets (None: all targets) is monitored, for requests
    without targets. ``source``: where regions are recorded from, see ``damon.session``; ``extra_events``:
    more tracepoints to record. ``topology``: the machine, None for the default. ``trace_buffer_kib``:
    size of the trace buffer of each CPU, None for a size that is large enough. ``complained`` receives the
    kernel's complaints, ``keep`` the observation, both also when the body raises. ``number``: the number of
    this attempt of the test.

    Raises UsageError for an unknown ``cover``, NotSupported when the subject lacks what the request needs,
    TreeError when DAMON refuses it, HarnessError when target, guest or harness broke.
    """
    check_cover(cover)
    seconds = Seconds()
    with (
        kept(keep) as ended,
        pristine_subject(
            backend,
            seed,
            seconds,
            topology=topology,
            trace_buffer_kib=trace_buffer_kib,
            complained=complained,
        ) as subject,
        observed(ended),
        start_targets(subject, patterns, seed, seconds, number=number) as attempt,
    ):
        chosen = attempt.targets[:watched]
        requests = [with_targets(kdamond, chosen, cover, subject) for kdamond in kdamonds]
        client = DamonClient(subject.tree, subject.clock)
        with Session(client, subject.events, requests, source=source, extra_events=extra_events) as session:
            run = Live(attempt, session, requests, records=source != "none")
            with seconds("start DAMON"):
                run._start()
            ended.append(run)
            with stopped(run._stop, seconds), seconds("monitor"):
                yield run
