# SPDX-License-Identifier: GPL-2.0
"""Idle page tracking: a bit for each frame that an access clears (CONFIG_IDLE_PAGE_TRACKING, root)."""

from __future__ import annotations

import os

import numpy as np

from damon_tests.ports import Bools, NotSupported, Pages

BITMAP = "/sys/kernel/mm/page_idle/bitmap"
_PRESENT = 1 << 63
_FRAME = (1 << 55) - 1


class PageIdle:
    """A ``live_truth.Source`` over the bitmap of idle pages."""

    def __init__(self, pid: int, bitmap: str = BITMAP) -> None:
        try:
            self._bitmap = os.open(bitmap, os.O_RDWR | os.O_CLOEXEC)
        except OSError as error:
            raise NotSupported(
                f"{bitmap} cannot be opened ({error.strerror})",
                remedy="run as root on a kernel with CONFIG_IDLE_PAGE_TRACKING",
            ) from error
        try:
            self._pagemap = os.open(f"/proc/{pid}/pagemap", os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            os.close(self._bitmap)
            raise NotSupported(f"its page map cannot be read ({error.strerror})") from error

    def arm(self) -> None:
        """Do nothing: the page map is read anew each time."""

    def prepare(self, pages: Pages) -> None:
        """Mark the pages idle. Writing a bit that is 0 does nothing, so that other pages stay as they are."""
        words: dict[int, int] = {}
        for frame in self._frames(pages):
            if frame:
                words[frame // 64] = words.get(frame // 64, 0) | 1 << frame % 64
        for word, bits in words.items():
            os.pwrite(self._bitmap, bits.to_bytes(8, "little"), word * 8)

    def touched(self, pages: Pages, t0_ns: int, t1_ns: int) -> Bools:
        """Whether each page is not idle any more (the times do not matter)."""
        return np.array([frame > 0 and not self._is_idle(frame) for frame in self._frames(pages)], np.bool_)

    def _is_idle(self, frame: int) -> bool:
        word = int.from_bytes(os.pread(self._bitmap, 8, frame // 64 * 8), "little")
        return bool(word >> frame % 64 & 1)

    def _frames(self, pages: Pages) -> list[int]:
        """Return the frame of each page, 0 where none is present (or the kernel hides it)."""
        entries = [int.from_bytes(os.pread(self._pagemap, 8, page * 8), "little") for page in pages.tolist()]
        return [entry & _FRAME if entry & _PRESENT else 0 for entry in entries]

    def close(self) -> None:
        os.close(self._bitmap)
        os.close(self._pagemap)
