# SPDX-License-Identifier: GPL-2.0
"""The engine in guests (marked vm): kinds of memory and nodes that this machine may lack.

Its reports are compared with the kernel's numa_maps, smaps and control group files.
"""

from __future__ import annotations

import errno
import os
import re
import signal
from collections.abc import Callable, Iterator

import numpy as np
import pytest

from damon_tests.kernel.agent.machine import AgentMachine
from damon_tests.kernel.guest.guest import Guests
from damon_tests.kernel.guest.topology import Topology
from damon_tests.kernel.images import image
from damon_tests.patterns.load import load, parse
from damon_tests.patterns.spec import Pattern
from damon_tests.ports import NSEC_PER_SEC, NotSupported
from damon_tests.workload import engine
from damon_tests.workload.engine import EngineTarget
from damon_tests.workload.pages import read_pages

pytestmark = pytest.mark.vm

KERNELS = os.environ.get("DAMON_TESTS_VM_KERNELS", "debian:stable debian:newest").split()
TOPOLOGY = Topology(numa_nodes=2, hugetlb_pages=16, disk_mib=64)
PAGE, MIB = 4096, 1 << 20

Start = Callable[[Pattern | str], EngineTarget]


@pytest.fixture(scope="module", params=KERNELS)
def machine(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[AgentMachine]:
    with Guests(tmp_path_factory.mktemp("run")) as guests:
        yield guests.fresh(image.resolve(request.param), TOPOLOGY, 1).machine


@pytest.fixture
def start(machine: AgentMachine) -> Iterator[Start]:
    started: list[EngineTarget] = []

    def starter(pattern: Pattern | str) -> EngineTarget:
        pattern = parse(pattern, default_name="tiny") if isinstance(pattern, str) else pattern
        started.append(engine.start(machine, pattern, 7, "/bin/damon-tests-engine", "/tmp"))
        return started[-1]

    yield starter
    for target in started:
        target.stop()


def pattern(region: str, access: str = "", actions: str = "", duration: str = "30 ms") -> str:
    return (
        f"{{reason: r, regions: [{region}], phases: [{{name: p, duration: {duration}, accesses: [{access}],"
        f" actions: [{actions}]}}]}}"
    )


def smaps(machine: AgentMachine, target: EngineTarget, name: str) -> dict[str, str]:
    """Return the fields of smaps of the mapping at a region's start, and its file as ``path``."""
    vma: dict[str, str] = {}
    inside = False
    for line in machine.read_file(f"/proc/{target.pid}/smaps").decode().splitlines():
        words = line.split()
        if not words[0].endswith(":"):
            start, end = (int(word, 16) for word in words[0].split("-"))
            inside = start <= target.layout[name][0] < end
            vma |= {"path": " ".join(words[5:])} if inside else {}
        elif inside:
            vma[words[0][:-1]] = " ".join(words[1:])
    return vma


def kib(text: str) -> int:
    return int(text.split(maxsplit=1)[0])


def numa_maps(machine: AgentMachine, target: EngineTarget, name: str) -> dict[str, str]:
    """Return the words of a region's line: ``policy``, and N0, N1, anon, huge ... by name."""
    for line in machine.read_file(f"/proc/{target.pid}/numa_maps").decode().splitlines():
        words = line.split()
        if int(words[0], 16) == target.layout[name][0]:
            return {"policy": words[1]} | dict(w.split("=", 1) for w in words[2:] if "=" in w)
    raise AssertionError(f"numa_maps has no mapping at {target.layout[name][0]:#x}")


@pytest.mark.parametrize("node", [0, 1])
def test_pages_are_on_the_requested_node(machine: AgentMachine, start: Start, node: int) -> None:
    """Every page is on the requested node, by numa_maps and by its frame's zone."""
    target = start(pattern(f"{{name: a, size: 8 MiB, node: {node}}}"))
    line = numa_maps(machine, target, "a")
    assert line["policy"] == f"bind:{node}"
    assert line[f"N{node}"] == str(8 * MIB // PAGE)
    assert f"N{1 - node}" not in line
    assert (read_pages(machine, target.pid, *target.layout["a"]).node == node).all()


def test_missing_node_is_not_supported(start: Start) -> None:
    with pytest.raises(NotSupported, match=r"wants NUMA node 5, but mbind\(\) failed"):
        start(pattern("{name: a, size: 1 MiB, node: 5}"))


def test_lazily_faulted_memory_is_on_the_requested_node(machine: AgentMachine, start: Start) -> None:
    # A busy guest may miss all passes of a short phase: they are counted as missed, not repeated.
    region, access = "{name: a, size: 4 MiB, node: 1, populate: false}", "{region: a, span: 0 .. 2 MiB}"
    target = start(pattern(region, access, duration="1 h"))
    assert "N1" not in numa_maps(machine, target, "a")
    target.go()
    clock = machine.clock
    came = clock.wait_until(
        lambda: numa_maps(machine, target, "a").get("N1") == "512", clock.now_ns() + 60 * NSEC_PER_SEC
    )
    assert came, numa_maps(machine, target, "a")


def test_hugetlb_region_uses_huge_pages(machine: AgentMachine, start: Start) -> None:
    target = start(load("hugetlb"))
    mapping = smaps(machine, target, "huge")
    assert kib(mapping["KernelPageSize"]) == 2048
    assert kib(mapping["Private_Hugetlb"]) == 16 << 10
    free = "/sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages"
    assert int(machine.read_file(free)) == 16 - 8
    target.stop()
    assert int(machine.read_file(free)) == 16


def test_too_few_hugetlb_pages_are_not_supported(start: Start) -> None:
    with pytest.raises(NotSupported, match=r"needs 50 huge pages of 2 MiB: .*nr_hugepages"):
        start(pattern("{name: a, size: 100 MiB, memory: hugetlb}"))


@pytest.mark.parametrize(("word", "huge_kib"), [("yes", 8 << 10), ("no", 0)])
def test_transparent_huge_pages_follow_the_advice(
    machine: AgentMachine, start: Start, word: str, huge_kib: int
) -> None:
    """All of 8 MiB is in huge pages, or no page is."""
    target = start(pattern(f"{{name: a, size: 8 MiB, hugepage: {word}}}"))
    mapping = smaps(machine, target, "a")
    assert kib(mapping["AnonHugePages"]) == huge_kib
    assert ("hg" if word == "yes" else "nh") in mapping["VmFlags"].split()
    assert read_pages(machine, target.pid, *target.layout["a"]).huge.sum() == huge_kib // 4


def test_memory_control_group_is_charged_and_removed(machine: AgentMachine, start: Start) -> None:
    """Target and populated memory are in a separate group, which is removed with the target."""
    target = start(load("own_memcg"))
    group = f"/sys/fs/cgroup{target.memcg}"
    assert target.memcg.startswith("/damon-tests-")
    assert machine.read_file(f"/proc/{target.pid}/cgroup").decode() == f"0::{target.memcg}\n"
    assert machine.read_file(f"{group}/cgroup.procs").decode().split() == [str(target.pid)]
    assert int(machine.read_file(f"{group}/memory.current")) >= 32 * MIB
    stat = dict(line.split() for line in machine.read_file(f"{group}/memory.stat").decode().splitlines())
    assert 32 * MIB <= int(stat["anon"]) < 34 * MIB
    target.stop()
    with pytest.raises(FileNotFoundError):
        machine.read_file(f"{group}/cgroup.procs")


@pytest.mark.parametrize("killed", [False, True])
def test_nested_groups_are_made_and_removed(machine: AgentMachine, start: Start, killed: bool) -> None:
    """The target is in the innermost group; all groups are removed when it ends or is killed."""
    target = start("{memcg: outer/middle/inner, " + pattern("{name: a, size: 8 MiB}")[1:])
    outer, inner = f"/sys/fs/cgroup/outer-{target.pid}", f"/sys/fs/cgroup{target.memcg}"
    assert inner == f"{outer}/middle/inner"
    assert machine.read_file(f"{inner}/cgroup.procs").decode().split() == [str(target.pid)]
    assert machine.read_file(f"{outer}/cgroup.procs") == b""
    for group in (outer, inner):
        assert int(machine.read_file(f"{group}/memory.current")) >= 8 * MIB
    if killed:
        target._dialogue._process.kill(signal.SIGKILL)
    else:
        target.stop()

    def gone() -> bool:
        try:
            machine.read_file(f"{outer}/cgroup.procs")
        except OSError as error:
            # ENODEV: it was opened before the group was removed, and read afterwards.
            if error.errno not in (errno.ENOENT, errno.ENODEV):
                raise
            return True
        return False

    assert machine.clock.wait_until(gone, machine.clock.now_ns() + (10 * NSEC_PER_SEC if killed else 0))


def test_two_processes_share_shmem_pages(machine: AgentMachine, start: Start) -> None:
    """Both map the same pages, and both touch them."""
    target = start(load("shared_memory"))
    mapping = smaps(machine, target, "shared")
    assert mapping["path"].startswith("/memfd:damon-tests")
    assert "sh" in mapping["VmFlags"].split()
    assert kib(mapping["Rss"]) == 32 << 10
    target.go()
    clock = machine.clock
    used = clock.wait_until(
        lambda: min(target.accesses().values()) > 0 and both_mapped(machine, target) >= 512,
        clock.now_ns() + 60 * NSEC_PER_SEC,
    )
    assert used, target.accesses()


def both_mapped(machine: AgentMachine, target: EngineTarget) -> int:
    """Return how many pages of the shared region both processes map, with the same frames."""
    first, other = (read_pages(machine, target.pids[i], *target.layout["shared"]).frame for i in (0, 1))
    both = (first >= 0) & (other >= 0)
    assert np.array_equal(first[both], other[both])
    return int(both.sum())


def test_file_region_is_in_the_page_cache(machine: AgentMachine, start: Start) -> None:
    target = start(load("file_reads"))
    mapping = smaps(machine, target, "file")
    assert mapping["path"].startswith("/var/tmp/"), "on the guest's disk"
    assert "sh" in mapping["VmFlags"].split()
    assert kib(mapping["Rss"]) == 32 << 10
    assert numa_maps(machine, target, "file")["file"]
    target.go()
    deadline = machine.clock.now_ns() + 60 * NSEC_PER_SEC
    assert machine.clock.wait_until(lambda: min(target.accesses().values()) > 0, deadline)


def test_written_file_pages_are_dirty_until_msync(machine: AgentMachine, start: Start) -> None:
    """Written pages are dirty until msync() writes them back; only another write makes them dirty again."""
    target = start(
        pattern(
            "{name: a, size: 8 MiB, memory: file}",
            "{region: a, span: 0 .. 1 MiB, period: 100 ms}, "
            "{region: a, span: 1 MiB .. 2 MiB, kind: read, period: 100 ms}",
            "{do: msync, region: a, span: 0 .. 4 MiB}",
            duration="1 h",
        )
    )
    assert [dirty_and_clean(smaps(machine, target, "a"))] == [(8192, 0)]
    target.go()
    deadline = machine.clock.now_ns() + 60 * NSEC_PER_SEC
    assert machine.clock.wait_until(
        lambda: (
            min(target.accesses().values()) > 512
            and dirty_and_clean(smaps(machine, target, "a")) == (5120, 3072)
        ),
        deadline,
    ), smaps(machine, target, "a")


def dirty_and_clean(mapping: dict[str, str]) -> tuple[int, int]:
    """Return (dirty, clean) in KiB."""
    dirty = kib(mapping["Private_Dirty"]) + kib(mapping["Shared_Dirty"])
    return dirty, kib(mapping["Private_Clean"]) + kib(mapping["Shared_Clean"])


def test_dontneed_drops_pages_and_mlock_pins_them(machine: AgentMachine, start: Start) -> None:
    """madvise(MADV_DONTNEED) drops the pages; mlock() pins them."""
    target = start(
        pattern(
            "{name: a, size: 4 MiB}",
            "{region: a, span: 0 .. 1 MiB}",
            "{do: dontneed, region: a, span: 2 MiB .. 4 MiB, at: 5 ms},"
            " {do: mlock, region: a, span: 0 .. 1 MiB, at: 6 ms}",
        )
    )
    before = read_pages(machine, target.pid, *target.layout["a"])
    assert before.present.all()
    target.go()
    clock = machine.clock
    deadline = clock.now_ns() + 60 * NSEC_PER_SEC
    assert clock.wait_until(lambda: bool(target.phases()[-1].end_ns), deadline), target.status()
    after = read_pages(machine, target.pid, *target.layout["a"])
    assert after.present.tolist() == [True] * 512 + [False] * 512
    assert re.match(r"1024 kB", smaps(machine, target, "a")["Locked"])
