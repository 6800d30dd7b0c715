# SPDX-License-Identifier: GPL-2.0
"""The replay of quotas: passes that keep the quota hold, others fail; with made-up events."""

from dataclasses import replace

import pytest

from damon_tests.damon.params import ANY, DamonCtx, Damos, DamosQuota
from damon_tests.damon.records import DamosStats
from damon_tests.damon.series import Series
from damon_tests.damon.trace import AggregatedEvent, BeforeApplyEvent, EszEvent, LostEvent, StatEvent
from damon_tests.judge.schemes import quota_passes, quotas
from damon_tests.judge.schemes.quota_passes import Pass
from damon_tests.judge.schemes.quotas import QuotaReplay, State
from damon_tests.ports import NSEC_PER_MSEC

PAGE = 4096
NEWEST = Series(7, 3)
MEMORY = (16 * PAGE, 32 * PAGE)  # 16 pages from the 16th


def made(tried, *, every_ms=50, regions=((16, 24), (24, 32)), age=0):
    """Return the events of passes that tried these page ranges, 50 ms apart."""
    events = []
    for index, ranges in enumerate(tried):
        now = (index + 1) * every_ms * NSEC_PER_MSEC
        for start, end in ranges:
            event = BeforeApplyEvent(now, 0, 0, 0, len(regions), start * PAGE, end * PAGE, 0, age)
            events.append(event)
        for start, end in regions:
            events.append(AggregatedEvent(now + 1, 0, len(regions), start * PAGE, end * PAGE, 0, age))
    return events


def replayed(
    tried, *, level=NEWEST, action="stat", made_by=None, first=None, ticks_ns=quotas.LATE_TICKS_NS, **quota
):
    scheme = Damos(action, ANY, quota=DamosQuota(**{"bytes": 6 * PAGE, **quota}))
    replay = QuotaReplay(scheme, DamonCtx("fvaddr", schemes=(scheme,)), level, ticks_ns=ticks_ns)
    passes = quota_passes.of_events(made(tried) if made_by is None else made_by)
    return replay.run(passes, first)


def test_windows_continue_and_wrap_around():
    done = replayed([[(16, 22)], [(22, 24), (24, 28)], [(28, 32)], [(16, 22)]])
    assert done.wrong == []
    (last,) = done.states[-1]
    assert last.cursor == (0, 22 * PAGE)
    assert last.qt_exceeds == 2  # the third window ended with memory, the last is not over
    assert last.charged == 6 * PAGE


@pytest.mark.parametrize(
    ("tried", "what"),
    [
        pytest.param([[(16, 23)]], "with 24576 bytes of quota left", id="not cut"),
        pytest.param([[(16, 21)]], "not tried though only 20480 of 24576", id="not used up"),
        pytest.param([[(16, 22)], [(16, 22)]], "expected 0x16000", id="not continued"),
        pytest.param([[(16, 22)], [(23, 29)]], "expected 0x16000", id="a page skipped"),
        pytest.param([[(16, 22), (22, 23)]], "though 24576 of 24576 are charged", id="too much"),
        pytest.param([[(16, 19), (18, 21)]], "expected 0x13000", id="twice"),
        pytest.param([[]], "not tried though only 0", id="nothing"),
    ],
)
def test_pass_that_breaks_its_quota_fails(tried, what):
    (wrong,) = replayed(tried).wrong
    assert what in wrong


def test_window_lasts_a_reset_interval():
    once_in_500_ms = [[(16, 22)], *[[]] * 9, [(22, 28)]]
    assert replayed(once_in_500_ms, reset_interval_ms=500).wrong == []
    too_early = [[(16, 22)], *[[]] * 3, [(22, 28)]]
    assert "are charged" in replayed(too_early, reset_interval_ms=500).wrong[0]
    too_late = [[(16, 22)], *[[]] * 15, [(22, 28)]]
    assert "not tried" in replayed(too_late, reset_interval_ms=500).wrong[0]
    # Within LATE_TICKS_NS of the interval the replay follows both windows.
    for passes_between in (7, 8, 9, 10, 11):
        about = [[(16, 22)], *[[]] * passes_between, [(22, 28)]]
        assert replayed(about, reset_interval_ms=500).wrong == []


