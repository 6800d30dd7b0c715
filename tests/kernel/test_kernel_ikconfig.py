# SPDX-License-Identifier: GPL-2.0
"""The configuration of a kernel is read from the image itself, compressed as its build did it."""

from __future__ import annotations

import bz2
import gzip
import lzma
import shutil
import struct
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from damon_tests.kernel.images.ikconfig import embedded_config
from damon_tests.kernel.images.image import resolve

CONFIG = "CONFIG_DAMON=y\nCONFIG_ZRAM=y\n"
KERNEL = bytes(5000) + b"IKCFG_ST" + gzip.compress(CONFIG.encode()) + b"IKCFG_ED" + bytes(5000)
SIZE = struct.pack("<I", len(KERNEL))  # as the kernel's build appends it


def bzimage(payload: bytes, release: str = "7.3.0-mine") -> bytes:
    """Return a bzImage with one setup sector and its payload 0x80 after the setup (boot.rst)."""
    head = bytearray(0x400)
    head[0x1F1] = 1
    head[0x202:0x206] = b"HdrS"
    struct.pack_into("<H", head, 0x206, 0x20F)
    struct.pack_into("<H", head, 0x20E, 0x100)
    struct.pack_into("<II", head, 0x248, 0x80, len(payload))
    head[0x300 : 0x300 + len(release) + 1] = release.encode() + b"\0"
    return bytes(head) + bytes(0x80) + payload + b"after the payload"


def _zstd(data: bytes) -> bytes:
    return subprocess.run(["zstd", "-c"], input=data, capture_output=True, check=True).stdout + SIZE


@pytest.mark.parametrize(
    "compress",
    [
        gzip.compress,
        lambda data: lzma.compress(data, check=lzma.CHECK_CRC32) + SIZE,
        lambda data: lzma.compress(data, lzma.FORMAT_ALONE) + SIZE,
        lambda data: bz2.compress(data) + SIZE,
        pytest.param(
            _zstd, marks=pytest.mark.skipif(shutil.which("zstd") is None, reason="needs the zstd program")
        ),
    ],
    ids=["gzip", "xz", "lzma", "bzip2", "zstd"],
)
def test_config_is_read_inside_a_compressed_kernel(
    tmp_path: Path, compress: Callable[[bytes], bytes]
) -> None:
    path = tmp_path / "bzImage"
    path.write_bytes(bzimage(compress(KERNEL)))
    assert embedded_config(path) == CONFIG


def test_config_in_the_image_wins_over_one_beside_it(tmp_path: Path) -> None:
    """A .config may have changed since the image was built."""
    path = tmp_path / "bzImage"
    path.write_bytes(bzimage(gzip.compress(KERNEL)))
    (tmp_path / ".config").write_text("# CONFIG_ZRAM is not set\n")
    assert resolve(str(path)).config == {"CONFIG_DAMON": "y", "CONFIG_ZRAM": "y"}


@pytest.mark.parametrize(
    "image",
    [
        b"",
        bzimage(gzip.compress(bytes(2000))),
        bzimage(gzip.compress(KERNEL[:5040])),
        bzimage(b"no compression that is known"),
        b"IKCFG_ST but no gzip",
    ],
    ids=["empty", "without", "damaged", "unknown", "mark-only"],
)
def test_image_without_readable_config_has_none(tmp_path: Path, image: bytes) -> None:
    path = tmp_path / "bzImage"
    path.write_bytes(image)
    assert embedded_config(path) is None


def test_config_beside_an_image_that_embeds_none_is_read(tmp_path: Path) -> None:
    path = tmp_path / "bzImage"
    path.write_bytes(bzimage(gzip.compress(bytes(2000))))
    assert resolve(str(path)).config is None
    (tmp_path / ".config").write_text("CONFIG_ZRAM=m\n")
    assert resolve(str(path)).config == {"CONFIG_ZRAM": "m"}
