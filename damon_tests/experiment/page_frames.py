# SPDX-License-Identifier: GPL-2.0
"""The page frames of a target's memory, read before and after a recording."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from damon_tests.experiment.backend import Subject
from damon_tests.patterns.spec import SHARED, Pattern
from damon_tests.ports import page_size
from damon_tests.ports.arrays import I64
from damon_tests.workload.frame_truth import UNKNOWN
from damon_tests.workload.target import RunningTarget

_MOST_PAGES = 1 << 18  # larger regions, of 1 GiB with pages of 4 KiB, have too many entries to read


def frames_of(subject: Subject, target: RunningTarget) -> Mapping[str, I64]:
    """Return the current frame of each page by region. Leave out regions whose memory is mapped elsewhere,
    too, and regions of more than 2¹⁸ pages: their frames are unknown."""
    return {
        name: subject.pages(target, start, end).frame
        for name, (start, end) in target.layout.items()
        if end - start <= _MOST_PAGES * page_size() and not _shared(target.pattern, name)
    }


def _shared(pattern: Pattern, name: str) -> bool:
    region = pattern.region(name)
    several = len({process for process, _ in pattern.workers}) > 1
    mapped_twice = region.same_as or any(other.same_as == name for other in pattern.regions)
    return region.memory in SHARED and bool(several or mapped_twice)


def unmoved(before: Mapping[str, I64], after: Mapping[str, I64]) -> Mapping[str, I64]:
    """Return the frames that are the same in both; -1 for pages that the kernel moved in between."""
    return {name: np.where(before[name] == after[name], before[name], UNKNOWN) for name in before}
