# SPDX-License-Identifier: GPL-2.0
"""The harness's end of a session: how it begins, and how every caller learns of its end."""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from agent_under_test import SOON_NS, SOON_S, agent_machine

from damon_tests.kernel.agent.machine import AgentMachine
from damon_tests.kernel.agent.wire import (
    REPLY,
    VERSION,
    Frame,
    FrameReader,
    Op,
    Writer,
    pack_frame,
)
from damon_tests.ports import FileOp, HarnessError, MachineLost, SpawnRequest


def fake_agent(answer: Callable[[Frame], bytes | None]) -> socket.socket:
    """Return our end of a socket; at the other end, a thread answers each frame until it returns None."""
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


def test_hello_reply_describes_the_machine() -> None:
    with agent_machine() as (machine, agent):
        assert machine.facts.pid == agent.pid
        assert machine.facts.release == os.uname().release
        assert machine.facts.machine == os.uname().machine
        assert machine.facts.page_size == os.sysconf("SC_PAGESIZE")


def test_version_mismatch_names_both_versions_and_the_remedy() -> None:
    channel = fake_agent(lambda frame: pack_frame(Op.HELLO | REPLY, 0, b"whatever", version=VERSION + 6))
    with pytest.raises(
        HarnessError, match=rf"version {VERSION + 6}, this harness {VERSION}.*build the guest image again"
    ):
        AgentMachine(channel, "old")


def test_unanswered_hello_is_machine_lost_with_console() -> None:
    with pytest.raises(MachineLost, match=r"did not answer within 0\.5 s") as raised:
        AgentMachine(fake_agent(lambda _: b""), "mute", hello_s=0.5, console=lambda: "Kernel panic")
    assert raised.value.log == "Kernel panic"


def test_channel_that_closes_at_once_is_machine_lost() -> None:
    with pytest.raises(MachineLost, match="closed"):
        AgentMachine(fake_agent(lambda _: None), "dead")


def test_reply_to_another_clients_hello_is_ignored() -> None:
    answered: list[bytes] = []

    def answer(frame: Frame) -> bytes:
        answered.append(frame.payload)
        stray = pack_frame(Op.HELLO | REPLY, 0, good_hello(b"other!!!"))
        return stray + (
            pack_frame(Op.HELLO | REPLY, 0, good_hello(frame.payload)) if len(answered) > 1 else b""
        )

    machine = AgentMachine(fake_agent(answer), "guest")
    assert len(answered) == 2  # the client repeated the hello with the same nonce
    assert answered[0] == answered[1]
    machine.close()


def test_every_waiting_call_raises_when_agent_dies(tmp_path: Path) -> None:
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
        stream.close()  # close() never raises


def test_hang_is_detected_while_a_call_waits() -> None:
    with agent_machine(hang_s=0.3) as (machine, agent):
        process = machine.spawn(SpawnRequest(["/bin/sleep", "1000"]))
        agent.send_signal(signal.SIGSTOP)
        try:
            with pytest.raises(MachineLost, match=r"has not answered for .* hangs"):
                process.wait(SOON_NS)
        finally:
            agent.send_signal(signal.SIGCONT)


def test_hang_is_detected_when_sending_blocks() -> None:
    with agent_machine(hang_s=0.3) as (machine, agent):
        agent.send_signal(signal.SIGSTOP)
        try:
            with pytest.raises(MachineLost, match="takes no more"):
                machine.begin_write_file("/dev/null", bytes(8 << 20))
        finally:
            agent.send_signal(signal.SIGCONT)


def test_machine_paused_while_no_call_waits_is_not_lost() -> None:
    """A guest does not answer while it is being saved."""
    with agent_machine(hang_s=0.2) as (machine, agent):
        machine.ping(SOON_NS)
        agent.send_signal(signal.SIGSTOP)
        time.sleep(1.5)
        agent.send_signal(signal.SIGCONT)
        assert machine.read_file("/proc/version")


def test_error_frame_of_the_agent_is_in_the_message() -> None:
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
def test_garbage_from_the_agent_is_machine_lost_for_every_call(nonsense: bytes) -> None:
    def answer(frame: Frame) -> bytes:
        if frame.op == Op.HELLO:
            return pack_frame(Op.HELLO | REPLY, 0, good_hello(frame.payload))
        return nonsense

    machine = AgentMachine(fake_agent(answer), "guest")
    with pytest.raises(MachineLost, match="is lost"):
        machine.spawn(SpawnRequest(["/bin/true"]))
    machine.close()


def test_close_works_twice_and_later_calls_raise() -> None:
    with agent_machine() as (machine, _):
        machine.close()
        machine.close()
        with pytest.raises(MachineLost, match="closed"):
            machine.read_file("/proc/version")


def test_the_clock_is_monotonic_time_of_the_machine() -> None:
    with agent_machine() as (machine, _):
        before_ns = time.clock_gettime_ns(time.CLOCK_MONOTONIC)
        now_ns = machine.clock.now_ns()
        assert before_ns <= now_ns <= time.clock_gettime_ns(time.CLOCK_MONOTONIC)
        machine.clock.run_for(20_000_000)
        assert machine.clock.now_ns() >= now_ns + 20_000_000


def test_wait_until_checks_once_more_after_the_deadline() -> None:
    with agent_machine() as (machine, _):
        tries: list[int] = []

        def condition() -> bool:
            tries.append(1)
            return len(tries) == 2

        assert machine.clock.wait_until(condition, machine.clock.now_ns() - 1)
        assert not machine.clock.wait_until(lambda: False, machine.clock.now_ns() + 1_000_000)


def test_stopped_clock_is_machine_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("damon_tests.kernel.agent.machine._CLOCK_STOPS_S", 0.05)

    def answer(frame: Frame) -> bytes:
        if frame.op == Op.HELLO:
            return pack_frame(Op.HELLO | REPLY, 0, good_hello(frame.payload))
        if frame.op == Op.SLEEP:
            return b""  # that time never comes
        return pack_frame(frame.op | REPLY, frame.id, Writer().i32(0).u64(5).done())

    machine = AgentMachine(fake_agent(answer), "guest")
    with pytest.raises(MachineLost, match="clock stands still"):
        machine.clock.run_for(1_000_000)
    machine.close()
