# SPDX-License-Identifier: GPL-2.0
"""Schemes: the specification's numbers, and the invariants of §9.6 on running systems."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from reference_support import HEAP, MIB, RULES, STAT_ALL, Box, esz_values, with_quota

from damon_tests.damon.params import (
    ANY,
    U32_MAX,
    U64_MAX,
    Damos,
    DamosFilter,
    DamosQuota,
    DamosQuotaGoal,
    DamosWatermarks,
)
from damon_tests.ports import NSEC_PER_SEC, page_size
from damon_tests.reference.core.filters import FilterLists
from damon_tests.reference.rules import schemes as damos
from damon_tests.reference.rules.ruleset import Rules

PAGE = page_size()
GOAL = DamosQuotaGoal("user_input", target_value=10_000, current_value=0)


# Numbers of §10


@pytest.mark.parametrize(
    ("value", "score", "expected"),
    [
        (10000, 0, 20000),
        (10000, 5000, 15000),
        (20000, 15000, 10000),
        (10000, 15000, 10000),
        (900000, 200, 1782000),
        (900000, 2000, 1620000),
        (900000, 250000000, 10000),
        (10**8, 9600, 104000000),
        (10**8, 10400, 96000000),
        (U64_MAX, 0, U64_MAX),
        (123456789, 19999, 12346),
        (123456789, 10001, 123444444),
        (10000, 9999, 10001),
        (4321000, 10000, 4321000),
    ],
)
def test_feedback_has_the_specified_values(value, score, expected):
    assert damos.feedback(value, score) == expected


@pytest.mark.parametrize(
    ("nr", "window", "age", "aggr_us", "weights", "expected"),
    [
        (0, 20, 0, 100_000, (1, 1), 24),
        (20, 20, 0, 100_000, (1, 1), 74),
        (0, 20, 10, 100_000, (1, 1), 23),
        (0, 20, 1200, 100_000, (0, 1), 38),
        (20, 20, 1200, 100_000, (0, 1), 59),
        (10, 20, 600, 100_000, (1, 1), 53),
        (1, 20, 600, 100_000, (1, 1), 31),
        (20, 20, U32_MAX, 100_000, (1, 1), 96),
        (0, 20, U32_MAX, 100_000, (0, 1), 3),
        (5, 20, 30, 100_000, (1000, 0), 24),
        (3, 20, 90, 1_000_000, (200, 1000), 51),
        (3, 20, 90, 1_000_000, (0, 0), 0),
        # In 32 bits 43,000,000 * 100 is 5,032,704; weights of 2^32 - 1 are -1, and in total 0 or 3.
        (20, 20, 0, 100_000, (43_000_000, 0), 0),
        (0, 20, 0, 100_000, (U32_MAX, 1), 49),
        (20, 20, 0, 100_000, (U32_MAX, 1), 0),
        (20, 20, 0, 100_000, (U32_MAX, 4), 32),
    ],
)
def test_hot_score_has_the_specified_values(nr, window, age, aggr_us, weights, expected):
    hot = RULES.hot_score(np.array([nr]), window, np.array([age]), aggr_us, *weights)
    assert hot.tolist() == [expected]
    assert RULES.cold_score(hot).tolist() == [99 - expected]


ALLOW, REJECT = DamosFilter("target", allow=True), DamosFilter("target")
OPS_ALLOW = DamosFilter("anon", allow=True)


@pytest.mark.parametrize(
    ("filters", "core_reject", "ops_reject"),
    [
        ((), False, False),
        ((ALLOW,), True, False),
        ((REJECT,), False, False),
        ((REJECT, OPS_ALLOW), False, True),
        ((ALLOW, OPS_ALLOW), False, True),
        ((ALLOW, REJECT), False, False),
    ],
)
def test_filter_defaults_follow_the_last_filter(filters, core_reject, ops_reject):
    lists = FilterLists.of(Damos(filters=filters), Rules())
    assert RULES.core_default_reject(lists.core_allows_last, bool(lists.ops)) == core_reject
    assert RULES.ops_default_reject(lists.ops_allows_last) == ops_reject


def test_filters_are_installed_by_layer_and_directory():
    first, two, three = (DamosFilter("target", damon_target_idx=i) for i in range(3))
    young = DamosFilter("young")
    lists = FilterLists.of(
        Damos(core_filters=(first, young), ops_filters=(OPS_ALLOW,), filters=(two, three)), Rules()
    )
    assert lists.core == (first, two, three)
    assert lists.ops == (young, OPS_ALLOW)


def test_min_score_takes_from_the_top():
    histogram = [0] * 100
    histogram[10], histogram[50], histogram[90] = 1000, 100, 10
    assert [RULES.min_score(histogram, esz) for esz in (1, 10, 11, 110, 111, 10**9)] == [
        90,
        90,
        50,
        50,
        10,
        0,
    ]
    assert RULES.min_score([0] * 100, 5) == 0


def test_the_most_satisfied_goal_decides():
    assert RULES.goal_score([(50, 100), (30, 20), (0, 7)]) == 15_000
    assert RULES.goal_score([(0, 7)]) == 0


@pytest.mark.parametrize(
    ("start", "end", "at", "skipped"),
    [(0, 40, 40, 40), (0, 40, 50, 40), (40, 80, 40, 0), (0, 40, 14, 12), (0, 40, 2, 4), (0, 4, 2, 4)],
)
def test_window_continues_behind_the_last_one(start, end, at, skipped):
    assert RULES.skipped_size(start, end, at, 4) == skipped


@pytest.mark.parametrize(
    ("size", "applied", "ratio", "charged"),
    [
        (100, 0, (0, 0), 100),
        (100, 30, (1, 1000), 30),
        (100, 0, (1, 10), 10),
        (100, 120, (1, 10), 100),
        (100, 50, (3, 1), 200),
        (100, 50, (0, 7), 50),
    ],
)
def test_failed_bytes_are_charged_by_the_ratio(size, applied, ratio, charged):
    assert RULES.charged_size(size, applied, *ratio) == charged


def test_watermarks_have_hysteresis():
    def active(value, was):
        return RULES.watermark_active(value, 500, 400, 200, was)

    assert [active(v, True) for v in (501, 500, 400, 300, 200, 199)] == [False, True, True, True, True, False]
    assert [active(v, False) for v in (501, 500, 400, 399, 200, 199)] == [
        False,
        False,
        False,
        True,
        True,
        False,
    ]


# Quotas on running systems


def tried(box, seconds):
    """(time, start, end) of everything tried."""
    sizes = []
    for event in box.record(seconds, "damos_before_apply"):
        start, end = event.text.split()[4].rstrip(":").split("-")
        sizes.append((event.time_ns, int(start), int(end)))
    return sizes


@settings(max_examples=30, deadline=None)
@given(
    quota=st.integers(1, 3000),
    apply_ms=st.sampled_from([50, 100, 300]),
    reset_ms=st.sampled_from([100, 500, 1000]),
    seed=st.integers(0, 99),
)
def test_quota_bounds_what_is_tried_in_each_window(quota, apply_ms, reset_ms, seed):
    """I44, I47 and I50: never more than the quota, all of it, and cyclically through the memory."""
    box = Box(8 * MIB, [(HEAP, HEAP + MIB)], seed=seed)
    scheme = with_quota(bytes=quota * PAGE, reset_interval_ms=reset_ms)
    box.start(box.fvaddr(schemes=(replace(scheme, apply_interval_us=apply_ms * 1000),)))
    box.run(1.001)
    windows = {}
    for time_ns, start, end in tried(box, 10):
        began = box.core().schemes[0].quota.charged_from
        assert began
        windows.setdefault(time_ns, []).append((start, end))
    step = max(-(-reset_ms // apply_ms), 1) * apply_ms * 1_000_000
    times = sorted(windows)
    for time_ns in times:
        total = sum(e - s for t in times if time_ns <= t < time_ns + step - 4_000_000 for s, e in windows[t])
        assert total <= max(quota * PAGE, 1) * (2 if apply_ms < reset_ms else 1)
    if apply_ms >= reset_ms:
        assert max(sum(e - s for s, e in windows[t]) for t in times) == min(quota * PAGE, 8 * MIB)


def test_tried_memory_goes_round():
    box = Box(8 * MIB)
    box.start(box.fvaddr(schemes=(with_quota(bytes=3 * MIB, reset_interval_ms=100),)))
    ranges = [(s, e) for _, s, e in tried(box, 5)]
    assert ranges[0][0] == HEAP
    for before, after in pairwise(ranges):
        assert after[0] in (before[1], HEAP)
    covered = {e for _, e in ranges}
    assert HEAP + 8 * MIB in covered


def test_quota_that_is_always_exhausted_counts_each_window():
    box = Box(8 * MIB)
    box.start(box.fvaddr(schemes=(with_quota(bytes=MIB, reset_interval_ms=200),)))
    box.run(4.001)
    stats = box.client.stats(0, 0)
    assert stats.qt_exceeds == 19  # the first window ends at the third due step
    assert stats.sz_tried == 20 * MIB
    assert stats.nr_snapshots == 2  # quirk Q6: only passes that get to the end count


def test_each_window_lasts_a_reset_interval_whenever_it_begins():
    box = Box(8 * MIB)
    box.start(box.fvaddr(aggr_us=5_000, schemes=(with_quota(bytes=MIB, reset_interval_ms=200),)))
    tried = [event.time_ns for event in box.record(4, "damos_before_apply")]
    apart = [b - a for a, b in pairwise(tried) if b - a > 50_000_000]
    # Passes come every 5 ms: one sooner by the tick in which the window began, or one and a tick later.
    assert len(apart) > 15
    assert [gap for gap in apart if not 195_000_000 <= gap <= 209_000_000] == []


def test_goal_that_is_never_achieved_doubles_the_quota():
    """From one byte to a page at the twelfth evaluation; the first window is evaluated once."""
    box = Box(8 * MIB)
    box.start(box.fvaddr(schemes=(with_quota(goals=(GOAL,), reset_interval_ms=100),)))
    assert esz_values(box, 1.6)[:12] == [2**i for i in range(1, 13)]


def test_goal_achieved_exactly_keeps_one_byte_and_counts_as_exceeded():
    """Quirk Q5 from 7.2 on; 7.1 tries regions of size 0; 7.0 tries nothing either but is not full."""
    achieved = replace(GOAL, current_value=10_000)
    outcomes = {}
    for level in ("7.3", "7.2", "7.1"):
        box = Box(8 * MIB, level=level)
        box.start(box.fvaddr(schemes=(with_quota(goals=(achieved,), reset_interval_ms=200),)))
        box.run(3.001)
        stats = box.client.stats(0, 0)
        outcomes[level] = (stats.nr_tried > 0, stats.sz_tried, stats.qt_exceeds > 10)
        assert box.client.effective_bytes(0, 0) == 1
    assert outcomes == {"7.3": (False, 0, True), "7.2": (False, 0, True), "7.1": (True, 0, False)}


def test_overachievement_shrinks_the_quota():
    box = Box(8 * MIB)
    scheme = with_quota(goals=(GOAL,), reset_interval_ms=100)
    box.start(box.fvaddr(schemes=(scheme,)))
    box.run(2)
    before = box.core().schemes[0].quota.effective_bp
    much = replace(GOAL, current_value=15_000)
    box.client.restage(
        [
            replace(k, ctx=box.fvaddr(schemes=(with_quota(goals=(much,), reset_interval_ms=100),)))
            for k in box.client.staged()
        ]
    )
    box.command("commit_schemes_quota_goals")
    assert esz_values(box, 0.15)[0] == (before - before // 2) // 10_000


PSI = DamosQuotaGoal("some_mem_psi_us", target_value=1000)


@pytest.mark.parametrize(("level", "grown"), [("7.3", 10_000), ("7.2", 15_000)])
@pytest.mark.parametrize("command", ["commit", "commit_schemes_quota_goals"])
def test_commit_starts_pressure_again(level, grown, command):
    """Since 7.3 what was before a commit does not count; before, the goal that is kept went on counting."""
    box = Box(8 * MIB, level=level)
    ctx = box.fvaddr(schemes=(with_quota(goals=(PSI,), reset_interval_ms=100),))
    box.start(ctx)
    box.run(0.101)
    quota = box.core().schemes[0].quota
    before = quota.effective_bp
    box.system.memory.psi_some_us += 500
    box.command(command)
    box.run(0.1)
    # Half achieved: half as much again. Nothing is said at first: as if achieved.
    assert quota.effective_bp * 10_000 // before == grown


def test_temporal_tuner_is_all_or_nothing():
    for current, size, expected in (
        (0, 0, 1844674407370955),
        (0, 4 * MIB, 4 * MIB),
        (10_000, 4 * MIB, 0),
    ):
        box = Box(8 * MIB)
        goals = (replace(GOAL, current_value=current),)
        box.start(box.fvaddr(schemes=(with_quota(goals=goals, bytes=size, goal_tuner="temporal"),)))
        box.run(0.5)
        assert box.client.effective_bytes(0, 0) == expected
        assert (box.client.stats(0, 0).sz_tried > 0) == (expected > 0)


def test_time_quota_without_history_assumes_1024_pages_a_millisecond():
    box = Box(16_384 * PAGE)
    box.start(box.fvaddr(schemes=(with_quota(ms=2),)))
    box.run(0.5)
    assert box.client.effective_bytes(0, 0) == 2048 * PAGE


def test_time_quota_follows_the_throughput():
    """256 pages a millisecond: 10 ms allow 2560 pages."""
    box = Box(16_384 * PAGE)
    box.system.memory.apply_ns_per_page = 1_000_000 // 256
    box.start(box.fvaddr(schemes=(with_quota(ms=10, reset_interval_ms=100),)))
    box.run(2)
    assert abs(box.client.effective_bytes(0, 0) - 2560 * PAGE) < 16 * PAGE


def test_windows_last_as_long_when_the_ticks_of_a_kernel_wrap():
    """Five minutes after boot: 1 MiB in each second before and after."""
    box = Box(8 * MIB, origin_ns=295 * NSEC_PER_SEC)
    scheme = with_quota(bytes=MIB, reset_interval_ms=1000)
    box.start(box.fvaddr(schemes=(scheme,)))
    assert sum(end - start for _, start, end in tried(box, 10.05)) == 10 * MIB


def test_first_window_without_reset_interval_is_evaluated_twice():
    """Quirk Q19."""
    box = Box(8 * MIB)
    box.start(box.fvaddr(schemes=(with_quota(goals=(GOAL,), reset_interval_ms=0),)))
    assert esz_values(box, 0.101) == [2, 4]


def test_priority_prefers_cold_memory():
    """With quota for less than the cold half nothing else is taken."""
    box = Box(8 * MIB, [(HEAP, HEAP + 4 * MIB)])
    quota = DamosQuota(
        bytes=3 * MIB, reset_interval_ms=1000, weight_nr_accesses_permil=1000, weight_age_permil=0
    )
    scheme = Damos(action="pageout", access_pattern=ANY, quota=quota, apply_interval_us=1_000_000)
    box.start(box.fvaddr(schemes=(scheme,)))
    box.run(0.999)
    ranges = tried(box, 0.5)
    assert ranges
    assert min(start for _, start, _ in ranges) > HEAP + 3 * MIB


def test_commit_keeps_charges_and_statistics():
    box = Box(8 * MIB)
    scheme = with_quota(bytes=MIB, reset_interval_ms=10_000)
    box.start(box.fvaddr(schemes=(scheme,)))
    box.run(1)
    before = box.client.stats(0, 0)
    box.commit(box.fvaddr(schemes=(replace(scheme, apply_interval_us=200_000),)))
    box.run(1)
    assert box.client.stats(0, 0) == before
    assert before.sz_tried == MIB


def test_splits_by_the_quota_are_undone():
    """Regions are as if there was no scheme: what a quota split is merged again behind it."""
    counts = []
    for schemes in ((), (with_quota(bytes=5 * PAGE, reset_interval_ms=100),)):
        box = Box(10 * MIB)  # ten regions of exactly the size limit, which is not rounded here
        box.start(box.fvaddr(schemes=schemes))
        counts.append([len(snap) for snap in box.snapshots(2)])
    assert counts[0] == counts[1]


def test_quota_with_room_for_all_cuts_no_region():
    counts = []
    for schemes in ((), (with_quota(bytes=64 * MIB, reset_interval_ms=100),)):
        box = Box(10 * MIB, level="7.1")  # 7.2 merges what a quota split
        box.start(box.fvaddr(schemes=schemes))
        counts.append([len(snap) for snap in box.snapshots(0.5)])
    assert counts[0] == counts[1]


def test_watching_does_not_change_ages():
    box = Box(8 * MIB)
    watch = replace(STAT_ALL, ops_filters=(DamosFilter("anon", True, True),))
    box.start(box.fvaddr(schemes=(STAT_ALL, watch)))
    assert [int(s.age.min()) for s in box.snapshots(1)] == list(range(1, 11))


# Watermarks


def test_watermarks_stop_and_start_schemes():
    box = Box(64 * MIB, ram_bytes=128 * MIB)
    marks = DamosWatermarks("free_mem_rate", 500_000, high=900, mid=800, low=600)
    box.start(box.fvaddr(schemes=(replace(STAT_ALL, watermarks=marks),)))
    box.run(2)
    assert box.client.stats(0, 0).nr_tried == 0  # half of the memory is free: below low
    assert box.core().passed == 0
    box.commit(box.fvaddr(schemes=(replace(STAT_ALL, watermarks=replace(marks, low=300)),)))
    box.run(1)
    assert box.client.stats(0, 0).nr_tried > 0


def test_one_active_scheme_keeps_monitoring_going():
    box = Box(8 * MIB)
    never = DamosWatermarks("free_mem_rate", 500_000, high=1, mid=1, low=1)
    box.start(box.fvaddr(schemes=(replace(STAT_ALL, watermarks=never), STAT_ALL)))
    box.run(1)
    assert box.client.stats(0, 0).nr_tried == 0
    assert box.client.stats(0, 1).nr_tried > 0
