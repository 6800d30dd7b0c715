# SPDX-License-Identifier: GPL-2.0
"""Run a guest only while a caller waits for it.

With the instruction clock, QEMU skips a guest's idle time: seconds would pass in the guest while the harness
computes for a millisecond. So the guest is stopped in between, and the guest cannot notice how long the
harness computes or how busy the machine is.
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
    """Stop the guest from now on, except within ``running()``, which several threads may hold at once."""

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
        except HarnessError as error:  # the guest has ended: its channel reports that to whoever waits for it
            log.info("%s: %s", command, error)
