# SPDX-License-Identifier: GPL-2.0
"""Sessions record every aggregation by events, or poll tried regions."""

from __future__ import annotations

import errno
from dataclasses import replace

import pytest
from fake_damon import NEWEST, PLAIN, FakeDamon, commands, is_clean, session_on

from damon_tests.damon import trace
from damon_tests.damon.params import (
    ANY,
    DamonAttrs,
    DamonCtx,
    DamonProbe,
    DamonTarget,
    Damos,
    Kdamond,
)
from damon_tests.ports import (
    LOST_EVENTS,
    NSEC_PER_SEC,
    Event,
    NotSupported,
    TreeError,
    UsageError,
)

# --- recording -------------------------------------------------------------------------------


def test_every_aggregation_is_recorded() -> None:
    damon = FakeDamon(NEWEST)
    with session_on(damon) as session:
        session.start()
        began = damon.clock.now_ns()
        assert session.record(2 * NSEC_PER_SEC)
        during = session.recording()
    recording = session.recording()
    assert is_clean(damon)
    assert recording.source == "damon_aggregated"
    assert (recording.sample_us, recording.aggr_us, recording.samples_per_aggr) == (5000, 100_000, 20)
    assert recording.started_ns == began
    assert recording.stopped_ns == damon.clock.now_ns()
    assert len(recording.snapshots) >= 19
    assert all(s.complete and len(s) == 2 for s in recording.snapshots)
    assert recording.lost_events == 0
    assert 0 < len(during.snapshots) <= len(recording.snapshots)


def test_the_stream_is_open_before_damon_is_on() -> None:
    damon = FakeDamon(NEWEST)
    with session_on(damon):
        assert len(damon.events.streams) == 1
        assert commands(damon) == []


def test_record_starts_the_session_if_needed() -> None:
    damon = FakeDamon(NEWEST)
    with session_on(damon) as session:
        session.record(NSEC_PER_SEC)
        session.start()
    assert commands(damon) == ["on", "off"]


def test_recording_ends_when_its_condition_holds() -> None:
    damon = FakeDamon(NEWEST)
    with session_on(damon) as session:
        assert session.record(until=lambda: len(session.recording().snapshots) >= 5)
        assert 5 <= len(session.recording().snapshots) < 9
        assert not session.record(until=lambda: False, timeout_ns=NSEC_PER_SEC)
        with pytest.raises(UsageError):
            session.record()


def test_late_events_are_recorded() -> None:
    damon = FakeDamon(NEWEST)
    with session_on(damon) as session:
        session.record(NSEC_PER_SEC)
        stream = damon.events.streams[0]
        stream.late = [
            Event(damon.clock.now_ns(), trace.AGGREGATED, "target_id=0 nr_regions=1 0-5: 0 0", 4242)
        ]
    last = session.recording().snapshots[-1]
    assert last.end.tolist() == [5]


def test_aggregation_cut_short_by_off_is_not_recorded() -> None:
    """Turning off wakes a kdamond that sleeps by ticks, so its last aggregation is too short."""
    damon = FakeDamon(NEWEST)
    with session_on(damon) as session:
        session.record(NSEC_PER_SEC)
        after = damon.clock.now_ns() + 1
        damon.events.streams[0].late = [
            Event(after, trace.AGGREGATED, "target_id=0 nr_regions=1 0-5: 0 0", 4242)
        ]
    recording = session.recording()
    assert recording.snapshots
    assert recording.snapshots[-1].time_ns <= recording.stopped_ns < after


def test_arriving_aggregation_is_not_called_incomplete() -> None:
    damon = FakeDamon(NEWEST)
    with session_on(damon) as session:
        session.record(NSEC_PER_SEC)
        now = damon.clock.now_ns()
        half = Event(now, trace.AGGREGATED, "target_id=0 nr_regions=2 0-4096: 0 0", 4242)
        damon.events.streams[0].arrived.append(half)
        assert all(s.complete for s in session.recording().snapshots)
    assert not session.recording().snapshots[-1].complete  # after stop, no more events can arrive


