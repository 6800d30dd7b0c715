# SPDX-License-Identifier: GPL-2.0
"""A kernel's configuration, and which of its options matter for what DAMON does."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass

_RELEVANT = re.compile(
    r"""CONFIG_(
    DAMON\w* | PAGE_IDLE_FLAG | IDLE_PAGE_TRACKING          # DAMON, and the flags that it uses
    | TRANSPARENT_HUGEPAGE\w* | READ_ONLY_THP_FOR_FS | HUGETLB_PAGE | KSM
    | MEMCG\w* | NUMA | NUMA_BALANCING | MIGRATION | DEVICE_MIGRATION | COMPACTION
    | SWAP | ZSWAP | ZRAM | LRU_GEN\w* | PSI
    | SMP | HZ | HZ_\w+ | NO_HZ\w* | PREEMPT\w*             # time, and who waits for whom
    | PER_VMA_LOCK | MITIGATION_PAGE_TABLE_ISOLATION | PGTABLE_LEVELS | ARM64_\w*_PAGES | PAGE_SIZE_\w+
    | KASAN | PROVE_LOCKING | DEBUG_VM | DEBUG_KMEMLEAK     # slower by several times
    )""",
    re.VERBOSE,
)


@dataclass(frozen=True)
class KernelConfig:
    """A kernel's configuration. ``source``: where it was read. ``values`` maps the CONFIG_ names that are set
    to "y", "m" or text; None: the configuration is unknown."""

    source: str
    values: Mapping[str, str] | None

    @property
    def digest(self) -> str:
        """Return a hash of the configuration, for comparing kernels; "unknown" without one."""
        if self.values is None:
            return "unknown"
        text = "\n".join(f"{name}={value}" for name, value in sorted(self.values.items()))
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    @property
    def relevant(self) -> dict[str, str]:
        """Return the options that matter for DAMON and are set, without CONFIG_; {} if they are unknown."""
        matching = {name: v for name, v in (self.values or {}).items() if _RELEVANT.fullmatch(name)}
        return {name.removeprefix("CONFIG_"): value for name, value in sorted(matching.items())}

    def leaves_out(self, symbol: str) -> bool | None:
        """Return whether the kernel was built without an option; None if that is unknown."""
        return None if self.values is None else self.values.get(symbol, "n") not in ("y", "m")
