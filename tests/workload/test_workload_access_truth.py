# SPDX-License-Identifier: GPL-2.0
"""The truth of recorded accesses answers as a list of all accesses would, for times not below the gap."""

from __future__ import annotations

import numpy as np
import pytest

from damon_tests.ports import page_size
from damon_tests.ports.accesses import AccessKind, AccessRuns, Recorded, Space
from damon_tests.workload.access_truth import AccessTruth, of_frames, of_pages

GAP = 10
NOTHING = np.zeros(0, np.int64)


def runs_of(accesses: list[tuple[int, int, int]], gap: int = GAP) -> list[tuple[int, int, int, int]]:
    """(page, first, last, kind) as the plugin makes them of (time, page, kind), ascending by time."""
    runs: list[tuple[int, int, int, int]] = []
    open_runs: dict[tuple[int, int], tuple[int, int]] = {}
    for time, page, kind in accesses:
        first, last = open_runs.get((page, kind), (time, time))
        if time - last > gap:
            runs.append((page, first, last, kind))
            first = time
        open_runs[page, kind] = first, time
    return runs + [(page, first, last, kind) for (page, kind), (first, last) in open_runs.items()]


def truth_of(accesses: list[tuple[int, int, int]], gap: int = GAP) -> AccessTruth:
    columns = np.array(runs_of(accesses, gap), np.int64).reshape(-1, 4).T
    return AccessTruth(columns[0], columns[1], columns[2], span_ns=(0, 1000), gap_ns=gap)


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("coarser", [1, 3])
def test_answers_equal_those_of_all_accesses(seed: int, coarser: int) -> None:
    """Runs of several kinds overlap; merging them, and a larger gap, loses nothing for windows that long."""
    rng = np.random.default_rng(seed)
    times = np.sort(rng.integers(0, 1000, 300))
    accesses = [(int(t), int(rng.integers(5, 12)), int(rng.integers(0, 3))) for t in times]
    truth = truth_of(accesses)
    if coarser > 1:
        truth = AccessTruth(
            truth.pages, truth.first_ns, truth.last_ns, span_ns=(0, 1000), gap_ns=coarser * GAP
        )
    pages = np.arange(0, 20)
    for _ in range(200):
        start = int(rng.integers(-50, 1000))
        end = start + int(rng.integers(coarser * GAP, 200))
        expected = [any(p == page and start <= t < end for t, p, _ in accesses) for page in pages]
        assert truth.touched(pages, start, end).tolist() == expected


def test_each_page_has_its_own_window() -> None:
    truth = truth_of([(100, 7, 0), (200, 8, 0)])
    windows = np.array([90, 90, 190], np.int64)
    assert truth.touched_each(np.array([7, 8, 8]), windows, windows + 20).tolist() == [True, False, True]


def test_rate_counts_windows_with_an_access() -> None:
    truth = truth_of([(t, 7, 0) for t in range(0, 100, 5)])
    assert truth.rate(np.array([6, 7]), 0, 200, 20).tolist() == [0.0, 0.5]
    with pytest.raises(ValueError, match="shorter than one window"):
        truth.rate(np.array([7]), 0, 10, 20)


def test_no_accesses() -> None:
    truth = AccessTruth(
        NOTHING, NOTHING, NOTHING, span_ns=(0, 10), gap_ns=GAP, mapped=[(page_size(), 3 * page_size())]
    )
    assert truth.ranges() == ((page_size(), 3 * page_size()),)
    assert not truth.touched(np.arange(4), 0, 10).any()


def test_part_of_memory() -> None:
    part = truth_of([(100, 7, 0), (100, 8, 0)]).within([(8 * page_size(), 9 * page_size())])
    assert part.touched(np.array([7, 8]), 90, 110).tolist() == [False, True]


def recorded() -> AccessRuns:
    """A process before and after exec, and another one that shares a frame with it."""
    return AccessRuns(
        page=np.array([7, 7, 9, 9]),
        first_ns=np.array([0, 100, 0, 50]),
        last_ns=np.array([10, 110, 10, 60]),
        frame=np.array([30, 31, 30, -1]),
        space=np.array([1, 2, 3, 3]),
        kind=np.array(
            [AccessKind.LOAD, AccessKind.STORE, AccessKind.KERNEL_STORE, AccessKind.LOAD], np.uint8
        ),
        spaces=(Space(1, 50, "sh"), Space(2, 50, "redis-server"), Space(3, 60, "init")),
        span_ns=(0, 200),
        gap_ns=GAP,
        recorded=Recorded(4, 0, 1, 0, 0.0),
    )


def test_exec_gives_a_process_another_space() -> None:
    truth = of_pages(recorded().of_process(50))
    assert truth.touched(np.array([7, 9]), 0, 20).tolist() == [True, False]
    assert truth.touched(np.array([7]), 100, 120).all()


def test_frames_are_those_of_all_processes() -> None:
    truth = of_frames(recorded())
    assert truth.touched(np.array([30, 31]), 0, 20).tolist() == [True, False]
    assert not truth.touched(np.array([-1]), 0, 200).any()


def test_loads_and_stores_apart() -> None:
    stores = recorded().of_kinds([AccessKind.STORE, AccessKind.KERNEL_STORE])
    assert stores.page.tolist() == [7, 9]
