# SPDX-License-Identifier: GPL-2.0
"""Cached translations: why a busy page may not be seen to be accessed.

DAMON clears a page's accessed bit without flushing the TLB. The processor sets the bit when it loads the
translation, so a page that is touched through a cached one stays invisible until the entry is evicted. A
huge page has one translation, as it has one accessed bit (specification §3.4).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from damon_tests.ports.arrays import I64, Bools
from damon_tests.reference.machine.accessed_bits import Touches

# Neighbouring pages are evicted at moments spread evenly over the lifetime (multiples of the golden ratio).
_SPREAD = 0x9E3779B97F4A7C15


@dataclass(frozen=True)
class Tlb:
    """Every translation is evicted once in ``lifetime_ns``, each page at a moment of its own.

    A short lifetime stands for a working set beyond the TLB's reach, or frequent flushes; a long one
    for a small hot set on a machine that does nothing else.
    """

    lifetime_ns: int

    def seen(self, truth: Touches, pages: I64, t0_ns: int, t1_ns: int) -> Bools:
        """Whether each page's accessed bit, cleared at ``t0_ns``, is set at ``t1_ns``: whether a
        translation was loaded in between. Of a huge page only the first page may be asked, and ``truth``
        must say of that what was done to any of them (``AccessedBits``)."""
        touched = truth.touched(pages, t0_ns, t1_ns)
        rows = np.flatnonzero(touched)
        if not len(rows):
            return touched
        hits: Bools = np.array(touched)
        hits[rows] = self._loaded(truth, pages[rows], t0_ns, t1_ns)
        return hits

    def _loaded(self, truth: Touches, pages: I64, t0_ns: int, t1_ns: int) -> Bools:
        """For touched pages: not cached before, or evicted in between and touched again after that."""
        phase = (pages.astype(np.uint64) * np.uint64(_SPREAD) >> np.uint64(16)).astype(np.int64)
        before = t0_ns - (t0_ns - phase) % self.lifetime_ns  # last eviction until t0
        start, end = np.full(len(pages), t0_ns, np.int64), np.full(len(pages), t1_ns, np.int64)
        cached = truth.touched_each(pages, before, start)
        last = t1_ns - (t1_ns - phase) % self.lifetime_ns  # last eviction until t1
        evicted = last > t0_ns
        again = truth.touched_each(pages, np.maximum(last, start), end)
        loaded: Bools = ~cached | (evicted & again)
        return loaded
