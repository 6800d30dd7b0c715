# SPDX-License-Identifier: GPL-2.0
"""Read the state of each page of a process from procfs.

Tests measure the effects of schemes on these states, never on DAMON's own counters.
Formats: Documentation/admin-guide/mm/pagemap.rst.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from damon_tests.ports import Bools, FileOp, HarnessError, Machine, page_size
from damon_tests.ports.arrays import I64, U64
from damon_tests.ports.lines import LineFormat

_PRESENT, _SWAPPED = 63, 62  # /proc/PID/pagemap
_PFN_MASK = np.uint64((1 << 55) - 1)
_LRU, _ACTIVE, _REFERENCED, _UNEVICTABLE, _THP = 5, 6, 2, 18, 22  # /proc/kpageflags
_ENTRY = 8  # bytes of an entry in both files
_MAX_GAP_FRAMES = 4096  # reading 32 KiB more is cheaper than another read


@dataclass(frozen=True, eq=False)
class PageStates:
    """All pages of [start, end) of one process at one moment; arrays have shape (pages,).

    ``present``: in memory and mapped by the process. ``swapped``: in swap. ``huge``: part of a transparent
    huge page. ``lru``, ``active``, ``referenced``, ``unevictable``: the page flags. ``node``: NUMA node,
    -1 where not present. ``frame``: page frame number, -1 where not present. ``time_ns``: when it was read.
    """

    start: int
    time_ns: int
    present: Bools
    swapped: Bools
    huge: Bools
    lru: Bools
    active: Bools
    referenced: Bools
    unevictable: Bools
    node: I64
    frame: I64

    def __len__(self) -> int:
        return len(self.present)

    @property
    def end(self) -> int:
        """Return the end address in bytes."""
        return self.start + len(self) * page_size()

    def on_node(self, nid: int) -> Bools:
        """Return which pages are in memory of this node."""
        there: Bools = self.node == nid
        return there

    def part(self, start: int, end: int) -> PageStates:
        """Return the states of the pages of [start, end) only, which must lie within."""
        if not self.start <= start <= end <= self.end:
            raise HarnessError(f"pages {start:#x}-{end:#x} were not read: only {self.start:#x}-{self.end:#x}")
        chosen = slice((start - self.start) // page_size(), -(-(end - self.start) // page_size()))
        arrays = {name: getattr(self, name)[chosen] for name in _ARRAYS}
        return PageStates(self.start + chosen.start * page_size(), self.time_ns, **arrays)


_ARRAYS = (
    "present",
    "swapped",
    "huge",
    "lru",
    "active",
    "referenced",
    "unevictable",
    "node",
    "frame",
)


def bytes_of(pages: Bools) -> int:
    """Return the size of the selected pages in bytes."""
    return int(pages.sum()) * page_size()


def read_pages(machine: Machine, pid: int, start: int, end: int) -> PageStates:
    """Return the current state of the pages of [start, end). Needs CAP_SYS_ADMIN (else HarnessError).

    Raises OSError when the process is gone.
    """
    first, count = start // page_size(), -(-end // page_size()) - start // page_size()
    entries = _entries(machine.read_file(f"/proc/{pid}/pagemap", first * _ENTRY, count * _ENTRY))
    time_ns = machine.clock.now_ns()
    entries = np.pad(entries, (0, count - len(entries)))
    present = _bit(entries, _PRESENT)
    frame = np.where(present, (entries & _PFN_MASK).astype(np.int64), -1)
    if (frame == 0).any():
        raise HarnessError(f"/proc/{pid}/pagemap shows no page frames: reading them needs CAP_SYS_ADMIN")
    flags = np.zeros(count, np.uint64)
    flags[present] = _page_flags(machine, frame[present])
    return PageStates(
        first * page_size(),
        time_ns,
        present=present,
        swapped=_bit(entries, _SWAPPED) & ~present,
        huge=_bit(flags, _THP),
        lru=_bit(flags, _LRU),
        active=_bit(flags, _ACTIVE),
        referenced=_bit(flags, _REFERENCED),
        unevictable=_bit(flags, _UNEVICTABLE),
        node=_nodes(machine, frame),
        frame=frame,
    )


def _entries(data: bytes) -> U64:
    return np.frombuffer(data, dtype="<u8").astype(np.uint64)


def _bit(entries: U64, number: int) -> Bools:
    is_set: Bools = (entries >> np.uint64(number)) & np.uint64(1) == 1
    return is_set


def _page_flags(machine: Machine, frames: I64) -> U64:
    """Return /proc/kpageflags of these frames, read in stretches, in one round trip."""
    unique, back = np.unique(frames, return_inverse=True)
    if not len(unique):
        return np.zeros(0, np.uint64)
    cuts = np.flatnonzero(np.diff(unique) > _MAX_GAP_FRAMES) + 1
    stretches = [(int(s[0]), int(s[-1]) + 1) for s in np.split(unique, cuts)]
    ops = [FileOp("read", "/proc/kpageflags", b"", a * _ENTRY, (b - a) * _ENTRY) for a, b in stretches]
    flags = np.zeros(len(unique), np.uint64)
    for (a, b), result in zip(stretches, machine.batch(ops), strict=True):
        if isinstance(result, OSError):
            raise result
        assert isinstance(result, bytes)
        read = _entries(result)
        mine = (unique >= a) & (unique < b)
        flags[mine] = read[unique[mine] - a]
    return flags[back]


_SPANNED = LineFormat(" spanned {frames:d}")
_START_PFN = LineFormat(" start_pfn: {pfn:d}")
_ZONE = re.compile(r"^Node (\d+), zone +\w+$(.*?)(?=^Node|\Z)", re.MULTILINE | re.DOTALL)


def node_spans(machine: Machine) -> Sequence[tuple[int, int, int]]:
    """Return (first frame, end frame, NUMA node) of each zone that has memory, from /proc/zoneinfo."""
    spans = []
    for node, body in _ZONE.findall(machine.read_file("/proc/zoneinfo").decode()):
        spanned, start = next(_SPANNED.each(body), None), next(_START_PFN.each(body), None)
        if spanned and start and spanned["frames"]:
            spans.append((start["pfn"], start["pfn"] + spanned["frames"], int(node)))
    return sorted(spans)


def _nodes(machine: Machine, frames: I64) -> I64:
    nodes = np.full(len(frames), -1, np.int64)
    for first, end, node in node_spans(machine):
        nodes[(frames >= first) & (frames < end)] = node
    return nodes
