# SPDX-License-Identifier: GPL-2.0
"""``ports.Tree`` of the reference: paths, permissions, the global lock, writes that block."""

from __future__ import annotations

import errno
from collections.abc import Sequence
from typing import TYPE_CHECKING

from damon_tests.ports import Entry, TimedOut, TreeError, page_size
from damon_tests.ports.tree import SingleCalls
from damon_tests.reference.rules.errors import CoreError
from damon_tests.reference.sysfs.abi import ADMIN, ListSpec
from damon_tests.reference.sysfs.commands import Slot
from damon_tests.reference.sysfs.formats import Grammar
from damon_tests.reference.sysfs.kobjects import BlockingFile, Builder, CountFile, Dir, File, Finish, Node
from damon_tests.reference.sysfs.modules import make_modules

if TYPE_CHECKING:
    from damon_tests.reference.sysfs.system import ReferenceSystem

DAMON_DIR = "/sys/kernel/mm/damon"
MODULE_DIR = "/sys/module"
Entries = list[Entry]


class StateFile(BlockingFile):
    """``kdamonds/N/state``: reads on or off; writes are commands."""

    __slots__ = ("slot",)
    holds_lock = True

    def __init__(self, plain: File, slot: Slot) -> None:
        super().__init__(plain.format, plain.value, plain.grammar, plain.mode, plain.locked)
        self.slot = slot

    def read(self) -> str:
        return "on\n" if self.slot.running else "off\n"

    def begin(self, text: str, finish: Finish) -> None:
        self.slot.execute(text.removesuffix("\n"), finish)


class PidFile(StateFile):
    """``kdamonds/N/pid``."""

    __slots__ = ()

    def read(self) -> str:
        return f"{self.slot.pid}\n"


class PendingWrite:
    """A ``ports.Pending``; most are done at once, commands of ``state`` when the kdamond served them."""

    def __init__(self, tree: ReferenceTree, path: str, value: str) -> None:
        self._tree = tree
        self._path = path
        self._value = value
        self._outcome: Exception | int | None = None

    def finish(self, outcome: Exception | int) -> None:
        self._outcome = outcome

    def done(self) -> bool:
        return self._outcome is not None

    def result(self, timeout_ns: int) -> None:
        clock = self._tree.system.clock
        if not clock.run_until_done(self.done, clock.now_ns() + timeout_ns):
            raise TimedOut(f"write {self._path} := {self._value!r} is still blocked after {timeout_ns} ns")
        self.raise_failure()

    def wait(self) -> None:
        self._tree.system.clock.run_until_done(self.done)
        self.raise_failure()

    def raise_failure(self) -> None:
        if isinstance(self._outcome, Exception):
            raise self._outcome
        if self._outcome:
            raise TreeError("write", self._path, self._outcome, self._value)


