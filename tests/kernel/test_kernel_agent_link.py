# SPDX-License-Identifier: GPL-2.0
"""Sessions with the agent: how they begin, how they end, and what stray bytes do to them."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from agent_under_test import SOON_NS, SOON_S, agent_machine, agent_on_a_socket, agent_program, eventually

from damon_tests.kernel.agent import AgentMachine
from damon_tests.kernel.agent_wire import (
    MAX_PAYLOAD,
    REPLY,
    VERSION,
    Frame,
    FrameReader,
    Op,
    Reader,
    Writer,
    encode_batch,
    pack_frame,
)
from damon_tests.ports import FileOp, HarnessError, MachineLost, SpawnRequest

HELLO = pack_frame(Op.HELLO, 0, b"\1" * 8)


class RawClient:
    """Speaks frames, and says whatever it wants."""

    def __init__(self, channel: socket.socket) -> None:
        self.channel = channel
        self.channel.settimeout(SOON_S)
        self.frames = FrameReader()

    def send(self, data: bytes) -> None:
        self.channel.sendall(data)

    def receive(self, wanted: Callable[[Frame], bool]) -> Frame:
        while True:
            while frame := self.frames.next():
                if wanted(frame):
                    return frame
            data = self.channel.recv(1 << 16)
            assert data, "the agent closed the channel"
            self.frames.feed(data)

    def hello(self) -> None:
        self.send(HELLO)
        self.receive(lambda frame: frame.op == Op.HELLO | REPLY)

    def call(self, op: int, payload: bytes = b"", request_id: int = 77) -> Reader:
        self.send(pack_frame(op, request_id, payload))
        return Reader(self.receive(lambda f: f.op == op | REPLY and f.id == request_id).payload)


@pytest.fixture
def raw() -> Iterator[RawClient]:
    with agent_on_a_socket() as (_, channel):
        yield RawClient(channel)


@pytest.fixture
def listening(tmp_path: Path) -> Iterator[Callable[[], socket.socket]]:
    """Connects to one agent that serves one client after the other, as in a guest."""
    path = str(tmp_path / "agent.sock")
    agent = subprocess.Popen([str(agent_program()), "--unix", path])

    def connect() -> socket.socket:
        channel = socket.socket(socket.AF_UNIX)
        assert eventually(lambda: channel.connect_ex(path) == 0)  # not yet while it starts
        return channel

    try:
        yield connect
        assert agent.poll() is None
    finally:
        agent.kill()
        agent.wait()


def fake_agent(answer: Callable[[Frame], bytes | None]) -> socket.socket:
    """The harness's end of a socket; at the other end a thread answers each frame until None."""
    ours, theirs = socket.socketpair()

    def run() -> None:
        reader = FrameReader()
        with theirs:
            while data := theirs.recv(1 << 16):
                reader.feed(data)
                while frame := reader.next():
                    reply = answer(frame)
                    if reply is None:
                        return
                    theirs.sendall(reply)

    threading.Thread(target=run, daemon=True).start()
    return ours


def good_hello(nonce: bytes) -> bytes:
    facts = Writer().u32(1).u32(4096).text("7.3").text("x86_64").text("").done()
    return Writer().i32(0).done() + nonce + VERSION.to_bytes(2, "little") + facts


# --- beginning ---


def test_the_hello_tells_where_we_are() -> None:
    with agent_machine() as (machine, agent):
        assert machine.facts.pid == agent.pid
        assert machine.facts.release == os.uname().release
        assert machine.facts.machine == os.uname().machine
        assert machine.facts.page_size == os.sysconf("SC_PAGESIZE")


def test_requests_before_a_hello_are_refused(raw: RawClient) -> None:
    assert raw.call(Op.PING).i32() != 0
    raw.hello()
    assert raw.call(Op.PING).i32() == 0


def test_the_agent_names_its_version_to_a_client_of_another(raw: RawClient) -> None:
    raw.send(pack_frame(Op.HELLO, 5, b"\1" * 8, version=VERSION + 1))
    frame = raw.receive(lambda frame: frame.op == Op.HELLO | REPLY)
    assert (frame.id, frame.version) == (5, VERSION)
    assert Reader(frame.payload).i32() != 0
    raw.hello()


