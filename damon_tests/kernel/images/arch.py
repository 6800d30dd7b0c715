# SPDX-License-Identifier: GPL-2.0
"""What differs between the processors of guests; nothing else in the tree depends on the processor."""

from __future__ import annotations

import platform
import re
from dataclasses import dataclass

from damon_tests.ports import UsageError
from damon_tests.ports.paging import DEFAULT_PAGE_BYTES, PAGE_SIZES
from damon_tests.ports.word import DEFAULT_WORD_BITS


@dataclass(frozen=True)
class Arch:
    """A processor architecture. ``name`` is what ``uname -m`` prints, ``debian`` Debian's name for it."""

    name: str
    debian: str
    qemu_binary: str
    qemu_packages: tuple[str, ...]
    """Debian's packages of this QEMU; the first depends on the libraries."""
    machine: str
    """QEMU's machine type (-M)."""
    tcg_cpu: str
    """QEMU's CPU model under emulation."""
    console: str
    agent_line: str
    """The second serial line, for an agent whose kernel has no virtio port."""
    cmdline_tcg: str
    """Kernel parameters that make accesses visible under emulation."""
    compiler: str
    """The compiler of static programs for it on a machine of another architecture."""
    compiler_packages: str
    """Debian's packages with that compiler and its C library."""
    counts_instructions: bool = True
    """Whether an emulated guest boots with a clock that counts its instructions."""
    word_bits: int = DEFAULT_WORD_BITS
    """Of its ``unsigned long``."""
    kvm_machine: str = ""
    """QEMU's machine type with KVM, where it is another one."""

    @property
    def triplet(self) -> str:
        """Return the name of the directories that have its libraries."""
        return self.compiler.removesuffix("-gcc")


X86_64 = Arch(
    name="x86_64",
    debian="amd64",
    qemu_binary="qemu-system-x86_64",
    qemu_packages=("qemu-system-x86", "qemu-system-common", "qemu-system-data", "seabios"),
    machine="pc",
    # memset is 11 times and touching pages 2 times as fast as with plain "max".
    tcg_cpu="max,-la57,-erms,-fsrm,-avx,-avx2",
    console="ttyS0",
    agent_line="/dev/ttyS1",
    # An accessed bit that was cleared without a TLB flush is not set again. PTI flushes the TLB at every
    # kernel entry.
    cmdline_tcg="pti=on",
    compiler="x86_64-linux-gnu-gcc",
    compiler_packages="gcc-x86-64-linux-gnu libc6-dev-amd64-cross",
)

AARCH64 = Arch(
    name="aarch64",
    debian="arm64",
    qemu_binary="qemu-system-aarch64",
    qemu_packages=("qemu-system-arm", "qemu-system-common", "qemu-system-data"),
    machine="virt,gic-version=3",
    # The interrupt controller of a guest in KVM is that of the machine.
    kvm_machine="virt,gic-version=host",
    tcg_cpu="neoverse-n1",
    console="ttyAMA0",
    agent_line="/dev/ttyAMA1",
    cmdline_tcg="kpti=on",
    compiler="aarch64-linux-gnu-gcc",
    compiler_packages="gcc-aarch64-linux-gnu libc6-dev-arm64-cross",
)

ARMV7 = Arch(
    name="armv7l",
    debian="armhf",
    qemu_binary="qemu-system-arm",
    qemu_packages=("qemu-system-arm", "qemu-system-common", "qemu-system-data"),
    machine="virt,highmem=off",
    tcg_cpu="cortex-a15",
    console="ttyAMA0",
    agent_line="/dev/ttyAMA1",
    cmdline_tcg="",
    compiler="arm-linux-gnueabihf-gcc",
    compiler_packages="gcc-arm-linux-gnueabihf libc6-dev-armhf-cross",
    # With QEMU 10.0's -icount the boot stalls after a second (7.3); with the machine's clock it takes 18 s.
    counts_instructions=False,
    word_bits=32,
)

ARCHITECTURES = {arch.name: arch for arch in (X86_64, AARCH64, ARMV7)}


def of_this_machine() -> Arch:
    """Return the architecture that programs of this machine are for; x86-64 for one that is not known."""
    return ARCHITECTURES.get(platform.machine(), X86_64)


@dataclass(frozen=True)
class Flavour:
    """One of Debian's builds of a kernel. ``name`` is ours (``@rt``), ``suffix`` ends Debian's releases."""

    name: str
    suffix: str
    arch: Arch
    page_bytes: int = DEFAULT_PAGE_BYTES

    def owns(self, release: str) -> bool:
        """Return whether a release such as ``7.3.4+deb13-rt-amd64`` is of this flavour."""
        return re.search(rf"^\d[^-]*(-rc\d+)?(-\d+)?-{self.suffix}$", release) is not None


DEFAULT_FLAVOUR = Flavour("", "cloud-amd64", X86_64)
FLAVOURS = {
    "": DEFAULT_FLAVOUR,
    "rt": Flavour("rt", "rt-amd64", X86_64),
    "arm64": Flavour("arm64", "cloud-arm64", AARCH64),
    "arm64-16k": Flavour("arm64-16k", "arm64-16k", AARCH64, PAGE_SIZES["16K"]),
    "armmp-lpae": Flavour("armmp-lpae", "armmp-lpae", ARMV7),
}


def flavour(spec: str) -> Flavour:
    """Return the flavour that ``debian:7.3@arm64`` asks for. Raises UsageError for one that is not known."""
    name = spec.partition("@")[2]
    if name not in FLAVOURS or (not name and "@" in spec):
        known = ", ".join(f"@{known}" for known in FLAVOURS if known)
        raise UsageError(f"{spec!r}: after '@' comes a flavour of Debian's kernels: {known}")
    return FLAVOURS[name]
