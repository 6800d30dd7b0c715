# SPDX-License-Identifier: GPL-2.0
"""Measure what schemes of DAMON save, and what they cost the workload: each against the same without.

Every run has a guest of its own. The workload fills its memory, DAMON works for ``settle_s`` and has done by
then what it is there for, and then the workload's next stretch of work is measured.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from itertools import product
from typing import Protocol

import numpy as np

from damon_tests.damon.client import DamonClient
from damon_tests.damon.params import (
    DamonCtx,
    DamonTarget,
    Kdamond,
)
from damon_tests.damon.session import Session
from damon_tests.experiment.backend import Backend, Subject
from damon_tests.judge.cost.savings import Arm, Shares
from damon_tests.kernel.guest.topology import Topology
from damon_tests.ports import UsageError, page_size
from damon_tests.ports.ranges import Range
from damon_tests.scenario import workload_cost
from damon_tests.scenario.savings_uses import FAR_NODE, USES, Scheme

MIB = 1 << 20


class Job(Protocol):
    """A workload that is ready to work.

    ``pid``: the process whose memory and instructions count. ``ranges``: the byte ranges of it that are
    monitored by virtual address, none for all of it. ``begin`` starts it. ``work`` lets it work, for about
    ``seconds`` or until a fixed amount is done, and returns how much was done. ``shares`` returns, of the
    pages that it touched since ``since_ns``, where they are, or None where nobody knows which it touched; it
    ends the job.
    """

    pid: int
    ranges: Sequence[Range]

    def begin(self) -> None: ...

    def work(self, seconds: float) -> float: ...

    def shares(self, since_ns: int) -> Shares | None: ...

    def stop(self) -> None: ...


class Workload(Protocol):
    """Something that can be run under a scheme. ``machine`` adds what its guest needs."""

    @property
    def name(self) -> str: ...

    def machine(self, topology: Topology) -> Topology: ...

    def start(self, subject: Subject, seed: int) -> Job: ...


@dataclass(frozen=True)
class Plan:
    """What to run: ``uses`` by name, on their own workloads or on ``workloads`` instead.

    Each of ``repeats`` seeds from ``seed`` on gives a pair. DAMON works for ``settle_s`` before ``measure_s``
    are measured, both in seconds of the guest.
    """

    uses: tuple[str, ...]
    workloads: tuple[Workload, ...] = ()
    repeats: int = 3
    settle_s: float = 6.0
    measure_s: float = 2.0
    seed: int = 1

    def __post_init__(self) -> None:
        unknown = [name for name in self.uses if name not in USES]
        if unknown:
            raise UsageError(f"no such use of DAMON: {', '.join(unknown)}; there are {', '.join(USES)}")


def runs(plan: Plan, named: Callable[[str], Workload]) -> Iterator[tuple[str, Workload, Scheme, int]]:
    """Yield (use, workload, scheme, seed) of each run, so that what is compared runs one after the other."""
    for name in plan.uses:
        use = USES[name]
        workloads = plan.workloads or tuple(named(w) for w in use.workloads)
        for workload, number in product(workloads, range(plan.repeats)):
            for scheme in use.schemes:
                yield name, workload, scheme, plan.seed + number


def run(backend: Backend, plan: Plan, use: str, workload: Workload, scheme: Scheme, seed: int) -> Arm:
    """Run a workload under a scheme in a fresh guest, and return what it showed."""
    subject = backend.subject(seed, workload.machine(scheme.topology))
    try:
        subject.cost_probe().prepare()
        job = workload.start(subject, seed)
        try:
            with _damon(subject, scheme, job):
                job.begin()
                job.work(plan.settle_s)
                arm = partial(Arm, use, workload.name, scheme.name, seed)
                return _measured(subject, plan, job, arm)
        finally:
            job.stop()
    finally:
        subject.close()


@contextmanager
def _damon(subject: Subject, scheme: Scheme, job: Job) -> Iterator[None]:
    """Let DAMON work as the scheme says; do nothing for a scheme without it."""
    if scheme.operations is None:
        yield
        return
    ctx = DamonCtx(scheme.operations, targets=(DamonTarget(job.pid),), schemes=scheme.damos)
    if scheme.operations == "paddr":
        ctx = replace(ctx, targets=(DamonTarget(regions=tuple(subject.ram_ranges())),))
    elif job.ranges:
        ctx = replace(ctx, operations="fvaddr", targets=(DamonTarget(job.pid, tuple(job.ranges)),))
    client = DamonClient(subject.tree, subject.clock)
    with Session(client, subject.events, (Kdamond(ctx),), source="none") as session:
        session.start()
        yield


_STEPS = 4
"""Memory is looked at so often while the workload is measured."""


def _measured(subject: Subject, plan: Plan, job: Job, arm: Callable[..., Arm]) -> Arm:
    sizes: list[tuple[int, int]] = []

    def work() -> float:
        done = 0.0
        for _ in range(_STEPS):
            done += job.work(plan.measure_s / _STEPS)
            info = subject.memory_info()
            sizes.append((_rss(subject, job.pid), info.total - info.free))
        return done

    before, since_ns = _faults(subject, job.pid), subject.clock.now_ns()
    cost = workload_cost.measure(subject, workload_cost.name_of(subject, job.pid), work)
    minor, major = (now - then for now, then in zip(_faults(subject, job.pid), before, strict=True))
    far = _far_bytes(subject, job.pid)
    shares = job.shares(since_ns)
    rss, used = np.mean(sizes, axis=0)
    return arm(
        cost,
        rss=float(rss),
        used=float(used),
        minor_faults=minor,
        refaults=major,
        far=far,
        shares=shares,
    )


def _rss(subject: Subject, pid: int) -> int:
    return int(subject.kernel_file(f"/proc/{pid}/statm").split()[1]) * page_size()


def _faults(subject: Subject, pid: int) -> tuple[int, int]:
    """Return the minor and the major faults of a process so far."""
    # The name, in parentheses, may have spaces; minflt and majflt are fields 10 and 12 of proc_pid_stat(5).
    fields = subject.kernel_file(f"/proc/{pid}/stat").rpartition(")")[2].split()
    return int(fields[7]), int(fields[9])


def _far_bytes(subject: Subject, pid: int) -> float:
    """Return how much memory of a process is on the far node; 0 where the kernel knows no nodes."""
    try:
        text = subject.kernel_file(f"/proc/{pid}/numa_maps")
    except FileNotFoundError:
        return 0.0
    return float(sum(_pages_on(line, FAR_NODE) for line in text.splitlines()) * page_size())


def _pages_on(line: str, nid: int) -> int:
    """Return the base pages that a line of numa_maps has on a node."""
    fields = dict(word.split("=", 1) for word in line.split() if "=" in word)
    size_kib = int(fields.get("kernelpagesize_kB", "4"))
    return int(fields.get(f"N{nid}", "0")) * size_kib * 1024 // page_size()


def chosen(names: Sequence[str]) -> tuple[str, ...]:
    """Return the uses of these names, all without any. Raises UsageError for unknown ones."""
    return Plan(tuple(dict.fromkeys(names))).uses or tuple(USES)
