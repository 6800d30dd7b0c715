# SPDX-License-Identifier: GPL-2.0
"""Runs take turns on a kernel's DAMON, and the next run cleans up after a dead run."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from fake_lease import Leases
from fake_sysfs import COUNT, KDAMONDS, FakeDamon

from damon_tests.experiment.lease import acquire
from damon_tests.kernel.host.journal import Journal
from damon_tests.kernel.host.machine import LocalClock
from damon_tests.kernel.host.owner import boot_id, start_time
from damon_tests.kernel.host.restore import Leftover
from damon_tests.ports import (
    NSEC_PER_SEC,
    HarnessError,
    NotSupported,
    TimedOut,
    UsageError,
)

CLOCK = LocalClock()
TESTS = Path(__file__).resolve().parents[1]


# --- dead runs -----------------------------------------------------------------------------------

# A run that holds a lease, turns DAMON on, prints its guard's pid, and waits to be killed.
RUN = """
import os, signal, sys
sys.path.insert(0, sys.argv[2])
from pathlib import Path
from fake_sysfs import COUNT, KDAMONDS, FakeDamon
from damon_tests.experiment.lease import acquire
from damon_tests.kernel.host.journal import Journal

top = Path(sys.argv[1])
damon = FakeDamon(top / "root")
journal = Journal(top / "journal", root=damon.root)
lease = acquire(damon, journal, "host", stop_modules=True, wait_s=0, lock_directory=top / "lock")
lease.tree.write(COUNT, "1")
lease.tree.write(f"{KDAMONDS}/0/contexts/nr_contexts", "1")
lease.tree.write(f"{KDAMONDS}/0/state", "on")
print(journal._guard.pid, flush=True)
signal.pause()
"""


@pytest.mark.parametrize("guarded", [True, False])
def test_leftovers_of_a_killed_run_are_cleaned_and_a_foreign_kdamond_is_not(
    leases: Leases, damon: FakeDamon, tmp_path: Path, guarded: bool
) -> None:
    damon.start_module("damon_stat")
    enabled = damon.parameter("damon_stat", "enabled")
    run = subprocess.Popen(
        [sys.executable, "-c", RUN, str(tmp_path), str(TESTS)], stdout=subprocess.PIPE, text=True
    )
    assert run.stdout is not None
    guard = int(run.stdout.readline())
    assert (damon.get(COUNT), damon.get(enabled)) == ("1", "N")
    if not guarded:
        os.kill(guard, signal.SIGKILL)
    run.kill()
    # Without waiting for the guard, which may be at work or may not have noticed the death yet.
    with leases.acquire(stop_modules=True, wait_s=60) as lease:
        assert damon.get(enabled) == "N"  # ours now
        assert damon.get(COUNT) == "0"
        if not guarded:
            assert [leftover.owner.pid for leftover in lease.leftovers] == [run.pid]
            assert f"dead run (pid {run.pid}" in leases.notified[-1]
            assert "restored" in leases.notified[-1]
    lease.journal.close()
    assert damon.get(enabled) == "Y"
    run.wait()
    assert CLOCK.wait_until(lambda: start_time(guard) is None, CLOCK.now_ns() + 60 * NSEC_PER_SEC)
    assert os.listdir(tmp_path / "journal") == []


def test_lease_waits_for_a_dying_holder(leases: Leases, monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel drops its lock a moment before it is dead, and a live run's journal is not undone."""
    dying = subprocess.Popen([sys.executable, "-S", "-c", "import signal; signal.pause()"])
    owner = {"pid": dying.pid, "start_time": start_time(dying.pid), "boot_id": boot_id()}
    (leases.directory / "lock").mkdir()
    (leases.directory / "lock/host.holder").write_text(json.dumps({"owner": owner, "cmdline": "it"}))

    def dies(seconds: float) -> None:
        dying.kill()
        dying.wait()

    def recovered(directory: Path) -> list[Leftover]:
        assert start_time(dying.pid) is None
        return []

    monkeypatch.setattr("damon_tests.experiment.lease.time.sleep", dies)
    monkeypatch.setattr("damon_tests.experiment.lease.recover", recovered)
    try:
        with leases.acquire():
            pass
    finally:
        dies(0)


