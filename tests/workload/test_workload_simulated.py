# SPDX-License-Identifier: GPL-2.0
"""Simulated targets: layout for DAMON, phases and counts in virtual time."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np
import pytest
from workload_samples import three_regions

from damon_tests.patterns.load import load, names, parse
from damon_tests.ports import HarnessError, NotSupported, UsageError
from damon_tests.workload.layout import plan_layout, process_vmas
from damon_tests.workload.simulated import SimulatedTarget
from damon_tests.workload.target import RunningTarget

SECOND = 1_000_000_000

SWITCH = """
reason: two phases
regions: [{name: a, size: 1 MiB}, {name: b, size: 1 MiB}]
phases:
  - {name: one, duration: 1 s, accesses: [{region: a, period: 10 ms}, {region: b, period: 1 s}]}
  - {name: two, duration: 2 s, accesses: [{region: b, order: random, touches: 5, period: 100 ms}]}
"""


class FakeClock:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.time_ns = 0

    def now_ns(self) -> int:
        return self.time_ns

    def run_for(self, duration_ns: int) -> None:
        self.time_ns += duration_ns

    def wait_until(self, condition: Callable[[], bool], deadline_ns: int, poll_ns: int = 1) -> bool:
        raise NotImplementedError


def make(text: str, clock: FakeClock) -> SimulatedTarget:
    return SimulatedTarget(parse(text), 1, 100, None, clock)


@pytest.mark.parametrize("name", names())
def test_vaddr_watches_the_regions_and_little_else(name: str) -> None:
    pattern = load(name)
    layout = plan_layout(pattern)
    low, middle, high = three_regions(process_vmas(pattern, layout))
    heaps = [region for region in pattern.regions if region.memory == "heap"]
    heap = sum(region.initially_mapped + (2 << 20) for region in heaps)
    spans = [span for name, span in layout.items() if name not in {region.name for region in heaps}]
    assert spans == sorted(spans), "regions are laid out in list order"
    assert middle[0] == spans[0][0]
    assert spans[-1][1] + pattern.gap_bytes <= middle[1] <= spans[-1][1] + pattern.gap_bytes + (4 << 20)
    assert low[1] - low[0] + high[1] - high[0] < (2 << 20) + heap
    for (_, end), (start, _) in itertools.pairwise(spans):
        assert start - end >= pattern.gap_bytes
        assert start % (2 << 20) == 0


def test_three_regions_follow_the_specification() -> None:
    """Check the example of specification §10.3, its tie rule, and too few gaps."""
    vmas = [(10, 20), (20, 25), (200, 210), (210, 220), (300, 305), (307, 330)]
    assert three_regions(vmas) == ((10, 25), (200, 220), (300, 330))
    assert three_regions([(0, 1), (11, 12), (22, 23), (33, 34)]) == ((0, 1), (11, 12), (22, 34))
    assert three_regions([(0, 1), (1, 2), (5, 6)]) == ()
    assert three_regions([(0, 1)]) == ()


def test_a_pattern_that_does_not_fit_is_refused() -> None:
    text = (
        "reason: r\nregions: [{name: a, size: 1024 TiB, populate: false}]\n"
        "phases: [{name: p, duration: 1 s, accesses: []}]"
    )
    plan_layout(parse(text))  # within five-level page tables
    many = ", ".join(f"{{name: r{i}, size: 1024 TiB, populate: false}}" for i in range(64))
    with pytest.raises(UsageError, match="do not fit"):
        plan_layout(parse(text.replace("{name: a, size: 1024 TiB, populate: false}", many)))


def test_simulated_target_implements_running_target() -> None:
    target: RunningTarget = make(SWITCH, FakeClock())
    assert target.pid == 100


def test_phases_and_accesses_follow_the_clock() -> None:
    clock = FakeClock()
    target = make(SWITCH, clock)
    assert target.phases() == ()
    assert set(target.accesses().values()) == {0}
    clock.time_ns = 5 * SECOND
    target.go()
    clock.time_ns += SECOND // 2 + 1
    assert [(p.name, p.start_ns, p.end_ns) for p in target.phases()] == [("one", 5 * SECOND, None)]
    # Passes at 0, 10, ... 500 ms; a megabyte has 256 pages.
    assert target.accesses() == {(0, "a"): 51 * 256, (0, "b"): 256, (1, "b"): 0}
    clock.time_ns = 6 * SECOND + SECOND // 10 + 1
    assert [(p.name, p.end_ns) for p in target.phases()] == [("one", 6 * SECOND), ("two", None)]
    assert target.accesses() == {(0, "a"): 100 * 256, (0, "b"): 256, (1, "b"): 2 * 5}
    clock.time_ns = 100 * SECOND
    assert [(p.name, p.end_ns) for p in target.phases()] == [("one", 6 * SECOND), ("two", 8 * SECOND)]
    assert target.accesses()[1, "b"] == 20 * 5


def test_repeated_phases_are_counted_on() -> None:
    clock = FakeClock()
    target = make(SWITCH.replace("regions:", "repeat: true\nregions:"), clock)
    target.go()
    clock.time_ns = 7 * SECOND - 1
    assert [p.name for p in target.phases()] == ["one", "two", "one", "two", "one"]
    assert target.accesses()[0, "b"] == 3 * 256


def test_stop_ends_phases_truth_and_mappings() -> None:
    clock = FakeClock()
    target = make(SWITCH, clock)
    target.go()
    clock.time_ns = SECOND // 2
    assert len(target.vmas()) == 10
    target.stop()
    clock.time_ns = 100 * SECOND
    target.stop()
    assert target.vmas() == ()
    assert [(p.name, p.end_ns) for p in target.phases()] == [("one", SECOND // 2)]
    page = np.array([target.layout["a"][0] // 4096])
    assert target.truth().touched(page, 0, SECOND // 2)[0]
    assert not target.truth().touched(page, SECOND // 2, 10 * SECOND)[0]
    with pytest.raises(HarnessError, match="go was called"):
        target.go()


def test_stop_before_go_has_no_phases_and_second_go_is_refused() -> None:
    target = make(SWITCH, FakeClock())
    target.stop()
    assert target.phases() == ()
    other = make(SWITCH, FakeClock())
    other.go()
    with pytest.raises(HarnessError, match="twice"):
        other.go()


def test_physical_memory_is_asked_from_the_machine() -> None:
    target = make(SWITCH, FakeClock())
    with pytest.raises(NotSupported):
        target.physical()
    other = SimulatedTarget(
        parse(SWITCH), 1, 100, None, FakeClock(), physical_ranges=lambda start, end: [(0, end - start)]
    )
    assert other.physical() == {"a": [(0, 1 << 20)], "b": [(0, 1 << 20)]}


CHANGING = """
reason: mappings that come and go
repeat: true
regions:
  - {name: a, size: 1 MiB, mapped: 256 KiB}
  - {name: h, size: 1 MiB, memory: heap, mapped: 64 KiB}