def test_an_agent_of_another_version_is_named_with_the_way_out() -> None:
    channel = fake_agent(lambda frame: pack_frame(Op.HELLO | REPLY, 0, b"whatever", version=VERSION + 6))
    with pytest.raises(HarnessError, match=rf"version {VERSION + 6}, this harness {VERSION}.*image again"):
        AgentMachine(channel, "old")


def test_no_answer_to_the_hello_is_a_lost_machine_with_its_console() -> None:
    with pytest.raises(MachineLost, match=r"did not answer within 0\.5 s") as raised:
        AgentMachine(fake_agent(lambda _: b""), "mute", hello_s=0.5, console=lambda: "Kernel panic")
    assert raised.value.log == "Kernel panic"


def test_a_channel_that_closes_at_once_is_a_lost_machine() -> None:
    with pytest.raises(MachineLost, match="closed"):
        AgentMachine(fake_agent(lambda _: None), "dead")


def test_the_answer_to_somebody_elses_hello_is_not_ours() -> None:
    answered: list[bytes] = []

    def answer(frame: Frame) -> bytes:
        answered.append(frame.payload)
        stray = pack_frame(Op.HELLO | REPLY, 0, good_hello(b"other!!!"))
        return stray + (
            pack_frame(Op.HELLO | REPLY, 0, good_hello(frame.payload)) if len(answered) > 1 else b""
        )

    machine = AgentMachine(fake_agent(answer), "guest")
    assert len(answered) == 2  # it asked again, with the same nonce
    assert answered[0] == answered[1]
    machine.close()


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


def test_malformed_payloads_are_refused_one_by_one(raw: RawClient) -> None:
    """A prefix of a good request, and one with something after it; the session goes on."""
    good = {
        Op.BATCH: encode_batch([FileOp("read", "/proc/version"), FileOp("list", "/proc/self")], True),
        Op.SPAWN: Writer().u32(1).text("/bin/true").u32(1).text("A=b").text("/").done(),
        Op.STDIN: Writer().u32(1).blob(b"xyz").done(),
        Op.STDIN_CLOSE: Writer().u32(1).done(),
        Op.KILL: Writer().u32(1).u32(9).done(),
        Op.FOLLOW: Writer().text("/proc/version").done(),
        Op.UNFOLLOW: Writer().u32(1).done(),
        Op.MOUNT: Writer().text("a").text("/missing").text("c").u64(0).text("").done(),
        Op.UMOUNT: Writer().text("/missing").u32(0).done(),
        Op.MODULE: Writer().text("/missing").text("").done(),
        Op.SWAPON: Writer().text("/missing").u32(0).done(),
        Op.SWAPOFF: Writer().text("/missing").done(),
        Op.RESEED: Writer().blob(b"").done(),
    }
    raw.hello()
    for op, payload in good.items():
        for size in range(len(payload)):
            assert raw.call(op, payload[:size]).i32() != 0, (op, size)
    assert raw.call(Op.BATCH, good[Op.BATCH] + b"x").i32() != 0
    assert raw.call(99).i32() != 0
    assert raw.call(Op.PING).i32() == 0


def test_counts_that_lie_are_refused(raw: RawClient) -> None:
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
    """Frames with bits turned, cut and glued together; afterwards a hello is answered as ever.

    The payloads name nothing that a turned bit could make dangerous.
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
    """The client before died while it was sending a megabyte."""
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


def test_another_hello_ends_what_the_last_one_began(raw: RawClient, tmp_path: Path) -> None:
    """As after the restore of a snapshot: the agent believes that it still talks to its old client."""
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
    assert eventually(lambda: threads() <= 3)  # the blocked writes wait no more
    with pytest.raises(OSError, match="No such device"):  # ENXIO: nobody has it open for reading
        assert eventually(lambda: os.close(os.open(fifo, os.O_WRONLY | os.O_NONBLOCK)) is not None)
    # Its replies do not come, and its numbers mean nothing.
    seen: list[int] = []
    raw.send(pack_frame(Op.PING, 60))
    raw.receive(lambda frame: bool(seen.append(frame.id)) or frame.id == 60)
    assert seen == [60]
    assert raw.call(Op.STDIN, Writer().u32(40).blob(b"x").done()).i32() != 0


def test_output_that_the_channel_does_not_take_waits_in_its_process(raw: RawClient) -> None:
    """Neither the agent's memory grows, nor is anything lost."""
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
    """Whether it holds, and goes on to hold when looked at again and again."""
    for _ in range(50):
        if not condition():
            return False
        time.sleep(0.005)
    return True


