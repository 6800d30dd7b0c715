# SPDX-License-Identifier: GPL-2.0
"""Files whose writes do something that may take time."""

from __future__ import annotations

from collections.abc import Callable

from damon_tests.reference.sysfs.nodes import File

Finish = Callable[[Exception | int], None]
"""Called once with 0, an errno, or what was raised."""


class BlockingFile(File):
    """``holds_lock``: the tree's global lock is held until the write returns."""

    __slots__ = ()
    holds_lock = False

    def begin(self, text: str, finish: Finish) -> None:
        """Start the write; ``finish`` comes now or later. May raise CoreError instead."""
        raise NotImplementedError
