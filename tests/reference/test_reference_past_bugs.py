# SPDX-License-Identifier: GPL-2.0
"""The reference does right what DAMON once did wrong, by number in specification §8.3."""

from __future__ import annotations

from dataclasses import replace

import pytest
from reference_support import HEAP, MIB, STAT_ALL, Box, HotTruth, TimedTruth, with_quota

from damon_tests.damon.params import (
    ANY,
    DamonTarget,
    Damos,
    DamosFilter,
    DamosQuotaGoal,
)
from damon_tests.ports import NSEC_PER_SEC, huge_page_size, page_size

PAGE = page_size()
SECOND = (HEAP + 64 * MIB, HEAP + 72 * MIB)


def tried(box, seconds):
    """(start, end) of what is tried, in MiB from HEAP."""
    tries = []
    for event in box.record(seconds, "damos_before_apply"):
        start, end = event.text.split()[4].rstrip(":").split("-")
        tries.append(((int(start) - HEAP) / MIB, (int(end) - HEAP) / MIB))
    return tries


def test_a_request_for_tried_regions_ends_when_nothing_matches():
    """6 and 7"""
    box = Box(8 * MIB)
    nothing = replace(STAT_ALL, access_pattern=replace(ANY, nr_accesses_min=200))
    box.start(box.fvaddr(schemes=(nothing,)))
    box.run(0.101)
    pending = box.tree.begin_write(box.path("state"), "update_schemes_tried_regions")
    pending.result(NSEC_PER_SEC)
    assert box.read("contexts/0/schemes/0/tried_regions/total_bytes") == "0"


@pytest.mark.parametrize("apply_us", [1, 4_999])
def test_an_apply_interval_of_less_than_a_sample_is_one_sample(apply_us):
    """11"""
    box = Box(8 * MIB)
    box.start(box.fvaddr(schemes=(replace(STAT_ALL, apply_interval_us=apply_us),)))
    box.run(1.001)
    assert box.client.stats(0, 0).nr_snapshots == 200


def test_quotas_go_on_when_their_target_is_removed():
    """15"""
    box = Box(8 * MIB)
    other = box.system.add_process([SECOND], HotTruth([SECOND]))
    targets = (DamonTarget(box.pid, ((HEAP, HEAP + 8 * MIB),)), DamonTarget(other, (SECOND,)))
    ctx = box.fvaddr(schemes=(with_quota(bytes=9 * MIB, reset_interval_ms=100),))
    box.start(replace(ctx, targets=targets))
    box.run(0.101)
    box.commit(replace(ctx, targets=targets[:1]))
    assert sum(end - start for start, end in tried(box, 0.1)) == 8


def test_the_node_of_a_goal_survives_a_commit():
    """26"""
    box = Box(8 * MIB, ram_bytes=max(64 * MIB, 4 * huge_page_size()), nr_nodes=2)
    goal = DamosQuotaGoal("node_eligible_mem_bp", target_value=10_000, nid=1)
    ram = DamonTarget(0, tuple(box.system.ram_ranges())[1:])
    scheme = with_quota(goals=(goal,), reset_interval_ms=100)
    ctx = box.ctx(operations="paddr", targets=(ram,), schemes=(scheme,))
    box.start(ctx)
    box.run(0.301)
    box.command("commit")
    before = box.core().schemes[0].quota.effective_bp
    box.run(0.2)
    # Nothing is on node 1: the quota doubles in each window. All of it is on node 0.
    assert box.core().schemes[0].quota.effective_bp == 4 * before


@pytest.mark.parametrize("operations", ["fvaddr", "paddr"])
def test_walks_that_begin_within_a_huge_page_miss_nothing(operations):
    """25: the huge page, of which the region has a part, and all small ones behind it."""
    box = Box(40 * MIB, ram_bytes=64 * MIB)
    memory = box.system.memory
    memory.place()
    process = memory.processes[box.pid]
    blocks = process.table[:, 0].tolist()
    row = next(row for row, frame in enumerate(blocks) if frame + 512 in blocks)
    start = HEAP + row * 2 * MIB
    memory.make_huge(process, [(start, start + 2 * MIB)])
    if operations == "paddr":
        start = blocks[row] * PAGE
    # Two more ranges of the same size, with nothing in them, so that the limit of sizes cuts none.
    ranges = tuple((at, at + 3 * MIB) for at in (start + MIB, HEAP + (1 << 30), HEAP + (2 << 30)))
    target = DamonTarget(0 if operations == "paddr" else box.pid, ranges)
    anonymous = DamosFilter("anon", True, True)
    scheme = replace(STAT_ALL, ops_filters=(anonymous,), max_nr_snapshots=1)
    box.start(box.ctx(operations=operations, targets=(target,), schemes=(scheme,), min_nr_regions=3))
    box.run(0.101)
    assert box.client.stats(0, 0).sz_ops_filter_passed == 4 * MIB


def test_what_finds_no_room_on_a_node_is_not_moved():
    """29"""
    box = Box(40 * MIB, ram_bytes=128 * MIB, nr_nodes=2)
    box.system.add_process([(HEAP, HEAP + 60 * MIB)], HotTruth([(HEAP, HEAP + 60 * MIB)]))
    memory = box.system.memory
    memory.place()
    process = memory.processes[box.pid]
    before = process.table.copy()
    scheme = Damos(action="migrate_cold", access_pattern=ANY, target_nid=1, max_nr_snapshots=1)
    box.start(box.fvaddr(schemes=(scheme,)))
    box.run(0.101)
    moved = process.table != before
    assert 0 < moved.sum() < before.size
    assert set(memory.node_of(process.table[moved]).tolist()) == {1}
    assert box.client.stats(0, 0).sz_applied == moved.sum() * PAGE


