# SPDX-License-Identifier: GPL-2.0
"""Passes of schemes: what matches, in which order and when they are applied, and what is counted.

damos_before_apply shows what is tried: one event for each region and scheme.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest
from reference_support import HEAP, MIB, RULES, STAT_ALL, Box

from damon_tests.damon.params import ANY, Damos, DamosAccessPattern, DamosWatermarks
from damon_tests.ports import Event


def tries(events: list[Event]) -> list[tuple[int, int, int, int]]:
    """(time_ns, scheme, start, end) of each region that was tried."""
    rows = []
    for event in events:
        words = event.text.split()
        start, end = words[4].rstrip(":").split("-")
        rows.append((event.time_ns, int(words[1].partition("=")[2]), int(start), int(end)))
    return rows


def watched(*schemes: Damos, seconds: float = 0.502, **fields: object) -> tuple[Box, list]:
    """What these schemes tried of 8 MiB that nobody uses; an aggregation is 100 ms."""
    box = Box(8 * MIB)
    stream = box.events.open(["damos_before_apply"])
    box.start(box.fvaddr(schemes=schemes, **fields))
    box.run(seconds)
    stream.close()
    return box, tries(list(stream.read()))


BOUNDS = ((4096, 8192), (2, 5), (1, 3))


@pytest.mark.parametrize(
    ("size", "nr_accesses", "age", "matches"),
    [
        (4096, 2, 1, True),
        (8192, 5, 3, True),
        (4095, 2, 1, False),
        (8193, 2, 1, False),
        (4096, 1, 1, False),
        (4096, 6, 1, False),
        (4096, 2, 0, False),
        (4096, 2, 4, False),
    ],
)
def test_all_bounds_of_a_pattern_are_inclusive(size: int, nr_accesses: int, age: int, matches: bool):
    assert bool(RULES.pattern_matches(BOUNDS, size, nr_accesses, age)) is matches


@pytest.mark.parametrize("swapped", range(3))
def test_a_minimum_above_the_maximum_matches_nothing(swapped: int):
    bounds = [(low, high) if i != swapped else (high, low) for i, (low, high) in enumerate(BOUNDS)]
    for size, nr_accesses, age in ((4096, 2, 1), (8192, 5, 3), (6000, 3, 2)):
        assert not RULES.pattern_matches(bounds, size, nr_accesses, age)


@pytest.mark.parametrize(
    ("pattern", "passes"),
    [
        (ANY, 5),
        (replace(ANY, nr_accesses_min=1), 0),
        (replace(ANY, sz_max=4095), 0),
        (replace(ANY, sz_min=8 * MIB), 0),
        # Ages of what nobody touches are 1, 2, 3, 4 and 5 in the five passes.
        (replace(ANY, age_min=2, age_max=4), 3),
    ],
)
def test_only_what_matches_is_tried(pattern: DamosAccessPattern, passes: int):
    box, tried = watched(Damos(access_pattern=pattern))
    stats = box.client.stats(0, 0)
    assert stats.sz_tried == passes * 8 * MIB == sum(end - start for _, _, start, end in tried)
    assert stats.nr_snapshots == 5, "a pass counts, whatever it found"


def test_every_try_is_counted_once():
    box, tried = watched(Damos(action="pageout", access_pattern=ANY), STAT_ALL)
    by_scheme = Counter(scheme for _, scheme, _, _ in tried)
    assert by_scheme[0] == by_scheme[1] >= 5 * 10
    paged, watches = box.client.stats(0, 0), box.client.stats(0, 1)
    assert (paged.nr_tried, paged.nr_applied) == (by_scheme[0], by_scheme[0])
    assert (watches.nr_tried, watches.nr_applied, watches.sz_applied) == (by_scheme[1], 0, 0)
    assert paged.sz_tried == watches.sz_tried == 5 * 8 * MIB


def test_what_nothing_was_done_to_is_tried_and_not_applied():
    """vaddr cannot prioritise; the age starts again all the same (§4.7, step 6)."""
    box, tried = watched(Damos(action="lru_prio", access_pattern=ANY))
    stats = box.client.stats(0, 0)
    assert (stats.nr_tried, stats.nr_applied, stats.sz_applied) == (len(tried), 0, 0)
    assert set(box.core().regions.age.tolist()) == {0}
    assert [RULES.age_after_action(action, 7, 0) for action in ("stat", "lru_prio")] == [7, 0]


def test_for_each_region_schemes_are_applied_in_their_order():
    _, tried = watched(STAT_ALL, STAT_ALL, STAT_ALL)
    assert tried
    for at in range(0, len(tried), 3):
        assert [scheme for _, scheme, _, _ in tried[at : at + 3]] == [0, 1, 2]
        assert len({place[2:] for place in tried[at : at + 3]}) == 1


@pytest.mark.parametrize(("apply_ms", "passes"), [(0, 5), (5, 100), (50, 10), (125, 4)])
def test_a_pass_comes_when_its_interval_is_over(apply_ms: int, passes: int):
    """Counted in samples of 5 ms from the start; without an interval it is the aggregation interval."""
    box = Box(8 * MIB)
    begin_ns = box.clock.now_ns()
    stream = box.events.open(["damos_before_apply"])
    box.start(box.fvaddr(schemes=(replace(STAT_ALL, apply_interval_us=apply_ms * 1000),)))
    box.run(0.502)
    stream.close()
    period_ns = (apply_ms or 100) * 1_000_000
    times = sorted({time_ns - begin_ns for time_ns, *_ in tries(list(stream.read()))})
    assert times == [period_ns * (i + 1) for i in range(passes)]


@pytest.mark.parametrize("limit", [1, 3])
def test_a_scheme_stops_after_the_passes_it_was_given(limit: int):
    """I55"""
    box, _ = watched(replace(STAT_ALL, max_nr_snapshots=limit))
    stats = box.client.stats(0, 0)
    assert (stats.nr_snapshots, stats.sz_tried) == (limit, limit * 8 * MIB)


def test_tried_regions_are_those_of_one_pass():
    box, _ = watched(STAT_ALL)
    regions = box.client.tried_regions(0, 0).regions
    assert regions.start[0] == HEAP
    assert regions.end[-1] == HEAP + 8 * MIB
    assert (regions.start[1:] == regions.end[:-1]).all()


def test_due_schemes_print_their_statistics_active_or_not():
    """§7. A pass needs one that is active; one that is due later prints later."""
    box = Box(8 * MIB)
    asleep = replace(STAT_ALL, watermarks=DamosWatermarks("free_mem_rate", 1_000_000, 2, 1, 0))
    late = replace(STAT_ALL, apply_interval_us=200_000)
    box.start(box.fvaddr(schemes=(STAT_ALL, asleep, late)))
    events = box.record(0.402, "damos_stat_after_apply_interval")
    printed = Counter(event.text.split()[1] for event in events)
    assert printed == {"scheme_idx=0": 4, "scheme_idx=1": 4, "scheme_idx=2": 2}
    nothing = (
        "nr_tried=0 sz_tried=0 nr_applied=0 sz_applied=0 sz_ops_filter_passed=0 qt_exceeds=0 nr_snapshots=0"
    )
    assert {event.text for event in events if "scheme_idx=1" in event.text} == {
        f"ctx_idx=0 scheme_idx=1 {nothing}"
    }
