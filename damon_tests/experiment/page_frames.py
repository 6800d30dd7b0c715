# SPDX-License-Identifier: GPL-2.0
"""The page frames of a target's memory, read before and after a recording."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from damon_tests.experiment.backend import Subject
from damon_tests.patterns.spec import SHARED, Pattern
from damon_tests.ports.arrays import I64
from damon_tests.workload.frame_truth import UNKNOWN
from damon_tests.workload.target import RunningTarget

_MOST_BYTES = 1 << 30  # of page tables of larger regions too much would have to be read


def frames_of(subject: Subject, target: RunningTarget) -> Mapping[str, I64]:
    """The frame of each page of each region now. Regions whose memory others use as well, and
    ones of more than 1 GiB, are left out: about their frames nothing is known."""
    return {
        name: subject.pages(target, start, end).frame
        for name, (start, end) in target.layout.items()
        if end - start <= _MOST_BYTES and not _shared(target.pattern, name)
    }


def _shared(pattern: Pattern, name: str) -> bool:
    return pattern.region(name).memory in SHARED and len({process for process, _ in pattern.workers}) > 1


def unmoved(before: Mapping[str, I64], after: Mapping[str, I64]) -> Mapping[str, I64]:
    """What was the same both times; the kernel may have moved pages meanwhile, nobody knows when."""
    return {name: np.where(before[name] == after[name], before[name], UNKNOWN) for name in before}
