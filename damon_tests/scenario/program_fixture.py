# SPDX-License-Identifier: GPL-2.0
"""Runs of real programs for the suites: a program of workloads/programs, watched by the DAMON under test."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from damon_tests.damon.params import DamonCtx
from damon_tests.experiment.attempt import OnAttempt
from damon_tests.experiment.backend import Backend
from damon_tests.experiment.experiment import derive_seed
from damon_tests.experiment.observation import Observation
from damon_tests.experiment.program_run import ProgramRun, run_program, topology
from damon_tests.ports import NSEC_PER_SEC
from damon_tests.workload import program_spec


@dataclass(frozen=True)
class ProgramFixture:
    """Make runs: ``program("redis", ctx, seconds=2)(1)`` is the first attempt.

    ``swap_mib``: swap space of the guest. ``extra_events``: more tracepoints to record.
    """

    backend: Callable[[], Backend]
    test_id: str
    run_seed: int
    keep: OnAttempt

    def __call__(
        self,
        name: str,
        ctx: DamonCtx,
        *,
        seconds: float,
        swap_mib: int = 0,
        extra_events: Sequence[str] = (),
    ) -> Callable[[int], ProgramRun]:
        program = program_spec.load(name)
        machine = replace(topology(program), swap_zram_mib=swap_mib)

        def attempt(number: int) -> ProgramRun:
            seed = derive_seed(self.run_seed, self.test_id, number, "program") % (1 << 31)
            made = run_program(
                self.backend(),
                program,
                ctx,
                seed,
                attempt=number,
                watch_ns=int(seconds * NSEC_PER_SEC),
                machine=machine,
                extra_events=extra_events,
            )
            self.keep(made.observation())
            return made

        return attempt


def observing(attempt: Callable[[int], ProgramRun]) -> Callable[[int], Observation]:
    """Return the same attempts as observations, for ``scenario.reference_bands``."""
    return lambda number: attempt(number).observation()