phases:
  - name: grow
    duration: 1 s
    accesses: [{region: a, span: 0 .. 64 KiB, period: 10 ms}]
    actions:
      - {do: mremap, at: 500 ms, region: a, size: 1 MiB}
      - {do: brk, at: 600 ms, region: h, size: 1 MiB}
      - {do: mmap, at: 700 ms, region: b, span: 0 .. 64 KiB, populate: true}
  - name: shrink
    duration: 1 s
    accesses: []
    actions:
      - {do: munmap, region: b, span: 0 .. 64 KiB}
      - {do: mremap, region: a, size: 256 KiB}
      - {do: brk, region: h, size: 64 KiB}
      - {do: fork, lifetime: 1 s}
""".replace("  - {name: h,", "  - {name: b, size: 1 MiB, mapped: 0}\n  - {name: h,")


def test_mappings_follow_the_actions() -> None:
    clock = FakeClock()
    target = make(CHANGING, clock)
    (a, _), (b, _), (h, _) = (target.layout[name] for name in "abh")
    small = {(a, a + (256 << 10))}
    large = {(a, a + (1 << 20)), (b, b + (64 << 10))}
    clock.time_ns = SECOND
    before = set(target.vmas())
    assert small <= before
    target.go()
    assert set(target.vmas()) == before
    clock.time_ns += 800_000_000
    now = set(target.vmas())
    assert large <= now
    assert h + (1 << 20) in {end for _, end in now}
    page = np.array([b // 4096])
    assert target.truth().touched(page, SECOND + 700_000_000, SECOND + 700_000_001)[0]
    assert not target.truth().touched(page, SECOND, SECOND + 700_000_000)[0]
    clock.time_ns += 200_000_000
    assert set(target.vmas()) == before
    clock.time_ns += 1_800_000_000
    assert set(target.vmas()) == now, "repeated"
    times = target.mapping_times()
    first = [next(times) - SECOND for _ in range(7)]
    assert first == [t * 100_000_000 for t in (5, 6, 7, 10, 10, 10, 25)]


def test_private_memory_of_other_processes_is_reported() -> None:
    """Ranges are page aligned, exclude shared memory, and include islands and drift."""
    text = (
        "{reason: r, regions: [{name: own, size: 64 KiB}, {name: b, size: 64 KiB, memory: shmem}], phases: "
        "[{name: p, duration: 1 s, accesses: [{region: b, process: 1}, {region: own, span: 0 .. 6 KiB, "
        "stride: 1 KiB, process: 2, islands: 2, every: 16 KiB}, {region: own, span: 32 KiB .. 40 KiB}]}]}"
    )
    target = make(text, FakeClock())
    start = target.layout["own"][0]
    ((spans, truth),) = target.other_processes()
    assert spans == ((start, start + 8192), (start + 16384, start + 24576))
    target.go()
    pages = start // 4096 + np.arange(16)
    assert np.flatnonzero(truth.touched(pages, 0, 1 << 40)).tolist() == [0, 1, 4, 5]


def test_accesses_of_others_to_shared_memory_are_reported() -> None:
    text = (
        "{reason: r, regions: [{name: own, size: 64 KiB}, {name: b, size: 64 KiB, memory: shmem}], phases: "
        "[{name: p, duration: 1 s, accesses: [{region: b, process: 1, period: 10 ms}, "
        "{region: own, process: 2}]}]}"
    )
    clock = FakeClock()
    target = make(text, clock)
    pages = np.arange(target.layout["b"][0] // 4096, target.layout["b"][1] // 4096)
    for go in (False, True):
        if go:
            target.go()
        others = target.others()
        assert [span for span, _ in others] == [target.layout["b"]] * 2
        now = clock.now_ns()
        touched = [truth.touched(pages, now, now + SECOND // 50).any() for _, truth in others]
        assert touched == [go, False], "process 1 touches it, process 2 does not"
    target.stop()
    assert not target.others()[0][1].touched(pages, clock.now_ns() + 1, clock.now_ns() + SECOND).any()


def test_processes_have_their_own_accesses() -> None:
    text = (
        "{reason: r, regions: [{name: a, size: 64 KiB}, {name: b, size: 64 KiB}], phases: "
        "[{name: p, duration: 1 s, accesses: [{region: a, period: 10 ms}, {region: b, process: 1}]}]}"
    )
    clock = FakeClock()
    target = make(text, clock)
    target.go()
    clock.time_ns = SECOND // 2
    target.stop()
    pages = np.array([target.layout[name][0] // 4096 for name in "ab"])
    for process, expected in ((0, [True, False]), (1, [False, True]), (None, [True, True])):
        assert target.truth_of(process).touched(pages, 0, SECOND).tolist() == expected
    assert target.truth().touched(pages, 0, SECOND).tolist() == [True, False]
    assert target.accesses() == {(0, "a"): 50 * 16, (0, "b"): 250 * 16}
