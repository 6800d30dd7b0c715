# SPDX-License-Identifier: GPL-2.0
"""Draw cases from a seed, and shrink one that fails to a small one that still fails.

A case is anything with ``simpler``: what a test runs, and what it prints when DAMON is wrong about it.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol, Self, TypeVar

from damon_tests.experiment.experiment import derive_seed


class Case(Protocol):
    """A drawn case."""

    def simpler(self) -> Iterator[Self]:
        """Yield simpler cases, those that differ most first."""
        ...


C = TypeVar("C", bound=Case)


@dataclass
class Draws:
    """Yield generators of random numbers: ``for draw in draws(20)``; at least so many, more with a budget.

    Each is seeded by the run's seed, the test and its number. ``seconds``: how long a test goes on drawing
    after its usual number (``--budget``); ``count`` is how many were drawn. ``shrinks``: False where only it
    matters that a case fails (``--fault``).
    """

    run_seed: int
    test_id: str
    seconds: float = 0.0
    shrinks: bool = True
    clock: Callable[[], float] = time.monotonic
    count: int = field(default=0, init=False)

    def __call__(self, least: int) -> Iterator[random.Random]:
        began = self.clock()
        while self.count < least or self.clock() - began < self.seconds:
            self.count += 1
            yield random.Random(self.seed_of(self.count))

    def shrink(self, case: C, fails: Callable[[C], bool], tries: int) -> C:
        """Return a simple case that still fails, with ``shrink``."""
        return shrink(case, fails, tries) if self.shrinks else case

    def seed_of(self, number: int) -> int:
        """Return the seed of the case with this number, from 1."""
        return derive_seed(self.run_seed, self.test_id, number, "drawn")


def first_failure(
    draws: Draws,
    least: int,
    draw: Callable[[random.Random], C],
    run: Callable[[C], tuple[Sequence[str], int]],
    run_kept: Callable[[C], tuple[Sequence[str], int]],
    tries: int,
) -> tuple[list[str], int]:
    """Run at least ``least`` drawn cases until one fails; return what is wrong with it, shrunk, and how much
    was judged.

    ``run`` returns what is wrong with a case, and how many reports it judged. ``run_kept`` does the same for
    the shrunk case, whose recording is kept. ``tries``: cases that shrinking may run.
    """
    judged = 0
    for rng in draws(least):
        case = draw(rng)
        wrong, reports = run(case)
        judged += reports
        if wrong:
            small = draws.shrink(case, lambda candidate: bool(run(candidate)[0]), tries)
            again, _ = run_kept(small)
            text = "; ".join(again) or f"passes when repeated; at first: {'; '.join(wrong)}"
            how = "as drawn" if small == case else "shrunk"
            return [f"case {draws.count}, {how}: {small}: {text}"], judged
    return [], judged


def shrink(case: C, fails: Callable[[C], bool], tries: int) -> C:
    """Return a simple case that still fails; ``fails`` is asked at most ``tries`` times.

    ``case`` itself is known to fail.
    """
    left = tries
    while True:
        for candidate in case.simpler():
            if not left:
                return case
            left -= 1
            if fails(candidate):
                case = candidate
                break
        else:
            return case
