# SPDX-License-Identifier: GPL-2.0
"""The true accesses, with which DAMON's report is compared."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from damon_tests.ports.arrays import Bools

Pages = npt.NDArray[np.int64]
"""Page numbers (address // page size), any order, shape (n,)."""


class Truth(Protocol):
    """Accesses of one target, answered in closed form from a pattern or from the bitmap
    slices that a real target recorded. Times are the target machine's monotonic ns."""

    def ranges(self) -> Sequence[tuple[int, int]]:
        """Return the byte ranges [start, end) that it covers, sorted and page aligned."""
        ...

    def span_ns(self) -> tuple[int, int]:
        """Return the time [from, to) that it covers."""
        ...

    def touched(self, pages: Pages, t0_ns: int, t1_ns: int) -> Bools:
        """Return whether each page was accessed within [t0, t1), shape (n,). Pages outside
        ``ranges()`` were not touched. For recorded slices: in any slice that overlaps."""
        ...

    def touched_each(self, pages: Pages, t0_ns: npt.NDArray[np.int64], t1_ns: npt.NDArray[np.int64]) -> Bools:
        """Return ``touched`` with a separate time window for each page."""
        ...

    def rate(self, pages: Pages, t0_ns: int, t1_ns: int, window_ns: int) -> npt.NDArray[Any]:
        """Return the fraction of the windows of length ``window_ns`` within [t0, t1) in which each page was
        touched, which is nr_accesses / W of a perfect DAMON, float64 (n,)."""
        ...


@runtime_checkable
class Reaching(Protocol):
    """A truth that knows where touches are possible: a large idle reservation then costs nothing."""

    def reach(self) -> Sequence[tuple[int, int]]:
        """Return the byte ranges [start, end) that may be touched: a part of ``ranges()``, sorted."""
        ...


def rate_in_windows(
    truth: Truth, pages: Pages, t0_ns: int, t1_ns: int, window_ns: int
) -> npt.NDArray[np.float64]:
    """Return ``Truth.rate`` by asking ``touched`` for each window; ignore a rest shorter than a window.

    Raises ValueError when not one window fits.
    """
    windows = (t1_ns - t0_ns) // window_ns
    if windows <= 0:
        raise ValueError(f"[{t0_ns}, {t1_ns}) is shorter than one window of {window_ns} ns")
    hits = np.zeros(len(pages), dtype=np.int64)
    for start in range(t0_ns, t0_ns + windows * window_ns, window_ns):
        hits += truth.touched(pages, start, start + window_ns)
    rates: npt.NDArray[np.float64] = hits / windows
    return rates
