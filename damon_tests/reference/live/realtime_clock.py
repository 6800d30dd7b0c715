# SPDX-License-Identifier: GPL-2.0
"""Virtual time that follows CLOCK_MONOTONIC, for clients that live in real time."""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from collections.abc import Callable

from damon_tests.ports import NSEC_PER_MSEC, NSEC_PER_SEC, NSEC_PER_USEC
from damon_tests.reference.machine.clock import VirtualClock

LONGEST_WAIT_NS = 100 * NSEC_PER_MSEC
"""The longest sleep between looks at the clock; housekeeping is done this often."""


def late_sleep_ns(now_ns: int, sample_us: int) -> int:
    """Return how long a sampling sleep takes in real time: never back into the past.

    A kdamond that was kept from running sleeps too long once; it does not catch up. Nor does this: virtual
    time that fell behind (``now_ns`` is before CLOCK_MONOTONIC) is made good by a single sleep.
    """
    return max(sample_us * NSEC_PER_USEC, time.monotonic_ns() - now_ns)


class RealTime:
    """Advance a clock to CLOCK_MONOTONIC, and do ``housekeeping`` from time to time."""

    def __init__(self, clock: VirtualClock, housekeeping: Callable[[], None]) -> None:
        self._clock = clock
        self._housekeeping = housekeeping
        self._next_housekeeping_ns = 0

    def advance(self) -> None:
        """Run what is due by now. An error in a kdamond ends that kdamond, not the server."""
        now = time.monotonic_ns()
        if now >= self._next_housekeeping_ns:
            self._next_housekeeping_ns = now + LONGEST_WAIT_NS
            self._housekeeping()
        try:
            self._clock.run_until(now)
        except Exception as error:
            print(f"damon-tests: a kdamond ended with {type(error).__name__}: {error}", file=sys.stderr)

    def wait_ns(self) -> int:
        """Return how long nothing is due from now on; at most LONGEST_WAIT_NS."""
        due = self._clock.next_wake_ns()
        now = time.monotonic_ns()
        if due is None:
            return LONGEST_WAIT_NS
        return min(max(due - now, 0), LONGEST_WAIT_NS)


class RealTimeDriver:
    """A thread that keeps a clock at real time, for servers with threads of their own.

    ``changed`` is the only lock of the engine, and is notified whenever time has advanced.
    """

    def __init__(self, real_time: RealTime) -> None:
        self.changed = threading.Condition()
        self._real_time = real_time
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="damon-time", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        with self.changed:
            self._stopping = True
            self.changed.notify_all()
        with contextlib.suppress(RuntimeError):
            self._thread.join(timeout=10)

    def _run(self) -> None:
        with self.changed:
            while not self._stopping:
                self._real_time.advance()
                self.changed.notify_all()
                self.changed.wait(max(self._real_time.wait_ns(), NSEC_PER_USEC) / NSEC_PER_SEC)