class ReferenceTree(SingleCalls):
    """The tree of one simulated system. Every failure is a TreeError, except that a command which needs
    what the reference does not model raises NotSupported."""

    def __init__(self, system: ReferenceSystem) -> None:
        self.system = system
        self.slots: list[Slot] = []
        self._files: dict[str, File] = {}  # resolved paths; emptied when directories come or go
        builder = Builder(Grammar(system.version, system.rules), self._files.clear, self._made)
        damon = Dir()
        damon.children["admin"] = builder.directory(ADMIN.children)
        self._mounts: dict[str, Dir] = {DAMON_DIR: damon}
        self.modules = make_modules(system)
        for name, module in self.modules.items():
            parent = self._mounts[f"{MODULE_DIR}/{name}"] = Dir()
            parent.children["parameters"] = module.directory
        kdamonds = damon.dir("admin").dir("kdamonds")
        count = kdamonds.get("nr_kdamonds")
        assert isinstance(count, CountFile)
        count.before_resize = self._before_kdamonds_change

    def _made(self, spec: ListSpec, directory: Dir) -> None:
        """Connect the files of a new kdamond directory to its kdamond."""
        if spec.name != "kdamonds":
            return
        slot = Slot(self.system, directory)
        self.slots.append(slot)
        for name, kind in (("state", StateFile), ("pid", PidFile)):
            plain = directory.children[name]
            assert isinstance(plain, File)
            directory.children[name] = kind(plain, slot)

    def _before_kdamonds_change(self) -> None:
        if any(slot.running for slot in self.slots):
            raise CoreError(errno.EBUSY, "a kdamond is running")
        self.slots = []

    # Paths

    def _lookup(self, path: str) -> Node | None:
        for mount, directory in self._mounts.items():
            if path == mount or path.startswith(mount + "/"):
                return _descend(directory, path[len(mount) :])
        return None

    def mounts(self) -> Sequence[str]:
        """Return the absolute paths of the directories that make up the tree, sorted."""
        return sorted(self._mounts)

    def node(self, path: str) -> Node | None:
        """Return the kobject that is at a path now, for servers of the tree."""
        return self._lookup(path)

    def _file(self, operation: str, path: str, value: str | None = None) -> File:
        file = self._files.get(path)
        if file is None:
            node = self._lookup(path)
            if not isinstance(node, File):
                raise TreeError(operation, path, errno.ENOENT if node is None else errno.EISDIR, value)
            file = self._files[path] = node
        return file

    def _dir(self, path: str) -> Dir:
        node = self._lookup(path)
        if not isinstance(node, Dir):
            raise TreeError("list", path, errno.ENOENT if node is None else errno.ENOTDIR)
        return node

    # ports.Tree

    def read(self, path: str) -> str:
        file = self._file("read", path)
        if file.locked and self._is_busy():
            raise TreeError("read", path, errno.EBUSY)
        return file.read()

    def write(self, path: str, value: str) -> None:
        pending = self._start_write(path, value)
        if pending is not None:
            pending.wait()

    def begin_write(self, path: str, value: str) -> PendingWrite:
        pending = PendingWrite(self, path, value)
        try:
            return self._start_write(path, value) or _finished(pending, 0)
        except Exception as error:
            return _finished(pending, error)

    def _is_busy(self) -> bool:
        return self.system.rules.lock_is_busy(self.system.locked)

    def _start_write(self, path: str, value: str) -> PendingWrite | None:
        """Start a write; return None when it is complete. Raises TreeError when it failed at once."""
        file = self._file("write", path, value)
        if not file.mode & 0o200:
            raise TreeError("write", path, errno.EACCES, value)
        if not value:
            return None
        try:
            file.check(value[: page_size()])
            if file.locked and self._is_busy():
                raise CoreError(errno.EBUSY, "the global lock is held")
            if isinstance(file, BlockingFile):
                return self._begin(file, path, value)
            file.write(value[: page_size()])
        except CoreError as error:
            raise TreeError("write", path, error.errno, value) from error
        return None

    def _begin(self, file: BlockingFile, path: str, value: str) -> PendingWrite:
        pending = PendingWrite(self, path, value)
        system = self.system
        if file.holds_lock:
            system.lock_holder = pending

        def finish(outcome: Exception | int) -> None:
            if system.lock_holder is pending:
                system.lock_holder = None
            pending.finish(outcome)

        try:
            file.begin(value[: page_size()], finish)
        except CoreError as error:
            finish(error.errno)
        except Exception as error:
            finish(error)
        return pending

    def list(self, path: str) -> Sequence[Entry]:
        directory = self._dir(path)
        return [_entry(directory, name, name) for name in sorted(directory.names())]

    def exists(self, path: str) -> bool:
        return self._lookup(path) is not None

    def walk(self, path: str) -> Sequence[Entry]:
        entries: Entries = []
        self._walk(self._dir(path), path.rstrip("/"), "", entries)
        return entries

    def _walk(self, directory: Dir, top: str, prefix: str, entries: Entries) -> None:
        for name in sorted(directory.names()):
            child = directory.get(name)
            relative = prefix + name
            if isinstance(child, Dir):
                entries.append(Entry(relative, child.mode, True))
                self._walk(child, top, relative + "/", entries)
                continue
            try:
                entries.append(Entry(relative, _mode(child), False, self.read(f"{top}/{relative}")))
            except TreeError as error:
                entries.append(Entry(relative, _mode(child), False, error=error))


def _descend(directory: Dir, path: str) -> Node | None:
    node: Node | None = directory
    for part in path.split("/"):
        if not part:
            continue
        if not isinstance(node, Dir):
            return None
        node = node.get(part)
    return node


def _entry(directory: Dir, name: str, path: str) -> Entry:
    child = directory.get(name)
    return Entry(path, _mode(child), isinstance(child, Dir))


def _mode(node: Node | None) -> int:
    return node.mode if node is not None else 0


def _finished(pending: PendingWrite, outcome: Exception | int) -> PendingWrite:
    pending.finish(outcome)
    return pending
