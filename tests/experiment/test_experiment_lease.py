# SPDX-License-Identifier: GPL-2.0
"""A DAMON in use is never touched; a lease restores what its run changed."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import pytest
from fake_lease import Leases
from fake_sysfs import COUNT, KDAMONDS, FakeDamon

from damon_tests.experiment.lease import Lease, acquire, hold_host
from damon_tests.kernel.host.journal import Journal
from damon_tests.kernel.host.machine import LocalClock, LocalMachine
from damon_tests.kernel.machine_tree import MachineTree
from damon_tests.ports import (
    NSEC_PER_SEC,
    Entry,
    FileOp,
    HarnessError,
    NotSupported,
    TreeError,
)

CLOCK = LocalClock()
TESTS = Path(__file__).resolve().parents[1]


def refused(leases: Leases, **options: object) -> NotSupported:
    """Acquire, which must be refused without a single write and without a changed byte."""
    leases.damon.write_allowed = False
    before = leases.damon.picture()
    with pytest.raises(NotSupported) as caught, leases.acquire(**options):
        pass
    assert leases.damon.writes == []
    assert leases.damon.picture() == before
    assert not (leases.directory / "journal").exists()
    return caught.value


# --- a foreign DAMON is never touched ------------------------------------------------------------


@pytest.mark.parametrize("stop_modules", [False, True])
def test_a_foreign_kdamond_is_named_and_not_touched(leases: Leases, stop_modules: bool) -> None:
    leases.damon.make_kdamonds(2)
    leases.damon.proc = True
    pid = leases.damon.start(1)
    error = refused(leases, stop_modules=stop_modules)
    assert f"kdamonds/1 of the sysfs tree (pid {pid}) is on" in str(error)
    assert "never touched" in error.remedy


def test_foreign_kdamond_and_module_are_both_named(leases: Leases) -> None:
    """The module keeps running although ``stop_modules`` is given: a foreign kdamond forbids everything."""
    leases.damon.make_kdamonds(1)
    leases.damon.start()
    leases.damon.start_module("damon_reclaim")
    assert len(refused(leases).missing) == 2
    assert len(refused(leases, stop_modules=True).missing) == 1


def test_staged_kdamonds_refuse_the_lease(leases: Leases) -> None:
    leases.damon.make_kdamonds(3)
    assert "nr_kdamonds is 3 (none is on)" in str(refused(leases))


def test_busy_tree_refuses_the_lease(leases: Leases, monkeypatch: pytest.MonkeyPatch) -> None:
    leases.damon.make_kdamonds(1)
    read = leases.damon.read

    def busy(path: str) -> str:
        if path.endswith(("/state", "/pid")):
            raise TreeError("read", path, 16)
        return read(path)

    monkeypatch.setattr(leases.damon, "read", busy)
    assert "a command is being executed" in str(refused(leases))


@pytest.mark.parametrize("module", ["damon_stat", "damon_reclaim", "damon_lru_sort"])
def test_a_running_module_is_named_and_not_touched(leases: Leases, module: str) -> None:
    pid = leases.damon.start_module(module)
    error = refused(leases)
    assert f"module {module} (pid {pid}) is on" in str(error)
    assert "--stop-modules" in error.remedy


def test_a_module_without_a_pid_is_named_too(leases: Leases) -> None:
    """DAMON_STAT before 7.2."""
    leases.damon.start_module("damon_stat")
    (leases.damon.root / leases.damon.parameter("damon_stat", "kdamond_pid")[1:]).unlink()
    (reason,) = refused(leases).missing
    assert reason == "DAMON is in use: module damon_stat is on"


def test_kdamond_of_unknown_owner_refuses_the_lease(leases: Leases) -> None:
    """The kernel's sample modules start kdamonds that neither the tree nor a known module reports."""
    leases.damon.put("/proc/4321/stat", "4321 (kdamond.7) S 2 0 0\n")
    leases.damon.put("/proc/4322/stat", "4322 (kdamond.8) Z 2 0 0\n")  # ends
    leases.damon.put(
        "/proc/4323/stat", "4323 (kdamond.9) S 4000 0 0\n"
    )  # a process of that name, no kernel thread
    (reason,) = refused(leases).missing
    assert "kdamond thread 4321" in reason


