# SPDX-License-Identifier: GPL-2.0
"""Read pipes and followed files of this machine in background threads."""

from __future__ import annotations

import errno
import os
import select
import threading
from typing import IO

_CHUNK = 1 << 16
_FOLLOW_LIMIT = 64 << 20  # bytes kept of a followed file whose caller does not read
_IDLE_MS = 50  # how soon to try again at the end of a followed file


class PipeReader:
    """Drain a pipe, which it owns, so that the writer never blocks."""

    def __init__(self, pipe: IO[bytes]) -> None:
        self._pipe = pipe
        self._buffer = bytearray()
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._run, daemon=True, name="pipe-reader")
        self._thread.start()

    def take(self) -> bytes:
        with self._lock:
            data = bytes(self._buffer)
            self._buffer.clear()
        return data

    def settle(self) -> None:
        self._thread.join(timeout=1)

    def _run(self) -> None:
        with self._pipe as pipe:
            while data := pipe.read(_CHUNK):
                with self._lock:
                    self._buffer += data


class FollowedFile:
    """A file that keeps growing, read in the background; ``close`` works while the read blocks.

    ``lost`` counts the bytes dropped because ``read`` was not called for long (more than 64 MiB kept),
    plus 1 each time that the kernel reported records overwritten before we read them (kmsg: EPIPE,
    without their size). Raises OSError when open(2) fails.
    """

    def __init__(self, path: str) -> None:
        self._fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        self._wake_read, self._wake_write = os.pipe2(os.O_CLOEXEC)
        self._buffer = bytearray()
        self._lost = 0
        self._error: OSError | None = None
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = threading.Thread(target=self._run, daemon=True, name="follow")
        self._thread.start()

    def read(self) -> bytes:
        """Return all data since the last call. Raises OSError if the file failed, once its data is read."""
        with self._lock:
            data = bytes(self._buffer)
            self._buffer.clear()
            if not data and self._error:
                raise self._error
        return data

    def lost(self) -> int:
        with self._lock:
            return self._lost

    def close(self) -> None:
        """Stop reading. May be called twice; data that was read stays available."""
        if self._thread is None:
            return
        os.write(self._wake_write, b"x")
        self._thread.join()
        self._thread = None
        for fd in (self._fd, self._wake_read, self._wake_write):
            os.close(fd)

    def _run(self) -> None:
        poller = select.poll()
        poller.register(self._wake_read, select.POLLIN)
        poller.register(self._fd, select.POLLIN)
        while True:
            ready = [fd for fd, _ in poller.poll()]
            progress = self._drain()
            if self._error:
                return
            closing = self._wake_read in ready
            if not (closing or progress):  # at the end of a regular file, poll(2) still reports it ready
                closing = bool(select.select([self._wake_read], [], [], _IDLE_MS / 1000)[0])
            if closing:
                self._drain_rest()
                return

    def _drain(self) -> bool:
        """Read what is available now, at most 1 MiB; return whether there was any."""
        for count in range(16):
            try:
                data = os.read(self._fd, _CHUNK)
            except BlockingIOError:
                return count > 0
            except OSError as error:
                if error.errno != errno.EPIPE:
                    self._error = error
                    return False
                with self._lock:
                    self._lost += 1
                continue
            if not data:
                return count > 0
            self._keep(data)
        return True

    def _drain_rest(self) -> None:
        """Read the rest at close; bounded, because a file may grow faster than we read."""
        for _ in range(_FOLLOW_LIMIT >> 20):
            if not self._drain():
                return

    def _keep(self, data: bytes) -> None:
        with self._lock:
            room = _FOLLOW_LIMIT - len(self._buffer)
            self._buffer += data[:room]
            self._lost += max(0, len(data) - room)
