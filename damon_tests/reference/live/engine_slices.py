# SPDX-License-Identifier: GPL-2.0
"""Accesses as this project's engine publishes them: its touched-page slices.

The engine keeps a file ``slices`` (u64 start, u64 end, u64 worker, then a bit for each page) and beside it
``status`` with lines that say which bit is which page (``window``), and which worker is which process
(``worker``). Both are found through the open descriptors of the process.
"""

from __future__ import annotations

import os
import struct
from collections import deque
from pathlib import Path

import numpy as np
import numpy.typing as npt

from damon_tests.ports import Bools, NotSupported, Pages
from damon_tests.ports.arrays import I64

KEPT_SLICES = 4096
"""How many slices back questions can be answered."""

Bits = npt.NDArray[np.uint8]

_REMEDY = "start the workload with slices"
_HEAD = struct.Struct("<QQQ")


class EngineSlices:
    """A ``live_truth.Source``: exact, but late.

    A slice is known when it is over, so a question about [t0, t1) is answered for a time so much earlier
    that all of it is known.
    """

    def __init__(self, pid: int) -> None:
        path = _slices_file(pid)
        try:
            fields = [line.split() for line in (path.parent / "status").read_text().splitlines()]
            self._file = path.open("rb", buffering=0)
        except OSError as error:
            raise NotSupported(f"{path} cannot be read ({error.strerror})", remedy=_REMEDY) from error
        sizes = [int(words[1]) for words in fields if words[0] == "slice_bytes"]
        self._windows = [
            (int(words[2]), int(words[3]), int(words[4])) for words in fields if words[0] == "window"
        ]
        mine = [int(words[1]) for words in fields if words[0] == "worker" and int(words[4]) == pid]
        if not sizes or not self._windows or not mine:
            self._file.close()
            raise NotSupported(f"{path} belongs to no workload that publishes slices", remedy=_REMEDY)
        self._record = _HEAD.size + sizes[0]
        self._file.seek(max(os.fstat(self._file.fileno()).st_size // self._record - 1, 0) * self._record)
        # By worker: each ends its slices when it has time to.
        self._slices: dict[int, deque[tuple[int, int, Bits]]] = {
            worker: deque(maxlen=KEPT_SLICES) for worker in mine
        }
        self._delay_ns = 0

    def arm(self) -> None:
        """Do nothing: the engine's windows never change."""

    def prepare(self, pages: Pages) -> None:
        """Do nothing: nothing has to be cleared."""

    def touched(self, pages: Pages, t0_ns: int, t1_ns: int) -> Bools:
        """Whether each page was touched in a slice that overlaps [t0, t1), moved back by the delay."""
        self._read_new()
        for slices in self._slices.values():
            if slices:
                # Grows only: a delay that came and went would ask for some time twice, and for some never.
                self._delay_ns = max(self._delay_ns, t1_ns - slices[-1][1])
        bits, known = self._bits_of(pages)
        hits = np.zeros(len(pages), np.bool_)
        for slices in self._slices.values():
            for start, end, touched in reversed(slices):
                if end <= t0_ns - self._delay_ns:
                    break
                if start < t1_ns - self._delay_ns:
                    hits |= (touched[bits >> 3] >> (bits & 7) & 1).astype(np.bool_)
        return hits & known

    def _read_new(self) -> None:
        size = os.fstat(self._file.fileno()).st_size - self._file.tell()
        for _ in range(size // self._record):
            data = self._file.read(self._record)
            start, end, worker = _HEAD.unpack_from(data)
            if worker in self._slices:
                bits = np.frombuffer(data, np.uint8, offset=_HEAD.size)
                self._slices[worker].append((start, end, bits))

    def _bits_of(self, pages: Pages) -> tuple[I64, Bools]:
        """Return the number of the bit of each page, and whether it has one."""
        bits = np.zeros(len(pages), np.int64)
        known = np.zeros(len(pages), np.bool_)
        for page, count, bit in self._windows:
            inside = (pages >= page) & (pages < page + count)
            bits[inside] = pages[inside] - page + bit
            known |= inside
        return bits, known

    def close(self) -> None:
        self._file.close()


def _slices_file(pid: int) -> Path:
    try:
        links = [os.readlink(f"/proc/{pid}/fd/{fd}") for fd in os.listdir(f"/proc/{pid}/fd")]
    except OSError as error:
        raise NotSupported(f"its open files cannot be listed ({error.strerror})") from error
    for link in links:
        if link.endswith("/slices"):
            return Path(link)
    raise NotSupported("it publishes no touched-page slices", remedy=_REMEDY)
