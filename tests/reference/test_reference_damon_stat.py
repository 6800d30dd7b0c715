# SPDX-License-Identifier: GPL-2.0
"""DAMON_STAT: its numbers, worked out from the specification (§6.3) and from what its kdamond counted."""

from __future__ import annotations

import pytest
from reference_support import HEAP, MIB, RULES, Box

RAM = 128 * MIB


def stat_box(hot: int, **machine: object) -> Box:
    """A machine of 128 MiB with DAMON_STAT on from boot; ``hot`` bytes of its process are in use."""
    return Box(64 * MIB, [(HEAP, HEAP + hot)], ram_bytes=RAM, damon_stat=True, **machine)


def shown(box: Box, name: str) -> list[int]:
    text = box.tree.read(f"/sys/module/damon_stat/parameters/{name}")
    return [int(word) for word in text.strip().split(",")]


def counted(box: Box) -> list[tuple[int, int, int]]:
    """(size, nr_accesses, age) of the regions that its kdamond has now."""
    kdamond = box.tree.modules["damon_stat"].kdamond
    assert kdamond is not None
    regions = kdamond.ctx.regions
    return list(zip(*(a.tolist() for a in (regions.sizes, regions.nr_accesses, regions.age)), strict=True))


def test_the_idle_time_begins_with_one_aggregation():
    """(age + 1) * aggr_us div 1000, negative where memory was accessed."""
    assert [RULES.stat_idle_ms(age, 100_000, False) for age in (0, 1, 9)] == [100, 200, 1000]
    assert [RULES.stat_idle_ms(age, 100_000, True) for age in (0, 1, 9)] == [-100, -200, -1000]
    assert RULES.stat_idle_ms(2, 5_999, False) == 17, "rounded down once, at the end"


def test_percentiles_are_those_of_bytes():
    """Percentile p is the value at which the sum of bytes, in per cent rounded down, first reaches p."""
    in_use, idle = (90, -7), (10, 5)
    sizes, values = zip(idle, in_use, strict=True)
    assert RULES.stat_percentiles(sizes, values) == [-7] * 91 + [5] * 10
    # A third each: 33 and 66 per cent, rounded down.
    assert RULES.stat_percentiles([1, 1, 1], [30, 10, 20]) == [10] * 34 + [20] * 33 + [30] * 34
    # What has less than a per cent takes none but percentile 0.
    assert RULES.stat_percentiles([1, 999], [1, 2]) == [1] + [2] * 100


def test_bandwidth_is_in_bytes_a_second():
    assert RULES.stat_bandwidth(20 * 4096, 100_000) == 819_200
    assert RULES.stat_bandwidth(1, 3_000_000) == 0


def test_what_nobody_touches_is_idle_and_the_intervals_grow():
    """Intervals double after three aggregations of 100, 200, 400 and 800 ms: after 0.3, 0.9, 2.1 and 4.5 s.
    Ages, in aggregations, are halved then: 3 → 1, 4 → 2, 5 → 2, 5 → 2. Results come after five seconds."""
    box = stat_box(0)
    box.run(4.9)
    assert set(shown(box, "memory_idle_ms_percentiles")) == {0}, "not yet"
    box.run(0.3)
    assert shown(box, "aggr_interval_us") == [1_600_000]
    assert shown(box, "memory_idle_ms_percentiles") == [3 * 1_600] * 101
    assert shown(box, "estimated_memory_bandwidth") == [0]


@pytest.mark.parametrize("hot", [64 * MIB, 16 * MIB])
def test_results_are_those_of_what_was_counted(hot: int):
    """The sample that refreshes them is in the middle of a window: its counts are taken as they are."""
    box = stat_box(hot)
    name, before = "memory_idle_ms_percentiles", None
    while before is None or shown(box, name) == before:
        before = shown(box, name)
        box.run(0.0025)
    regions, (aggr_us,) = counted(box), shown(box, "aggr_interval_us")
    accessed = sum(size * nr for size, nr, _ in regions)
    assert accessed > 0
    assert shown(box, "estimated_memory_bandwidth") == [accessed * 1_000_000 // aggr_us]
    in_order = sorted(((age + 1) * aggr_us // 1000 * (-1 if nr else 1), size) for size, nr, age in regions)
    total = sum(size for _, size in in_order)
    sums = [sum(size for _, size in in_order[: i + 1]) * 100 // total for i in range(len(in_order))]
    expected = [next(idle for (idle, _), s in zip(in_order, sums, strict=True) if s >= p) for p in range(101)]
    assert shown(box, name) == expected
    assert min(expected) < 0 < max(expected)
