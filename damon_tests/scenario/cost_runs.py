# SPDX-License-Identifier: GPL-2.0
"""Measure the cost of monitoring in exact instructions: access checks, aggregations, updates, tracing."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from damon_tests.damon.params import ANY, DamonAttrs, DamonCtx, DamonTarget, Damos
from damon_tests.experiment.backend import Backend, Subject
from damon_tests.judge.cost.samples import CostSamples, instructions
from damon_tests.patterns.spec import Pattern, PatternRegion
from damon_tests.ports import NSEC_PER_SEC, NSEC_PER_USEC, HarnessError, huge_page_size, page_size
from damon_tests.ports.cost import Cost
from damon_tests.scenario import cost_setup as setup
from damon_tests.scenario.cost_setup import MIB, NR_REGIONS, SAMPLE_US, constant, equal_regions
from damon_tests.workload.target import RunningTarget

WINDOWS = 6
WINDOW_S = 0.25

MEMORY_MIB = 64
FEW_MAPPINGS, MANY_MAPPINGS = 4, 132
UPDATE_US = 50_000

SETTLE_NS = 2 * NSEC_PER_SEC
"""After this, DAMON has as many regions as a pattern makes it have."""
BOUND_S = 1.0

Request = Callable[[Subject, RunningTarget], DamonCtx]


def on_data(
    operations: str = "fvaddr",
    nr_regions: int = NR_REGIONS,
    *,
    sample_us: int = SAMPLE_US,
    samples_per_aggr: int = 20,
) -> Request:
    """Return a request to monitor the pattern's memory in equal regions."""

    def request(_: Subject, target: RunningTarget) -> DamonCtx:
        regions = equal_regions(*target.layout["data"], nr_regions)
        intervals = {"sample_us": sample_us, "samples_per_aggr": samples_per_aggr}
        return constant(operations, regions, target.pid, **intervals)

    return request


HUGE_BLOCK = huge_page_size()
"""Of x86, whose instructions are counted."""
HUGE_BLOCKS_SIZE = (NR_REGIONS + 1) * HUGE_BLOCK


