# SPDX-License-Identifier: GPL-2.0
"""Build an initramfs: the uncompressed cpio archive that the kernel unpacks as its root.

The format is "newc" of Documentation/driver-api/early-userspace/buffer-format.rst. It is not compressed,
because decompressing costs an emulated CPU more than reading.
"""

from __future__ import annotations

import stat
from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Node:
    """A file of the archive. ``data``: its contents, or a link's target; ``device``: (major, minor) of a
    device node."""

    mode: int
    data: bytes = b""
    device: tuple[int, int] = (0, 0)


def program(data: bytes) -> Node:
    return Node(stat.S_IFREG | 0o755, data)


def plain(data: bytes) -> Node:
    return Node(stat.S_IFREG | 0o644, data)


def directory() -> Node:
    return Node(stat.S_IFDIR | 0o755)


def link(target: str) -> Node:
    return Node(stat.S_IFLNK | 0o777, target.encode())


def character_device(major: int, minor: int) -> Node:
    return Node(stat.S_IFCHR | 0o600, device=(major, minor))


def archive(nodes: Mapping[str, Node]) -> bytes:
    """Return the cpio archive of {path: node}; paths are relative, and missing parents are added."""
    complete: dict[str, Node] = {}
    for path, node in sorted(nodes.items()):
        parts = path.strip("/").split("/")
        for depth in range(1, len(parts)):
            complete.setdefault("/".join(parts[:depth]), directory())
        complete["/".join(parts)] = node
    members = [_member(path, node, number) for number, (path, node) in enumerate(complete.items(), 1)]
    return b"".join([*members, _member("TRAILER!!!", Node(0), 0)])


def _member(path: str, node: Node, inode: int) -> bytes:
    name = path.encode() + b"\0"
    links = 2 if stat.S_ISDIR(node.mode) else 1
    size, name_size = len(node.data), len(name)
    # inode, mode, uid, gid, links, mtime, size, device of the file (2) and of the node (2), name, checksum
    fields = (inode, node.mode, 0, 0, links, 0, size, 0, 0, *node.device, name_size, 0)
    header = b"070701" + b"".join(b"%08X" % field for field in fields)
    return _padded(header + name) + _padded(node.data)


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 4)
