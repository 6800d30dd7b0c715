# SPDX-License-Identifier: GPL-2.0
"""Measure the wall time of a test by activity; the report shows it, to make slow runs faster.

A process runs one test at a time, so the times are kept per process; ``take`` resets them.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator

_seconds: dict[str, float] = {}
_inner: list[float] = []


@contextlib.contextmanager
def timed(name: str, into: dict[str, float] | None = None) -> Iterator[None]:
    """Add the block's seconds to ``name``, except those of ``timed`` blocks inside it: none counts twice.

    ``into``: seconds by name that the caller reports; None: those that ``take`` returns.
    """
    spent = _seconds if into is None else into
    began = time.monotonic()
    _inner.append(0.0)
    try:
        yield
    finally:
        took = time.monotonic() - began
        spent[name] = spent.get(name, 0.0) + took - _inner.pop()
        if _inner:
            _inner[-1] += took


def take() -> dict[str, float]:
    """Return the seconds by name since the last call."""
    taken = dict(_seconds)
    _seconds.clear()
    return taken
