# SPDX-License-Identifier: GPL-2.0
"""Read the configuration that CONFIG_IKCONFIG embeds in a kernel, also inside a compressed bzImage.

The kernel holds the gzipped .config between the marks ``IKCFG_ST`` and ``IKCFG_ED`` (kernel/configs.c). A
bzImage holds the kernel compressed, at ``payload_offset`` (Documentation/arch/x86/boot.rst).
"""

from __future__ import annotations

import bz2
import lzma
import shutil
import struct
import subprocess
import zlib
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from damon_tests.kernel.images.boot_header import arm64_image

_MARK = b"IKCFG_ST"
_HEADER_MAGIC = slice(0x202, 0x206)
_PAYLOAD_SINCE = 0x0208  # version of the boot protocol that added payload_offset
_TRAILER = 4  # the kernel's build appends the uncompressed size to everything but gzip
_TOOL_TIMEOUT_S = 120


def embedded_config(image: Path) -> str | None:
    """Return the text of the .config in a bzImage, arm64 Image or vmlinux; None if none can be read.

    Payloads of gzip, xz, lzma and bzip2 need nothing else; zstd, lz4 and lzo need the program of that name.
    """
    data = image.read_bytes()
    return _config_in(data) or _config_in(_payload(data)) or _config_in(arm64_image(data) or b"")


def _config_in(data: bytes) -> str | None:
    at = data.find(_MARK)
    if at < 0:
        return None
    unpacker = zlib.decompressobj(wbits=31)
    with suppress(zlib.error):
        text = unpacker.decompress(data[at + len(_MARK) :])
        return text.decode("utf-8", "replace") if unpacker.eof else None
    return None


def _payload(data: bytes) -> bytes:
    """Return the kernel that a bzImage holds, uncompressed; empty if that is not possible."""
    if len(data) < 0x250 or data[_HEADER_MAGIC] != b"HdrS":
        return b""
    setup_sectors = data[0x1F1] or 4
    (version,) = struct.unpack_from("<H", data, 0x206)
    if version < _PAYLOAD_SINCE:
        return b""
    offset, size = struct.unpack_from("<II", data, 0x248)
    begin = (setup_sectors + 1) * 512 + offset
    packed = data[begin : begin + size]
    for magic, decompress in _DECOMPRESSORS:
        if packed.startswith(magic):
            with suppress(zlib.error, lzma.LZMAError, OSError, EOFError, subprocess.SubprocessError):
                return decompress(packed)
    return b""


def _gunzip(data: bytes) -> bytes:
    return zlib.decompressobj(wbits=31).decompress(data)


def _unlzma(data: bytes) -> bytes:
    return lzma.LZMADecompressor().decompress(data)


def _bunzip2(data: bytes) -> bytes:
    return bz2.BZ2Decompressor().decompress(data)


def _by_program(*command: str) -> Callable[[bytes], bytes]:
    def decompress(data: bytes) -> bytes:
        if shutil.which(command[0]) is None:
            return b""
        done = subprocess.run(
            command, input=data[:-_TRAILER], capture_output=True, timeout=_TOOL_TIMEOUT_S, check=False
        )
        return done.stdout

    return decompress


_DECOMPRESSORS: tuple[tuple[bytes, Callable[[bytes], bytes]], ...] = (
    (b"\x1f\x8b", _gunzip),
    (b"\xfd7zXZ\x00", _unlzma),
    (b"\x5d\x00\x00", _unlzma),
    (b"BZh", _bunzip2),
    (b"\x28\xb5\x2f\xfd", _by_program("zstd", "-dc")),
    (b"\x02\x21\x4c\x18", _by_program("lz4", "-dc")),
    (b"\x89LZO", _by_program("lzop", "-dc")),
)
