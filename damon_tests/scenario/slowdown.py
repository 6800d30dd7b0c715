# SPDX-License-Identifier: GPL-2.0
"""Measure how much monitoring slows a workload down: pairs of windows in one machine, without DAMON and with.

Where instructions are counted, they are the workload's own. Elsewhere (KVM, host) it is the time that its
threads ran, as the scheduler charges it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from damon_tests.damon.client import DamonClient
from damon_tests.damon.params import DamonAttrs, DamonCtx, DamonTarget, Kdamond
from damon_tests.experiment.backend import Backend, Subject
from damon_tests.judge.cost.budget import Pair
from damon_tests.judge.cost.savings import WorkloadCost
from damon_tests.kernel.guest.topology import Topology
from damon_tests.patterns.spec import Pattern
from damon_tests.ports import NSEC_PER_MSEC, NSEC_PER_SEC, HarnessError
from damon_tests.scenario import workload_cost
from damon_tests.workload.target import RunningTarget

WINDOW_NS = 250 * NSEC_PER_MSEC
WARM_UP_NS = NSEC_PER_SEC


@dataclass
class Slowdown:
    """A workload beside a kdamond that can be turned on and off.

    ``windows``: the costs of the windows with DAMON so far, where instructions are counted.
    """

    subject: Subject
    target: RunningTarget
    client: DamonClient
    windows: list[WorkloadCost] = field(default_factory=list)

    def pair(self) -> Pair:
        """Measure a window without DAMON and one with it, and return both costs of one access."""
        without = self._per_access()
        self.client.command(0, "on")
        try:
            self.subject.clock.run_for(WINDOW_NS)  # begin with the regions that DAMON settles on
            with_it = self._per_access(monitored=True)
        finally:
            self.client.command(0, "off")
        return Pair(without, with_it)

    def _per_access(self, *, monitored: bool = False) -> float:
        if self.subject.cost_probe().unit != "instructions":
            return self._ns_per_access()
        cost = workload_cost.measure(self.subject, self._name, self._work)
        if monitored:
            self.windows.append(cost)
        return cost.own_per_work

    def _ns_per_access(self) -> float:
        with self.subject.cost_probe().window(self._name) as window:
            work = self._work()
        if not work:
            raise HarnessError("the workload touched nothing while its slowdown was measured")
        return window.result.used / work

    @property
    def _name(self) -> str:
        return workload_cost.name_of(self.subject, self.target.pid)

    def _work(self) -> float:
        before = sum(self.target.accesses().values())
        self.subject.clock.run_for(WINDOW_NS)
        return float(sum(self.target.accesses().values()) - before)


@contextmanager
def slowdown(backend: Backend, pattern: Pattern, attrs: DamonAttrs, seed: int = 1) -> Iterator[Slowdown]:
    """Start the pattern's process, and stage a kdamond that monitors it with vaddr; it is off at first.

    Raises NotSupported where there is no kernel.
    """
    subject = backend.subject(seed, Topology(instructions=True))
    try:
        subject.cost_probe().prepare()
        target = subject.start_target(pattern, seed)
        try:
            with _staged(subject, target, attrs) as client:
                target.go()
                subject.clock.run_for(WARM_UP_NS)
                yield Slowdown(subject, target, client)
        finally:
            target.stop()
    finally:
        subject.close()


@contextmanager
def _staged(subject: Subject, target: RunningTarget, attrs: DamonAttrs) -> Iterator[DamonClient]:
    """Stage a kdamond that monitors the target; leave an empty tree behind."""
    client = DamonClient(subject.tree, subject.clock)
    try:
        client.stage((Kdamond(DamonCtx("vaddr", attrs=attrs, targets=(DamonTarget(target.pid),))),))
        yield client
    finally:
        client.clear()
