# SPDX-License-Identifier: GPL-2.0
"""Undo of kdamonds, and recovery from the journals of dead runs."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from fake_sysfs import COUNT, KDAMONDS, FakeDamon

from damon_tests.kernel.host import undo
from damon_tests.kernel.host.journal import Journal
from damon_tests.kernel.host.journaled import JournaledMachine, JournaledTree, TreeFiles
from damon_tests.kernel.host.machine import LocalMachine
from damon_tests.kernel.host.owner import Owner, boot_id, current_owner, start_time
from damon_tests.kernel.host.restore import recover
from damon_tests.ports import NotSupported, TreeError

SYSCTL = "/proc/sys/vm/swappiness"


@pytest.fixture
def damon(root: Path) -> FakeDamon:
    return FakeDamon(root)


@pytest.fixture
def machine(root: Path, journal: Journal) -> JournaledMachine:
    return JournaledMachine(LocalMachine(root=root), journal)


def die(journal: Journal) -> None:
    """Make the journal that of a dead run."""
    assert journal.path is not None
    header, _, rest = journal.path.read_text().partition("\n")
    record = json.loads(header)
    record["owner"]["start_time"] -= 1
    journal.path.write_text(json.dumps(record) + "\n" + rest)


def results(journal: Journal) -> list[tuple[str, str]]:
    return [(o.path, o.result) for o in journal.restore()]


@pytest.fixture
def tree(damon: FakeDamon, journal: Journal) -> JournaledTree:
    return JournaledTree(damon, journal)


def test_own_kdamonds_are_turned_off_and_removed(
    damon: FakeDamon, tree: JournaledTree, journal: Journal
) -> None:
    tree.write(COUNT, "2")
    tree.write_batch(
        [(f"{KDAMONDS}/0/contexts/nr_contexts", "1"), (f"{KDAMONDS}/1/contexts/nr_contexts", "1")]
    )
    tree.write(f"{KDAMONDS}/0/state", "on")
    tree.begin_write(f"{KDAMONDS}/1/state", "on").result(1)
    assert damon.get(f"{KDAMONDS}/1/state") == "on"
    assert results(journal) == [(COUNT, "restored")]
    assert (damon.get(COUNT), damon.get(f"{KDAMONDS}/0/state")) == ("0", "off")


def test_a_run_that_cleans_up_itself_leaves_nothing_to_undo(tree: JournaledTree, journal: Journal) -> None:
    tree.write(COUNT, "1")
    tree.write(COUNT, "3")
    tree.write(COUNT, "0")
    assert journal.outstanding() == []


def test_nr_kdamonds_of_somebody_else_is_not_overwritten(
    damon: FakeDamon, tree: JournaledTree, journal: Journal
) -> None:
    damon.make_kdamonds(1)
    for path, value in ((COUNT, "1"), (COUNT, "0"), (f"{KDAMONDS}/0/state", "off")):
        with pytest.raises(NotSupported):
            tree.write(path, value)
    with pytest.raises(NotSupported):
        tree.write_batch([(f"{KDAMONDS}/0/contexts/nr_contexts", "1")])
    with pytest.raises(NotSupported):
        tree.begin_write(f"{KDAMONDS}/0/state", "off")
    assert damon.writes == []
    assert journal.outstanding() == []


def test_refused_count_does_not_make_kdamonds_ours(
    damon: FakeDamon, tree: JournaledTree, journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another user made a kdamond between our read and our write: EBUSY, and the kdamond is theirs."""

    def busy(path: str, value: str) -> None:
        damon.make_kdamonds(1)
        damon.start()
        raise TreeError("write", path, errno.EBUSY, value)

    monkeypatch.setattr(damon, "write", busy)
    with pytest.raises(TreeError, match="EBUSY"):
        tree.write(COUNT, "1")
    assert results(journal) == []
    assert (damon.get(COUNT), damon.get(f"{KDAMONDS}/0/state")) == ("1", "on")


def remade(damon: FakeDamon, tree: JournaledTree) -> None:
    tree.write(f"{KDAMONDS}/0/state", "on")
    damon.put(f"{KDAMONDS}/0/state", "off\n")
    damon.make_kdamonds(1)


def remade_and_started(damon: FakeDamon, tree: JournaledTree) -> None:
    remade(damon, tree)
    damon.start()


def restarted(damon: FakeDamon, tree: JournaledTree) -> None:
    tree.write(f"{KDAMONDS}/0/state", "on")
    damon.start()


def started_by_another(damon: FakeDamon, tree: JournaledTree) -> None:
    damon.start()


def counted_by_another(damon: FakeDamon, tree: JournaledTree) -> None:
    damon.put(COUNT, "2\n")


