# SPDX-License-Identifier: GPL-2.0
"""The connection to a guest's agent: requests matched with replies, streams handed on, death noticed."""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import select
import socket
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

from damon_tests.kernel.agent.wire import (
    REPLY,
    VERSION,
    Frame,
    FrameReader,
    Op,
    ProtocolError,
    Reader,
    pack_frame,
)
from damon_tests.ports import HarnessError, MachineLost, TimedOut

log = logging.getLogger(__name__)

_RECEIVE = 1 << 18
_HELLO_EVERY_S = 0.25
_HEARTBEAT_S = 1.0

Sink = Callable[[Frame], None]


@dataclass(frozen=True)
class AgentFacts:
    """What the agent said in its hello. ``boot_log``: what went wrong while it booted the guest."""

    pid: int
    page_size: int
    release: str
    machine: str
    boot_log: str


class AgentLink:
    """One session with an agent over a connected socket, which it owns.

    Safe to use from several threads. Everybody waits through ``wait_for``, which also keeps the heart
    beating: once the channel closes, or the agent's main loop does not answer a ping for ``hang_s``
    while somebody waits, every waiting and future call raises MachineLost.

    Args:
        console: gives what the guest's console said last, for MachineLost.
    """

    def __init__(
        self, channel: socket.socket, name: str, hang_s: float, console: Callable[[], str] | None = None
    ) -> None:
        self.name = name
        self.running: Callable[[], AbstractContextManager[None]] = nullcontext
        """Entered while a caller waits for the machine; it is paused otherwise (``kernel.guest.pause``)."""
        self._hang_s = hang_s
        self._console = console
        self._socket = channel
        self._socket.setblocking(False)
        self._wake_read, self._wake_write = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._frames = FrameReader()
        self._send_lock = threading.Lock()
        # Guards all that follows, and all that sinks change.
        self.changed = threading.Condition()
        self._next_id = 1
        self._replies: dict[int, Frame | None] = {}
        self._sinks: dict[int, Sink] = {}
        self._lost: str | None = None
        self._ping_sent_s: float | None = None
        self._moved_s = time.monotonic()  # when a byte last went either way
        self._thread = threading.Thread(target=self._run, daemon=True, name=f"agent-{name}")

    # --- hello and goodbye ---

    def hello(self, timeout_s: float) -> AgentFacts:
        """Begin a session, ending the one the agent may believe to be in.

        Raises MachineLost when it does not answer in time, HarnessError when it speaks another version.
        """
        nonce = os.urandom(8)
        deadline_s = time.monotonic() + timeout_s
        while (left_s := deadline_s - time.monotonic()) > 0:
            # Repeated, because the first may be swallowed by the rest of a frame of a dead client.
            self._send(pack_frame(Op.HELLO, 0, nonce), left_s)
            facts = self._await_hello(nonce, min(deadline_s, time.monotonic() + _HELLO_EVERY_S))
            if facts is not None:
                self._frames.lenient = False
                self._thread.start()
                return facts
        self._die(f"its agent did not answer within {timeout_s:g} s")
        raise self.lost_error()

    def close(self) -> None:
        """End the session; may be called twice. Calls made later raise MachineLost."""
        self._die("the connection was closed")
        if self._thread.is_alive() and threading.current_thread() is not self._thread:
            self._thread.join()
        with self._send_lock:
            self._socket.close()
            for fd in (self._wake_read, self._wake_write):
                if fd >= 0:
                    os.close(fd)
            self._wake_read = self._wake_write = -1

    def lost_error(self) -> MachineLost:
        """Why the machine is lost, as an exception of its own for each caller."""
        log = ""
        if self._console is not None:
            with contextlib.suppress(OSError):
                log = self._console()
        return MachineLost(f"machine {self.name} is lost: {self._lost}", log)

    def _await_hello(self, nonce: bytes, until_s: float) -> AgentFacts | None:
        while (left_s := until_s - time.monotonic()) > 0:
            if not _ready(self._socket.fileno(), select.POLLIN, left_s):
                return None
            if not self._receive():
                raise self.lost_error()
            while frame := self._frames.next():
                if frame.op == Op.HELLO | REPLY and (facts := _read_hello(frame, nonce)):
                    return facts
        return None

    # --- requests ---

    def request(self, op: Op, payload: bytes = b"", sink: Sink | None = None) -> int:
        """Send a request; the number it is known by. ``sink`` gets the stream frames that it starts,
        in the reading thread with ``changed`` held."""
        with self.changed:
            self.check()
            request_id = self._next_id
            self._next_id = self._next_id % 0xFFFFFFFF + 1
            self._replies[request_id] = None
            if sink is not None:
                self._sinks[request_id] = sink
        try:
            self._send(pack_frame(op, request_id, payload))
        except MachineLost:
            self.forget(request_id)
            raise
        return request_id

    def answered(self, request_id: int) -> bool:
        """Whether the reply has come; it is kept until ``answer`` or ``forget``."""
        with self.changed:
            return self._replies[request_id] is not None

    def answer(self, request_id: int, path: str) -> Reader:
        """Take the payload of a reply that has come. Raises OSError with ``path`` as the agent told."""
        with self.changed:
            frame = self._replies.pop(request_id)
        assert frame is not None
        reader = Reader(frame.payload)
        if error := reader.i32():
            raise OSError(error, os.strerror(error), path)
        return reader

    def end_streams(self, request_id: int) -> None:
        """Nothing more comes for the sink; the reply may still be taken."""
        with self.changed:
            self._sinks.pop(request_id, None)

    def forget(self, request_id: int) -> None:
        """Drop the reply, come or to come, and its streams. May be called twice."""
        with self.changed:
            self._replies.pop(request_id, None)
            self._sinks.pop(request_id, None)

    def call(self, op: Op, payload: bytes, timeout_s: float, what: str) -> Reader:
        """Send a request and wait for its reply. Raises OSError with ``what`` as its filename, TimedOut."""
        request = self.request(op, payload)
        try:
            if not self.wait_for(lambda: self.answered(request), timeout_s):
                raise TimedOut(
                    f"machine {self.name} has not answered {op.name} of {what} within {timeout_s:g} s"
                )
            return self.answer(request, what)
        finally:
            self.forget(request)

    @property
    def lost(self) -> bool:
        return self._lost is not None

    def check(self) -> None:
        """Raises MachineLost if it is."""
        if self._lost is not None:
            raise self.lost_error()

    def wait_for(self, condition: Callable[[], bool], timeout_s: float) -> bool:
        """Wait until ``condition`` (tried with ``changed`` held) holds; False: it did not in time.

        Raises MachineLost, but not for what had already come before the machine was lost.
        """
        with self.changed:
            if condition():
                return True
        with self.running():
            return self._wait_for(condition, time.monotonic() + timeout_s)

    def _wait_for(self, condition: Callable[[], bool], deadline_s: float) -> bool:
        while True:
            with self.changed:
                if condition():
                    return True
                self.check()
                left_s = deadline_s - time.monotonic()
                if left_s <= 0:
                    return False
                self.changed.wait(min(left_s, _HEARTBEAT_S))
                if condition():
                    return True
            self._beat()

    # --- the inside ---

    def _beat(self) -> None:
        """Ping an agent that has not been heard for a while, and give up one that does not answer."""
        now_s = time.monotonic()
        with self.changed:
            if self._lost is not None:
                return
            sent_s = self._ping_sent_s
            if sent_s is None:
                if now_s - self._moved_s < _HEARTBEAT_S:
                    return
                self._ping_sent_s = now_s
        if sent_s is None:
            self._send(pack_frame(Op.PING, 0))
            return
        # On a slow channel the ping may be behind a lot: that is no hang as long as it moves.
        silent_s = now_s - max(sent_s, self._moved_s)
        if silent_s > self._hang_s and not _ready(self._socket.fileno(), select.POLLIN, 0):
            # (Something to read would mean that it is us who were stopped.)
            self._die(f"its agent has not answered for {silent_s:.0f} s (the guest hangs)")

    def _send(self, data: bytes, patience_s: float | None = None) -> None:
        """Send a whole frame. Raises MachineLost, also when the guest takes nothing for ``patience_s``."""
        view = memoryview(data)
        give_up_s = self._hang_s if patience_s is None else patience_s
        with self._send_lock:
            start_s = time.monotonic()
            while view:
                self.check()
                try:
                    view = view[self._socket.send(view) :]
                    start_s = self._moved_s = time.monotonic()
                except BlockingIOError:
                    if time.monotonic() - start_s > give_up_s:
                        self._die("its agent takes no more requests (the guest hangs)")
                    with self.running():
                        _ready(self._socket.fileno(), select.POLLOUT, 0.2)
                except OSError as error:
                    self._die(f"the channel to its agent broke: {error.strerror}")

    def _run(self) -> None:
        poller = select.poll()
        poller.register(self._socket, select.POLLIN)
        poller.register(self._wake_read, select.POLLIN)
        try:
            while self._lost is None:
                poller.poll()
                if self._lost is None and self._receive():
                    self._dispatch_all()
        except ProtocolError as error:
            self._die(str(error))
        except Exception as error:
            # Whatever it is: nobody may wait for a thread that is no more.
            log.exception("what the agent of %s sent could not be understood", self.name)
            self._die(f"what its agent sent could not be understood: {error!r}")

    def _receive(self) -> bool:
        try:
            data = self._socket.recv(_RECEIVE)
        except BlockingIOError:
            return True
        except OSError as error:
            self._die(f"the channel to its agent broke: {error.strerror}")
            return False
        if not data:
            self._die("the channel to its agent was closed (the guest ended)")
            return False
        self._frames.feed(data)
        self._moved_s = time.monotonic()
        return True

    def _dispatch_all(self) -> None:
        with self.changed:
            while frame := self._frames.next():
                self._dispatch(frame)
            self.changed.notify_all()

    def _dispatch(self, frame: Frame) -> None:
        if frame.op == Op.ERROR:
            raise ProtocolError(f"its agent ended the session: {Reader(frame.payload).text()}")
        if frame.op == Op.PING | REPLY and frame.id == 0:
            self._ping_sent_s = None
        elif frame.op & REPLY:
            if frame.id in self._replies:
                self._replies[frame.id] = frame
        elif sink := self._sinks.get(frame.id):
            sink(frame)

    def _die(self, reason: str) -> None:
        with self.changed:
            if self._lost is None:
                self._lost = reason
            self.changed.notify_all()
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        with contextlib.suppress(OSError):
            os.write(self._wake_write, b"x")


def _read_hello(frame: Frame, nonce: bytes) -> AgentFacts | None:
    """None: an answer to somebody else's hello, of whom bytes were left."""
    if frame.version != VERSION:
        raise HarnessError(
            f"the agent in the guest speaks protocol version {frame.version}, this harness {VERSION}:"
            " make the guest image again with the agent of this checkout"
        )
    reader = Reader(frame.payload)
    if (error := reader.i32()) or reader.u64() != int.from_bytes(nonce, "little"):
        if error == errno.EPROTONOSUPPORT:
            raise HarnessError("the agent in the guest refuses this harness's protocol version")
        return None
    reader.u16()
    return AgentFacts(reader.u32(), reader.u32(), reader.text(), reader.text(), reader.text())


def _ready(fd: int, events: int, timeout_s: float) -> bool:
    """poll(2), because select(2) fails on descriptors from 1024 on."""
    poller = select.poll()
    poller.register(fd, events)
    return bool(poller.poll(timeout_s * 1000))
