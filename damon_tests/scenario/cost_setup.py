# SPDX-License-Identifier: GPL-2.0
"""Run a kdamond whose work is known in advance, so that its cost can be divided by it.

With min_nr_regions = max_nr_regions = the number of equal regions, DAMON neither merges (two regions would
exceed the size limit, total size / min_nr_regions) nor splits (there are more than max_nr_regions / 2). So
the number of regions is constant, and region checks are that number times the calls of the operations set.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

from damon_tests.damon.client import DamonClient
from damon_tests.damon.params import DamonAttrs, DamonCtx, DamonTarget, Kdamond
from damon_tests.damon.session import Session
from damon_tests.experiment.backend import Backend, Subject
from damon_tests.kernel.guest.topology import Topology
from damon_tests.patterns.spec import Pattern, PatternRegion, Phase
from damon_tests.ports import NSEC_PER_SEC, HarnessError, page_size
from damon_tests.ports.cost import CallTree, Cost
from damon_tests.scenario.workload_cost import counting_probe
from damon_tests.workload.target import RunningTarget

MIB = 1 << 20
NR_REGIONS = 200
SAMPLE_US = 5_000
KDAMOND = "kdamond"

PREPARE = ("damon_va_prepare_access_checks", "damon_pa_prepare_access_checks")
CHECK = ("damon_va_check_accesses", "damon_pa_check_accesses")
UPDATE = ("damon_va_update", "damon_pa_update")
APPLY = ("damon_va_apply_scheme", "damon_pa_apply_scheme")
"""Functions of operations sets. The core calls them through pointers, so no compiler inlines them."""

SLEEP = ("schedule", "schedule_timeout", "schedule_timeout_idle", "usleep_range_state", "kdamond_usleep")

WARM_UP_S = 0.3


@dataclass(frozen=True)
class Watched:
    """A running kdamond, and the process that it monitors."""

    subject: Subject
    session: Session
    target: RunningTarget

    def cost(self, seconds: float, thread: str = KDAMOND) -> Cost:
        """Return the cost of the thread during ``seconds`` of the machine's time."""
        return self.cost_of(lambda: self.session.record(int(seconds * NSEC_PER_SEC)), thread)

    def cost_of(self, act: Callable[[], object], thread: str = KDAMOND) -> Cost:
        """Return the cost of the thread while ``act`` runs."""
        with self.subject.cost_probe().window(thread) as window:
            act()
        return window.result


def still(size_bytes: int, **options: object) -> Pattern:
    """Return a pattern that touches nothing, so that every check does the same.

    ``options``: fields of PatternRegion.
    """
    return still_regions([PatternRegion("data", size_bytes, **options)])  # type: ignore[arg-type]


def still_regions(regions: Sequence[PatternRegion]) -> Pattern:
    """Return a pattern of several mappings that touches nothing."""
    phase = Phase("still", 3600 * NSEC_PER_SEC, ())
    return Pattern("still", "memory that nobody touches", tuple(regions), (phase,))


def equal_regions(start: int, end: int, count: int) -> tuple[tuple[int, int], ...]:
    """Return ``count`` ranges of equal size, in whole pages, from ``start`` on.

    Raises HarnessError without room.
    """
    size = (end - start) // count // page_size() * page_size()
    if not size:
        raise HarnessError(f"{end - start} bytes are too little for {count} regions")
    return tuple((start + i * size, start + (i + 1) * size) for i in range(count))


def constant(
    operations: str,
    regions: Sequence[tuple[int, int]],
    pid: int = 0,
    *,
    sample_us: int = SAMPLE_US,
    samples_per_aggr: int = 20,
) -> DamonCtx:
    """Return a request with which the number of regions is constant."""
    count = len(regions)
    attrs = DamonAttrs(sample_us, samples_per_aggr * sample_us, min_nr_regions=count, max_nr_regions=count)
    return DamonCtx(operations, attrs=attrs, targets=(DamonTarget(pid, tuple(regions)),))


@contextmanager
def watched(
    backend: Backend,
    pattern: Pattern,
    request: Callable[[Subject, RunningTarget], DamonCtx],
    seed: int,
    **machine: int,
) -> Iterator[Watched]:
    """Start the pattern's process and a kdamond on it, and let both warm up.

    ``machine``: fields of ``Topology`` that differ from the default. Raises NotSupported without exact
    instruction counts.
    """
    topology = replace(Topology(instructions=True), **machine)  # type: ignore[arg-type]
    subject = backend.subject(seed, topology)
    try:
        counting_probe(subject).prepare()
        target = subject.start_target(pattern, seed)
        try:
            ctx = request(subject, target)
            client = DamonClient(subject.tree, subject.clock)
            with Session(client, subject.events, (Kdamond(ctx),), source="none") as session:
                target.go()
                session.start()
                session.record(int(WARM_UP_S * NSEC_PER_SEC))
                yield Watched(subject, session, target)
        finally:
            target.stop()
    finally:
        subject.close()


def tree_of(cost: Cost) -> CallTree:
    """Return the call tree of a cost. Raises HarnessError for a cost that is only a time."""
    if cost.tree is None:
        raise HarnessError(f"instructions were not counted: the cost is from {cost.source}")
    return cost.tree


def nr_calls(tree: CallTree, functions: Sequence[str]) -> int:
    """Return the number of calls of these functions. Raises HarnessError for none: it is a divisor."""
    calls = sum(tree.calls(name) for name in functions)
    if not calls:
        raise HarnessError(f"kdamond called none of {', '.join(functions)} while its cost was counted")
    return calls


def per_check(cost: Cost, nr_regions: int) -> float:
    """Return the instructions of one check of one region: clear its accessed bit, and read it afterwards."""
    tree = tree_of(cost)
    prepare = tree.inclusive(*PREPARE) / nr_calls(tree, PREPARE)
    check = tree.inclusive(*CHECK) / nr_calls(tree, CHECK)
    return (prepare + check) / nr_regions


def checks_of(cost: Cost) -> CallTree:
    """Return the part of the call tree that checks accesses."""
    return tree_of(cost).only(*PREPARE, *CHECK)


def rest_of(cost: Cost) -> CallTree:
    """Return the part outside the operations set and sleep: merging, ageing, splitting, tracing."""
    return tree_of(cost).without(*PREPARE, *CHECK, *UPDATE, *APPLY, *SLEEP, "kthread")


def rest_per_sample(cost: Cost) -> float:
    """Return the instructions of a sampling interval outside the operations set and sleep.

    With one sample per aggregation, these are an aggregation's: merging, ageing, splitting, schemes.
    """
    return rest_of(cost).instructions / nr_calls(tree_of(cost), CHECK)
