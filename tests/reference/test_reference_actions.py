# SPDX-License-Identifier: GPL-2.0
"""Actions, page filters, goal metrics and probes: what they do to the memory model."""

from __future__ import annotations

import errno
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from reference_support import HEAP, MIB, STAT_ALL, Box, HotTruth, TimedTruth, esz_values, heap, with_quota

from damon_tests.damon.params import (
    ANY,
    U32_MAX,
    U64_MAX,
    DamonProbe,
    DamonProbeFilter,
    DamonTarget,
    Damos,
    DamosAccessPattern,
    DamosDest,
    DamosFilter,
    DamosQuota,
    DamosQuotaGoal,
)
from damon_tests.experiment.simulated_memory import simulated_pages
from damon_tests.ports import TreeError, huge_page_size, page_size
from damon_tests.reference.faults.catalogue import fault
from damon_tests.reference.rules.ruleset import Rules

PAGE = page_size()
HUGE = huge_page_size()


# Actions and their effects

COLD = DamosAccessPattern(0, U64_MAX, 0, 0, 5, U32_MAX)


def resident(box):
    box.system.memory.settle_all(box.clock.now_ns())
    return box.system.memory.used_pages() * PAGE


def paddr(box, *schemes, **fields):
    ram = tuple(box.system.ram_ranges())[1:]
    return box.ctx(operations="paddr", targets=(DamonTarget(0, ram),), schemes=schemes, **fields)


def test_pageout_of_cold_memory_frees_it():
    box = Box(16 * MIB, [(HEAP, HEAP + 4 * MIB)])
    assert resident(box) == 16 * MIB
    box.start(box.fvaddr(schemes=(Damos(action="pageout", access_pattern=COLD),)))
    box.run(5)
    assert 4 * MIB <= resident(box) < 5 * MIB
    stats = box.client.stats(0, 0)
    assert stats.sz_applied == stats.sz_tried > 0
    assert stats.sz_ops_filter_passed == 0


def test_paged_out_memory_comes_back_when_touched():
    box = Box(16 * MIB)

    def hot(t0, t1):
        return [(HEAP, HEAP + 16 * MIB)] if t1 > 4_000_000_000 else []

    pid = box.system.add_process(heap(16 * MIB), TimedTruth([(HEAP, HEAP + 16 * MIB)], hot))
    once = Damos(action="pageout", access_pattern=COLD)
    target = DamonTarget(pid, ((HEAP, HEAP + 16 * MIB),))
    box.start(replace(box.fvaddr(schemes=(once,)), targets=(target,)))
    box.run(2)
    assert resident(box) == 16 * MIB  # the other process's
    box.run(2)
    assert resident(box) == 32 * MIB


def test_actions_reset_age_and_stat_does_not():
    """I31, and I51: a later scheme of the same pass sees age 0."""
    young = DamosAccessPattern(0, U64_MAX, 0, U32_MAX, 0, 0)
    box = Box(8 * MIB)
    cold = Damos(action="cold", access_pattern=replace(ANY, age_min=3))
    box.start(box.fvaddr(schemes=(cold, Damos(access_pattern=young))))
    ages = [int(s.age.max()) for s in box.snapshots(1)]
    assert ages == [1, 2, 0, 1, 2, 0, 1, 2, 0, 1]
    assert box.client.stats(0, 1).nr_tried == box.client.stats(0, 0).nr_tried


def test_madvise_counts_nothing_where_a_hole_is():
    """It still works on what is mapped."""
    box = Box(8 * MIB)
    ranges = [(HEAP - MIB, HEAP + 8 * MIB)]
    scheme = Damos(action="pageout", access_pattern=ANY)
    box.start(box.fvaddr(ranges=ranges, schemes=(scheme,), min_nr_regions=3, max_nr_regions=3))
    box.run(0.101)
    stats = box.client.stats(0, 0)
    assert stats.sz_tried == 9 * MIB
    assert stats.sz_applied == 6 * MIB
    assert resident(box) == 0


def test_unsupported_action_is_tried_but_does_nothing():
    """Quirk Q14."""
    box = Box(8 * MIB)
    box.start(box.fvaddr(schemes=(Damos(action="lru_prio", access_pattern=ANY),)))
    box.run(1)
    stats = box.client.stats(0, 0)
    assert stats.nr_tried > 0
    assert stats.nr_applied == 0
    assert int(box.core().regions.age.max()) <= 1


