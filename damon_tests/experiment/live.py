# SPDX-License-Identifier: GPL-2.0
"""An experiment that the test body drives itself: targets and a session, changed while DAMON runs.

``Experiment`` states one request that stays; what happens online (commits, targets that come and
go, pauses) is told here step by step. It is repeatable all the same: a pristine subject and a seed of
its own for every attempt.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial

from damon_tests.damon.client import DamonClient
from damon_tests.damon.params import DamonAttrs, DamonCtx, DamonTarget, Damos, Kdamond
from damon_tests.damon.records import Recording, Snapshot
from damon_tests.damon.session import Session, Source
from damon_tests.experiment.backend import Backend, Subject
from damon_tests.experiment.experiment import Cover, target_of
from damon_tests.experiment.observation import Commit, Committed, Observation
from damon_tests.experiment.physical_view import frames_of, unmoved
from damon_tests.kernel.guest.topology import Topology
from damon_tests.patterns.spec import Pattern
from damon_tests.ports import NSEC_PER_SEC, NSEC_PER_USEC, DamonTestsError, HarnessError, Truth
from damon_tests.ports.arrays import I64
from damon_tests.workload.pages import PageStates
from damon_tests.workload.target import RunningTarget


@dataclass(frozen=True, eq=False)
class Part:
    """A stretch of a recording in which one request was in force.

    ``recording`` has that request's intervals and only aggregations that began and ended under it.
    ``from_start``: it begins where the kdamond was turned on.
    """

    recording: Recording
    ctx: DamonCtx
    from_start: bool


class Live:
    """What a test body gets: running targets and DAMON watching them. Made by ``live``."""

    def __init__(
        self,
        subject: Subject,
        session: Session,
        targets: Sequence[RunningTarget],
        patterns: Sequence[Pattern],
    ) -> None:
        self.subject = subject
        self.session = session
        self.client = session.client
        self.clock = subject.clock
        self.level = subject.level
        self.targets = tuple(targets)
        self.commits = [Commit(0, 0, session.kdamonds)]
        self.vmas = tuple(tuple(subject.vmas(target)) for target in targets)
        self.pattern = patterns[0]
        self.frames = self._frames_now()
        self._final: dict[int, Recording] = {}
        self.observation: Observation | None = None

    # --- while it runs ---------------------------------------------------------------------------

    @property
    def target(self) -> RunningTarget:
        return self.targets[0]

    @property
    def ctx(self) -> DamonCtx:
        """The request of the first kdamond that is in force now."""
        return self.session.kdamonds[0].ctx

    def record(self, seconds: float, *, aggregations: int = 0) -> None:
        """Let DAMON run for that long, and until it has reported so many aggregations meanwhile.

        A machine that is busy with something else may stand still for most of that time. After a minute more
        without them the recording is left as it is.
        """
        begin = self.clock.now_ns()
        self.session.record(int(seconds * NSEC_PER_SEC))
        if aggregations and self._reported(begin) < aggregations:
            enough = partial(self._has_reported, begin, aggregations)
            self.session.record(60 * NSEC_PER_SEC, until=enough)

    def _reported(self, since_ns: int) -> int:
        """Aggregations of the first kdamond's first target since then."""
        return sum(s.time_ns > since_ns for s in self.session.recording().of_target(0))

    def _has_reported(self, since_ns: int, aggregations: int) -> bool:
        return self._reported(since_ns) >= aggregations

    def commit(self, ctx: DamonCtx) -> None:
        """Change the first kdamond's request online. Raises TreeError when DAMON refuses."""
        begin = self.clock.now_ns()
        wanted = (replace(self.session.kdamonds[0], ctx=ctx), *self.session.kdamonds[1:])
        self.session.commit(wanted)
        self.commits.append(Commit(begin, self.clock.now_ns(), self.session.kdamonds))

    def commit_attrs(self, attrs: DamonAttrs) -> None:
        self.commit(replace(self.ctx, attrs=attrs))

    def feed_goals(self, scheme: Damos) -> None:
        """Give the only scheme's running quota other goals, by their own command; nothing else changes."""
        begin = self.clock.now_ns()
        wanted = (
            replace(self.session.kdamonds[0], ctx=replace(self.ctx, schemes=(scheme,))),
            *self.session.kdamonds[1:],
        )
        self.session.commit(wanted, word="commit_schemes_quota_goals")
        self.commits.append(Commit(begin, self.clock.now_ns(), self.session.kdamonds))

    def commit_unchanged(self) -> tuple[int, int]:
        """A commit of what is in force anyway; when it began and when it had returned, ns."""
        begin = self.clock.now_ns()
        self.client.command(0, "commit")
        return begin, self.clock.now_ns()

    def covering(self, *targets: RunningTarget, cover: Cover = "regions") -> tuple[DamonTarget, ...]:
        """Targets of a request that watches these processes."""
        return tuple(target_of(self.ctx, cover, t, self.subject) for t in targets)

    def pages(self, region: str, target: RunningTarget | None = None) -> PageStates:
        """The state now of the pages of one region of the pattern, of the first target unless said."""
        chosen = target or self.target
        return self.subject.pages(chosen, *chosen.layout[region])

    # --- afterwards --------------------------------------------------------------------------------

    def recording(self, kdamond_idx: int = 0) -> Recording:
        """The whole recording, whatever was changed meanwhile."""
        return self._final.get(kdamond_idx) or self.session.recording(kdamond_idx)

    def truth_of(self, target: DamonTarget) -> tuple[Truth, tuple[tuple[int, int], ...]] | None:
        """What the process of a requested target touched, and its mappings; None for none of ours."""
        for running, vmas in zip(self.targets, self.vmas, strict=True):
            if running.pid == target.pid_target:
                return running.truth(), vmas
        return None

    def parts(self, kdamond_idx: int = 0) -> tuple[Part, ...]:
        """The recording, cut where the request changed; see ``parts_of``."""
        return parts_of(self.recording(kdamond_idx), self.commits, kdamond_idx)

    def seen_of(self, part: int) -> Observation:
        """The attempt as far as it was under the request with this number, 0 for the first.

        What judges a whole attempt judges this, too (``judge.monitoring.bands.like_the_reference``): replicas
        go through the same commits at the same times. For the first kdamond and target. Once the run is over.
        """
        if self.observation is None:
            raise HarnessError("there is nothing to judge before a run is over, or without a recording")
        chosen = self.parts()[part]
        committed = Committed(tuple(self.commits[: part + 1]), self.recording()) if part else None
        return replace(self.observation, recording=chosen.recording, ctx=chosen.ctx, committed=committed)

    def _frames_now(self) -> Mapping[str, I64]:
        """Where the first target's memory is, if physical memory is watched."""
        watched = any(k.ctx.operations == "paddr" for k in self.session.kdamonds)
        return frames_of(self.subject, self.targets[0]) if watched and self.targets else {}

    def _note_frames(self) -> None:
        """Before the targets end: keep what did not move; nothing, where the target has ended already."""
        try:
            self.frames = unmoved(self.frames, self._frames_now()) if self.frames else {}
        except (OSError, KeyError):
            self.frames = {}


