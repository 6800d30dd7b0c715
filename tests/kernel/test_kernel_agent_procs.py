# SPDX-License-Identifier: GPL-2.0
"""Processes through the real agent; this machine must keep the port's promises, too."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from agent_under_test import SOON_NS, agent_machine, eventually

from damon_tests.kernel.agent.machine import AgentMachine
from damon_tests.ports import (
    NSEC_PER_MSEC,
    ExitStatus,
    FileOp,
    HarnessError,
    Machine,
    Process,
    SpawnRequest,
    TimedOut,
)


def sh(script: str) -> SpawnRequest:
    return SpawnRequest(["/bin/sh", "-c", script], {"PATH": os.defpath})


def python(script: str) -> SpawnRequest:
    return SpawnRequest([sys.executable, "-c", script])


def is_alive(pid: int) -> bool:
    try:
        return "State:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):  # the latter: it ended between open and read
        return False


def read_until(process: Process, wanted: bytes) -> bytes:
    got = b""

    def enough() -> bool:
        nonlocal got
        got += process.read_stdout()
        return wanted in got

    assert eventually(enough), got
    return got


def test_process_returns_output_and_exit_code(machine: Machine) -> None:
    process = machine.spawn(sh("echo out; echo err >&2; exit 3"))
    assert process.wait(SOON_NS) == ExitStatus(3, None)
    assert process.poll() == ExitStatus(3, None)
    # Once its exit is reported, its output has arrived.
    assert process.read_stdout() == b"out\n"
    assert process.read_stderr() == b"err\n"
    assert process.read_stdout() == b""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGUSR1, signal.SIGTERM, signal.SIGPIPE])
def test_fatal_signal_is_in_the_exit_status(machine: Machine, number: int) -> None:
    """This includes the signals that the agent itself ignores or blocks."""
    process = machine.spawn(SpawnRequest(["/bin/sleep", "1000"]))
    assert process.poll() is None
    process.kill(number)
    status = process.wait(SOON_NS)
    assert status == ExitStatus(None, number)
    assert not status.ok
    process.kill(number)  # no error after its exit


def test_pid_is_the_pid_on_the_machine(machine: Machine) -> None:
    process = machine.spawn(sh("echo $$"))
    assert process.wait(SOON_NS).ok
    assert int(process.read_stdout()) == process.pid


def test_environment_directory_and_arguments_are_as_requested(machine: Machine, tmp_path: Path) -> None:
    script = "import os, sys; print(dict(os.environ), os.getcwd(), sys.argv)"
    argv = [sys.executable, "-c", script, "", "with space", "ü"]
    environment = {"PYTHONCOERCECLOCALE": "0", "LC_ALL": "C.UTF-8", "A": "=b"}
    process = machine.spawn(SpawnRequest(argv, environment, str(tmp_path)))
    assert process.wait(SOON_NS).ok
    expected = f"{environment} {tmp_path} ['-c', '', 'with space', 'ü']\n"
    assert process.read_stdout().decode() == expected


def test_a_program_is_found_by_the_path_of_its_environment(machine: Machine, tmp_path: Path) -> None:
    program = tmp_path / "some-program"
    program.write_text("#!/bin/sh\necho found\n")
    program.chmod(0o755)
    process = machine.spawn(SpawnRequest(["some-program"], {"PATH": str(tmp_path)}))
    assert process.wait(SOON_NS).ok
    assert process.read_stdout() == b"found\n"


def test_program_that_cannot_start_is_an_oserror(machine: Machine, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no-such-program"):
        machine.spawn(SpawnRequest(["/no-such-program"]))
    (tmp_path / "no_program").write_text("text")
    with pytest.raises(PermissionError):
        machine.spawn(SpawnRequest([str(tmp_path / "no_program")]))
    with pytest.raises(FileNotFoundError):
        machine.spawn(SpawnRequest(["/bin/true"], cwd="/no/such/directory"))


def test_stdin_is_fed_and_closed(machine: Machine) -> None:
    process = machine.spawn(SpawnRequest(["/bin/cat"]))
    process.write_stdin(b"first\n")
    assert read_until(process, b"\n") == b"first\n"
    data = os.urandom(1_000_000)  # more than a pipe holds
    process.write_stdin(data)
    process.close_stdin()
    assert process.wait(SOON_NS).ok
    assert process.read_stdout() == data


def test_writing_to_closed_stdin_raises_broken_pipe(machine: Machine) -> None:
    process = machine.spawn(sh("exec <&-; echo closed; exec sleep 1000"))
    read_until(process, b"closed")
    with pytest.raises(BrokenPipeError):
        process.write_stdin(b"x")
    process.kill(signal.SIGKILL)
    process.wait(SOON_NS)


def test_output_arrives_while_process_runs(machine: Machine) -> None:
    process = machine.spawn(sh("echo early; exec sleep 1000"))
    read_until(process, b"early\n")
    assert process.poll() is None
    process.kill(signal.SIGKILL)
    process.wait(SOON_NS)


def test_large_output_arrives_whole_without_reads(machine: Machine) -> None:
    script = (
        "import sys; d = bytes(range(256)) * 20000; sys.stdout.buffer.write(d); sys.stderr.buffer.write(d)"
    )
    process = machine.spawn(python(script))
    assert process.wait(SOON_NS).ok
    expected = bytes(range(256)) * 20000
    assert process.read_stdout() == expected
    assert process.read_stderr() == expected


def test_wait_times_out(machine: Machine) -> None:
    process = machine.spawn(SpawnRequest(["/bin/sleep", "1000"]))
    with pytest.raises(TimedOut, match="sleep"):
        process.wait(NSEC_PER_MSEC)
    process.kill(signal.SIGKILL)
    process.wait(SOON_NS)


def test_child_that_keeps_the_pipes_does_not_hide_the_exit(machine: Machine) -> None:
    process = machine.spawn(sh("sleep 1000 & echo $!"))
    assert process.wait(SOON_NS).ok
    os.kill(int(process.read_stdout()), signal.SIGKILL)


def test_many_processes_do_not_mix(machine: Machine) -> None:
    processes = [machine.spawn(sh(f"echo {i}; exit {i}")) for i in range(20)]
    for i, process in enumerate(processes):
        assert process.wait(SOON_NS).code == i
        assert process.read_stdout() == f"{i}\n".encode()


def test_signals_are_not_inherited_blocked_or_ignored(machine: Machine) -> None:
    # Not through a shell: dash unblocks everything for its children.
    process = machine.spawn(SpawnRequest(["/bin/grep", "-E", "^Sig(Blk|Ign)", "/proc/self/status"]))
    assert process.wait(SOON_NS).ok
    masks = [int(line.split()[1], 16) for line in process.read_stdout().splitlines()]
    python_restores = {signal.SIGPIPE}  # subprocess resets these by itself
    # A local process inherits the signal dispositions of this process, as in the background of a script.
    python_restores |= {s for s in (signal.SIGINT, signal.SIGQUIT) if signal.getsignal(s) is signal.SIG_IGN}
    ignored = masks[1] & ~sum(1 << (number - 1) for number in python_restores)
    assert masks[0] == 0
    assert ignored == 0


# --- only the agent ---


def test_no_descriptor_leaks_into_a_process(agent: AgentMachine, tmp_path: Path) -> None:
    fifo = str(tmp_path / "fifo")
    os.mkfifo(fifo)
    stream = agent.follow(fifo)
    full = str(tmp_path / "full")
    os.mkfifo(full)
    reader = os.open(full, os.O_RDONLY | os.O_NONBLOCK)
    pending = agent.begin_write_file(full, bytes(1 << 20))
    assert eventually(
        lambda: select.select([reader], [], [], 0)[0] != []
    )  # the agent has opened it, and blocks
    other = agent.spawn(SpawnRequest(["/bin/cat"]))
    process = agent.spawn(SpawnRequest(["/bin/ls", "/proc/self/fd"]))
    assert process.wait(SOON_NS).ok
    assert process.read_stdout().split() == [b"0", b"1", b"2", b"3"]  # 3: ls reads the directory
    other.kill(signal.SIGKILL)
    other.wait(SOON_NS)
    stream.close()
    os.close(reader)
    with pytest.raises(OSError, match="bytes were written"):
        pending.result(SOON_NS)


def test_unread_output_is_dropped_and_reported(tmp_path: Path) -> None:
    with agent_machine(stream_limit=1000) as (machine, _):
        process = machine.spawn(sh("head -c 5000 /dev/zero"))
        process.wait(SOON_NS)
        with pytest.raises(HarnessError, match="4000 bytes of the stdout"):
            process.read_stdout()
        assert process.read_stdout() == bytes(1000)  # the loss is reported only once


def test_unread_stdin_does_not_stall_other_requests() -> None:
    with agent_machine(operation_s=1) as (machine, _):
        process = machine.spawn(SpawnRequest(["/bin/sleep", "1000"]))
        with pytest.raises(TimedOut):
            process.write_stdin(bytes(200_000))
        machine.ping(SOON_NS)
        process.kill(signal.SIGKILL)
        process.wait(SOON_NS)


def test_replies_pass_a_flood_of_output() -> None:
    with agent_machine(stream_limit=1 << 20) as (machine, agent):
        process = machine.spawn(SpawnRequest(["/bin/cat", "/dev/zero"]))
        for _ in range(20):
            machine.ping(SOON_NS)
            assert machine.read_file("/proc/version")
        assert resident_mib(agent.pid) < 30
        process.kill(signal.SIGKILL)
        assert process.wait(SOON_NS).signal == signal.SIGKILL


def resident_mib(pid: int) -> float:
    line = next(x for x in Path(f"/proc/{pid}/status").read_text().splitlines() if x.startswith("VmRSS"))
    return int(line.split()[1]) / 1024


def test_memory_and_descriptors_do_not_grow() -> None:
    with agent_machine() as (machine, agent):

        def use() -> tuple[int, float]:
            for _ in range(100):
                machine.spawn(SpawnRequest(["/bin/true"])).wait(SOON_NS)
                machine.read_file("/proc/version")
            return len(os.listdir(f"/proc/{agent.pid}/fd")), resident_mib(agent.pid)

        descriptors, memory = use()
        later = use()
        assert later[0] == descriptors
        assert later[1] < memory + 1


def test_processes_left_over_die_with_the_agent() -> None:
    with agent_machine() as (machine, agent):
        process = machine.spawn(sh("sleep 1000 & echo $!; sleep 1000"))
        below = int(read_until(process, b"\n"))
        assert is_alive(below)
    assert agent.wait() == 0
    assert eventually(lambda: not is_alive(process.pid) and not is_alive(below))


def test_processes_die_even_when_the_agent_is_killed() -> None:
    with agent_machine() as (machine, agent):
        process = machine.spawn(SpawnRequest(["/bin/sleep", "1000"]))
        agent.kill()
        assert eventually(lambda: not is_alive(process.pid))


def can_make_a_pid_namespace() -> bool:
    with contextlib.suppress(OSError):
        return subprocess.run(["unshare", "--pid", "--fork", "true"], check=False).returncode == 0
    return False


def test_as_pid_1_it_reaps_orphans() -> None:
    if not can_make_a_pid_namespace():
        pytest.skip("needs a PID namespace: run as root, with util-linux's unshare")
    with agent_machine("unshare", "--pid", "--fork", "--mount-proc") as (machine, _):
        assert machine.facts.pid == 1
        orphans = "for i in 1 2 3 4 5; do (sh -c 'sleep 0.01 & sleep 0.01' &) ; done; exit 7"
        assert machine.spawn(sh(orphans)).wait(SOON_NS).code == 7

        def processes() -> list[str]:
            (listed,) = machine.batch([FileOp("list", "/proc")])
            assert not isinstance(listed, OSError | bytes)
            return [entry.path for entry in listed if entry.path.isdigit()]

        assert eventually(lambda: processes() == ["1"])
