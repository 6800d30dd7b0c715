# SPDX-License-Identifier: GPL-2.0
"""The engine's truth agrees with an independent observer: the kernel's page tables.

Memory that was never touched has no pages. So, of regions that are not populated, the pages that the
kernel has mapped at the end are exactly those that the truth says were touched.
"""

from __future__ import annotations

import random
import signal

import numpy as np
import pytest
from engine_starter import TIMEOUT_NS, Starter, pages_of

from damon_tests.patterns.load import parse
from damon_tests.patterns.spec import Pattern
from damon_tests.ports import Bools, page_size
from damon_tests.workload.engine import EngineTarget

MSEC = 1_000_000
PRESENT_OR_SWAPPED = np.uint64(3 << 62)  # of an entry of /proc/PID/pagemap


def mapped(target: EngineTarget, process: int) -> Bools:
    """Return whether the kernel has mapped each page of the target's regions."""
    pages = []
    with open(f"/proc/{target.pids[process]}/pagemap", "rb", buffering=0) as pagemap:
        for start, end in target.layout.values():
            pagemap.seek(start // page_size() * 8)
            entries = np.frombuffer(pagemap.read((end - start) // page_size() * 8), "<u8")
            pages.append(entries & PRESENT_OR_SWAPPED != 0)
    return np.concatenate(pages)


def access(rng: random.Random, region: str, process: int, private: set[str]) -> str:
    """Return an access of a random order, somewhere in a region of 4 MiB."""
    order = rng.choice(("sequential", "sequential", "random", "zipf", "gaussian"))
    start = 4 * rng.randrange(256)
    length = rng.choice((1, 4, 7, 64, 100, 333))
    keys = [
        f"region: {region}, span: {start} KiB .. {start + length} KiB, order: {order}, process: {process}",
        f"stride: {rng.choice((64, 1000, 1024))} B, period: {rng.choice((1, 2, 5))} ms",
        # Where a file is read, the kernel maps what it has of it around the page, too.
        f"kind: {rng.choice(('write', 'update')) if region in private else 'write'}",
    ]
    if order != "sequential" or rng.random() < 0.3:
        keys.append(f"touches: {rng.choice((1, 3, 17))}")
    if order == "zipf":
        keys.append(f"skew: {rng.choice((0.3, 1, 2))}")
    if order == "gaussian":
        keys.append(f"center: {start} KiB, sigma: {rng.choice((1, 16))} KiB")
    elif rng.random() < 0.3:
        keys.append("islands: 3, every: 400 KiB")
    if rng.random() < 0.3:
        keys.append("drift: 20 KiB, positions: 9")
    return f"{{{', '.join(keys)}}}"


def some_pattern(seed: int, *, processes: int = 1) -> Pattern:
    """Return a pattern of two phases; the accesses of a phase are in different regions."""
    rng = random.Random(seed)
    memory = ["anonymous", "shmem", "anonymous", "file"]
    rng.shuffle(memory)
    regions = ", ".join(
        f"{{name: r{i}, size: 4 MiB, populate: false, memory: {kind}}}" for i, kind in enumerate(memory)
    )
    private = {f"r{i}" for i, kind in enumerate(memory) if kind == "anonymous"}
    phases = []
    for name in ("one", "two"):
        places = [(f"r{i}", p) for i in range(4) for p in range(processes)]
        accesses = ", ".join(access(rng, *place, private) for place in rng.sample(places, 3 * processes))
        phases.append(f"{{name: {name}, duration: 25 ms, accesses: [{accesses}]}}")
    text = f"{{reason: r, regions: [{regions}], phases: [{', '.join(phases)}]}}"
    return parse(text, default_name=f"p{seed}")


def perform(start: Starter, target: EngineTarget) -> None:
    """Run until its last phase is over; leave the process alive."""
    target.go()
    clock, last = start.machine.clock, len(target.pattern.phases)
    assert clock.wait_until(
        lambda: len(target.phases()) == last and target.phases()[-1].end_ns is not None,
        clock.now_ns() + TIMEOUT_NS,
    )


@pytest.mark.parametrize("seed", range(8))
def test_mapped_pages_are_the_touched_ones(start: Starter, seed: int) -> None:
    target = start(some_pattern(seed), seed=seed, slices_ns=3 * MSEC)
    assert not mapped(target, 0).any()
    perform(start, target)
    there = mapped(target, 0)
    target.stop()
    pages = pages_of(target)
    assert there.any()
    for truth in (target.truth(), target.slices()):
        np.testing.assert_array_equal(truth.touched(pages, *truth.span_ns()), there)


@pytest.mark.parametrize("seed", range(100, 104))
def test_each_process_has_the_pages_that_it_touched(start: Starter, seed: int) -> None:
    target = start(some_pattern(seed, processes=2), seed=seed, slices_ns=3 * MSEC)
    perform(start, target)
    # All workers must be idle when the page tables are read.
    there = [mapped(target, process) for process in (0, 1)]
    target.stop()
    pages = pages_of(target)
    for process in (0, 1):
        for truth in (target.truth_of(process), target.slices_of(process)):
            np.testing.assert_array_equal(truth.touched(pages, *truth.span_ns()), there[process])


def test_threads_touch_the_memory_of_their_process(start: Starter) -> None:
    target = start(
        "{reason: r, regions: [{name: a, size: 1 MiB, populate: false}], phases: [{name: p, duration: 20 ms, "
        "accesses: [{region: a, span: 0 .. 100 KiB}, {region: a, span: 500 KiB .. 600 KiB, thread: 1}]}]}",
        slices_ns=MSEC,
    )
    perform(start, target)
    there = mapped(target, 0)
    target.stop()
    pages = pages_of(target)
    for truth in (target.truth(), target.slices()):
        np.testing.assert_array_equal(truth.touched(pages, *truth.span_ns()), there)


def test_dropped_pages_come_back_with_the_next_access(start: Starter) -> None:
    """After memory is dropped, only pages that were touched since have frames."""
    target = start(
        "{reason: r, regions: [{name: a, size: 1 MiB}], phases: [{name: p, duration: 40 ms, accesses: "
        "[{region: a, span: 0 .. 100 KiB, order: random, touches: 3, period: 3 ms}], "
        "actions: [{do: dontneed, region: a, at: 20 ms}]}]}"
    )
    perform(start, target)
    there = mapped(target, 0)
    target.stop()
    records = target.truth()._records
    dropped = records[records["term"] == 1]
    since = int(dropped["start_ns"][0] + dropped["length_ns"][0])
    truth = target.truth()
    np.testing.assert_array_equal(truth.touched(pages_of(target), since, truth.span_ns()[1]), there)


def test_killed_target_has_no_truth(start: Starter) -> None:
    target = start(some_pattern(1))
    perform(start, target)
    target._dialogue._process.kill(signal.SIGKILL)
    target.stop()
    assert target._failure is not None
