# SPDX-License-Identifier: GPL-2.0
"""Patterns as workloads under a scheme: the engine performs them in a process, and knows what it touched."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from damon_tests.experiment.backend import Subject
from damon_tests.judge.cost.savings import Shares
from damon_tests.kernel.guest.topology import Topology
from damon_tests.patterns.spec import Pattern
from damon_tests.ports import NSEC_PER_SEC, Bools, page_size
from damon_tests.ports.ranges import Range
from damon_tests.scenario.savings_uses import NEAR_NODE
from damon_tests.workload.target import RunningTarget


@dataclass(frozen=True)
class PatternWorkload:
    """A pattern, performed until its run is over; a unit of its work is one access."""

    pattern: Pattern

    @property
    def name(self) -> str:
        return self.pattern.name

    def machine(self, topology: Topology) -> Topology:
        """Return the topology as it is: patterns need nothing more."""
        return topology

    def start(self, subject: Subject, seed: int) -> PatternJob:
        """Start the pattern's process, which fills its memory and waits."""
        return PatternJob(subject, subject.start_target(self.pattern, seed))


class PatternJob:
    """A running pattern, see ``scenario.savings.Job``."""

    def __init__(self, subject: Subject, target: RunningTarget) -> None:
        self.pid = target.pid
        # Not the memory by which the engine flushes TLBs: out of memory, it would flush none.
        self.ranges: Sequence[Range] = tuple(target.layout.values())
        self._subject = subject
        self._target = target

    def begin(self) -> None:
        self._target.go()

    def work(self, seconds: float) -> float:
        """Let time pass, and return the accesses in it."""
        before = sum(self._target.accesses().values())
        self._subject.clock.run_for(int(seconds * NSEC_PER_SEC))
        return float(sum(self._target.accesses().values()) - before)

    def shares(self, since_ns: int) -> Shares:
        """Return where the pages are that it touched."""
        ranges = self._target.layout.values()
        states = [self._subject.pages(self._target, start, end) for start, end in ranges]
        now_ns = self._subject.clock.now_ns()
        self._target.stop()
        truth = self._target.truth()
        touched = [
            truth.touched(np.arange(s.start, s.end, page_size()) // page_size(), since_ns, now_ns)
            for s in states
        ]
        used: Bools = np.concatenate(touched)
        huge = np.concatenate([s.huge for s in states])[used]
        near = np.concatenate([s.on_node(NEAR_NODE) for s in states])[used]
        active = np.concatenate([s.active for s in states])[used]
        return Shares(float(huge.mean()), float(near.mean()), float(active.mean()))

    def stop(self) -> None:
        self._target.stop()
