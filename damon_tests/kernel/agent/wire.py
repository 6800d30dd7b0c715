# SPDX-License-Identifier: GPL-2.0
"""The protocol between the host and the guest agent: frames, and the encoding of payloads.

``workloads/src/agent_wire.h``, the other end, describes the protocol.
"""

from __future__ import annotations

import enum
import os
import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from damon_tests.ports import Entry, FileOp, HarnessError, TreeError

VERSION = 1
MAX_PAYLOAD = 16 << 20
_MAGIC = 0x41544D44
_MAGIC_BYTES = struct.pack("<I", _MAGIC)
_HEADER = struct.Struct("<IHHII")  # magic, version, op, id, length; a CRC of these follows
HEADER_SIZE = _HEADER.size + 4


class Op(enum.IntEnum):
    """Requests, and (from STREAM on) the frames that the agent sends unasked."""

    HELLO = 1
    ERROR = 2
    PING = 3
    CLOCK = 4
    BATCH = 5
    SPAWN = 6
    STDIN = 7
    STDIN_CLOSE = 8
    KILL = 9
    FOLLOW = 10
    UNFOLLOW = 11
    MOUNT = 12
    SWAPON = 13
    RESEED = 14
    SLEEP = 15
    STREAM = 32
    STREAM_END = 33
    EXIT = 34
    LOST = 35


REPLY = 0x8000
STREAM_FILE, STREAM_STDOUT, STREAM_STDERR = 0, 1, 2

KINDS = ("read", "write", "list", "walk", "mkdir", "rmdir", "unlink", "stat")
"""Values of ``FileOp.kind``, in the order of their numbers."""


class ProtocolError(HarnessError):
    """Received bytes are not a frame, or a payload does not fit its op."""


class Frame(NamedTuple):
    """A frame. ``op`` may have REPLY set; ``id`` is the id of the request that it belongs to."""

    op: int
    id: int
    payload: bytes
    version: int = VERSION


def pack_frame(op: int, request_id: int, payload: bytes = b"", version: int = VERSION) -> bytes:
    """Return the bytes of a frame, to be sent with one write."""
    header = _HEADER.pack(_MAGIC, version, op, request_id, len(payload))
    return header + struct.pack("<I", zlib.crc32(header)) + payload


class FrameReader:
    """Cut a stream of bytes into frames.

    While ``lenient`` (before the hello reply), skip bytes that are not a frame, because a dead client
    may have left some; afterwards they raise ProtocolError.
    """

    def __init__(self) -> None:
        self.lenient = True
        self._buffer = bytearray()

    def feed(self, data: bytes) -> None:
        self._buffer += data

    def next(self) -> Frame | None:
        """Return the next whole frame, or None until more bytes arrive. Raises ProtocolError."""
        while len(self._buffer) >= HEADER_SIZE:
            header = self._header_at(0)
            if header is None:
                self._skip()
                continue
            version, op, request_id, length = header
            if len(self._buffer) < HEADER_SIZE + length:
                if self.lenient and (at := self._hello_inside()):
                    del self._buffer[:at]
                    continue
                return None
            payload = bytes(self._buffer[HEADER_SIZE : HEADER_SIZE + length])
            del self._buffer[: HEADER_SIZE + length]
            return Frame(op, request_id, payload, version)
        return None

    def _header_at(self, at: int) -> tuple[int, int, int, int] | None:
        if len(self._buffer) < at + HEADER_SIZE:
            return None
        head = bytes(self._buffer[at : at + _HEADER.size])
        magic, version, op, request_id, length = _HEADER.unpack(head)
        (crc,) = struct.unpack_from("<I", self._buffer, at + _HEADER.size)
        if magic != _MAGIC or crc != zlib.crc32(head) or length > MAX_PAYLOAD:
            return None
        return version, op, request_id, length

    def _skip(self) -> None:
        if not self.lenient:
            raise ProtocolError(f"bytes from the agent that are no frame: {bytes(self._buffer[:16])!r}")
        at = self._buffer.find(_MAGIC_BYTES, 1)
        del self._buffer[: at if at > 0 else max(1, len(self._buffer) - 3)]

    def _hello_inside(self) -> int:
        """Return the offset of a hello reply inside an incomplete frame of an earlier session; 0: none."""
        at = 0
        while (at := self._buffer.find(_MAGIC_BYTES, at + 1)) > 0:
            header = self._header_at(at)
            if header and header[1] == Op.HELLO | REPLY:
                return at
        return 0


