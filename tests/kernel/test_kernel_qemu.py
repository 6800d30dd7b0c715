# SPDX-License-Identifier: GPL-2.0
"""QEMU: finding a usable version, its command line, and its death with the process that started it."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from damon_tests.kernel.guest import qemu
from damon_tests.kernel.guest.qemu import Qemu, QemuProcess, is_new_enough, memory_options, version_of
from damon_tests.kernel.guest.qmp import Qmp
from damon_tests.kernel.images.arch import X86_64
from damon_tests.kernel.images.packages import ArchiveUnreachable
from damon_tests.ports import HarnessError, NotSupported, TimedOut


def fake_qemu(path: Path, version: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\necho 'QEMU emulator version {version} (Debian)'\n")
    path.chmod(0o755)
    return path


@pytest.mark.parametrize(
    ("version", "good"), [("7.2.0", False), ("9.2.4", False), ("10.0.2", True), ("11.0", True)]
)
def test_versions_from_10_are_new_enough(version: str, good: bool) -> None:
    assert is_new_enough(version) is good


def test_broken_program_has_no_version(tmp_path: Path) -> None:
    assert version_of(tmp_path / "absent") is None
    broken = tmp_path / "broken"
    broken.write_text("#!/bin/sh\necho version 10.0.2; exit 127\n")
    broken.chmod(0o755)
    assert version_of(broken) is None


def test_qemu_on_path_is_preferred(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    binary = fake_qemu(tmp_path / "bin" / X86_64.qemu_binary, "10.1.0")
    monkeypatch.setenv("PATH", f"{binary.parent}:{os.environ['PATH']}")
    assert qemu.find(tmp_path / "cache") == Qemu(binary, "10.1.0")


def test_old_qemu_is_refused_with_the_remedy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    binary = fake_qemu(tmp_path / "bin" / X86_64.qemu_binary, "7.2.19")
    monkeypatch.setenv("PATH", f"{binary.parent}:{os.environ['PATH']}")

    def away(*_: object) -> None:
        raise ArchiveUnreachable("no network")

    monkeypatch.setattr(qemu, "_fetch_from", away)
    with pytest.raises(
        NotSupported, match=r"7\.2\.19, and older than 10 corrupts.*no network.*install QEMU 10"
    ):
        qemu.find(tmp_path / "cache")


def test_unpacked_qemu_is_used_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(qemu.shutil, "which", lambda _: None)
    directory = tmp_path / "qemu" / "10.0.2_00"
    binary = fake_qemu(directory / "usr/bin" / X86_64.qemu_binary, "10.0.2")
    (directory / "usr/share/qemu").mkdir(parents=True)
    (directory / "qemu.json").write_text(json.dumps({"packages": [["qemu-system-x86", "1:10.0.2", "00"]]}))
    usable = qemu.find(tmp_path)
    assert (usable.binary, usable.version) == (binary, "10.0.2")
    assert usable.command()[1:] == ["-L", str(directory / "usr/share/qemu")]


def test_memory_is_split_between_two_nodes() -> None:
    options = memory_options([Path("/a,b/m0"), Path("/a/m1")], 1025, 2, 4, share=True)
    assert options == [
        "-object",
        "memory-backend-file,id=m0,mem-path=/a,,b/m0,share=on,size=513M",
        "-numa",
        "node,nodeid=0,memdev=m0,cpus=0-3",
        "-object",
        "memory-backend-file,id=m1,mem-path=/a/m1,share=on,size=512M",
        "-numa",
        "node,nodeid=1,memdev=m1",
    ]


def test_emulation_has_the_fast_cpu_model() -> None:
    options = qemu.machine_options("tcg", "host", 2, 1024)
    assert options[options.index("-cpu") + 1] == "max,-la57,-erms,-fsrm,-avx,-avx2"
    assert "-no-reboot" in options
    assert "-icount" not in options


def test_instruction_clock_is_for_emulation_only() -> None:
    options = qemu.machine_options("tcg", "instructions", 2, 1024)
    assert options[options.index("-icount") + 1] == "shift=0,sleep=off"
    assert "-icount" not in qemu.machine_options("kvm", "instructions", 2, 1024)


# The process: a program that sleeps and holds its sockets stands in for QEMU


@pytest.fixture
def sleeper(tmp_path: Path) -> Qemu:
    script = tmp_path / "sleeper"
    script.write_text("#!/bin/sh\necho complaint >&2\nexec sleep 600\n")
    script.chmod(0o755)
    return Qemu(script, "10.0.2")


def gone(pid: int, within_s: float = 10.0) -> bool:
    """Return whether a process ends in time; a zombie whose parent was killed counts as ended."""
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0]
        except OSError:
            return True
        if state == "Z":
            return True
        time.sleep(0.01)
    return False


def test_sockets_are_passed_on_and_closed_at_exit(sleeper: Qemu, tmp_path: Path) -> None:
    mine, theirs = socket.socketpair()
    process = QemuProcess(sleeper, [], tmp_path / "log", {"agent": theirs})
    try:
        assert process.argv[-1].startswith("socket,id=agent,fd=")
        assert process.poll() is None
        mine.settimeout(0.05)
        with pytest.raises(TimeoutError):  # the other end is open
            mine.recv(1)
        deadline = time.monotonic() + 60
        while not process.complaint() and time.monotonic() < deadline:
            time.sleep(0.05)
    finally:
        process.kill()
    mine.settimeout(10)
    assert mine.recv(1) == b""
    assert process.poll() == -signal.SIGKILL
    assert process.complaint() == "complaint"
    mine.close()


def test_qemu_outlives_the_thread_that_started_it(sleeper: Qemu, tmp_path: Path) -> None:
    started: list[QemuProcess] = []
    thread = threading.Thread(target=lambda: started.append(QemuProcess(sleeper, [], tmp_path / "log", {})))
    thread.start()
    thread.join()
    try:
        assert not gone(started[0].pid, within_s=0.3)
    finally:
        started[0].kill()


def test_qemu_dies_when_its_process_is_killed(sleeper: Qemu, tmp_path: Path) -> None:
    code = (
        "import sys, time\nfrom pathlib import Path\n"
        "from damon_tests.kernel.guest.qemu import Qemu, QemuProcess\n"
        "process = QemuProcess(Qemu(Path(sys.argv[1]), '10'), [], Path(sys.argv[2]), {})\n"
        "print(process.pid, flush=True)\ntime.sleep(600)\n"
    )
    command = [sys.executable, "-c", code, str(sleeper.binary), str(tmp_path / "log")]
    parent = subprocess.Popen(command, stdout=subprocess.PIPE)
    assert parent.stdout is not None
    pid = int(parent.stdout.readline())
    assert not gone(pid, within_s=0.1)
    parent.kill()
    parent.wait()
    parent.stdout.close()
    assert gone(pid)


# QMP


def answering(*replies: object) -> tuple[Qmp, threading.Thread, list[object]]:
    """Return a control connection to a peer that gives these answers in turn, and its list of requests."""
    ours, theirs = socket.socketpair()
    asked: list[object] = []

    def serve() -> None:
        with theirs, theirs.makefile("rw") as file:
            print(json.dumps({"QMP": {}}), file=file, flush=True)
            for reply in ({"return": {}}, *replies):
                asked.append(json.loads(file.readline()))
                print(json.dumps({"event": "STOP"}), file=file)
                print(json.dumps(reply), file=file, flush=True)

    thread = threading.Thread(target=serve)
    thread.start()
    return Qmp(ours, timeout_s=10), thread, asked


def test_qmp_calls_skip_events() -> None:
    qmp, thread, asked = answering({"return": {"status": "running"}})
    assert qmp.call("query-status", some_flag=True) == {"status": "running"}
    thread.join()
    assert asked[1] == {"execute": "query-status", "arguments": {"some-flag": True}}
    with pytest.raises(HarnessError, match=r"has closed|does not take"):
        qmp.call("stop")
    qmp.close()


def test_qmp_refusal_quotes_qemu() -> None:
    qmp, thread, _ = answering({"error": {"desc": "no such thing"}}, {"return": {"status": "failed"}})
    with pytest.raises(HarnessError, match="no such thing"):
        qmp.call("nonsense")
    with pytest.raises(HarnessError, match="could not save or load"):
        qmp.wait_migration()
    thread.join()
    qmp.close()


def test_call_to_a_silent_qemu_times_out() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs, pytest.raises(TimedOut):
        Qmp(ours, timeout_s=0.05)