@pytest.mark.parametrize(("passes_between", "holds"), [(7, False), (9, True), (11, False)])
def test_ticks_that_are_never_late_leave_two_ticks_of_room(passes_between, holds):
    about = [[(16, 22)], *[[]] * passes_between, [(22, 28)]]
    wrong = replayed(about, ticks_ns=quotas.EXACT_TICKS_NS, reset_interval_ms=500).wrong
    assert (not wrong) is holds


def test_failed_bytes_cost_the_fail_charge_ratio():
    # A quarter of 16 pages are 4: all memory in each window, cut to what is left each time.
    parts = [(16, 22), (22, 26), (26, 29), (29, 31), (31, 32)]
    assert replayed([parts], fail_charge_num=1, fail_charge_denom=4).wrong == []
    (wrong,) = replayed([[(16, 22)]], fail_charge_num=1, fail_charge_denom=4).wrong
    assert "not tried though only 6144" in wrong


def test_charge_of_a_region_counts_applied_bytes_whole():
    scheme = Damos(quota=DamosQuota(fail_charge_num=1, fail_charge_denom=3))
    assert quotas.charge(Damos(), 100, 0) == 100
    assert quotas.charge(scheme, 100, 0) == 33
    assert quotas.charge(scheme, 100, 100) == 100
    assert quotas.charge(scheme, 100, 40) == 60
    assert quotas.charge(scheme, 100, 101) == 100  # whole folios: more than the region


@pytest.mark.parametrize(
    ("level", "charged", "size", "full", "left"),
    [
        (Series(7, 3), 0, 0, True, 0),
        (Series(7, 1), 0, 0, True, 0),
        (Series(7, 0), 0, 0, False, None),
        (Series(7, 3), PAGE, PAGE + 9, True, 0),
        (Series(7, 1), PAGE, PAGE + 9, False, 0),
        (Series(6, 12), PAGE, 2 * PAGE + 9, False, PAGE),
        (Series(7, 3), 3 * PAGE, 2 * PAGE, True, 0),
    ],
)
def test_quota_is_used_up_by_the_rules_of_its_series(level, charged, size, full, left):
    assert quotas.is_full(level, True, charged, size, PAGE) is full
    assert quotas.room(level, True, charged, size, PAGE) == left


def test_no_quota_is_never_full():
    assert not quotas.is_full(Series(7, 3), False, 9, 0, PAGE)
    assert quotas.room(Series(7, 3), False, 9, 0, PAGE) is None


def test_strict_replay_fails_defects_of_older_series():
    skipping = [[(16, 22)], [(23, 24), (24, 29)]]
    scheme = Damos("stat", ANY, quota=DamosQuota(bytes=6 * PAGE))
    lenient = QuotaReplay(scheme, DamonCtx("fvaddr", schemes=(scheme,)), Series(6, 18, "6.18.15"))
    passes = quota_passes.of_events(made(skipping))
    assert lenient.run(passes).wrong == []
    assert replace(lenient, strict=True).run(passes).wrong
    for right in (Series(7, 3, "7.3.4"), Series(7, 1, "7.1.13"), Series(6, 18)):  # the last: the reference
        assert replace(lenient, level=right).run(passes).wrong
    unlimited = made([[(16, 24), (24, 32)]])
    hour = replace(scheme, quota=replace(scheme.quota, reset_interval_ms=3_600_000))
    passes = quota_passes.of_events(unlimited)
    for level in (Series(6, 12, "6.12.107"), Series(6, 17, "6.17.13")):
        lenient = QuotaReplay(hour, DamonCtx("fvaddr", schemes=(hour,)), level)
        assert lenient.run(passes).wrong == []
        assert replace(lenient, strict=True).run(passes).wrong
        assert replace(lenient, level=Series(level.major, level.minor)).run(passes).wrong, "the reference"
    limited = quota_passes.of_events(made([[(16, 22)], [], []]))
    assert lenient.run(limited).wrong, "a release with the defect does as it does"


