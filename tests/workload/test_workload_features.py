# SPDX-License-Identifier: GPL-2.0
"""The engine on this machine: kinds of memory, and actions."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from engine_starter import TIMEOUT_NS, Starter, kib, pages_of, pattern, slices_of_one, smaps

from damon_tests.patterns.load import parse
from damon_tests.ports import NotSupported, UsageError
from damon_tests.workload.engine import EngineTarget

PAGE = 4096
KIB, MIB = 1 << 10, 1 << 20
MSEC = 1_000_000


def first_bytes(target: EngineTarget, name: str, count: int) -> bytes:
    with open(f"/proc/{target.pid}/mem", "rb") as memory:
        memory.seek(target.layout[name][0])
        return memory.read(count)


def test_a_file_region_is_the_page_cache_of_a_file(start: Starter) -> None:
    target = start(pattern("{name: a, size: 1 MiB, memory: file}", "{region: a, kind: read}"))
    mapping = smaps(target, "a")
    assert "(deleted)" in mapping["path"]
    assert kib(mapping["Rss"]) == 1024
    assert "sh" in mapping["VmFlags"].split()
    start.run_to_the_end(target)
    assert target.truth().touched(np.array([target.layout["a"][0] // PAGE]), *target.truth().span_ns())[0]


def test_only_a_file_is_written_back(start: Starter) -> None:
    actions = "{do: msync, region: a, at: 1 ms}"
    start.run_to_the_end(start(pattern("{name: a, size: 1 MiB, memory: file}", actions=actions)))
    with pytest.raises(UsageError, match="only a file is written back; the memory of 'a' is shmem"):
        parse(pattern("{name: a, size: 1 MiB, memory: shmem}", actions=actions))


def test_shmem_region_is_a_memfd_without_pages(start: Starter) -> None:
    target = start(pattern("{name: a, size: 1 MiB, memory: shmem, populate: false}"))
    mapping = smaps(target, "a")
    assert mapping["path"].startswith("/memfd:damon-tests")
    assert kib(mapping["Rss"]) == 0


def test_region_starts_with_the_files_bytes(start: Starter, tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("reading another process's memory needs root")
    content = tmp_path / "some content"
    content.write_bytes(b"first" * 2000)
    for memory in ("anonymous", "file"):
        target = start(
            pattern(f"{{name: a, size: 8 KiB, memory: {memory}, file: '{content}', populate: false}}")
        )
        assert first_bytes(target, "a", 8192) == (b"first" * 2000)[:8192]
    with pytest.raises(NotSupported, match=r"missing, cannot be opened: No such file"):
        start(pattern(f"{{name: a, size: 8 KiB, file: {tmp_path}/missing}}"))


def test_a_heap_region_grows_and_shrinks(start: Starter) -> None:
    target = start(
        pattern(
            "{name: h, size: 4 MiB, memory: heap, mapped: 64 KiB}, {name: a, size: 1 MiB}",
            "{region: h, span: 0 .. 64 KiB}",
            "{do: brk, region: h, size: 4 MiB, at: 5 ms}",
        )
    )
    begin = target.layout["h"][0]
    assert smaps(target, "h")["path"] == "[heap]"
    assert int(smaps(target, "h")["end"]) == begin + 64 * KIB
    assert target.vaddr[0][1] == begin + 64 * KIB, "it ends DAMON's first region"
    target.go()
    start.run_until_phase(target, 0)
    clock = start.machine.clock
    grown = clock.wait_until(
        lambda: int(smaps(target, "h")["end"]) == begin + 4 * MIB, clock.now_ns() + TIMEOUT_NS
    )
    assert grown
    target.stop()
    assert target._failure is None


@pytest.mark.parametrize(("word", "flag"), [("yes", "hg"), ("no", "nh")])
def test_huge_pages_are_advised(start: Starter, word: str, flag: str) -> None:
    if not Path("/sys/kernel/mm/transparent_hugepage").exists():
        pytest.skip("this kernel has no transparent huge pages")
    target = start(pattern(f"{{name: a, size: 4 MiB, hugepage: {word}, populate: false}}"))
    assert flag in smaps(target, "a")["VmFlags"].split()


def test_locked_region_is_locked(start: Starter) -> None:
    target = start(
        pattern("{name: a, size: 1 MiB, lock: true}, {name: b, size: 1 MiB, lock: true, populate: false}")
    )
    assert kib(smaps(target, "a")["Locked"]) == 1024
    assert "lo" in smaps(target, "b")["VmFlags"].split()
    assert kib(smaps(target, "b")["Rss"]) == 0, "locked when it comes"


def test_region_is_bound_to_its_node(start: Starter) -> None:
    with pytest.raises(NotSupported, match=r"wants NUMA node 63, but mbind\(\) failed"):
        start(pattern("{name: a, size: 1 MiB, node: 63}"))
    if not Path("/proc/self/numa_maps").exists():
        with pytest.raises(NotSupported, match="mbind"):
            start(pattern("{name: a, size: 1 MiB, node: 0}"))
        return
    target = start(pattern("{name: a, size: 1 MiB, node: 0}"))
    lines = Path(f"/proc/{target.pid}/numa_maps").read_text(encoding="utf-8").splitlines()
    line = next(line for line in lines if line.startswith(f"{target.layout['a'][0]:08x} "))
    assert line.split()[1] == "bind:0"


def test_hugetlb_works_or_names_what_is_missing(start: Starter) -> None:
    text = pattern("{name: a, size: 4 MiB, memory: hugetlb}", "{region: a}")
    free = Path("/sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages")
    if not free.exists() or int(free.read_text(encoding="ascii")) < 2:
        with pytest.raises(NotSupported, match=r"needs 2 huge pages of 2 MiB: .*nr_hugepages"):
            start(text)
        return
    target = start(text)
    assert kib(smaps(target, "a")["KernelPageSize"]) == 2048
    start.run_to_the_end(target)


def test_tebibyte_of_reservation_is_performed(start: Starter) -> None:
    target = start(
        pattern(
            "{name: a, size: 1 TiB, populate: false}",
            "{region: a, span: 512 GiB .. 513 GiB, stride: 64 MiB}, {region: a, span: 0 .. 4 KiB}",
        )
    )
    start.run_to_the_end(target)
    pages = target.layout["a"][0] // PAGE + np.array([0, 1, 512 * 2**18, 512 * 2**18 + 1])
    touched = target.truth().touched(pages, *target.truth().span_ns())
    assert touched.tolist() == [True, False, True, False]


CHURN = """
reason: everything that actions do to mappings
repeat: true
regions:
  - {name: a, size: 1 MiB}
  - {name: b, size: 1 MiB, mapped: 64 KiB, populate: false}
  - {name: c, size: 256 KiB, mapped: 0, hugepage: yes}
