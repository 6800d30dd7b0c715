# SPDX-License-Identifier: GPL-2.0
"""Drawn address spaces: mappings whose gaps come in every order of size and place, and that change.

DAMON's vaddr monitors a process's mappings without their two largest gaps. Which gaps those are, and where,
depends on how a program was linked and what it maps; a drawn space puts them anywhere.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from damon_tests.patterns.spec import Access, Action, Pattern, PatternRegion, Phase
from damon_tests.ports import NSEC_PER_SEC, page_size
from damon_tests.scenario.drawing import Case

HOUR_NS = 3600 * NSEC_PER_SEC
MOST_MAPPINGS = 8
MOST_BYTES = 100 << 40
"""Of a space, so that it fits into 47 bits beside the program and its stack."""
LARGEST_GAP = 60 << 40
TOUCHED_PAGES = 64
TOUCH_PERIOD_NS = 4_000_000

Life = Literal["stays", "goes", "comes"]


@dataclass(frozen=True)
class Mapping:
    """``gap_bytes``: unmapped above it. ``life``: whether it goes or comes when the space changes."""

    size_bytes: int
    gap_bytes: int
    life: Life = "stays"

    def __str__(self) -> str:
        pages, gap_pages = self.size_bytes // page_size(), self.gap_bytes // page_size()
        return f"{pages} pages, {self.life}, gap {gap_pages}"


@dataclass(frozen=True)
class AddressSpace:
    """Mappings at ascending addresses."""

    mappings: tuple[Mapping, ...]

    def pattern(self, name: str, stays_ns: int) -> Pattern:
        """Return a pattern of these mappings, which change ``stays_ns`` after its start."""
        regions = tuple(
            PatternRegion(
                f"m{i}",
                mapping.size_bytes,
                populate=False,
                mapped_bytes=0 if mapping.life == "comes" else None,
                gap_bytes=mapping.gap_bytes,
            )
            for i, mapping in enumerate(self.mappings)
        )
        accesses = tuple(
            Access(
                f"m{i}", 0, min(TOUCHED_PAGES * page_size(), mapping.size_bytes), period_ns=TOUCH_PERIOD_NS
            )
            for i, mapping in enumerate(self.mappings)
            if mapping.life == "stays"
        )[:1]
        actions = tuple(
            Action("munmap" if mapping.life == "goes" else "mmap", 0, f"m{i}", 0, mapping.size_bytes)
            for i, mapping in enumerate(self.mappings)
            if mapping.life != "stays"
        )
        phases = (Phase("before", stays_ns, accesses), Phase("after", HOUR_NS, accesses, actions))
        return Pattern(name, "a drawn address space", regions, phases)

    def simpler(self) -> Iterator[AddressSpace]:
        """Yield spaces with one mapping less, with smaller gaps and mappings, and without changes."""
        for i in range(len(self.mappings)):
            if len(self.mappings) > 1:
                yield AddressSpace(self.mappings[:i] + self.mappings[i + 1 :])
        for i, mapping in enumerate(self.mappings):
            for other in _simpler_mappings(mapping):
                yield AddressSpace((*self.mappings[:i], other, *self.mappings[i + 1 :]))

    def __str__(self) -> str:
        return "[" + "; ".join(map(str, self.mappings)) + "]"


def _simpler_mappings(mapping: Mapping) -> Iterator[Mapping]:
    if mapping.life != "stays":
        yield replace(mapping, life="stays")
    if mapping.size_bytes > page_size():
        yield replace(mapping, size_bytes=page_size())
    if mapping.gap_bytes > page_size():
        yield replace(mapping, gap_bytes=page_size())
        rounded = 1 << (mapping.gap_bytes.bit_length() - 1)
        if rounded != mapping.gap_bytes:
            yield replace(mapping, gap_bytes=rounded)


@dataclass(frozen=True)
class Spaces(Case):
    """The address spaces of the targets of one run, which change at the same time."""

    spaces: tuple[AddressSpace, ...]

    def patterns(self, stays_ns: int) -> list[Pattern]:
        return [space.pattern(f"drawn-{i}", stays_ns) for i, space in enumerate(self.spaces)]

    def simpler(self) -> Iterator[Spaces]:
        """Yield cases without one of the targets, then with one of them simpler."""
        for i in range(len(self.spaces)):
            if len(self.spaces) > 1:
                yield Spaces(self.spaces[:i] + self.spaces[i + 1 :])
        for i, space in enumerate(self.spaces):
            for simpler in space.simpler():
                yield Spaces((*self.spaces[:i], simpler, *self.spaces[i + 1 :]))

    def __str__(self) -> str:
        return ", ".join(map(str, self.spaces))


def draw_spaces(rng: random.Random, most_targets: int) -> Spaces:
    """Return one to ``most_targets`` drawn address spaces."""
    return Spaces(tuple(draw_space(rng) for _ in range(rng.randint(1, most_targets))))


def draw_space(rng: random.Random) -> AddressSpace:
    """Return an address space of one to ``MOST_MAPPINGS`` mappings. Half of the spaces change."""
    count = rng.randint(1, MOST_MAPPINGS)
    sizes = [_pages(rng, 12) for _ in range(count)]
    if rng.random() < 0.1:
        sizes[rng.randrange(count)] = _pages(rng, 20)  # a reservation of up to 4 GiB
    gaps = _limited(SHAPES[rng.choice(sorted(SHAPES))](rng, count))
    lives: list[Life] = ["stays"] * count
    if rng.random() < 0.5:
        lives = [rng.choice(("stays", "goes", "comes")) for _ in range(count)]
    return AddressSpace(tuple(map(Mapping, sizes, gaps, lives)))


def _pages(rng: random.Random, bits: float) -> int:
    """Return bytes of whole pages: 1 to 2**bits of them, each size as likely as its double."""
    return int(2 ** rng.uniform(0, bits)) * page_size()


def _limited(gaps: list[int]) -> list[int]:
    """Return the gaps with the largest ones halved until all fit."""
    gaps = [min(gap, LARGEST_GAP) for gap in gaps]
    while sum(gaps) > MOST_BYTES:
        largest = gaps.index(max(gaps))
        gaps[largest] = gaps[largest] // 2 // page_size() * page_size()
    return gaps


def _any(rng: random.Random, count: int) -> list[int]:
    return [_pages(rng, 33.9) for _ in range(count)]


def _static(rng: random.Random, count: int) -> list[int]:
    """Return small gaps: the largest ones are around all mappings."""
    return [_pages(rng, 8) for _ in range(count)]


def _hole_low(rng: random.Random, count: int) -> list[int]:
    return [rng.randint(30 << 28, 60 << 28) * page_size(), *(_pages(rng, 20) for _ in range(count - 1))]


def _hole_high(rng: random.Random, count: int) -> list[int]:
    return _hole_low(rng, count)[::-1]


def _adjacent(rng: random.Random, count: int) -> list[int]:
    """Return gaps of which the two largest are on both sides of one mapping."""
    gaps = [_pages(rng, 16) for _ in range(count)]
    first = rng.randrange(count)
    for i in (first, min(first + 1, count - 1)):
        gaps[i] = rng.randint(2 << 28, 40 << 28) * page_size()
    return gaps


def _equal(rng: random.Random, count: int) -> list[int]:
    """Return gaps of the same size: the lowest of them count as the largest."""
    return [_pages(rng, 33)] * count


def _rising(rng: random.Random, count: int) -> list[int]:
    gaps: Sequence[int] = sorted(_any(rng, count))
    return list(gaps if rng.random() < 0.5 else reversed(gaps))


SHAPES = {
    "any": _any,
    "static": _static,
    "hole low": _hole_low,
    "hole high": _hole_high,
    "adjacent": _adjacent,
    "equal": _equal,
    "rising": _rising,
}
