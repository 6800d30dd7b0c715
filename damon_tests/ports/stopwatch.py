# SPDX-License-Identifier: GPL-2.0
"""Where the wall time of a test goes, by name: the report says it, so that slow runs can be made faster.

One process runs one test at a time, so the times are kept for the process; ``take`` empties them.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator

_seconds: dict[str, float] = {}
_inner: list[float] = []


@contextlib.contextmanager
def timed(name: str) -> Iterator[None]:
    """Add the block's seconds to ``name``; those of a ``timed`` block inside it count there only."""
    began = time.monotonic()
    _inner.append(0.0)
    try:
        yield
    finally:
        took = time.monotonic() - began
        _seconds[name] = _seconds.get(name, 0.0) + took - _inner.pop()
        if _inner:
            _inner[-1] += took


def take() -> dict[str, float]:
    """Return the seconds by name since the last call."""
    taken = dict(_seconds)
    _seconds.clear()
    return taken
