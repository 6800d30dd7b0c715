# SPDX-License-Identifier: GPL-2.0
"""Changes are announced before they are made, and undone only while they are this run's."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from damon_tests.kernel.host import undo
from damon_tests.kernel.host.journal import Journal, runtime_directory
from damon_tests.kernel.host.journaled import JournaledMachine, undo_value
from damon_tests.kernel.host.machine import LocalMachine
from damon_tests.kernel.host.owner import current_owner
from damon_tests.kernel.host.restore import Journaled
from damon_tests.ports import FileOp, HarnessError, SpawnRequest

SYSCTL = "/proc/sys/vm/swappiness"


@pytest.fixture
def machine(root: Path, journal: Journal) -> JournaledMachine:
    return JournaledMachine(LocalMachine(root=root), journal)


def on_disk(journal: Journal) -> Journaled:
    assert journal.path is not None
    return Journaled(journal.path.read_text())


def results(journal: Journal) -> list[tuple[str, str]]:
    return [(o.path, o.result) for o in journal.restore()]


def test_a_change_is_on_disk_before_it_is_made(
    root: Path, journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    announced = []
    synced: list[int] = []
    monkeypatch.setattr(os, "fsync", synced.append)

    class Watching(LocalMachine):
        def write_file(self, path: str, data: bytes, create: bool = False, mode: int = 0o644) -> None:
            assert synced
            (entry,) = on_disk(journal).entries.values()
            announced.append(
                (entry.kind, entry.path, entry.data["old"], entry.data["new"], entry.data["undo"])
            )
            super().write_file(path, data, create, mode)

    JournaledMachine(Watching(root=root), journal).write_file(SYSCTL, b"100\n")
    assert announced == [("value", SYSCTL, "60\n", "100\n", "60\n")]
    assert on_disk(journal).owner == current_owner()
    assert on_disk(journal).root == str(root)


def test_nothing_is_created_before_the_first_change(machine: JournaledMachine, tmp_path: Path) -> None:
    machine.read_file(SYSCTL)
    machine.batch([FileOp("walk", "/proc"), FileOp("stat", SYSCTL), FileOp("list", "/")])
    assert machine.journal.close() == []
    assert not (tmp_path / "journal").exists()


def test_nothing_is_changed_when_journal_cannot_be_written(root: Path, tmp_path: Path) -> None:
    (tmp_path / "journal").write_text("a file, not a directory")
    machine = JournaledMachine(LocalMachine(root=root), Journal(tmp_path / "journal", root=root, guard=False))
    with pytest.raises(HarnessError, match="Nothing is changed"):
        machine.write_file(SYSCTL, b"100\n")
    assert (root / SYSCTL[1:]).read_text() == "60\n"


def test_a_directory_that_others_can_write_to_is_refused(machine: JournaledMachine, tmp_path: Path) -> None:
    (tmp_path / "journal").mkdir()
    (tmp_path / "journal").chmod(0o777)
    with pytest.raises(HarnessError, match="writable by nobody else"):
        machine.write_file(SYSCTL, b"100\n")


def test_a_fork_may_not_use_its_parents_journal(
    machine: JournaledMachine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "getpid", lambda: 1)
    with pytest.raises(HarnessError, match="a Journal of its own"):
        machine.write_file(SYSCTL, b"100\n")


def test_file_too_large_to_restore_is_not_written(machine: JournaledMachine, root: Path) -> None:
    (root / "big").write_bytes(b"x" * (2 << 20))
    with pytest.raises(HarnessError, match="too large"):
        machine.write_file("/big", b"")
    assert (root / "big").stat().st_size == 2 << 20


def test_runtime_directory_is_private_to_the_user(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(os, "access", lambda path, mode: True)
    assert runtime_directory() == Path("/run/damon-tests")
    monkeypatch.setattr(os, "geteuid", lambda: 1234)
    monkeypatch.setenv("XDG_RUNTIME_DIR", "/run/user/1234")
    assert runtime_directory() == Path("/run/user/1234/damon-tests")
    monkeypatch.delenv("XDG_RUNTIME_DIR")
    assert runtime_directory().name == "damon-tests-1234"


def test_values_are_restored_in_reverse_order(machine: JournaledMachine, root: Path) -> None:
    (root / "other").write_text("a\n")
    machine.write_file(SYSCTL, b"70\n")
    machine.write_file("/other", b"b\n")
    assert results(machine.journal) == [("/other", "restored"), (SYSCTL, "restored")]
    assert ((root / SYSCTL[1:]).read_text(), (root / "other").read_text()) == ("60\n", "a\n")


def test_value_written_several_times_is_restored_in_one_step(machine: JournaledMachine, root: Path) -> None:
    for value in (b"70\n", b"80\n", b"90\n"):
        machine.write_file(SYSCTL, value)
    assert results(machine.journal) == [(SYSCTL, "restored")]
    assert (root / SYSCTL[1:]).read_text() == "60\n"


def test_a_value_that_the_run_put_back_itself_is_settled(machine: JournaledMachine, root: Path) -> None:
    machine.write_file(SYSCTL, b"70\n")
    machine.write_file(SYSCTL, b"60\n")
    assert machine.journal.outstanding() == []
    (root / SYSCTL[1:]).write_text("33\n")
    assert results(machine.journal) == []
    assert (root / SYSCTL[1:]).read_text() == "33\n"


def test_a_value_changed_by_others_between_two_writes_is_left(machine: JournaledMachine, root: Path) -> None:
    """Undo takes back what the run wrote later, and keeps the value that others wrote before."""
    machine.write_file(SYSCTL, b"70\n")
    (root / SYSCTL[1:]).write_text("33\n")
    machine.write_file(SYSCTL, b"80\n")
    assert results(machine.journal) == [(SYSCTL, "restored"), (SYSCTL, "left")]
    assert (root / SYSCTL[1:]).read_text() == "33\n"


@pytest.mark.parametrize("arrived", [False, True])
def test_first_value_is_restored_when_run_dies_in_second_write(
    journal: Journal, root: Path, arrived: bool
) -> None:
    """Whether or not the write took effect, the value counts as the run's, and undo restores the first."""

    class Dying(LocalMachine):
        def write_file(self, path: str, data: bytes, create: bool = False, mode: int = 0o644) -> None:
            if data != b"80\n" or arrived:
                super().write_file(path, data, create, mode)
            if data == b"80\n":
                monkeypatch.setattr(
                    journal, "after", lambda *_, **__: None
                )  # the dead run notes nothing more

    with pytest.MonkeyPatch.context() as monkeypatch:
        machine = JournaledMachine(Dying(root=root), journal)
        machine.write_file(SYSCTL, b"70\n")
        machine.write_file(SYSCTL, b"80\n")
    assert [r for _, r in results(journal)] == ["restored"]
    assert (root / SYSCTL[1:]).read_text() == "60\n"


