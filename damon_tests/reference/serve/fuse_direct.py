# SPDX-License-Identifier: GPL-2.0
"""Serve ``SysfsFiles`` by speaking to /dev/fuse: one loop for requests and for virtual time.

The loop never waits for a client, and no client for another: a write that DAMON has not finished is
answered when it has. The kernel serialises operations on one inode (an O_TRUNC waits for a write under
way), therefore each lookup of a file whose writes may wait gets an inode of its own.
"""

from __future__ import annotations

import contextlib
import errno
import os
import select
from collections.abc import Callable
from dataclasses import dataclass

from damon_tests.ports import NSEC_PER_MSEC, NotSupported
from damon_tests.reference.live.realtime_clock import RealTime
from damon_tests.reference.serve import fuse_wire as wire
from damon_tests.reference.serve import linux_calls
from damon_tests.reference.serve.fuse_wire import Op, Request
from damon_tests.reference.serve.helper_process import FS_NAME
from damon_tests.reference.serve.sysfs_files import Attributes, OpenFile, SysfsFiles, Write

REQUESTS_A_TURN = 64


def mount(mountpoint: str) -> int:
    """Mount at a directory; returns the open device. Raises NotSupported without the privilege."""
    try:
        fd = os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        raise NotSupported(
            f"/dev/fuse cannot be opened ({error.strerror})",
            remedy="load the kernel's fuse module, and let this user open the device",
        ) from error
    options = f"fd={fd},rootmode=40000,user_id={os.getuid()},group_id={os.getgid()},allow_other"
    try:
        linux_calls.mount(FS_NAME, mountpoint, "fuse", linux_calls.MS_NOSUID | linux_calls.MS_NODEV, options)
    except OSError as error:
        os.close(fd)
        raise NotSupported(
            f"mounting at {mountpoint} failed ({error.strerror})",
            remedy="only root may mount outside of a namespace of one's own",
        ) from error
    return fd


@dataclass(slots=True)
class _Known:
    """An inode of the kernel: which file it is, and how many lookups the kernel remembers."""

    path: str
    identity: object
    attributes: Attributes
    lookups: int = 0


