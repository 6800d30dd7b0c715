# SPDX-License-Identifier: GPL-2.0
"""The truth of a process by physical address."""

from __future__ import annotations

import numpy as np
from synthetic_recordings import MS, ListTruth, Touch

from damon_tests.workload.frame_truth import UNKNOWN, FrameTruth, frame_ranges

PAGE = 4096


def test_frames_answer_for_the_pages_in_them() -> None:
    truth = ListTruth([(100 * PAGE, 108 * PAGE)], [Touch(102 * PAGE, 104 * PAGE, 10 * MS, 50 * MS)], 100 * MS)
    layout = {"a": (100 * PAGE, 104 * PAGE), "b": (106 * PAGE, 108 * PAGE)}
    frames = {"a": np.array([9, 8, 7, 1]), "b": np.array([UNKNOWN, 2])}
    physical = FrameTruth(truth, layout, frames)
    assert physical.ranges() == ((1 * PAGE, 3 * PAGE), (7 * PAGE, 10 * PAGE))
    asked = np.array([0, 1, 2, 7, 8, 9, 50])
    assert physical.touched(asked, 0, 100 * MS).tolist() == [False, True, False, True, False, False, False]
    assert not physical.touched(asked, 60 * MS, 100 * MS).any()
    late = np.full(7, 60 * MS)
    late[3] = 40 * MS
    assert physical.touched_each(asked, late, late + 5 * MS).tolist() == [False] * 3 + [True] + [False] * 3
    assert physical.rate(asked, 0, 80 * MS, 20 * MS)[3] == 0.75
    assert physical.span_ns() == (0, 100 * MS)


def test_unknown_frames_are_untouched() -> None:
    truth = ListTruth([(0, PAGE)], [], 100 * MS)
    physical = FrameTruth(truth, {"a": (0, PAGE)}, {"a": np.array([UNKNOWN])})
    assert physical.ranges() == ()
    assert not physical.touched(np.array([0, 1]), 0, 1).any()
    assert frame_ranges(np.array([5, 3, 4, UNKNOWN, 9])) == ((3 * PAGE, 6 * PAGE), (9 * PAGE, 10 * PAGE))
