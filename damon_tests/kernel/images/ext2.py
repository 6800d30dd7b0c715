# SPDX-License-Identifier: GPL-2.0
"""Make an empty ext2 file system, as mkfs would: guests have no mkfs.

It has one block group of 4 KiB blocks, so at most 128 MiB; the kernel's ext4 mounts it. The structures are
those of the kernel's Documentation/filesystems/ext4, all numbers little-endian.
"""

from __future__ import annotations

import os
import struct

from damon_tests.ports import UsageError

BLOCK = 4096
MAX_MIB = 128

_BLOCKS_PER_GROUP = 8 * BLOCK  # one bitmap block has a bit for each
_INODES = 128
_INODE_BYTES = 128
_FIRST_FREE_INODE = 11
_ROOT_INODE = 2
_MAGIC = 0xEF53
_CLEAN, _ON_ERRORS_CONTINUE, _NEVER = 1, 1, 0xFFFF
_DYNAMIC_REVISION, _WITH_FILE_TYPES, _DIRECTORY = 1, 0x2, 2
_EVERYBODYS_DIRECTORY = 0o41777

# Blocks: superblock, group descriptor, two bitmaps, the table of inodes, the root directory.
_BLOCK_BITMAP, _INODE_BITMAP, _TABLE = 2, 3, 4
_ROOT_BLOCK = _TABLE + _INODES * _INODE_BYTES // BLOCK
_USED_BLOCKS = _ROOT_BLOCK + 1


def empty(size_mib: int) -> bytes:
    """Return the first blocks of a file system of this size, with a world-writable root; the rest is zero.

    Raises UsageError for a size that is not 1 to ``MAX_MIB``.
    """
    if not 1 <= size_mib <= MAX_MIB:
        raise UsageError(f"a guest's disk cannot have {size_mib} MiB; use 1 to {MAX_MIB}")
    blocks = (size_mib << 20) // BLOCK
    parts = (
        bytes(1024) + _superblock(blocks),
        _group(blocks),
        _bitmap(_USED_BLOCKS, blocks),
        _bitmap(_FIRST_FREE_INODE - 1, _INODES),
        bytes((_ROOT_INODE - 1) * _INODE_BYTES) + _root(),
    )
    padded = b"".join(part.ljust(BLOCK, b"\0") for part in parts)
    return padded.ljust(_ROOT_BLOCK * BLOCK, b"\0") + _root_entries()


def _superblock(blocks: int) -> bytes:
    log_size = (BLOCK // 1024).bit_length() - 1
    free_inodes = _INODES - _FIRST_FREE_INODE + 1
    return (
        struct.pack("<5I", _INODES, blocks, 0, blocks - _USED_BLOCKS, free_inodes)
        + struct.pack("<3I", 0, log_size, log_size)
        + struct.pack("<3I", _BLOCKS_PER_GROUP, _BLOCKS_PER_GROUP, _INODES)
        + struct.pack("<2I6H", 0, 0, 0, _NEVER, _MAGIC, _CLEAN, _ON_ERRORS_CONTINUE, 0)
        + struct.pack("<4I2H", 0, 0, 0, _DYNAMIC_REVISION, 0, 0)
        + struct.pack("<I2H3I", _FIRST_FREE_INODE, _INODE_BYTES, 0, 0, _WITH_FILE_TYPES, 0)
        + os.urandom(16)
    )


def _group(blocks: int) -> bytes:
    free_inodes, directories = _INODES - _FIRST_FREE_INODE + 1, 1
    places = (_BLOCK_BITMAP, _INODE_BITMAP, _TABLE)
    return struct.pack("<3I3H", *places, blocks - _USED_BLOCKS, free_inodes, directories)


def _bitmap(used: int, there: int) -> bytes:
    """Return a bitmap with the first ``used`` bits set, and all bits from ``there`` on."""
    bits = (1 << 8 * BLOCK) - (1 << there) | (1 << used) - 1
    return bits.to_bytes(BLOCK, "little")


def _root() -> bytes:
    links, sectors = 2, BLOCK // 512
    head = struct.pack("<2H5I2H3I", _EVERYBODYS_DIRECTORY, 0, BLOCK, 0, 0, 0, 0, 0, links, sectors, 0, 0)
    return head + struct.pack("<I", _ROOT_BLOCK)


def _root_entries() -> bytes:
    itself = struct.pack("<IHBB4s", _ROOT_INODE, 12, 1, _DIRECTORY, b".")
    parent = struct.pack("<IHBB4s", _ROOT_INODE, BLOCK - 12, 2, _DIRECTORY, b"..")
    return (itself + parent).ljust(BLOCK, b"\0")
