# SPDX-License-Identifier: GPL-2.0
"""Use a guest as a Machine, through its agent."""

from __future__ import annotations

import errno
import os
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager

from damon_tests.kernel.agent.link import AgentLink
from damon_tests.kernel.agent.streams import AgentProcess, AgentStream
from damon_tests.kernel.agent.wire import Op, PartialRead, Result, Writer, decode_batch, encode_batch
from damon_tests.ports import (
    NSEC_PER_MSEC,
    NSEC_PER_SEC,
    ByteStream,
    Clock,
    Entry,
    FileOp,
    MachineLost,
    PendingWrite,
    Process,
    SpawnRequest,
    TimedOut,
)

_CHUNK = 1 << 20  # largest single write
_BATCH_BYTES = 1 << 20  # approximate size of the requests in one frame
_READ_LIMIT = 4 << 20  # the agent's limit for one read of a file
_CLOCK_STOPS_S = 60.0


class AgentClock:
    """CLOCK_MONOTONIC of the guest. Waits happen in the guest: its time may be faster or slower than ours."""

    def __init__(self, link: AgentLink, timeout_s: float) -> None:
        self._link = link
        self._timeout_s = timeout_s

    def now_ns(self) -> int:
        return self._link.call(Op.CLOCK, b"", self._timeout_s, "its clock").u64()

    def run_for(self, duration_ns: int) -> None:
        """Wait in the guest. Raises MachineLost when the guest's clock stands still."""
        self._sleep_until(self.now_ns() + duration_ns, duration_ns)

    def wait_until(
        self, condition: Callable[[], bool], deadline_ns: int, poll_ns: int = 10 * NSEC_PER_MSEC
    ) -> bool:
        while True:
            if condition():
                return True
            now_ns = self.now_ns()
            if now_ns >= deadline_ns:
                return condition()
            nap_ns = min(poll_ns, deadline_ns - now_ns)
            self._sleep_until(now_ns + nap_ns, nap_ns)

    def _sleep_until(self, end_ns: int, duration_ns: int) -> None:
        patience_s = 10 * duration_ns / NSEC_PER_SEC + _CLOCK_STOPS_S
        try:
            self._link.call(Op.SLEEP, Writer().u64(end_ns).done(), patience_s, "its clock")
        except TimedOut:
            raise MachineLost(
                f"machine {self._link.name} is lost: its clock stands still before {end_ns} ns"
            ) from None