def on_huge_blocks(_: Subject, target: RunningTarget) -> DamonCtx:
    """Return a request to monitor memory of HUGE_BLOCKS_SIZE in regions that are aligned huge blocks."""
    start = -(-target.layout["data"][0] // HUGE_BLOCK) * HUGE_BLOCK
    return constant("fvaddr", equal_regions(start, start + NR_REGIONS * HUGE_BLOCK, NR_REGIONS), target.pid)


CHUNK_PAGES = 4


def on_frames(_: Subject, target: RunningTarget) -> DamonCtx:
    """Return a request to monitor the pattern's page frames, in regions of four pages that cannot merge.

    Raises HarnessError when the frames are too scattered.
    """
    size = CHUNK_PAGES * page_size()
    ranges = sorted(r for ranges in target.physical().values() for r in ranges)
    regions = [
        (at, at + size) for start, end in ranges for at in range(start, end - size + 1, size + page_size())
    ]
    if len(regions) < NR_REGIONS:
        raise HarnessError(f"the process has only {len(regions)} times {CHUNK_PAGES} frames in a row")
    return constant("paddr", regions[:NR_REGIONS])


def whole_process(update_us: int) -> Request:
    """Return a request to monitor a process with vaddr, updated every ``update_us``."""

    def request(_: Subject, target: RunningTarget) -> DamonCtx:
        attrs = DamonAttrs(SAMPLE_US, 20 * SAMPLE_US, update_us, min_nr_regions=10, max_nr_regions=100)
        return DamonCtx("vaddr", attrs=attrs, targets=(DamonTarget(target.pid),))

    return request


def windows(
    backend: Backend,
    pattern: Pattern,
    request: Request,
    seed: int,
    *,
    seconds: float = WINDOW_S,
    count: int = WINDOWS,
) -> list[Cost]:
    """Return the cost of the kdamond in ``count`` windows of one run, of ``seconds`` each."""
    with setup.watched(backend, pattern, request, seed) as run:
        return [run.cost(seconds) for _ in range(count)]


# --- checks --------------------------------------------------------------------------------------

CHECKS = ("fvaddr", "vaddr", "huge", "hugetlb", "unmapped", "paddr")
_HUGETLB_PAGES = NR_REGIONS + 8
"""A huge page for each region, and some to spare."""


def check(backend: Backend, kind: str, seed: int = 1) -> CostSamples:
    """Return the instructions of one access check of one region.

    ``kind``: "fvaddr", "vaddr" and "paddr" for memory in 4 KiB pages, "huge" for huge pages, "unmapped" for
    addresses without memory (both with fvaddr), "hugetlb" for a reserved huge page in each region.
    """
    size = MEMORY_MIB * MIB
    patterns = {
        "huge": setup.still(size, hugepage=True),
        "hugetlb": setup.still(NR_REGIONS * HUGE_BLOCK, memory="hugetlb"),
        "unmapped": setup.still(size, populate=False),
    }
    memory_mib = max(1024, 2 * _HUGETLB_PAGES * HUGE_BLOCK >> 20)
    machine = {"hugetlb_pages": _HUGETLB_PAGES, "memory_mib": memory_mib} if kind == "hugetlb" else {}
    pattern = patterns.get(kind, setup.still(size))
    request = on_frames if kind == "paddr" else on_data("vaddr" if kind == "vaddr" else "fvaddr")
    with setup.watched(backend, pattern, request, seed, **machine) as run:
        if kind == "huge":
            _require_huge(run)
        costs = [run.cost(WINDOW_S) for _ in range(WINDOWS)]
    values = [setup.per_check(cost, NR_REGIONS) for cost in costs]
    return instructions(f"check.{kind}", values, setup.checks_of(costs[-1]))


def _require_huge(run: setup.Watched) -> None:
    pages = run.subject.pages(run.target, *run.target.layout["data"])
    share = float(pages.huge.mean())
    if share < 0.9:
        raise HarnessError(f"only {share:.0%} of the memory is in huge pages: the check cannot be measured")


def check_of_size(backend: Backend, size_mib: int, *, populate: bool, seed: int = 1) -> float:
    """Return the instructions of one access check, with ``size_mib`` MiB in NR_REGIONS regions."""
    pattern = setup.still(size_mib * MIB, populate=populate)
    memory_mib = max(1024, size_mib + 512 if populate else 0)
    with setup.watched(backend, pattern, on_data(), seed, memory_mib=memory_mib) as run:
        return setup.per_check(run.cost(WINDOW_S), NR_REGIONS)


def per_second(backend: Backend, nr_regions: int, sample_us: int, seed: int = 1) -> float:
    """Return the kdamond's instructions per second, with these numbers of regions and sampling interval."""
    request = on_data(nr_regions=nr_regions, sample_us=sample_us)
    with setup.watched(backend, setup.still(MEMORY_MIB * MIB), request, seed) as run:
        return _per_second(run.cost(WINDOW_S), sample_us)


def _per_second(cost: Cost, sample_us: int) -> float:
    """Return instructions per second, from whole sampling intervals: how many fit into a window varies."""
    samples = setup.nr_calls(setup.tree_of(cost), setup.CHECK)
    return cost.used / samples * NSEC_PER_SEC / (sample_us * NSEC_PER_USEC)


def monitored_per_second(backend: Backend, pattern: Pattern, max_nr_regions: int, seed: int = 1) -> float:
    """Return the kdamond's instructions per second of monitoring a pattern's process, at most so many
    regions."""

    def request(_: Subject, target: RunningTarget) -> DamonCtx:
        attrs = DamonAttrs(SAMPLE_US, 20 * SAMPLE_US, max_nr_regions=max_nr_regions)
        return DamonCtx("vaddr", attrs=attrs, targets=(DamonTarget(target.pid),))

    with setup.watched(backend, pattern, request, seed) as run:
        run.session.record(SETTLE_NS)
        return _per_second(run.cost(BOUND_S), SAMPLE_US)


# --- aggregations --------------------------------------------------------------------------------

FEW_REGIONS, MANY_REGIONS = 100, 400


def aggregation(backend: Backend, seed: int = 1) -> list[CostSamples]:
    """Return the instructions that a region adds to an aggregation besides its checks, and wake-ups."""
    pattern = setup.still(MEMORY_MIB * MIB)
    few, many = (
        windows(backend, pattern, on_data(nr_regions=count, samples_per_aggr=1), seed)
        for count in (FEW_REGIONS, MANY_REGIONS)
    )
    values = [
        (setup.rest_per_sample(m) - setup.rest_per_sample(f)) / (MANY_REGIONS - FEW_REGIONS)
        for f, m in zip(few, many, strict=True)
    ]
    woken = tuple(cost.switches * NSEC_PER_SEC / cost.window_ns for cost in many)
    return [
        instructions("aggregation.region", values, setup.rest_of(many[-1])),
        CostSamples("wakeups", "per second", woken),
    ]


# --- updates of the operations set ---------------------------------------------------------------


def mappings(count: int) -> Pattern:
    """Return a pattern with ``count`` mappings that do not touch each other."""
    regions = [PatternRegion(f"r{i}", 16 * page_size()) for i in range(count)]
    return setup.still_regions(regions)


def update(backend: Backend, seed: int = 1) -> list[CostSamples]:
    """Return the instructions of one update of a vaddr target's regions, and those that each mapping adds."""
    values = {}
    tree = None
    for count in (FEW_MAPPINGS, MANY_MAPPINGS):
        costs = windows(backend, mappings(count), whole_process(UPDATE_US), seed)
        trees = [setup.tree_of(cost) for cost in costs]
        values[count] = [t.inclusive(*setup.UPDATE) / setup.nr_calls(t, setup.UPDATE) for t in trees]
        tree = trees[-1].only(*setup.UPDATE)
    added = [
        (many - few) / (MANY_MAPPINGS - FEW_MAPPINGS)
        for few, many in zip(values[FEW_MAPPINGS], values[MANY_MAPPINGS], strict=True)
    ]
    return [instructions("update", values[FEW_MAPPINGS]), instructions("update.mapping", added, tree)]


# --- tracepoints ---------------------------------------------------------------------------------

TRACEPOINTS: Mapping[str, tuple[Damos, ...]] = {
    "damon_aggregated": (),
    "damos_before_apply": (Damos("stat", ANY),),
}
"""Tracepoints with an event for each region and aggregation, and the schemes that they need."""


def tracepoint(backend: Backend, name: str = "damon_aggregated", seed: int = 1) -> CostSamples:
    """Return the instructions that a tracepoint adds for each region while it is on, compared to off."""

    def request(subject: Subject, target: RunningTarget) -> DamonCtx:
        return replace(on_data(samples_per_aggr=1)(subject, target), schemes=TRACEPOINTS[name])

    with setup.watched(backend, setup.still(MEMORY_MIB * MIB), request, seed) as run:
        off = [run.cost(WINDOW_S) for _ in range(WINDOWS)]
        stream = run.subject.events.open((name,))
        try:
            on = [run.cost(WINDOW_S) for _ in range(WINDOWS)]
        finally:
            stream.close()
    pairs = zip(off, on, strict=True)
    values = [(setup.rest_per_sample(b) - setup.rest_per_sample(a)) / NR_REGIONS for a, b in pairs]
    metric = f"tracepoint.{name.removeprefix('damon_')}.region"
    return instructions(metric, values, setup.rest_of(on[-1]))