def test_region_that_module_wrote_at_start_is_restored(journal: Journal, root: Path) -> None:
    """A module writes its monitoring region into two parameters; undo restores both."""
    directory = "/sys/module/damon_reclaim/parameters"
    values = {"enabled": "N\n", "monitor_region_start": "0\n", "monitor_region_end": "0\n"}
    (root / directory[1:]).mkdir(parents=True)
    for name, value in values.items():
        (root / directory[1:] / name).write_text(value)

    class Starting(LocalMachine):
        def write_file(self, path: str, data: bytes, create: bool = False, mode: int = 0o644) -> None:
            super().write_file(path, data, create, mode)
            if path.endswith("/enabled") and data == b"Y\n":
                (root / directory[1:] / "monitor_region_end").write_text("4096\n")

    JournaledMachine(Starting(root=root), journal).write_file(f"{directory}/enabled", b"Y\n")
    assert results(journal) == [
        (f"{directory}/enabled", "restored"),
        (f"{directory}/monitor_region_end", "restored"),
    ]
    assert {name: (root / directory[1:] / name).read_text() for name in values} == values


def test_restoring_twice_does_nothing_the_second_time(machine: JournaledMachine, root: Path) -> None:
    machine.write_file(SYSCTL, b"70\n")
    assert results(machine.journal) == [(SYSCTL, "restored")]
    (root / SYSCTL[1:]).write_text("70\n")  # another user's choice now
    assert results(machine.journal) == []
    assert (root / SYSCTL[1:]).read_text() == "70\n"


def test_a_value_that_someone_else_changed_is_left_alone(machine: JournaledMachine, root: Path) -> None:
    machine.write_file(SYSCTL, b"70\n")
    (root / SYSCTL[1:]).write_text("33\n")
    (outcome,) = machine.journal.restore()
    assert outcome.result == "left"
    assert "'33'" in str(outcome)
    assert "'70'" in str(outcome)
    assert (root / SYSCTL[1:]).read_text() == "33\n"


def test_a_value_that_the_kernel_rounds_is_still_ours(journal: Journal, root: Path) -> None:
    class Rounding(LocalMachine):
        def write_file(self, path: str, data: bytes, create: bool = False, mode: int = 0o644) -> None:
            assert data == b"1M\n"
            super().write_file(path, b"1048576\n", create, mode)

    JournaledMachine(Rounding(root=root), journal).write_file(SYSCTL, b"1M\n")
    assert results(journal) == [(SYSCTL, "restored")]
    assert (root / SYSCTL[1:]).read_text() == "60\n"


