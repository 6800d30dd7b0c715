# SPDX-License-Identifier: GPL-2.0
"""Order of work within an iteration (§2.2), what levels do otherwise (§8.2), and quirks to copy (§8.4)."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from reference_support import HEAP, MIB, RULES, STAT_ALL, Box, HotTruth, TimedTruth, heap, under_test

from damon_tests.damon.params import (
    DamonIntervalsGoal,
    DamonProbe,
    DamonProbeFilter,
    DamonTarget,
    DamosWatermarks,
)
from damon_tests.damon.trace import snapshots
from damon_tests.ports import NSEC_PER_MSEC, page_size
from damon_tests.reference.core.intervals import set_attrs
from damon_tests.reference.core.merge import merge_alike, merge_regions
from damon_tests.reference.core.regions import Regions
from damon_tests.reference.rules.levels import LEVELS

PAGE = page_size()
# Half of the memory is free: more than 100 per mille, so the scheme is inactive.
ASLEEP = replace(STAT_ALL, watermarks=DamosWatermarks("free_mem_rate", 1_000_000, 100, 50, 10))
ANON = (DamonProbeFilter("anon", True, True),)


def paddr(box: Box, **fields: object):
    """Monitoring of the frames that the process has."""
    places = tuple(box.system.physical_ranges(box.pid, HEAP, HEAP + box.size))
    return box.ctx(operations="paddr", targets=(DamonTarget(0, places),), **fields)


# Order of work


def test_an_iteration_keeps_the_mode_it_began_with():
    """Weights that are committed while the iteration waits for watermarks count from the next one on."""
    box = Box(16 * MIB, [(HEAP, HEAP + 16 * MIB)], ram_bytes=64 * MIB)
    box.start(paddr(box, schemes=(ASLEEP,)))
    box.run(0.1)
    stream = box.events.open(["damon_aggregated"])
    box.commit(paddr(box, probes=(DamonProbe(weight=1),)))
    box.run(0.5)
    most = [int(s.nr_accesses.max()) for s in snapshots(stream.read())]
    assert most == [1, 0, 0, 0, 0]


def test_a_thread_that_must_stop_does_not_finish_its_iteration_after_a_pause():
    box = Box()
    often = replace(STAT_ALL, apply_interval_us=5_000)
    box.start(box.fvaddr(schemes=(often,)))
    box.run(0.05)
    box.commit(box.fvaddr(schemes=(often,), pause=True))
    (scheme,) = box.core().schemes
    tried = scheme.stats.nr_snapshots
    box.client.restage([replace(box.client.staged()[0], ctx=box.fvaddr(schemes=(often,)))])
    box.system.remove_process(box.pid)
    box.tree.begin_write(box.path("state"), "commit")
    box.run(0.01)
    assert box.read("state") == "off"
    assert scheme.stats.nr_snapshots == tried


def test_a_failed_commit_ends_a_kdamond_that_waits_for_watermarks_too():
    box = Box(level="6.12")
    box.start(box.fvaddr(schemes=(ASLEEP,)))
    box.run(0.1)
    box.commit(box.fvaddr(schemes=(ASLEEP,), max_nr_regions=5))
    box.run(1)
    assert box.read("state") == "off"


# Levels


def waited_for_off(level: str, sample_us: int) -> int:
    """Microseconds that ``off`` takes, given 1 ms after a sample began."""
    box = Box(level=level)
    box.start(box.fvaddr(sample_us=sample_us, aggr_us=10 * sample_us))
    box.run(0.001)
    began = box.clock.now_ns()
    box.command("off")
    return (box.clock.now_ns() - began) // 1000


@pytest.mark.parametrize(
    ("sample_us", "in_6_12", "since_6_16"),
    [(15_000, 14_000, 14_000), (16_000, 15_000, 0), (20_000, 19_000, 0), (21_000, 0, 0)],
)
def test_off_ends_sleeps_that_are_counted_in_ticks(sample_us, in_6_12, since_6_16):
    """§2.11: those of 16 ms and more; 6.12: of more than 20 ms."""
    assert waited_for_off("6.12", sample_us) == in_6_12
    assert waited_for_off("6.16", sample_us) == waited_for_off("7.3", sample_us) == since_6_16


@pytest.mark.parametrize(("level", "at_aggregations"), [("6.12", False), ("7.0", False), ("7.1", True)])
@pytest.mark.parametrize("operations", ["fvaddr", "paddr"])
def test_the_size_limit_follows_min_nr_regions_at_aggregations(level, at_aggregations, operations):
    """§2.6: at every aggregation; up to 7.0 at the updates of operations, of any set."""
    box = Box(16 * MIB, ram_bytes=64 * MIB, level=level)

    def request(minimum: int):
        attrs = {"min_nr_regions": minimum, "max_nr_regions": 400, "update_us": 300_000}
        return box.fvaddr(**attrs) if operations == "fvaddr" else paddr(box, **attrs)

    box.start(request(8))
    box.commit(request(256))
    core, few, many = box.core(), 16 * MIB // 8, 16 * MIB // 256
    samples = core.next_update - core.passed - 2  # one may be due right now
    assert samples > core.window
    box.run(samples * 0.005)
    assert core.merge_limit == (many if at_aggregations else few)
    box.run(0.015)
    assert core.merge_limit == many


@pytest.mark.parametrize(
    ("level", "in_window", "between"),
    [
        ("6.12", (30, 40), (30, 40)),
        ("6.16", (0, 80), (30, 40)),
        ("7.2", (0, 80), (30, 40)),
        ("7.3", (0, 80), (30, 80)),
    ],
)
def test_online_rescaling_has_the_specified_values(level, in_window, between):
    """§2.12: (nr_accesses, last) of 15 and 40 when windows become twice as long, in the middle of one and at
    the end of one."""
    for passed, expected in ((5, in_window), (20, between)):
        box = Box(level=level)
        box.start(box.fvaddr())
        core = box.core()
        core.passed, core.next_aggr = passed, 20
        core.regions.nr_accesses[:], core.regions.last_nr_accesses[:] = 15, 40
        set_attrs(core, replace(core.attrs, aggr_us=200_000))
        counters = {
            *zip(core.regions.nr_accesses.tolist(), core.regions.last_nr_accesses.tolist(), strict=True)
        }
        assert counters == {expected}


def test_merge_thresholds_of_6_12_only_double():
    rules, raised, t = under_test(LEVELS["6.12"].rules), [], 0
    while t < 20:
        t = rules.next_merge_threshold(t, 20)
        raised.append(t)
    assert raised == [1, 2, 4, 8, 16, 32]


# Quirks


def test_tuning_looks_at_the_last_window_only():
    """Q2: hot in two of the three windows that tuning is said to be about, idle in the last."""
    span = (HEAP, HEAP + MIB)
    box = Box()
    start = box.clock.now_ns()
    truth = TimedTruth([span], lambda t0, _: [span] if t0 < start + 200 * NSEC_PER_MSEC else [])
    pid = box.system.add_process(heap(MIB), truth)
    goal = DamonIntervalsGoal(400, 3, 5_000, 10_000_000)
    box.start(replace(box.fvaddr(intervals_goal=goal), targets=(DamonTarget(pid, (span,)),)))
    (event,) = box.record(0.35, "damon_monitor_intervals_tune")
    assert event.text == "sample_us=10000"


def with_hits(hits: list[int]) -> Regions:
    regions = Regions.of_ranges([(PAGE * i, PAGE * (i + 1)) for i in range(len(hits))])
    regions.probe_hits[:, 0] = hits
    return regions


def test_weighted_scores_may_exceed_the_largest_threshold():
    """Q3: it is the number of samples, so max_nr_regions can stay exceeded."""
    for weight, left in ((1, 1), (100, 8)):
        merged = merge_regions(with_hits([20, 0] * 4), RULES, 0, 1 << 40, 20, 3, (weight,))
        assert len(merged) == left


def test_what_schemes_merge_again_has_the_hits_of_its_left_part():
    """Q4."""
    merged = merge_alike(with_hits([7, 3, 9]), 2 * PAGE)
    assert merged.ranges() == [(0, 2 * PAGE), (2 * PAGE, 3 * PAGE)]
    assert merged.probe_hits[:, 0].tolist() == [7, 9]


def test_split_history_is_of_the_whole_system():
    """Q8: one kdamond's number of regions is what the other one compares with."""
    box = Box(64 * MIB)
    box.start(box.fvaddr(), box.fvaddr(min_nr_regions=32))
    box.run(0.1)
    assert len(box.core(0).regions) == 20
    assert box.system.split_history.last_nr_regions == 32
    box.run(0.1)
    assert len(box.core(0).regions) < 30, "in two, not in three: 32 regions were not what it had"


