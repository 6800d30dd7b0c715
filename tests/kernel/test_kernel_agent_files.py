# SPDX-License-Identifier: GPL-2.0
"""File operations through the real agent; this machine must keep the port's promises, too."""

from __future__ import annotations

import errno
import os
import threading
from pathlib import Path

import pytest
from agent_under_test import SOON_NS, eventually

from damon_tests.kernel.agent.machine import AgentMachine
from damon_tests.ports import Entry, FileOp, Machine, TimedOut, TreeError


def errno_of(result: object) -> int | None:
    assert isinstance(result, OSError), result
    return result.errno


# --- what the port promises ---


def test_reads_with_offset_and_size(machine: Machine, tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_bytes(bytes(range(256)))
    assert machine.read_file(str(path)) == bytes(range(256))
    assert machine.read_file(str(path), offset=250) == bytes(range(250, 256))
    assert machine.read_file(str(path), offset=3, size=4) == bytes(range(3, 7))
    assert machine.read_file(str(path), size=1000) == bytes(range(256))
    assert machine.read_file(str(path), offset=1000) == b""


def test_files_without_a_size_are_read_whole(machine: Machine) -> None:
    """Files in /proc and sysfs report a size of 0 or of a page."""
    assert machine.read_file("/proc/self/status").startswith(b"Name:")
    # Other files may change between two reads; this file does not.
    assert machine.read_file("/proc/filesystems") == Path("/proc/filesystems").read_bytes()


def test_large_files_are_written_and_read_whole(machine: Machine, tmp_path: Path) -> None:
    data = os.urandom(9_000_001)  # more than a frame may hold of a file
    path = str(tmp_path / "large")
    machine.write_file(path, data, create=True)
    assert machine.read_file(path) == data
    assert machine.read_file(path, offset=1, size=5_000_000) == data[1:5_000_001]


def test_creating_sets_the_mode_and_replaces_the_content(machine: Machine, tmp_path: Path) -> None:
    path = tmp_path / "f"
    machine.write_file(str(path), b"long contents", create=True, mode=0o600)
    assert path.stat().st_mode & 0o777 == 0o600
    machine.write_file(str(path), b"short", create=True)
    assert path.read_bytes() == b"short"


def test_writing_does_not_create_unless_asked(machine: Machine, tmp_path: Path) -> None:
    path = str(tmp_path / "missing")
    with pytest.raises(FileNotFoundError) as raised:
        machine.write_file(path, b"x")
    assert raised.value.filename == path
    assert not os.path.exists(path)


def test_a_write_at_an_offset_keeps_the_rest(machine: Machine, tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_bytes(b"0123456789")
    assert machine.batch([FileOp("write", str(path), b"ab", offset=4)]) == [b"2"]
    assert path.read_bytes() == b"0123ab6789"


def test_buffer_is_written_with_one_write(machine: Machine, tmp_path: Path) -> None:
    """A pipe in packet mode keeps the boundaries of writes: a read returns the data of a single write."""
    fifo = str(tmp_path / "fifo")
    os.mkfifo(fifo)
    reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    try:
        data = b"x" * 4096  # PIPE_BUF: not divided by the kernel
        machine.write_file(fifo, data)
        assert os.read(reader, 10_000) == data
    finally:
        os.close(reader)


def test_directories_are_made_listed_and_removed(machine: Machine, tmp_path: Path) -> None:
    made = str(tmp_path / "made")
    ops = [
        FileOp("mkdir", made, mode=0o700),
        FileOp("write", f"{made}/b", b"", create=True, mode=0o640),
        FileOp("mkdir", f"{made}/a", mode=0o755),
        FileOp("list", made),
        FileOp("stat", made),
        FileOp("unlink", f"{made}/b"),
        FileOp("rmdir", f"{made}/a"),
        FileOp("rmdir", made),
    ]
    results = machine.batch(ops)
    assert results == [
        b"",
        b"0",
        b"",
        [Entry("a", 0o755, True), Entry("b", 0o640, False)],
        [Entry("made", 0o700, True)],
        b"",
        b"",
        b"",
    ]
    assert not os.path.exists(made)


def test_walk_returns_every_entry_with_its_text(machine: Machine, tmp_path: Path) -> None:
    (tmp_path / "a").mkdir(mode=0o755)
    (tmp_path / "a" / "inner").write_text("1\n")
    (tmp_path / "a" / "inner").chmod(0o600)
    (tmp_path / "a-b").write_bytes(b"\xff\xfe")
    (tmp_path / "a-b").chmod(0o644)
    (tmp_path / "only_written").write_text("secret")
    (tmp_path / "only_written").chmod(0o200)
    (tmp_path / "circle").symlink_to(tmp_path)
    (walked,) = machine.batch([FileOp("walk", str(tmp_path))])
    assert not isinstance(walked, OSError | bytes)
    by_name = {entry.path: entry for entry in walked}
    assert list(by_name) == ["a", "a/inner", "a-b", "circle", "only_written"]
    assert by_name["a"] == Entry("a", 0o755, True)
    assert by_name["a/inner"] == Entry("a/inner", 0o600, False, "1\n")
    assert by_name["a-b"].value == b"\xff\xfe".decode("utf-8", "surrogateescape")
    assert by_name["circle"].is_dir
    error = by_name["only_written"].error
    assert isinstance(error, TreeError)
    assert (error.path, error.errno) == (str(tmp_path / "only_written"), errno.EACCES)


def test_walk_does_not_wait_for_a_blocking_file(machine: Machine, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    (walked,) = machine.batch([FileOp("walk", str(tmp_path))])
    assert not isinstance(walked, OSError | bytes)
    assert [entry.path for entry in walked] == ["fifo"]


@pytest.mark.parametrize(
    ("kind", "name", "expected"),
    [
        ("read", "missing", errno.ENOENT),
        ("read", "", errno.EISDIR),
        ("write", "", errno.EISDIR),
        ("list", "file", errno.ENOTDIR),
        ("walk", "missing", errno.ENOENT),
        ("stat", "file/below", errno.ENOTDIR),
        ("mkdir", "file", errno.EEXIST),
        ("rmdir", "file", errno.ENOTDIR),
        ("unlink", "missing", errno.ENOENT),
    ],
)
def test_failures_are_oserrors_with_errno_and_filename(
    machine: Machine, tmp_path: Path, kind: str, name: str, expected: int
) -> None:
    (tmp_path / "file").write_text("")
    path = str(tmp_path / name)
    (result,) = machine.batch([FileOp(kind, path)])  # type: ignore[arg-type]
    assert errno_of(result) == expected
    assert isinstance(result, OSError)
    assert result.filename == path


def test_a_batch_goes_on_after_a_failure(machine: Machine, tmp_path: Path) -> None:
    path = str(tmp_path / "f")
    results = machine.batch(
        [FileOp("read", path), FileOp("write", path, b"1", create=True), FileOp("read", path)]
    )
    assert errno_of(results[0]) == errno.ENOENT
    assert results[1:] == [b"1", b"1"]


def test_a_batch_can_stop_at_the_first_failure(machine: Machine, tmp_path: Path) -> None:
    first, last = tmp_path / "first", tmp_path / "last"
    results = machine.batch(
        [
            FileOp("write", str(first), b"1", create=True),
            FileOp("read", str(tmp_path / "missing")),
            FileOp("write", str(last), b"1", create=True),
            FileOp("stat", str(first)),
        ],
        stop_on_error=True,
    )
    assert results[0] == b"1"
    assert [errno_of(result) for result in results[1:]] == [errno.ENOENT, errno.ECANCELED, errno.ECANCELED]
    assert first.exists()
    assert not last.exists()


def test_empty_batch_has_no_results(machine: Machine) -> None:
    assert list(machine.batch([])) == []


def test_blocked_write_does_not_stall_other_requests(machine: Machine, tmp_path: Path) -> None:
    """As a write to DAMON's state file blocks while the kdamond is slow."""
    fifo, other = str(tmp_path / "fifo"), str(tmp_path / "other")
    os.mkfifo(fifo)
    pending = machine.begin_write_file(fifo, b"state")  # without a reader, open(2) blocks
    machine.write_file(other, b"1", create=True)
    assert machine.read_file(other) == b"1"
    assert not pending.done()
    with pytest.raises(TimedOut, match="has not returned"):
        pending.result(1)
    with open(fifo, "rb") as reader:
        assert reader.read() == b"state"
    pending.result(SOON_NS)
    assert pending.done()
    pending.result(SOON_NS)  # done() stays true


def test_pending_write_raises_the_error_of_write(machine: Machine, tmp_path: Path) -> None:
    pending = machine.begin_write_file(str(tmp_path / "missing"), b"x")
    with pytest.raises(FileNotFoundError) as raised:
        pending.result(SOON_NS)
    assert raised.value.filename == str(tmp_path / "missing")


# --- only the agent ---


def test_replies_may_arrive_out_of_order(agent: AgentMachine, tmp_path: Path) -> None:
    fifos = [str(tmp_path / f"fifo{i}") for i in range(8)]
    for fifo in fifos:
        os.mkfifo(fifo)
    writes = [agent.begin_write_file(fifo, fifo.encode()) for fifo in fifos]
    for fifo, write in reversed(list(zip(fifos, writes, strict=True))):
        assert not write.done()
        with open(fifo, "rb") as reader:
            assert reader.read() == fifo.encode()
        write.result(SOON_NS)


def test_more_blocked_writes_than_workers_still_all_return(agent: AgentMachine, tmp_path: Path) -> None:
    """The agent goes on answering pings, and does queued requests in order."""
    fifo = str(tmp_path / "fifo")
    os.mkfifo(fifo)
    writes = [agent.begin_write_file(fifo, b"x") for _ in range(100)]
    agent.ping(SOON_NS)
    got = b""
    reader = os.open(fifo, os.O_RDONLY)
    try:
        while len(got) < len(writes):
            got += os.read(reader, 1000)
    finally:
        os.close(reader)
    for write in writes:
        write.result(SOON_NS)


def test_a_batch_larger_than_a_frame_is_complete(agent: AgentMachine, tmp_path: Path) -> None:
    data = os.urandom(700_000)
    ops = [FileOp("write", str(tmp_path / f"{i}"), data, create=True) for i in range(30)]
    assert agent.batch(ops) == [b"700000"] * 30
    reads = [FileOp("read", op.path) for op in ops]
    assert agent.batch(reads) == [data] * 30


def test_stop_on_error_stops_later_frames_too(agent: AgentMachine, tmp_path: Path) -> None:
    data = bytes(700_000)
    ops = [FileOp("write", f"{tmp_path}/missing/f", data)]
    ops += [FileOp("write", str(tmp_path / f"{i}"), data, create=True) for i in range(5)]
    results = agent.batch(ops, stop_on_error=True)
    assert [errno_of(result) for result in results] == [errno.ENOENT] + [errno.ECANCELED] * 5
    assert not list(tmp_path.iterdir())


def test_walk_names_the_file_that_is_too_large(agent: AgentMachine, tmp_path: Path) -> None:
    (tmp_path / "large").write_bytes(bytes(3 << 20))
    (tmp_path / "small").write_text("1\n")
    (walked,) = agent.batch([FileOp("walk", str(tmp_path))])
    assert not isinstance(walked, OSError | bytes)
    assert walked[0].error is not None
    assert walked[0].error.errno == errno.EFBIG
    assert walked[1].value == "1\n"


def test_walk_over_the_limit_is_an_error_not_a_part(agent: AgentMachine, tmp_path: Path) -> None:
    for i in range(20):
        (tmp_path / f"{i}").write_bytes(bytes(900_000))
    (result,) = agent.batch([FileOp("walk", str(tmp_path))])
    assert errno_of(result) == errno.EMSGSIZE


def test_requests_of_many_threads_do_not_mix(agent: AgentMachine, tmp_path: Path) -> None:
    failures: list[str] = []

    def work(name: str) -> None:
        path = str(tmp_path / name)
        for i in range(50):
            agent.write_file(path, f"{name} {i}".encode(), create=True)
            if agent.read_file(path) != f"{name} {i}".encode():
                failures.append(f"{name} {i}")

    threads = [threading.Thread(target=work, args=(f"thread{i}",)) for i in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures


def test_system_requests_fail_with_errno_and_name(agent: AgentMachine, tmp_path: Path) -> None:
    missing = str(tmp_path / "missing")
    with pytest.raises(OSError, match="missing") as raised:
        agent.mount("tmpfs", missing, "tmpfs")
    assert raised.value.errno in (errno.ENOENT, errno.EPERM)
    with pytest.raises(OSError, match="missing") as raised:
        agent.swapon(missing)
    assert raised.value.errno in (errno.ENOENT, errno.EPERM)
    with pytest.raises(OSError, match="urandom") as raised:
        agent.reseed(bytes(5000))
    assert raised.value.errno == errno.EBADMSG


def test_idle_workers_end(agent: AgentMachine, tmp_path: Path) -> None:
    def threads() -> int:
        return len(os.listdir(f"/proc/{agent.facts.pid}/task"))

    fifo = str(tmp_path / "fifo")
    os.mkfifo(fifo)
    writes = [agent.begin_write_file(fifo, b"x") for _ in range(20)]
    assert eventually(lambda: threads() > 20)
    with open(fifo, "rb") as reader:
        for write in writes:
            write.result(SOON_NS)
        assert reader.read()
    assert eventually(lambda: threads() <= 4)