def test_a_value_that_is_as_before_is_not_written(machine: JournaledMachine, root: Path) -> None:
    machine.write_file(SYSCTL, b"70\n")
    (root / SYSCTL[1:]).write_text("60\n")
    before = (root / SYSCTL[1:]).stat().st_mtime_ns
    assert results(machine.journal) == [(SYSCTL, "nothing")]
    assert (root / SYSCTL[1:]).stat().st_mtime_ns == before


def test_removed_file_is_not_created_again(machine: JournaledMachine, root: Path) -> None:
    machine.write_file(SYSCTL, b"70\n")
    (root / SYSCTL[1:]).unlink()
    assert results(machine.journal) == [(SYSCTL, "nothing")]
    assert not (root / SYSCTL[1:]).exists()


def test_restore_since_mark_leaves_older_changes(machine: JournaledMachine, root: Path) -> None:
    (root / "other").write_text("a\n")
    machine.write_file(SYSCTL, b"70\n")
    mark = machine.journal.mark()
    machine.write_file("/other", b"b\n")
    assert [(o.path, o.result) for o in machine.journal.restore(since=mark)] == [("/other", "restored")]
    assert (root / SYSCTL[1:]).read_text() == "70\n"
    assert results(machine.journal) == [(SYSCTL, "restored")]


def test_a_failed_write_restores_nothing(machine: JournaledMachine, root: Path) -> None:
    class Refusing(LocalMachine):
        def write_file(self, path: str, data: bytes, create: bool = False, mode: int = 0o644) -> None:
            raise OSError(errno.EINVAL, "Invalid argument", path)

    refusing = JournaledMachine(Refusing(root=root), machine.journal)
    with pytest.raises(OSError, match="Invalid"):
        refusing.write_file(SYSCTL, b"100000\n")
    assert machine.journal.outstanding() == []
    assert (root / SYSCTL[1:]).read_text() == "60\n"


