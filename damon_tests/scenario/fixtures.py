# SPDX-License-Identifier: GPL-2.0
"""The ``experiment`` and ``live`` fixtures: a script of one run, or a run that the test drives."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from damon_tests.damon.params import DamonCtx, Kdamond
from damon_tests.damon.session import Source
from damon_tests.experiment.attempt import OnAttempt
from damon_tests.experiment.backend import Backend
from damon_tests.experiment.experiment import Experiment, derive_seed
from damon_tests.experiment.live import Live
from damon_tests.experiment.live import live as run_live
from damon_tests.experiment.targets import Cover, check_cover
from damon_tests.experiment.trial import Trial
from damon_tests.kernel.guest.topology import Topology
from damon_tests.patterns import load
from damon_tests.patterns.spec import Pattern
from damon_tests.ports import NSEC_PER_SEC
from damon_tests.ports.stopwatch import timed


@dataclass(frozen=True)
class ExperimentFixture:
    """Make a Trial on the DAMON under test: ``experiment(pattern, ctx, seconds=...)``.

    ``pattern``: a name in the pattern library, a path of a YAML file, or a Pattern. ``ctx`` None: DAMON's
    defaults. ``seconds``: how long to record. ``topology``: the machine; None: ``needed``, the machine that
    the test's ``needs`` markers ask for. ``decided``: see ``Trial``. Raises UsageError for an unknown pattern
    or ``cover``.
    """

    backend: Callable[[], Backend]
    test_id: str
    run_seed: int
    keep: OnAttempt
    needed: Topology | None = None
    decided: Callable[[], bool] | None = None

    def __call__(
        self,
        pattern: str | Pattern,
        ctx: DamonCtx | None = None,
        *,
        seconds: float,
        cover: Cover = "process",
        topology: Topology | None = None,
    ) -> Trial:
        check_cover(cover)
        duration_ns = int(seconds * NSEC_PER_SEC)
        return Trial(
            Experiment(_pattern(pattern), ctx or DamonCtx(), duration_ns, cover, topology or self.needed),
            self.backend(),
            test_id=self.test_id,
            run_seed=self.run_seed,
            on_attempt=self.keep,
            decided=self.decided,
        )


@dataclass
class LiveFixture:
    """Open a run that the test drives: ``with live(pattern, ctx) as run``.

    ``pattern``: a name, a path or a Pattern, or a list with one for each target. ``ctx``: a DamonCtx, a
    Kdamond, or a list of Kdamonds. The options are those of ``experiment.live.live``. Each call is an attempt
    with a seed of its own. ``topology``: the machine; None: ``needed``, the machine that the test's ``needs``
    markers ask for. The observation is kept when the run has ended, also when the body raised.
    """

    backend: Callable[[], Backend]
    test_id: str
    run_seed: int
    keep: OnAttempt
    needed: Topology | None = None
    complained: Callable[[Sequence[str]], None] | None = None
    attempts: int = 0

    @contextmanager
    def __call__(
        self,
        pattern: str | Pattern | Sequence[str | Pattern],
        ctx: DamonCtx | Kdamond | Sequence[Kdamond],
        *,
        cover: Cover = "process",
        watched: int | None = None,
        source: Source = "auto",
        extra_events: Sequence[str] = (),
        topology: Topology | None = None,
        trace_buffer_kib: int | None = None,
    ) -> Iterator[Live]:
        check_cover(cover)
        self.attempts += 1
        patterns = [pattern] if isinstance(pattern, str | Pattern) else pattern
        if isinstance(ctx, DamonCtx):
            ctx = Kdamond(ctx)
        kdamonds = [ctx] if isinstance(ctx, Kdamond) else ctx
        seed = derive_seed(self.run_seed, self.test_id, self.attempts, "target")
        chosen = [_pattern(p) for p in patterns]
        with (
            timed("live runs"),
            run_live(
                self.backend(),
                chosen,
                kdamonds,
                seed,
                cover=cover,
                watched=watched,
                source=source,
                extra_events=extra_events,
                topology=topology or self.needed,
                trace_buffer_kib=trace_buffer_kib,
                complained=self.complained,
                keep=self.keep,
                number=self.attempts,
            ) as running,
        ):
            yield running


def _pattern(named: str | Pattern) -> Pattern:
    return named if isinstance(named, Pattern) else load.load(named)
