# SPDX-License-Identifier: GPL-2.0
"""Guests that run only while somebody waits for them."""

from typing import Any, cast

import pytest

from damon_tests.kernel.guest.pause import Pause
from damon_tests.kernel.guest.qmp import Qmp
from damon_tests.ports import HarnessError, TimedOut


class Monitor:
    """In QMP's place: what was asked, and how it fails."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.failure: Exception | None = None

    def call(self, command: str, **_: Any) -> None:
        self.asked.append(command)
        if self.failure is not None:
            raise self.failure


def test_the_first_who_waits_lets_it_run_and_the_last_stops_it() -> None:
    monitor = Monitor()
    pause = Pause(cast(Qmp, monitor))
    assert monitor.asked == ["stop"]
    with pause.running():
        with pause.running():
            assert monitor.asked == ["stop", "cont"]
        assert monitor.asked == ["stop", "cont"]
    assert monitor.asked == ["stop", "cont", "stop"]
    with pytest.raises(KeyError), pause.running():
        raise KeyError
    assert monitor.asked == ["stop", "cont", "stop", "cont", "stop"]


def test_a_guest_that_ended_is_no_error_here() -> None:
    monitor = Monitor()
    pause = Pause(cast(Qmp, monitor))
    monitor.failure = HarnessError("QEMU has closed its control socket")
    with pause.running():
        pass
    monitor.failure = TimedOut("QEMU does not answer")
    with pytest.raises(TimedOut), pause.running():
        pass