def test_losses_are_counted_and_make_snapshots_incomplete() -> None:
    damon = FakeDamon(NEWEST)
    with session_on(damon) as session:
        session.record(NSEC_PER_SEC)
        stream = damon.events.streams[0]
        head = Event(damon.clock.now_ns(), trace.AGGREGATED, "target_id=0 nr_regions=2 0-4096: 0 0", 4242)
        tail = replace(head, text="target_id=0 nr_regions=2 4096-8192: 0 0")
        stream.arrived += [head, Event(head.time_ns, LOST_EVENTS, "7"), tail]
        stream.lost_count = 7
    recording = session.recording()
    assert recording.lost_events == 7
    assert [s.complete for s in recording.snapshots[-2:]] == [False, False]


def test_events_are_put_in_time_order() -> None:
    damon = FakeDamon(NEWEST)
    with session_on(damon) as session:
        session.record(NSEC_PER_SEC)
        damon.events.streams[0].arrived.reverse()
        session.record(NSEC_PER_SEC)
    assert all(s.complete for s in session.recording().snapshots)


def test_events_belong_to_the_kdamond_of_their_thread() -> None:
    damon = FakeDamon(NEWEST)
    with session_on(damon, PLAIN, PLAIN) as session:
        session.record(NSEC_PER_SEC)
    for i in range(2):
        snapshots = session.recording(i).snapshots
        assert len(snapshots) >= 9
        assert {int(n) for s in snapshots for n in s.nr_accesses} == {i}


def test_recording_of_one_target_has_only_its_snapshots() -> None:
    damon = FakeDamon(NEWEST)
    two = Kdamond(DamonCtx(targets=(DamonTarget(7), DamonTarget(8))))
    with session_on(damon, two) as session:
        session.record(NSEC_PER_SEC)
    both, second = session.recording(), session.recording(target_idx=1)
    assert {s.target_idx for s in both.snapshots} == {0, 1}
    assert {s.target_idx for s in second.snapshots} == {1}
    assert 2 * len(second.snapshots) == len(both.snapshots)


def test_probes_are_recorded_by_their_own_event() -> None:
    damon = FakeDamon(NEWEST)
    probed = Kdamond(DamonCtx(attrs=DamonAttrs(probes=(DamonProbe(),)), targets=(DamonTarget(7),)))
    with session_on(damon, probed) as session:
        session.record(NSEC_PER_SEC)
    recording = session.recording()
    assert recording.source == "damon_region_aggregated"
    assert recording.snapshots[0].probe_hits is not None


def test_extra_events_are_given_typed() -> None:
    damon = FakeDamon(NEWEST)
    with session_on(damon, extra_events=(trace.ESZ,)) as session:
        session.record(NSEC_PER_SEC)
        esz = Event(3, trace.ESZ, "ctx_idx=0 scheme_idx=0 esz=9", 4242)
        damon.events.streams[0].arrived.append(esz)
        assert session.events(trace.ESZ) == [trace.EszEvent(3, 0, 0, 9)]
    with pytest.raises(NotSupported, match="sched_switch"), session_on(damon, extra_events=("sched_switch",)):
        pass
    assert is_clean(damon)


def test_events_of_several_kinds_are_in_the_order_they_happened() -> None:
    damon = FakeDamon(NEWEST)
    names = (trace.ESZ, trace.BEFORE_APPLY)
    with session_on(damon, extra_events=names) as session:
        session.record(NSEC_PER_SEC)
        tried = "ctx_idx=0 scheme_idx=0 target_idx=0 nr_regions=1 0-4096: 0 0"
        damon.events.streams[0].arrived += [
            Event(2, trace.BEFORE_APPLY, tried, 4242),
            Event(2, trace.ESZ, "ctx_idx=0 scheme_idx=0 esz=9", 4242),
            Event(1, trace.BEFORE_APPLY, tried, 4242),
            Event(2, trace.ESZ, "ctx_idx=0 scheme_idx=0 esz=8", 4711),  # another kdamond's
        ]
        kinds = [type(event) for event in session.events(names)]
        assert kinds == [trace.BeforeApplyEvent, trace.BeforeApplyEvent, trace.EszEvent]


