# SPDX-License-Identifier: GPL-2.0
"""Runs of a built-in module that the test drives: a target, the module's session, its tracepoints.

DAMON_RECLAIM, DAMON_LRU_SORT and DAMON_STAT monitor physical memory, so a test measures their effect on the
target's pages.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from typing import Generic, TypeVar

from damon_tests.damon import trace
from damon_tests.damon.module_params import ModuleParameters
from damon_tests.damon.modules import ModuleClient, ModuleSession
from damon_tests.damon.params import DamonCtx
from damon_tests.damon.records import DamosStats, Recording, SchemeReport
from damon_tests.experiment.attempt import Attempt, Seconds, start_targets
from damon_tests.experiment.backend import Subject
from damon_tests.experiment.endings import observed, stopped
from damon_tests.experiment.observation import Observation
from damon_tests.judge.modules.schemes import derived
from damon_tests.judge.verdict import Check, Measurement
from damon_tests.patterns.spec import Pattern
from damon_tests.ports import NSEC_PER_MSEC, NSEC_PER_SEC, NSEC_PER_USEC, Event, EventStream, TreeError
from damon_tests.workload.memory_info import MemoryInfo
from damon_tests.workload.pages import PageStates
from damon_tests.workload.target import RunningTarget

P = TypeVar("P", bound=ModuleParameters)
T = TypeVar("T", bound=trace.TypedEvent)

TRACED = (
    trace.AGGREGATED,
    trace.BEFORE_APPLY,
    trace.ESZ,
    trace.INTERVALS_TUNE,
)
_POLL_NS = 100 * NSEC_PER_MSEC


class ModuleRun(Generic[P]):
    """A running test of a module.

    ``module``: the client of the module's parameters; ``session`` restores them. ``raw``: the events so far,
    of all kdamonds; complete after the run. ``observation``: after the run, what was observed of the first
    target since the module was last enabled; None without a target, of source "none" if no region was traced.
    """

    def __init__(self, attempt: Attempt, session: ModuleSession[P], stream: EventStream | None) -> None:
        self.attempt = attempt
        self.subject = attempt.subject
        self.session = session
        self.module = session.client
        self.clock = self.subject.clock
        self.level = self.subject.level
        self.targets = attempt.targets
        self.raw: list[Event] = []
        self.observation: Observation | None = None
        self._ctx: DamonCtx | None = None
        self._schemes: tuple[SchemeReport, ...] = ()
        self._stream = stream
        self._started_ns = 0

    @property
    def target(self) -> RunningTarget:
        return self.targets[0]

    def enable(self) -> None:
        """Enable the module. Raises TreeError when DAMON refuses."""
        self._ctx = derived(self.session.parameters, tuple(self.subject.ram_ranges()), self.level)
        self.attempt.note_frames()
        self._started_ns = self.clock.now_ns()
        self.session.enable()
        self.attempt.note_kdamond(self.module.kdamond_pid())

    def disable(self) -> None:
        """Disable the module, and fetch its last events."""
        self.attempt.note_kdamond(self.module.kdamond_pid())
        self.session.disable()
        self.collect()

    def commit(self, **changed: int | bool) -> tuple[int, int]:
        """Commit changed parameters; return when the commit began and when it returned, ns."""
        begin = self.clock.now_ns()
        self.session.commit(**changed)
        return begin, self.clock.now_ns()

    def run_for(self, seconds: float) -> None:
        """Let time pass, and fetch events meanwhile, so that the buffer loses none."""
        deadline = self.clock.now_ns() + int(seconds * NSEC_PER_SEC)
        while (left := deadline - self.clock.now_ns()) > 0:
            self.clock.run_for(min(left, 250 * NSEC_PER_MSEC))
            self.collect()

    def until(self, condition: Callable[[], bool], seconds: float, poll_ns: int = _POLL_NS) -> bool:
        """Wait until ``condition()`` holds, at most ``seconds``; return whether it does."""
        deadline = self.clock.now_ns() + int(seconds * NSEC_PER_SEC)
        while not condition():
            if self.clock.now_ns() >= deadline:
                return False
            self.clock.run_for(poll_ns)
            self.collect()
        return True

    # --- what the run shows --------------------------------------------------------------------------------

    def stats(self, kind: str = "") -> DamosStats:
        """Return the module's counters; ``kind``: "hot" or "cold" of DAMON_LRU_SORT."""
        return self.module.stats(kind)

    def timed_stats(self, kind: str = "") -> tuple[DamosStats, tuple[int, int]]:
        """Return the counters, and the times, ns, just before and after they were read."""
        before = self.clock.now_ns()
        return self.stats(kind), (before, self.clock.now_ns())

    def pages(self, region: str) -> PageStates:
        """Return the pages of one region of the first target, as they are now."""
        return self.subject.pages(self.target, *self.target.layout[region])

    def memory_info(self) -> MemoryInfo:
        return self.subject.memory_info()

    def kept_touching(self, every_us: int) -> bool:
        """Return whether the target touched its memory at least every ``every_us``; call it after the run.

        On an overloaded machine the target may stop while DAMON runs; then memory that should be hot is idle.
        """
        return not any(target.disturbances(every_us * NSEC_PER_USEC) for target in self.targets)

    def kept_schedule(self, every_us: int) -> Check:
        """Check ``kept_touching``; INCONCLUSIVE if not, because memory in use then is idle."""
        kept = self.kept_touching(every_us)
        m = Measurement(f"target touched its memory every {every_us} µs", float(kept), "count")
        why = (
            "on a machine that is too busy memory in use is idle; end what else keeps it busy, and run again"
        )
        return Check("invariant", m, "== 1", why, kept or None)

    def collect(self) -> None:
        """Fetch the events that have arrived."""
        if self._stream is not None:
            self.raw += self._stream.read()

    def events(self, kind: type[T]) -> list[T]:
        """Return typed events of one kind so far, in order."""
        self.collect()
        names = [name for name, (_, made) in trace.FORMATS.items() if made is kind]
        parsed = trace.parse_events(e for e in self.raw if e.name in names)
        return [e for e in parsed if isinstance(e, kind)]

    def tried(self, scheme_idx: int = 0) -> list[trace.BeforeApplyEvent]:
        """Return the regions that one of the module's schemes tried so far, in order."""
        return [e for e in self.events(trace.BeforeApplyEvent) if e.scheme_idx == scheme_idx]

    def lost(self) -> int:
        """Return how many events the trace buffer lost."""
        return self._stream.lost() if self._stream is not None else 0

    def recording(self) -> Recording:
        """Return the aggregations since the module was last enabled, with the requested intervals."""
        parameters = self.session.parameters
        sample_us = getattr(parameters, "sample_interval", 5_000)
        aggr_us = getattr(parameters, "aggr_interval", 100_000)
        self.collect()
        chosen = [e for e in self.raw if e.name == trace.AGGREGATED and e.time_ns >= self._started_ns]
        tuned = tuple((e.time_ns, e.sample_us) for e in self.events(trace.TuneEvent))
        traced = Recording(
            "damon_aggregated",
            "paddr",
            sample_us,
            aggr_us,
            tuple(trace.snapshots(chosen)),
            self._started_ns,
            self.clock.now_ns(),
            self.lost(),
            getattr(parameters, "addr_unit", 1),
        )
        return replace(traced, intervals=tuned)

    def _end(self, *, ask: bool) -> None:
        """Record what can be read only before the parameters are restored; ``ask``: the counters, too."""
        if ask and self._ctx is not None:
            with suppress(TreeError):
                self._schemes = tuple(SchemeReport(self.stats(kind)) for kind in self.module.schemes)
        self.attempt.note_kdamond(self.module.kdamond_pid())
        self.attempt.note_sleeps()
        if self._ctx is not None:
            self.attempt.note_frames()

    def _close(self) -> None:
        """Fetch the last events. Call it when the module is off."""
        if self._stream is not None:
            self._stream.close()
            self.collect()

    def observe(self) -> None:
        """Make the observation, if the module was enabled beside a target."""
        if self._ctx is not None and self.targets:
            traced = any(e.name == trace.AGGREGATED for e in self.raw)
            recording = self.recording() if traced else replace(self.recording(), source="none")
            self.observation = self.attempt.observation(self._ctx, recording, self._schemes)


