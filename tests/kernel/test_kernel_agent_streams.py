# SPDX-License-Identifier: GPL-2.0
"""Followed files through the real agent."""

from __future__ import annotations

import contextlib
import errno
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from agent_under_test import SOON_NS, agent_machine, eventually

from damon_tests.kernel.agent.machine import AgentMachine
from damon_tests.ports import ByteStream, MachineLost


@pytest.fixture(scope="module")
def agent() -> Iterator[AgentMachine]:
    with agent_machine() as (machine, _):
        yield machine


@contextlib.contextmanager
def followed_fifo(machine: AgentMachine, directory: Path) -> Iterator[tuple[ByteStream, int]]:
    """Yield a stream of a FIFO, and the descriptor that feeds it."""
    path = str(directory / "fifo")
    os.mkfifo(path)
    stream = machine.follow(path)
    writer = os.open(path, os.O_WRONLY)
    try:
        yield stream, writer
    finally:
        os.close(writer)
        stream.close()


def read_until(stream: ByteStream, size: int) -> bytes:
    got = b""

    def enough() -> bool:
        nonlocal got
        got += stream.read()
        return len(got) >= size

    assert eventually(enough), got[:1000]
    return got


def threads_of(machine: AgentMachine) -> int:
    return len(os.listdir(f"/proc/{machine.facts.pid}/task"))


def test_stream_delivers_data_as_it_arrives(agent: AgentMachine, tmp_path: Path) -> None:
    with followed_fifo(agent, tmp_path) as (stream, writer):
        assert stream.read() == b""
        os.write(writer, b"one\n")
        assert read_until(stream, 4) == b"one\n"
        os.write(writer, b"two\n")
        assert read_until(stream, 4) == b"two\n"
        assert stream.lost() == 0


def test_large_stream_arrives_whole_and_in_order(agent: AgentMachine, tmp_path: Path) -> None:
    data = b"".join(b"%07d\n" % i for i in range(200_000))
    with followed_fifo(agent, tmp_path) as (stream, writer):
        feeder = threading.Thread(
            target=lambda: [os.write(writer, data[i : i + 4096]) for i in range(0, len(data), 4096)]
        )
        feeder.start()
        assert read_until(stream, len(data)) == data
        feeder.join()
        assert stream.lost() == 0


def test_stream_closes_while_its_read_blocks(tmp_path: Path) -> None:
    """Use a separate agent: threads of streams that other tests closed may still be ending."""
    with agent_machine() as (agent, _):
        agent.read_file("/proc/self/stat")
        closes_while_the_read_blocks(agent, tmp_path)


def closes_while_the_read_blocks(agent: AgentMachine, tmp_path: Path) -> None:
    before = threads_of(agent)
    with followed_fifo(agent, tmp_path) as (stream, writer):
        os.write(writer, b"x")
        read_until(stream, 1)
        assert threads_of(agent) > before
        stream.close()
        stream.close()
        assert eventually(lambda: threads_of(agent) <= before)
        assert stream.read() == b""


def test_data_from_before_close_stays_readable(agent: AgentMachine, tmp_path: Path) -> None:
    with followed_fifo(agent, tmp_path) as (stream, writer):
        os.write(writer, b"last words")
        stream.close()
        assert stream.read() == b"last words"


def test_opening_fifo_without_writer_does_not_block(agent: AgentMachine, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    stream = agent.follow(str(tmp_path / "fifo"))
    assert stream.read() == b""
    stream.close()


def test_stream_follows_growing_file(agent: AgentMachine, tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_text("old\n")
    stream = agent.follow(str(path))
    assert read_until(stream, 4) == b"old\n"
    with path.open("a") as file:
        file.write("new\n")
    assert read_until(stream, 4) == b"new\n"
    stream.close()


def test_following_missing_file_raises_at_once(agent: AgentMachine, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError) as raised:
        agent.follow(str(tmp_path / "missing"))
    assert raised.value.filename == str(tmp_path / "missing")


def test_read_error_is_raised_after_the_data(agent: AgentMachine, tmp_path: Path) -> None:
    stream = agent.follow(str(tmp_path))  # a directory opens, and cannot be read

    def failed() -> bool:
        try:
            assert stream.read() == b""
        except OSError as error:
            return error.errno == errno.EISDIR
        return False

    assert eventually(failed)
    stream.close()


def test_unread_data_is_dropped_and_counted(tmp_path: Path) -> None:
    with (
        agent_machine(stream_limit=1000) as (machine, _),
        followed_fifo(machine, tmp_path) as (stream, writer),
    ):
        os.write(writer, bytes(50_000))
        assert eventually(lambda: stream.lost() == 49_000)
        assert stream.read() == bytes(1000)
        os.write(writer, b"more")
        assert read_until(stream, 4) == b"more"
        assert stream.lost() == 49_000


def test_many_streams_do_not_mix(agent: AgentMachine, tmp_path: Path) -> None:
    with contextlib.ExitStack() as stack:
        fifos = []
        for i in range(10):
            (tmp_path / f"{i}").mkdir()
            fifos.append(stack.enter_context(followed_fifo(agent, tmp_path / f"{i}")))
        for i, (_, writer) in enumerate(fifos):
            os.write(writer, b"%d" % i)
        for i, (stream, _) in enumerate(fifos):
            assert read_until(stream, 1) == b"%d" % i
        agent.ping(SOON_NS)


def test_lost_machine_is_raised_after_the_data(tmp_path: Path) -> None:
    with agent_machine() as (machine, agent), followed_fifo(machine, tmp_path) as (stream, writer):
        os.write(writer, b"last words")
        assert eventually(lambda: bool(stream._buffer._data))  # type: ignore[attr-defined]
        agent.kill()
        assert eventually(lambda: machine._link.lost)
        assert stream.read() == b"last words"
        with pytest.raises(MachineLost):
            stream.read()
        stream.close()