def parts_of(whole: Recording, commits: Sequence[Commit], kdamond_idx: int = 0) -> tuple[Part, ...]:
    """A recording, cut where the request changed.

    The aggregation in which a commit returned counted under both requests, and belongs to no part.
    """
    parts = []
    for i, commit in enumerate(commits):
        until = commits[i + 1].begin_ns if i + 1 < len(commits) else None
        snaps = [s for s in whole.snapshots if until is None or s.time_ns <= until]
        started = whole.started_ns
        if i:
            snaps = [s for s in snaps if s.time_ns > commit.end_ns]
            started = snaps[0].time_ns if snaps else commit.end_ns
            # Targets of one aggregation are traced together, within far less than a sampling interval.
            ctx = commit.kdamonds[kdamond_idx].ctx
            together = started + max(1, ctx.attrs.sample_us) * NSEC_PER_USEC // 2
            snaps = [s for s in snaps if s.time_ns > together]
        parts.append(_part(whole, snaps, started, until, commit.kdamonds[kdamond_idx].ctx, first=i == 0))
    return tuple(parts)


def _part(
    whole: Recording,
    snaps: Sequence[Snapshot],
    started_ns: int,
    until_ns: int | None,
    ctx: DamonCtx,
    *,
    first: bool,
) -> Part:
    recording = replace(
        whole,
        snapshots=tuple(snaps),
        started_ns=started_ns,
        stopped_ns=whole.stopped_ns if until_ns is None else until_ns,
        sample_us=ctx.attrs.sample_us,
        aggr_us=ctx.attrs.aggr_us,
        operations=ctx.operations,
    )
    return Part(recording, ctx, first)


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
    complained: Callable[[Sequence[str]], None] | None = None,
) -> Iterator[Live]:
    """Start a target for each pattern and DAMON on them; all is ended on leaving.

    Requests without targets get the first ``watched`` ones (None: all), as ``cover`` says.
    ``trace_buffer_kib``: of a CPU, None for one that is large enough. ``complained`` is told what the kernel
    complained about, whatever else went wrong. Raises what ``observe`` raises.
    """
    subject = backend.subject(seed, topology)
    if trace_buffer_kib is not None:
        subject.limit_trace_buffer(trace_buffer_kib)
    targets: list[RunningTarget] = []
    try:
        for number, pattern in enumerate(patterns):
            targets.append(subject.start_target(pattern, seed + number))
        requests = [_filled(k, targets[:watched], cover, subject) for k in kdamonds]
        client = DamonClient(subject.tree, subject.clock)
        with Session(client, subject.events, requests, source=source, extra_events=extra_events) as session:
            run = Live(subject, session, targets, patterns)
            for target in targets:
                target.go()
            session.start()
            yield run
            session.stop()
            run._note_frames()
            if source != "none":
                run._final = {i: session.recording(i) for i in range(len(requests))}
        for target in targets:
            target.stop()
        run.observation = _observation(run, seed, requests[0].ctx) if source != "none" else None
    finally:
        if complained is not None:
            with suppress(DamonTestsError):  # what it was that broke the machine is told by what is raised
                complained(subject.splats())
        for target in targets:
            target.stop()
        subject.close()


def _filled(kdamond: Kdamond, targets: Sequence[RunningTarget], cover: Cover, subject: Subject) -> Kdamond:
    if kdamond.ctx.targets:
        return kdamond
    chosen = tuple(target_of(kdamond.ctx, cover, t, subject) for t in targets)
    return replace(kdamond, ctx=replace(kdamond.ctx, targets=chosen))


def _observation(run: Live, seed: int, ctx: DamonCtx) -> Observation:
    """The first target's and kdamond's side, for the log and the picture."""
    target = run.target
    return Observation(
        pattern=run.pattern,
        ctx=ctx,
        level=run.level,
        seed=seed,
        attempt=1,
        truth=target.truth(),
        layout=dict(target.layout),
        vmas=run.vmas[0],
        phases=tuple(target.phases()),
        recording=run.recording(),
        disturbances=tuple(target.disturbances(ctx.attrs.sample_us * NSEC_PER_USEC // 2)),
        frames=run.frames,
        kernel_log=run.subject.kernel_log(),
        splats=tuple(run.subject.splats()),
    )