class DirectServer:
    """Answers the requests of one mount until it is unmounted or ``stop()`` is true.

    ``wake_fd`` becomes readable when ``stop`` should be called (a signal came).
    """

    def __init__(self, fd: int, files: SysfsFiles, real_time: RealTime, wake_fd: int) -> None:
        self._fd = fd
        self._files = files
        self._time = real_time
        self._wake_fd = wake_fd
        self._owner = os.getuid(), os.getgid()
        self._nodes = {wire.ROOT_ID: _Known("", files.identity(""), files.attributes(""), 1)}
        self._shared: dict[str, int] = {}  # path to the inode that all who look it up get
        self._next_node = wire.ROOT_ID + 1
        self._open: dict[int, OpenFile | list[tuple[str, bool]]] = {}
        self._next_handle = 1
        self._waiting: dict[int, Write] = {}
        self._answers: dict[int, Callable[[Request], bytes]] = {
            Op.INIT: wire.init_body,
            Op.LOOKUP: self._lookup,
            Op.GETATTR: self._getattr,
            Op.SETATTR: self._setattr,
            Op.OPEN: self._open_file,
            Op.READ: self._read,
            Op.RELEASE: self._release,
            Op.OPENDIR: self._open_dir,
            Op.READDIR: self._read_dir,
            Op.RELEASEDIR: self._release,
            Op.STATFS: lambda request: wire.statfs_body(),
            Op.FSYNC: lambda request: b"",
        }

    def run(self, stop: Callable[[], bool]) -> None:
        poller = select.poll()
        poller.register(self._fd, select.POLLIN)
        poller.register(self._wake_fd, select.POLLIN)
        while not stop():
            self._time.advance()
            self._answer_finished()
            ready = poller.poll(self._time.wait_ns() / NSEC_PER_MSEC)
            if any(fd == self._wake_fd for fd, _ in ready):
                with contextlib.suppress(BlockingIOError):
                    os.read(self._wake_fd, 4096)
            if any(fd == self._fd for fd, _ in ready) and not self._serve_some():
                return

    def _serve_some(self) -> bool:
        """Answer the requests that have arrived; return False when the file system was unmounted."""
        for _ in range(REQUESTS_A_TURN):
            try:
                data = os.read(self._fd, wire.REQUEST_MAX)
            except BlockingIOError:
                return True
            except InterruptedError:
                continue
            except OSError as error:
                if error.errno == errno.ENODEV:
                    return False
                if error.errno == errno.ENOENT:  # the request was taken back
                    continue
                raise
            self._serve(Request.parse(data))
        return True

    def _serve(self, request: Request) -> None:
        if request.op in (Op.FORGET, Op.BATCH_FORGET):
            self._forget(request)
        elif request.op == Op.WRITE:
            self._begin_write(request)
        elif request.op == Op.INTERRUPT:
            pass  # DAMON waits uninterruptibly
        else:
            self._send(self._answer(request))

    def _answer(self, request: Request) -> bytes:
        function = self._answers.get(request.op)
        if function is None:
            return wire.failure(request.unique, _refusal(request.op))
        try:
            return wire.reply(request.unique, function(request))
        except OSError as error:
            return wire.failure(request.unique, error.errno or errno.EIO)

    def _send(self, message: bytes) -> None:
        # ENOENT: the client was killed meanwhile.
        with contextlib.suppress(FileNotFoundError):
            os.write(self._fd, message)

    # Inodes

    def _path(self, node: int) -> str:
        known = self._nodes[node]
        if not self._files.is_still(known.path, known.identity):
            raise OSError(errno.ENOENT, os.strerror(errno.ENOENT))
        return known.path

    def _lookup(self, request: Request) -> bytes:
        path = f"{self._path(request.node)}/{request.name()}"
        attributes = self._files.attributes(path)
        node = self._shared.get(path)
        if node is None or not self._files.is_still(path, self._nodes[node].identity):
            node = self._next_node
            self._next_node += 1
            self._nodes[node] = _Known(path, self._files.identity(path), attributes)
            if attributes.stable or attributes.is_dir:
                self._shared[path] = node
        self._nodes[node].lookups += 1
        return wire.entry_body(node, attributes, *self._owner)

    def _forget(self, request: Request) -> None:
        for node, count in request.forgotten():
            known = self._nodes.get(node)
            if known is None or node == wire.ROOT_ID:
                continue
            known.lookups -= count
            if known.lookups <= 0:
                del self._nodes[node]
                if self._shared.get(known.path) == node:
                    del self._shared[known.path]

    def _getattr(self, request: Request) -> bytes:
        # Also of a file that was removed, as long as it is open.
        return wire.attributes_body(request.node, self._nodes[request.node].attributes, *self._owner)

    def _setattr(self, request: Request) -> bytes:
        """Truncating does nothing; owner and mode stay."""
        if request.changes() & ~wire.SETATTR_SIZE_AND_TIMES:
            raise OSError(errno.EPERM, os.strerror(errno.EPERM))
        return self._getattr(request)

    # Open files and directories

    def _new_handle(self, opened: OpenFile | list[tuple[str, bool]]) -> int:
        handle = self._next_handle
        self._next_handle += 1
        self._open[handle] = opened
        return handle

    def _open_file(self, request: Request) -> bytes:
        opened = self._files.open(self._path(request.node), request.flags(), request.uid)
        flags = wire.OPEN_DIRECT_IO | wire.OPEN_NO_FLUSH | wire.OPEN_PARALLEL_WRITES
        return wire.open_body(self._new_handle(opened), flags)

    def _file(self, request: Request) -> OpenFile:
        opened = self._open[request.handle()]
        assert isinstance(opened, OpenFile)
        return opened

    def _read(self, request: Request) -> bytes:
        return self._file(request).read_at(*request.span())

    def _release(self, request: Request) -> bytes:
        opened = self._open.pop(request.handle(), None)
        if isinstance(opened, OpenFile):
            opened.close()
        return b""

    def _open_dir(self, request: Request) -> bytes:
        entries = [(".", True), ("..", True), *self._files.names(self._path(request.node))]
        return wire.open_body(self._new_handle(entries), 0)

    def _read_dir(self, request: Request) -> bytes:
        entries = self._open[request.handle()]
        assert isinstance(entries, list)
        return wire.entries_body(entries, *request.span())

    # Writes

    def _begin_write(self, request: Request) -> None:
        try:
            write = self._file(request).begin_write(request.data())
        except OSError as error:
            self._send(wire.failure(request.unique, error.errno or errno.EIO))
            return
        self._waiting[request.unique] = write
        if write.done():
            self._finish_write(request.unique)

    def _answer_finished(self) -> None:
        for unique in [unique for unique, write in self._waiting.items() if write.done()]:
            self._finish_write(unique)

    def _finish_write(self, unique: int) -> None:
        write = self._waiting.pop(unique)
        number = write.errno()
        done = wire.reply(unique, wire.write_body(write.count))
        self._send(wire.failure(unique, number) if number else done)


def _refusal(op: int) -> int:
    """Return the errno of operations that sysfs does not have."""
    if op == Op.CREATE:
        return errno.EACCES
    if op in (Op.MKNOD, Op.MKDIR, Op.UNLINK, Op.RMDIR, Op.RENAME, Op.RENAME2, Op.LINK, Op.SYMLINK):
        return errno.EPERM
    return errno.ENOSYS