phases:
  - name: grow
    duration: 20 ms
    accesses:
      - {region: a, span: 0 .. 64 KiB}
      - {region: b, span: 0 .. 64 KiB}
    actions:
      - {do: mremap, region: b, size: 1 MiB, at: 3 ms}
      - {do: mmap, region: c, at: 5 ms, populate: true}
      - {do: dontneed, region: a, span: 512 KiB .. 1 MiB, at: 5 ms}
      - {do: free, region: a, span: 256 KiB .. 512 KiB, at: 6 ms}
      - {do: mlock, region: a, span: 128 KiB .. 256 KiB, at: 7 ms}
      - {do: willneed, region: a, at: 8 ms}
  - name: use
    duration: 20 ms
    accesses:
      - {region: b, span: 512 KiB .. 1 MiB}
      - {region: c, period: 4 ms, kind: update}
  - name: shrink
    duration: 20 ms
    accesses: [{region: a, span: 0 .. 64 KiB}]
    actions:
      - {do: mremap, region: b, size: 64 KiB}
      - {do: munmap, region: c, span: 0 .. 128 KiB, at: 2 ms}
      - {do: munmap, region: c, span: 128 KiB .. 256 KiB, at: 4 ms}
      - {do: munlock, region: a, span: 128 KiB .. 256 KiB, at: 5 ms}
