# SPDX-License-Identifier: GPL-2.0
"""What a test requires of DAMON and the machine, and what is missing.

A test declares its ``Requirements``; ``evaluate`` compares them with what DAMON and the machine have and
returns all that is missing, each with the way to get it. A guest is booted with what a test needs
(``topology``); ``look`` reads what this machine has.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields

from damon_tests.damon.capability import Capabilities
from damon_tests.damon.features import ALIASES, FEATURES
from damon_tests.kernel.guest.setup import DISK
from damon_tests.kernel.guest.topology import Topology
from damon_tests.kernel.images.ext2 import MAX_MIB
from damon_tests.ports import Machine, NotSupported, huge_page_size
from damon_tests.ports.lines import LineFormat

_LRU_GEN = "/sys/kernel/mm/lru_gen/enabled"
_THP = "/sys/kernel/mm/transparent_hugepage"
_EAGER_MS = 100
_MEMINFO = (LineFormat("{name:S}: {value:d} kB"), LineFormat("{name:S}: {value:d}"))
_PSI = "psi=1"
_IN_MEMORY = ("tmpfs", "ramfs", "rootfs")
_PRESSURE = "/proc/pressure/memory"
_OR_VM = "or test in a VM (--kernel debian:newest)"


@dataclass(frozen=True)
class Needs:
    """Minimum of what a machine must have; 0: no requirement. Sizes in MiB.

    ``hugetlb_pages`` are reserved and swap of ``swap_mib`` is on, not only possible. ``disk_mib``: size of a
    file system at /var/tmp whose pages can be dirty, unlike those of tmpfs. ``lru_lists`` and
    ``thp_on_advice`` (0 or 1): see ``Topology``. ``psi`` (0 or 1): the kernel counts pressure stalls.
    ``instructions`` (0 or 1): the instructions of kernel threads can be counted.
    """

    memory_mib: int = 0
    cpus: int = 0
    numa_nodes: int = 0
    swap_mib: int = 0
    disk_mib: int = 0
    hugetlb_pages: int = 0
    lru_lists: int = 0
    thp_on_advice: int = 0
    psi: int = 0
    instructions: int = 0

    def topology(self, usual: Topology | None = None) -> Topology:
        """Return the topology of a guest that has it: the default one, enlarged where needed."""
        usual = usual or Topology()
        hugetlb_mib = self.hugetlb_pages * huge_page_size() >> 20
        return Topology(
            memory_mib=max(self.memory_mib, 2 * hugetlb_mib, usual.memory_mib),
            cpus=max(self.cpus, usual.cpus),
            numa_nodes=max(self.numa_nodes, usual.numa_nodes),
            swap_zram_mib=max(self.swap_mib, usual.swap_zram_mib),
            disk_mib=max(self.disk_mib, usual.disk_mib),
            hugetlb_pages=max(self.hugetlb_pages, usual.hugetlb_pages),
            cmdline=(*usual.cmdline, _PSI) if self.psi and _PSI not in usual.cmdline else usual.cmdline,
            lru_lists=usual.lru_lists or bool(self.lru_lists),
            thp_on_advice=usual.thp_on_advice or bool(self.thp_on_advice),
            instructions=usual.instructions or bool(self.instructions),
        )


@dataclass(frozen=True)
class Requirements:
    """``features``: names from ``damon.features``. ``ops``: operations sets ("vaddr"). ``events``:
    tracepoints ("damon_aggregated"). ``needs``: what the machine must have."""

    features: tuple[str, ...] = ()
    ops: tuple[str, ...] = ()
    events: tuple[str, ...] = ()
    needs: Needs = field(default_factory=Needs)

    def names(self) -> tuple[str, ...]:
        """Return all required features of DAMON, each once, in the order given."""
        names = [*(f"ops.{name}" for name in self.ops), *self.features, *self.events]
        return tuple(dict.fromkeys(ALIASES.get(name, name) for name in names))


@dataclass(frozen=True)
class Missing:
    """``what`` is missing, with the evidence; ``how`` to get it."""

    what: str
    how: str


def combine(*requirements: Requirements) -> Requirements:
    """Return the union of requirements (of a test's module, its class, and its own)."""

    def joined(name: str) -> tuple[str, ...]:
        return tuple(dict.fromkeys(value for part in requirements for value in getattr(part, name)))

    largest = {
        f.name: max((getattr(r.needs, f.name) for r in requirements), default=0) for f in fields(Needs)
    }
    return Requirements(joined("features"), joined("ops"), joined("events"), Needs(**largest))


def evaluate(
    requirements: Requirements, capabilities: Capabilities, machine: Needs | None = None
) -> list[Missing]:
    """Return everything that is missing, DAMON's features first, in the order they were required.

    ``machine``: what the machine has (``look``, or ``of`` a guest's topology); None for a machine that is
    made as needed. Raises UsageError for an unknown feature.
    """
    missing = [
        Missing(what, _how_to_get(name, capabilities))
        for name in requirements.names()
        for what in capabilities.missing(name)
    ]
    if machine is not None:
        missing += _machine_lacks(requirements.needs, machine)
    return missing


def given(needs: Needs) -> tuple[str, ...]:
    """Describe what a machine has for a test beyond the default."""
    return tuple(unit.format(value) for name, unit in _UNITS.items() if (value := getattr(needs, name)) > 0)


def not_supported(missing: Sequence[Missing]) -> NotSupported:
    """Return the error that makes a test a SKIP, with everything that is missing and how to get it."""
    ways = dict.fromkeys(item.how for item in missing)
    return NotSupported(*(item.what for item in missing), remedy="; ".join(ways))


def _how_to_get(name: str, capabilities: Capabilities) -> str:
    if capabilities.present[name] is None:
        return f"run as root while nobody uses DAMON, so that it can be looked for, {_OR_VM}"
    since = FEATURES[name].since
    return f"use a kernel of series {since} or later that is configured with it (--kernel debian:newest)"


_UNITS = {
    "memory_mib": "{} MiB of memory",
    "cpus": "{} CPUs",
    "numa_nodes": "{} memory nodes",
    "swap_mib": "{} MiB of swap",
    "disk_mib": "a file system of {} MiB on a disk",
    "hugetlb_pages": "{} reserved huge pages",
    "lru_lists": "active and inactive lists",
    "thp_on_advice": "huge pages on advice, and an eager khugepaged",
    "psi": "pressure stall information",
    "instructions": "a kernel whose instructions are counted",
}
_WAYS = {
    "memory_mib": "use a larger machine",
    "cpus": "use a machine with more CPUs",
    "numa_nodes": "use a machine with more memory nodes",
    "swap_mib": "add swap",
    "disk_mib": f"mount a file system that is no tmpfs at {DISK}",
    "hugetlb_pages": "reserve them in /proc/sys/vm/nr_hugepages",
    "lru_lists": f"turn off multi-generational LRU in {_LRU_GEN}",
    "thp_on_advice": f"write madvise to {_THP}/enabled, at most {_EAGER_MS} to"
    f" {_THP}/khugepaged/scan_sleep_millisecs",
    "psi": f"boot with {_PSI}",
    "instructions": "only an emulator counts them",
}


def _machine_lacks(needs: Needs, machine: Needs) -> list[Missing]:
    lacks = []
    for name, unit in _UNITS.items():
        wanted, there = getattr(needs, name), getattr(machine, name)
        if there < wanted:
            what = f"{unit.format(wanted)}: the machine has {there or 'none'}"
            lacks.append(Missing(what, f"{_WAYS[name]}, {_OR_VM}"))
    return lacks


def of(topology: Topology) -> Needs:
    """Return what a guest of this topology has."""
    return Needs(
        memory_mib=topology.memory_mib,
        cpus=topology.cpus,
        numa_nodes=topology.numa_nodes,
        swap_mib=topology.swap_zram_mib,
        disk_mib=topology.disk_mib,
        hugetlb_pages=topology.hugetlb_pages,
        lru_lists=topology.lru_lists,
        thp_on_advice=topology.thp_on_advice,
        psi=_PSI in topology.cmdline,
        instructions=topology.instructions,
    )


def look(machine: Machine) -> Needs:
    """Return what a running machine has now. Raises OSError when /proc cannot be read."""
    meminfo = machine.read_file("/proc/meminfo").decode()
    values = {line["name"]: line["value"] for form in _MEMINFO for line in form.each(meminfo)}
    huge = values.get("HugePages_Total", 0) if values.get("Hugepagesize") == huge_page_size() >> 10 else 0
    return Needs(
        memory_mib=values["MemTotal"] >> 10,
        cpus=_count(machine, "/sys/devices/system/cpu/online"),
        numa_nodes=_count(machine, "/sys/devices/system/node/has_memory"),
        swap_mib=values.get("SwapTotal", 0) >> 10,
        disk_mib=_disk_mib(machine),
        hugetlb_pages=huge,
        lru_lists=int(_text(machine, _LRU_GEN, "0"), 0) & 1 ^ 1,
        thp_on_advice=_thp_on_advice(machine),
        psi=_counts_stalls(machine),
    )


def _disk_mib(machine: Machine) -> int:
    """Return 0 when temporary files are in memory, else the maximum: the room on a disk is not checked."""
    mounts = [line.split()[1:3] for line in _text(machine, "/proc/mounts", "").splitlines()]
    around = [(len(place), kind) for place, kind in mounts if f"{DISK}/".startswith(place.rstrip("/") + "/")]
    _, kind = max(around, default=(0, "tmpfs"))
    return 0 if kind in _IN_MEMORY else MAX_MIB


def _thp_on_advice(machine: Machine) -> int:
    sleep_ms = int(_text(machine, f"{_THP}/khugepaged/scan_sleep_millisecs", "10000"))
    return int("[madvise]" in _text(machine, f"{_THP}/enabled", "") and sleep_ms <= _EAGER_MS)


def _counts_stalls(machine: Machine) -> int:
    try:
        return int(bool(_text(machine, _PRESSURE, "")))
    except OSError:  # the kernel has the file, and refuses to read it while PSI is off
        return 0


def _text(machine: Machine, path: str, absent: str) -> str:
    """Return the text of a file; ``absent`` where the kernel was built without it."""
    try:
        return machine.read_file(path).decode().strip()
    except FileNotFoundError:
        return absent


def _count(machine: Machine, path: str) -> int:
    """Return how many items a list such as "0-3,6" names; 1 where the kernel was built without it."""
    text = _text(machine, path, "0")
    ranges = [part.partition("-") for part in text.split(",")]
    return sum(int(last or first) - int(first) + 1 for first, _, last in ranges)