def test_before_7_2_the_last_region_is_skipped():
    tried = [[(16, 22)], [(22, 24), (24, 28)], [], [(16, 22)]]
    assert replayed(tried, level=Series(7, 1)).wrong == []
    assert "not tried" in replayed(tried, level=Series(7, 2)).wrong[0]
    # Some releases visit the rest of a split region as 7.2 does, and do nothing else.
    for level in (Series(7, 1, "7.1.13"), Series(6, 12, "6.12.117")):
        assert "not tried" in replayed(tried, level=level).wrong[0]
    assert replayed(tried, level=Series(6, 12, "6.12.107")).wrong == []


def test_committed_quota_holds_from_its_commit_on():
    big = Damos("stat", ANY, quota=DamosQuota(bytes=8 * PAGE))
    small = Damos("stat", ANY, quota=DamosQuota(bytes=4 * PAGE))
    ctx = DamonCtx("fvaddr", schemes=(big,))
    passes = quota_passes.of_events(made([[(16, 24)], [(24, 28)], [(28, 32)]]))
    during = 90 * NSEC_PER_MSEC
    later = [(during, during + NSEC_PER_MSEC, small)]
    assert QuotaReplay(big, ctx, Series(7, 3), later=later).run(passes).wrong == []
    assert QuotaReplay(big, ctx, Series(7, 3)).run(passes).wrong
    # While it is under way either may be in force.
    under_way = [(during, 110 * NSEC_PER_MSEC, small)]
    assert QuotaReplay(big, ctx, Series(7, 3), later=under_way).run(passes).wrong == []


def test_window_keeps_its_size_after_a_commit():
    small, big = (Damos("stat", ANY, quota=DamosQuota(bytes=n * PAGE, reset_interval_ms=500)) for n in (6, 9))
    ctx = DamonCtx("fvaddr", schemes=(small,))
    later = [(90 * NSEC_PER_MSEC, 91 * NSEC_PER_MSEC, big)]
    kept = [[(16, 22)], *[[]] * 9, [(22, 24), (24, 31)]]
    assert (
        QuotaReplay(small, ctx, Series(7, 3), later=later).run(quota_passes.of_events(made(kept))).wrong == []
    )
    more_at_once = [[(16, 22)], [(22, 24), (24, 25)]]
    assert (
        QuotaReplay(small, ctx, Series(7, 3), later=later)
        .run(quota_passes.of_events(made(more_at_once)))
        .wrong
    )


def test_replay_may_start_at_an_unknown_address():
    tried = [[(20, 24), (24, 26)], [(26, 32)]]
    assert replayed(tried, first=State(cursor=quotas.ANYWHERE)).wrong == []
    assert replayed(tried).wrong


def test_read_counters_must_be_those_of_a_pass_done_by_then():
    scheme = Damos("stat", ANY, quota=DamosQuota(bytes=6 * PAGE))
    replay = QuotaReplay(scheme, DamonCtx("fvaddr", schemes=(scheme,)), Series(6, 18))
    passes = quota_passes.of_events(made([[(16, 22)], [(22, 24), (24, 28)]]))

    def counted(sz_tried, qt_exceeds, begin_ms, end_ms):
        stats = DamosStats(0, sz_tried, 0, 0, qt_exceeds)
        read = quotas.ReadStats(begin_ms * NSEC_PER_MSEC, end_ms * NSEC_PER_MSEC, stats)
        return quotas.counted(replay.run(passes), passes, read).holds

    assert counted(6 * PAGE, 0, 60, 70)
    assert not counted(6 * PAGE, 1, 60, 70)
    assert not counted(12 * PAGE, 1, 60, 70)
    assert counted(12 * PAGE, 1, 60, 110)
    assert counted(12 * PAGE, 1, 120, 130)
    assert not counted(6 * PAGE, 0, 120, 130)


def test_traced_counters_grow_by_what_was_tried():
    def stat(time_ms, nr, size):
        return StatEvent(time_ms * NSEC_PER_MSEC, 0, 0, nr, size, 0, 0, 0, 0, 0)

    events = made([[(16, 22)]])
    for size, holds in ((6 * PAGE, True), (7 * PAGE, False)):
        (check,) = quotas.sizes_agree(
            quota_passes.of_events([events[0], stat(50, 1, size), *events[1:]]), NEWEST
        )
        assert check.holds is holds
    assert quotas.sizes_agree(quota_passes.of_events(events), Series(6, 18)) == []  # does not trace them
    assert [c.holds for c in quotas.sizes_agree(quota_passes.of_events(events), Series(7, 3))] == [None]


