# SPDX-License-Identifier: GPL-2.0
"""Changing a running kdamond: commits, pause, tuning; and schemes that only count."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest
from reference_support import HEAP, MIB, STAT_ALL, Box, HotTruth, TimedTruth, heap, with_quota

from damon_tests.damon.params import (
    DamonIntervalsGoal,
    DamonProbe,
    DamonTarget,
    Damos,
    DamosAccessPattern,
    DamosFilter,
    DamosQuota,
    DamosQuotaGoal,
    DamosWatermarks,
    Kdamond,
)
from damon_tests.ports import NSEC_PER_SEC, TreeError, page_size
from damon_tests.reference.machine.tlb import Tlb

PAGE = page_size()
GOAL_ONLINE = DamonIntervalsGoal(access_bp=400, aggrs=3, min_sample_us=4_000, max_sample_us=40_000)
NEVER_ACHIEVED = DamosQuotaGoal("user_input", target_value=10_000)


def test_noop_commit_changes_nothing():
    """I62: two runs of one seed, one with commits in the middle of windows, are the same."""

    def run(commits):
        box = Box(8 * MIB, [(HEAP, HEAP + MIB)])
        box.start(box.fvaddr(schemes=(STAT_ALL,)))
        stream = box.events.open(["damon_aggregated"])
        for _ in range(10):
            box.run(0.0625)
            if commits:
                began = box.clock.now_ns()
                box.command("commit")
                box.clock.run_until(began + 5_000_000)
            else:
                box.run(0.005)
        box.clock.run_until(3_000_000_000)
        return list(stream.read())

    assert run(True) == run(False)


def test_written_attributes_wait_for_a_commit():
    """I68: files are only read by commands."""
    box = Box()
    box.start(box.fvaddr())
    box.client.restage([Kdamond(box.fvaddr(aggr_us=500_000))])
    assert len(box.snapshots(1)) == 10


def test_commit_is_served_after_the_next_sample():
    box = Box()
    box.start(box.fvaddr(sample_us=50_000, aggr_us=1_000_000))
    box.run(0.060)
    began = box.clock.now_ns()
    box.command("commit")
    assert box.clock.now_ns() - began == 40_000_000


def test_interval_commit_rescales():
    box = Box(8 * MIB, [(HEAP, HEAP + 8 * MIB)])
    box.start(box.fvaddr())
    box.run(1.002)
    core = box.core()
    assert set(core.regions.last_nr_accesses.tolist()) == {20}
    ages = core.regions.age.tolist()
    box.commit(box.fvaddr(sample_us=5_000, aggr_us=500_000))
    assert set(core.regions.last_nr_accesses.tolist()) == {100}
    assert core.regions.nr_accesses.tolist() == [0] * len(core.regions)
    assert core.regions.age.tolist() == [age // 5 for age in ages]
    assert core.next_aggr == core.passed + 100


def test_commit_of_regions_keeps_counters_of_survivors():
    box = Box(8 * MIB, [(HEAP, HEAP + 8 * MIB)])
    box.start(box.fvaddr())
    box.run(1.001)
    box.commit(box.fvaddr(ranges=[(HEAP, HEAP + 4 * MIB), (HEAP + 4 * MIB, HEAP + 8 * MIB)]))
    assert box.core().regions.age.min() > 5
    box.commit(box.fvaddr(ranges=[(HEAP, HEAP + 4 * MIB)]))
    assert int(box.core().regions.end[-1]) == HEAP + 4 * MIB


def test_refused_commit_leaves_the_kdamond_running():
    box = Box()
    box.start(box.fvaddr())
    box.run(0.5)
    bad = box.fvaddr(min_nr_regions=2, schemes=(STAT_ALL,))
    box.client.restage([replace(box.client.staged()[0], ctx=bad)])
    with pytest.raises(TreeError, match="EINVAL"):
        box.command("commit")
    assert box.read("state") == "on"
    assert box.core().attrs.min_nr_regions == 10
    assert box.core().schemes == []


def test_commit_changes_targets_by_index():
    box = Box(8 * MIB)
    pid = box.system.add_process(heap(4 * MIB), HotTruth([(HEAP, HEAP + 4 * MIB)]))
    first = DamonTarget(box.pid, ((HEAP, HEAP + 8 * MIB),))
    second = DamonTarget(pid, ((HEAP, HEAP + 4 * MIB),))
    box.start(box.fvaddr())
    box.commit(replace(box.fvaddr(), targets=(first, second)))
    assert [s.target_idx for s in box.snapshots(0.2)][-2:] == [0, 1]
    box.commit(replace(box.fvaddr(), targets=(replace(first, obsolete_target=True), second)))
    assert [t.pid for t in box.core().targets] == [pid]
    assert {int(s.sizes.sum()) for s in box.snapshots(0.2)} == {4 * MIB}


def test_commit_without_targets_ends_vaddr_but_not_paddr():
    box = Box()
    box.start(box.ctx())
    box.commit(box.ctx(targets=()))
    box.run(0.1)
    assert box.read("state") == "off"
    box.start(box.ctx(operations="paddr", targets=(DamonTarget(),)))
    box.commit(box.ctx(operations="paddr", targets=()))
    box.run(0.1)
    assert box.read("state") == "on"


OTHER_SCHEME = Damos(
    "cold",
    DamosAccessPattern(1, 1 << 40, 2, 19, 3, 40),
    apply_interval_us=200_000,
    quota=DamosQuota(ms=7, bytes=8 * MIB, reset_interval_ms=300),
    watermarks=DamosWatermarks("free_mem_rate", 20_000, 999, 998, 1),
    core_filters=(DamosFilter("addr", addr_end=PAGE),),
    filters=(DamosFilter("target", damon_target_idx=3),),
    max_nr_snapshots=1_000,
)


def test_commit_installs_all_parameters_of_running_and_new_schemes():
    box = Box()
    box.start(box.fvaddr(schemes=(STAT_ALL,)))
    box.run(0.3)
    ctx = box.fvaddr(
        schemes=(OTHER_SCHEME, OTHER_SCHEME),
        sample_us=4_000,
        aggr_us=80_000,
        update_us=500_000,
        min_nr_regions=20,
        max_nr_regions=200,
        intervals_goal=GOAL_ONLINE,
    )
    box.commit(ctx)
    assert [scheme.params for scheme in box.core().schemes] == [OTHER_SCHEME, OTHER_SCHEME]
    assert box.core().attrs == ctx.attrs


@pytest.mark.parametrize("removed", [{"bytes": MIB}, {"ms": 1}, {"goals": (NEVER_ACHIEVED,)}])
def test_removed_quota_is_no_limit(removed):
    """Without quota the next window's size is 0, no limit: each pass tries all memory."""
    box = Box()
    box.start(box.fvaddr(schemes=(with_quota(reset_interval_ms=500, **removed),)))
    box.run(2)
    box.commit(box.fvaddr(schemes=(with_quota(reset_interval_ms=500),)))
    box.run(0.6)
    before = box.client.stats(0, 0).sz_tried
    box.run(1)
    assert box.client.stats(0, 0).sz_tried - before == 10 * 64 * MIB
    assert box.client.effective_bytes(0, 0) == 0


