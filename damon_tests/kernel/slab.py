# SPDX-License-Identifier: GPL-2.0
"""Count a kernel's slab objects, to find small leaks in long runs."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping

from damon_tests.kernel.machine_tree import MachineTree
from damon_tests.ports import FileOp, Machine, NotSupported

_CACHES = "/sys/kernel/slab"
_SLABINFO = "/proc/slabinfo"
_RANDOM = re.compile(r"^kmalloc-rnd-\d+-")


def objects(machine: Machine) -> Mapping[str, int]:
    """Return objects in use per slab cache; merged caches count under one of their names.

    Shrink each cache first, so that free objects on per-CPU slabs do not count as in use.
    kmalloc's random copies of a size are added up. Raises NotSupported where slab counts are not readable.
    """
    try:
        caches = MachineTree(machine).list(_CACHES)
        machine.batch([FileOp("write", f"{_CACHES}/{cache.path}/shrink", data=b"1") for cache in caches])
        text = machine.read_file(_SLABINFO).decode()
    except OSError as error:
        raise NotSupported(
            f"slab object counts: {error}",
            remedy="use a kernel with CONFIG_SLUB_DEBUG, as root (--kernel debian:newest)",
        ) from error
    return parse(text)


def parse(slabinfo: str) -> Mapping[str, int]:
    """Return the second column of /proc/slabinfo (active_objs), by name."""
    counts: Counter[str] = Counter()
    for line in slabinfo.splitlines()[2:]:
        name, active = line.split()[:2]
        counts[_RANDOM.sub("kmalloc-", name)] += int(active)
    return counts
