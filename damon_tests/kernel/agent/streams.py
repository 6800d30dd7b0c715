# SPDX-License-Identifier: GPL-2.0
"""Processes and followed files on a machine behind its agent."""

from __future__ import annotations

import contextlib

from damon_tests.kernel.agent.link import AgentLink
from damon_tests.kernel.agent.wire import STREAM_STDERR, STREAM_STDOUT, Frame, Op, Reader, Writer
from damon_tests.ports import NSEC_PER_SEC, ExitStatus, HarnessError, MachineLost, SpawnRequest, TimedOut

_STDIN_CHUNK = 1 << 18
_CLOSE_S = 5.0


class BoundedBuffer:
    """Keep up to ``limit`` bytes until they are taken; count the bytes that did not fit."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._data = bytearray()
        self.lost = 0

    def put(self, data: bytes) -> None:
        room = self._limit - len(self._data)
        self._data += data[:room]
        self.lost += max(0, len(data) - room)

    def take(self) -> bytes:
        data = bytes(self._data)
        self._data.clear()
        return data


class AgentStream:
    """A file that the agent follows; implements ``ports.ByteStream``.

    The agent reads the file only as fast as the channel takes data, so that the kernel's own buffer fills
    first and the kernel counts its losses. ``lost`` counts the bytes dropped because ``read`` was not called
    for long, plus 1 each time that kmsg reported overwritten records (kmsg does not report their size).
    Raises OSError when open(2) fails.
    """

    def __init__(self, link: AgentLink, path: str, limit: int, timeout_s: float) -> None:
        self._link = link
        self._path = path
        self._buffer = BoundedBuffer(limit)
        self._lost_there = 0
        self._errno: int | None = None  # 0: it was closed
        self._closed = False
        self._id = link.request(Op.FOLLOW, Writer().text(path).done(), self._sink)
        try:
            if not link.wait_for(lambda: link.answered(self._id), timeout_s):
                raise TimedOut(f"{path} on {link.name} could not be opened within {timeout_s:g} s")
            link.answer(self._id, path)
        except BaseException:
            link.forget(self._id)
            raise

    def read(self) -> bytes:
        """Return all data since the last call, without waiting. Once the data is read, raises OSError if
        the file failed, and MachineLost if the machine did."""
        with self._link.changed:
            data = self._buffer.take()
            if not data and self._errno:
                raise OSError(self._errno, "the followed file failed", self._path)
        if not data and not self._closed:
            self._link.check()
        return data

    def lost(self) -> int:
        with self._link.changed:
            return self._buffer.lost + self._lost_there

    def close(self) -> None:
        """Stop following. May be called twice; data that had arrived stays readable."""
        if self._closed:
            return
        self._closed = True
        with contextlib.suppress(MachineLost):
            request = self._link.request(Op.UNFOLLOW, Writer().u32(self._id).done())
            self._link.wait_for(lambda: self._errno is not None, _CLOSE_S)
            self._link.forget(request)
        self._link.forget(self._id)

    def _sink(self, frame: Frame) -> None:
        reader = Reader(frame.payload)
        match frame.op:
            case Op.STREAM:
                reader.u8()
                self._buffer.put(reader.rest())
            case Op.LOST:
                self._lost_there += reader.u64()
            case Op.STREAM_END:
                reader.u8()
                self._errno = reader.i32()


class AgentProcess:
    """A process that the agent started; implements ``ports.Process``.

    Once its exit is reported, all of its own output has arrived. Unread output is kept up to ``limit``
    bytes per stream; if more arrives, the next read raises HarnessError with the number of lost bytes.
    """

    def __init__(self, link: AgentLink, request: SpawnRequest, limit: int, timeout_s: float) -> None:
        self._link = link
        self._argv = list(request.argv)
        self._timeout_s = timeout_s
        self._streams = {STREAM_STDOUT: BoundedBuffer(limit), STREAM_STDERR: BoundedBuffer(limit)}
        self._reported_lost = dict.fromkeys(self._streams, 0)
        self._status: ExitStatus | None = None
        self._open_streams = len(self._streams)
        self._id = link.request(Op.SPAWN, _encode_spawn(request), self._sink)
        try:
            if not link.wait_for(lambda: link.answered(self._id), timeout_s):
                raise TimedOut(f"{self._argv[0]} on {link.name} did not start within {timeout_s:g} s")
            self.pid = link.answer(self._id, self._argv[0]).u32()
        except BaseException:
            link.forget(self._id)
            raise

    def write_stdin(self, data: bytes) -> None:
        """Write to its stdin; return when all data is in the pipe. Raises BrokenPipeError when the process
        has closed its stdin, TimedOut when it does not read for long."""
        view = memoryview(data)
        while view:
            payload = Writer().u32(self._id).blob(bytes(view[:_STDIN_CHUNK])).done()
            view = view[_STDIN_CHUNK:]
            self._call(Op.STDIN, payload)

    def close_stdin(self) -> None:
        self._call(Op.STDIN_CLOSE, Writer().u32(self._id).done())

    def read_stdout(self) -> bytes:
        return self._take(STREAM_STDOUT, "stdout")

    def read_stderr(self) -> bytes:
        return self._take(STREAM_STDERR, "stderr")

    def poll(self) -> ExitStatus | None:
        with self._link.changed:
            if self._status is None:
                self._link.check()
            return self._status

    def wait(self, timeout_ns: int) -> ExitStatus:
        self._link.wait_for(lambda: self._status is not None, timeout_ns / NSEC_PER_SEC)
        if self._status is None:
            raise TimedOut(
                f"process {self.pid} ({' '.join(self._argv)}) on {self._link.name}"
                f" has not ended within {timeout_ns / NSEC_PER_SEC:g} s"
            )
        return self._status

    def kill(self, signal: int) -> None:
        if self.poll() is None:
            self._call(Op.KILL, Writer().u32(self._id).u32(signal).done())

    def _call(self, op: Op, payload: bytes) -> None:
        self._link.call(op, payload, self._timeout_s, f"process {self.pid} ({self._argv[0]})")

    def _take(self, which: int, name: str) -> bytes:
        with self._link.changed:
            buffer = self._streams[which]
            lost = buffer.lost - self._reported_lost[which]
            if lost:
                self._reported_lost[which] = buffer.lost
                raise HarnessError(
                    f"{lost} bytes of the {name} of process {self.pid} ({self._argv[0]}) were dropped,"
                    " because it was not read in time; what came before them can still be read"
                )
            return buffer.take()

    def _sink(self, frame: Frame) -> None:
        reader = Reader(frame.payload)
        if frame.op == Op.STREAM:
            self._streams[reader.u8()].put(reader.rest())
        elif frame.op == Op.STREAM_END:
            self._open_streams -= 1
        elif frame.op == Op.EXIT:
            code, signal = reader.i32(), reader.i32()
            self._status = ExitStatus(code if code >= 0 else None, signal if signal >= 0 else None)
        if self._status is not None and not self._open_streams:
            self._link.end_streams(frame.id)


def _encode_spawn(request: SpawnRequest) -> bytes:
    out = Writer().u32(len(request.argv))
    for argument in request.argv:
        out.text(argument)
    out.u32(len(request.env))
    for name, value in request.env.items():
        out.text(f"{name}={value}")
    return out.text(request.cwd).done()
