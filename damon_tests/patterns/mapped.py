# SPDX-License-Identifier: GPL-2.0
"""Compute the mapped ranges over a pattern's actions, and check its accesses against them."""

from __future__ import annotations

from dataclasses import dataclass

from damon_tests.patterns.spec import SHARED, Access, Action, Do, Pattern, PatternRegion, Phase
from damon_tests.ports import page_size
from damon_tests.ports.ranges import Range, joined, without

Ranges = tuple[Range, ...]

MAPPING_ACTIONS = ("mmap", "munmap", "mremap", "brk")
DROPPING = ("munmap", "mremap", "brk", "dontneed", "free", "exec")


@dataclass(frozen=True)
class Problem:
    """A problem of a pattern as a whole: where (by index), and the message."""

    phase: int
    list_name: str  # "accesses" or "actions"
    index: int
    message: str


def initial(region: PatternRegion) -> Ranges:
    """Return the byte ranges of a region that are mapped before the first phase."""
    return ((0, region.initially_mapped),) if region.initially_mapped else ()


def after(mapped: Ranges, action: Action, region: PatternRegion) -> Ranges:
    """Return the mapped ranges of a region after an action."""
    if action.do == "exec":
        return initial(region)
    if action.region != region.name:
        return mapped
    if action.do == "mmap":
        return tuple(joined([*mapped, (action.start_bytes, action.end_bytes)]))
    if action.do == "munmap":
        return tuple(without(mapped, [(action.start_bytes, action.end_bytes)]))
    if action.do in ("mremap", "brk"):
        return ((0, action.end_bytes),)
    return mapped


def _holds(mapped: Ranges, start: int, end: int) -> bool:
    return any(low <= start and end <= high for low, high in mapped)


def problems(pattern: Pattern) -> Problem | None:
    """Return the first problem of actions, and of accesses after them; None without a problem."""
    return _actions_problem(pattern) or _accesses_problem(pattern) or _pointers_problem(pattern)


def _actions_problem(pattern: Pattern) -> Problem | None:
    mapped = {region.name: initial(region) for region in pattern.regions}
    for number, phase in enumerate(pattern.phases):
        for index, action in enumerate(phase.actions):
            if action.do == "exec" and pattern.workers != ((0, 0),):
                return Problem(number, "actions", index, "exec is for patterns of one thread and one process")
            wrong = action.region and _wrong_action(action, mapped[action.region])
            if wrong:
                return Problem(number, "actions", index, wrong)
            for region in pattern.regions:
                mapped[region.name] = after(mapped[region.name], action, region)
    for region in pattern.regions:
        if pattern.repeat and mapped[region.name] != initial(region):
            last = max(i for i, phase in enumerate(pattern.phases) if phase.actions)
            message = (
                f"with 'repeat', the last phase must leave region {region.name!r} mapped as it was at first"
            )
            return Problem(last, "actions", len(pattern.phases[last].actions) - 1, message)
    return None


def _wrong_action(action: Action, mapped: Ranges) -> str:
    if action.do == "mmap":
        if any(start < action.end_bytes and action.start_bytes < end for start, end in mapped):
            return f"a part of this span of region {action.region!r} is mapped already; unmap it first"
    elif action.do in ("mremap", "brk"):
        if len(mapped) != 1 or mapped[0][0]:
            return f"region {action.region!r} is not mapped as one piece from its start at that time"
        if mapped[0][1] == action.end_bytes:
            return f"region {action.region!r} has this size already"
    elif not _holds(mapped, action.start_bytes, action.end_bytes):
        return f"not all of this span of region {action.region!r} is mapped at that time"
    return ""


def states(pattern: Pattern, region: PatternRegion, phase: int) -> list[Ranges]:
    """Return a region's mapped ranges in a phase: after the actions at its start, and after each later."""
    mapped = initial(region)
    for earlier in pattern.phases[:phase]:
        for action in earlier.actions:
            mapped = after(mapped, action, region)
    states_so_far = [mapped]
    for action in pattern.phases[phase].actions:
        mapped = after(states_so_far[-1], action, region)
        states_so_far = [*states_so_far, mapped] if action.at_ns else [mapped]
    return states_so_far


def _accesses_problem(pattern: Pattern) -> Problem | None:
    done = {(action.do, action.region) for phase in pattern.phases for action in phase.actions}
    for number, phase in enumerate(pattern.phases):
        for index, access in enumerate(phase.accesses):
            message = _wrong_access(pattern, number, access, done)
            if message:
                return Problem(number, "accesses", index, message)
    return None


def _wrong_access(pattern: Pattern, phase: int, access: Access, done: set[tuple[Do, str]]) -> str:
    region = pattern.region(access.region)
    during = states(pattern, region, phase) if access.process == 0 else [initial(region)]
    for start, end in access.reach():
        if not all(_holds(mapped, start, -(-end // page_size()) * page_size()) for mapped in during):
            return f"not all that it touches of region {region.name!r} is mapped during the whole phase"
    if access.process:
        return ""
    mine = {do for do, name in done if name in (region.name, "")}
    if access.thread and mine & set(MAPPING_ACTIONS):
        return f"the mapping of region {region.name!r} changes; let thread 0, which does that, access it"
    if access.order == "chase" and mine & {*DROPPING, "fork"}:
        return f"what region {region.name!r} holds is dropped at some time, and the chase's pointers with it"
    if access.kind == "read" and region.memory not in SHARED and mine & set(DROPPING):
        return (
            f"what region {region.name!r} holds is dropped at some time; reads would then find the kernel's "
            "zero page, which DAMON does not watch"
        )
    return ""


def _pointers_problem(pattern: Pattern) -> Problem | None:
    """Return the first access of any phase that overwrites a chase's pointers."""
    everything = [
        (n, i, access) for n, phase in enumerate(pattern.phases) for i, access in enumerate(phase.accesses)
    ]
    for _, _, chase in everything:
        if chase.order != "chase":
            continue
        for number, index, other in everything:
            if _overwrites(other, chase):
                message = f"overwrites the pointers that a chase in region {chase.region!r} follows"
                return Problem(number, "accesses", index, message)
    return None


def _overwrites(other: Access, chase: Access) -> bool:
    if other.region != chase.region or other.process or (other.kind == "read" and other.order != "chase"):
        return False
    same = ("start_bytes", "end_bytes", "stride_bytes", "islands", "every_bytes")
    if other.order == "chase" and all(getattr(other, key) == getattr(chase, key) for key in same):
        return False
    return any(a < d and c < b for a, b in other.reach() for c, d in chase.reach())


def changes_mappings(phase: Phase) -> bool:
    """Return whether an action of the phase changes mappings."""
    return any(action.do in MAPPING_ACTIONS for action in phase.actions)
