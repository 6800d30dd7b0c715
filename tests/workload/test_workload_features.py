# SPDX-License-Identifier: GPL-2.0
"""Memory of all kinds, actions, threads and processes: the engine on this machine."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import numpy as np
import pytest
from engine_starter import TIMEOUT_NS, Starter, slices_of_one

from damon_tests.patterns.load import load, parse
from damon_tests.ports import HarnessError, NotSupported, Pages
from damon_tests.workload.engine import EngineTarget
from damon_tests.workload.layout import three_regions
from damon_tests.workload.slices import SliceTruth

PAGE = 4096
KIB, MIB = 1 << 10, 1 << 20
MSEC = 1_000_000


def pattern(region: str, accesses: str = "", actions: str = "", more: str = "") -> str:
    return (
        f"{{reason: r, repeat: false, {more} regions: [{region}], phases: "
        f"[{{name: p, duration: 30 ms, accesses: [{accesses}], actions: [{actions}]}}]}}"
    )


def smaps(target: EngineTarget, name: str, offset: int = 0) -> dict[str, str]:
    """What /proc/PID/smaps says of the mapping at this offset of a region; its path as ``path``."""
    address = target.layout[name][0] + offset
    found: dict[str, str] = {}
    inside = False
    for line in Path(f"/proc/{target.pid}/smaps").read_text(encoding="utf-8").splitlines():
        words = line.split()
        if not words[0].endswith(":"):
            start, end = (int(word, 16) for word in words[0].split("-"))
            inside = start <= address < end
            if inside:
                found = {"path": " ".join(words[5:]), "start": str(start), "end": str(end)}
        elif inside:
            found[words[0][:-1]] = " ".join(words[1:])
    return found


def pages_of(target: EngineTarget) -> Pages:
    """Of all its regions."""
    return np.concatenate([np.arange(a // PAGE, b // PAGE) for a, b in target.layout.values()])


def kib(text: str) -> int:
    return int(text.split(maxsplit=1)[0])


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


def test_a_shmem_region(start: Starter) -> None:
    target = start(pattern("{name: a, size: 1 MiB, memory: shmem, populate: false}"))
    mapping = smaps(target, "a")
    assert mapping["path"].startswith("/memfd:damon-tests")
    assert kib(mapping["Rss"]) == 0


def test_initial_content(start: Starter, tmp_path: Path) -> None:
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


def test_locked_memory(start: Starter) -> None:
    target = start(
        pattern("{name: a, size: 1 MiB, lock: true}, {name: b, size: 1 MiB, lock: true, populate: false}")
    )
    assert kib(smaps(target, "a")["Locked"]) == 1024
    assert "lo" in smaps(target, "b")["VmFlags"].split()
    assert kib(smaps(target, "b")["Rss"]) == 0, "locked when it comes"


def test_placement_on_a_node(start: Starter) -> None:
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


def test_hugetlb_or_the_way_to_it(start: Starter) -> None:
    text = pattern("{name: a, size: 4 MiB, memory: hugetlb}", "{region: a}")
    free = Path("/sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages")
    if not free.exists() or int(free.read_text(encoding="ascii")) < 2:
        with pytest.raises(NotSupported, match=r"needs 2 huge pages of 2 MiB: .*nr_hugepages"):
            start(text)
        return
    target = start(text)
    assert kib(smaps(target, "a")["KernelPageSize"]) == 2048
    start.run_to_the_end(target)


def test_a_tebibyte_of_reservation(start: Starter) -> None:
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


def test_mappings_come_and_go(start: Starter) -> None:
    """Several rounds of it, touch by touch as the log says; and the mappings are what they should be."""
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


def test_mappings_while_they_are_there(start: Starter) -> None:
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


def children_of(pid: int) -> list[int]:
    try:
        return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def is_gone(pid: int) -> bool:
    try:
        return "State:\tZ" in Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    except OSError:
        return True


def living_children_of(pid: int) -> list[int]:
    return [child for child in children_of(pid) if not is_gone(child)]


@pytest.mark.parametrize("executes", [False, True])
def test_children_live_as_long_as_they_should(start: Starter, executes: bool) -> None:
    target = start(
        pattern(
            "{name: a, size: 1 MiB}",
            "{region: a}",
            "{do: fork, count: 3, lifetime: 1 ms}, "
            f"{{do: fork, count: 2, lifetime: 1 h, at: 15 ms, exec: {str(executes).lower()}}}",
        )
    )
    target.go()
    clock = start.machine.clock
    deadline = clock.now_ns() + TIMEOUT_NS
    start.run_until_phase(target, 0)
    assert clock.wait_until(lambda: target.phases()[0].end_ns is not None, deadline)
    # All five have been made; three have little to live for.
    assert clock.wait_until(lambda: len(living_children_of(target.pid)) == 2, deadline)
    children = living_children_of(target.pid)
    if executes:
        assert clock.wait_until(
            lambda: b"--idle" in Path(f"/proc/{children[0]}/cmdline").read_bytes(),
            clock.now_ns() + TIMEOUT_NS,
        )
    target.stop()
    assert target._failure is None
    assert all(is_gone(child) for child in children)


def test_an_exec_of_the_target_keeps_pid_places_and_counts(start: Starter) -> None:
    text = """
