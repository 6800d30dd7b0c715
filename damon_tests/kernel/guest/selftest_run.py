# SPDX-License-Identifier: GPL-2.0
"""Run one of the kernel's DAMON selftests in a guest, under the kernel's own runner.

Each runs in a guest of its own, so that what one leaves behind, or breaks, cannot reach the next. While it
runs, the guest counts how often kdamonds wake up and how often DAMON reports a region as accessed.
"""

from __future__ import annotations

import contextlib
import io
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from damon_tests.kernel.guest.guest import Guest
from damon_tests.kernel.guest.topology import Topology
from damon_tests.kernel.images import userland
from damon_tests.kernel.images.selftests import COLLECTION, RUNNER
from damon_tests.ports import (
    NSEC_PER_MSEC,
    NSEC_PER_SEC,
    FileOp,
    HarnessError,
    Machine,
    MachineLost,
    SpawnRequest,
)

DEBUGFS = "/sys/kernel/debug/damon"

TOPOLOGY = Topology(memory_mib=1024, userland=True)

_DIRECTORY = "/tmp/kselftest"
_COPY_NS = 120 * NSEC_PER_SEC
# The runner prints to /dev/stdout, which no udev made here.
_START = """
ln -sf /proc/self/fd/0 /dev/stdin
ln -sf /proc/self/fd/1 /dev/stdout
ln -sf /proc/self/fd/2 /dev/stderr
cd "$0" && exec "$@"
"""
_POLL_NS = 100 * NSEC_PER_MSEC
_GRACE_S = 30  # for the runner, beyond the program's timeout
_ENVIRONMENT = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root", "LC_ALL": "C"}
_INSTANCES = "/sys/kernel/tracing/instances"
_KDAMONDS = "/sys/kernel/mm/damon/admin/kdamonds"
_WAKEUPS = ("sched/sched_wakeup_new", "sched/sched_wakeup")
_AGGREGATED = ("damon/damon_aggregated",)
_MODULES = ("damon_reclaim", "damon_lru_sort", "damon_stat")


@dataclass(frozen=True)
class GuestRun:
    """``printed``: by the runner. ``kernel_log``: what the kernel printed meanwhile. ``lost``: why the guest
    is gone, empty if it is not. ``wakeups`` (of kdamonds), ``accessed_regions``: counts, None where the
    kernel lacks the events."""

    printed: str
    kernel_log: str
    ended: bool
    wakeups: int | None
    accessed_regions: int | None
    left_behind: tuple[str, ...]
    lost: str = ""


def packed(installed: Path) -> bytes:
    """Return the installed selftests as a tar file."""
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        tar.add(installed, ".")
    return archive.getvalue()


def has_debugfs(guest: Guest) -> bool:
    """Return whether the kernel has DAMON's debugfs files, which are gone since 6.14."""
    (status,) = guest.machine.batch([FileOp("stat", DEBUGFS)])
    return not isinstance(status, OSError)


def has_program(guest: Guest, name: str) -> bool:
    """Return whether the guest's userland has a program."""
    (status,) = guest.machine.batch([FileOp("stat", f"{userland.MOUNTED_AT}/usr/bin/{name}")])
    return not isinstance(status, OSError)


def run_selftest(guest: Guest, selftests: bytes, program: str, timeout_s: int) -> GuestRun:
    """Copy the ``packed`` selftests into a fresh guest and run one program there.

    ``timeout_s``: after which the kernel's runner ends the program. Raises HarnessError.
    """
    _copy(guest, selftests)
    before = _state(guest.machine)
    runner = [f"./{RUNNER}", "-t", f"{COLLECTION}:{program}", "-o", str(timeout_s)]
    argv = ["/bin/sh", "-c", _START, _DIRECTORY, *runner]
    printed = b""
    ended, lost = True, ""
    counts: list[int | None] = [None, None]
    left: tuple[str, ...] = ()
    try:
        counters = (
            # Kernels give a new thread its name before or after its first wake-up.
            _Counter.start(guest.machine, "wakeups", _WAKEUPS, 'comm ~ "kdamond*"'),
            _Counter.start(guest.machine, "accessed", _AGGREGATED, "nr_accesses > 0"),
        )
        process = guest.machine.spawn(SpawnRequest(userland.chroot(argv), _ENVIRONMENT))
        process.close_stdin()
        # By the guest's clock, as the runner's timeout: a busy host makes no test fail.
        deadline_ns = guest.machine.clock.now_ns() + (timeout_s + _GRACE_S) * NSEC_PER_SEC
        try:
            ended = guest.machine.clock.wait_until(lambda: process.poll() is not None, deadline_ns, _POLL_NS)
        finally:
            with contextlib.suppress(HarnessError):
                printed = process.read_stdout() + process.read_stderr()
        counts = [None if counter is None else counter.count() for counter in counters]
        left = tuple(_differences(before, _state(guest.machine)))
    except MachineLost as error:
        ended, lost = False, str(error).partition("\n")[0]
    text = printed.decode(errors="replace")
    return GuestRun(text, guest.dmesg(), ended, counts[0], counts[1], left, lost)