def same_pid_later(damon: FakeDamon, tree: JournaledTree) -> None:
    damon.proc = True
    tree.write(f"{KDAMONDS}/0/state", "on")
    pid = damon.get(f"{KDAMONDS}/0/pid")
    damon.put(f"/proc/{pid}/stat", f"{pid} (kdamond.0) S 2 " + "0 " * 17 + "99999999 0 0\n")


@pytest.mark.parametrize(
    "what", [remade, remade_and_started, restarted, started_by_another, counted_by_another, same_pid_later]
)
def test_foreign_kdamond_in_place_of_ours_is_left(
    damon: FakeDamon, tree: JournaledTree, journal: Journal, what: object
) -> None:
    tree.write(COUNT, "1")
    assert callable(what)
    what(damon, tree)
    before = damon.picture()
    assert results(journal) == [(COUNT, "left")]
    assert damon.picture() == before


def test_run_that_died_while_writing_count_owns_only_unused_directories(
    damon: FakeDamon, journal: Journal
) -> None:
    journal.add("kdamonds", COUNT, writing="1")
    damon.make_kdamonds(1)
    damon.put(f"{KDAMONDS}/0/contexts/nr_contexts", "1\n")  # another user staged a context
    assert results(journal) == [(COUNT, "left")]

    journal.add("kdamonds", COUNT, writing="1")
    damon.make_kdamonds(1)
    assert results(journal) == [(COUNT, "restored")]
    assert damon.get(COUNT) == "0"


def test_run_that_died_while_turning_on_owns_the_kdamond(
    damon: FakeDamon, tree: JournaledTree, journal: Journal
) -> None:
    tree.write(COUNT, "1")
    (entry,) = journal.outstanding()
    journal.after(entry, starting=0)
    damon.start()
    assert results(journal) == [(COUNT, "restored")]
    assert damon.get(f"{KDAMONDS}/0/state") == "off"


