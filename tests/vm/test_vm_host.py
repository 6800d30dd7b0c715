# SPDX-License-Identifier: GPL-2.0
"""``--kernel host`` on a real kernel: whole runs inside a guest test the guest's own DAMON.

A guest is used because the developer's machine may use its own DAMON. The guest's userland has what
the project needs; the project is copied into the guest's memory.
"""

from __future__ import annotations

import io
import re
import signal
import tarfile
import time
from collections.abc import Callable, Iterator
from functools import partial

import pytest

from damon_tests import bundle
from damon_tests.damon.users import ADMIN
from damon_tests.kernel.guest.guest import Guest, Guests
from damon_tests.kernel.guest.topology import Topology
from damon_tests.kernel.images import userland
from damon_tests.kernel.images.image import resolve
from damon_tests.kernel.images.packages import ArchiveUnreachable
from damon_tests.kernel.images.programs import ENGINE, program
from damon_tests.ports import NSEC_PER_SEC, FileOp, NotSupported, Process, SpawnRequest

pytestmark = [pytest.mark.vm, pytest.mark.slow]

LIBRARIES = ("numpy", "parse", "pytest", "pytest-xdist", "yaml", "filelock", "jsonschema", "psutil", "rich")
TOPOLOGY = Topology(
    memory_mib=1536, userland=True, packages=tuple(f"python3-{library}" for library in LIBRARIES)
)

KDAMONDS = f"{ADMIN}/kdamonds"
MODULE = "/sys/module/damon_stat/parameters/enabled"
INSTANCES = "/sys/kernel/tracing/instances"
PROJECT = "/tmp/project"
JOURNALS = f"{userland.MOUNTED_AT}/run/damon-tests/journal"
COPIED = ("damon_tests", "suites", "workloads/patterns", "workloads/src", "pyproject.toml")

SOON_S = 60.0
RUN_NS = 240 * NSEC_PER_SEC

# The tests end it long before.
LONG = """
from damon_tests.damon.params import DamonCtx

def test_long(experiment, expect):
    experiment("hot_cold", DamonCtx(), seconds=3600).observe()
"""

# A splat is written to the kernel's log while this test runs.
SHORT = """
from damon_tests.damon.params import DamonCtx
from damon_tests.judge.verdict import Measurement

def test_short(experiment, expect):
    observation = experiment("idle", DamonCtx(), seconds=8).observe()
    count = Measurement("snapshots", float(len(observation.recording.snapshots)), "count")
    expect.at_least(count, 1, because="it was watched")
"""
REPORT = """<4>------------[ cut here ]------------
<4>WARNING: mm/page_alloc.c:1 at {what}+0x50/0x60, CPU#1: {task}/77
<4>Call Trace:
<4> <TASK>
<4> {what}+0xf2/0x120
<4> </TASK>
<4>---[ end trace 0000000000000000 ]---
"""


def copy_of_the_project() -> bytes:
    """Return a tar file of what a run needs. Raises NotSupported when the workload engine cannot be built."""
    engine = program(ENGINE)
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        for name in COPIED:
            tar.add(bundle.root() / name, name, filter=lambda m: None if "__pycache__" in m.name else m)
        tar.add(engine, f"workloads/build/{ENGINE}")
        for name, text in {"long/test_long.py": LONG, "long/test_short.py": SHORT}.items():
            info = tarfile.TarInfo(name)
            info.size = len(text)
            tar.addfile(info, io.BytesIO(text.encode()))
    return archive.getvalue()


def python(guest: Guest, *arguments: str) -> Process:
    """Start the userland's Python in the guest's copy of the project."""
    argv = userland.chroot(["/usr/bin/env", "-C", PROJECT, "/usr/bin/python3", *arguments])
    return guest.machine.spawn(SpawnRequest(argv, {"PATH": "/usr/bin:/usr/sbin", "HOME": "/tmp"}))


def run(guest: Guest, *arguments: str) -> Process:
    """Start ``damon-tests run --kernel host`` in the guest."""
    return python(guest, "-m", "damon_tests.cli", "run", "--kernel=host", *arguments)


