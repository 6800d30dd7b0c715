# SPDX-License-Identifier: GPL-2.0
"""Sessions always stop what they started, keep their recordings, and commit changes."""

from __future__ import annotations

import errno
from dataclasses import replace

import pytest
from fake_damon import NEWEST, PLAIN, FakeDamon, commands, is_clean, session_on
from fake_tree import RELEASES

from damon_tests.damon.client import DamonClient
from damon_tests.damon.params import (
    ANY,
    DamonAttrs,
    DamonCtx,
    DamonTarget,
    Damos,
    Kdamond,
)
from damon_tests.damon.records import Recording
from damon_tests.damon.session import StagingMismatch
from damon_tests.damon.users import ADMIN
from damon_tests.ports import (
    NSEC_PER_SEC,
    MachineLost,
    NotSupported,
    TreeError,
)

# --- always stopped --------------------------------------------------------------------------


def test_session_is_cleaned_up_after_an_exception() -> None:
    damon = FakeDamon(NEWEST)

    def body() -> None:
        with session_on(damon, PLAIN, PLAIN) as session:
            session.start()
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        body()
    assert is_clean(damon)
    assert commands(damon) == ["on", "on", "off", "off"]


@pytest.mark.parametrize("release", RELEASES)
def test_a_target_that_ends_is_no_error(release: str) -> None:
    """The kdamond ends by itself; ``off`` then fails before 7.3."""
    damon = FakeDamon(release)
    with session_on(damon) as session:
        session.start()
        damon.end_at = damon.clock.now_ns() + NSEC_PER_SEC // 2
        session.record(NSEC_PER_SEC)
        assert not session.running()
    assert is_clean(damon)
    assert len(session.recording().snapshots) in (4, 5)


def test_a_target_that_ends_while_polled_is_no_error() -> None:
    damon = FakeDamon(NEWEST)
    with session_on(damon, source="tried_regions") as session:
        session.start()
        damon.end_at = damon.clock.now_ns() + NSEC_PER_SEC // 2
        session.record(NSEC_PER_SEC)
    assert is_clean(damon)
    assert session.recording().snapshots


def test_when_the_second_kdamond_is_refused_the_first_is_stopped() -> None:
    damon = FakeDamon(NEWEST)
    damon.fail("1/state", errno.EINVAL, value="on")
    with pytest.raises(TreeError, match="EINVAL"), session_on(damon, PLAIN, PLAIN) as session:
        session.start()
    assert is_clean(damon)
    assert commands(damon).count("on") == 2
    assert "off" in commands(damon)


def test_the_error_of_the_body_is_not_hidden_by_cleaning_up() -> None:
    damon = FakeDamon(NEWEST)

    def body() -> None:
        with session_on(damon) as session:
            session.start()
            damon.fail("nr_kdamonds", errno.EIO, value="0")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError) as caught:
        body()
    assert any("cleaning up failed" in note and "EIO" in note for note in caught.value.__notes__)


def test_cleaning_up_that_fails_alone_is_raised() -> None:
    damon = FakeDamon(NEWEST)

    def body() -> None:
        with session_on(damon) as session:
            session.start()
            damon.fail("nr_kdamonds", errno.EIO, value="0")

    with pytest.raises(TreeError, match="EIO"):
        body()
    assert damon.events.streams[0].closed


def test_refused_staging_is_removed() -> None:
    damon = FakeDamon("6.12.107")
    with (
        pytest.raises(NotSupported, match="pause"),
        session_on(damon, Kdamond(replace(PLAIN.ctx, pause=True))),
    ):
        pass
    assert is_clean(damon)


def test_value_that_does_not_read_back_is_an_error() -> None:
    class Forgets(FakeDamon):
        def _canonical(self, path: str, relative: str, value: str) -> str:
            return "8" if path.endswith("pid_target") else super()._canonical(path, relative, value)

    damon = Forgets(NEWEST)
    with pytest.raises(StagingMismatch, match=r"pid_target: requested 7, found 8"), session_on(damon):
        pass
    assert is_clean(damon)


# --- foreign users ---------------------------------------------------------------------------


def test_a_tree_in_use_is_not_touched() -> None:
    damon = FakeDamon(NEWEST)
    other = DamonClient(damon, damon.clock)
    other.stage((PLAIN,))
    damon.log.clear()
    with pytest.raises(NotSupported, match="nr_kdamonds is 1"), session_on(damon):
        pass
    other.command(0, "on")
    damon.log.clear()
    with pytest.raises(NotSupported, match=r"running: kdamonds/0 .*pid 4242"), session_on(damon):
        pass
    assert damon.log == []
    assert damon.events.streams == []


# --- lost machine ----------------------------------------------------------------------------


@pytest.mark.parametrize("when", ["recording", "stopping"])
def test_recording_of_a_lost_machine_is_kept(when: str) -> None:
    damon = FakeDamon(NEWEST)

    def body() -> None:
        with session_on(damon) as session:
            session.record(NSEC_PER_SEC)
            damon.dead = True
            if when == "recording":
                session.record(NSEC_PER_SEC)

    with pytest.raises(MachineLost) as caught:
        body()
    partial = caught.value.partial
    assert isinstance(partial, tuple)
    (recording,) = partial
    assert isinstance(recording, Recording)
    assert len(recording.snapshots) >= 9
    assert recording.stopped_ns == recording.snapshots[-1].time_ns


# --- online ----------------------------------------------------------------------------------


def test_commit_writes_only_what_differs() -> None:
    damon = FakeDamon(NEWEST)
    with session_on(damon) as session:
        session.start()
        damon.log.clear()
        session.commit((Kdamond(replace(PLAIN.ctx, attrs=DamonAttrs(sample_us=10_000, aggr_us=200_000))),))
        written = [(p.rsplit("/", 1)[1], v) for p, v in damon.log]
        assert written == [("sample_us", "10000"), ("aggr_us", "200000"), ("state", "commit")]


def test_pause_and_resume_are_committed() -> None:
    damon = FakeDamon(NEWEST)
    with session_on(damon) as session:
        session.start()
        session.pause()
        assert damon.files[f"{ADMIN}/kdamonds/0/contexts/0/pause"] == "Y"
        session.pause(False)
        assert damon.files[f"{ADMIN}/kdamonds/0/contexts/0/pause"] == "N"
    assert commands(damon) == ["on", "commit", "commit", "off"]


def test_obsolete_targets_leave_the_tree_after_the_commit() -> None:
    damon = FakeDamon(NEWEST)
    first, second = DamonTarget(7), DamonTarget(8)
    with session_on(damon, Kdamond(DamonCtx(targets=(first, second)))) as session:
        session.start()
        session.commit((Kdamond(DamonCtx(targets=(replace(first, obsolete_target=True), second))),))
        assert session.client.staged()[0].ctx.targets == (second,)
        assert session.kdamonds[0].ctx.targets == (second,)


def test_scheme_reports_have_stats_quota_and_regions() -> None:
    damon = FakeDamon(NEWEST)
    with session_on(damon, Kdamond(replace(PLAIN.ctx, schemes=(Damos("stat", ANY), Damos())))) as session:
        session.start()
        reports = session.scheme_reports()
        damon.refuse("update_schemes_tried_regions", errno.ECANCELED)
        paused = session.scheme_reports()[0]
    assert len(reports) == 2
    assert reports[0].effective_bytes == 0
    assert len(reports[0].tried) == 1
    assert reports[0].stats.nr_snapshots == 0
    assert paused.tried == ()
