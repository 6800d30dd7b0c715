# SPDX-License-Identifier: GPL-2.0
"""Boot a guest: start QEMU, wait for the agent's first answer, give up on a boot that stalls."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from damon_tests.kernel.agent.machine import AgentMachine
from damon_tests.kernel.guest.launch import RunningGuest
from damon_tests.kernel.images.source_lines import with_source_lines
from damon_tests.kernel.splat import parse_splats
from damon_tests.ports import MachineLost

log = logging.getLogger(__name__)

BOOT_S = 300.0
"""The longest time a boot may take while its console keeps printing."""

STALL_S = 60.0
"""A boot whose console prints nothing for this long has stalled."""

ATTEMPTS = 2
_LAST_LINES = 3  # of the console, quoted in error messages
_EMULATOR_OOPS = "Oops: int3"
_NO_CHANNEL = "damon-tests-agent: no channel to the host"


@dataclass(frozen=True)
class Booted:
    """A guest whose agent has answered. ``boot_s``: duration of the attempt that succeeded."""

    running: RunningGuest
    machine: AgentMachine
    boot_s: float
    attempts: int


def bring_up(start: Callable[[], RunningGuest]) -> Booted:
    """Start a guest and wait for its agent.

    Under emulation on a busy machine about 1 boot in 100 stalls (QEMU 10.0; the console prints
    nothing more), and fewer end with an int3 oops, because the emulator runs a breakpoint of the kernel's
    code patching that is gone already. Neither says anything about DAMON, so the boot is tried once more, and
    ``attempts`` counts it. A kernel that panics otherwise, or twice, is not tried again.
    Raises MachineLost, with the console's log.
    """
    for attempt in range(1, ATTEMPTS + 1):
        began = time.monotonic()
        running = start()
        watch = _Watch(running)
        try:
            machine = connect(running, BOOT_S)
        except MachineLost as error:
            running.kill()
            failure = _failure(running, watch.reason)
            if not (watch.stalled or _lost_to_emulator(running)) or attempt == ATTEMPTS:
                raise failure from error
            log.warning("%s; trying again", failure)
            continue
        except BaseException:
            running.kill()
            raise
        finally:
            watch.stop()
        _check_release(running, machine)
        return Booted(running, machine, time.monotonic() - began, attempt)
    raise AssertionError("the last attempt raises or returns")


def connect(running: RunningGuest, timeout_s: float) -> AgentMachine:
    """Open a session with a guest's agent. Raises MachineLost."""
    name = f"{running.plan.image.release} ({running.directory.name})"

    def console() -> str:
        return with_source_lines(running.console_text(), running.plan.image)

    return AgentMachine(running.agent, name, hello_s=timeout_s, console=console)


class _Watch:
    """Kill a guest that can no longer come up, so that its caller does not wait in vain.

    ``reason`` says why it was killed; ``stalled`` is true when its console went silent.
    """

    def __init__(self, running: RunningGuest) -> None:
        self.reason = ""
        self.stalled = False
        self._running = running
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True, name="boot-watch")
        self._thread.start()

    def stop(self) -> None:
        self._done.set()
        self._thread.join()

    def _watch(self) -> None:
        last_text, since = "", time.monotonic()
        while not self._done.wait(0.5):
            text = self._running.console_text()
            if text != last_text:
                last_text, since = text, time.monotonic()
            if _NO_CHANNEL in text:
                self.reason = "its kernel has neither a virtio port nor a serial line for the agent"
            elif time.monotonic() - since > STALL_S:
                self.stalled = True
                self.reason = f"its console printed nothing for {STALL_S:.0f} s"
            if self.reason:
                self._running.process.kill()
                return


def _lost_to_emulator(running: RunningGuest) -> bool:
    """Return whether the boot ended with the oops that emulators are known to cause."""
    splats = parse_splats(running.console_text())
    return running.plan.accel == "tcg" and bool(splats) and _EMULATOR_OOPS in splats[0].title


def _failure(running: RunningGuest, reason: str) -> MachineLost:
    text = running.console_text()
    splats = parse_splats(text)
    why = reason or (splats[0].title if splats else "")
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    ending = (
        f"its console ends with {' / '.join(lines[-_LAST_LINES:])!r}" if lines else "its console is empty"
    )
    return MachineLost(
        f"the kernel {running.plan.image.release} did not boot under QEMU{': ' if why else ''}{why}"
        f" ({ending}; log: {running.console})",
        text,
    )


def _check_release(running: RunningGuest, machine: AgentMachine) -> None:
    expected, actual = running.plan.image.release, machine.facts.release
    if expected != actual:
        log.warning("the image's header says release %s, the guest runs %s", expected, actual)