def test_a_foreign_kdamond_beside_a_dead_runs_journal_is_refused(leases: Leases, damon: FakeDamon) -> None:
    journal = leases.journal()
    lease = acquire(damon, journal, "host", wait_s=0, lock_directory=leases.directory / "lock")
    lease.tree.write(COUNT, "1")
    lease.tree.write(f"{KDAMONDS}/0/state", "on")
    lease._lock.release()  # type: ignore[union-attr]
    assert journal.path is not None
    journal.path.write_text(journal.path.read_text().replace('"start_time": ', '"start_time": 1', 1))  # dead
    pid = damon.start()  # somebody restarted it
    damon.writes.clear()
    damon.write_allowed = False
    before = damon.picture()
    with pytest.raises(NotSupported, match=str(pid)):
        leases.acquire()
    assert damon.picture() == before
    assert damon.writes == []
    assert "left" in leases.notified[0]


# --- turns ---------------------------------------------------------------------------------------

# Takes the lease five times, and each time writes two lines that must stay adjacent.
TURNS = """
import os, sys
sys.path.insert(0, sys.argv[2])
from pathlib import Path
from fake_sysfs import COUNT, FakeDamon
from damon_tests.experiment.lease import acquire
from damon_tests.kernel.host.journal import Journal

top = Path(sys.argv[1])
damon = FakeDamon(top / "root")
for turn in range(5):
    journal = Journal(top / "journal", root=damon.root, guard=False)
    with acquire(damon, journal, "host", wait_s=120, lock_directory=top / "lock") as lease:
        for what in ("begin", "end"):
            lease.tree.write(COUNT, "1")
            with open(top / "log", "a") as log:
                log.write(f"{os.getpid()} {turn} {what}\\n")
"""


def test_two_runs_at_once_take_turns(damon: FakeDamon, tmp_path: Path) -> None:
    arguments = [sys.executable, "-c", TURNS, str(tmp_path), str(TESTS)]
    runs = [subprocess.Popen(arguments, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    messages = [run.communicate(timeout=120)[1] for run in runs]
    assert [run.returncode for run in runs] == [0, 0], messages
    lines = (tmp_path / "log").read_text().splitlines()
    assert len(lines) == 20
    for begin, end in zip(lines[::2], lines[1::2], strict=True):
        assert (begin.split()[:2], begin.split()[2]) == (end.split()[:2], "begin")
        assert end.endswith(" end")


def test_waiting_run_names_the_holder_once_and_times_out(leases: Leases) -> None:
    with leases.acquire(), pytest.raises(TimedOut, match=rf"pid {os.getpid()} \({sys.orig_argv[0]}"):
        leases.acquire(wait_s=0.3)
    (notification,) = leases.notified  # once, not at every attempt
    assert f"waiting for pid {os.getpid()}" in notification
    with leases.acquire():
        pass


def test_leases_of_different_kernels_do_not_wait_for_each_other(leases: Leases, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    other = FakeDamon(tmp_path / "other")
    journal = Journal(tmp_path / "other-journal", root=other.root, guard=False)
    with leases.acquire(), acquire(other, journal, "other", wait_s=0, lock_directory=tmp_path / "lock"):
        pass


def test_lock_directory_writable_by_others_is_refused(leases: Leases) -> None:
    with leases.acquire():
        lock = leases.directory / "lock/host.lock"
        assert lock.stat().st_mode & 0o777 == 0o600
    (leases.directory / "lock").chmod(0o777)
    with pytest.raises(HarnessError, match="writable by nobody else"):
        leases.acquire()


def test_a_kernel_id_is_a_word(leases: Leases, damon: FakeDamon) -> None:
    with pytest.raises(UsageError, match="one word"):
        acquire(damon, leases.journal(), "../evil")
