# SPDX-License-Identifier: GPL-2.0
"""Drawn accesses: memory touched through another mapping, and rates that step between none, few and many."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal

from damon_tests.patterns.spec import Access, Memory, Pattern, PatternRegion, Phase
from damon_tests.ports import NSEC_PER_MSEC, NSEC_PER_SEC, page_size
from damon_tests.scenario.drawing import Case

HOUR_NS = 3600 * NSEC_PER_SEC
MANY_NS = 2 * NSEC_PER_MSEC
"""Far below any sampling interval of the tests: in use all the time."""


@dataclass(frozen=True)
class Sharing(Case):
    """``pages`` of memory that is touched only ``through`` another process or a second mapping."""

    memory: Memory
    through: Literal["process", "mapping"]
    pages: int
    gap_pages: int

    def pattern(self) -> Pattern:
        """Return a pattern whose region "watched" is in use, but never through the target's mapping of it."""
        size = self.pages * page_size()
        watched = PatternRegion("watched", size, memory=self.memory, gap_bytes=self.gap_pages * page_size())
        if self.through == "process":
            regions: tuple[PatternRegion, ...] = (watched,)
            access = Access("watched", 0, size, period_ns=MANY_NS, process=1)
        else:
            regions = (watched, replace(watched, name="again", same_as="watched"))
            access = Access("again", 0, size, period_ns=MANY_NS)
        phase = Phase("steady", HOUR_NS, (access,))
        return Pattern("drawn-sharing", "memory used through another mapping", regions, (phase,))

    def simpler(self) -> Iterator[Sharing]:
        if self.pages > 1:
            yield replace(self, pages=1)
            yield replace(self, pages=self.pages // 2)
        if self.gap_pages > 1:
            yield replace(self, gap_pages=1)
        if self.memory != "shmem":
            yield replace(self, memory="shmem")

    def __str__(self) -> str:
        return f"{self.pages} pages of {self.memory} touched through another {self.through}"


def draw_sharing(rng: random.Random) -> Sharing:
    return Sharing(
        rng.choice(("shmem", "file")),
        rng.choice(("process", "mapping")),
        int(2 ** rng.uniform(0, 9)),
        int(2 ** rng.uniform(0, 30)),
    )


@dataclass(frozen=True)
class Rates(Case):
    """``steps[i][p]``: the samples between two touches of each page of mapping i in phase p; 0: untouched, 1:
    touched in every sampling interval. ``sizes``: pages of each mapping."""

    sizes: tuple[int, ...]
    steps: tuple[tuple[int, ...], ...]

    def pattern(self, sample_ns: int, phase_ns: int) -> Pattern:
        regions = tuple(PatternRegion(f"m{i}", pages * page_size()) for i, pages in enumerate(self.sizes))
        phases = tuple(
            Phase(
                f"p{number}",
                phase_ns,
                tuple(
                    Access(
                        f"m{i}", 0, self.sizes[i] * page_size(), period_ns=period_ns(steps[number], sample_ns)
                    )
                    for i, steps in enumerate(self.steps)
                    if steps[number]
                ),
            )
            for number in range(len(self.steps[0]))
        )
        return Pattern("drawn-rates", "rates that step between none, few and many", regions, phases)

    def simpler(self) -> Iterator[Rates]:
        for i in range(len(self.sizes)):
            if len(self.sizes) > 1:
                yield Rates(self.sizes[:i] + self.sizes[i + 1 :], self.steps[:i] + self.steps[i + 1 :])
        for phase in range(len(self.steps[0])):
            if len(self.steps[0]) > 1:
                yield replace(self, steps=tuple(s[:phase] + s[phase + 1 :] for s in self.steps))
        for i, pages in enumerate(self.sizes):
            if pages > 1:
                yield replace(self, sizes=(*self.sizes[:i], pages // 2, *self.sizes[i + 1 :]))

    def __str__(self) -> str:
        parts = [
            f"{pages} pages every {'/'.join(map(str, s))} samples"
            for pages, s in zip(self.sizes, self.steps, strict=True)
        ]
        return "; ".join(parts)


def period_ns(step: int, sample_ns: int) -> int:
    """Return the time between two passes of memory touched every ``step`` samples."""
    return MANY_NS if step == 1 else step * sample_ns


def draw_rates(rng: random.Random, phases: int) -> Rates:
    """Return one to five mappings, each with a rate for each phase."""
    count = rng.randint(1, 5)
    sizes = tuple(int(2 ** rng.uniform(0, 8)) for _ in range(count))
    return Rates(sizes, tuple(tuple(_step(rng) for _ in range(phases)) for _ in range(count)))


def _step(rng: random.Random) -> int:
    return rng.choice((0, 1, int(10 ** rng.uniform(1, 2))))


def draw_sparse_pages(rng: random.Random) -> Pattern:
    """Return a pattern that touches one of 10 to 100 pages, each in every sampling interval.

    DAMON checks a page of a region at random, and so sees few accesses of many.
    """
    pages = rng.randint(2048, 8192)
    stride = int(10 ** rng.uniform(1, 2)) * page_size()
    region = PatternRegion("data", pages * page_size())
    first = rng.randrange(pages // 2) * page_size()
    length = rng.randint(pages // 4, pages // 2) * page_size()
    access = Access("data", first, first + length, stride_bytes=stride, period_ns=MANY_NS)
    return Pattern(
        "drawn-sparse", "one of many pages is used", (region,), (Phase("steady", HOUR_NS, (access,)),)
    )
