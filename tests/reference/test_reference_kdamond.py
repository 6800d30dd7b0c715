# SPDX-License-Identifier: GPL-2.0
"""The main loop: invariants of §9 over random requests, and its timing."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from reference_support import HEAP, MIB, STACK, Box, HotTruth, TimedTruth, heap

from damon_tests.damon.params import (
    DamonAttrs,
    DamonTarget,
)
from damon_tests.ports import page_size
from damon_tests.reference.rules.levels import LEVELS

PAGE = page_size()


@st.composite
def requests(draw):
    sample = draw(st.sampled_from([1000, 5000, 7000]))
    low = draw(st.integers(3, 30))
    return DamonAttrs(
        sample_us=sample,
        aggr_us=sample * draw(st.integers(1, 30)) + draw(st.integers(0, 999)),
        min_nr_regions=low,
        max_nr_regions=low + draw(st.integers(0, 120)),
    )


@settings(max_examples=60, deadline=None)
@given(
    attrs=requests(),
    pages=st.integers(3, 3000),
    hot=st.tuples(st.floats(0, 1), st.floats(0, 1)),
    level=st.sampled_from(sorted(LEVELS)),
    seed=st.integers(0, 1000),
)
def test_random_requests_keep_the_invariants(attrs, pages, hot, level, seed):
    """I1 to I12, I18, I19, I30 on fvaddr, where coverage is exact."""
    size = pages * PAGE
    ends = sorted(HEAP + int(f * pages) * PAGE for f in hot)
    box = Box(size, [(ends[0], ends[1])], level=level, seed=seed)
    box.start(box.fvaddr(attrs=attrs))
    window = attrs.aggr_us // attrs.sample_us
    snapshots = box.snapshots(12 * window * attrs.sample_us / 1e6)
    assert len(snapshots) == 12
    for number, snap in enumerate(snapshots, 1):
        assert snap.nr_regions == len(snap)
        assert (snap.start[1:] == snap.end[:-1]).all()
        assert (int(snap.start[0]), int(snap.end[-1])) == (HEAP, HEAP + size)
        assert (snap.start < snap.end).all()
        assert not (snap.start % np.uint64(PAGE)).any()
        assert snap.nr_accesses.max() <= window
        assert snap.age.max() <= number
        check_counts(snap, attrs, pages, box.system.rules)


def check_counts(snap, attrs, pages, rules):
    limit = max(pages * PAGE // attrs.min_nr_regions, PAGE)
    limit = -(-limit // PAGE) * PAGE
    fewest = -(-pages * PAGE // limit)
    if rules.strict_min_regions:
        assert int(snap.sizes.max()) <= limit
        assert len(snap) >= fewest
    # Merging at the largest threshold leaves no two neighbours that fit the limit together.
    assert len(snap) <= max(attrs.max_nr_regions, 2 * fewest + 1)


@settings(max_examples=25, deadline=None)
@given(attrs=requests(), seed=st.integers(0, 99))
def test_same_seed_same_run(attrs, seed):
    def run():
        box = Box(8 * MIB, [(HEAP, HEAP + MIB)], seed=seed)
        box.start(box.ctx(attrs=attrs))
        return box.record(0.5)

    assert run() == run()


def test_different_seeds_differ():
    texts = set()
    for seed in range(3):
        box = Box(hot=[(HEAP, HEAP + 5 * MIB)], seed=seed)
        box.start(box.ctx())
        texts.add("\n".join(event.text for event in box.record(1)))
    assert len(texts) == 3


def test_three_regions_of_a_process():
    box = Box(64 * MIB)
    box.start(box.ctx())
    snap = box.snapshots(0.1)[0]
    assert (int(snap.start[0]), int(snap.end[0])) == (PAGE, 2 * PAGE)
    assert (int(snap.start[-1]), int(snap.end[-1])) == (STACK, STACK + PAGE)
    assert int(snap.sizes.sum()) == 64 * MIB + 2 * PAGE


def test_aggregations_come_every_window_of_samples():
    """aggr_us is rounded down to whole samples: 100 ms at 30 ms is three samples."""
    box = Box()
    box.start(box.ctx(sample_us=30_000, aggr_us=100_000))
    began = box.clock.now_ns()
    times = sorted({event.time_ns - began for event in box.record(1)})
    assert times[:4] == [90_000_000, 180_000_000, 270_000_000, 360_000_000]


def test_idle_memory_has_no_accesses_and_hot_memory_all():
    box = Box(64 * MIB, [(HEAP, HEAP + 64 * MIB)])
    box.start(box.fvaddr())
    assert all((s.nr_accesses == 20).all() for s in box.snapshots(1))
    idle = Box(64 * MIB)
    idle.start(idle.fvaddr())
    assert all((s.nr_accesses == 0).all() for s in idle.snapshots(1))


def test_hot_set_is_found():
    box = Box(64 * MIB, [(HEAP + 16 * MIB, HEAP + 24 * MIB)])
    box.start(box.fvaddr())
    snap = box.snapshots(10)[-1]
    hot = snap.nr_accesses >= 10
    hot_bytes = int(snap.sizes[hot].sum())
    inside = (snap.start >= HEAP + 15 * MIB) & (snap.end <= HEAP + 25 * MIB)
    assert abs(hot_bytes - 8 * MIB) < MIB
    assert inside[hot].all()


def test_unmapped_memory_is_not_accessed():
    """The truth knows about pages that the process has not mapped."""
    box = Box(64 * MIB, [(HEAP, HEAP + 64 * MIB)], vmas=heap(4 * MIB))
    box.start(box.fvaddr(ranges=[(HEAP, HEAP + 4 * MIB), (HEAP + 8 * MIB, HEAP + 16 * MIB)]))
    for snap in box.snapshots(0.5):
        mapped = snap.end <= HEAP + 4 * MIB
        assert (snap.nr_accesses[mapped] == 20).all()
        assert (snap.nr_accesses[~mapped] == 0).all()


def test_an_access_counts_only_between_prepare_and_check():
    windows = []

    def hot(t0, t1):
        windows.append((t0, t1))
        return ()

    box = Box()
    pid = box.system.add_process(heap(MIB), TimedTruth([(HEAP, HEAP + MIB)], hot))
    box.start(replace(box.fvaddr(), targets=(DamonTarget(pid, ((HEAP, HEAP + MIB),)),)))
    began = box.clock.now_ns()
    box.run(0.02)
    assert windows == [(began + i * 5_000_000, began + (i + 1) * 5_000_000) for i in range(4)]


def test_every_page_of_a_region_is_sampled_equally_often():
    asked = []

    class Asked(HotTruth):
        def touched(self, pages, t0_ns, t1_ns):
            asked.extend(pages.tolist())
            return super().touched(pages, t0_ns, t1_ns)

    box = Box()
    size = 24 * PAGE
    pid = box.system.add_process([(HEAP, HEAP + size)], Asked([(HEAP, HEAP + size)]))
    target = DamonTarget(pid, ((HEAP, HEAP + size),))
    box.start(replace(box.fvaddr(min_nr_regions=3, max_nr_regions=3), targets=(target,)))
    box.run(50)
    counts = np.bincount(np.array(asked) - HEAP // PAGE, minlength=24)
    # 10,000 samples in each of three regions of eight pages.
    assert counts.sum() == 30_000
    assert (abs(counts - 1250) < 5 * np.sqrt(1250 * 7 / 8)).all()


def test_an_update_interval_of_zero_is_due_at_every_sample():
    box = Box(8 * MIB)
    box.start(box.ctx(update_us=0))
    box.run(0.2)
    box.system.set_vmas(box.pid, heap(16 * MIB))
    box.run(0.006)
    assert box.core().regions.total_size() == 16 * MIB + 2 * PAGE


def test_age_grows_by_one_and_resets_on_change():
    changed_at = 2_000_000_000

    def hot(t0, t1):
        return [(HEAP, HEAP + MIB)] if t0 >= changed_at else []

    box = Box()
    pid = box.system.add_process(heap(MIB), TimedTruth([(HEAP, HEAP + MIB)], hot))
    box.start(replace(box.fvaddr(), targets=(DamonTarget(pid, ((HEAP, HEAP + MIB),)),)))
    ages = [(int(s.age.min()), int(s.age.max())) for s in box.snapshots(1.5)]
    assert ages == [(i, i) for i in range(1, 11)] + [(i, i) for i in range(5)]


def test_several_targets_do_not_mix():
    box = Box(8 * MIB)
    other = HotTruth([(HEAP, HEAP + 4 * MIB)], [(HEAP, HEAP + 4 * MIB)])
    pid = box.system.add_process(heap(4 * MIB), other)
    targets = (
        DamonTarget(box.pid, ((HEAP, HEAP + 8 * MIB),)),
        DamonTarget(pid, ((HEAP, HEAP + 4 * MIB),)),
    )
    box.start(replace(box.fvaddr(), targets=targets))
    snapshots = box.snapshots(1)
    assert [s.target_idx for s in snapshots] == [0, 1] * 10
    for snap in snapshots:
        size, accesses = ((8 * MIB, 0), (4 * MIB, 20))[snap.target_idx]
        assert int(snap.sizes.sum()) == size
        assert (snap.nr_accesses == accesses).all()


def test_several_kdamonds_run_side_by_side():
    box = Box(8 * MIB)
    box.start(box.fvaddr(), box.fvaddr(sample_us=10_000))
    assert box.read("pid", 0) != box.read("pid", 1)
    times = {}
    for event in box.record(1):
        times.setdefault(event.pid, set()).add(event.time_ns)
    assert sorted(len(at) for at in times.values()) == [10, 10]
    box.command("off", 0)
    assert [box.read("state", i) for i in range(2)] == ["off", "on"]


def test_target_exit_stops_the_kdamond():
    box = Box()
    box.start(box.ctx())
    box.run(0.5)
    box.system.remove_process(box.pid)
    assert box.read("state") == "on"
    box.run(0.010)
    assert (box.read("state"), box.read("pid")) == ("off", "-1")


def test_one_of_two_targets_may_exit():
    box = Box(8 * MIB, [(HEAP, HEAP + 8 * MIB)])
    pid = box.system.add_process(heap(MIB), HotTruth([(HEAP, HEAP + MIB)], [(HEAP, HEAP + MIB)]))
    box.start(box.ctx(targets=(DamonTarget(box.pid), DamonTarget(pid))))
    box.system.remove_process(pid)
    last = [s for s in box.snapshots(0.5) if s.target_idx == 1][-1]
    assert box.read("state") == "on"
    assert (last.nr_accesses == 0).all()


def test_vaddr_without_targets_ends_at_once():
    box = Box()
    box.start(box.ctx(targets=()))
    assert box.read("state") == "off"


def test_paddr_without_regions_stays_on():
    box = Box()
    box.start(box.ctx(operations="paddr", targets=(DamonTarget(),)))
    assert box.record(0.5) == []
    assert box.read("state") == "on"


def test_layout_change_is_followed_at_the_next_update():
    box = Box(8 * MIB)
    box.start(box.ctx(update_us=300_000))
    box.run(0.2)
    box.system.set_vmas(box.pid, heap(16 * MIB))
    sizes = [int(s.sizes.sum()) - 2 * PAGE for s in box.snapshots(0.4)]
    assert sizes[0] == 8 * MIB
    assert sizes[-1] == 16 * MIB
    box.system.set_vmas(box.pid, heap(8 * MIB))
    # The third update comes after 900 ms, and the aggregation that ends then is traced before it.
    begin = box.system.clock.now_ns()
    shrunk = [s.time_ns - begin for s in box.snapshots(0.4) if int(s.sizes.sum()) - 2 * PAGE == 8 * MIB]
    assert shrunk == [400_000_000]


def test_fvaddr_never_follows_the_layout():
    box = Box(8 * MIB)
    box.start(box.fvaddr(update_us=100_000))
    box.system.set_vmas(box.pid, heap(16 * MIB))
    assert {int(s.sizes.sum()) for s in box.snapshots(1)} == {8 * MIB}


def test_paddr_sees_the_pages_where_the_machine_keeps_them():
    hot = (HEAP + 8 * MIB, HEAP + 16 * MIB)
    box = Box(64 * MIB, [hot], ram_bytes=256 * MIB)
    ram = box.system.ram_ranges()
    box.start(box.ctx(operations="paddr", targets=(DamonTarget(0, tuple(ram)),), max_nr_regions=1000))
    snap = box.snapshots(20)[-1]
    places = box.system.physical_ranges(box.pid, *hot)
    assert sum(end - start for start, end in places) == 8 * MIB
    regions = [
        (int(s), int(e)) for s, e, nr in zip(snap.start, snap.end, snap.nr_accesses, strict=True) if nr > 10
    ]
    overlap = sum(max(0, min(e, end) - max(s, start)) for s, e in regions for start, end in places)
    assert overlap > 6 * MIB
    assert overlap > 0.8 * sum(e - s for s, e in regions)


@pytest.mark.parametrize("unit", [2, 8192])
def test_addr_unit_scales_what_is_checked(unit):
    """The hot half of a process that fills most of the memory is found at its bytes / unit."""
    hot = (HEAP, HEAP + 30 * MIB)
    box = Box(60 * MIB, [hot], ram_bytes=64 * MIB)
    regions = ((2 * MIB // unit, 64 * MIB // unit),)
    ctx = box.ctx(operations="paddr", addr_unit=unit, targets=(DamonTarget(0, regions),))
    box.start(replace(ctx, attrs=replace(ctx.attrs, min_nr_regions=200)))
    snap = box.snapshots(5)[-1]
    places = box.system.physical_ranges(box.pid, *hot)
    rows = zip(snap.start, snap.end, snap.nr_accesses, strict=True)
    hot_ranges = [(int(s) * unit, int(e) * unit) for s, e, nr in rows if nr > 10]
    overlap = sum(max(0, min(e, end) - max(s, start)) for s, e in hot_ranges for start, end in places)
    assert overlap > 27 * MIB
    assert overlap > 0.9 * sum(e - s for s, e in hot_ranges)


@pytest.mark.parametrize("unit", [2, 4096, 8192])
def test_addr_unit_scales_addresses(unit):
    box = Box(16 * MIB, ram_bytes=64 * MIB)
    regions = ((2 * MIB // unit, 64 * MIB // unit),)
    box.start(box.ctx(operations="paddr", addr_unit=unit, targets=(DamonTarget(0, regions),)))
    snap = box.snapshots(0.5)[-1]
    minimum = max(PAGE // unit, 1)
    assert (int(snap.start[0]), int(snap.end[-1])) == regions[0]
    assert not (snap.start % np.uint64(minimum)).any()


def test_min_regions_are_there_from_the_first_aggregation():
    box = Box(400 * PAGE)
    box.start(box.fvaddr(min_nr_regions=100, max_nr_regions=200))
    assert len(box.snapshots(0.1)[0]) == 100


def test_max_regions_hold_after_an_online_decrease():
    box = Box(64 * MIB, [(HEAP, HEAP + MIB)])
    box.start(box.fvaddr(min_nr_regions=200))
    assert len(box.snapshots(1)[-1]) >= 200
    box.commit(box.fvaddr(max_nr_regions=15))
    assert len(box.snapshots(0.2)[-1]) <= 15


# Online changes
