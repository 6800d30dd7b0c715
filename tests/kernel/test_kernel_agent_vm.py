# SPDX-License-Identifier: GPL-2.0
"""The agent as init of a real kernel (marked vm)."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import pytest
from agent_under_test import SOON_NS, eventually

from damon_tests.kernel.agent.machine import AgentMachine
from damon_tests.kernel.guest.guest import Guests
from damon_tests.kernel.guest.topology import Topology
from damon_tests.kernel.images import image
from damon_tests.kernel.machine_tree import MachineTree
from damon_tests.ports import NSEC_PER_SEC, ByteStream, FileOp, MachineLost, SpawnRequest

pytestmark = pytest.mark.vm

KERNELS = os.environ.get("DAMON_TESTS_VM_KERNELS", "debian:stable debian:newest").split()
TRACING = "/sys/kernel/tracing"
ADMIN = "/sys/kernel/mm/damon/admin"


@pytest.fixture(scope="module", params=KERNELS)
def machine(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[AgentMachine]:
    with Guests(tmp_path_factory.mktemp("run")) as guests:
        yield guests.fresh(image.resolve(request.param), Topology(), 1).machine


def read_until(stream: ByteStream, wanted: bytes) -> bytes:
    got = b""

    def enough() -> bool:
        nonlocal got
        got += stream.read()
        return wanted in got

    assert eventually(enough), got[-1000:]
    return got


def test_agent_is_init_and_mounts_every_file_system(machine: AgentMachine) -> None:
    assert machine.facts.pid == 1
    mounted = {
        tuple(line.split()[1:3]) for line in machine.read_file("/proc/self/mounts").decode().splitlines()
    }
    assert {
        ("/proc", "proc"),
        ("/sys", "sysfs"),
        ("/dev", "devtmpfs"),
        ("/tmp", "tmpfs"),
        ("/run", "tmpfs"),
        (TRACING, "tracefs"),
        ("/sys/fs/cgroup", "cgroup2"),
    } <= mounted


def test_agent_needs_little_memory_and_is_not_swapped_out(machine: AgentMachine) -> None:
    machine.write_file("/tmp/large", bytes(20 << 20), create=True)
    assert machine.read_file("/tmp/large") == bytes(20 << 20)
    machine.batch([FileOp("unlink", "/tmp/large")])
    status = dict(line.split(":", 1) for line in machine.read_file("/proc/1/status").decode().splitlines())
    assert int(status["VmRSS"].split()[0]) < 4096
    assert int(status["VmLck"].split()[0]) > 0


def test_trace_pipe_delivers_every_line_in_order(machine: AgentMachine) -> None:
    # Until someone enlarges it or enables an event, the buffer has 7 KiB: too little on a busy machine.
    machine.write_file(f"{TRACING}/buffer_size_kb", b"1024\n")
    stream = machine.follow(f"{TRACING}/trace_pipe")
    marks = [FileOp("write", f"{TRACING}/trace_marker", b"mark %d.\n" % i) for i in range(1000)]
    machine.batch(marks)
    text = read_until(stream, b"mark 999.\n")
    assert [int(part.split(b".")[0]) for part in text.split(b"mark ")[1:]] == list(range(1000))
    assert stream.lost() == 0
    stream.close()
    machine.follow(f"{TRACING}/trace_pipe").close()  # EBUSY while another reader has it: the agent closed it


def test_kmsg_delivers_new_messages(machine: AgentMachine) -> None:
    stream = machine.follow("/dev/kmsg")
    read_until(stream, b"Linux version")
    machine.write_file("/dev/kmsg", b"<6>damon-tests was here\n")
    read_until(stream, b"damon-tests was here")
    stream.close()


def test_processes_run_and_report_their_exit(machine: AgentMachine) -> None:
    process = machine.spawn(SpawnRequest(["/init", "--nonsense"]))
    assert process.wait(SOON_NS).code == 2
    assert b"usage: damon-tests-agent" in process.read_stderr()
    # A second agent in the guest waits for a client forever.
    process = machine.spawn(SpawnRequest(["/init", "--unix", "/tmp/socket"]))
    assert eventually(lambda: MachineTree(machine).exists("/tmp/socket"))
    process.kill(signal.SIGKILL)
    assert process.wait(SOON_NS).signal == signal.SIGKILL


def test_mount_and_reseed_work(machine: AgentMachine) -> None:
    machine.batch([FileOp("mkdir", "/tmp/inner", mode=0o755)])
    machine.mount("none", "/tmp/inner", "tmpfs", data="size=1m")
    assert b" /tmp/inner tmpfs" in machine.read_file("/proc/mounts")
    machine.reseed(os.urandom(64))


def test_damon_tree_reads_and_writes_through_the_agent(machine: AgentMachine) -> None:
    tree = MachineTree(machine)
    tree.write(f"{ADMIN}/kdamonds/nr_kdamonds", "1")
    values = {entry.path: entry.value for entry in tree.walk(ADMIN)}
    assert values["kdamonds/nr_kdamonds"] == "1\n"
    assert values["kdamonds/0/state"] == "off\n"
    with pytest.raises(OSError, match="EINVAL"):
        tree.write(f"{ADMIN}/kdamonds/0/state", "nonsense")
    tree.write(f"{ADMIN}/kdamonds/nr_kdamonds", "0")
    assert not tree.exists(f"{ADMIN}/kdamonds/0")


def power_off(machine: AgentMachine) -> None:
    """Power the guest off, and wait in it; the answer to the write may come, or not."""
    machine.batch([FileOp("write", "/proc/sysrq-trigger", data=b"o")])
    machine.clock.run_for(60 * NSEC_PER_SEC)


def test_calls_after_poweroff_are_machine_lost(machine: AgentMachine) -> None:
    """This test must be the last: the guest does not come back."""
    with pytest.raises(MachineLost):
        power_off(machine)
    machine.close()