def monitor(guest: Guest, *arguments: str) -> Process:
    """Start ``damon-tests monitor hot_cold --kernel host`` in the guest."""
    return python(guest, "-m", "damon_tests.cli", "monitor", "hot_cold", "--kernel=host", *arguments)


def output(process: Process) -> str:
    return process.read_stdout().decode() + process.read_stderr().decode()


def names(guest: Guest, directory: str) -> list[str]:
    (entries,) = guest.machine.batch([FileOp("list", directory)])
    return [] if isinstance(entries, (bytes, OSError)) else [entry.path for entry in entries]


def read(guest: Guest, path: str) -> str:
    return guest.machine.read_file(path).decode().strip()


def until(done: Callable[[], bool], what: str, process: Process | None = None) -> None:
    deadline = time.monotonic() + SOON_S
    while not done():
        if process is not None and (status := process.poll()) is not None:
            pytest.fail(f"the run has ended ({status}) before {what}: {output(process)}")
        assert time.monotonic() < deadline, f"not within {SOON_S:g} s: {what}"
        time.sleep(0.1)


def is_on(guest: Guest) -> bool:
    """Return whether a kdamond is on and its trace events are being recorded."""
    if read(guest, f"{KDAMONDS}/nr_kdamonds") == "0" or not names(guest, INSTANCES):
        return False
    try:
        return read(guest, f"{KDAMONDS}/0/state") == "on"
    except OSError:  # EBUSY: the run is executing a command
        return False


def is_clean(guest: Guest) -> bool:
    """Return whether no state of a run is left in the kernel."""
    count = read(guest, f"{KDAMONDS}/nr_kdamonds")
    return count == "0" and not names(guest, INSTANCES) and not engines(guest)


def engines(guest: Guest) -> list[int]:
    """Return the pids of workload engines."""
    return pids(guest, f"{PROJECT}/workloads/build/{ENGINE}\0")


def guards(guest: Guest) -> list[int]:
    return pids(guest, "\0damon_tests.kernel.host.guard\0")


def pids(guest: Guest, part: str) -> list[int]:
    """Return the pids of processes with ``part`` in their command line."""
    numbers = [name for name in names(guest, "/proc") if name.isdecimal()]
    texts = guest.machine.batch([FileOp("read", f"/proc/{number}/cmdline") for number in numbers])
    processes = zip(numbers, texts, strict=True)
    return [int(number) for number, text in processes if isinstance(text, bytes) and part.encode() in text]


@pytest.fixture(scope="module")
def guest(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guest]:
    try:
        project = copy_of_the_project()
        userland.disk(None, TOPOLOGY.packages)
    except (NotSupported, ArchiveUnreachable) as error:
        pytest.skip(f"no userland with {', '.join(LIBRARIES)}: {error}")
    with Guests(tmp_path_factory.mktemp("guests")) as guests:
        made = guests.fresh(resolve("debian:newest"), TOPOLOGY, seed=1)
        made.machine.write_file(f"{userland.MOUNTED_AT}/tmp/project.tar", project, create=True)
        made.machine.batch([FileOp("mkdir", userland.MOUNTED_AT + PROJECT)])
        unpacking = python(made, "-m", "tarfile", "-e", "/tmp/project.tar", ".")
        assert unpacking.wait(int(SOON_S) * NSEC_PER_SEC).ok, output(unpacking)
        yield made


@pytest.fixture
def long_run(guest: Guest) -> Iterator[Process]:
    """A run whose kdamond is on."""
    process = run(guest, "long/test_long.py")
    until(partial(is_on, guest), "a kdamond is on", process)
    yield process
    process.kill(signal.SIGKILL)


def test_suites_pass_on_the_hosts_kernel(guest: Guest) -> None:
    process = run(
        guest,
        "suites/monitoring/test_hot_cold.py::test_hot_set_is_found",
        "suites/monitoring/test_tree.py",
    )
    status = process.wait(RUN_NS)
    printed = output(process)
    assert status.ok, printed
    assert "PASS 3" in printed
    assert is_clean(guest)
    assert names(guest, JOURNALS) == []


