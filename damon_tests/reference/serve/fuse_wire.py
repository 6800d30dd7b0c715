# SPDX-License-Identifier: GPL-2.0
"""Messages of the FUSE protocol (include/uapi/linux/fuse.h, version 7.31): packing and unpacking only."""

from __future__ import annotations

import enum
import struct
from dataclasses import dataclass

from damon_tests.reference.serve.sysfs_files import Attributes

MAJOR, MINOR = 7, 31
MAX_WRITE = 64 << 10
REQUEST_MAX = MAX_WRITE + 4096  # what one read(2) of the device may return

ROOT_ID = 1

INIT_BIG_WRITES = 1 << 5
INIT_PARALLEL_DIROPS = 1 << 18
OPEN_DIRECT_IO, OPEN_NO_FLUSH, OPEN_PARALLEL_WRITES = 1 << 0, 1 << 5, 1 << 6
SETATTR_SIZE_AND_TIMES = 1 << 3 | 1 << 4 | 1 << 5 | 1 << 6 | 1 << 7 | 1 << 8 | 1 << 9 | 1 << 10

_FOREVER_S = 1 << 30


class Op(enum.IntEnum):
    LOOKUP = 1
    FORGET = 2
    GETATTR = 3
    SETATTR = 4
    SYMLINK = 6
    MKNOD = 8
    MKDIR = 9
    UNLINK = 10
    RMDIR = 11
    RENAME = 12
    LINK = 13
    OPEN = 14
    READ = 15
    WRITE = 16
    STATFS = 17
    RELEASE = 18
    FSYNC = 20
    FLUSH = 25
    INIT = 26
    OPENDIR = 27
    READDIR = 28
    RELEASEDIR = 29
    CREATE = 35
    INTERRUPT = 36
    DESTROY = 38
    BATCH_FORGET = 42
    RENAME2 = 45


_IN = struct.Struct("<IIQQIIIHH")
_OUT = struct.Struct("<IiQ")
_ATTR = struct.Struct("<QQQQQQIIIIIIIIII")
_ENTRY = struct.Struct("<QQQQII")
_ATTR_HEAD = struct.Struct("<QII")
_INIT_IN = struct.Struct("<IIII")
_INIT_OUT = struct.Struct("<IIIIHHIIHHI28x")
_OPEN_IN = struct.Struct("<II")
_OPEN_OUT = struct.Struct("<QII")
_READ_IN = struct.Struct("<QQIIQII")
_DIRENT = struct.Struct("<QQII")
_STATFS = struct.Struct("<QQQQQIIII24x")
_FORGET_ONE = struct.Struct("<QQ")


@dataclass(frozen=True, slots=True)
class Request:
    """``op`` is a number of ``Op``, or of an operation that this server does not know."""

    op: int
    unique: int
    node: int
    uid: int
    body: bytes

    @classmethod
    def parse(cls, data: bytes) -> Request:
        _, op, unique, node, uid, _, _, _, _ = _IN.unpack_from(data)
        return cls(op, unique, node, uid, data[_IN.size :])

    def name(self) -> str:
        """The single name that is the whole body (LOOKUP)."""
        return self.body.split(b"\0", 1)[0].decode("utf-8", "surrogateescape")

    def flags(self) -> int:
        """open(2)'s flags (OPEN, OPENDIR)."""
        return int(_OPEN_IN.unpack_from(self.body)[0])

    def handle(self) -> int:
        """The file handle that comes first (READ, WRITE, READDIR, RELEASE, RELEASEDIR)."""
        return int.from_bytes(self.body[:8], "little")

    def span(self) -> tuple[int, int]:
        """(offset, size) of READ, READDIR, WRITE."""
        _, offset, size, *_ = _READ_IN.unpack_from(self.body)
        return offset, size

    def data(self) -> bytes:
        """What WRITE writes."""
        return self.body[_READ_IN.size :][: self.span()[1]]

    def changes(self) -> int:
        """Bits of what SETATTR sets."""
        return int.from_bytes(self.body[:4], "little")

    def forgotten(self) -> list[tuple[int, int]]:
        """(node, how many lookups are forgotten) of FORGET and BATCH_FORGET."""
        if self.op == Op.FORGET:
            return [(self.node, int.from_bytes(self.body[:8], "little"))]
        count = int.from_bytes(self.body[:4], "little")
        return [_FORGET_ONE.unpack_from(self.body, 8 + 16 * index) for index in range(count)]


def reply(unique: int, body: bytes = b"") -> bytes:
    return _OUT.pack(_OUT.size + len(body), 0, unique) + body


def failure(unique: int, number: int) -> bytes:
    return _OUT.pack(_OUT.size, -number, unique)


def _attr(node: int, attributes: Attributes, uid: int, gid: int) -> bytes:
    return _ATTR.pack(
        *(node, attributes.size, 0, 0, 0, 0, 0, 0, 0),
        *(attributes.mode, attributes.nlink, uid, gid, 0, 4096, 0),
    )


def attributes_body(node: int, attributes: Attributes, uid: int, gid: int) -> bytes:
    """Return the answer to GETATTR. Attributes never change, so the kernel may cache them."""
    return _ATTR_HEAD.pack(_FOREVER_S, 0, 0) + _attr(node, attributes, uid, gid)


def entry_body(node: int, attributes: Attributes, uid: int, gid: int) -> bytes:
    """Return the answer to LOOKUP. A name that is not stable is looked up again each time."""
    name_valid_s = _FOREVER_S if attributes.stable else 0
    return _ENTRY.pack(node, 0, name_valid_s, _FOREVER_S, 0, 0) + _attr(node, attributes, uid, gid)


def init_body(request: Request) -> bytes:
    _, _, readahead, offered = _INIT_IN.unpack_from(request.body)
    flags = offered & (INIT_BIG_WRITES | INIT_PARALLEL_DIROPS)
    return _INIT_OUT.pack(MAJOR, MINOR, readahead, flags, 64, 48, MAX_WRITE, 1, 0, 0, 0)


def open_body(handle: int, flags: int) -> bytes:
    return _OPEN_OUT.pack(handle, flags, 0)


def write_body(count: int) -> bytes:
    return struct.pack("<II", count, 0)


def statfs_body() -> bytes:
    return _STATFS.pack(0, 0, 0, 0, 0, 4096, 255, 4096, 0)


def entries_body(entries: list[tuple[str, bool]], offset: int, size: int) -> bytes:
    """Return directory entries from number ``offset`` on, as many as fit."""
    body = bytearray()
    for number, (name, is_dir) in enumerate(entries[offset:], offset + 1):
        encoded = name.encode("utf-8", "surrogateescape")
        entry = _DIRENT.pack(number + ROOT_ID, number, len(encoded), 4 if is_dir else 8) + encoded
        entry += bytes(-len(entry) % 8)
        if len(body) + len(entry) > size:
            break
        body += entry
    return bytes(body)
