# SPDX-License-Identifier: GPL-2.0
"""Use this machine as a Machine: its files, processes and monotonic clock.

Nothing here is journaled: changes of the user's machine go through
``kernel.host.journaled.JournaledMachine``, which wraps a LocalMachine.
"""

from __future__ import annotations

import errno
import os
import stat
import subprocess
import threading
import time
from collections.abc import Callable, Sequence

from damon_tests.kernel.host.streams import FollowedFile, PipeReader
from damon_tests.ports import (
    NSEC_PER_MSEC,
    NSEC_PER_SEC,
    ByteStream,
    Clock,
    Entry,
    ExitStatus,
    FileOp,
    PendingWrite,
    Process,
    SpawnRequest,
    TimedOut,
    TreeError,
)

_CHUNK = 1 << 16


class LocalClock:
    """CLOCK_MONOTONIC of this machine; waiting sleeps."""

    def now_ns(self) -> int:
        return time.clock_gettime_ns(time.CLOCK_MONOTONIC)

    def run_for(self, duration_ns: int) -> None:
        end_ns = self.now_ns() + duration_ns
        while (left_ns := end_ns - self.now_ns()) > 0:
            time.sleep(left_ns / NSEC_PER_SEC)

    def wait_until(
        self, condition: Callable[[], bool], deadline_ns: int, poll_ns: int = 10 * NSEC_PER_MSEC
    ) -> bool:
        while True:
            late = self.now_ns() >= deadline_ns
            if condition():
                return True
            if late:
                return False
            time.sleep(max(0, min(poll_ns, deadline_ns - self.now_ns())) / NSEC_PER_SEC)


class LocalMachine:
    """This machine; implements ``ports.Machine``.

    ``root``: absolute paths are below this directory, so that a directory of regular files can
    stand in for /sys in a test. Such files behave like attributes: a write at offset 0 replaces
    the value. ``spawn`` ignores ``root``.
    """

    def __init__(self, name: str = "host", root: str | os.PathLike[str] = "/") -> None:
        self.name = name
        self.root = os.fspath(root)
        self.clock: Clock = LocalClock()
        self._fake = os.path.normpath(self.root) != "/"

    def batch(
        self, ops: Sequence[FileOp], stop_on_error: bool = False
    ) -> Sequence[bytes | Sequence[Entry] | OSError]:
        results: list[bytes | Sequence[Entry] | OSError] = []
        for op in ops:
            results.append(self._attempt(op))
            if stop_on_error and isinstance(results[-1], OSError):
                return results + [_not_tried(later) for later in ops[len(results) :]]
        return results

    def read_file(self, path: str, offset: int = 0, size: int = 0) -> bytes:
        try:
            fd = os.open(self._real(path), os.O_RDONLY | os.O_CLOEXEC)
            try:
                return _read_fd(fd, offset, size)
            finally:
                os.close(fd)
        except OSError as error:
            raise _named(error, path) from None

    def write_file(self, path: str, data: bytes, create: bool = False, mode: int = 0o644) -> None:
        count = self._write(path, data, 0, create, mode)
        if count != len(data):
            raise OSError(errno.EIO, f"only {count} of {len(data)} bytes were written", path)

    def begin_write_file(self, path: str, data: bytes) -> PendingWrite:
        return _ThreadWrite(lambda: self.write_file(path, data), path)

    def spawn(self, request: SpawnRequest) -> Process:
        return LocalProcess(request)

    def follow(self, path: str) -> ByteStream:
        try:
            return FollowedFile(self._real(path))
        except OSError as error:
            raise _named(error, path) from None

    def _real(self, path: str) -> str:
        return self.root.rstrip("/") + path if self._fake else path

    def _attempt(self, op: FileOp) -> bytes | Sequence[Entry] | OSError:
        try:
            return self._do(op)
        except OSError as error:
            return _named(error, op.path)

    def _do(self, op: FileOp) -> bytes | Sequence[Entry]:
        match op.kind:
            case "read":
                return self.read_file(op.path, op.offset, op.size)
            case "write":
                return str(self._write(op.path, op.data, op.offset, op.create, op.mode)).encode()
            case "list":
                return _list_directory(self._real(op.path))
            case "walk":
                return _walk(self._real(op.path), op.path)
            case "stat":
                return [_entry(self._real(op.path), os.path.basename(op.path.rstrip("/")))]
            case "mkdir":
                os.mkdir(self._real(op.path), op.mode)
            case "rmdir":
                os.rmdir(self._real(op.path))
            case "unlink":
                os.unlink(self._real(op.path))
        return b""

    def _write(self, path: str, data: bytes, offset: int, create: bool, mode: int) -> int:
        flags = os.O_WRONLY | os.O_CLOEXEC
        if create:
            flags |= os.O_CREAT
        if offset == 0 and (create or self._fake):
            flags |= os.O_TRUNC
        try:
            fd = os.open(self._real(path), flags, mode)
            try:
                # Only seekable files have offsets; pwrite fails with ESPIPE on others.
                return os.pwrite(fd, data, offset) if offset else os.write(fd, data)
            finally:
                os.close(fd)
        except OSError as error:
            raise _named(error, path) from None


