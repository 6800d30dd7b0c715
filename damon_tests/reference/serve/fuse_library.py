# SPDX-License-Identifier: GPL-2.0
"""Serve ``SysfsFiles`` through libfuse3 and mfusepy: for users who may mount only by ``fusermount3``.

Slower than ``fuse_direct``, and in one thing unlike sysfs: libfuse has one inode for a path, so a second
writer of a ``state`` file waits for the first, where DAMON would refuse it with EBUSY. Other files are not
held up.
"""

from __future__ import annotations

import contextlib
import ctypes.util
import errno
import importlib
import os
import shutil
from collections.abc import Callable
from typing import Any

from damon_tests.ports import NotSupported
from damon_tests.reference.live.realtime_clock import RealTime, RealTimeDriver
from damon_tests.reference.serve.helper_process import FS_NAME
from damon_tests.reference.serve.sysfs_files import OpenFile, SysfsFiles

_REMEDY = (
    "install libfuse3 (Debian: apt-get install fuse3) and damon-tests[serve], "
    "or run a command with serve --exec, which needs neither"
)


def load() -> Any:
    """Return the module mfusepy. Raises NotSupported, with what is missing."""
    missing = []
    if ctypes.util.find_library("fuse3") is None:
        missing.append("the library libfuse3 is not installed")
    else:
        os.environ.setdefault("FUSE_LIBRARY_NAME", "fuse3")
    mfusepy = None
    try:
        mfusepy = importlib.import_module("mfusepy")  # it has no type hints of use
    except ImportError:
        missing.append("the Python package mfusepy is not installed")
    except (OSError, AttributeError) as error:  # the latter: it is none that mfusepy can use
        missing = missing or [f"the library libfuse3 cannot be loaded ({error})"]
    if os.getuid() != 0 and shutil.which("fusermount3") is None:
        missing.append("only root may mount, and there is no fusermount3")
    if missing:
        raise NotSupported(*missing, remedy=_REMEDY)
    return mfusepy


def run(mountpoint: str, files: SysfsFiles, real_time: RealTime, mounted: Callable[[], None]) -> None:
    """Mount, call ``mounted``, serve until SIGINT, SIGTERM or unmounting. Raises NotSupported."""
    mfusepy = load()
    driver = RealTimeDriver(real_time)
    operations = _Operations(mfusepy, files, driver, mounted)
    threads = {}
    if (mfusepy.fuse_version_major, mfusepy.fuse_version_minor) >= (3, 12):
        # libfuse 3.14.0 takes its own defaults for errors, and says so.
        threads = {"max_threads": 10, "max_idle_threads": 10}
    driver.start()
    try:
        mfusepy.FUSE(
            operations,
            mountpoint,
            foreground=True,
            fsname=FS_NAME,
            entry_timeout=0,
            attr_timeout=0,
            negative_timeout=0,
            direct_io=True,
            **threads,
        )
    except RuntimeError as error:
        # Also ended by a signal it returns an error; once it was mounted that is the usual end.
        if operations.mounted:
            return
        raise NotSupported(f"libfuse cannot mount at {mountpoint} (it ended with {error})") from None
    finally:
        driver.stop()


class _Operations:
    """mfusepy's callbacks. Each takes the engine's lock; a write gives it up while it waits."""

    use_ns = True

    def __init__(
        self, mfusepy: Any, files: SysfsFiles, driver: RealTimeDriver, mounted: Callable[[], None]
    ) -> None:
        self._mfusepy = mfusepy
        self._files = files
        self._changed = driver.changed
        self.mounted = False
        self._tell_mounted = mounted
        self._open: dict[int, OpenFile] = {}
        self._next_handle = 1

    def init(self, path: str) -> None:
        self.mounted = True
        self._tell_mounted()

    def getattr(self, path: str, fh: int | None = None) -> dict[str, int]:
        with self._changed:
            # Of an open file also when it was removed.
            opened = self._open.get(fh) if fh else None
            attributes = opened.attributes if opened else self._files.attributes(path.rstrip("/"))
        return {
            "st_mode": attributes.mode,
            "st_size": attributes.size,
            "st_nlink": attributes.nlink,
            "st_uid": os.getuid(),
            "st_gid": os.getgid(),
        }

    def readdir(self, path: str, fh: int) -> list[str]:
        with self._changed:
            return [".", "..", *(name for name, _ in self._files.names(path.rstrip("/")))]

    def open(self, path: str, flags: int) -> int:
        uid, _, _ = self._mfusepy.fuse_get_context()
        with self._changed:
            opened = self._files.open(path, flags, uid)
            self._next_handle += 1
            self._open[self._next_handle] = opened
            return self._next_handle

    def read(self, path: str, size: int, offset: int, fh: int) -> bytes:
        with self._changed:
            return self._open[fh].read_at(offset, size)

    def write(self, path: str, data: bytes, offset: int, fh: int) -> int:
        with self._changed:
            write = self._open[fh].begin_write(data)
            self._changed.notify_all()  # something may be due sooner now
            self._changed.wait_for(write.done)
            number = write.errno()
        if number:
            raise OSError(number, os.strerror(number))
        return write.count

    def release(self, path: str, fh: int) -> int:
        with self._changed, contextlib.suppress(KeyError):
            self._open.pop(fh).close()
        return 0

    def truncate(self, path: str, length: int, fh: int | None = None) -> int:
        return 0

    def utimens(self, path: str, times: object = None) -> int:
        return 0

    def create(self, path: str, mode: int, fi: object = None) -> int:
        raise OSError(errno.EACCES, os.strerror(errno.EACCES))

    def _not_permitted(self, *args: object) -> int:
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))

    mknod = mkdir = unlink = rmdir = symlink = rename = link = chmod = chown = _not_permitted
