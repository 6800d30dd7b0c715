# SPDX-License-Identifier: GPL-2.0
"""A boot ends with an answer of the agent or with an error that says why; a stalled boot is retried."""

from __future__ import annotations

import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from damon_tests.kernel.guest import boot
from damon_tests.kernel.guest.boot import bring_up
from damon_tests.kernel.images import programs
from damon_tests.ports import MachineLost, NotSupported


class FakeRunning:
    """The part of RunningGuest that ``bring_up`` uses. With ``agent``, a real agent serves on its socket."""

    def __init__(
        self, directory: Path, console: str = "", *, dies: bool = False, agent: Path | None = None
    ) -> None:
        self.directory = directory
        self.console = directory / "console.log"
        image = SimpleNamespace(release="7.3.4", vmlinuz=Path("nowhere/vmlinuz"))
        self.plan = SimpleNamespace(image=image, accel="tcg")
        self.process = self
        self.killed = False
        self._console = console
        self.agent, self._peer = socket.socketpair()
        self._child: subprocess.Popen[bytes] | None = None
        if agent:
            fd = self._peer.fileno()
            self._child = subprocess.Popen([agent, "--fd", str(fd)], pass_fds=[fd], stderr=subprocess.DEVNULL)
        if dies or agent:
            self._peer.close()

    def console_text(self) -> str:
        return self._console

    def kill(self) -> None:
        self.killed = True
        self._peer.close()
        if self._child:
            self._child.kill()
            self._child.wait()
            self._child = None


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(boot, "STALL_S", 1.0)


@pytest.fixture
def answering(tmp_path: Path) -> Iterator[FakeRunning]:
    try:
        agent = programs.program(programs.AGENT)
    except NotSupported as error:
        pytest.skip(str(error))
    running = FakeRunning(tmp_path, agent=agent)
    yield running
    running.kill()


def test_boot_succeeds_when_agent_answers(answering: FakeRunning) -> None:
    booted = bring_up(lambda: answering)  # type: ignore[arg-type, return-value]
    assert booted.attempts == 1
    assert 0 < booted.boot_s < 60
    booted.machine.close()
    assert not answering.killed


def test_stalled_boot_is_retried_once(impatient: None, answering: FakeRunning, tmp_path: Path) -> None:
    stuck = FakeRunning(tmp_path, "[    1.3] hpet0: 3 comparators")
    starts = iter([stuck, answering])
    booted = bring_up(lambda: next(starts))  # type: ignore[arg-type, return-value]
    assert booted.attempts == 2
    assert stuck.killed
    booted.machine.close()


def test_second_stall_is_machine_lost(impatient: None, tmp_path: Path) -> None:
    started: list[FakeRunning] = []

    def start() -> FakeRunning:
        started.append(FakeRunning(tmp_path, "[    1.3] hpet0: 3 comparators"))
        return started[-1]

    with pytest.raises(
        MachineLost, match=r"console printed nothing for 1 s.*ends with '.*hpet0: 3 comparators'"
    ) as lost:
        bring_up(start)  # type: ignore[arg-type]
    assert len(started) == 2
    assert lost.value.log == "[    1.3] hpet0: 3 comparators"


def test_panic_is_reported_without_retry(tmp_path: Path) -> None:
    text = "[    2.1] Kernel panic - not syncing: VFS: Unable to mount root fs\n"
    starts = iter([FakeRunning(tmp_path, text, dies=True)])
    with pytest.raises(MachineLost, match="did not boot under QEMU: Kernel panic - not syncing: VFS"):
        bring_up(lambda: next(starts))  # type: ignore[arg-type, return-value]


INT3 = """[    1.605000] Oops: int3: 0000 [#1] SMP PTI
[    1.605100] CPU: 1 UID: 0 PID: 0 Comm: swapper/1 Not tainted 7.3.4
[    1.610161] Kernel panic - not syncing: Fatal exception in interrupt"""


def test_emulators_int3_oops_is_retried_once(answering: FakeRunning, tmp_path: Path) -> None:
    starts = iter([FakeRunning(tmp_path, INT3, dies=True), answering])
    booted = bring_up(lambda: next(starts))  # type: ignore[arg-type, return-value]
    assert booted.attempts == 2
    booted.machine.close()
    with pytest.raises(MachineLost, match="int3"):
        bring_up(lambda: FakeRunning(tmp_path, INT3, dies=True))  # type: ignore[arg-type, return-value]


def test_int3_oops_on_kvm_is_reported_without_retry(tmp_path: Path) -> None:
    running = FakeRunning(tmp_path, INT3, dies=True)
    running.plan.accel = "kvm"
    starts = iter([running])
    with pytest.raises(MachineLost, match="int3"):
        bring_up(lambda: next(starts))  # type: ignore[arg-type, return-value]


def test_boot_without_agent_channel_fails_at_once(tmp_path: Path) -> None:
    text = "[   12.0] damon-tests-agent: no channel to the host: no port damon-tests.agent\n"
    began = time.monotonic()
    with pytest.raises(MachineLost, match="neither a virtio port nor a serial line"):
        bring_up(lambda: FakeRunning(tmp_path, text))  # type: ignore[arg-type, return-value]
    assert time.monotonic() - began < boot.STALL_S