def test_lru_actions_move_pages_between_lists():
    hot = [(HEAP, HEAP + 8 * MIB)]
    box = Box(32 * MIB, hot, ram_bytes=128 * MIB)
    scheme = Damos(action="lru_prio", access_pattern=DamosAccessPattern(0, U64_MAX, 10, 20, 0, U32_MAX))
    box.start(paddr(box, scheme, min_nr_regions=60))
    box.run(10)
    memory = box.system.memory
    assert 6 * MIB < memory.lru_pages(active=True) * PAGE < 14 * MIB
    box.commit(paddr(box, replace(scheme, action="lru_deprio"), min_nr_regions=60))
    box.run(1)
    assert memory.lru_pages(active=True) * PAGE < 4 * MIB


def test_lru_prio_took_two_steps_before_7_0():
    counts = {}
    for level in ("7.0", "6.19"):
        box = Box(8 * MIB, level=level, ram_bytes=32 * MIB)
        scheme = Damos(action="lru_prio", access_pattern=ANY)
        box.start(paddr(box, scheme))
        box.run(0.101)
        first = box.system.memory.lru_pages(active=True)
        box.run(0.1)
        counts[level] = (first > 0, box.system.memory.lru_pages(active=True) > 0)
    assert counts == {"7.0": (True, True), "6.19": (False, True)}


