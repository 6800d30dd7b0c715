# SPDX-License-Identifier: GPL-2.0
"""What threads of a kernel cost: a tree of calls in instructions, or the scheduler's nanoseconds."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Literal, Protocol

Unit = Literal["instructions", "ns"]


@dataclass(frozen=True)
class CallPath:
    """One function as called through ``names`` (outermost first, itself last).

    ``instructions``: executed by the function itself. ``calls``: how often it was entered this way.
    ``interrupt``: it ran because an interrupt or exception came, not because the thread called it.
    """

    names: tuple[str, ...]
    calls: int
    instructions: int
    interrupt: bool = False


@dataclass(frozen=True)
class CallTree:
    """Everything that the threads of a window executed, by call path.

    Methods leave interrupts out unless they say otherwise: they belong to whatever else the machine does.
    A function that calls itself counts once in ``inclusive``.
    """

    paths: tuple[CallPath, ...]

    @property
    def instructions(self) -> int:
        """All of them, without interrupts."""
        return sum(p.instructions for p in self.paths if not p.interrupt)

    @property
    def interrupts(self) -> int:
        """Instructions of interrupts and exceptions that came while the threads ran."""
        return sum(p.instructions for p in self.paths if p.interrupt)

    def calls(self, function: str) -> int:
        """How often the function was entered."""
        return sum(p.calls for p in self.paths if p.names[-1] == function and not p.interrupt)

    def own(self, function: str) -> int:
        """Instructions of the function itself."""
        return sum(p.instructions for p in self.paths if p.names[-1] == function and not p.interrupt)

    def inclusive(self, *functions: str) -> int:
        """Instructions of any of these functions and of all that they called."""
        return self.only(*functions).instructions

    def only(self, *functions: str) -> CallTree:
        """The part of the tree that is these functions and what they called."""
        wanted = set(functions)
        return CallTree(tuple(p for p in self.paths if not wanted.isdisjoint(p.names)))

    def without(self, *functions: str) -> CallTree:
        """The tree without these functions and what they called."""
        unwanted = set(functions)
        return CallTree(tuple(p for p in self.paths if unwanted.isdisjoint(p.names)))

    def below(self, function: str) -> CallTree:
        """The part of the tree that the function called, with it as the root; interrupts included."""
        paths = [
            CallPath(p.names[p.names.index(function) :], p.calls, p.instructions, p.interrupt)
            for p in self.paths
            if function in p.names
        ]
        return merged(paths)

    def functions(self) -> Mapping[str, int]:
        """Own instructions of every function, the dearest first."""
        counts: Counter[str] = Counter()
        for path in self.paths:
            if not path.interrupt:
                counts[path.names[-1]] += path.instructions
        return dict(counts.most_common())

    def folded(self, *, interrupts: bool = False) -> str:
        """One line a path, ``outer;inner instructions``: the input of flame graph programs."""
        lines = [
            f"{';'.join(p.names)} {p.instructions}"
            for p in self.paths
            if p.instructions and (interrupts or not p.interrupt)
        ]
        return "\n".join(lines) + "\n" if lines else ""


def merged(paths: Sequence[CallPath]) -> CallTree:
    """A tree in which every path occurs once."""
    calls: Counter[tuple[tuple[str, ...], bool]] = Counter()
    instructions: Counter[tuple[tuple[str, ...], bool]] = Counter()
    for path in paths:
        key = path.names, path.interrupt
        calls[key] += path.calls
        instructions[key] += path.instructions
    return CallTree(tuple(CallPath(k[0], calls[k], instructions[k], k[1]) for k in sorted(instructions)))


@dataclass(frozen=True)
class ThreadCost:
    """``used`` by all threads of a name, interrupts included, in the window's unit; ``switches`` to them."""

    used: int
    switches: int


@dataclass(frozen=True)
class Cost:
    """What was counted in one window.

    ``source``: "emulator" (exact instructions) or "schedstat" (ns that the scheduler charged, interrupts and
    what else disturbs included). ``used``: by the threads that were named, in ``unit``, without interrupts
    where those can be told apart. ``window_ns``: how long the window was, on the machine's clock.
    ``tree`` is None where only time is to be had. ``threads``: every thread that ran, by name.
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
    """Being counted; ``cost`` is there once the window has closed."""

    cost: Cost | None = None

    @property
    def result(self) -> Cost:
        """Raises RuntimeError while the window is open."""
        if self.cost is None:
            raise RuntimeError("a window's cost is known after it has closed")
        return self.cost


class CostProbe(Protocol):
    """Counts what threads of one machine cost."""

    unit: Unit

    def prepare(self) -> None:
        """Do now what takes long before the first window, so that nothing passes while it opens."""
        ...

    def window(self, thread: str) -> AbstractContextManager[CostWindow]:
        """Count until the context is left.

        ``thread``: what the names of the threads begin with ("kdamond"); empty for all threads, where the
        probe can do that. Raises NotSupported when it cannot count here, and HarnessError.
        """
        ...
