# SPDX-License-Identifier: GPL-2.0
"""The clock of truth, trace and the phases of a run."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

NSEC_PER_USEC = 1_000
NSEC_PER_MSEC = 1_000_000
NSEC_PER_SEC = 1_000_000_000


class Clock(Protocol):
    """CLOCK_MONOTONIC of the machine the target runs on, in integer nanoseconds.

    The reference's clock advances the simulation; a kernel's clock sleeps.
    """

    def now_ns(self) -> int:
        """Return the time now."""
        ...

    def run_for(self, duration_ns: int) -> None:
        """Return when at least ``duration_ns`` have passed."""
        ...

    def wait_until(
        self, condition: Callable[[], bool], deadline_ns: int, poll_ns: int = 10 * NSEC_PER_MSEC
    ) -> bool:
        """Poll ``condition`` until it holds (True) or ``deadline_ns`` is reached (False).

        ``deadline_ns`` is absolute. The condition is tried at least once, and once more
        after the deadline, so that a slow machine does not turn success into failure.
        """
        ...