def test_memory_never_tried_in_a_round_fails():
    passes = quota_passes.of_events(made([[(16, 22)], [(22, 28)], [(28, 32)]]))
    rounds, missed = quotas.fair(passes, [MEMORY])
    assert rounds.holds
    assert missed.holds
    passes = quota_passes.of_events(made([[(16, 22)], [(22, 28)]] * 2))
    rounds, missed = quotas.fair(passes, [MEMORY])
    assert rounds.holds
    assert missed.holds is False
    assert missed.measurement.value == 4 * PAGE
    assert quotas.fair(passes[:1], [MEMORY])[0].holds is None


# --- passes ------------------------------------------------------------------------------------


def test_pieces_are_regions_before_the_pass():
    now = NSEC_PER_MSEC
    tried = BeforeApplyEvent(now, 0, 0, 0, 2, 18 * PAGE, 20 * PAGE, 7, 9)
    regions = [
        AggregatedEvent(now + 1, 0, 2, 16 * PAGE, 24 * PAGE, 7, 0),
        AggregatedEvent(now + 1, 0, 2, 24 * PAGE, 32 * PAGE, 1, 5),
    ]
    (only_pass,) = quota_passes.of_events([tried, *regions])
    assert [(p.start // PAGE, p.end // PAGE, p.nr_accesses, p.age) for p in only_pass.pieces()] == [
        (16, 18, 7, 0),
        (18, 20, 7, 9),
        (20, 24, 7, 0),
        (24, 32, 1, 5),
    ]


def test_passes_have_only_events_of_their_scheme():
    events = made([[(16, 22)], [(16, 18)]])
    other = BeforeApplyEvent(1, 0, 1, 0, 2, 0, PAGE, 0, 0)
    traced_size = EszEvent(1, 0, 0, 7)
    passes = quota_passes.of_events([other, traced_size, *events])
    assert [len(p.applied) for p in passes] == [1, 1]
    assert [event.esz for event in passes[0].esz] == [7]
    assert [len(p.applied) for p in quota_passes.of_events([other, traced_size, *events], 1)] == [1, 0]


def test_incomplete_last_pass_is_left_out():
    assert len(quota_passes.of_events(made([[(16, 22)], [(22, 28)]])[:-1])) == 1


def test_lost_events_leave_nothing_to_judge():
    assert quota_passes.of_events([*made([[(16, 22)]]), LostEvent(0, 1)]) == []
    assert quotas.enough_passes([], 1).holds is None


@pytest.mark.parametrize(
    ("window_ms", "holds"), [(50, True), (60, True), (40, True), (25, False), (110, False)]
)
def test_median_window_of_another_length_fails(window_ms, holds):
    """Windows of 50 ms, a pass every 10 ms: one tick more or less is right, half a window is not."""
    passes = [Pass(i * 10 * NSEC_PER_MSEC, i * 10 * NSEC_PER_MSEC, (), (), None, ()) for i in range(60)]
    begun = [p.begin_ns // (window_ms * NSEC_PER_MSEC) * window_ms * NSEC_PER_MSEC for p in passes]
    late_ns = (window_ms - 50) * NSEC_PER_MSEC
    states = [frozenset({State(began_ns=at, late_ns=late_ns if at else None)}) for at in begun]
    (check,) = quotas.windows_last(quotas.Replayed(states=states), passes, 3)
    assert check.holds is holds


def test_too_few_windows_are_undecided_if_least_is_given():
    passes = [Pass(i * 10 * NSEC_PER_MSEC, i * 10 * NSEC_PER_MSEC, (), (), None, ()) for i in range(4)]
    done = quotas.Replayed(states=[frozenset({State(began_ns=0)})] * 4)
    assert quotas.windows_last(done, passes) == []
    assert quotas.windows_last(done, passes, 3)[0].holds is None
