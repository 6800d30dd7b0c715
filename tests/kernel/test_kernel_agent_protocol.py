# SPDX-License-Identifier: GPL-2.0
"""The agent's end of the protocol: stray bytes, malformed frames, consecutive sessions."""

from __future__ import annotations

import contextlib
import os
import random
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from agent_under_test import HELLO, RawClient, agent_on_a_socket, agent_program, eventually

from damon_tests.kernel.agent.machine import AgentMachine
from damon_tests.kernel.agent.wire import (
    MAX_PAYLOAD,
    REPLY,
    VERSION,
    Op,
    Reader,
    Writer,
    encode_batch,
    pack_frame,
)
from damon_tests.ports import FileOp, SpawnRequest


@pytest.fixture
def raw() -> Iterator[RawClient]:
    with agent_on_a_socket() as (_, channel):
        yield RawClient(channel)


@pytest.fixture
def listening(tmp_path: Path) -> Iterator[Callable[[], socket.socket]]:
    """Yield a function that connects to an agent, which serves a client at a time, as in a guest."""
    path = str(tmp_path / "agent.sock")
    agent = subprocess.Popen([str(agent_program()), "--unix", path])

    def connect() -> socket.socket:
        channel = socket.socket(socket.AF_UNIX)
        assert eventually(lambda: channel.connect_ex(path) == 0)  # the agent may not listen yet
        return channel

    try:
        yield connect
        assert agent.poll() is None
    finally:
        agent.kill()
        agent.wait()


def test_requests_before_a_hello_are_refused(raw: RawClient) -> None:
    assert raw.call(Op.PING).i32() != 0
    raw.hello()
    assert raw.call(Op.PING).i32() == 0


def test_agent_reports_its_version_on_mismatch(raw: RawClient) -> None:
    raw.send(pack_frame(Op.HELLO, 5, b"\1" * 8, version=VERSION + 1))
    frame = raw.receive(lambda frame: frame.op == Op.HELLO | REPLY)
    assert (frame.id, frame.version) == (5, VERSION)
    assert Reader(frame.payload).i32() != 0
    raw.hello()


# --- stray bytes ---


def test_garbage_before_a_hello_is_skipped(raw: RawClient) -> None:
    raw.send(random.Random(1).randbytes(10_000) + b"DMTA" * 10 + b"D")
    raw.hello()
    assert raw.call(Op.PING).i32() == 0


def test_garbage_in_a_session_ends_it_with_a_reason(raw: RawClient) -> None:
    raw.hello()
    raw.send(b"no frame at all, not even nearly")
    error = raw.receive(lambda frame: frame.op == Op.ERROR)
    assert "no frame" in Reader(error.payload).text()
    assert raw.call(Op.PING).i32() != 0
    raw.hello()
    assert raw.call(Op.PING).i32() == 0


def test_a_frame_too_long_ends_the_session(raw: RawClient) -> None:
    raw.hello()
    raw.send(pack_frame(Op.BATCH, 1, bytes(MAX_PAYLOAD + 1))[:20])
    error = raw.receive(lambda frame: frame.op == Op.ERROR)
    assert "longer" in Reader(error.payload).text()
    raw.hello()


def test_a_frame_of_another_version_ends_the_session(raw: RawClient) -> None:
    raw.hello()
    raw.send(pack_frame(Op.PING, 1, version=9))
    error = raw.receive(lambda frame: frame.op == Op.ERROR)
    assert "version" in Reader(error.payload).text()


def test_malformed_payload_is_refused_and_the_session_goes_on(raw: RawClient) -> None:
    """Send a prefix of a valid request, and a request with trailing bytes; the session goes on."""
    good = {
        Op.BATCH: encode_batch([FileOp("read", "/proc/version"), FileOp("list", "/proc/self")], True),
        Op.SPAWN: Writer().u32(1).text("/bin/true").u32(1).text("A=b").text("/").done(),
        Op.STDIN: Writer().u32(1).blob(b"xyz").done(),
        Op.STDIN_CLOSE: Writer().u32(1).done(),
        Op.KILL: Writer().u32(1).u32(9).done(),
        Op.FOLLOW: Writer().text("/proc/version").done(),
        Op.UNFOLLOW: Writer().u32(1).done(),
        Op.MOUNT: Writer().text("a").text("/missing").text("c").u64(0).text("").done(),
        Op.SWAPON: Writer().text("/missing").u32(0).done(),
        Op.RESEED: Writer().blob(b"").done(),
    }
    raw.hello()
    for op, payload in good.items():
        for size in range(len(payload)):
            assert raw.call(op, payload[:size]).i32() != 0, (op, size)
    assert raw.call(Op.BATCH, good[Op.BATCH] + b"x").i32() != 0
    assert raw.call(99).i32() != 0
    assert raw.call(Op.PING).i32() == 0


