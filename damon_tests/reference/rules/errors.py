# SPDX-License-Identifier: GPL-2.0
"""The errors with which DAMON's core refuses. The tree turns them into the error of the write."""

from __future__ import annotations

import errno


class CoreError(Exception):
    """``errno`` is what write(2) to ``state`` would return; the text says why."""

    def __init__(self, number: int, why: str) -> None:
        super().__init__(f"{errno.errorcode.get(number, str(number))}: {why}")
        self.errno = number
        self.why = why


def invalid(why: str) -> CoreError:
    return CoreError(errno.EINVAL, why)