reason: exec in the middle
regions:
  - {name: a, size: 1 MiB}
  - {name: h, size: 1 MiB, memory: heap, mapped: 64 KiB}
  - {name: s, size: 64 KiB, memory: shmem}
phases:
  - name: before
    duration: 20 ms
    accesses: [{region: a, period: 1 ms}]
  - name: change
    duration: 40 ms
    accesses: [{region: a, period: 1 ms}, {region: h, span: 0 .. 64 KiB}, {region: s, kind: read}]
    actions: [{do: exec, at: 20 ms}]
  - {name: after, duration: 20 ms, accesses: [{region: a, span: 0 .. 4 KiB}]}
"""
    target = start(parse(text))
    target.go()
    start.run_until_phase(target, 2)
    maps = Path(f"/proc/{target.pid}/maps").read_text(encoding="utf-8").splitlines()
    vmas = [tuple(int(word, 16) for word in line.split()[0].split("-")) for line in maps]
    middle = three_regions([vma for vma in vmas if vma[0] < 1 << 63])[1]  # type: ignore[misc]
    assert middle[0] == target.layout["a"][0]
    assert 0 < kib(smaps(target, "a")["Rss"]) <= 1024
    target.stop()
    assert target._failure is None
    status = target.status()
    before, change = status.terms[0, 0], status.terms[1, 0]
    assert before.passes + before.missed >= 20
    assert change.passes + change.missed >= 40
    assert [phase.name for phase in target.phases()][:3] == ["before", "change", "after"]
    records = target.truth()._records
    assert len(records) == status.passes_logged
    assert (np.diff(np.sort(records["start_ns"].astype(np.int64))) >= 0).all()
    executed = records[(records["phase"] == 1) & (records["term"] == 3)]
    assert len(executed) == 1
    later = records[records["start_ns"] > executed["start_ns"][0]]
    assert {0, 1, 2} <= set(later[later["phase"] == 1]["term"].tolist())


CROWD = """
reason: two threads here, two there
repeat: true
regions: [{name: private, size: 1 MiB, populate: false}, {name: shared, size: 1 MiB, memory: shmem}]
phases:
  - name: one
    duration: 30 ms
    accesses:
      - {region: private, span: 0 .. 64 KiB}
      - {region: private, span: 64 KiB .. 128 KiB, thread: 1}
      - {region: private, span: 128 KiB .. 192 KiB, process: 1}
      - {region: shared, span: 0 .. 64 KiB, process: 1, thread: 2, period: 3 ms}
  - name: two
    duration: 30 ms
    accesses:
      - {region: shared, span: 512 KiB .. 576 KiB, thread: 1}
      - {region: shared, span: 512 KiB .. 576 KiB, process: 1, kind: read}