class LocalProcess:
    """A process that we started on this machine; two background threads read its output."""

    def __init__(self, request: SpawnRequest) -> None:
        self._popen = subprocess.Popen(
            list(request.argv),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=dict(request.env),
            cwd=request.cwd,
            bufsize=0,
        )
        self.pid = self._popen.pid
        assert self._popen.stdin is not None
        assert self._popen.stdout is not None
        assert self._popen.stderr is not None
        self._stdin = self._popen.stdin
        self._stdout = PipeReader(self._popen.stdout)
        self._stderr = PipeReader(self._popen.stderr)

    def write_stdin(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            view = view[self._stdin.write(view) :]

    def close_stdin(self) -> None:
        self._stdin.close()

    def read_stdout(self) -> bytes:
        return self._stdout.take()

    def read_stderr(self) -> bytes:
        return self._stderr.take()

    def poll(self) -> ExitStatus | None:
        status = self._popen.poll()
        return None if status is None else self._ended(status)

    def wait(self, timeout_ns: int) -> ExitStatus:
        try:
            return self._ended(self._popen.wait(timeout_ns / NSEC_PER_SEC))
        except subprocess.TimeoutExpired:
            raise TimedOut(
                f"process {self.pid} ({self._popen.args!r}) has not ended"
                f" within {timeout_ns / NSEC_PER_SEC:g} s"
            ) from None

    def kill(self, signal: int) -> None:
        self._popen.send_signal(signal)  # does nothing when it has ended

    def _ended(self, status: int) -> ExitStatus:
        # A caller that sees the exit must also get all output before it. The wait is bounded, because
        # a child of the process may keep the pipes open for ever.
        self._stdout.settle()
        self._stderr.settle()
        return ExitStatus(status, None) if status >= 0 else ExitStatus(None, -status)


class _ThreadWrite:
    """A blocking write in its own thread."""

    def __init__(self, write: Callable[[], None], path: str) -> None:
        self._write = write
        self._path = path
        self._error: Exception | None = None
        self._thread = threading.Thread(target=self._run, daemon=True, name="write")
        self._thread.start()

    def done(self) -> bool:
        return not self._thread.is_alive()

    def result(self, timeout_ns: int) -> None:
        self._thread.join(timeout_ns / NSEC_PER_SEC)
        if self._thread.is_alive():
            raise TimedOut(f"the write to {self._path} has not returned in {timeout_ns / NSEC_PER_SEC:g} s")
        if self._error:
            raise self._error

    def _run(self) -> None:
        try:
            self._write()
        except Exception as error:  # any error is raised to the caller of result()
            self._error = error


def _not_tried(op: FileOp) -> OSError:
    return OSError(errno.ECANCELED, "not tried: an earlier operation failed", op.path)


def _named(error: OSError, path: str) -> OSError:
    """Return the same error with the path as the caller gave it."""
    return OSError(error.errno, error.strerror, path)


def _read_fd(fd: int, offset: int, size: int) -> bytes:
    """Read up to ``size`` bytes (0: all) from ``offset``."""
    parts: list[bytes] = []
    done = 0
    while not size or done < size:
        want = min(_CHUNK, size - done) if size else _CHUNK
        # From offset 0, use plain read(2): pipes and devices have no offsets.
        data = os.pread(fd, want, offset + done) if offset else os.read(fd, want)
        if not data:
            break
        parts.append(data)
        done += len(data)
    return b"".join(parts)


def _entry(path: str, name: str) -> Entry:
    """Return an entry; for a symbolic link, that of its target, or of the link itself if it dangles."""
    try:
        status = os.stat(path)
    except OSError:
        status = os.lstat(path)
    return Entry(name, stat.S_IMODE(status.st_mode), stat.S_ISDIR(status.st_mode))


def _list_directory(path: str) -> list[Entry]:
    entries = []
    for name in sorted(os.listdir(path)):
        try:
            entries.append(_entry(f"{path}/{name}", name))
        except FileNotFoundError:
            continue  # removed since it was listed
    return entries


def _walk(real: str, path: str, prefix: str = "") -> list[Entry]:
    """Return all entries below, depth first; list links to directories but do not follow them (sysfs has
    cycles)."""
    entries: list[Entry] = []
    try:
        children = _list_directory(real)
    except OSError:
        if not prefix:
            raise
        return []  # a directory that vanished or is not readable must not fail the rest
    for child in children:
        name = prefix + child.path
        below = f"{real}/{child.path}"
        if child.is_dir:
            entries.append(Entry(name, child.mode, True))
            if not os.path.islink(below):
                entries += _walk(below, path, f"{name}/")
        else:
            entries.append(_with_value(below, f"{path.rstrip('/')}/{name}", name, child.mode))
    return entries


def _with_value(real: str, path: str, name: str, mode: int) -> Entry:
    """Return a file's entry with its text, or with the error of reading it."""
    if not mode & 0o444:
        # Root could open it, but a driver may do anything on a read of a write-only file.
        return Entry(name, mode, False, error=TreeError("read", path, errno.EACCES))
    try:
        fd = os.open(real, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            value = _read_fd(fd, 0, 0)
        finally:
            os.close(fd)
    except OSError as error:
        return Entry(name, mode, False, error=TreeError("read", path, error.errno or errno.EIO))
    return Entry(name, mode, False, value=value.decode("utf-8", "surrogateescape"))
