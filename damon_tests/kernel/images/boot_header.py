# SPDX-License-Identifier: GPL-2.0
"""Read the release, the architecture and the page size of a kernel image from the image itself."""

from __future__ import annotations

import re
import struct
import zlib
from pathlib import Path
from typing import NamedTuple

from damon_tests.kernel.images.arch import AARCH64, X86_64, Arch
from damon_tests.ports import UsageError
from damon_tests.ports.paging import DEFAULT_PAGE_BYTES, PAGE_SIZES

_X86_HEADER_BYTES = 0x10200
_ARM64_FLAGS = 24
_ARM64_PAGES = {1: PAGE_SIZES["4K"], 2: PAGE_SIZES["16K"], 3: PAGE_SIZES["64K"]}


class BootHeader(NamedTuple):
    """What a kernel image says about itself. ``release`` is what ``uname -r`` will print."""

    release: str
    arch: Arch
    page_bytes: int


_ZBOOT_HEADER_BYTES = 16  # up to the payload's size


def read(path: Path) -> BootHeader:
    """Read the header of a bzImage or an arm64 Image.

    Raises UsageError for a file that is neither.
    """
    try:
        with path.open("rb") as file:
            head = file.read(_X86_HEADER_BYTES)
        if len(head) >= 0x210 and head[0x202:0x206] == b"HdrS":
            return BootHeader(_x86_release(path, head), X86_64, DEFAULT_PAGE_BYTES)
        image = arm64_image(path.read_bytes())
    except OSError as error:
        raise UsageError(f"{path}: cannot be read ({error.strerror})") from None
    if image is None:
        raise UsageError(
            f"{path} is no kernel image: it has neither the boot header of an x86 bzImage nor that of an"
            " arm64 Image"
        )
    return BootHeader(_arm64_release(path, image), AARCH64, _arm64_page_bytes(image))


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


def _arm64_page_bytes(image: bytes) -> int:
    """Return the page size from bits 1 and 2 of the flags; old kernels leave it unspecified."""
    (flags,) = struct.unpack_from("<Q", image, _ARM64_FLAGS)
    return _ARM64_PAGES.get(flags >> 1 & 3, DEFAULT_PAGE_BYTES)


def _arm64_release(path: Path, image: bytes) -> str:
    match = re.search(rb"Linux version (\S+) ", image)
    if match is None:
        raise UsageError(f"{path}: an arm64 Image that does not say which release it is")
    return match[1].decode("ascii", "replace")