def _copy(guest: Guest, selftests: bytes) -> None:
    archive = f"{userland.MOUNTED_AT}/tmp/kselftest.tar"
    guest.machine.write_file(archive, selftests, create=True)
    guest.machine.batch([FileOp("mkdir", userland.MOUNTED_AT + _DIRECTORY)])
    command = ["/bin/busybox", "tar", "-xf", archive, "-C", userland.MOUNTED_AT + _DIRECTORY]
    process = guest.machine.spawn(SpawnRequest(command))
    status = process.wait(_COPY_NS)
    if not status.ok:
        raise HarnessError(f"the selftests cannot be unpacked in the guest: {process.read_stderr().decode()}")
    guest.machine.batch([FileOp("unlink", archive)])


@dataclass
class _Counter:
    """How often events happen, in a tracing instance of their own."""

    machine: Machine
    directory: str

    @classmethod
    def start(cls, machine: Machine, name: str, events: Sequence[str], condition: str) -> _Counter | None:
        """Begin to count; None if the kernel lacks one of the events."""
        directory = f"{_INSTANCES}/damon-tests-{name}"
        ops = [FileOp("mkdir", directory)]
        for event in events:
            ops.append(FileOp("write", f"{directory}/events/{event}/filter", condition.encode()))
            ops.append(FileOp("write", f"{directory}/events/{event}/enable", b"1"))
        made = machine.batch(ops, stop_on_error=True)
        return None if any(isinstance(result, OSError) for result in made) else cls(machine, directory)

    def count(self) -> int:
        """Return how many there were, those that the ring buffer dropped included."""
        (listed,) = self.machine.batch([FileOp("list", f"{self.directory}/per_cpu")])
        if isinstance(listed, OSError | bytes):
            raise HarnessError(f"{self.directory}/per_cpu cannot be listed: {listed!r}")
        paths = [f"{self.directory}/per_cpu/{entry.path}/stats" for entry in listed]
        return sum(_events(self.machine.read_file(path).decode()) for path in paths)


def _events(stats: str) -> int:
    """Return the events that a per_cpu/cpuN/stats file counts."""
    fields = dict(line.split(":", 1) for line in stats.splitlines() if ":" in line)
    return sum(int(fields[name]) for name in ("entries", "overrun", "dropped events"))


def _state(machine: Machine) -> dict[str, str]:
    """Return what of DAMON's state a test may leave different."""
    return dict(_state_files(machine))


def _state_files(machine: Machine) -> Iterator[tuple[str, str]]:
    count = _read(machine, f"{_KDAMONDS}/nr_kdamonds")
    yield "nr_kdamonds", count
    for index in range(int(count or "0")):
        yield f"kdamond {index}", _read(machine, f"{_KDAMONDS}/{index}/state")
    for module in _MODULES:
        yield f"{module}.enabled", _read(machine, f"/sys/module/{module}/parameters/enabled")
    (listed,) = machine.batch([FileOp("list", "/proc")])
    pids = [] if isinstance(listed, OSError | bytes) else [e.path for e in listed if e.path.isdecimal()]
    names = machine.batch([FileOp("read", f"/proc/{pid}/comm") for pid in pids])
    workloads = sum(isinstance(name, bytes) and name.startswith(b"access_memory") for name in names)
    yield "running workloads", str(workloads)


def _read(machine: Machine, path: str) -> str:
    (data,) = machine.batch([FileOp("read", path)])
    return data.decode().strip() if isinstance(data, bytes) else ""


def _differences(before: dict[str, str], after: dict[str, str]) -> Iterator[str]:
    for name, value in after.items():
        was = before.get(name, "")
        if value != was and not (name.startswith("kdamond ") and value == "off"):
            yield f"{name}: {value or 'unreadable'}" + (f" (was {was})" if was else "")
