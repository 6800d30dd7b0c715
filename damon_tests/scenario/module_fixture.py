# SPDX-License-Identifier: GPL-2.0
"""The ``module`` fixture: runs of DAMON_RECLAIM, DAMON_LRU_SORT and DAMON_STAT."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Literal

from damon_tests.damon.module_params import DamonStat, ModuleParameters
from damon_tests.experiment.attempt import Complained, OnAttempt, Seconds, pristine_subject
from damon_tests.experiment.backend import Backend
from damon_tests.experiment.endings import kept
from damon_tests.experiment.experiment import derive_seed
from damon_tests.kernel.guest.topology import Topology
from damon_tests.patterns import load
from damon_tests.patterns.spec import Pattern
from damon_tests.scenario.module_run import TRACED, ModuleRun, hull, module_run


@dataclass
class ModuleFixture:
    """Open a run of a module: ``with module(DamonReclaim(...), "idle") as run``.

    The module has its parameters but is not enabled; a target runs ``pattern``, if one is given. ``watch``:
    "target" sets monitor_region_start and _end around the target's memory, "ram" leaves them. ``topology``:
    the machine; None: ``needed``, the machine that the test's ``needs`` markers ask for. ``events``:
    tracepoints to record. Each call is an attempt with a subject and a seed of its own.
    """

    backend: Callable[[], Backend]
    test_id: str
    run_seed: int
    keep: OnAttempt
    needed: Topology | None = None
    complained: Complained | None = None
    attempts: int = 0

    @contextmanager
    def __call__(
        self,
        parameters: ModuleParameters,
        pattern: str | Pattern | None = None,
        *,
        watch: Literal["target", "ram"] = "target",
        topology: Topology | None = None,
        events: Sequence[str] = TRACED,
    ) -> Iterator[ModuleRun[Any]]:
        self.attempts += 1
        seed, seconds = derive_seed(self.run_seed, self.test_id, self.attempts, "target"), Seconds()
        patterns = [] if pattern is None else [load.load(pattern) if isinstance(pattern, str) else pattern]
        machine, number = topology or self.needed, self.attempts
        with (
            kept(self.keep) as ended,
            pristine_subject(
                self.backend(), seed, seconds, topology=machine, complained=self.complained
            ) as subject,
            module_run(
                subject, parameters, patterns, seed, events=events, seconds=seconds, number=number
            ) as run,
        ):
            ended.append(run)
            if patterns and watch == "target" and not isinstance(parameters, DamonStat):
                start, end = hull(run.targets)
                unit = parameters.addr_unit
                region = {"monitor_region_start": start // unit, "monitor_region_end": end // unit}
                run.session.stage(replace(parameters, **region))  # type: ignore[arg-type]  # by name
            yield run
