# SPDX-License-Identifier: GPL-2.0
"""Which pages another process wrote to: userfaultfd in asynchronous write-protect mode, and PAGEMAP_SCAN.

The kernel (6.7 and newer) resolves the write faults by itself; nobody has to answer them. The process is
stopped once, for less than a millisecond, to make the userfaultfd; when our end of it is closed,
nothing of it is left in the process.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import os
import struct

import numpy as np

from damon_tests.ports import PAGE_SIZE, Bools, NotSupported, Pages
from damon_tests.reference.core_rules import I64
from damon_tests.reference.ptrace_call import stopped

_SYS_CLOSE, _SYS_USERFAULTFD, _SYS_PIDFD_OPEN, _SYS_PIDFD_GETFD = 3, 323, 434, 438
_USER_MODE_ONLY = 1
_UFFDIO_API, _UFFDIO_REGISTER = 0xC018AA3F, 0xC020AA00
_FEATURES = 1 << 15 | 1 << 13 | 1 << 12 | 1 << 0  # WP_ASYNC, WP_UNPOPULATED, WP_HUGETLBFS_SHMEM, PAGEFAULT_WP
_MODE_WP = 2
_PAGEMAP_SCAN = 0xC0606610
_PM_SCAN_WP_MATCHING = 1
_PAGE_IS_WPALLOWED, _PAGE_IS_WRITTEN = 1, 2
_MAX_RUNS = 4096
SINGLY = 64
_SCAN = struct.Struct("<12Q")
_USER_END = (1 << 47) - 4096

_libc = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long


class WriteTracker:
    """Arms a process on construction. Raises NotSupported with the reason when that cannot be done."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self._armed: set[tuple[int, int]] = set()
        opened: list[int] = []
        try:
            self._pagemap = os.open(f"/proc/{pid}/pagemap", os.O_RDONLY | os.O_CLOEXEC)
            opened.append(self._pagemap)
            self._uffd = _userfaultfd_of(pid)
            opened.append(self._uffd)
            fcntl.ioctl(self._uffd, _UFFDIO_API, bytearray(struct.pack("<QQQ", 0xAA, _FEATURES, 0)))
        except OSError as error:
            for fd in opened:
                os.close(fd)
            raise NotSupported(
                f"writes of process {pid} cannot be tracked ({error.strerror})",
                remedy="it must be a process of yours that nobody else traces, on Linux 6.7 or newer",
            ) from error
        self._vector = ctypes.create_string_buffer(24 * _MAX_RUNS)
        self.arm()

    def arm(self) -> None:
        """Also watch mappings that were made since."""
        now = set(mapped_ranges(self.pid, writable=True))
        for start, end in now - self._armed:
            message = bytearray(struct.pack("<QQQQ", start, end - start, _MODE_WP, 0))
            # Mappings that cannot be watched (device memory, somebody else's userfaultfd) are left out.
            with contextlib.suppress(OSError):
                fcntl.ioctl(self._uffd, _UFFDIO_REGISTER, message)
        self._armed = now

    def prepare(self, pages: Pages) -> None:
        """Write-protect these pages: those that lose it are written to. Others run at full speed.

        A call a page takes 20 µs (it flushes TLBs); where that would be too long, all pages are protected.
        """
        if len(pages) > SINGLY:
            start = 0
            while start < _USER_END:
                _, start = self._scan(start, _USER_END, _PM_SCAN_WP_MATCHING)
            return
        for page in pages.tolist():
            self._scan(page * PAGE_SIZE, (page + 1) * PAGE_SIZE, _PM_SCAN_WP_MATCHING)

    def touched(self, pages: Pages, t0_ns: int, t1_ns: int) -> Bools:
        """Whether each page was written to since it was prepared (the times do not matter)."""
        first, last = self.written()
        if not len(first):
            return np.zeros(len(pages), np.bool_)
        at = np.searchsorted(first, pages, side="right") - 1
        found: Bools = (at >= 0) & (pages < last[at])
        return found

    def written(self) -> tuple[I64, I64]:
        """Runs [first, last) of pages that are not write-protected and have memory, ascending."""
        found: list[I64] = []
        start = 0
        while start < _USER_END:
            runs, start = self._scan(start, _USER_END, 0)
            found.append(runs)
        table = np.concatenate(found)
        return table[:, 0], table[:, 1]

    def _scan(self, start: int, end: int, flags: int) -> tuple[I64, int]:
        """(runs of pages (n, 2), where to go on)."""
        argument = bytearray(
            _SCAN.pack(
                *(_SCAN.size, flags, start, end, 0),
                *(ctypes.addressof(self._vector), _MAX_RUNS, 0),
                *(0, _PAGE_IS_WPALLOWED | _PAGE_IS_WRITTEN, 0, _PAGE_IS_WRITTEN),
            )
        )
        count = fcntl.ioctl(self._pagemap, _PAGEMAP_SCAN, argument)
        runs = np.frombuffer(self._vector.raw[: count * 24], np.uint64).reshape(-1, 3)
        pages = (runs[:, :2] // np.uint64(PAGE_SIZE)).astype(np.int64)
        return pages, int.from_bytes(argument[32:40], "little")

    def close(self) -> None:
        os.close(self._uffd)
        os.close(self._pagemap)


def _userfaultfd_of(pid: int) -> int:
    """A descriptor of ours for a userfaultfd of that process."""
    with stopped(pid) as process:
        flags = os.O_CLOEXEC | os.O_NONBLOCK | _USER_MODE_ONLY
        theirs = process.call(_SYS_USERFAULTFD, flags)
        try:
            return _take(pid, theirs)
        finally:
            process.call(_SYS_CLOSE, theirs)


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
    """Bytes [start, end) of its mappings, or of those it may write to. Raises OSError when it is gone."""
    with open(f"/proc/{pid}/maps", encoding="utf-8", errors="replace") as maps:
        fields = [line.split() for line in maps]
    return [
        (int(low, 16), int(high, 16))
        for low, high in (each[0].split("-") for each in fields if not writable or each[1][1] == "w")
        if int(high, 16) <= _USER_END + 4096
    ]