def state(pid: int) -> str:
    """Of a process: S is asleep."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0]


def _spawn_sleep(raw: RawClient) -> int:
    reply = raw.call(Op.SPAWN, Writer().u32(2).text("/bin/sleep").text("1000").u32(0).text("/").done(), 40)
    assert reply.i32() == 0
    return reply.u32()


def test_one_client_after_the_other(listening: Callable[[], socket.socket]) -> None:
    for i in range(5):
        machine = AgentMachine(listening(), f"client {i}")
        process = machine.spawn(SpawnRequest(["/bin/sleep", "1000"]))
        machine.close()
        assert eventually(lambda pid=process.pid: not Path(f"/proc/{pid}").exists())  # type: ignore[misc]


def test_a_client_that_left_half_a_frame(listening: Callable[[], socket.socket]) -> None:
    with listening() as rude:
        rude.sendall(HELLO + pack_frame(Op.BATCH, 1, bytes(1 << 20))[:70_000])
    machine = AgentMachine(listening(), "polite")
    assert machine.read_file("/proc/version")
    machine.close()


def test_an_agent_that_was_sending_when_its_client_left(listening: Callable[[], socket.socket]) -> None:
    with listening() as client:
        raw = RawClient(client)
        raw.hello()
        raw.call(Op.SPAWN, Writer().u32(2).text("/bin/cat").text("/dev/zero").u32(0).text("/").done())
    machine = AgentMachine(listening(), "next")
    assert machine.read_file("/proc/version")
    machine.close()


# --- the end ---


def test_everybody_hears_of_the_death(tmp_path: Path) -> None:
    fifo = str(tmp_path / "fifo")
    os.mkfifo(fifo)
    with agent_machine(console=lambda: "panic: no more") as (machine, agent):
        process = machine.spawn(SpawnRequest(["/bin/sleep", "1000"]))
        pending = machine.begin_write_file(fifo, b"x")
        stream = machine.follow("/proc/version")
        waits: list[Callable[[], object]] = [
            lambda: process.wait(SOON_NS),
            lambda: pending.result(SOON_NS),
            lambda: machine.write_file(fifo, b"x"),
            lambda: machine.clock.run_for(SOON_NS),
            lambda: machine.clock.wait_until(lambda: False, machine.clock.now_ns() + SOON_NS),
        ]
        heard: list[MachineLost] = []
        waiting = threading.Barrier(len(waits) + 1)

        def wait(call: Callable[[], object]) -> None:
            waiting.wait()
            with pytest.raises(MachineLost) as raised:
                call()
            heard.append(raised.value)

        threads = [threading.Thread(target=wait, args=(call,)) for call in waits]
        for thread in threads:
            thread.start()
        waiting.wait()
        agent.kill()
        for thread in threads:
            thread.join(SOON_S)
        assert len(heard) == len(waits)
        assert all("under test is lost" in str(error) for error in heard)
        assert heard[0].log == "panic: no more"
        later: list[Callable[[], object]] = [
            lambda: machine.read_file("/proc/version"),
            lambda: machine.batch([FileOp("list", "/")]),
            lambda: machine.begin_write_file(fifo, b""),
            lambda: machine.spawn(SpawnRequest(["/bin/true"])),
            lambda: machine.follow("/proc/version"),
            machine.clock.now_ns,
            lambda: machine.ping(SOON_NS),
            process.poll,
            lambda: process.kill(9),
            pending.done,
        ]
        for call in later:
            with pytest.raises(MachineLost):
                call()
        stream.close()  # closing is always possible


def test_a_hang_is_noticed_while_somebody_waits() -> None:
    with agent_machine(hang_s=0.3) as (machine, agent):
        process = machine.spawn(SpawnRequest(["/bin/sleep", "1000"]))
        agent.send_signal(signal.SIGSTOP)
        try:
            with pytest.raises(MachineLost, match=r"has not answered for .* hangs"):
                process.wait(SOON_NS)
        finally:
            agent.send_signal(signal.SIGCONT)


def test_a_hang_is_noticed_by_who_can_send_no_more() -> None:
    with agent_machine(hang_s=0.3) as (machine, agent):
        agent.send_signal(signal.SIGSTOP)
        try:
            with pytest.raises(MachineLost, match="takes no more"):
                machine.begin_write_file("/dev/null", bytes(8 << 20))
        finally:
            agent.send_signal(signal.SIGCONT)


def test_a_machine_that_stood_still_while_nobody_waited_is_not_lost() -> None:
    """A guest that is being saved answers nothing meanwhile."""
    with agent_machine(hang_s=0.2) as (machine, agent):
        machine.ping(SOON_NS)
        agent.send_signal(signal.SIGSTOP)
        time.sleep(1.5)
        agent.send_signal(signal.SIGCONT)
        assert machine.read_file("/proc/version")


def test_an_error_from_the_agent_is_told() -> None:
    def answer(frame: Frame) -> bytes:
        if frame.op == Op.HELLO:
            return pack_frame(Op.HELLO | REPLY, 0, good_hello(frame.payload))
        return pack_frame(Op.ERROR, 0, Writer().text("something is wrong").done())

    machine = AgentMachine(fake_agent(answer), "guest")
    with pytest.raises(MachineLost, match="ended the session: something is wrong"):
        machine.ping(SOON_NS)
    machine.close()


@pytest.mark.parametrize(
    "nonsense", [b"bytes that are no frame at all", pack_frame(Op.STREAM, 1, b"\x09data")]
)
def test_nonsense_from_the_agent_loses_the_machine_and_stops_nobody(nonsense: bytes) -> None:
    def answer(frame: Frame) -> bytes:
        if frame.op == Op.HELLO:
            return pack_frame(Op.HELLO | REPLY, 0, good_hello(frame.payload))
        return nonsense

    machine = AgentMachine(fake_agent(answer), "guest")
    with pytest.raises(MachineLost, match="is lost"):
        machine.spawn(SpawnRequest(["/bin/true"]))
    machine.close()


def test_closing_twice_and_calling_later() -> None:
    with agent_machine() as (machine, _):
        machine.close()
        machine.close()
        with pytest.raises(MachineLost, match="closed"):
            machine.read_file("/proc/version")


def test_poweroff_ends_the_agent() -> None:
    with agent_machine() as (machine, agent):
        machine.poweroff()
        assert agent.wait(SOON_S) == 0


def test_the_clock_is_monotonic_time_of_the_machine() -> None:
    with agent_machine() as (machine, _):
        before_ns = time.clock_gettime_ns(time.CLOCK_MONOTONIC)
        now_ns = machine.clock.now_ns()
        assert before_ns <= now_ns <= time.clock_gettime_ns(time.CLOCK_MONOTONIC)
        machine.clock.run_for(20_000_000)
        assert machine.clock.now_ns() >= now_ns + 20_000_000


def test_wait_until_tries_once_more_after_the_deadline() -> None:
    with agent_machine() as (machine, _):
        tries: list[int] = []

        def condition() -> bool:
            tries.append(1)
            return len(tries) == 2

        assert machine.clock.wait_until(condition, machine.clock.now_ns() - 1)
        assert not machine.clock.wait_until(lambda: False, machine.clock.now_ns() + 1_000_000)


def test_a_clock_that_stands_still_is_a_lost_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("damon_tests.kernel.agent._CLOCK_STOPS_S", 0.05)

    def answer(frame: Frame) -> bytes:
        if frame.op == Op.HELLO:
            return pack_frame(Op.HELLO | REPLY, 0, good_hello(frame.payload))
        return pack_frame(frame.op | REPLY, frame.id, Writer().i32(0).u64(5).done())

    machine = AgentMachine(fake_agent(answer), "guest")
    with pytest.raises(MachineLost, match="clock stands still"):
        machine.clock.run_for(1_000_000)
    machine.close()