def nodes_of(box, pid, size):
    frames = box.system.memory.processes[pid].frames_of(np.arange(HEAP // PAGE, (HEAP + size) // PAGE))
    return np.bincount(box.system.memory.node_of(frames), minlength=2).tolist()


def test_migration_goes_to_the_target_node_and_nowhere_else():
    for nid, expected in ((1, [0, 2048]), (0, [2048, 0]), (7, [2048, 0]), (-1, [2048, 0])):
        box = Box(8 * MIB, ram_bytes=128 * MIB, nr_nodes=2)
        scheme = Damos(action="migrate_cold", access_pattern=ANY, target_nid=nid)
        box.start(box.fvaddr(schemes=(scheme,)))
        box.run(0.5)
        assert nodes_of(box, box.pid, 8 * MIB) == expected
        assert box.client.stats(0, 0).sz_applied == (8 * MIB if nid == 1 else 0)


def test_what_cannot_move_is_put_back():
    for fault_name, lost in (("", 0), ("migrate_loses_pages", 2048)):
        rules = fault(fault_name).apply(Rules()) if fault_name else None
        box = Box(8 * MIB, ram_bytes=128 * MIB, nr_nodes=2, rules=rules)
        box.start(box.fvaddr(schemes=(Damos(action="migrate_cold", access_pattern=ANY, target_nid=7),)))
        box.run(0.5)
        assert int(box.system.memory.isolated.sum()) == lost
        pages = simulated_pages(box.system, box.pid, HEAP, HEAP + 8 * MIB)
        assert int((~pages.lru).sum()) == lost


def test_migration_is_by_weights():
    """I60: the page index decides, with a period of the sum of weights."""
    box = Box(8 * MIB, ram_bytes=128 * MIB, nr_nodes=2)
    scheme = Damos(action="migrate_hot", access_pattern=ANY, dests=(DamosDest(0, 3), DamosDest(1, 1)))
    box.start(box.fvaddr(schemes=(scheme,)))
    box.run(0.5)
    assert nodes_of(box, box.pid, 8 * MIB) == [1536, 512]


def test_migration_to_a_full_node_stops_there():
    box = Box(40 * MIB, ram_bytes=128 * MIB, nr_nodes=2)
    box.system.add_process([(HEAP, HEAP + 60 * MIB)], HotTruth([(HEAP, HEAP + 60 * MIB)]))
    scheme = Damos(action="migrate_cold", access_pattern=ANY, target_nid=1)
    box.start(box.fvaddr(schemes=(scheme,)))
    box.run(1)
    assert box.client.stats(0, 0).sz_applied < 40 * MIB
    assert sum(nodes_of(box, box.pid, 40 * MIB)) == 40 * MIB // PAGE


def test_hugepage_action_makes_one_accessed_bit_of_2_mib():
    box = Box(8 * MIB, [(HEAP, HEAP + PAGE)])
    scheme = Damos(action="collapse", access_pattern=ANY, max_nr_snapshots=1)
    box.start(box.fvaddr(schemes=(scheme,), min_nr_regions=3, max_nr_regions=1000))
    box.run(0.101)
    assert box.system.memory.processes[box.pid].huge.sum() >= 2
    snap = box.snapshots(5)[-1]
    hot = int(snap.sizes[snap.nr_accesses > 10].sum())
    assert 1.5 * MIB < hot < 3 * MIB


def huge_blocks(box):
    box.system.memory.settle_all(box.clock.now_ns())
    process = box.system.memory.processes[box.pid]
    return [(int(page) * PAGE - HEAP) // (2 * MIB) for page in process.rows[process.huge]]


def test_huge_pages_come_where_they_were_advised_last():
    box = Box(16 * MIB)
    part = DamosFilter("addr", True, False, addr_start=HEAP + 6 * MIB, addr_end=HEAP + 16 * MIB)
    rest = DamosFilter("addr", True, False, addr_start=0, addr_end=HEAP + 6 * MIB)
    low = Damos(action="nohugepage", access_pattern=ANY, filters=(part,))
    high = Damos(action="hugepage", access_pattern=ANY, filters=(rest,))
    everywhere = Damos(action="hugepage", access_pattern=ANY)
    box.start(box.fvaddr(schemes=(everywhere, low, high)))
    box.run(0.3)
    aligned = -(-HEAP // (2 * MIB)) * 2 * MIB
    first = (aligned - HEAP) // (2 * MIB)
    blocks = huge_blocks(box)
    assert blocks
    assert all(block >= 3 for block in blocks)
    assert len(blocks) >= 4 + first


def test_what_is_in_swap_is_not_made_huge_until_it_is_back():
    back_at = 2_000_000_000
    everything = [(HEAP, HEAP + 8 * MIB)]
    box = Box(8 * MIB)
    pid = box.system.add_process(
        heap(8 * MIB), TimedTruth(everything, lambda t0, t1: everything if t1 > back_at else [])
    )
    box.pid = pid
    once = Damos(action="pageout", access_pattern=ANY, max_nr_snapshots=1)
    schemes = (once, Damos(action="hugepage", access_pattern=ANY))
    box.start(replace(box.fvaddr(schemes=schemes), targets=(DamonTarget(pid, tuple(everything)),)))
    box.run(0.9)
    assert huge_blocks(box) == []
    box.run(3)
    assert huge_blocks(box)


# Filters of the operations layer


def test_stat_counts_what_the_page_filters_let_through():
    hot = [(HEAP, HEAP + HUGE)]
    for filters, expected in (
        ((), 0),
        ((DamosFilter("anon", True, True),), 3 * HUGE),
        ((DamosFilter("anon", True, False),), HUGE),
        ((DamosFilter("anon", False, True),), HUGE),
        ((DamosFilter("memcg", True, True, memcg_path="/a"),), 4 * HUGE),
        ((DamosFilter("memcg", True, True, memcg_path="/"),), 0),
        ((DamosFilter("unmapped", True, True),), 0),
        ((DamosFilter("hugepage_size", True, True, min=HUGE, max=U64_MAX),), 2 * HUGE),
        ((DamosFilter("active", True, False),), 4 * HUGE),
    ):
        box = Box(4 * HUGE, ram_bytes=16 * HUGE)
        file, huge = (HEAP, HEAP + HUGE), (HEAP + 2 * HUGE, HEAP + 4 * HUGE)
        truth = HotTruth([(HEAP, HEAP + 4 * HUGE)], hot)
        pid = box.system.add_process(heap(4 * HUGE), truth, memcg="/a", file=[file], huge=[huge])
        box.system.remove_process(box.pid)
        scheme = replace(STAT_ALL, ops_filters=filters, max_nr_snapshots=1)
        target = DamonTarget(pid, ((HEAP, HEAP + 4 * HUGE),))
        box.start(replace(box.fvaddr(schemes=(scheme,), min_nr_regions=3), targets=(target,)))
        box.run(0.101)
        assert box.client.stats(0, 0).sz_ops_filter_passed == expected, filters


def test_young_filter_sees_what_was_touched_since_it_asked():
    box = Box(8 * MIB, [(HEAP, HEAP + 2 * MIB)], ram_bytes=32 * MIB)
    scheme = replace(STAT_ALL, ops_filters=(DamosFilter("young", True, True),))
    box.start(paddr(box, scheme))
    box.run(0.101)
    first = box.client.stats(0, 0).sz_ops_filter_passed
    assert 7 * MIB < first <= 8 * MIB  # everything was touched when it was populated
    box.run(0.1)
    assert box.client.stats(0, 0).sz_ops_filter_passed - first == 2 * MIB


def test_paddr_pageout_spares_young_pages():
    box = Box(8 * MIB, [(HEAP, HEAP + 4 * MIB)], ram_bytes=32 * MIB)
    scheme = Damos(action="pageout", access_pattern=ANY)
    box.start(paddr(box, scheme))
    box.run(2)
    assert resident(box) == 4 * MIB


def test_core_allow_makes_page_filters_void():
    """Also the filter that pageout adds on its own (quirk Q12)."""
    box = Box(8 * MIB, [(HEAP, HEAP + 8 * MIB)], ram_bytes=32 * MIB)
    allow = DamosFilter("target", True, True, damon_target_idx=0)
    scheme = Damos(action="pageout", access_pattern=ANY, core_filters=(allow,), max_nr_snapshots=1)
    box.start(paddr(box, scheme))
    box.run(0.101)
    assert box.client.stats(0, 0).sz_applied == 8 * MIB


def test_page_filters_decide_alone_on_what_core_filters_let_through():
    """An address filter that rejects what is outside of a range says nothing about pages inside (§4.8)."""
    box = Box(8 * MIB, [(HEAP, HEAP + 8 * MIB)], ram_bytes=32 * MIB)
    outside = DamosFilter("addr", False, False, addr_start=0, addr_end=32 * MIB)
    files = DamosFilter("anon", False, False)
    scheme = Damos(action="lru_deprio", access_pattern=ANY, filters=(outside, files), max_nr_snapshots=1)
    box.start(paddr(box, scheme))
    box.run(0.101)
    assert box.client.stats(0, 0).sz_applied == 8 * MIB


# Goals over the memory model


@pytest.mark.parametrize(
    ("goal", "expected"),
    [
        (DamosQuotaGoal("node_mem_used_bp", nid=0), 5000),
        (DamosQuotaGoal("node_mem_free_bp", nid=0), 5000),
        (DamosQuotaGoal("node_mem_used_bp", nid=9), 0),
        (DamosQuotaGoal("node_mem_free_bp", nid=9), 10_000),
        (DamosQuotaGoal("node_memcg_used_bp", nid=0, path="/"), 5000),
        (DamosQuotaGoal("node_memcg_free_bp", nid=0, path="/\n"), 5000),
        (DamosQuotaGoal("active_mem_bp"), 0),
        (DamosQuotaGoal("inactive_mem_bp"), 10_000),
        (DamosQuotaGoal("node_eligible_mem_bp", nid=0), 10_000),
        (DamosQuotaGoal("node_eligible_mem_bp", nid=1), 0),
        (DamosQuotaGoal("user_input", current_value=77), 77),
    ],
)
def test_goal_metrics_read_what_they_name(goal, expected):
    from damon_tests.reference.core.goals import achievements

    box = Box(32 * MIB, ram_bytes=64 * MIB)
    box.start(paddr(box, replace(STAT_ALL, quota=DamosQuota(goals=(replace(goal, target_value=1),)))))
    box.run(0.5)
    core = box.core()
    ((current, target),) = achievements(core, core.schemes[0], box.system.memory, box.clock.now_ns())
    assert target == 1
    assert abs(current - expected) <= (60 if expected == 5000 else 0)


def test_a_goal_of_a_memory_control_group_that_is_not_there():
    goal = DamosQuotaGoal("node_memcg_used_bp", target_value=1, path="/nothing")
    box = Box(8 * MIB)
    with pytest.raises(TreeError) as refused:
        box.start(paddr(box, replace(STAT_ALL, quota=DamosQuota(goals=(goal,)))))
    assert refused.value.errno == errno.ENOMEM
    # A goal without a target value is none.
    box.start(paddr(box, replace(STAT_ALL, quota=DamosQuota(goals=(replace(goal, target_value=0),)))))


def test_pressure_goal_is_neutral_at_first_and_then_counts_increases():
    goal = DamosQuotaGoal("some_mem_psi_us", target_value=1000)
    box = Box(8 * MIB)
    box.start(box.fvaddr(schemes=(with_quota(goals=(goal,), reset_interval_ms=100),)))
    assert esz_values(box, 0.101) == [1]
    box.system.memory.psi_some_us += 500
    assert esz_values(box, 0.1) == []  # 1 byte and a half is 1 byte
    assert box.core().schemes[0].quota.effective_bp == 15_000


# Probes


def test_probes_count_attributes():
    """I28: a probe without filters hits at every sample."""
    box = Box(16 * MIB, ram_bytes=32 * MIB)
    anon = DamonProbe(filters=(DamonProbeFilter("anon", True, True),))
    box.start(paddr(box, STAT_ALL, probes=(DamonProbe(), anon)))
    events = box.record(0.301, "damon_region_aggregated")
    assert events
    for event in events:
        assert event.text.split("probe_hits=")[1].split()[0] == "14"
    tried_regions = box.client.tried_regions(0, 0)
    hits = tried_regions.regions.probe_hits
    assert hits is not None
    assert (hits[:, 0] == 20).all()
    present = hits[:, 1].astype(float) @ tried_regions.regions.sizes / 20
    assert 12 * MIB < present < 20 * MIB


def test_weights_replace_access_monitoring():
    """I26: accesses are not checked any more; regions follow the attribute instead."""
    box = Box(16 * MIB, [(HEAP, HEAP + 16 * MIB)], ram_bytes=32 * MIB)
    anon = DamonProbe(weight=1, filters=(DamonProbeFilter("anon", True, True),))
    box.start(paddr(box, probes=(anon,)))
    events = box.record(5, "damon_region_aggregated")
    last = [e.text for e in events if e.time_ns == events[-1].time_ns]
    hits = [int(text.split("probe_hits=")[1], 16) for text in last]
    assert {text.split()[3] for text in last} == {"0"}
    assert max(hits) == 20
    assert min(hits) == 0


def test_any_weighted_probe_replaces_access_monitoring():
    box = Box(16 * MIB, [(HEAP, HEAP + 16 * MIB)], ram_bytes=32 * MIB)
    box.start(paddr(box, probes=(DamonProbe(), DamonProbe(weight=3))))
    assert {int(s.nr_accesses.max()) for s in box.snapshots(1)} == {0}


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 99),
    low=st.integers(3, 60),
    nr_min=st.integers(0, 20),
    age_max=st.sampled_from([0, 3, U32_MAX]),
    apply_ms=st.sampled_from([15, 100, 250]),
)
def test_watching_at_once_equals_the_walk(seed, low, nr_min, age_max, apply_ms):
    """Schemes that change nothing are applied to all regions at once, unless each one is traced."""
    pattern = DamosAccessPattern(0, U64_MAX, nr_min, 20, 0, age_max)
    schemes = (Damos(access_pattern=pattern, apply_interval_us=apply_ms * 1000), STAT_ALL)

    def run(traced):
        box = Box(16 * MIB, [(HEAP + MIB, HEAP + 6 * MIB)], seed=seed)
        if traced:
            box.events.open(["damos_before_apply"])
        box.start(box.fvaddr(schemes=schemes, min_nr_regions=low, max_nr_regions=100))
        texts = [event.text for event in box.record(1.5)]
        tried_regions = [box.client.tried_regions(0, i).regions for i in range(2)]
        tables = [np.column_stack([r.start, r.end, r.nr_accesses, r.age]).tolist() for r in tried_regions]
        charged = [scheme.quota.charged_sz for scheme in box.core().schemes]
        return texts, [box.client.stats(0, i) for i in range(2)], tables, charged

    assert run(False) == run(True)
