# SPDX-License-Identifier: GPL-2.0
"""The connection to a guest's agent: match replies to requests, pass on streams, detect a dead guest."""

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
    """The agent's hello reply. ``boot_log``: what went wrong while the agent set up the guest at boot."""

    pid: int
    page_size: int
    release: str
    machine: str
    boot_log: str


class AgentLink:
    """One session with an agent over a connected socket, which it owns.

    Safe to use from several threads. All callers wait in ``wait_for``, which also pings the agent:
    once the channel closes, or the agent's main loop does not answer a ping for ``hang_s`` while a
    caller waits, every current and later call raises MachineLost.

    Args:
        console: returns the end of the guest's console output, for MachineLost.
    """

    def __init__(
        self, channel: socket.socket, name: str, hang_s: float, console: Callable[[], str] | None = None
    ) -> None:
        self.name = name
        self.running: Callable[[], AbstractContextManager[None]] = nullcontext
        """Entered while a caller waits for the machine; else it may be paused (``kernel.guest.pause``)."""
        self._hang_s = hang_s
        self._console = console
        self._socket = channel
        self._socket.setblocking(False)
        self._wake_read, self._wake_write = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._frames = FrameReader()
        self._send_lock = threading.Lock()
        # Guards all members below, and everything that sinks modify.
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
        """Begin a session; the agent ends any earlier session.

        Raises MachineLost when the agent does not answer in time, HarnessError when its version differs.
        """
        nonce = os.urandom(8)
        deadline_s = time.monotonic() + timeout_s
        while (left_s := deadline_s - time.monotonic()) > 0:
            # Repeat the hello: the unfinished frame of a dead client may swallow the first.
            self._send(pack_frame(Op.HELLO, 0, nonce), left_s)
            facts = self._await_hello(nonce, min(deadline_s, time.monotonic() + _HELLO_EVERY_S))
            if facts is not None:
                self._frames.lenient = False
                self._thread.start()
                return facts
        self._die(f"its agent did not answer within {timeout_s:g} s")
        raise self.lost_error()

    def close(self) -> None:
        """End the session; may be called twice. Later calls raise MachineLost."""
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
        """Return a new exception that says why the machine is lost."""
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
        """Send a request and return its id. The reading thread calls ``sink``, with ``changed`` held, for
        each stream frame that the request causes."""
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
        """Return whether the reply has arrived; it is kept until ``answer`` or ``forget``."""
        with self.changed:
            return self._replies[request_id] is not None

    def answer(self, request_id: int, path: str) -> Reader:
        """Return the payload of a reply that has arrived. Raises OSError with its errno and ``path``."""
        with self.changed:
            frame = self._replies.pop(request_id)
        assert frame is not None
        reader = Reader(frame.payload)
        if error := reader.i32():
            raise OSError(error, os.strerror(error), path)
        return reader

    def end_streams(self, request_id: int) -> None:
        """Stop calling the request's sink; its reply is still kept."""
        with self.changed:
            self._sinks.pop(request_id, None)

    def forget(self, request_id: int) -> None:
        """Drop the request's reply, now or when it arrives, and its streams. May be called twice."""
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
        """Raise MachineLost if the machine is lost."""
        if self._lost is not None:
            raise self.lost_error()

    def wait_for(self, condition: Callable[[], bool], timeout_s: float) -> bool:
        """Wait until ``condition`` (called with ``changed`` held) holds; return False on timeout.

        Raises MachineLost, unless the condition already held when the machine was lost.
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

    # --- internals ---

    def _beat(self) -> None:
        """Ping an agent that has been silent for a while; give it up when it does not answer."""
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
        # On a slow channel the ping may queue behind much data: as long as bytes move, it is no hang.
        silent_s = now_s - max(sent_s, self._moved_s)
        if silent_s > self._hang_s and not _ready(self._socket.fileno(), select.POLLIN, 0):
            # (If there is something to read, it was this process that was stopped.)
            self._die(f"its agent has not answered for {silent_s:.0f} s (the guest hangs)")

    def _send(self, data: bytes, patience_s: float | None = None) -> None:
        """Send a whole frame. Raises MachineLost, also when the guest accepts nothing for ``patience_s``."""
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
            # Whatever the error, no caller may go on waiting for this dead thread.
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
    """Parse a hello reply; return None for a leftover reply to another client's hello."""
    if frame.version != VERSION:
        raise HarnessError(
            f"the agent in the guest speaks protocol version {frame.version}, this harness {VERSION}:"
            " build the guest image again with the agent of this checkout"
        )
    reader = Reader(frame.payload)
    if (error := reader.i32()) or reader.u64() != int.from_bytes(nonce, "little"):
        if error == errno.EPROTONOSUPPORT:
            raise HarnessError("the agent in the guest refuses this harness's protocol version")
        return None
    reader.u16()
    return AgentFacts(reader.u32(), reader.u32(), reader.text(), reader.text(), reader.text())


def _ready(fd: int, events: int, timeout_s: float) -> bool:
    """Wait with poll(2): select(2) fails on descriptors from 1024 on."""
    poller = select.poll()
    poller.register(fd, events)
    return bool(poller.poll(timeout_s * 1000))