def test_pause_freezes_everything_but_requests():
    box = Box()
    box.start(box.fvaddr(schemes=(STAT_ALL,)))
    box.run(1)
    box.commit(box.fvaddr(schemes=(STAT_ALL,), pause=True))
    passed = box.core().passed
    assert box.record(1) == []
    assert box.core().passed == passed
    before = box.client.stats(0, 0)
    box.run(1)
    assert box.client.stats(0, 0) == before
    with pytest.raises(TreeError, match="ECANCELED"):
        box.command("update_schemes_tried_regions")
    box.commit(box.fvaddr(schemes=(STAT_ALL,)))
    assert len(box.snapshots(1)) == 10


# Automatic intervals

GOAL = DamonIntervalsGoal(access_bp=400, aggrs=3, min_sample_us=5_000, max_sample_us=10_000_000)


def test_tuning_doubles_intervals_of_idle_memory():
    box = Box()
    box.start(box.fvaddr(intervals_goal=GOAL))
    events = box.record(60, "damon_monitor_intervals_tune")
    samples = [int(event.text.removeprefix("sample_us=")) for event in events]
    assert samples[:6] == [10_000, 20_000, 40_000, 80_000, 160_000, 320_000]
    box.command("update_tuned_intervals")
    sample, aggr = box.client.tuned_intervals(0)
    assert (sample, aggr) == (samples[-1], 20 * samples[-1])


def test_tuning_halves_and_stays_within_its_range():
    box = Box(8 * MIB, [(HEAP, HEAP + 8 * MIB)])
    goal = replace(GOAL, max_sample_us=80_000)
    box.start(box.fvaddr(sample_us=80_000, aggr_us=1_600_000, intervals_goal=goal))
    events = box.record(30, "damon_monitor_intervals_tune")
    assert [e.text for e in events[:5]] == [
        f"sample_us={us}" for us in (40_000, 20_000, 10_000, 5_000, 5_000)
    ]


