# SPDX-License-Identifier: GPL-2.0
"""The engine on this machine: children, exec, threads and other processes."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import numpy as np
import pytest
from engine_starter import TIMEOUT_NS, Starter, kib, pages_of, pattern, slices_of_one, smaps
from workload_samples import three_regions

from damon_tests.patterns.load import load, parse
from damon_tests.ports import HarnessError
from damon_tests.workload.engine import EngineTarget
from damon_tests.workload.slice_truth import SliceTruth

PAGE = 4096
MIB = 1 << 20
MSEC = 1_000_000


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
def test_children_live_for_their_lifetime(start: Starter, executes: bool) -> None:
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
    # All five children exist; three of them end soon.
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


def test_truth_separates_processes_and_joins_threads(start: Starter) -> None:
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
    # On a busy machine a worker may miss a whole phase; the phase repeats.
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
    touched = {p: target.truth_of(p).touched(pages, begin, end).tolist() for p in (0, 1, None)}
    assert touched == {
        0: [True, True, False, False, True],
        1: [False, False, True, True, True],
        None: [True] * 5,
    }


def all_have_passes(target: EngineTarget) -> bool:
    return all(count.passes > 0 for count in target.status().terms.values())


def test_slices_of_each_worker_agree_with_the_log(start: Starter) -> None:
    """Each worker's slices agree with the log, and a process's truth joins those of its workers."""
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
    # Only this worker touches these pages.
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


def test_slices_continue_over_an_exec(start: Starter) -> None:
    """Slices continue without a gap, and each access is before or after the exec."""
    target = start(load("exec"), slices_ns=20 * MSEC)
    target.go()
    start.run_until_phase(target, 2)
    target.stop()
    assert target._failure is None
    log, slices = target.truth(), target.slices()
    assert slices.span_ns() == log.span_ns()
    pages = pages_of(target)
    slices_seen = slices_of_one(slices)
    assert [end for _, end in slices_seen[:-1]] == [start for start, _ in slices_seen[1:]]
    for begin, end in slices_seen:
        np.testing.assert_array_equal(log.touched(pages, begin, end), slices.touched(pages, begin, end))


def test_other_processes_end_with_the_target(start: Starter) -> None:
    target = start(parse(CROWD))
    target.go()
    other = target.pids[1]
    target._dialogue._process.kill(signal.SIGKILL)
    clock = start.machine.clock
    assert clock.wait_until(lambda: is_gone(other), clock.now_ns() + TIMEOUT_NS)


def test_death_of_another_process_is_reported(start: Starter) -> None:
    target = start(parse(CROWD))
    target.go()
    start.run_until_phase(target, 0)
    os.kill(target.pids[1], signal.SIGKILL)
    target.stop()
    with pytest.raises(HarnessError, match="process 1 ended badly"):
        target.truth()
