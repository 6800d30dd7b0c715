# SPDX-License-Identifier: GPL-2.0
"""A machine's files as a Tree, on both kinds of machine."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from agent_under_test import SOON_NS, agent_machine

from damon_tests.kernel.agent.machine import AgentMachine
from damon_tests.kernel.host.machine import LocalMachine
from damon_tests.kernel.machine_tree import MachineTree
from damon_tests.ports import Entry, FileOp, Machine, TimedOut, Tree, TreeError


@pytest.fixture(scope="module")
def agent() -> Iterator[AgentMachine]:
    with agent_machine() as (machine, _):
        yield machine


@pytest.fixture(params=["agent", "local"])
def tree(request: pytest.FixtureRequest) -> Tree:
    machine: Machine = LocalMachine() if request.param == "local" else request.getfixturevalue("agent")
    return MachineTree(machine)


def described(error: TreeError) -> tuple[str, str, int | None, str | None]:
    return error.operation, error.path, error.errno, error.value


class CountingMachine(LocalMachine):
    """Counts round trips."""

    def __init__(self) -> None:
        super().__init__()
        self.trips = 0

    def batch(
        self, ops: Sequence[FileOp], stop_on_error: bool = False
    ) -> Sequence[bytes | Sequence[Entry] | OSError]:
        self.trips += 1
        return super().batch(ops, stop_on_error)


def test_read_returns_the_text_unchanged(tree: Tree, tmp_path: Path) -> None:
    path = tmp_path / "sample_us"
    path.write_text("5000\n")
    assert tree.read(str(path)) == "5000\n"
    path.write_bytes(b"\xff\n")
    value = tree.read(str(path))
    path.write_bytes(b"")
    tree.write(str(path), value)
    assert path.read_bytes() == b"\xff\n"


def test_failures_are_tree_errors(tree: Tree, tmp_path: Path) -> None:
    missing, directory = str(tmp_path / "missing"), str(tmp_path)
    with pytest.raises(TreeError) as raised:
        tree.read(missing)
    assert described(raised.value) == ("read", missing, errno.ENOENT, None)
    with pytest.raises(TreeError) as raised:
        tree.write(directory, "on")
    assert described(raised.value) == ("write", directory, errno.EISDIR, "on")
    with pytest.raises(TreeError) as raised:
        tree.list(missing)
    assert described(raised.value) == ("list", missing, errno.ENOENT, None)
    with pytest.raises(TreeError) as raised:
        tree.walk(missing)
    assert described(raised.value) == ("list", missing, errno.ENOENT, None)


def test_begin_write_does_not_block(tree: Tree, tmp_path: Path) -> None:
    fifo = str(tmp_path / "state")
    os.mkfifo(fifo)
    pending = tree.begin_write(fifo, "on")
    assert not pending.done()
    with pytest.raises(TimedOut):
        pending.result(1)
    with open(fifo) as reader:
        assert reader.read() == "on"
    pending.result(SOON_NS)
    assert pending.done()


def test_pending_write_raises_the_error_of_the_write(tree: Tree, tmp_path: Path) -> None:
    missing = str(tmp_path / "state")
    pending = tree.begin_write(missing, "on")
    with pytest.raises(TreeError) as raised:
        pending.result(SOON_NS)
    assert described(raised.value) == ("write", missing, errno.ENOENT, "on")


def test_list_does_not_read_values(tree: Tree, tmp_path: Path) -> None:
    (tmp_path / "b").mkdir(mode=0o755)
    (tmp_path / "a").write_text("1\n")
    (tmp_path / "a").chmod(0o600)
    assert list(tree.list(str(tmp_path))) == [Entry("a", 0o600, False), Entry("b", 0o755, True)]


def test_walk_reads_values(tree: Tree, tmp_path: Path) -> None:
    (tmp_path / "b").mkdir(mode=0o755)
    (tmp_path / "b" / "c").write_text("2\n")
    (tmp_path / "b" / "c").chmod(0o600)
    assert list(tree.walk(str(tmp_path))) == [Entry("b", 0o755, True), Entry("b/c", 0o600, False, "2\n")]


def test_exists_is_false_only_for_missing_paths(tree: Tree, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert tree.exists(str(tmp_path))
    assert tree.exists(str(tmp_path / "file"))
    assert not tree.exists(str(tmp_path / "missing"))
    assert not tree.exists(str(tmp_path / "file" / "below"))


def test_read_batch_has_failures_in_place(tree: Tree, tmp_path: Path) -> None:
    (tmp_path / "a").write_text("1\n")
    paths = [str(tmp_path / "a"), str(tmp_path / "missing"), str(tmp_path / "a")]
    first, failed, last = tree.read_batch(paths)
    assert (first, last) == ("1\n", "1\n")
    assert isinstance(failed, TreeError)
    assert described(failed) == ("read", paths[1], errno.ENOENT, None)


def test_writes_stop_at_the_first_failure(tree: Tree, tmp_path: Path) -> None:
    first, last = tmp_path / "first", tmp_path / "last"
    first.write_text("")
    last.write_text("")
    missing = str(tmp_path / "missing")
    with pytest.raises(TreeError) as raised:
        tree.write_batch([(str(first), "1"), (missing, "2"), (str(last), "3")])
    assert described(raised.value) == ("write", missing, errno.ENOENT, "2")
    assert first.read_text() == "1"
    assert last.read_text() == ""


def test_batches_and_walks_are_one_round_trip_each(tmp_path: Path) -> None:
    for name in "abc":
        (tmp_path / name).write_text("1")
    paths = [str(tmp_path / name) for name in "abc"]
    machine = CountingMachine()
    tree = MachineTree(machine)
    tree.read_batch(paths)
    assert machine.trips == 1
    tree.write_batch([(path, "2") for path in paths])
    assert machine.trips == 2
    tree.walk(str(tmp_path))
    assert machine.trips == 3


def test_partly_written_value_is_a_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    machine = LocalMachine()
    monkeypatch.setattr(machine, "batch", lambda ops, stop_on_error=False: [b"1"])
    with pytest.raises(TreeError, match=r"EIO.*part") as raised:
        MachineTree(machine).write_batch([("/sys/file", "12")])
    assert described(raised.value) == ("write", "/sys/file", errno.EIO, "12")