def _passes_while_tuned(goal: DamonIntervalsGoal, seconds: float) -> int:
    """Return how often a scheme with an apply interval of a second is applied while intervals are tuned."""
    scheme = replace(STAT_ALL, apply_interval_us=1_000_000)
    box = Box()
    box.start(box.fvaddr(intervals_goal=goal, schemes=(scheme,)))
    box.run(seconds)
    return box.client.stats(0, 0).nr_snapshots


def test_tuning_keeps_apply_intervals():
    """A scheme is applied once a second although intervals are tuned each 300 ms; the last pass is at 5 s."""
    assert _passes_while_tuned(replace(GOAL, max_sample_us=5_000), 5.001) == 5


def test_tuning_to_longer_intervals_keeps_apply_intervals():
    """Each of three tunings doubles the sample, and shortens an interval by less than one sample."""
    assert _passes_while_tuned(replace(GOAL, max_sample_us=40_000), 6.3) == 6


def test_tuning_keeps_the_update_interval():
    """Mappings are read every second although intervals are tuned each 300 ms."""
    box = Box()
    box.start(box.fvaddr(intervals_goal=replace(GOAL, max_sample_us=5_000), update_us=1_000_000))
    box.run(2.5)
    assert box.core().next_update == 600


def test_tuning_enabled_online_catches_up_at_every_aggregation():
    """Quirk Q1: next_tune was never set, so each aggregation tunes until it has caught up."""
    box = Box()
    box.start(box.fvaddr())
    box.run(3)
    box.commit(box.fvaddr(intervals_goal=replace(GOAL, max_sample_us=5_000, aggrs=5)))
    times = [e.time_ns for e in box.record(0.5, "damon_monitor_intervals_tune")]
    assert len(times) == 5
    assert {b - a for a, b in pairwise(times)} == {100_000_000}


def test_plain_commit_undoes_tuning():
    """Quirk Q16: the staged intervals are the user's."""
    box = Box()
    ctx = box.fvaddr(intervals_goal=GOAL)
    box.start(ctx)
    box.run(20)
    assert box.core().attrs.sample_us > 5_000
    box.command("commit")
    assert box.core().attrs.sample_us == 5_000


# Schemes of the core


def test_stat_scheme_counts_what_matches():
    hot = DamosAccessPattern(0, (1 << 64) - 1, 10, 20, 0, (1 << 32) - 1)
    box = Box(64 * MIB, [(HEAP, HEAP + 16 * MIB)])
    box.start(box.fvaddr(schemes=(STAT_ALL, Damos(access_pattern=hot))))
    box.run(5)
    tried = [box.client.tried_regions(0, i) for i in range(2)]
    assert tried[0].total_bytes == 64 * MIB
    assert abs(tried[1].total_bytes - 16 * MIB) < 3 * MIB
    assert (tried[1].regions.nr_accesses >= 10).all()
    stats = box.client.stats(0, 0)
    assert stats.nr_applied == stats.sz_applied == 0
    assert stats.sz_tried == 64 * MIB * stats.nr_snapshots


def test_apply_interval_decides_how_often():
    box = Box()
    often = replace(STAT_ALL, apply_interval_us=10_000)
    box.start(box.fvaddr(schemes=(often, STAT_ALL)))
    box.run(1.001)
    assert box.client.stats(0, 0).nr_snapshots == 100
    assert box.client.stats(0, 1).nr_snapshots == 10


def test_max_nr_snapshots_stops_a_scheme():
    box = Box()
    box.start(box.fvaddr(schemes=(replace(STAT_ALL, max_nr_snapshots=5),)))
    box.run(2)
    assert box.client.stats(0, 0).nr_snapshots == 5


def test_trace_of_schemes_sums_up_to_the_stats():
    box = Box(8 * MIB, [(HEAP, HEAP + MIB)])
    box.start(box.fvaddr(schemes=(STAT_ALL,)))
    names = ["damos_before_apply", "damos_stat_after_apply_interval"]
    stream = box.events.open(names)
    box.run(1.001)
    events = stream.read()
    tried = [e for e in events if e.name == names[0]]
    sizes = [e.text.split()[4].rstrip(":").split("-") for e in tried]
    stats = box.client.stats(0, 0)
    assert sum(int(end) - int(start) for start, end in sizes) == stats.sz_tried
    last = [e for e in events if e.name == names[1]][-1].text
    assert f"nr_tried={stats.nr_tried} sz_tried={stats.sz_tried} " in last


