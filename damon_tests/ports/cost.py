# SPDX-License-Identifier: GPL-2.0
"""The cost of kernel threads: a call tree in instructions, or the scheduler's nanoseconds."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Literal, Protocol

Unit = Literal["instructions", "ns"]


@dataclass(frozen=True)
class CallPath:
    """A function as called through ``names`` (outermost first, the function last).

    ``instructions``: executed by the function itself. ``calls``: how often it was entered through this path.
    ``interrupt``: an interrupt or exception ran it, not a call of the thread.
    """

    names: tuple[str, ...]
    calls: int
    instructions: int
    interrupt: bool = False


@dataclass(frozen=True)
class CallTree:
    """Everything that the threads of a window executed, by call path.

    Methods exclude interrupts, which belong to other activity of the machine, unless they say otherwise.
    A function that calls itself counts once in ``inclusive``.
    """

    paths: tuple[CallPath, ...]

    @property
    def instructions(self) -> int:
        """Return the instructions of all functions, without interrupts."""
        return sum(p.instructions for p in self.paths if not p.interrupt)

    @property
    def interrupts(self) -> int:
        """Return the instructions of interrupts and exceptions that came while the threads ran."""
        return sum(p.instructions for p in self.paths if p.interrupt)

    def calls(self, function: str) -> int:
        """Return how often the function was entered."""
        return sum(p.calls for p in self.paths if p.names[-1] == function and not p.interrupt)

    def own(self, function: str) -> int:
        """Return the instructions of the function itself."""
        return sum(p.instructions for p in self.paths if p.names[-1] == function and not p.interrupt)

    def inclusive(self, *functions: str) -> int:
        """Return the instructions of these functions and of all functions that they called."""
        return self.only(*functions).instructions

    def only(self, *functions: str) -> CallTree:
        """Return the part of the tree with these functions and the functions that they called."""
        wanted = set(functions)
        return CallTree(tuple(p for p in self.paths if not wanted.isdisjoint(p.names)))

    def without(self, *functions: str) -> CallTree:
        """Return the tree without these functions and the functions that they called."""
        unwanted = set(functions)
        return CallTree(tuple(p for p in self.paths if unwanted.isdisjoint(p.names)))

    def below(self, function: str) -> CallTree:
        """Return the part of the tree that the function called, with it as the root; interrupts included."""
        paths = [
            CallPath(p.names[p.names.index(function) :], p.calls, p.instructions, p.interrupt)
            for p in self.paths
            if function in p.names
        ]
        return merged(paths)

    def functions(self) -> Mapping[str, int]:
        """Return every function's own instructions, the most expensive first."""
        counts: Counter[str] = Counter()
        for path in self.paths:
            if not path.interrupt:
                counts[path.names[-1]] += path.instructions
        return dict(counts.most_common())

    def folded(self, *, interrupts: bool = False) -> str:
        """Return a line per path, ``outer;inner instructions``: the input of flame graph programs."""
        lines = [
            f"{';'.join(p.names)} {p.instructions}"
            for p in self.paths
            if p.instructions and (interrupts or not p.interrupt)
        ]
        return "\n".join(lines) + "\n" if lines else ""


def merged(paths: Sequence[CallPath]) -> CallTree:
    """Return a tree in which every path occurs once."""
    calls: Counter[tuple[tuple[str, ...], bool]] = Counter()
    instructions: Counter[tuple[tuple[str, ...], bool]] = Counter()
    for path in paths:
        key = path.names, path.interrupt
        calls[key] += path.calls
        instructions[key] += path.instructions
    return CallTree(tuple(CallPath(k[0], calls[k], instructions[k], k[1]) for k in sorted(instructions)))


@dataclass(frozen=True)
class ThreadCost:
    """Cost ``used`` by the threads of a name, interrupts included, in the window's unit. ``switches``: how
    often they were scheduled in."""

    used: int
    switches: int


@dataclass(frozen=True)
class Cost:
    """The cost counted in a window.

    ``source``: "emulator" (exact instructions) or "schedstat" (ns that the scheduler charged, including
    interrupts and other disturbances). ``used``: cost of the selected threads, in ``unit``, without
    interrupts if the source separates them. ``window_ns``: length of the window, on the machine's clock.
    ``tree`` is None if the source has only time. ``threads``: every thread that ran, by name.
    """

    source: str
    unit: Unit
    used: int
    switches: int
    window_ns: int
    tree: CallTree | None = None
    threads: Mapping[str, ThreadCost] = field(default_factory=dict)


@dataclass
class CostWindow:
    """A window that is being counted; ``cost`` is set when it closes."""

    cost: Cost | None = None

    @property
    def result(self) -> Cost:
        """Return the cost. Raises RuntimeError while the window is open."""
        if self.cost is None:
            raise RuntimeError("a window's cost is known after it has closed")
        return self.cost


class CostProbe(Protocol):
    """Counts the cost of a machine's threads."""

    unit: Unit

    def prepare(self) -> None:
        """Do slow preparations of the first window now, so that it opens quickly."""
        ...

    def window(self, thread: str) -> AbstractContextManager[CostWindow]:
        """Count until the context is left.

        ``thread``: prefix of the threads' names ("kdamond"); empty for all threads, if the probe supports it.
        Raises NotSupported when it cannot count here, and HarnessError.
        """
        ...