@contextmanager
def module_run(
    subject: Subject,
    parameters: P,
    patterns: Sequence[Pattern] = (),
    seed: int = 0,
    *,
    events: Sequence[str] = TRACED,
    seconds: Seconds | None = None,
    number: int = 1,
) -> Iterator[ModuleRun[P]]:
    """Start targets and write the module's parameters, without enabling it; end both on leaving.

    ``events``: tracepoints to record, of which those that this DAMON lacks are left out. ``number``: the
    attempt's number in its test. Raises what ModuleSession raises.
    """
    seconds = seconds or Seconds()
    ended: list[ModuleRun[P]] = []
    with (
        observed(ended),
        start_targets(subject, patterns, seed, seconds, number=number) as attempt,
        ExitStack() as stack,
    ):
        names = [name for name in events if name in subject.events.available()]
        stream = subject.events.open(names) if names else None
        if stream is not None:
            stack.callback(stream.close)  # for a module that is refused; ``_close`` does it otherwise
        client = ModuleClient(subject.tree, subject.clock, parameters.MODULE)
        with ModuleSession(client, parameters) as session:
            run = ModuleRun(attempt, session, stream)
            ended.append(run)
            stack.callback(run._close)
            attempt.go()
            with stopped(run._end, seconds), seconds("monitor"):
                yield run


def hull(targets: Sequence[RunningTarget]) -> tuple[int, int]:
    """Return the physical byte range [start, end) from the first to the last page of these targets."""
    ranges = [r for target in targets for regions in target.physical().values() for r in regions]
    return min(start for start, _ in ranges), max(end for _, end in ranges)
