# SPDX-License-Identifier: GPL-2.0
"""A guest that runs only while somebody waits for it.

With the instruction clock a guest's idle time takes none of ours: seconds would pass in it while the harness
computes for a millisecond. So it is stopped in between, and how long the harness takes, on however busy a
machine, is nothing that the guest sees.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from damon_tests.kernel.guest.qmp import Qmp
from damon_tests.ports import HarnessError, TimedOut

log = logging.getLogger(__name__)


class Pause:
    """Stopped from now on but within ``running()``, which any number of threads may be in."""

    def __init__(self, qmp: Qmp) -> None:
        self._qmp = qmp
        self._lock = threading.Lock()
        self._waiting = 0
        self._call("stop")

    @contextmanager
    def running(self) -> Iterator[None]:
        with self._lock:
            self._waiting += 1
            if self._waiting == 1:
                self._call("cont")
        try:
            yield
        finally:
            with self._lock:
                self._waiting -= 1
                if self._waiting == 0:
                    self._call("stop")

    def _call(self, command: str) -> None:
        try:
            self._qmp.call(command)
        except TimedOut:
            raise
        except HarnessError as error:  # it has ended: whoever waits for the guest is told by its channel
            log.info("%s: %s", command, error)