def test_module_with_unreadable_state_refuses_the_lease(
    leases: Leases, monkeypatch: pytest.MonkeyPatch
) -> None:
    enabled = leases.damon.parameter("damon_stat", "enabled")
    read = leases.damon.read

    def denied(path: str) -> str:
        if path == enabled:
            raise TreeError("read", path, 13)
        return read(path)

    monkeypatch.setattr(leases.damon, "read", denied)
    assert "cannot find out whether module damon_stat runs" in str(refused(leases))


def test_missing_damon_and_missing_privilege_are_named(
    leases: Leases, monkeypatch: pytest.MonkeyPatch
) -> None:
    def denied(path: str) -> str:
        raise TreeError("read", path, 13)

    with monkeypatch.context() as patch:
        patch.setattr(leases.damon, "read", denied)
        error = refused(leases)
        assert "EACCES" in str(error)
        assert "run as root" in error.remedy
    leases.damon.remove()
    error = refused(leases)
    assert "no DAMON sysfs interface" in str(error)
    assert "CONFIG_DAMON_SYSFS" in error.remedy


def test_refused_run_releases_the_lock(leases: Leases) -> None:
    leases.damon.start_module("damon_stat")
    refused(leases)
    leases.damon.put(leases.damon.parameter("damon_stat", "enabled"), "N\n")
    leases.damon.write_allowed = True
    with leases.acquire():
        pass


class Untouchable(LocalMachine):
    """The machine that runs these tests; any write to it fails the test."""

    def _write(self, path: str, data: bytes, offset: int, create: bool, mode: int) -> int:
        raise AssertionError(f"a write to this very machine was tried: {path} := {data!r}")

    def _do(self, op: FileOp) -> bytes | Sequence[Entry]:
        assert op.kind in ("read", "list", "walk", "stat"), f"a change of this very machine was tried: {op}"
        return super()._do(op)


def test_the_untouchable_machine_refuses_writes() -> None:
    tree = MachineTree(Untouchable())
    with pytest.raises(AssertionError, match="very machine"):
        tree.write("/sys/absent", "1")
    with pytest.raises(AssertionError, match="very machine"):
        tree.write_batch([("/sys/absent", "1")])
    with pytest.raises(AssertionError, match="very machine"):
        tree.begin_write("/sys/absent", "1").result(60 * NSEC_PER_SEC)


def test_real_damon_in_use_is_not_touched(tmp_path: Path) -> None:
    """Where DAMON is in production use, a lease is refused; the test is skipped where DAMON is free."""
    tree = MachineTree(Untouchable())
    count = tree.read_batch([COUNT])[0]
    if isinstance(count, TreeError):
        pytest.skip(f"DAMON of this machine cannot be looked at: {count}")
    if int(count) == 0:
        pytest.skip("nobody uses DAMON on this machine")
    journal = Journal(tmp_path / "journal", guard=False)
    with pytest.raises(NotSupported, match=r"kdamonds/|nr_kdamonds is"):
        acquire(tree, journal, "host", stop_modules=True, wait_s=0, lock_directory=tmp_path / "lock")
    assert not (tmp_path / "journal").exists()


# --- a free DAMON --------------------------------------------------------------------------------


def test_a_lease_restores_everything(leases: Leases) -> None:
    parameter = leases.damon.parameter("damon_reclaim", "sample_interval")
    enabled = leases.damon.parameter("damon_reclaim", "enabled")
    with leases.acquire() as lease:
        lease.tree.write(parameter, "1000")
        lease.tree.write(enabled, "Y")
        lease.tree.write(enabled, "N")
        lease.tree.write(COUNT, "1")
        lease.tree.write(f"{KDAMONDS}/0/state", "on")
    assert leases.damon.get(COUNT) == "0"
    assert leases.damon.get(f"{KDAMONDS}/0/state") == "off"
    assert leases.damon.get(parameter) == "5000"
    assert leases.damon.get(enabled) == "N"
    assert lease.stopped == ()
    assert leases.notified == []


