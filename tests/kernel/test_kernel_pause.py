# SPDX-License-Identifier: GPL-2.0
"""Guests run only while a caller waits for them."""

from typing import Any, cast

import pytest

from damon_tests.kernel.guest.pause import Pause
from damon_tests.kernel.guest.qmp import Qmp
from damon_tests.ports import HarnessError, TimedOut


class Monitor:
    """Stands in for QMP: records the commands, and can fail."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.failure: Exception | None = None

    def call(self, command: str, **_: Any) -> None:
        self.asked.append(command)
        if self.failure is not None:
            raise self.failure


def test_first_waiter_resumes_the_guest_and_last_stops_it() -> None:
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


def test_guest_that_ended_raises_nothing() -> None:
    monitor = Monitor()
    pause = Pause(cast(Qmp, monitor))
    monitor.failure = HarnessError("QEMU has closed its control socket")
    with pause.running():
        pass
    monitor.failure = TimedOut("QEMU does not answer")
    with pytest.raises(TimedOut), pause.running():
        pass