def test_wrong_counts_are_refused(raw: RawClient) -> None:
    raw.hello()
    assert raw.call(Op.BATCH, Writer().u8(0).u32(2**32 - 1).done()).i32() != 0
    assert raw.call(Op.SPAWN, Writer().u32(2**32 - 1).done()).i32() != 0
    assert raw.call(Op.FOLLOW, Writer().u32(2**32 - 1).done()).i32() != 0
    assert raw.call(Op.SPAWN, Writer().u32(0).u32(0).text("/").done()).i32() != 0
    nul_inside = b"/proc/version\0x"
    assert raw.call(Op.FOLLOW, Writer().u32(len(nul_inside)).done() + nul_inside + b"\0").i32() != 0
    assert raw.call(Op.PING).i32() == 0


@pytest.mark.parametrize("seed", range(5))
def test_no_bytes_crash_the_agent(raw: RawClient, seed: int) -> None:
    """Send frames with flipped bits, cut and joined; afterwards the agent still answers a hello.

    The payloads name nothing that a flipped bit could make dangerous.
    """
    rng = random.Random(seed)
    frames = [
        pack_frame(Op.PING, 3),
        pack_frame(Op.CLOCK, 4),
        pack_frame(Op.STDIN, 5, Writer().u32(9).blob(bytes(100)).done()),
        pack_frame(Op.HELLO, 6, b"\2" * 8),
        pack_frame(Op.UNFOLLOW, 7, bytes(4)),
    ]
    for _ in range(200):
        data = bytearray(rng.choice(frames))
        if rng.random() < 0.5:
            data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
        if rng.random() < 0.3:
            del data[rng.randrange(len(data)) :]
        raw.send(bytes(data))
    raw.hello()
    assert raw.call(Op.PING).i32() == 0


def test_a_hello_inside_an_unfinished_frame_is_found(raw: RawClient) -> None:
    """The last client died while it was sending a megabyte."""
    raw.hello()
    raw.send(pack_frame(Op.BATCH, 1, bytes(1 << 20))[:5000])
    raw.send(pack_frame(Op.HELLO, 0, b"\3" * 8))
    raw.receive(
        lambda frame: frame.op == Op.HELLO | REPLY and Reader(frame.payload[4:12]).rest() == b"\3" * 8
    )
    assert raw.call(Op.PING).i32() == 0


# --- new sessions ---


def test_the_same_hello_again_changes_nothing(raw: RawClient) -> None:
    raw.hello()
    pid = _spawn_sleep(raw)
    raw.hello()
    assert raw.call(Op.PING).i32() == 0
    assert Path(f"/proc/{pid}").exists()


def test_new_hello_ends_everything_of_the_last_session(raw: RawClient, tmp_path: Path) -> None:
    """As after the restore of a snapshot: the agent still expects its old client."""
    fifo, blocked = str(tmp_path / "fifo"), str(tmp_path / "blocked")
    os.mkfifo(fifo)
    os.mkfifo(blocked)
    raw.hello()
    pid = _spawn_sleep(raw)
    agent_pid = int(Path(f"/proc/{pid}/stat").read_text().split()[3])

    def threads() -> int:
        return len(os.listdir(f"/proc/{agent_pid}/task"))

    assert raw.call(Op.FOLLOW, Writer().text(fifo).done(), 50).i32() == 0
    for number in range(51, 56):
        raw.send(pack_frame(Op.BATCH, number, encode_batch([FileOp("write", blocked, b"x")], False)))
    assert eventually(lambda: threads() >= 7)
    raw.send(pack_frame(Op.HELLO, 0, b"\4" * 8))
    raw.receive(lambda frame: frame.op == Op.HELLO | REPLY)
    assert eventually(lambda: not Path(f"/proc/{pid}").exists())
    assert eventually(lambda: threads() <= 3)  # the blocked writes have ended
    with pytest.raises(OSError, match="No such device"):  # ENXIO: nobody has it open for reading
        assert eventually(lambda: os.close(os.open(fifo, os.O_WRONLY | os.O_NONBLOCK)) is not None)
    # The old session's replies do not arrive, and its ids are unknown.
    ids: list[int] = []
    raw.send(pack_frame(Op.PING, 60))
    raw.receive(lambda frame: bool(ids.append(frame.id)) or frame.id == 60)
    assert ids == [60]
    assert raw.call(Op.STDIN, Writer().u32(40).blob(b"x").done()).i32() != 0


