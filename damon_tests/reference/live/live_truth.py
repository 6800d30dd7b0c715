# SPDX-License-Identifier: GPL-2.0
"""The truth about real processes: a ``ports.Truth`` that is measured while the reference asks.

A **source** is one way to measure. Before each sample it gets the pages that will be asked about: most ways
need to clear something first, and disturb the process less when that is only a few pages.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol
from weakref import WeakKeyDictionary

import numpy as np

from damon_tests.ports import NSEC_PER_USEC, Bools, NotSupported, Pages, Truth, UsageError
from damon_tests.ports.arrays import F64, I64
from damon_tests.ports.ranges import Range
from damon_tests.reference.core.context import Context, Target
from damon_tests.reference.core.ops import VirtualOperations, page_numbers
from damon_tests.reference.core.regions import Regions
from damon_tests.reference.live.engine_slices import EngineSlices
from damon_tests.reference.live.page_idle import PageIdle
from damon_tests.reference.live.periodic_truth import FOREVER_NS, PeriodicTruth
from damon_tests.reference.live.realtime_clock import late_sleep_ns
from damon_tests.reference.live.write_tracking import WriteTracker, mapped_ranges
from damon_tests.reference.machine.memory import Memory
from damon_tests.reference.rules.monitoring import BP
from damon_tests.reference.sysfs.system import ReferenceSystem


class Source(Protocol):
    """One way to watch one process. All methods raise OSError when the process is gone."""

    def prepare(self, pages: Pages) -> None:
        """Make ready to answer for these pages."""
        ...

    def touched(self, pages: Pages, t0_ns: int, t1_ns: int) -> Bools:
        """Whether each page was touched since it was prepared, or within [t0, t1) if that is known."""
        ...

    def arm(self) -> None:
        """Follow changes of the process's mappings."""
        ...

    def close(self) -> None: ...


@dataclass(frozen=True)
class Kind:
    """One way to watch. ``name`` is the operations set that a recording names; ``sees`` what it observes."""

    name: str
    sees: str
    open: Callable[[int], Source]


KINDS: Mapping[str, Kind] = {
    kind.name: kind
    for kind in (
        Kind("cooperative", "accesses, as the workload says", EngineSlices),
        # Accessed bits read by BPF would come here.
        Kind("writes", "writes only", WriteTracker),
        Kind("page_idle", "accesses, by idle page tracking", PageIdle),
    )
}
"""In order of preference."""

_ENOUGH = 0.8
"""Share of a sampling interval for which a process that wants to run must have run."""


class LiveTruth:
    """The truth about a process that is being watched; ``kind`` says how.

    It knows about no memory in particular (``ranges`` is empty): the simulated machine gives the process no
    physical memory. Once the process has ended nothing is touched any more.
    """

    def __init__(self, pid: int, kind: Kind, source: Source, now_ns: int) -> None:
        self.kind = kind
        self._pid = pid
        self._prepared_ns = 1 << 62
        self._prepared_cpu_ns = 0
        self.alive = True
        self._source = source
        self._from_ns = now_ns

    def ranges(self) -> Sequence[Range]:
        return ()

    def span_ns(self) -> tuple[int, int]:
        return self._from_ns, FOREVER_NS

    def prepare(self, pages: Pages, now_ns: int) -> None:
        """Make ready to answer for these pages."""

        def begin() -> None:
            self._source.prepare(pages)
            self._prepared_ns = now_ns
            self._prepared_cpu_ns = cpu_time_ns(self._pid)

        self._guarded(begin)

    def arm(self) -> None:
        """Follow changes of the process's mappings."""
        self._guarded(self._source.arm)

    def close(self) -> None:
        """Stop watching. May be called twice."""
        if self.alive:
            self.alive = False
            self._source.close()

    def was_starved(self, sample_us: int) -> bool:
        """Whether the process wanted to run since ``prepare``, and got less than the sampling interval."""
        starved = False

        def ask() -> None:
            nonlocal starved
            wanted_ns = sample_us * NSEC_PER_USEC * _ENOUGH
            starved = cpu_time_ns(self._pid) - self._prepared_cpu_ns < wanted_ns and wants_to_run(self._pid)

        self._guarded(ask)
        return starved

    def _guarded(self, function: Callable[[], None]) -> None:
        try:
            if self.alive:
                function()
        except OSError:
            self.close()

    def touched(self, pages: Pages, t0_ns: int, t1_ns: int) -> Bools:
        hits = np.zeros(len(pages), np.bool_)

        def ask() -> None:
            # Since it was prepared: that may be several sampling steps ago.
            hits[:] = self._source.touched(pages, min(t0_ns, self._prepared_ns), t1_ns)

        self._guarded(ask)
        return hits

    def touched_each(self, pages: Pages, t0_ns: I64, t1_ns: I64) -> Bools:
        hits = np.zeros(len(pages), np.bool_)
        for t0, t1 in {*zip(t0_ns.tolist(), t1_ns.tolist(), strict=True)}:
            mine = (t0_ns == t0) & (t1_ns == t1)
            hits[mine] = self.touched(pages[mine], t0, t1)
        return hits

    def rate(self, pages: Pages, t0_ns: int, t1_ns: int, window_ns: int) -> F64:
        """Raise NotSupported: the past is not kept."""
        raise NotSupported(f"the {self.kind.name} operations set keeps no history")


@dataclass
class _Samples:
    """The samples of one target in one aggregation, of regions with these bounds: how many could not be
    taken, and which one goes on over the next step."""

    regions: Regions
    missed: int = 0
    pending: bool = False

    def follow(self, regions: Regions) -> None:
        """Sample anew what was merged, split or committed since."""
        if regions is not self.regions:
            self.pending &= same_bounds(regions, self.regions)
            self.regions = regions


