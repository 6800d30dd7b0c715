# SPDX-License-Identifier: GPL-2.0
"""Set up a booted guest as its topology asks: swap, a disk, huge pages, LRU lists, no NUMA balancing."""

from __future__ import annotations

import contextlib
import os
import struct

from damon_tests.kernel.agent.machine import AgentMachine
from damon_tests.kernel.guest.topology import Topology
from damon_tests.kernel.images import ext2
from damon_tests.kernel.images.userland import MOUNTED_AT, chroot
from damon_tests.ports import NSEC_PER_SEC, FileOp, HarnessError, NotSupported, SpawnRequest

_WARM_UP_NS = 120 * NSEC_PER_SEC
DISK = "/var/tmp"
"""Where a guest's disk is mounted: a place for temporary files, as on any machine."""
_LRU_GEN = "/sys/kernel/mm/lru_gen/enabled"
_THP = "/sys/kernel/mm/transparent_hugepage"
_MS_RDONLY, _MS_BIND, _MS_REC = 1, 4096, 16384  # include/uapi/linux/mount.h


def set_up(machine: AgentMachine, topology: Topology) -> None:
    """Give a booted guest what ``topology`` asks for, and check it as far as possible.

    Raises NotSupported when its kernel lacks DAMON or something the topology needs,
    HarnessError when the guest has something else afterwards.
    """
    try:
        machine.read_file("/sys/kernel/mm/damon/admin/kdamonds/nr_kdamonds")
    except FileNotFoundError as error:
        raise NotSupported(
            f"the kernel {machine.facts.release} has no DAMON sysfs files (/sys/kernel/mm/damon/admin)",
            remedy="take an image built with CONFIG_DAMON_SYSFS=y, such as debian:stable",
        ) from error
    # NUMA balancing moves pages, which placement tests would take for moves by DAMON.
    with contextlib.suppress(FileNotFoundError):
        machine.write_file("/proc/sys/kernel/numa_balancing", b"0\n")
    # Each CPU keeps up to 1/16 of memory as freed pages on its own list, which do not count as free, so that
    # goals and watermarks of free memory would be off by them. With this, a list holds about 1 MiB.
    with contextlib.suppress(FileNotFoundError):
        machine.write_file("/proc/sys/vm/percpu_pagelist_high_fraction", b"1000000\n")
    # Service managers do this, too: without it no memory control group can be made. Some kernels have none.
    with contextlib.suppress(OSError):
        machine.write_file("/sys/fs/cgroup/cgroup.subtree_control", b"+memory\n")
    if topology.hugetlb_pages:
        _check_hugetlb(machine, topology.hugetlb_pages)
    if topology.userland:
        _mount_userland(machine)
    if topology.swap_zram_mib:
        _swap_on_zram(machine, topology.swap_zram_mib)
    if topology.disk_mib:
        _disk_on_zram(machine, topology.disk_mib)
    if topology.lru_lists:
        with contextlib.suppress(FileNotFoundError):  # without MGLRU, the kernel has only the lists
            machine.write_file(_LRU_GEN, b"0\n")
    if topology.thp_on_advice:
        _thp_on_advice(machine)


def _check_hugetlb(machine: AgentMachine, wanted: int) -> None:
    try:
        text = machine.read_file("/proc/sys/vm/nr_hugepages").decode()
    except FileNotFoundError as error:
        raise NotSupported(f"the kernel {machine.facts.release} has no hugetlb pages") from error
    if int(text) != wanted:
        raise HarnessError(f"the guest reserved {text.strip()} huge pages instead of {wanted}")


def _thp_on_advice(machine: AgentMachine) -> None:
    """Enable huge pages for madvise(), and let khugepaged scan fast: by default 16 MiB take it 10 s."""
    try:
        machine.write_file(f"{_THP}/enabled", b"madvise\n")
    except FileNotFoundError as error:
        raise NotSupported(f"the kernel {machine.facts.release} has no transparent huge pages") from error
    for name, value in (
        ("scan_sleep_millisecs", 50),
        ("alloc_sleep_millisecs", 50),
        ("pages_to_scan", 65536),
    ):
        machine.write_file(f"{_THP}/khugepaged/{name}", f"{value}\n".encode())


def _mount_userland(machine: AgentMachine) -> None:
    machine.batch([FileOp("mkdir", MOUNTED_AT)])
    machine.mount("/dev/vda", MOUNTED_AT, "ext4", _MS_RDONLY)
    for shared in ("/dev", "/proc", "/sys"):
        machine.mount(shared, MOUNTED_AT + shared, "", _MS_BIND | _MS_REC)
    for own in ("/tmp", "/run"):
        machine.mount("tmpfs", MOUNTED_AT + own, "tmpfs")
    # Read Python once before the guest is saved, so that every restored guest has it in memory.
    warm = machine.spawn(
        SpawnRequest(chroot(["/usr/bin/python3", "-c", "import argparse, json, subprocess"]))
    )
    status = warm.wait(_WARM_UP_NS)
    if not status.ok:
        raise HarnessError(f"Python does not run in the guest ({status}): {warm.read_stderr().decode()}")


def _swap_on_zram(machine: AgentMachine, size_mib: int) -> None:
    device = _zram(machine, size_mib)
    machine.write_file(device, swap_header(size_mib << 20, machine.facts.page_size))
    machine.swapon(device)


def _disk_on_zram(machine: AgentMachine, size_mib: int) -> None:
    device = _zram(machine, size_mib)
    machine.write_file(device, ext2.empty(size_mib))
    for directory in ("/var", DISK):
        machine.batch([FileOp("mkdir", directory, mode=0o755)])
    machine.mount(device, DISK, "ext4")
    # Dirty pages stay dirty until a program writes them back.
    machine.write_file("/proc/sys/vm/dirty_writeback_centisecs", b"0\n")


def _zram(machine: AgentMachine, size_mib: int) -> str:
    """Return the path of a new zram device of this size."""
    try:
        number = int(machine.read_file("/sys/class/zram-control/hot_add"))
        machine.write_file(f"/sys/block/zram{number}/disksize", f"{size_mib}M\n".encode())
    except FileNotFoundError as error:
        if machine.facts.boot_log:  # the boot log says why its module did not load
            raise HarnessError(
                f"the guest has no zram device; its boot said: {machine.facts.boot_log}"
            ) from error
        raise NotSupported(
            f"zram: the kernel {machine.facts.release} has it neither built in nor as a module here",
            remedy="build it with CONFIG_ZRAM=y, or give its modules (PATH,modules=DIR)",
        ) from error
    return f"/dev/zram{number}"


def swap_header(size_bytes: int, page_bytes: int) -> bytes:
    """Return the first page of a swap area, as mkswap writes it.

    Its layout is union swap_header of include/linux/swap.h.
    """
    version, bad_pages = 1, 0
    info = struct.pack("<III", version, size_bytes // page_bytes - 1, bad_pages) + os.urandom(16)
    page = bytearray(page_bytes)
    page[1024 : 1024 + len(info)] = info
    page[-10:] = b"SWAPSPACE2"
    return bytes(page)
