# SPDX-License-Identifier: GPL-2.0
"""Directories and files of the tree, made from the table in ``abi`` for one version."""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator, Sequence

from damon_tests.reference.core.schemes import TriedRegion
from damon_tests.reference.rules.errors import CoreError
from damon_tests.reference.sysfs.abi import (
    MANY,
    TRIED_PROBES_SINCE,
    TRIED_REGION,
    TRIED_TOTAL_SINCE,
    DirSpec,
    FileSpec,
    ListSpec,
    Spec,
    TriedSpec,
)
from damon_tests.reference.sysfs.formats import INT, ULONG, Format, Grammar, Value


class File:
    """A staged value, or one that DAMON updates. ``value`` is typed by its format."""

    __slots__ = ("format", "grammar", "locked", "mode", "value")

    def __init__(
        self, format_: Format, value: Value, grammar: Grammar, mode: int = 0o600, locked: bool = False
    ) -> None:
        self.format = format_
        self.value = value
        self.grammar = grammar
        self.mode = mode
        self.locked = locked

    def read(self) -> str:
        return self.format.show(self.value) + "\n"

    def check(self, text: str) -> None:
        """Refuse, with a CoreError, what is refused before the lock is tried."""

    def write(self, text: str) -> None:
        """Store a new value. Raises CoreError; the value is then unchanged."""
        self.value = self.format.parse(text, self.grammar)


Finish = Callable[[Exception | int], None]
"""Called once with 0, an errno, or what was raised."""


class BlockingFile(File):
    """A file whose write may block. ``holds_lock``: it holds the global lock until the write returns."""

    __slots__ = ()
    holds_lock = False

    def begin(self, text: str, finish: Finish) -> None:
        """Start the write; ``finish`` is called now or later. May raise CoreError instead."""
        raise NotImplementedError


class Dir:
    """A directory. The tree's ``on_change`` is called when numbered children come and go."""

    mode = 0o755

    def __init__(self) -> None:
        self.children: dict[str, Node] = {}

    def get(self, name: str) -> Node | None:
        return self.children.get(name)

    def names(self) -> Sequence[str]:
        return list(self.children)

    def dir(self, name: str) -> Dir:
        """Return the child directory of that name; a KeyError means that this version has none."""
        child = self.get(name)
        if not isinstance(child, Dir):
            raise KeyError(name)
        return child

    def has(self, name: str) -> bool:
        return self.get(name) is not None

    def value(self, name: str, default: Value) -> Value:
        """Return a child file's value; ``default`` where this version has no such file."""
        child = self.get(name)
        return child.value if isinstance(child, File) else default

    def set_value(self, name: str, value: Value) -> None:
        """Update a child file if this version has it."""
        child = self.get(name)
        if isinstance(child, File):
            child.value = value


Node = File | Dir


class ListDir(Dir):
    """A count file and numbered directories, which are made when first looked up."""

    def __init__(self, spec: ListSpec, builder: Builder) -> None:
        super().__init__()
        self.spec = spec
        self.count = 0
        self._builder = builder
        self._numbered: dict[int, Dir] = {}
        self.children[spec.count] = CountFile(self, builder.grammar)

    def get(self, name: str) -> Node | None:
        if name in self.children:
            return self.children[name]
        if name.isdecimal() and str(int(name)) == name and int(name) < self.count:
            return self.item(int(name))
        return None

    def names(self) -> Sequence[str]:
        return [*self.children, *map(str, range(self.count))]

    def item(self, number: int) -> Dir:
        if number not in self._numbered:
            self._numbered[number] = self._builder.item(self.spec)
        return self._numbered[number]

    def items(self) -> Iterator[Dir]:
        return (self.item(number) for number in range(self.count))

    def resize(self, count: int) -> None:
        """Destroy all children, then have ``count`` new ones. Raises CoreError ENOMEM."""
        self.count = 0
        if self._builder.grammar.rules.resizing_resets:
            self._numbered.clear()
        self._builder.on_change()
        if count > MANY:
            raise CoreError(errno.ENOMEM, f"{count} directories are too many")
        self.count = count


class CountFile(File):
    """``nr_*``. ``before_resize`` may refuse a change."""

    __slots__ = ("before_resize", "list_dir")

    def __init__(self, list_dir: ListDir, grammar: Grammar) -> None:
        super().__init__(INT, 0, grammar, locked=True)
        self.list_dir = list_dir
        self.before_resize: Callable[[], None] | None = None

    def read(self) -> str:
        return f"{self.list_dir.count}\n"

    def check(self, text: str) -> None:
        self._count(text)

    def _count(self, text: str) -> int:
        count = int(self.format.parse(text, self.grammar))
        return self.grammar.rules.resized_count(count, self.list_dir.spec.maximum)

    def write(self, text: str) -> None:
        count = self._count(text)
        if self.before_resize is not None:
            self.before_resize()
        self.list_dir.resize(count)


class TriedDir(Dir):
    """``tried_regions/``: directories are made from the collected regions when looked up."""

    def __init__(self, builder: Builder) -> None:
        super().__init__()
        self._builder = builder
        self.regions: list[TriedRegion] = []
        if builder.version >= TRIED_TOTAL_SINCE:
            self.children["total_bytes"] = File(ULONG, 0, builder.grammar, 0o400)

    def get(self, name: str) -> Node | None:
        if name in self.children:
            return self.children[name]
        if name.isdecimal() and str(int(name)) == name and int(name) < len(self.regions):
            return self._region_dir(self.regions[int(name)])
        return None

    def names(self) -> Sequence[str]:
        return [*self.children, *map(str, range(len(self.regions)))]

    def clear(self) -> None:
        self.regions = []
        self.set_value("total_bytes", 0)
        self._builder.on_change()

    def add(self, region: TriedRegion, with_dir: bool) -> None:
        add = self._builder.grammar.rules.total_bytes
        self.set_value("total_bytes", add(int(self.value("total_bytes", 0)), region.start, region.end))
        if with_dir:
            self.regions.append(region)

    def _region_dir(self, region: TriedRegion) -> Dir:
        grammar, version = self._builder.grammar, self._builder.version
        made = Dir()
        for name, since in TRIED_REGION:
            if since <= version:
                made.children[name] = File(ULONG, getattr(region, name), grammar, 0o400)
        if version >= TRIED_PROBES_SINCE:
            probes = made.children["probes"] = Dir()
            for number, hits in enumerate(region.probe_hits):
                probe = probes.children[str(number)] = Dir()
                probe.children["hits"] = File(ULONG, hits, grammar, 0o400)
        return made


class Builder:
    """Makes the kobjects of one version. ``made(spec, directory)`` is called for each new numbered
    directory."""

    def __init__(
        self, grammar: Grammar, on_change: Callable[[], None], made: Callable[[ListSpec, Dir], None]
    ) -> None:
        self.grammar = grammar
        self.version = grammar.version
        self.on_change = on_change
        self._made = made

    def item(self, spec: ListSpec) -> Dir:
        directory = self.directory(spec.child)
        self._made(spec, directory)
        return directory

    def directory(self, children: tuple[Spec, ...]) -> Dir:
        directory = Dir()
        for child in children:
            if child.since <= self.version and child.name not in self.grammar.rules.hidden:
                directory.children[child.name] = self._node(child)
        return directory

    def _node(self, spec: Spec) -> Node:
        match spec:
            case FileSpec():
                return File(spec.format, spec.default, self.grammar, spec.mode, spec.locked)
            case DirSpec():
                return self.directory(spec.children)
            case ListSpec():
                return ListDir(spec, self)
            case TriedSpec():
                return TriedDir(self)