def test_monitor_shows_a_pattern_to_the_hosts_damon(guest: Guest) -> None:
    process = monitor(guest, "--seconds=5")
    status = process.wait(RUN_NS)
    printed = output(process)
    assert status.ok, printed
    assert "watched by DAMON of host" in printed
    # The pattern keeps 8 MiB hot.
    assert re.search(r"hot [78](\.\d+)? MiB.*kdamond \d+\.\d+% of a CPU", printed), printed
    assert is_clean(guest)


def test_guard_cleans_up_after_a_monitor_that_was_killed(guest: Guest) -> None:
    process = monitor(guest)
    until(partial(is_on, guest), "a kdamond is on", process)
    process.kill(signal.SIGKILL)
    assert process.wait(int(SOON_S) * NSEC_PER_SEC).signal == signal.SIGKILL
    until(lambda: is_clean(guest) and not guards(guest), "the guard has restored everything")
    assert names(guest, JOURNALS) == []


@pytest.mark.parametrize(
    ("what", "task", "code"), [("damon_merge_two_regions", "kdamond.0", 1), ("do_something", "nginx", 0)]
)
def test_complaints_of_the_hosts_kernel_about_damon_are_failures(
    guest: Guest, what: str, task: str, code: int
) -> None:
    process = run(guest, "long/test_short.py")
    until(partial(is_on, guest), "a kdamond is on", process)
    for line in REPORT.format(what=what, task=task).splitlines():
        guest.machine.write_file("/dev/kmsg", f"{line}\n".encode())
    status = process.wait(RUN_NS)
    printed = output(process)
    assert status.code == code, printed
    assert (what in printed) == bool(code)
    assert is_clean(guest)


def test_kdamonds_of_others_are_left_alone(guest: Guest) -> None:
    guest.machine.write_file(f"{KDAMONDS}/nr_kdamonds", b"2")
    before = guest.machine.batch([FileOp("walk", KDAMONDS)])
    process = run(guest, "suites/monitoring/test_tree.py::test_files_accept_exactly_the_words_of_their_level")
    status = process.wait(RUN_NS)
    printed = output(process)
    after = guest.machine.batch([FileOp("walk", KDAMONDS)])
    guest.machine.write_file(f"{KDAMONDS}/nr_kdamonds", b"0")
    assert status.code == 5, printed  # nothing ran
    assert "DAMON is in use: nr_kdamonds is 2" in printed
    assert after == before


def test_a_module_is_stopped_and_restored_when_asked(guest: Guest) -> None:
    """DAMON_STAT, which Debian's kernels have on."""
    guest.machine.write_file(MODULE, b"Y")
    process = run(
        guest,
        "--stop-modules",
        "suites/monitoring/test_tree.py::test_files_accept_exactly_the_words_of_their_level",
    )
    status = process.wait(RUN_NS)
    was = read(guest, MODULE)
    guest.machine.write_file(MODULE, b"N")
    assert status.ok, output(process)
    assert was == "Y"
    assert is_clean(guest)


def test_the_guard_cleans_up_after_a_run_that_was_killed(guest: Guest, long_run: Process) -> None:
    assert len(guards(guest)) == 1
    long_run.kill(signal.SIGKILL)
    assert long_run.wait(int(SOON_S) * NSEC_PER_SEC).signal == signal.SIGKILL
    until(lambda: is_clean(guest) and not guards(guest), "the guard has restored everything")
    assert names(guest, JOURNALS) == []


def test_the_next_run_cleans_up_when_the_guard_was_killed_too(guest: Guest, long_run: Process) -> None:
    (guard,) = guards(guest)
    killing = python(guest, "-c", f"import os; os.kill({guard}, 9); os.kill({long_run.pid}, 9)")
    assert killing.wait(int(SOON_S) * NSEC_PER_SEC).ok, output(killing)
    assert long_run.wait(int(SOON_S) * NSEC_PER_SEC).signal == signal.SIGKILL
    # No process was left to clean up. (The kdamond may be off by now: its target died with the run.)
    assert read(guest, f"{KDAMONDS}/nr_kdamonds") == "1"
    assert names(guest, INSTANCES)
    process = run(guest, "suites/monitoring/test_tree.py::test_files_accept_exactly_the_words_of_their_level")
    status = process.wait(RUN_NS)
    printed = output(process)
    assert status.ok, printed
    assert f"cleaned up after a dead run (pid {long_run.pid}" in printed
    assert is_clean(guest)