def test_stop_modules_stops_and_restores(leases: Leases) -> None:
    enabled = leases.damon.parameter("damon_stat", "enabled")
    leases.damon.start_module("damon_stat")
    with leases.acquire(stop_modules=True) as lease:
        assert lease.stopped == ("damon_stat",)
        assert leases.damon.get(enabled) == "N"
        lease.tree.write(COUNT, "1")
    assert leases.damon.get(enabled) == "Y"
    assert leases.damon.get(COUNT) == "0"
    assert leases.damon.writes == [(enabled, "N"), (COUNT, "1")]  # the journal restores around the tree


def test_a_module_that_does_not_stop_is_an_error_and_restored(
    leases: Leases, monkeypatch: pytest.MonkeyPatch
) -> None:
    leases.damon.start_module("damon_stat")
    monkeypatch.setattr(leases.damon, "put", lambda path, value: None)
    monkeypatch.setattr("damon_tests.experiment.lease._ENDING_S", 0)
    with pytest.raises(HarnessError, match=r"request to stop: module damon_stat"):
        leases.acquire(stop_modules=True)
    assert leases.damon.get(leases.damon.parameter("damon_stat", "enabled")) == "Y"


def test_a_lease_restores_when_the_test_fails_and_the_failure_is_kept(leases: Leases) -> None:
    def failing(lease: Lease) -> None:
        lease.tree.write(COUNT, "1")
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError), leases.acquire() as lease:
        failing(lease)
    assert leases.damon.get(COUNT) == "0"


def test_release_names_what_it_cannot_restore(leases: Leases, monkeypatch: pytest.MonkeyPatch) -> None:
    parameter = leases.damon.parameter("damon_reclaim", "sample_interval")
    monkeypatch.setattr("damon_tests.kernel.host.undo.LocalFiles.write", lambda self, path, value: None)
    lease = leases.acquire()
    lease.tree.write(parameter, "1000")
    with pytest.raises(HarnessError, match=re.escape(parameter)):
        lease.release()
    lease.release()  # the second call raises nothing
    with leases.acquire():
        pass  # the lock was released all the same


def test_release_reports_foreign_changes_and_keeps_them(leases: Leases) -> None:
    parameter = leases.damon.parameter("damon_reclaim", "sample_interval")
    with leases.acquire() as lease:
        lease.tree.write(parameter, "1000")
        leases.damon.put(parameter, "2000\n")
    assert leases.damon.get(parameter) == "2000"
    (notification,) = leases.notified
    assert parameter in notification


def test_private_damon_needs_no_lock(damon: FakeDamon, tmp_path: Path) -> None:
    with acquire(damon, None, "guest") as first, acquire(damon, None, "guest"):
        first.tree.write(COUNT, "1")
    assert damon.get(COUNT) == "0"
    assert damon.writes[-1] == (COUNT, "0")


def test_hold_host_restores_the_machine(damon: FakeDamon, tmp_path: Path) -> None:
    damon.put("/swappiness", "60\n")
    damon.put("/results/old", "kept\n")
    enabled = damon.parameter("damon_stat", "enabled")
    damon.start_module("damon_stat")
    options = {"directory": tmp_path / "runtime", "root": damon.root}
    with pytest.raises(NotSupported, match="damon_stat"), hold_host(Path("/results"), **options):  # type: ignore[arg-type]
        pass
    with hold_host(Path("/results"), stop_modules=True, **options) as machine:  # type: ignore[arg-type]
        assert machine.read_file(enabled) == b"N"
        machine.write_file("/swappiness", b"1\n")
        machine.write_file("/results/new", b"kept too\n", create=True)
        machine.write_file("/temporary", b"gone\n", create=True)
    assert (damon.get("/swappiness"), damon.get(enabled)) == ("60", "Y")
    assert (damon.get("/results/old"), damon.get("/results/new")) == ("kept", "kept too")
    assert not (damon.root / "temporary").exists()
    assert not list((tmp_path / "runtime").rglob("*.jsonl"))