def test_failed_restore_is_reported_and_kept_for_later(
    machine: JournaledMachine, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (root / "other").write_text("a\n")
    machine.write_file("/other", b"b\n")
    machine.write_file(SYSCTL, b"70\n")
    write = undo.LocalFiles.write

    def refusing(self: undo.LocalFiles, path: str, value: str) -> None:
        if path == SYSCTL:
            raise OSError(errno.EPERM, "Operation not permitted", path)
        write(self, path, value)

    monkeypatch.setattr(undo.LocalFiles, "write", refusing)
    first, second = machine.journal.restore()
    assert (first.path, first.result, first.detail) == (SYSCTL, "failed", "EPERM: Operation not permitted")
    assert (second.path, second.result) == ("/other", "restored")
    monkeypatch.undo()
    assert results(machine.journal) == [(SYSCTL, "restored")]


def test_restored_value_that_kernel_ignores_is_a_failure(
    machine: JournaledMachine, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine.write_file(SYSCTL, b"70\n")
    monkeypatch.setattr(undo.LocalFiles, "write", lambda self, path, value: None)
    (outcome,) = machine.journal.restore()
    assert (outcome.result, outcome.detail) == ("failed", "reads '70' after '60\\n' was written")


def test_values_that_the_kernel_spells_differently_are_still_ours() -> None:
    assert undo.same_value("always [never] madvise\n", "never\n")
    assert not undo.same_value("[always] never madvise\n", "never\n")
    assert undo.same_value("16\n", "0x10")
    assert undo.same_value("Y\n", "1\n")
    assert undo.same_value("N\n", "off")
    assert not undo.same_value("Y\n", "0")
    assert not undo.same_value("10\n", "1")
    assert not undo.same_value("", "0")


def test_undo_value_of_choice_and_controllers_is_valid_input() -> None:
    thp = "/sys/kernel/mm/transparent_hugepage/enabled"
    assert undo_value(thp, "always [madvise] never\n", "never") == "madvise"
    assert undo_value(SYSCTL, "60\n", "1\n") == "60\n"
    control = "/sys/fs/cgroup/cgroup.subtree_control"
    assert undo_value(control, "cpu\n", "+memory") == "-memory"
    assert undo_value(control, "cpu memory\n", "+memory -cpu") == "+cpu"


def test_commands_and_write_only_files_are_not_journaled(machine: JournaledMachine, root: Path) -> None:
    (root / "proc/sys/vm/drop_caches").write_text("0\n")
    machine.write_file("/proc/sys/vm/drop_caches", b"3\n")
    with pytest.raises(FileNotFoundError):
        machine.write_file("/absent", b"1")
    assert machine.journal.outstanding() == []


def test_directories_and_files_of_the_run_are_removed(machine: JournaledMachine, root: Path) -> None:
    made = machine.batch(
        [
            FileOp("mkdir", "/group"),
            FileOp("mkdir", "/group/inner"),
            FileOp("write", "/group/inner/file", b"1", create=True),
            FileOp("write", "/group/inner/file", b"2", offset=1),
        ]
    )
    assert not [r for r in made if isinstance(r, OSError)]
    assert [r for _, r in results(machine.journal)] == ["restored"] * 3
    assert not (root / "group").exists()


def test_a_directory_of_the_same_name_made_by_someone_else_stays(
    machine: JournaledMachine, root: Path
) -> None:
    machine.batch([FileOp("mkdir", "/group")])
    (root / "group").rename(root / "aside")
    (root / "group").mkdir()
    assert results(machine.journal) == [("/group", "left")]
    assert (root / "group").is_dir()


def test_files_from_before_the_run_are_not_removed(machine: JournaledMachine, root: Path) -> None:
    (root / "theirs").mkdir()
    (result,) = machine.batch([FileOp("mkdir", "/theirs")])
    assert isinstance(result, FileExistsError)
    refused = machine.batch(
        [FileOp("rmdir", "/theirs"), FileOp("unlink", SYSCTL), FileOp("rmdir", "/absent")]
    )
    assert [r.errno for r in refused if isinstance(r, OSError)] == [errno.EPERM, errno.EPERM, errno.ENOENT]
    assert "did not make it" in str(refused[0])
    assert (root / SYSCTL[1:]).exists()
    assert results(machine.journal) == []
    assert (root / "theirs").is_dir()


def test_files_that_the_run_removed_itself_are_settled(machine: JournaledMachine) -> None:
    machine.batch([FileOp("mkdir", "/group"), FileOp("rmdir", "/group")])
    machine.write_file("/file", b"1", create=True)
    machine.batch([FileOp("unlink", "/file")])
    assert machine.journal.outstanding() == []


def test_processes_are_moved_out_of_a_cgroup_before_it_is_removed(
    machine: JournaledMachine, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine.batch([FileOp("mkdir", "/group")])
    (root / "cgroup.procs").write_text("")
    (root / "group/cgroup.procs").write_text("17\n")
    removed = []

    def rmdir(path: str) -> None:  # cgroupfs removes the attribute files with the directory
        assert (root / "cgroup.procs").read_text() == "17"
        removed.append(path)

    monkeypatch.setattr(os, "rmdir", rmdir)
    assert results(machine.journal) == [("/group", "restored")]
    assert removed == [str(root / "group")]


def test_processes_are_killed_but_not_a_later_process_with_same_pid(
    machine: JournaledMachine,
) -> None:
    sleeper = SpawnRequest([sys.executable, "-S", "-c", "import signal; signal.pause()"])
    process = machine.spawn(sleeper)
    assert results(machine.journal) == [(sys.executable, "restored")]
    assert process.wait(30_000_000_000).signal == signal.SIGKILL

    other = machine.spawn(sleeper)
    (entry,) = machine.journal.outstanding()
    entry.data["start_time"] -= 1
    assert results(machine.journal) == [(sys.executable, "nothing")]
    assert other.poll() is None
    other.kill(signal.SIGKILL)
    other.wait(30_000_000_000)


def test_a_write_at_an_offset_of_a_users_file_is_refused(machine: JournaledMachine, root: Path) -> None:
    with pytest.raises(HarnessError, match="could not be undone"):
        machine.batch([FileOp("write", "/root-file", b"x", offset=4)])


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting needs root")
def test_mounts_are_undone_in_a_mount_namespace_of_our_own(tmp_path: Path) -> None:
    """Run in a child with its own mount namespace, so that the machine's mounts are not touched."""
    code = f"""
import ctypes, os, sys
from damon_tests.kernel.host.journal import Journal
target = {str(tmp_path / "mnt")!r}
os.mkdir(target)
libc = ctypes.CDLL(None, use_errno=True)
if libc.unshare(0x20000) or libc.mount(b"none", b"/", None, (1 << 14) | (1 << 18), None): sys.exit(77)
journal = Journal(None)
journal.add("mount", target)
if libc.mount(b"tmpfs", target.encode(), b"tmpfs", 0, None): sys.exit(77)
assert os.path.ismount(target)
print([o.result for o in journal.restore()], os.path.ismount(target))
journal.add("mount", target)
print([o.result for o in journal.restore()])
journal.add("swapon", "/no/such/swap")
print([o.result for o in journal.restore()])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    if done.returncode == 77:
        pytest.skip("no mount namespaces here")
    assert done.stdout.split("\n")[:3] == ["['restored'] False", "['nothing']", "['nothing']"], done.stderr