def test_truncated_pattern_bounds_match_nothing():
    """Quirk Q13: 2^32 in a 32-bit bound is 0."""
    pattern = DamosAccessPattern(0, (1 << 64) - 1, 0, 1 << 32, 0, 1 << 32)
    box = Box(8 * MIB, [(HEAP, HEAP + 8 * MIB)])
    box.start(box.fvaddr(schemes=(Damos(access_pattern=pattern),)))
    box.run(1)
    assert box.client.stats(0, 0).nr_tried == 0


# The machine


def test_cached_translations_hide_accesses():
    """A page that is always touched is seen once in a lifetime of its translation."""
    for lifetime_ms, share in ((4, 1.0), (50, 0.1), (500, 0.01)):
        box = Box(8 * MIB, [(HEAP, HEAP + 8 * MIB)], tlb=Tlb(lifetime_ms * 1_000_000))
        box.start(box.fvaddr())
        box.run(1)
        rates = [float((s.nr_accesses * s.sizes).sum()) / (8 * MIB) / 20 for s in box.snapshots(5)]
        assert abs(sum(rates) / len(rates) - share) < 0.2 * share


def test_translations_do_not_hide_what_is_touched_rarely():
    def hot(t0, t1):
        return [(HEAP, HEAP + 8 * MIB)] if t0 // 100_000_000 != t1 // 100_000_000 else []

    rates = []
    for tlb in (None, Tlb(10_000_000)):
        box = Box(8 * MIB, tlb=tlb)
        pid = box.system.add_process(heap(8 * MIB), TimedTruth([(HEAP, HEAP + 8 * MIB)], hot))
        target = DamonTarget(pid, ((HEAP, HEAP + 8 * MIB),))
        box.start(replace(box.fvaddr(), targets=(target,)))
        rates.append([s.nr_accesses.tolist() for s in box.snapshots(1)])
    assert rates[0] == rates[1]
    assert rates[0][0][0] == 1


def waiting(level: str, word: str, after_s: float = 0.042) -> int:
    """How many ms a command takes that is given some time after the start."""
    box = Box(level=level)
    box.start(box.fvaddr(aggr_us=150_000, schemes=(STAT_ALL,)))
    box.run(after_s)
    began = box.clock.now_ns()
    box.command(word)
    return (box.clock.now_ns() - began) // 1_000_000


def test_commands_are_polled_and_commits_wait_for_the_aggregation_in_6_12():
    """I36: served after the next sample, a commit after the aggregation; the writer looks every 100 ms."""
    assert waiting("6.16", "commit") == waiting("6.16", "update_schemes_stats") == 3
    assert waiting("6.12", "update_schemes_stats") == 100
    assert waiting("6.12", "commit") == 200
    assert waiting("6.12", "commit", 0.072) == 100
    assert waiting("6.12", "update_schemes_tried_regions", 0.072) == 100


def test_whoever_waits_in_6_12_has_no_lock_but_the_only_turn():
    box = Box(level="6.12")
    box.stage(box.fvaddr(schemes=(STAT_ALL,)), box.fvaddr())
    for index in (0, 1):
        box.command("on", index)
    state, pid = box.path("state"), box.path("pid")
    pending = box.tree.begin_write(state, "update_schemes_stats")
    assert int(box.tree.read(pid)) > 0
    for index in (0, 1):
        with pytest.raises(TreeError, match="EBUSY"):
            box.command("commit", index)
    pending.result(NSEC_PER_SEC)
    box.command("commit", 1)
    walk = box.tree.begin_write(state, "update_schemes_tried_regions")
    with pytest.raises(TreeError, match="EBUSY"):
        box.tree.read(pid)
    walk.result(NSEC_PER_SEC)
    assert int(box.tree.read(pid)) > 0


def test_a_failed_commit_ends_the_kdamond_in_6_12():
    for level, state in (("6.12", "off"), ("6.16", "on")):
        box = Box(level=level)
        box.start(box.fvaddr())
        wrong = box.fvaddr(max_nr_regions=5)
        if level == "6.12":
            box.commit(wrong)
            box.run(0.2)
        else:
            with pytest.raises(TreeError, match="EINVAL"):
                box.commit(wrong)
        assert box.read("state") == state


def test_probe_events_follow_their_region():
    box = Box(8 * MIB, ram_bytes=32 * MIB)
    names = ["damon_aggregated", "damon_region_aggregated"]
    stream = box.events.open(names)
    ram = (DamonTarget(0, ((2 * MIB, 32 * MIB),)),)
    box.start(box.ctx(operations="paddr", targets=ram, probes=(DamonProbe(),)))
    box.run(0.101)
    events = stream.read()
    assert [event.name for event in events] == names * (len(events) // 2)
    assert all(b.text.startswith(a.text) for a, b in zip(events[::2], events[1::2], strict=True))
