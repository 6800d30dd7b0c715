# SPDX-License-Identifier: GPL-2.0
"""Read how much memory a machine has and uses, which goals and watermarks depend on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from damon_tests.ports import FileOp, Machine
from damon_tests.ports.lines import LineFormat


@dataclass(frozen=True)
class MemoryInfo:
    """Sizes in bytes, of all memory and by NUMA node, at one moment. ``active``, ``inactive``: on the LRU
    lists, anonymous and file. ``psi_some_us``: total stall time of "some" memory pressure, None where the
    kernel does not count it. ``counters``: /proc/vmstat, of which the reference has pswpin, pswpout and
    nr_file_pages.
    """

    time_ns: int
    total: int
    free: int
    active: int
    inactive: int
    swap_total: int
    swap_used: int
    node_total: Mapping[int, int]
    node_free: Mapping[int, int]
    psi_some_us: int | None = None
    counters: Mapping[str, int] = field(default_factory=dict)
    memcg_lru: Mapping[str, int] = field(default_factory=dict)

    @property
    def free_permil(self) -> int:
        """Return the watermark metric free_mem_rate."""
        return self.free * 1000 // self.total


_MEMORY = LineFormat("{name:S}: {kib:d} kB")
_NODE_MEMORY = LineFormat("Node {node:d} {name:S}: {kib:d} kB")


_NODE = LineFormat("node{number:d}")
_PSI_SOME = LineFormat("some avg10={avg10:g} avg60={avg60:g} avg300={avg300:g} total={total_us:d}")


def read_memory_info(machine: Machine) -> MemoryInfo:
    """Read the current sizes of a running machine. Raises OSError when /proc cannot be read."""
    (entries,) = machine.batch([FileOp("list", "/sys/devices/system/node")])
    listed = [] if isinstance(entries, OSError | bytes) else [entry.path for entry in entries]
    nodes = [name for name in listed if _NODE.read(name)]
    paths = ["/proc/meminfo", "/proc/vmstat", "/proc/pressure/memory"]
    paths += [f"/sys/devices/system/node/{name}/meminfo" for name in nodes]
    results = machine.batch([FileOp("read", path) for path in paths])
    texts = [r.decode() if isinstance(r, bytes) else "" for r in results]
    if isinstance(results[0], OSError):
        raise results[0]
    whole = _values(texts[0])
    per_node = {
        int(name.removeprefix("node")): _values(text) for name, text in zip(nodes, texts[3:], strict=True)
    }
    some = next(_PSI_SOME.each(texts[2]), None)
    return MemoryInfo(
        machine.clock.now_ns(),
        total=whole["MemTotal"],
        free=whole["MemFree"],
        active=whole["Active"],
        inactive=whole["Inactive"],
        swap_total=whole.get("SwapTotal", 0),
        swap_used=whole.get("SwapTotal", 0) - whole.get("SwapFree", 0),
        node_total={nid: values["MemTotal"] for nid, values in per_node.items()} or {0: whole["MemTotal"]},
        node_free={nid: values["MemFree"] for nid, values in per_node.items()} or {0: whole["MemFree"]},
        psi_some_us=some["total_us"] if some else None,
        counters=_counters(texts[1]),
        memcg_lru=_memcg_lru(machine),
    )


_CGROUPS = "/sys/fs/cgroup"
_LISTS = ("inactive_anon", "active_anon", "inactive_file", "active_file")


def _memcg_lru(machine: Machine) -> dict[str, int]:
    """Return the LRU bytes of all memory control groups (version 2) but the root, descendants included."""
    sizes = {}
    groups = [""]
    while groups := _groups_in(machine, groups):
        results = machine.batch([FileOp("read", f"{_CGROUPS}{group}/memory.stat") for group in groups])
        for group, result in zip(groups, results, strict=True):
            if isinstance(result, bytes):
                values = _counters(result.decode())
                sizes[group] = sum(values.get(name, 0) for name in _LISTS)
    return sizes


def _groups_in(machine: Machine, groups: Sequence[str]) -> list[str]:
    """Return the paths of the children of these groups. Other entries have a dot in their names."""
    listed = machine.batch([FileOp("list", f"{_CGROUPS}{group}") for group in groups])
    return [
        f"{group}/{entry.path}"
        for group, entries in zip(groups, listed, strict=True)
        if not isinstance(entries, OSError | bytes)
        for entry in entries
        if "." not in entry.path
    ]


def _counters(text: str) -> dict[str, int]:
    return {k: int(v) for k, v in (line.split() for line in text.splitlines())}


def _values(text: str) -> dict[str, int]:
    lines = [line for form in (_MEMORY, _NODE_MEMORY) for line in form.each(text)]
    return {line["name"]: line["kib"] << 10 for line in lines}
