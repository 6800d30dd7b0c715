# SPDX-License-Identifier: GPL-2.0
"""The client on the reference's tree, events and virtual time."""

from __future__ import annotations

import errno
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from request_strategies import kdamonds

from damon_tests.damon import trace
from damon_tests.damon.capability import fingerprint, probe
from damon_tests.damon.client import DamonClient
from damon_tests.damon.features import FEATURES, LEVELS, version_key
from damon_tests.damon.params import ANY, DamonAttrs, DamonCtx, DamonTarget, Damos, Kdamond
from damon_tests.damon.session import Session
from damon_tests.ports import (
    NSEC_PER_MSEC,
    NSEC_PER_SEC,
    Bools,
    NotSupported,
    Pages,
    TreeError,
    UsageError,
)
from damon_tests.reference.sysfs.system import ReferenceSystem

MIB = 1 << 20
HEAP = 1 << 32
HOT = (HEAP, HEAP + MIB)
COLD = (HEAP + MIB, HEAP + 16 * MIB)


class Still:
    """A target that touches HOT all the time and nothing else."""

    def ranges(self) -> Sequence[tuple[int, int]]:
        return [(HOT[0], COLD[1])]

    def span_ns(self) -> tuple[int, int]:
        return 0, 1 << 62

    def touched(self, pages: Pages, t0_ns: int, t1_ns: int) -> Bools:
        return (pages >= HOT[0] // 4096) & (pages < HOT[1] // 4096) & (t1_ns > t0_ns)

    def touched_each(self, pages: Pages, t0_ns: Pages, t1_ns: Pages) -> Bools:
        return self.touched(pages, 0, 1) & (t1_ns > t0_ns)

    def rate(self, pages: Pages, t0_ns: int, t1_ns: int, window_ns: int) -> np.ndarray:
        return self.touched(pages, t0_ns, t1_ns).astype(np.float64)


def system(level: str = "7.3") -> tuple[ReferenceSystem, DamonClient, int]:
    made = ReferenceSystem(level=level, seed=3)
    # vaddr looks for two gaps: below it a program, above it a stack.
    pid = made.add_process([(0x1000, 0x2000), (HOT[0], COLD[1]), (1 << 46, (1 << 46) + 4096)], Still())
    return made, DamonClient(made.tree, made.clock), pid


def watching(pid: int, *schemes: Damos) -> Kdamond:
    return Kdamond(DamonCtx("fvaddr", targets=(DamonTarget(pid, ((HOT[0], COLD[1]),)),), schemes=schemes))


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.data())
def test_what_is_staged_reads_back(data: st.DataObject) -> None:
    level = data.draw(st.sampled_from(LEVELS))
    first, second = data.draw(kdamonds(level)), data.draw(kdamonds(level))
    _, client, _ = system(level)
    client.stage(first)
    assert client.staged() == first
    assert client.verify_staged(first) == ()
    if len(first) == len(second):
        client.restage(second)
        assert client.staged() == second
    else:
        with pytest.raises(UsageError):
            client.restage(second)


@pytest.mark.parametrize("level", LEVELS)
def test_each_level_is_recognised_and_left_empty(level: str) -> None:
    made, client, _ = system(level)
    capabilities = probe(client, made.events)
    assert fingerprint(capabilities) == level
    assert capabilities.contradicting(level) == ()
    assert client.nr_kdamonds() == 0
    assert capabilities.has("damos_esz") == (version_key(FEATURES["damos_esz"].since) <= version_key(level))


