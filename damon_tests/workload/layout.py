# SPDX-License-Identifier: GPL-2.0
"""The layout of a target's memory, and the ranges that DAMON's three-regions rule finds in it.

vaddr monitoring drops the two biggest gaps between a process's mappings and monitors the rest. So a
target places its mappings in three groups, from low to high addresses, and keeps the two
gaps between the groups bigger than every gap inside a group:

1. the program: text, data, heap, with the region whose memory is "heap", if there is one;
2. the pattern's regions, each followed by a gap of ``gap_bytes``, and above them only what the
   kernel itself maps there (vvar and vdso, a few pages); regions with a ``gap_bytes`` of their own may
   put the biggest gaps elsewhere, and leave the three groups;
3. the stack.

So DAMON monitors the pattern's regions with the gaps between them, and less than 2 MiB of other memory.
The engine does the same in C, with the addresses of its kernel, and publishes them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import accumulate, pairwise

from damon_tests.patterns.mapped import Ranges, initial
from damon_tests.patterns.spec import Pattern, PatternRegion
from damon_tests.ports import UsageError, huge_page_size, page_size
from damon_tests.ports.ranges import Range
from damon_tests.ports.word import DEFAULT_WORD_BITS, word_bits

_TEXT_START = 0x400000
_PROGRAM_BYTES = (0x1000, 0x98000, 0x2C000, 0xB000)  # headers, text, constants, data
_HEAP_BYTES = 0x22000
# (end of user space, gap below the stack), by the bits of an unsigned long: x86-64 and arm64, 32-bit Arm. The
# engine makes the kernel leave the gap, by its stack limit.
_SPACES = {64: (1 << 47, 1 << 40), 32: (0xBF00_0000, 1 << 28)}
_VVAR_BYTES, _VDSO_BYTES = 0x4000, 0x2000  # just below the stack's gap
_FIVE_LEVEL_SHIFT = 9  # patterns beyond 47 bits of address space are placed within 56 bits


def plan_layout(pattern: Pattern, below: int | None = None) -> dict[str, tuple[int, int]]:
    """Return each region's bytes [start, end); the last ends at least ``gap_bytes`` below ``below``.

    Raises UsageError when the regions do not fit into the address space.
    """
    if below is None:
        below = _stack_end(pattern) - _stack_gap() - _whole_pages(_VDSO_BYTES) - _whole_pages(_VVAR_BYTES)
    layout: dict[str, tuple[int, int]] = {}
    for region in reversed(pattern.regions):
        if region.memory == "heap":
            start = -(-_heap_end() // huge_page_size()) * huge_page_size()
            layout[region.name] = (start, start + region.size_bytes)
            continue
        if region.gap_bytes is None:
            start = (below - pattern.gap_bytes - region.size_bytes) // huge_page_size() * huge_page_size()
        else:
            start = below - region.gap_bytes - region.size_bytes
        layout[region.name] = (start, start + region.size_bytes)
        below = start
    if below < _stack_gap():
        raise UsageError(
            f"pattern {pattern.name}: its regions do not fit into the address space; make them smaller"
        )
    return {region.name: layout[region.name] for region in pattern.regions}


def _stack_gap() -> int:
    return _SPACES[word_bits()][1]


def _whole_pages(size: int) -> int:
    return -(-size // page_size()) * page_size()


def _program() -> list[Range]:
    """Return the mappings of headers, text, constants and data, one after the other."""
    ends = list(accumulate((_whole_pages(size) for size in _PROGRAM_BYTES), initial=_TEXT_START))
    return list(pairwise(ends))


def _heap_start() -> int:
    return _program()[-1][1]


def _heap_end() -> int:
    return _heap_start() + _whole_pages(_HEAP_BYTES)


def _stack_end(pattern: Pattern) -> int:
    gaps = [pattern.gap_bytes if r.gap_bytes is None else r.gap_bytes for r in pattern.regions]
    total = sum(region.size_bytes + huge_page_size() for region in pattern.regions) + sum(gaps)
    end, gap = _SPACES[word_bits()]
    small = total < end - 4 * gap or word_bits() < DEFAULT_WORD_BITS
    return (end if small else end << _FIVE_LEVEL_SHIFT) - page_size()


def process_vmas(
    pattern: Pattern,
    layout: Mapping[str, tuple[int, int]],
    mapped: Callable[[PatternRegion], Ranges] = initial,
) -> tuple[tuple[int, int], ...]:
    """Return the bytes [start, end) of all mappings of a process like the engine, ascending.

    ``mapped`` returns the mapped parts of a region; default: those before the first phase.
    """
    heap_end = _heap_end()
    parts: list[tuple[int, int]] = []
    for region in pattern.regions:
        start = layout[region.name][0]
        if region.memory == "heap":
            heap_end = max([heap_end, *(start + end for _, end in mapped(region))])
        else:
            parts += [(start + a, start + b) for a, b in mapped(region)]
    stack_end = _stack_end(pattern)
    vdso_end = stack_end - _stack_gap()
    vdso = vdso_end - _whole_pages(_VDSO_BYTES)
    return (
        *_program(),
        (_heap_start(), heap_end),  # heap
        *sorted(parts),
        (vdso - _whole_pages(_VVAR_BYTES), vdso),  # vvar
        (vdso, vdso_end),  # vdso
        (stack_end - _whole_pages(0x21000), stack_end),  # stack
    )
