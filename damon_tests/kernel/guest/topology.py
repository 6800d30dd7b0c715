# SPDX-License-Identifier: GPL-2.0
"""Describe a guest: memory, CPUs, swap, disk, userland."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, replace

from damon_tests.kernel.images.ext2 import MAX_MIB
from damon_tests.ports import UsageError, huge_page_size

_MIN_NODE_MIB = 128
MOST_CPUS = 64


@dataclass(frozen=True)
class Topology:
    """Memory and CPUs of a guest, and what is set up in it before it is saved.

    ``memory_mib`` is divided evenly among ``numa_nodes``; all CPUs are on node 0, so that the
    other nodes are far memory. ``swap_zram_mib``: size of the swap on zram, 0 for none. ``disk_mib``: size
    of a file system at /var/tmp that writes to zram, 0 for none; the kernel writes back only under pressure
    or on request. ``hugetlb_pages``: reserved huge pages of the default size. ``cmdline``: more
    kernel parameters, after ours, so that they win. ``userland``: has Python, see ``kernel.images.userland``;
    ``packages``: more Debian packages in it. ``lru_lists``: active and inactive lists instead of
    multi-generational LRU, under which no page flag shows how a page is ranked.
    ``thp_on_advice``: transparent huge pages only where madvise() asks, with khugepaged always at work.
    ``instructions``: emulated, on the instruction clock, by a QEMU that counts what threads execute.
    """

    memory_mib: int = 1024
    cpus: int = 2
    numa_nodes: int = 1
    swap_zram_mib: int = 0
    disk_mib: int = 0
    hugetlb_pages: int = 0
    cmdline: tuple[str, ...] = ()
    userland: bool = False
    packages: tuple[str, ...] = ()
    lru_lists: bool = False
    thp_on_advice: bool = False
    instructions: bool = False

    def __post_init__(self) -> None:
        if self.cpus < 1 or self.numa_nodes < 1 or self.swap_zram_mib < 0 or self.hugetlb_pages < 0:
            raise UsageError(
                f"no guest has {self.cpus} CPUs, {self.numa_nodes} memory nodes, {self.swap_zram_mib} MiB of"
                f" swap and {self.hugetlb_pages} huge pages"
            )
        if self.memory_mib < _MIN_NODE_MIB * self.numa_nodes:
            raise UsageError(
                f"{self.memory_mib} MiB are too little for the guest's memory nodes ({self.numa_nodes}):"
                f" each needs {_MIN_NODE_MIB} MiB"
            )
        if not 0 <= self.disk_mib <= MAX_MIB:
            raise UsageError(f"a guest's disk cannot have {self.disk_mib} MiB; use up to {MAX_MIB}")
        if self.packages and not self.userland:
            raise UsageError(f"packages need a userland to be in: {', '.join(self.packages)}")
        if self.hugetlb_pages * huge_page_size() > self.memory_mib << 19:
            raise UsageError(
                f"{self.hugetlb_pages} huge pages are more than half of {self.memory_mib} MiB of memory"
            )

    def on(self, usual: Topology) -> Topology:
        """Return this topology with at least the memory, CPUs and nodes of ``usual``, and its parameters.

        What ``usual`` leaves at the default stays as this topology has it: some tests need a small machine.
        Parameters of ``usual`` come first, so that those of this topology win.
        """
        default = Topology()
        return replace(
            self,
            memory_mib=_raised(self.memory_mib, usual.memory_mib, default.memory_mib),
            cpus=_raised(self.cpus, usual.cpus, default.cpus),
            numa_nodes=_raised(self.numa_nodes, usual.numa_nodes, default.numa_nodes),
            cmdline=(*usual.cmdline, *self.cmdline),
        )

    @property
    def modules(self) -> tuple[str, ...]:
        """Return the kernel modules that this topology needs, unless they are built in."""
        zram = ("zram",) if self.swap_zram_mib or self.disk_mib else ()
        virtio = ("virtio_blk",) if self.userland else ()
        return (*zram, *virtio, *(("ext4",) if self.userland or self.disk_mib else ()))


def _raised(own: int, usual: int, default: int) -> int:
    return own if usual == default else max(own, usual)


def parse_memory(text: str) -> int:
    """Return the MiB of ``2G``, ``512M`` or a number. Raises UsageError, also for more than there is."""
    match = re.fullmatch(r"(\d+)\s*([MG]?)(?:i?B)?", text.strip(), re.IGNORECASE)
    if match is None:
        raise UsageError(f"{text!r} is no size of memory; write it like 2G or 512M")
    mib, there_are = int(match[1]) * (1024 if match[2].upper() == "G" else 1), _machine_mib()
    if mib > there_are:
        raise UsageError(f"--memory {text[:40]}: this machine has {there_are} MiB")
    return mib


def _machine_mib() -> int:
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") >> 20