"""


def test_threads_and_processes(start: Starter) -> None:
    target = start(parse(CROWD, default_name="crowd"))
    other = target.pids[1]
    assert set(target.pids) == {0, 1}
    assert len(os.listdir(f"/proc/{target.pid}/task")) == 2
    assert len(os.listdir(f"/proc/{other}/task")) == 2
    maps = [Path(f"/proc/{pid}/maps").read_text(encoding="utf-8") for pid in (target.pid, other)]
    spans = [f"{a:x}-{b:x} " for a, b in target.layout.values()]
    assert all(span in text for span in spans for text in maps)
    middle = target.vaddr[1]
    assert (middle[0], middle[1] - middle[1] % (64 * MIB)) >= (target.layout["private"][0], 0)
    target.go()
    start.run_until_phase(target, 3)
    clock = start.machine.clock
    # A busy machine may let a worker miss a whole phase; it comes again.
    assert clock.wait_until(lambda: all_have_passes(target), clock.now_ns() + TIMEOUT_NS)
    during = target.status()
    target.stop()
    assert target._failure is None
    assert is_gone(other)
    status = target.status()
    assert all(status.terms[key].passes >= count.passes for key, count in during.terms.items())
    assert status.passes_logged == sum(count.passes for count in status.terms.values())

    private, shared = (target.layout[name][0] // PAGE for name in ("private", "shared"))
    pages = np.array([private, private + 16, private + 32, shared, shared + 128])
    begin, end = target.truth().span_ns()
    seen = {p: target.truth_of(p).touched(pages, begin, end).tolist() for p in (0, 1, None)}
    assert seen == {
        0: [True, True, False, False, True],
        1: [False, False, True, True, True],
        None: [True] * 5,
    }


def all_have_passes(target: EngineTarget) -> bool:
    return all(count.passes > 0 for count in target.status().terms.values())


def test_slices_of_a_crowd(start: Starter) -> None:
    """Each worker's slices are what the log says of it, and a process's truth is all of its workers'."""
    target = start(parse(CROWD, default_name="crowd"), slices_ns=3 * MSEC)
    target.go()
    clock = start.machine.clock
    assert clock.wait_until(lambda: all_have_passes(target), clock.now_ns() + TIMEOUT_NS)
    target.stop()
    assert target._failure is None
    pages = pages_of(target)
    for process in (0, 1, None):
        log, slices = target.truth_of(process), target.slices_of(process)
        span = slices.span_ns()
        assert span[0] == log.span_ns()[0]
        np.testing.assert_array_equal(log.touched(pages, *span), slices.touched(pages, *span))
        assert len(slices.workers) == {0: 2, 1: 2, None: 4}[process]
    spans = dict(zip(target.status().workers, slices.workers, strict=True))
    assert {worker[:2] for worker in spans} == {(0, 0), (0, 1), (1, 0), (1, 2)}
    assert {worker[2] for worker in spans} == {target.pid, target.pids[1]}
    # Only the one worker touches these pages.
    private = target.layout["private"][0] // PAGE
    for (process, thread, _), own in spans.items():
        if (process, thread) == (1, 2):
            continue
        mine = private + {(0, 0): 0, (0, 1): 16, (1, 0): 32}[process, thread] + np.arange(16)
        log, alone = target.truth_of(process), SliceTruth(log.ranges(), target.status().windows, [own])
        assert len(own.starts_ns) > 1
        np.testing.assert_array_equal(own.ends_ns[:-1], own.starts_ns[1:], "no gaps")
        for begin, end in zip(own.starts_ns.tolist(), own.ends_ns.tolist(), strict=True):
            np.testing.assert_array_equal(log.touched(mine, begin, end), alone.touched(mine, begin, end))


def test_slices_over_an_exec(start: Starter) -> None:
    """They go on where they were, and an access is before the exec or after it."""
    target = start(load("exec"), slices_ns=20 * MSEC)
    target.go()
    start.run_until_phase(target, 2)
    target.stop()
    assert target._failure is None
    log, slices = target.truth(), target.slices()
    assert slices.span_ns() == log.span_ns()
    pages = pages_of(target)
    found = slices_of_one(slices)
    assert [end for _, end in found[:-1]] == [start for start, _ in found[1:]]
    for begin, end in found:
        np.testing.assert_array_equal(log.touched(pages, begin, end), slices.touched(pages, begin, end))


def test_other_processes_end_with_the_target(start: Starter) -> None:
    target = start(parse(CROWD))
    target.go()
    other = target.pids[1]
    target._dialogue._process.kill(signal.SIGKILL)
    clock = start.machine.clock
    assert clock.wait_until(lambda: is_gone(other), clock.now_ns() + TIMEOUT_NS)


def test_another_process_that_dies_is_told(start: Starter) -> None:
    target = start(parse(CROWD))
    target.go()
    start.run_until_phase(target, 0)
    os.kill(target.pids[1], signal.SIGKILL)
    target.stop()
    with pytest.raises(HarnessError, match="process 1 ended badly"):
        target.truth()


KPF_LRU = 5  # bit of /proc/kpageflags


def off_lists(target: EngineTarget) -> int:
    """How many pages of the target's regions are on no LRU list."""
    frames = [range(a // PAGE, b // PAGE) for spans in target.physical().values() for a, b in spans]
    missing = 0
    with open("/proc/kpageflags", "rb", buffering=0) as flags:
        for span in frames:
            data = os.pread(flags.fileno(), 8 * len(span), 8 * span.start)
            missing += int((~np.frombuffer(data, "<u8") >> np.uint64(KPF_LRU) & np.uint64(1)).sum())
    return missing


@pytest.mark.parametrize("memory", ["anonymous", "shmem", "file"])
def test_populated_pages_are_on_their_lists(start: Starter, memory: str) -> None:
    """DAMON leaves accessed bits of pages alone that still wait in a batch of a CPU: none may wait."""
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
