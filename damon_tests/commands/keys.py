# SPDX-License-Identifier: GPL-2.0
"""Keys pressed while something is shown: read one at a time, without Enter, and never waited for."""

from __future__ import annotations

import os
import select
import sys
import termios
import tty
from types import TracebackType


class Keys:
    """Reads keys of the terminal between enter and exit; without a terminal there are none."""

    def __init__(self) -> None:
        self._fd = -1
        self._before: list[object] = []

    def __enter__(self) -> Keys:
        if sys.stdin is not None and sys.stdin.isatty():
            self._fd = sys.stdin.fileno()
            self._before = termios.tcgetattr(self._fd)
            tty.setcbreak(self._fd)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._fd >= 0:
            termios.tcsetattr(self._fd, termios.TCSADRAIN, self._before)  # type: ignore[arg-type]

    def pressed(self, wait_s: float = 0.0) -> str:
        """Return the key that was pressed, waiting up to ``wait_s`` for one; empty if none was."""
        if self._fd < 0:
            select.select([], [], [], wait_s)
            return ""
        if not select.select([self._fd], [], [], wait_s)[0]:
            return ""
        return os.read(self._fd, 1).decode("ascii", "replace")
