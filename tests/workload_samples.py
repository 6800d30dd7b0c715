# SPDX-License-Identifier: GPL-2.0
"""What tests of workloads compute on their own: the slots of one pass, and the ranges that vaddr monitors."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from damon_tests.ports.arrays import I64
from damon_tests.workload.random_order import draw_passes


def pass_pages(seed: int, phase: int, term: int, pass_index: int, *, touches: int, slots: int) -> I64:
    """Return the slots that one pass of a random term touches, in order, int64 (touches,)."""
    passes = np.array([pass_index], dtype=np.int64)
    row: I64 = draw_passes(seed, phase, term, passes, touches=touches, slots=slots)[0]
    return row


def three_regions(vmas: Sequence[tuple[int, int]]) -> tuple[tuple[int, int], ...]:
    """Return the ranges that vaddr monitors: the ascending mappings without the two biggest gaps.

    Of equal gaps the lower one counts as bigger (specification §3.1). Return () with fewer than two gaps.
    """
    gaps = [(vmas[i][1], vmas[i + 1][0]) for i in range(len(vmas) - 1)]
    biggest = sorted(gaps, key=lambda gap: gap[0] - gap[1])[:2]
    if len(biggest) < 2 or any(start == end for start, end in biggest):
        return ()
    first, second = sorted(biggest)
    return (vmas[0][0], first[0]), (first[1], second[0]), (second[1], vmas[-1][1])