class Writer:
    """Build a payload."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []

    def u8(self, value: int) -> Writer:
        return self._add(struct.pack("<B", value))

    def u32(self, value: int) -> Writer:
        return self._add(struct.pack("<I", value))

    def u64(self, value: int) -> Writer:
        return self._add(struct.pack("<Q", value))

    def i32(self, value: int) -> Writer:
        return self._add(struct.pack("<i", value))

    def blob(self, value: bytes) -> Writer:
        self.u32(len(value))
        return self._add(value)

    def text(self, value: str) -> Writer:
        """Add a path or other text. Raises ValueError for a NUL in it, which no path can have."""
        data = os.fsencode(value)
        if b"\0" in data:
            raise ValueError(f"embedded null byte in {value!r}")
        self.u32(len(data))
        return self._add(data + b"\0")

    def done(self) -> bytes:
        return b"".join(self._parts)

    def _add(self, data: bytes) -> Writer:
        self._parts.append(data)
        return self


class Reader:
    """Decode a payload. Raises ProtocolError when it is shorter than its fields say."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def u8(self) -> int:
        return self._take(1)[0]

    def u16(self) -> int:
        return int.from_bytes(self._take(2), "little")

    def u32(self) -> int:
        return int.from_bytes(self._take(4), "little")

    def u64(self) -> int:
        return int.from_bytes(self._take(8), "little")

    def i32(self) -> int:
        return int.from_bytes(self._take(4), "little", signed=True)

    def blob(self) -> bytes:
        return self._take(self.u32())

    def text(self) -> str:
        return os.fsdecode(self._take(self.u32() + 1)[:-1])

    def rest(self) -> bytes:
        return self._take(len(self._data) - self._at)

    def _take(self, size: int) -> bytes:
        data = self._data[self._at : self._at + size]
        if len(data) != size:
            raise ProtocolError(f"a payload of {len(self._data)} bytes is too short")
        self._at += size
        return data


def encode_batch(ops: Sequence[FileOp], stop_on_error: bool) -> bytes:
    """Return the payload of a BATCH request."""
    out = Writer().u8(stop_on_error).u32(len(ops))
    for op in ops:
        out.u8(KINDS.index(op.kind)).u8(op.create).u32(op.mode).u64(op.offset).u64(op.size)
        out.text(op.path).blob(op.data)
    return out.done()


@dataclass
class PartialRead:
    """A read's reply that may lack the rest of the file: the agent bounds the size of one read."""

    data: bytes


Result = bytes | Sequence[Entry] | OSError | PartialRead


def decode_batch(ops: Sequence[FileOp], reply: Reader) -> list[Result]:
    """Return the result of each operation from a BATCH reply, in order."""
    return [_decode_result(op, reply) for op in ops]


def _decode_result(op: FileOp, reply: Reader) -> Result:
    if error := reply.i32():
        return OSError(error, os.strerror(error), op.path)
    match op.kind:
        case "read":
            complete = reply.u8()
            data = reply.blob()
            return data if complete else PartialRead(data)
        case "write":
            return str(reply.u64()).encode()
        case "list" | "walk":
            # Sort by components: depth first, a directory directly before its entries.
            return sorted(_decode_entries(op.path, reply), key=lambda entry: entry.path.split("/"))
        case "stat":
            (entry,) = _decode_entries(op.path, reply)
            return [Entry(os.path.basename(op.path.rstrip("/")), entry.mode, entry.is_dir)]
    return b""


def _decode_entries(base: str, reply: Reader) -> list[Entry]:
    entries = []
    while reply.u8():
        path, mode, is_dir = reply.text(), reply.u32(), bool(reply.u8())
        value: str | None = None
        error: TreeError | None = None
        match reply.u8():
            case 1:
                value = reply.blob().decode("utf-8", "surrogateescape")
            case 2:
                error = TreeError("read", f"{base.rstrip('/')}/{path}", reply.i32())
        entries.append(Entry(path, mode, is_dir, value, error))
    return entries
