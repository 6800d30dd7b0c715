# SPDX-License-Identifier: GPL-2.0
"""A simulated machine with a client, and truths simple enough to be obviously right."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
from hypothesis import Phase, settings

from damon_tests.damon import trace
from damon_tests.damon.client import DamonClient
from damon_tests.damon.params import ANY, DamonAttrs, DamonCtx, DamonTarget, Damos, DamosQuota, Kdamond
from damon_tests.damon.records import Snapshot
from damon_tests.ports import NSEC_PER_SEC, Event, huge_page_size, page_size
from damon_tests.reference.faults.catalogue import fault
from damon_tests.reference.rules.levels import level as level_of
from damon_tests.reference.rules.ruleset import Rules
from damon_tests.reference.sysfs.system import ReferenceSystem

MIB = 1 << 20
HEAP = 0x100000000  # where heap() puts the monitored memory
STACK = 0x7FFF00000000

Ranges = Sequence[tuple[int, int]]

# The name of a fault to run these tests with: then some of them have to fail (see kill_faults.py).
FAULT = os.environ.get("DAMON_TESTS_FAULT", "")

# A busy machine makes examples slow, not wrong. Of a fault any example will do, it need not be the smallest.
PHASES = [phase for phase in Phase if not (FAULT and phase in (Phase.shrink, Phase.explain))]
settings.register_profile("reference", deadline=None, phases=PHASES)
settings.load_profile("reference")


def under_test(rules: Rules) -> Rules:
    """Return the rules under test: these, or these with the fault in them."""
    return fault(FAULT).apply(rules) if FAULT else rules


RULES = under_test(Rules())


def make_system(level: str = "7.3", seed: int = 0, rules: Rules | None = None, **kwargs) -> ReferenceSystem:
    """A ReferenceSystem under test."""
    known = level_of(level).rules if rules is None else rules
    return ReferenceSystem(level, seed, under_test(known), **kwargs)


class HotTruth:
    """Touches every page of ``hot`` all the time, the rest of ``ranges`` never."""

    def __init__(self, ranges: Ranges, hot: Ranges = ()) -> None:
        self._ranges = list(ranges)
        self.hot = list(hot)

    def ranges(self) -> Ranges:
        return self._ranges

    def span_ns(self) -> tuple[int, int]:
        return 0, 1 << 62

    def touched(self, pages, t0_ns, t1_ns):
        hit = np.zeros(len(pages), np.bool_)
        for start, end in self.hot:
            hit |= (pages >= start // page_size()) & (pages < end // page_size())
        return hit & (t1_ns > t0_ns)

    def touched_each(self, pages, t0_ns, t1_ns):
        return self.touched(pages, 0, 1) & (t1_ns > t0_ns)

    def rate(self, pages, t0_ns, t1_ns, window_ns):
        return self.touched(pages, t0_ns, t1_ns).astype(np.float64)


class TimedTruth(HotTruth):
    """``hot(t0_ns, t1_ns)`` returns the ranges that are touched within that time."""

    def __init__(self, ranges: Ranges, hot: Callable[[int, int], Ranges]) -> None:
        super().__init__(ranges)
        self._when = hot

    def touched(self, pages, t0_ns, t1_ns):
        self.hot = list(self._when(t0_ns, t1_ns))
        return super().touched(pages, t0_ns, t1_ns)

    def touched_each(self, pages, t0_ns, t1_ns):
        return self.touched(pages, int(t0_ns.min()), int(t1_ns.max()))


def heap(size: int) -> list[tuple[int, int]]:
    """Mappings of a process whose three ranges are the second page, the heap and one stack page."""
    return [(page_size(), 2 * page_size()), (HEAP, HEAP + size), (STACK, STACK + page_size())]


class Box:
    """A ReferenceSystem with one process and a client."""

    def __init__(
        self,
        size: int = 64 * MIB,
        hot: Ranges = (),
        level: str = "7.3",
        seed: int = 1,
        rules: Rules | None = None,
        vmas: Ranges | None = None,
        ram_bytes: int = 1 << 30,
        **machine: object,
    ) -> None:
        ram_bytes = max(ram_bytes, 2 * huge_page_size())  # as little as a machine can have
        self.system = make_system(level, seed, rules, ram_bytes=ram_bytes, **machine)
        self.size = size
        self.truth = HotTruth([(HEAP, HEAP + size)], hot)
        self.pid = self.system.add_process(heap(size) if vmas is None else vmas, self.truth)
        self.clock, self.tree, self.events = self.system.clock, self.system.tree, self.system.events
        self.client = DamonClient(self.tree, self.clock)

    def ctx(self, **fields: object) -> DamonCtx:
        """A vaddr request for the process; fields of DamonAttrs go there, the rest to DamonCtx."""
        attr_names = set(DamonAttrs.__dataclass_fields__)
        attrs = replace(DamonAttrs(), **{k: v for k, v in fields.items() if k in attr_names})
        base = DamonCtx(targets=(DamonTarget(self.pid),), attrs=attrs)
        return replace(base, **{k: v for k, v in fields.items() if k not in attr_names})

    def fvaddr(self, ranges: Ranges | None = None, **fields: object) -> DamonCtx:
        """Monitoring of exactly the heap (or of ``ranges``)."""
        regions = tuple(ranges) if ranges is not None else ((HEAP, HEAP + self.size),)
        return self.ctx(operations="fvaddr", targets=(DamonTarget(self.pid, regions),), **fields)

    def stage(self, *contexts: DamonCtx) -> None:
        self.client.stage([Kdamond(ctx) for ctx in contexts])

    def start(self, *contexts: DamonCtx) -> None:
        self.stage(*contexts)
        for index in range(len(contexts)):
            self.command("on", index)

    def command(self, word: str, index: int = 0) -> None:
        self.tree.write(self.path("state", index), word)

    def path(self, name: str, index: int = 0) -> str:
        return f"/sys/kernel/mm/damon/admin/kdamonds/{index}/{name}"

    def ctx_path(self, name: str, index: int = 0) -> str:
        return self.path(f"contexts/0/{name}", index)

    def read(self, name: str, index: int = 0) -> str:
        return self.tree.read(self.path(name, index)).rstrip("\n")

    def commit(self, ctx: DamonCtx) -> None:
        self.client.restage([Kdamond(ctx)])
        self.command("commit")

    def run(self, seconds: float) -> None:
        self.clock.run_for(int(seconds * NSEC_PER_SEC))

    def core(self, index: int = 0):
        """The running context."""
        kdamond = self.tree.slots[index].kdamond
        assert kdamond is not None
        return kdamond.ctx

    def record(self, seconds: float, name: str = "damon_aggregated") -> list[Event]:
        stream = self.events.open([name])
        self.run(seconds)
        stream.close()
        return list(stream.read())

    def snapshots(self, seconds: float) -> list[Snapshot]:
        return trace.snapshots(self.record(seconds))


class Parameters:
    """The parameters of one module."""

    def __init__(self, box, name):
        self.tree, self.dir = box.tree, f"/sys/module/damon_{name}/parameters"

    def __setitem__(self, name, value):
        self.tree.write(f"{self.dir}/{name}", str(value))

    def __getitem__(self, name):
        return self.tree.read(f"{self.dir}/{name}").rstrip("\n")


def idle_box(**kwargs):
    """Half of 64 MiB is hot; RAM is 128 MiB, half of it free."""
    return Box(64 * MIB, [(HEAP, HEAP + 32 * MIB)], ram_bytes=128 * MIB, **kwargs)


STAT_ALL = Damos(action="stat", access_pattern=ANY)


def with_quota(**fields):
    fields.setdefault("reset_interval_ms", 1000)
    return replace(STAT_ALL, quota=DamosQuota(**fields))


def esz_values(box, seconds):
    return [int(e.text.rsplit("=", 1)[1]) for e in box.record(seconds, "damos_esz")]