@pytest.mark.parametrize("refresh", [(100, 10_000), (10_000, 100)])
def test_each_kdamond_refreshes_in_its_own_time(refresh):
    """28"""
    box = Box(8 * MIB)
    ctx = box.fvaddr(schemes=(STAT_ALL,))
    box.start(ctx, ctx)
    for index, ms in enumerate(refresh):
        box.tree.write(box.path("refresh_ms", index), str(ms))
    box.run(10.1)
    tries = [int(box.read("contexts/0/schemes/0/stats/nr_tried", index)) for index in range(2)]
    assert all(tries), "the slow one's first time has come just now"


def test_a_region_across_the_seam_of_ranges_keeps_its_results():
    """33"""
    box = Box(8 * MIB, [(HEAP, HEAP + 8 * MIB)])
    box.start(box.fvaddr(min_nr_regions=3, max_nr_regions=3))
    box.run(1.001)
    before = box.core().regions.ranges(), box.core().regions.age.tolist()
    assert min(before[1]) >= 8
    seam = before[0][1][0] + MIB
    box.commit(box.fvaddr([(HEAP, seam), (seam, HEAP + 8 * MIB)], min_nr_regions=3, max_nr_regions=3))
    assert (box.core().regions.ranges(), box.core().regions.age.tolist()) == before


# Found with this suite


def test_a_commit_does_not_renew_the_quota():
    box = Box(8 * MIB)
    ctx = box.fvaddr(schemes=(with_quota(bytes=MIB, reset_interval_ms=10_000),))
    box.start(ctx)
    box.run(0.301)
    for _ in range(3):
        box.command("commit")
        box.run(0.2)
    assert box.client.stats(0, 0).sz_tried == MIB


def test_the_first_window_has_a_quota():
    box = Box(8 * MIB)
    box.start(box.fvaddr(schemes=(with_quota(bytes=MIB, reset_interval_ms=10_000),)))
    assert sum(end - start for start, end in tried(box, 0.501)) == 1


def test_the_rest_of_a_split_is_visited_in_the_same_pass():
    """By every scheme: the quota of the first cuts a region, the second sees both parts."""
    box = Box(9 * MIB)
    schemes = (with_quota(bytes=MIB, reset_interval_ms=10_000), STAT_ALL)
    box.start(box.fvaddr(schemes=schemes, min_nr_regions=3, max_nr_regions=3))
    box.run(0.101)
    stats = [box.client.stats(0, index) for index in range(2)]
    assert [s.sz_tried for s in stats] == [MIB, 9 * MIB]


def test_what_an_address_filter_cut_off_is_not_counted():
    box = Box(8 * MIB)
    within = DamosFilter("addr", True, True, addr_start=HEAP + MIB, addr_end=HEAP + 7 * MIB)
    box.start(box.fvaddr(schemes=(replace(STAT_ALL, core_filters=(within,), max_nr_snapshots=1),)))
    assert sum(end - start for start, end in tried(box, 0.101)) == 6
    assert box.client.stats(0, 0).sz_tried == 6 * MIB


def test_memory_that_core_filters_reject_needs_no_quota():
    """The coldest memory is rejected: the quota is for the rest, although that is not as cold."""
    box = Box(8 * MIB, [(HEAP + 4 * MIB, HEAP + 8 * MIB)])
    hot_only = DamosFilter("addr", True, False, addr_start=HEAP, addr_end=HEAP + 4 * MIB)
    scheme = replace(with_quota(bytes=MIB), core_filters=(hot_only,), action="pageout")
    weighed = replace(scheme.quota, weight_nr_accesses_permil=1, weight_age_permil=1)
    box.start(box.fvaddr(schemes=(replace(scheme, quota=weighed),), min_nr_regions=8))
    box.run(2.001)
    assert box.client.stats(0, 0).sz_tried == 2 * MIB


def test_priorities_are_by_the_frequency_that_users_see():
    """The lower half is touched all the time, the upper one in the first half of each window: in a quarter of
    it both were found equally often, but the last window counts, too."""
    box = Box(8 * MIB)
    low, high = (HEAP, HEAP + 4 * MIB), (HEAP + 4 * MIB, HEAP + 8 * MIB)
    begin = box.clock.now_ns()
    halves = TimedTruth(
        [(low[0], high[1])], lambda t0, t1: [low, high] if (t0 - begin) // 50_000_000 % 2 == 0 else [low]
    )
    pid = box.system.add_process([(low[0], high[1])], halves)
    quota = replace(with_quota(bytes=MIB, reset_interval_ms=100).quota, weight_nr_accesses_permil=1)
    scheme = Damos("pageout", ANY, apply_interval_us=25_000, quota=quota)
    ctx = box.fvaddr(schemes=(scheme,), min_nr_regions=8)
    box.start(replace(ctx, targets=(DamonTarget(pid, ((low[0], high[1]),)),)))
    box.run(0.501)
    regions = tried(box, 1)
    assert sum(end - start for start, end in regions) == 10
    assert all(start >= 4 for start, _ in regions)