def test_undo_waits_while_files_are_busy(
    damon: FakeDamon, tree: JournaledTree, journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    """DAMON only try-locks: reading state while a command runs fails with EBUSY."""
    tree.write(COUNT, "1")
    tree.write(f"{KDAMONDS}/0/state", "on")
    read, failures = undo.LocalFiles.read, []

    def busy(self: undo.LocalFiles, path: str) -> str:
        if path.endswith("/state") and len(failures) < 3:
            failures.append(path)
            raise OSError(errno.EBUSY, "Device or resource busy", path)
        return read(self, path)

    monkeypatch.setattr(undo.LocalFiles, "read", busy)
    assert results(journal) == [(COUNT, "restored")]
    assert len(failures) == 3


def test_a_journal_in_memory_undoes_through_the_tree(damon: FakeDamon) -> None:
    journal = Journal(None, files=TreeFiles(damon))
    tree = JournaledTree(damon, journal)
    enabled = damon.parameter("damon_reclaim", "enabled")
    tree.write(enabled, "Y")
    tree.write(COUNT, "1")
    tree.write(f"{KDAMONDS}/0/state", "on")
    assert [(o.path, o.result) for o in journal.close()] == [(COUNT, "restored"), (enabled, "restored")]
    assert damon.writes[-3:] == [(f"{KDAMONDS}/0/state", "off"), (COUNT, "0"), (enabled, "N\n")]
    assert journal.path is None


def test_recover_undoes_a_dead_run_and_forgets_it(machine: JournaledMachine, root: Path) -> None:
    machine.write_file(SYSCTL, b"70\n")
    journal = machine.journal
    assert journal.directory is not None
    assert recover(journal.directory) == []  # the run lives
    assert (root / SYSCTL[1:]).read_text() == "70\n"
    die(journal)
    (leftover,) = recover(journal.directory)
    assert [(o.path, o.result) for o in leftover.outcomes] == [(SYSCTL, "restored")]
    assert leftover.owner.pid == os.getpid()
    assert leftover.cmdline.startswith(sys.orig_argv[0])
    assert (root / SYSCTL[1:]).read_text() == "60\n"
    assert recover(journal.directory) == []
    assert os.listdir(journal.directory) == []


def test_recover_without_journals_does_nothing(tmp_path: Path) -> None:
    assert recover(tmp_path / "absent") == []


def test_a_truncated_last_line_is_ignored(machine: JournaledMachine, root: Path) -> None:
    """The change of an incomplete line was never made."""
    machine.write_file(SYSCTL, b"70\n")
    die(machine.journal)
    path = machine.journal.path
    assert path is not None
    with path.open("a") as file:
        file.write('{"id": 2, "kind": "value", "path": "/oth')
    assert machine.journal.directory is not None
    (leftover,) = recover(machine.journal.directory)
    assert [(o.path, o.result) for o in leftover.outcomes] == [(SYSCTL, "restored")]
    assert (root / SYSCTL[1:]).read_text() == "60\n"


def test_recovery_notes_survive_a_truncated_last_line(
    machine: JournaledMachine, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (root / "other").write_text("a\n")
    machine.write_file(SYSCTL, b"70\n")
    machine.write_file("/other", b"b\n")
    die(machine.journal)
    path, directory = machine.journal.path, machine.journal.directory
    assert path is not None
    assert directory is not None
    with path.open("a") as file:
        file.write('{"after": 2, "se')
    write = undo.LocalFiles.write

    def refusing(self: undo.LocalFiles, path: str, value: str) -> None:
        if path == SYSCTL:
            raise OSError(errno.EPERM, "Operation not permitted", path)
        write(self, path, value)

    monkeypatch.setattr(undo.LocalFiles, "write", refusing)
    (leftover,) = recover(directory)
    assert [o.result for o in leftover.outcomes] == ["restored", "failed"]
    monkeypatch.undo()
    (leftover,) = recover(directory)  # only the failed entry is tried again
    assert [(o.path, o.result) for o in leftover.outcomes] == [(SYSCTL, "restored")]
    assert os.listdir(directory) == []


def test_a_journal_without_a_complete_first_line_is_dropped(tmp_path: Path) -> None:
    (tmp_path / "1-1-0.jsonl").write_text('{"format": 1, "own')
    (tmp_path / "1-1-0.jsonl").chmod(0o600)
    assert recover(tmp_path) == []
    assert os.listdir(tmp_path) == []


def test_journal_of_another_boot_undoes_only_what_survives_a_reboot(
    machine: JournaledMachine, root: Path
) -> None:
    machine.write_file(SYSCTL, b"70\n")
    machine.write_file("/file", b"1", create=True)
    path, directory = machine.journal.path, machine.journal.directory
    assert path is not None
    assert directory is not None
    path.write_text(path.read_text().replace(boot_id(), "another-boot"))
    (leftover,) = recover(directory)
    assert [(o.path, o.result) for o in leftover.outcomes] == [("/file", "restored")]
    assert (root / SYSCTL[1:]).read_text() == "70\n"
    assert os.listdir(directory) == []


def test_journal_writable_by_others_is_ignored(machine: JournaledMachine, root: Path) -> None:
    machine.write_file(SYSCTL, b"70\n")
    die(machine.journal)
    path, directory = machine.journal.path, machine.journal.directory
    assert path is not None
    assert directory is not None
    path.chmod(0o666)
    assert recover(directory) == []
    assert (root / SYSCTL[1:]).read_text() == "70\n"


def test_invalid_entries_do_not_stop_the_others(machine: JournaledMachine, root: Path) -> None:
    machine.write_file(SYSCTL, b"70\n")
    die(machine.journal)
    path, directory = machine.journal.path, machine.journal.directory
    assert path is not None
    assert directory is not None
    with path.open("a") as file:
        file.write(
            '{"id": 8, "kind": "magic", "path": "/x"}\n{"id": 9, "kind": "value", "path": "/"}\n[]\n7\n'
        )
    (leftover,) = recover(directory)
    assert [(o.kind, o.result) for o in leftover.outcomes] == [
        ("value", "failed"),
        ("magic", "failed"),
        ("value", "restored"),
    ]
    assert (root / SYSCTL[1:]).read_text() == "60\n"


def test_a_long_run_does_not_grow_its_journal(machine: JournaledMachine) -> None:
    machine.write_file(SYSCTL, b"70\n")
    path = machine.journal.path
    assert path is not None
    machine.journal.restore()
    size = path.stat().st_size
    for _ in range(50):
        machine.write_file(SYSCTL, b"70\n")
        machine.journal.restore()
    assert path.stat().st_size == size
    machine.journal.close()
    assert not path.exists()


def test_zombie_is_dead_and_pid_alone_identifies_no_process() -> None:
    me = current_owner()
    assert me.is_alive()
    assert not Owner(me.pid, me.start_time + 1, me.boot_id).is_alive()
    assert not Owner(me.pid, me.start_time, "another boot").is_alive()
    child = subprocess.Popen(["true"])
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert start_time(child.pid) is None
    child.wait()
    assert start_time(1, "1 (a) b) (c) S" + " 0" * 18 + " 42 0") == 42


def test_undoing_writes_kernel_files_as_a_shell_does() -> None:
    """O_TRUNC alone does not change a kernel file, and no file is created. Uses a file of our own process."""
    files, path = undo.LocalFiles(), f"/proc/{os.getpid()}/oom_score_adj"
    value = files.read(path)
    files.write(path, value)
    assert files.read(path) == value
    with pytest.raises(FileNotFoundError):
        files.write("/proc/absent", "1")