class AgentMachine:
    """A machine behind its agent; implements ``ports.Machine`` over a connected socket.

    Connecting begins a session: the agent ends whatever an earlier client left (processes, followed
    files, blocked writes). File operations that fail raise OSError with errno and filename. Any call
    raises MachineLost when the channel closes, or when the agent does not answer a ping for
    ``hang_s`` while a caller waits.

    Args:
        operation_s: the longest time for a single request before it raises TimedOut; a ``state``
            write of DAMON may block for some seconds.
        stream_limit: bytes kept of a stream that is not read.
        console: returns the end of the machine's console output, for MachineLost.

    Raises:
        MachineLost: no answer within ``hello_s``.
        HarnessError: the agent speaks another version of the protocol.
    """

    def __init__(
        self,
        channel: socket.socket,
        name: str,
        *,
        hello_s: float = 30.0,
        hang_s: float = 30.0,
        operation_s: float = 300.0,
        stream_limit: int = 64 << 20,
        console: Callable[[], str] | None = None,
    ) -> None:
        self.name = name
        self._operation_s = operation_s
        self._stream_limit = stream_limit
        self._link = AgentLink(channel, name, hang_s, console)
        try:
            self.facts = self._link.hello(hello_s)
        except BaseException:
            self._link.close()
            raise
        self.clock: Clock = AgentClock(self._link, operation_s)

    def runs_only_within(self, running: Callable[[], AbstractContextManager[None]]) -> None:
        """Let the guest run only within ``running()`` from now on; every wait for the guest enters it."""
        self._link.running = running

    def running(self) -> AbstractContextManager[None]:
        """Keep the guest running within this context, even while no call waits for its agent."""
        return self._link.running()

    # --- ports.Machine ---

    def batch(
        self, ops: Sequence[FileOp], stop_on_error: bool = False
    ) -> Sequence[bytes | Sequence[Entry] | OSError]:
        """Do ``ops`` in one round trip, unless they are very large (1 MiB of requests, 4 MiB of a file)."""
        results: list[bytes | Sequence[Entry] | OSError] = []
        for part in _parts(ops):
            for op, result in zip(part, self._batch_once(part, stop_on_error), strict=True):
                results.append(self._completed(op, result) if isinstance(result, PartialRead) else result)
            if stop_on_error and any(isinstance(result, OSError) for result in results):
                break
        for op in ops[len(results) :]:
            results.append(OSError(errno.ECANCELED, os.strerror(errno.ECANCELED), op.path))
        return results

    def read_file(self, path: str, offset: int = 0, size: int = 0) -> bytes:
        (result,) = self.batch([FileOp("read", path, offset=offset, size=size)])
        return _bytes_or_raise(result)

    def write_file(self, path: str, data: bytes, create: bool = False, mode: int = 0o644) -> None:
        """Write a file. More than 1 MiB takes several writes, which works only for files with offsets."""
        ops = [
            FileOp("write", path, data[at : at + _CHUNK], offset=at, create=create, mode=mode)
            for at in range(0, max(1, len(data)), _CHUNK)
        ]
        for op, result in zip(ops, self.batch(ops, stop_on_error=True), strict=True):
            _check_count(op, result)

    def begin_write_file(self, path: str, data: bytes) -> PendingWrite:
        op = FileOp("write", path, data)
        return AgentPendingWrite(self._link, op, self._link.request(Op.BATCH, encode_batch([op], False)))

    def spawn(self, request: SpawnRequest) -> Process:
        return AgentProcess(self._link, request, self._stream_limit, self._operation_s)

    def follow(self, path: str) -> ByteStream:
        return AgentStream(self._link, path, self._stream_limit, self._operation_s)

    # --- the machine as a whole ---

    def ping(self, timeout_ns: int) -> int:
        """Return how long the agent's main loop takes to answer, in ns; blocked file operations do not
        delay it. Raises TimedOut."""
        start_ns = time.monotonic_ns()
        self._link.call(Op.PING, b"", timeout_ns / NSEC_PER_SEC, "a ping")
        return time.monotonic_ns() - start_ns

    def mount(self, source: str, target: str, fstype: str, flags: int = 0, data: str = "") -> None:
        """Call mount(2); the target directory must exist. Raises OSError."""
        payload = Writer().text(source).text(target).text(fstype).u64(flags).text(data).done()
        self._call(Op.MOUNT, payload, target)

    def swapon(self, path: str, flags: int = 0) -> None:
        """Call swapon(2); ``path`` must have a swap signature. Raises OSError."""
        self._call(Op.SWAPON, Writer().text(path).u32(flags).done(), path)

    def reseed(self, entropy: bytes) -> None:
        """Mix ``entropy`` (at most 4096 bytes) into the kernel's random state and reseed at once, so that
        machines restored from the same snapshot draw different numbers. Raises OSError."""
        self._call(Op.RESEED, Writer().blob(entropy).done(), "/dev/urandom")

    def close(self) -> None:
        """End the session; may be called twice. The machine runs on; its agent kills what we started."""
        self._link.close()

    # --- internals ---

    def _call(self, op: Op, payload: bytes, path: str) -> None:
        self._link.call(op, payload, self._operation_s, path)

    def _batch_once(self, ops: Sequence[FileOp], stop_on_error: bool) -> list[Result]:
        what = ops[0].path if len(ops) == 1 else f"{len(ops)} files from {ops[0].path}"
        reply = self._link.call(Op.BATCH, encode_batch(ops, stop_on_error), self._operation_s, what)
        return decode_batch(ops, reply)

    def _completed(self, op: FileOp, partial: PartialRead) -> bytes | OSError:
        """Read the rest of a file that was too large for one reply; return all of it."""
        data = bytearray(partial.data)
        while not op.size or len(data) < op.size:
            size = min(op.size - len(data), _READ_LIMIT) if op.size else _READ_LIMIT
            more = FileOp("read", op.path, offset=op.offset + len(data), size=size)
            (result,) = self._batch_once([more], False)
            if isinstance(result, OSError):
                return result
            piece = result.data if isinstance(result, PartialRead) else result
            assert isinstance(piece, bytes)
            if not piece:
                break
            data += piece
        return bytes(data)


class AgentPendingWrite:
    """A write in progress on the machine; implements ``ports.PendingWrite``."""

    def __init__(self, link: AgentLink, op: FileOp, request: int) -> None:
        self._link = link
        self._op = op
        self._request = request
        self._result: Result | None = None

    def done(self) -> bool:
        if self._take_result():
            return True
        self._link.check()
        return False

    def result(self, timeout_ns: int) -> None:
        timeout_s = timeout_ns / NSEC_PER_SEC
        if not self._link.wait_for(self._take_result, timeout_s):
            raise TimedOut(
                f"the write to {self._op.path} on {self._link.name} has not returned in {timeout_s:g} s"
            )
        assert self._result is not None
        _check_count(self._op, self._result)

    def _take_result(self) -> bool:
        with self._link.changed:
            if self._result is None and self._link.answered(self._request):
                reply = self._link.answer(self._request, self._op.path)
                (self._result,) = decode_batch([self._op], reply)
            return self._result is not None


def _parts(ops: Sequence[FileOp]) -> Iterator[Sequence[FileOp]]:
    """Split ``ops`` into pieces that fit into a frame each (nearly always a single piece)."""
    start = size = 0
    for index, op in enumerate(ops):
        own = len(op.data) + 2 * len(op.path) + 64
        if size and size + own > _BATCH_BYTES:
            yield ops[start:index]
            start, size = index, 0
        size += own
    if size:
        yield ops[start:]


def _bytes_or_raise(result: Result) -> bytes:
    if isinstance(result, OSError):
        raise result
    assert isinstance(result, bytes)
    return result


def _check_count(op: FileOp, result: Result) -> None:
    count = int(_bytes_or_raise(result))
    if count != len(op.data):
        raise OSError(errno.EIO, f"only {count} of {len(op.data)} bytes were written", op.path)