@pytest.mark.parametrize("level", LEVELS)
def test_recording_sees_the_hot_part(level: str) -> None:
    made, client, pid = system(level)
    with Session(client, made.events, (watching(pid),)) as session:
        session.record(3 * NSEC_PER_SEC)
    recording = session.recording()
    assert len(recording.snapshots) >= 29
    assert all(s.complete for s in recording.snapshots)
    last = recording.snapshots[-1]
    accesses = np.repeat(last.nr_accesses, (last.sizes // 4096).astype(int))
    assert accesses[: MIB // 4096].mean() > 15
    assert accesses[2 * MIB // 4096 :].max() == 0
    assert client.nr_kdamonds() == 0


@pytest.mark.parametrize("level", LEVELS)
def test_polling_sees_the_hot_part(level: str) -> None:
    _, client, pid = system(level)
    with Session(client, None, (watching(pid),)) as session:
        session.record(2 * NSEC_PER_SEC)
        session.commit(session.kdamonds)
    recording = session.recording()
    assert recording.source == "tried_regions"
    assert len(recording.snapshots) >= 15
    last = recording.snapshots[-1]
    assert int(last.sizes.sum()) == COLD[1] - HOT[0]
    hot = last.nr_accesses > 10
    assert hot.any()
    assert int(last.start[hot].min()) == HOT[0]


@pytest.mark.parametrize("level", LEVELS)
def test_scheme_reports_count_tried_and_applied(level: str) -> None:
    made, client, pid = system(level)
    with Session(client, made.events, (watching(pid, Damos("stat", ANY), Damos("stat")),)) as session:
        session.record(NSEC_PER_SEC)
        every, nothing = session.scheme_reports()
    assert every.stats.nr_tried > 0
    assert every.stats.sz_tried % (COLD[1] - HOT[0]) == 0
    assert every.tried[0].total_bytes == COLD[1] - HOT[0]
    assert nothing.stats.nr_tried == 0
    assert len(nothing.tried[0].regions) == 0


@pytest.mark.parametrize("level", LEVELS)
def test_session_ends_without_error_when_the_target_ends(level: str) -> None:
    made, client, pid = system(level)
    vaddr = Kdamond(DamonCtx("vaddr", targets=(DamonTarget(pid),)))
    with Session(client, made.events, (vaddr,)) as session:
        session.record(NSEC_PER_SEC)
        made.remove_process(pid)
        session.record(NSEC_PER_SEC)
        assert not session.running()
    assert client.nr_kdamonds() == 0
    assert session.recording().snapshots


def test_refusals_name_their_reason() -> None:
    made, client, pid = system()
    few = DamonAttrs(min_nr_regions=2)
    for request, text in (
        (replace(watching(pid).ctx, attrs=few), "min_nr_regions 2 is below 3"),
        (replace(watching(pid).ctx, targets=(DamonTarget(99),)), "may have ended (pid 99)"),
        (DamonCtx("paddr", targets=(DamonTarget(), DamonTarget())), "paddr takes one target"),
    ):
        with Session(client, made.events, (Kdamond(request),)) as session, pytest.raises(TreeError) as caught:
            session.start()
        assert text in str(caught.value)
        assert caught.value.errno == errno.EINVAL
    assert client.nr_kdamonds() == 0


def test_commit_changes_what_runs() -> None:
    made, client, pid = system()
    with Session(client, made.events, (watching(pid),), extra_events=(trace.BEFORE_APPLY,)) as session:
        session.record(NSEC_PER_SEC)
        assert session.events(trace.BEFORE_APPLY) == []
        session.commit((watching(pid, Damos("stat", ANY)),))
        session.record(NSEC_PER_SEC)
        assert session.events(trace.BEFORE_APPLY)


def test_pause_stops_the_aggregations() -> None:
    made, client, pid = system()
    with Session(client, made.events, (watching(pid),)) as session:
        session.record(NSEC_PER_SEC)
        session.pause()
        paused = len(session.recording().snapshots)
        session.record(NSEC_PER_SEC)
        assert len(session.recording().snapshots) <= paused + 1
        session.pause(False)
        session.record(NSEC_PER_SEC)
        assert len(session.recording().snapshots) >= paused + 8


def test_busy_while_a_command_waits_is_waited_out() -> None:
    """Updating tried regions waits for the next apply interval; meanwhile the tree's lock is held."""
    made, client, pid = system()
    slow = Damos("stat", ANY, apply_interval_us=2_000_000)
    with Session(client, made.events, (watching(pid, slow),)) as session:
        session.start()
        pending = client.begin_command(0, "update_schemes_tried_regions")
        made.clock.run_for(100 * NSEC_PER_MSEC)
        assert not pending.done()
        began = made.clock.now_ns()
        assert client.state(0) == "on"
        assert made.clock.now_ns() - began >= NSEC_PER_SEC
        pending.result(NSEC_PER_SEC)


def test_a_busy_reference_is_not_shared() -> None:
    made, client, pid = system()
    other = DamonClient(made.tree, made.clock)
    other.stage((watching(pid),))
    other.command(0, "on")
    with (
        pytest.raises(NotSupported, match="running: kdamonds/0"),
        Session(client, made.events, (watching(pid),)),
    ):
        pass
    assert other.state(0) == "on"