class LiveOperations(VirtualOperations):
    """``vaddr`` and ``fvaddr`` that announce the sampled pages to live truths.

    A machine that takes the processor away from what is watched does not make memory idle: a sample of a
    process that wanted to run, and did not for a sampling interval, goes on over the next step. At the end
    of the aggregation the counters are scaled up from the samples that could be taken; without any, memory
    is taken to be as it was.
    """

    def __init__(self, memory: Memory, name: str) -> None:
        super().__init__(memory, name)
        self._samples: WeakKeyDictionary[Target, _Samples] = WeakKeyDictionary()

    def _of(self, ctx: Context, target: Target) -> _Samples:
        known = self._samples.get(target)
        if known is None:
            known = self._samples[target] = _Samples(ctx.regions)
        known.follow(ctx.regions)
        return known

    def prepare(self, ctx: Context, now_ns: int) -> None:
        before = ctx.sampled
        super().prepare(ctx, now_ns)
        for index, target in enumerate(ctx.targets):
            truth = _live(target)
            mine = ctx.regions.target == index
            if truth is not None and self._of(ctx, target).pending:
                ctx.sampled[mine] = before[mine]
            elif truth is not None:
                truth.prepare(page_numbers(ctx.sampled[mine]), now_ns)

    def accessed(self, ctx: Context, t0_ns: int, t1_ns: int) -> Bools:
        hits = super().accessed(ctx, t0_ns, t1_ns)
        for index, target in enumerate(ctx.targets):
            truth = _live(target)
            if truth is None:
                continue
            samples = self._of(ctx, target)
            samples.pending = truth.was_starved(ctx.attrs.sample_us)
            if samples.pending:
                samples.missed += 1
                hits[ctx.regions.target == index] = False
        return hits

    def complete(self, ctx: Context) -> None:
        regions = ctx.regions
        for index, target in enumerate(ctx.targets):
            samples = self._samples.pop(target, None)
            if samples is None or not samples.missed:
                continue
            mine = regions.target == index
            taken = ctx.window - samples.missed
            whole = regions.last_nr_accesses
            if taken > 0:
                whole = np.minimum((regions.nr_accesses * ctx.window + taken // 2) // taken, ctx.window)
            regions.nr_accesses = np.where(mine, whole, regions.nr_accesses)
            regions.nr_accesses_bp = np.where(mine, regions.nr_accesses * BP, regions.nr_accesses_bp)


def same_bounds(regions: Regions, other: Regions) -> bool:
    """Whether both have the same regions, whatever they counted."""
    return (
        np.array_equal(regions.start, other.start)
        and np.array_equal(regions.end, other.end)
        and np.array_equal(regions.target, other.target)
    )


def _live(target: Target) -> LiveTruth | None:
    truth = target.process.truth if target.process is not None else None
    return truth if isinstance(truth, LiveTruth) else None


def cpu_time_ns(pid: int) -> int:
    """Return the processor time of all threads of a process so far. Raises OSError when it is gone."""
    # The clock of a process as clock_getcpuclockid(3) makes it: complement of the pid, CPUCLOCK_SCHED.
    return time.clock_gettime_ns((~pid << 3) | 2)


def wants_to_run(pid: int) -> bool:
    """Whether the main thread runs or waits for a processor now. Raises OSError when it is gone."""
    with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as file:
        return file.read().rpartition(")")[2].split()[0] == "R"


class LiveSystem(ReferenceSystem):
    """A ReferenceSystem whose time begins now and can follow real time (``realtime_clock.RealTime``)."""

    def __init__(self, level: str, seed: int) -> None:
        super().__init__(level, seed, origin_ns=time.monotonic_ns(), sleep_ns=late_sleep_ns)
        self._operations |= {name: LiveOperations(self.memory, name) for name in ("vaddr", "fvaddr")}


def watch(pid: int, now_ns: int, kind: str = "auto") -> LiveTruth:
    """Watch a process by the best way there is, or by the one named.

    Raises UsageError for an unknown name and for a process that does not exist, NotSupported with a reason
    for each way.
    """
    if kind != "auto" and kind not in KINDS:
        raise UsageError(f"unknown operations set {kind!r}; there are auto, {', '.join(KINDS)}")
    if not os.path.isdir(f"/proc/{pid}"):
        raise UsageError(f"no process has pid {pid}")
    if has_no_memory(pid):
        raise NotSupported(f"process {pid} has no memory of its own: it is a kernel thread, or has ended")
    reasons: list[str] = []
    for candidate in KINDS.values() if kind == "auto" else [KINDS[kind]]:
        try:
            return LiveTruth(pid, candidate, candidate.open(pid), now_ns)
        except NotSupported as error:
            reasons.append(f"{candidate.name}: {error}")
    raise NotSupported(f"process {pid} cannot be watched", *reasons)


def has_no_memory(pid: int) -> bool:
    """Return whether a process has ended, or is a kernel thread."""
    try:
        return not mapped_ranges(pid)
    except (FileNotFoundError, ProcessLookupError):
        return True
    except OSError:
        return False  # each way to watch says why it cannot


def watch_or_nothing(pid: int, now_ns: int, complain: Callable[[str], None]) -> Truth:
    """Watch a process; where that is impossible, take it to touch nothing."""
    try:
        return watch(pid, now_ns)
    except (NotSupported, UsageError) as error:
        complain(f"{error}; no accesses of it will be seen")
        return PeriodicTruth()
