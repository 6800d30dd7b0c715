# SPDX-License-Identifier: GPL-2.0
"""A process in which system calls are made does not notice, whatever happens to it meanwhile."""

from __future__ import annotations

import os
import platform
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest
from test_reference_live import tracker

from damon_tests.reference.live import ptrace_call
from damon_tests.reference.live.ptrace_call import stopped

GETPID, GETPPID = 39, 110

pytestmark = pytest.mark.skipif(platform.machine() != "x86_64", reason="written for x86-64 only")

TARGET = """
import signal, sys
seen = [0, 0]
def see(number, frame): seen[number == signal.SIGUSR2] += 1
for number in (signal.SIGUSR1, signal.SIGUSR2, signal.SIGALRM): signal.signal(number, see)
if "ticking" in sys.argv: signal.setitimer(signal.ITIMER_REAL, 0.0005, 0.0005)
print("ready", flush=True)
if "busy" in sys.argv:
    while seen[0] < 2000: pass
else:
    sys.stdin.readline()
signal.setitimer(signal.ITIMER_REAL, 0)
print(*seen)
"""


@pytest.fixture
def target(request: pytest.FixtureRequest) -> Iterator[subprocess.Popen[str]]:
    arguments = [sys.executable, "-c", TARGET, *getattr(request, "param", ())]
    pipe = subprocess.PIPE
    with subprocess.Popen(arguments, stdin=pipe, stdout=pipe, text=True) as started:
        assert started.stdout is not None
        assert started.stdout.readline() == "ready\n"
        yield started
        started.kill()


def test_a_step_is_waited_for_however_long_it_takes(
    target: subprocess.Popen[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process left half-way in a step is killed by its SIGTRAP: only the first stop may be given up."""
    with stopped(target.pid) as process:
        monkeypatch.setattr(ptrace_call, "_STOP_WITHIN_NS", 0)
        assert process.call(GETPID) == target.pid
        assert process.call(GETPPID) == os.getpid()
    assert target.communicate("\n") == ("0 0\n", None)
    assert target.returncode == 0


def test_signals_wait_for_the_end_of_the_call(target: subprocess.Popen[str]) -> None:
    with stopped(target.pid) as process:
        os.kill(target.pid, signal.SIGUSR1)
        assert process.call(GETPID) == target.pid
        os.kill(target.pid, signal.SIGUSR2)
        assert process.call(GETPPID) == os.getpid()
    assert target.communicate("\n") == ("1 1\n", None)


@pytest.mark.parametrize("target", [("busy", "ticking"), ("ticking",)], indirect=True)
def test_a_process_that_gets_signals_all_the_time_is_tracked(target: subprocess.Popen[str]) -> None:
    fds = sorted(os.listdir(f"/proc/{target.pid}/fd"))
    for _ in range(20):
        source = tracker(target.pid)
        source.close()
    assert target.poll() is None
    assert sorted(os.listdir(f"/proc/{target.pid}/fd")) == fds
    assert target.communicate("\n")[0].endswith(" 0\n")
    assert target.returncode == 0