def test_process_blocks_when_the_channel_is_full(raw: RawClient) -> None:
    """The agent's memory does not grow, and no data is lost."""
    size = 20_000_000
    raw.hello()
    argv = Writer().u32(4).text("/usr/bin/head").text("-c").text(str(size)).text("/dev/zero")
    reply = raw.call(Op.SPAWN, argv.u32(0).text("/").done())
    assert reply.i32() == 0
    pid = reply.u32()
    assert eventually(lambda: stays(lambda: state(pid) == "S"))
    got = 0
    while got < size:
        frame = raw.receive(lambda frame: frame.op == Op.STREAM)
        got += len(frame.payload) - 1
    raw.receive(lambda frame: frame.op == Op.EXIT)


def test_a_file_is_followed_only_as_fast_as_the_channel_takes_it(raw: RawClient, tmp_path: Path) -> None:
    fifo = str(tmp_path / "fifo")
    os.mkfifo(fifo)
    raw.hello()
    assert raw.call(Op.FOLLOW, Writer().text(fifo).done()).i32() == 0
    writer = os.open(fifo, os.O_WRONLY | os.O_NONBLOCK)
    written = 0

    def full() -> bool:
        nonlocal written
        before = written
        with contextlib.suppress(BlockingIOError):
            while written < 50_000_000:
                written += os.write(writer, bytes(1 << 16))
        return written == before

    assert eventually(lambda: stays(full))
    assert written < 5_000_000
    os.close(writer)
    got = 0
    while got < written:
        got += len(raw.receive(lambda frame: frame.op == Op.STREAM).payload) - 1


def stays(condition: Callable[[], bool]) -> bool:
    """Return whether ``condition`` holds each time over a while."""
    for _ in range(50):
        if not condition():
            return False
        time.sleep(0.005)
    return True


def state(pid: int) -> str:
    """Return the state of a process; S: asleep."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0]


def _spawn_sleep(raw: RawClient) -> int:
    reply = raw.call(Op.SPAWN, Writer().u32(2).text("/bin/sleep").text("1000").u32(0).text("/").done(), 40)
    assert reply.i32() == 0
    return reply.u32()


def test_agent_serves_clients_one_after_the_other(listening: Callable[[], socket.socket]) -> None:
    for i in range(5):
        machine = AgentMachine(listening(), f"client {i}")
        process = machine.spawn(SpawnRequest(["/bin/sleep", "1000"]))
        machine.close()
        assert eventually(lambda pid=process.pid: not Path(f"/proc/{pid}").exists())  # type: ignore[misc]


def test_half_a_frame_does_not_block_the_next_client(listening: Callable[[], socket.socket]) -> None:
    with listening() as rude:
        rude.sendall(HELLO + pack_frame(Op.BATCH, 1, bytes(1 << 20))[:70_000])
    machine = AgentMachine(listening(), "polite")
    assert machine.read_file("/proc/version")
    machine.close()


def test_client_that_leaves_during_a_reply_does_not_block_the_next(
    listening: Callable[[], socket.socket],
) -> None:
    with listening() as client:
        raw = RawClient(client)
        raw.hello()
        raw.call(Op.SPAWN, Writer().u32(2).text("/bin/cat").text("/dev/zero").u32(0).text("/").done())
    machine = AgentMachine(listening(), "next")
    assert machine.read_file("/proc/version")
    machine.close()