# Probes


def test_without_weights_probes_look_at_the_page_that_was_checked():
    """Anonymous memory is hot, that of the file is not: both counters always agree."""
    file, anon = (HEAP, HEAP + 8 * MIB), (HEAP + 8 * MIB, HEAP + 16 * MIB)
    box = Box(16 * MIB, ram_bytes=64 * MIB)
    box.system.remove_process(box.pid)
    truth = HotTruth([(HEAP, HEAP + 16 * MIB)], [anon])
    box.pid = box.system.add_process(heap(16 * MIB), truth, file=[file])
    box.start(paddr(box, probes=(DamonProbe(filters=ANON),), min_nr_regions=3))
    for _ in range(10):
        box.run(0.095)
        regions = box.core().regions
        assert regions.nr_accesses.tolist() == regions.probe_hits[:, 0].tolist()
        box.run(0.005)


@pytest.mark.parametrize("operations", ["vaddr", "fvaddr"])
def test_weights_leave_nothing_to_monitor_in_virtual_memory(operations):
    """§2.10: access checks are off, and nothing replaces them; so all grows old."""
    box = Box(8 * MIB, [(HEAP, HEAP + 8 * MIB)])
    probes = (DamonProbe(weight=1),)
    box.start(box.ctx(probes=probes) if operations == "vaddr" else box.fvaddr(probes=probes))
    for number, snap in enumerate(box.snapshots(1), 1):
        assert not snap.nr_accesses.any()
        assert set(snap.age.tolist()) == {number}


def test_hits_of_more_than_255_samples_wrap():
    """I27: 8 bits."""
    box = Box(8 * MIB, ram_bytes=64 * MIB)
    box.start(paddr(box, sample_us=1_000, aggr_us=300_000, probes=(DamonProbe(),)))
    box.run(0.301)
    assert set(box.core().regions.last_probe_hits[:, 0].tolist()) == {300 - 256}


def test_the_moving_value_of_probe_hits_is_of_eight_bits():
    """§2.9, §2.10: for users, half of the last window and what the running one has."""
    box = Box(8 * MIB, ram_bytes=64 * MIB)
    box.start(paddr(box, probes=(DamonProbe(),)))
    box.run(0.151)
    core = box.core()
    assert set(core.probe_values(core.regions)[:, 0].tolist()) == {20}
    core.regions.last_probe_hits = np.full_like(core.regions.last_probe_hits, 255)
    core.regions.probe_hits = np.full_like(core.regions.probe_hits, 200)
    assert set(core.probe_values(core.regions)[:, 0].tolist()) == {200 + 127 - 256}
