# SPDX-License-Identifier: GPL-2.0
"""The real agent, compiled, on a socket of this machine."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from damon_tests.kernel.agent.machine import AgentMachine
from damon_tests.kernel.agent.wire import REPLY, Frame, FrameReader, Op, Reader, pack_frame
from damon_tests.kernel.images import programs
from damon_tests.ports import NotSupported

SOON_S = 60.0
SOON_NS = int(SOON_S * 1e9)


def agent_program() -> Path:
    try:
        return programs.program(programs.AGENT)
    except NotSupported as error:
        pytest.skip(str(error))


def eventually(condition: Callable[[], bool]) -> bool:
    """Return whether ``condition`` becomes true before a generous deadline."""
    deadline_s = time.monotonic() + SOON_S
    while not condition():
        if time.monotonic() > deadline_s:
            return False
        time.sleep(0.005)
    return True


@contextlib.contextmanager
def agent_on_a_socket(*wrapper: str) -> Iterator[tuple[subprocess.Popen[bytes], socket.socket]]:
    """Start an agent (through ``wrapper``, if given); yield it and the other end of its socket."""
    ours, theirs = socket.socketpair()
    command = [*wrapper, str(agent_program()), "--fd", str(theirs.fileno())]
    with theirs:
        agent = subprocess.Popen(command, pass_fds=[theirs.fileno()])
    try:
        yield agent, ours
    finally:
        ours.close()
        try:
            agent.wait(SOON_S)
        finally:
            agent.kill()
            agent.wait()


@contextlib.contextmanager
def agent_machine(*wrapper: str, **options: Any) -> Iterator[tuple[AgentMachine, subprocess.Popen[bytes]]]:
    with agent_on_a_socket(*wrapper) as (agent, channel):
        machine = AgentMachine(channel, "under test", **options)
        try:
            yield machine, agent
        finally:
            machine.close()


HELLO = pack_frame(Op.HELLO, 0, b"\1" * 8)


class RawClient:
    """A client that sends any bytes and receives frames."""

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