def test_tuned_intervals_are_in_the_recording() -> None:
    damon = FakeDamon(NEWEST)
    tuned = replace(
        PLAIN.ctx.attrs.intervals_goal, aggrs=3, access_bp=400, min_sample_us=1, max_sample_us=10**7
    )
    request = Kdamond(replace(PLAIN.ctx, attrs=DamonAttrs(intervals_goal=tuned)))
    with session_on(damon, request) as session:
        session.record(NSEC_PER_SEC)
        damon.events.streams[0].arrived.append(Event(77, trace.INTERVALS_TUNE, "sample_us=10000", 4242))
    assert session.recording().intervals == ((77, 10000),)


def test_intervals_goal_needs_no_tune_event() -> None:
    damon = FakeDamon("6.16.12")
    tuned = replace(
        PLAIN.ctx.attrs.intervals_goal, aggrs=3, access_bp=400, min_sample_us=1, max_sample_us=10**7
    )
    with session_on(damon, Kdamond(replace(PLAIN.ctx, attrs=DamonAttrs(intervals_goal=tuned)))) as session:
        session.record(NSEC_PER_SEC)
    assert session.recording().intervals == ()
    assert session.recording().snapshots


def test_stop_may_be_called_twice() -> None:
    damon = FakeDamon(NEWEST)
    with session_on(damon) as session:
        session.record(NSEC_PER_SEC)
        session.stop()
        stopped = session.recording().stopped_ns
        damon.clock.run_for(NSEC_PER_SEC)
        session.start()  # a stopped session cannot start again
    assert session.recording().stopped_ns == stopped
    assert commands(damon) == ["on", "off"]


# --- polling ---------------------------------------------------------------------------------


def test_without_the_tracepoint_tried_regions_are_polled() -> None:
    damon = FakeDamon(NEWEST)
    damon.events.names = frozenset()
    user = Damos(action="cold", access_pattern=ANY)
    with session_on(damon, Kdamond(replace(PLAIN.ctx, schemes=(user,)))) as session:
        session.record(NSEC_PER_SEC)
        assert len(session.kdamonds[0].ctx.schemes) == 2  # the polled scheme follows the requested one
        assert session.kdamonds[0].ctx.schemes[0] == user
    recording = session.recording()
    assert recording.source == "tried_regions"
    assert len(recording.snapshots) >= 8
    assert recording.snapshots[0].nr_accesses.tolist() == [9]
    assert is_clean(damon)


def test_polling_does_not_hide_errors() -> None:
    damon = FakeDamon(NEWEST)

    def body() -> None:
        with session_on(damon, source="tried_regions") as session:
            damon.refuse("update_schemes_tried_regions", errno.ENOMEM)
            session.record(NSEC_PER_SEC)

    with pytest.raises(TreeError, match="ENOMEM"):
        body()
    assert is_clean(damon)


def test_suitable_requested_scheme_is_polled() -> None:
    damon = FakeDamon(NEWEST)
    fitting = Kdamond(replace(PLAIN.ctx, schemes=(Damos("stat", ANY),)))
    with session_on(damon, fitting, source="tried_regions") as session:
        session.record(NSEC_PER_SEC)
        assert session.kdamonds == (fitting,)
    assert session.recording().snapshots


def test_polling_refuses_several_targets() -> None:
    damon = FakeDamon(NEWEST)
    with pytest.raises(NotSupported, match="several targets"):
        session_on(damon, Kdamond(DamonCtx(targets=(DamonTarget(7), DamonTarget(8)))), source="tried_regions")


def test_events_are_not_silently_replaced_by_polling() -> None:
    damon = FakeDamon(NEWEST)
    damon.events.names = frozenset()
    with pytest.raises(NotSupported, match="damon_aggregated"):
        session_on(damon, source="events")


def test_a_session_may_record_nothing() -> None:
    damon = FakeDamon(NEWEST)
    with session_on(damon, source="none") as session:
        session.record(NSEC_PER_SEC)
        with pytest.raises(NotSupported, match="does not record"):
            session.recording()
    assert damon.events.streams == []
