# SPDX-License-Identifier: GPL-2.0
"""How many objects of each kind a kernel has: what is left behind, one by one, shows in a long life."""

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
    """Objects in use by the name of their cache, those of caches that were merged under one of their names.

    Each cache is shrunk first: else free objects of a processor's own slabs would count as in use.
    kmalloc's random copies of a size count as one. Raises NotSupported where this cannot be told.
    """
    try:
        caches = MachineTree(machine).list(_CACHES)
        machine.batch([FileOp("write", f"{_CACHES}/{cache.path}/shrink", data=b"1") for cache in caches])
        text = machine.read_file(_SLABINFO).decode()
    except OSError as error:
        raise NotSupported(
            f"how many objects of a kind there are: {error}",
            remedy="use a kernel with CONFIG_SLUB_DEBUG, as root (--kernel debian:newest)",
        ) from error
    return parse(text)


def parse(slabinfo: str) -> Mapping[str, int]:
    """The second column of /proc/slabinfo (active_objs), by name."""
    counts: Counter[str] = Counter()
    for line in slabinfo.splitlines()[2:]:
        name, active = line.split()[:2]
        counts[_RANDOM.sub("kmalloc-", name)] += int(active)
    return counts
