# SPDX-License-Identifier: GPL-2.0
"""Read the release and the architecture of a kernel image from the image itself."""

from __future__ import annotations

import re
import struct
import zlib
from pathlib import Path

from damon_tests.kernel.images.arch import AARCH64, X86_64, Arch
from damon_tests.ports import UsageError

_X86_HEADER_BYTES = 0x10200
_ZBOOT_HEADER_BYTES = 16  # up to the payload's size


def read(path: Path) -> tuple[str, Arch]:
    """Return what ``uname -r`` will print, and the architecture, of a bzImage or an arm64 Image.

    Raises UsageError for a file that is neither.
    """
    try:
        with path.open("rb") as file:
            head = file.read(_X86_HEADER_BYTES)
        if len(head) >= 0x210 and head[0x202:0x206] == b"HdrS":
            return _x86_release(path, head), X86_64
        image = arm64_image(path.read_bytes())
    except OSError as error:
        raise UsageError(f"{path}: cannot be read ({error.strerror})") from None
    if image is None:
        raise UsageError(
            f"{path} is no kernel image: it has neither the boot header of an x86 bzImage nor that of an"
            " arm64 Image"
        )
    return _arm64_release(path, image), AARCH64


def _x86_release(path: Path, head: bytes) -> str:
    """Read the release of a bzImage (Documentation/arch/x86/boot.rst, kernel_version)."""
    offset = struct.unpack_from("<H", head, 0x20E)[0] + 0x200
    words = head[offset : head.find(b"\0", offset)].decode("ascii", "replace").split()
    if offset == 0x200 or not words:
        raise UsageError(f"{path}: its boot header does not say which release it is")
    return words[0]


def arm64_image(raw: bytes) -> bytes | None:
    """Return the bare Image of a file that may be gzipped or an EFI zboot image; None if it is no Image.

    The magic number is Documentation/arch/arm64/booting.rst's; zboot's header is
    drivers/firmware/efi/libstub/zboot-header.S: at 8 the payload's offset and size, at 24 its compression.
    """
    if raw[:2] == b"MZ" and raw[4:8] == b"zimg" and len(raw) >= _ZBOOT_HEADER_BYTES:
        start, size = struct.unpack_from("<II", raw, 8)
        raw = raw[start : start + size]
    if raw[:2] == b"\x1f\x8b":
        try:
            raw = zlib.decompressobj(31).decompress(raw)
        except zlib.error:
            return None
    return raw if raw[0x38:0x3C] == b"ARM\x64" else None


def _arm64_release(path: Path, image: bytes) -> str:
    match = re.search(rb"Linux version (\S+) ", image)
    if match is None:
        raise UsageError(f"{path}: an arm64 Image that does not say which release it is")
    return match[1].decode("ascii", "replace")
