# SPDX-License-Identifier: GPL-2.0
"""What DAMON is used for to save memory or time: schemes, what they are compared with, and their machines."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from damon_tests.damon.params import U32_MAX, U64_MAX, Damos, DamosAccessPattern
from damon_tests.judge.cost.savings import BASELINE
from damon_tests.kernel.guest.topology import Topology
from damon_tests.ports import huge_page_size

NEAR_NODE, FAR_NODE = 0, 1
"""All processors of a guest are on node 0."""

IDLE_AGGREGATIONS = 20
"""Memory is idle after this many aggregations of 100 ms without an access, 2 s. DAMON's own evaluation waits
for minutes; an emulated guest has seconds."""


@dataclass(frozen=True)
class Scheme:
    """A use of DAMON. ``operations`` None: DAMON is not on. ``topology``: the machine of its runs."""

    name: str
    topology: Topology
    operations: str | None = None
    damos: tuple[Damos, ...] = ()


@dataclass(frozen=True)
class Use:
    """What DAMON is used for: a scheme, beside others that it is compared with. ``schemes``: first the
    baseline. ``workloads``: those that show it, by name."""

    name: str
    about: str
    schemes: tuple[Scheme, ...]
    workloads: tuple[str, ...]


def _pattern(
    *, accesses: tuple[int, int] = (0, U32_MAX), age: tuple[int, int] = (0, U32_MAX), size_min: int = 0
) -> DamosAccessPattern:
    return DamosAccessPattern(size_min, U64_MAX, *accesses, *age)


_IDLE = _pattern(accesses=(0, 0), age=(IDLE_AGGREGATIONS, U32_MAX))
_HUGE = huge_page_size()
_SWAPS = Topology(memory_mib=512, swap_zram_mib=256, instructions=True)
# With less than 512 MiB of memory, the kernel turns transparent huge pages off when it boots.
_ADVISED = Topology(thp_on_advice=True, instructions=True)
_ALWAYS = Topology(cmdline=("transparent_hugepage=always",), instructions=True)
_SORTED = Topology(memory_mib=512, lru_lists=True, instructions=True)
_TWO_NODES = Topology(memory_mib=768, numa_nodes=2, instructions=True)

_BY_ACCESS = (
    Damos("hugepage", _pattern(accesses=(1, U32_MAX), size_min=_HUGE)),
    Damos("nohugepage", replace(_IDLE, sz_min=_HUGE)),
)
_HOT = _pattern(accesses=(10, U32_MAX))
"""Accessed in half of the samples of an aggregation, or more."""
_SORTING = (Damos("lru_prio", _HOT), Damos("lru_deprio", _IDLE))
_TIERING = (
    Damos("migrate_hot", _HOT, target_nid=NEAR_NODE),
    Damos("migrate_cold", _IDLE, target_nid=FAR_NODE),
)

USES: Mapping[str, Use] = {
    use.name: use
    for use in (
        Use(
            "reclaim",
            "proactive reclaim: page out what was idle for 2 s",
            (Scheme(BASELINE, _SWAPS), Scheme("reclaim", _SWAPS, "vaddr", (Damos("pageout", _IDLE),))),
            ("reclaim_me", "half_used", "zipf", "redis", "redis_sessions", "xz"),
        ),
        Use(
            "hugepage",
            "huge pages by access: only for blocks of 2 MiB that are accessed",
            (
                Scheme(BASELINE, _ADVISED),
                Scheme("always", _ALWAYS),
                Scheme("by access", _ADVISED, "vaddr", _BY_ACCESS),
            ),
            ("dense_and_sparse", "redis"),
        ),
        Use(
            "lru_sort",
            "LRU sorting: hot memory to the active list, idle memory off it",
            (
                Scheme(BASELINE, _SORTED),
                Scheme("lru_sort", _SORTED, "paddr", _SORTING),
            ),
            ("reclaim_me",),
        ),
        Use(
            "tiering",
            "tiering: accessed memory to the processors' node, idle memory to the other",
            (Scheme(BASELINE, _TWO_NODES), Scheme("tiering", _TWO_NODES, "paddr", _TIERING)),
            ("far_memory", "redis"),
        ),
    )
}
