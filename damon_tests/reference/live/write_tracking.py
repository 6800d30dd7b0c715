# SPDX-License-Identifier: GPL-2.0
"""Find the pages that another process wrote to: userfaultfd in asynchronous write-protect mode, and
PAGEMAP_SCAN.

The kernel (6.7 and newer) resolves the write faults by itself; they need no answer. The process is
stopped once, for less than a millisecond, to make the userfaultfd; when our end of it is closed, nothing of
it is left in the process.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import os
import platform
import signal
import socket
import struct

import numpy as np

from damon_tests.ports import Bools, NotSupported, Pages, page_size
from damon_tests.ports.arrays import I64
from damon_tests.reference.live.ptrace_call import stopped

_SYS_CLOSE, _SYS_USERFAULTFD, _SYS_PIDFD_OPEN, _SYS_PIDFD_GETFD = 3, 323, 434, 438
_FLAGS = os.O_CLOEXEC | os.O_NONBLOCK | 1  # UFFD_USER_MODE_ONLY
_UFFDIO_API, _UFFDIO_REGISTER = 0xC018AA3F, 0xC020AA00
_FEATURES = 1 << 15 | 1 << 13 | 1 << 12 | 1 << 0  # WP_ASYNC, WP_UNPOPULATED, WP_HUGETLBFS_SHMEM, PAGEFAULT_WP
_MODE_WP = 2
_PAGEMAP_SCAN = 0xC0606610
_PM_SCAN_WP_MATCHING = 1
_PAGE_IS_WPALLOWED, _PAGE_IS_WRITTEN = 1, 2
_MAX_RUNS = 4096
SINGLY = 64
_SCAN = struct.Struct("<12Q")
_USER_SPACE = 1 << 47  # its last page is never mapped

_libc = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long


class WriteTracker:
    """A ``live_truth.Source``; it sees nothing before ``arm`` found the process at a time when it could
    stop.

    Raises NotSupported with the reason when it cannot be done.
    """

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self._armed: set[tuple[int, int]] = set()
        self._uffd: int | None = None
        _require_userfaultfd()
        try:
            # Who may open its memory may trace it, too.
            os.close(os.open(f"/proc/{pid}/mem", os.O_RDONLY | os.O_CLOEXEC))
            _require_untraced(pid)
            self._pagemap = os.open(f"/proc/{pid}/pagemap", os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            raise NotSupported(
                f"process {pid} may not be traced ({error.strerror})", remedy="be root, or its user"
            ) from error
        self._vector = ctypes.create_string_buffer(24 * _MAX_RUNS)

    def arm(self) -> None:
        """Make the userfaultfd if there is none yet, and watch mappings that were made since.

        A process that cannot be stopped now (it may be waiting for us) is left for the next time.
        """
        if self._uffd is None:
            try:
                self._uffd = _userfaultfd_of(self.pid)
            except TimeoutError:
                return
            _enable(self._uffd)
        now = set(mapped_ranges(self.pid, writable=True))
        for start, end in now - self._armed:
            message = bytearray(struct.pack("<QQQQ", start, end - start, _MODE_WP, 0))
            # Mappings that cannot be watched (device memory, a userfaultfd of others) are left out.
            with contextlib.suppress(OSError):
                fcntl.ioctl(self._uffd, _UFFDIO_REGISTER, message)
        self._armed = now

    def prepare(self, pages: Pages) -> None:
        """Write-protect these pages: a page that loses it is written to. Others run at full speed.

        A call for each page takes 20 µs (it flushes TLBs); where that would be too long, all pages are
        protected.
        """
        if len(pages) > SINGLY:
            start = 0
            while start < (_USER_SPACE - page_size()):
                _, start = self._scan(start, (_USER_SPACE - page_size()), _PM_SCAN_WP_MATCHING)
            return
        for page in pages.tolist():
            self._scan(page * page_size(), (page + 1) * page_size(), _PM_SCAN_WP_MATCHING)

    def touched(self, pages: Pages, t0_ns: int, t1_ns: int) -> Bools:
        """Whether each page was written to since it was prepared (the times do not matter)."""
        first, last = self.written()
        if not len(first):
            return np.zeros(len(pages), np.bool_)
        at = np.searchsorted(first, pages, side="right") - 1
        inside: Bools = (at >= 0) & (pages < last[at])
        return inside

    def written(self) -> tuple[I64, I64]:
        """Return runs [first, last) of pages that are not write-protected and have memory, ascending."""
        written: list[I64] = []
        start = 0
        while start < (_USER_SPACE - page_size()):
            runs, start = self._scan(start, (_USER_SPACE - page_size()), 0)
            written.append(runs)
        table = np.concatenate(written)
        return table[:, 0], table[:, 1]

    def _scan(self, start: int, end: int, flags: int) -> tuple[I64, int]:
        """Return (runs of pages (n, 2), where to go on)."""
        argument = bytearray(
            _SCAN.pack(
                *(_SCAN.size, flags, start, end, 0),
                *(ctypes.addressof(self._vector), _MAX_RUNS, 0),
                *(0, _PAGE_IS_WPALLOWED | _PAGE_IS_WRITTEN, 0, _PAGE_IS_WRITTEN),
            )
        )
        count = fcntl.ioctl(self._pagemap, _PAGEMAP_SCAN, argument)
        runs = np.frombuffer(self._vector.raw[: count * 24], np.uint64).reshape(-1, 3)
        pages = (runs[:, :2] // np.uint64(page_size())).astype(np.int64)
        return pages, int.from_bytes(argument[32:40], "little")

    def close(self) -> None:
        if self._uffd is not None:
            os.close(self._uffd)
        os.close(self._pagemap)


def _enable(uffd: int) -> None:
    fcntl.ioctl(uffd, _UFFDIO_API, bytearray(struct.pack("<QQQ", 0xAA, _FEATURES, 0)))


def _require_userfaultfd() -> None:
    """Try to make a userfaultfd of this process. Raises NotSupported."""
    if platform.machine() != "x86_64":
        raise NotSupported(f"write tracking of other processes is not written for {platform.machine()}")
    fd = _libc.syscall(_SYS_USERFAULTFD, _FLAGS)
    try:
        if fd < 0:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
        _enable(fd)
    except OSError as error:
        raise NotSupported(
            f"this kernel cannot write-protect asynchronously ({error.strerror})",
            remedy="Linux 6.7 or newer with CONFIG_USERFAULTFD",
        ) from error
    finally:
        if fd >= 0:
            os.close(fd)


def _require_untraced(pid: int) -> None:
    with open(f"/proc/{pid}/status", encoding="ascii", errors="replace") as status:
        tracers = [line.split()[1] for line in status if line.startswith("TracerPid:")]
    if tracers != ["0"]:
        raise OSError(errno.EBUSY, "it is being traced already")


def _userfaultfd_of(pid: int) -> int:
    """Return our descriptor of a new userfaultfd of that process. Raises OSError, TimeoutError."""
    ours, theirs = socket.socketpair()
    with ours:
        with theirs:
            # A tracer that ends half-way takes the process with it: no signal, such as Ctrl-C, may end it.
            unblocked = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
            child = os.fork()
            if not child:
                _trace(pid, theirs)
            signal.pthread_sigmask(signal.SIG_SETMASK, unblocked)
        try:
            answer = struct.unpack("<i", ours.recv(4) or struct.pack("<i", -errno.ESRCH))[0]
            if answer < 0:
                raise OSError(-answer, os.strerror(-answer), f"process {pid}")
            return _take(pid, answer)
        finally:
            ours.shutdown(socket.SHUT_WR)  # it may close the process's descriptor
            os.waitpid(child, 0)


def _trace(pid: int, stream: socket.socket) -> None:
    """Be the process that traces: send the descriptor (or -errno), wait until it was received."""
    answer = -errno.EIO
    try:
        with stopped(pid) as process:
            answer = process.call(_SYS_USERFAULTFD, _FLAGS)
            stream.sendall(struct.pack("<i", answer))
            stream.recv(1)
            process.call(_SYS_CLOSE, answer)
    except OSError as error:
        if answer < 0:
            with contextlib.suppress(OSError):
                stream.sendall(struct.pack("<i", -(error.errno or errno.EIO)))
    finally:
        os._exit(0)


def _take(pid: int, fd: int) -> int:
    pidfd = _libc.syscall(_SYS_PIDFD_OPEN, pid, 0)
    taken = _libc.syscall(_SYS_PIDFD_GETFD, pidfd, fd, 0) if pidfd >= 0 else -1
    number = ctypes.get_errno()
    if pidfd >= 0:
        os.close(pidfd)
    if taken < 0:
        raise OSError(number, os.strerror(number), f"process {pid}")
    return int(taken)


def mapped_ranges(pid: int, writable: bool = False) -> list[tuple[int, int]]:
    """Return bytes [start, end) of its mappings, or of those it may write to. Raises OSError when it is
    gone."""
    with open(f"/proc/{pid}/maps", encoding="utf-8", errors="replace") as maps:
        fields = [line.split() for line in maps]
    return [
        (int(low, 16), int(high, 16))
        for low, high in (each[0].split("-") for each in fields if not writable or each[1][1] == "w")
        if int(high, 16) <= _USER_SPACE
    ]