"""


def test_actions_change_mappings_as_planned(start: Starter) -> None:
    """After several rounds, slices agree with the log, and the mappings are as planned."""
    target = start(parse(CHURN, default_name="churn"), slices_ns=4 * MSEC)
    assert smaps(target, "c") == {}
    target.go()
    start.run_until_phase(target, 7)
    target.stop()
    assert target._failure is None
    log, slices = target.truth(), target.slices()
    pages = pages_of(target)
    for begin, end in slices_of_one(slices):
        np.testing.assert_array_equal(log.touched(pages, begin, end), slices.touched(pages, begin, end))
    c = target.layout["c"][0] // PAGE
    phases = target.phases()
    assert phases[0].end_ns is not None
    assert log.touched(np.array([c, c + 63]), phases[0].start_ns, phases[0].end_ns).all(), "populated"


def test_actions_change_page_states(start: Starter) -> None:
    text = CHURN.replace("duration: 20 ms", "duration: 1 h", 1).replace("repeat: true", "repeat: false")
    target = start(parse(text))
    target.go()
    clock = start.machine.clock
    done = clock.wait_until(
        lambda: "lo" in smaps(target, "a", 128 * KIB)["VmFlags"].split(), clock.now_ns() + TIMEOUT_NS
    )
    assert done
    assert kib(smaps(target, "b")["Size"]) == 1024
    assert kib(smaps(target, "c")["Rss"]) == 256
    assert "hg" in smaps(target, "c")["VmFlags"].split()
    assert kib(smaps(target, "a", 512 * KIB)["Rss"]) <= 256, "the last half was dropped"
    assert kib(smaps(target, "a", 256 * KIB)["LazyFree"]) == 256, "what was freed may go when memory is short"


KPF_LRU = 5  # bit of /proc/kpageflags


def off_lists(target: EngineTarget) -> int:
    """Return how many pages of the target's regions are on no LRU list."""
    frames = [range(a // PAGE, b // PAGE) for spans in target.physical().values() for a, b in spans]
    missing = 0
    with open("/proc/kpageflags", "rb", buffering=0) as flags:
        for span in frames:
            data = os.pread(flags.fileno(), 8 * len(span), 8 * span.start)
            missing += int((~np.frombuffer(data, "<u8") >> np.uint64(KPF_LRU) & np.uint64(1)).sum())
    return missing


@pytest.mark.parametrize("memory", ["anonymous", "shmem", "file"])
def test_populated_pages_are_on_their_lists(start: Starter, memory: str) -> None:
    """DAMON skips pages that still wait in a CPU's LRU batch, so no page may wait there."""
    target = start(pattern(f"{{name: a, size: 3 MiB, memory: {memory}}}"))
    try:
        assert off_lists(target) == 0
    except (NotSupported, FileNotFoundError, PermissionError) as error:
        pytest.skip(f"page flags cannot be read: {error}")


def test_pages_of_first_accesses_are_on_their_lists(start: Starter) -> None:
    target = start(
        pattern(
            "{name: a, size: 1 MiB, populate: false}",
            "{region: a, span: 0 .. 20 KiB, drift: 20 KiB}",
            more="visible: natural,",
        )
    )
    target.go()
    clock = start.machine.clock
    start.run_until_phase(target, 0)
    assert clock.wait_until(lambda: target.phases()[0].end_ns is not None, clock.now_ns() + TIMEOUT_NS)
    try:
        assert off_lists(target) == 0
    except (NotSupported, FileNotFoundError, PermissionError) as error:
        pytest.skip(f"page flags cannot be read: {error}")
