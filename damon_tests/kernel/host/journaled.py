# SPDX-License-Identifier: GPL-2.0
"""A Tree and a Machine that write every change to the journal before they make it.

What is journaled, and how it is undone:

- ``nr_kdamonds``: refused unless it was 0. Undo turns off the run's own kdamonds and writes 0, which
  also drops everything staged below. Staging is refused while the kdamonds are not this run's.
- ``state`` := ``on``: the pid and start time of the kdamond, so that a later run recognizes it.
- other attribute files (sysctl, cgroup, module parameters…): the value before the run's first write. A
  module that is turned on writes its monitoring region into two parameters: these are journaled, too.
- directories, files and processes made through the Machine: undo removes or kills them, and no others.

Commands (``commit_inputs``, ``drop_caches``…) have no old value and are not journaled.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
from collections.abc import Callable, Sequence

from damon_tests.damon.users import ADMIN
from damon_tests.kernel.host.journal import Journal
from damon_tests.kernel.host.owner import start_time
from damon_tests.kernel.host.undo import Entry as Change
from damon_tests.kernel.host.undo import thread_start
from damon_tests.ports import (
    ByteStream,
    Entry,
    FileOp,
    HarnessError,
    Machine,
    NotSupported,
    Pending,
    PendingWrite,
    Process,
    SpawnRequest,
    Tree,
    TreeError,
)

KDAMONDS = f"{ADMIN}/kdamonds"
COUNT = f"{KDAMONDS}/nr_kdamonds"
_ENABLED = re.compile(r"/sys/module/damon_\w+/parameters/enabled")
_STATE = re.compile(re.escape(KDAMONDS) + r"/(\d+)/state")

# Command files: a write triggers an action, and there is no value to restore.
_COMMANDS = frozenset(
    (
        *("commit_inputs", "drop_caches", "compact_memory", "compact", "clear_refs", "bitmap"),
        *("memory.reclaim", "cgroup.kill", "trace", "trace_marker", "kmsg", "sysrq-trigger"),
    )
)

# Errors of reading a file that is write-only or absent.
_NO_VALUE = frozenset(
    [errno.ENOENT, errno.ENODEV, errno.EACCES, errno.EPERM, errno.EINVAL, errno.EIO, errno.EOPNOTSUPP]
)
_LARGEST_VALUE = 1 << 20

Finish = Callable[[bool], None]
"""Call this once the write has returned, with True if it succeeded."""


class Changes:
    """Announce writes to attribute files, and note their results. ``read`` returns a file's content."""

    def __init__(self, journal: Journal, read: Callable[[str], str]) -> None:
        self._journal = journal
        self._read = read

    def announce(self, path: str, value: str) -> Finish:
        """Journal a write of ``value`` to ``path``.

        Raises NotSupported when the kdamonds belong to somebody else, HarnessError when the write could not
        be undone, OSError when the old value cannot be read.
        """
        path = os.path.normpath(path)
        if path == COUNT:
            return self._announce_count(value)
        if path.startswith(f"{KDAMONDS}/"):
            return self._announce_below_kdamonds(path, value)
        if os.path.basename(path) in _COMMANDS or self._below_own(path):
            return _nothing
        if _ENABLED.fullmatch(path):
            return self._announce_enabled(path, value)
        return self._announce_value(path, value)

    def _announce_value(self, path: str, value: str) -> Finish:
        try:
            old = self._read(path)
        except OSError as error:
            if error.errno in _NO_VALUE:
                return _nothing
            raise
        if len(old) > _LARGEST_VALUE:
            raise HarnessError(f"{path} is too large ({len(old)} characters) to be put back: not written")
        change = self._written_before(path, old, value)
        if change is not None:
            self._journal.after(change, writing=value)
        else:
            change = self._journal.add("value", path, old=old, new=value, undo=undo_value(path, old, value))
        return lambda ok: self._note_value(change)

    def _note_value(self, change: Change) -> None:
        """Note what the file reads now; without this fact, undo compares with the written value."""
        try:
            value = self._read(change.path)
        except OSError:
            return
        if value == change.data["old"]:
            self._journal.settle(change)
        else:
            self._journal.after(change, seen=value)

    def _written_before(self, path: str, now: str, value: str) -> Change | None:
        """Return the entry of this run's earlier write if its undo also undoes this write, else None.

        That holds when nobody else has changed the file since. Undo then restores the first value in one
        step, without passing through the values in between (one of which may turn a module on).
        """
        for change in self._journal.outstanding():
            if (change.kind, change.path, change.latest("seen")) == ("value", path, now):
                same = change.data["undo"] == undo_value(path, str(change.data["old"]), value)
                return change if same else None
        return None

    def _announce_enabled(self, path: str, value: str) -> Finish:
        """Journal the region parameters too: a module writes its monitoring region into them at start."""
        directory = os.path.dirname(path)
        region = [f"{directory}/monitor_region_{edge}" for edge in ("start", "end")]
        notes: list[Finish] = []
        for parameter in region:
            # The module, not this run, writes the new value: journal the current one as new, too.
            with contextlib.suppress(OSError):
                notes.append(self._announce_value(parameter, self._read(parameter)))
        notes.append(self._announce_value(path, value))

        def finish(ok: bool) -> None:
            for note in notes:
                note(ok)

        return finish

    def own_kdamonds(self) -> Change | None:
        """Return the unsettled entry of the kdamonds that this run made, or None."""
        return next((e for e in self._journal.outstanding() if e.kind == "kdamonds"), None)

    def own(self, path: str, *kinds: str) -> Change | None:
        """Return the unsettled entry that made exactly this path, or None."""
        return next((e for e in self._journal.outstanding() if e.path == path and e.kind in kinds), None)

    def _below_own(self, path: str) -> bool:
        made = (e.path for e in self._journal.outstanding() if e.kind == "mkdir")
        return any(path.startswith(f"{directory}/") for directory in made)

    def _announce_count(self, value: str) -> Finish:
        change = self.own_kdamonds()
        fresh = change is None
        if change is None:
            old = self._read(COUNT).strip()
            if old != "0":
                raise NotSupported(
                    f"nr_kdamonds is {old}: the kdamond directories there are somebody else's",
                    remedy="ask who uses DAMON; it is free when nr_kdamonds is 0",
                )
            change = self._journal.add("kdamonds", COUNT, writing=value.strip())
        else:
            self._journal.after(change, writing=value.strip())

        def finish(ok: bool) -> None:
            if not ok and fresh:
                self._journal.settle(change, "refused")
            elif not ok:
                self._journal.after(change, refused=True)
            elif (count := int(self._read(COUNT))) == 0:
                self._journal.settle(change)
            else:
                marks = {str(i): self._journal.files.mark(f"{KDAMONDS}/{i}") for i in range(count)}
                self._journal.after(change, count=count, marks=marks)

        return finish

    def _announce_below_kdamonds(self, path: str, value: str) -> Finish:
        change = self.own_kdamonds()
        if change is None:
            raise NotSupported(
                f"{path} is not this run's: it did not make that kdamond directory",
                remedy="write nr_kdamonds under a lease first",
            )
        state = _STATE.fullmatch(path)
        if not state or value.strip() != "on":
            return _nothing  # undone when the directory is removed
        index = int(state[1])
        self._journal.after(change, starting=index)

        def finish(ok: bool) -> None:
            if not ok:
                return
            try:
                pid = int(self._read(f"{KDAMONDS}/{index}/pid"))
            except OSError:
                return  # DAMON's lock is held; the directory's mark still identifies its owner
            began = thread_start(self._journal.files, pid)
            self._journal.after(change, started=index, pid=pid, start_time=began)

        return finish


def _nothing(ok: bool) -> None:
    """Finish a write that needs no entry."""


def undo_value(path: str, old: str, new: str) -> str:
    """Return what to write to restore ``old``: the file's text, the selected word of a choice ("a [b] c"), or
    for cgroup's subtree_control the controllers to switch back."""
    if os.path.basename(path) == "cgroup.subtree_control":
        had = old.split()
        words = [w for w in new.split() if (w[0] == "+") != (w[1:] in had)]
        return " ".join(("-" if w[0] == "+" else "+") + w[1:] for w in words)
    chosen = re.search(r"\[([^\]]+)\]", old)
    return chosen[1] if chosen and "\n" not in old.rstrip("\n") else old


class JournaledTree:
    """A Tree that announces its writes. ``tree`` belongs to the machine of ``journal``."""

    def __init__(self, tree: Tree, journal: Journal) -> None:
        self.tree = tree
        self.changes = Changes(journal, tree.read)
        self.read = tree.read
        self.list = tree.list
        self.exists = tree.exists
        self.read_batch = tree.read_batch
        self.walk = tree.walk

    def write(self, path: str, value: str) -> None:
        _finishing(self.changes.announce(path, value), lambda: self.tree.write(path, value))

    def begin_write(self, path: str, value: str) -> Pending:
        finish = self.changes.announce(path, value)
        return _Announced(lambda: self.tree.begin_write(path, value), finish)

    def write_batch(self, writes: Sequence[tuple[str, str]]) -> None:
        """Write each run of staged values in one round trip; write counts and journaled values singly,
        because their results must be noted before the next write."""
        stretch: list[tuple[str, str]] = []
        for path, value in writes:
            if path.startswith(f"{KDAMONDS}/") and path != COUNT and not _STATE.fullmatch(path):
                if not stretch:
                    self.changes.announce(path, value)  # refuses kdamonds that are not ours
                stretch.append((path, value))
                continue
            self._flush(stretch)
            self.write(path, value)
        self._flush(stretch)

    def _flush(self, stretch: list[tuple[str, str]]) -> None:
        if stretch:
            self.tree.write_batch(tuple(stretch))
            stretch.clear()


def _finishing(finish: Finish, write: Callable[[], None]) -> None:
    try:
        write()
    except BaseException:
        finish(False)
        raise
    finish(True)


class _Announced:
    """A write in progress whose result is noted once, when the caller asks for it."""

    def __init__(self, begin: Callable[[], Pending | PendingWrite], finish: Finish) -> None:
        self._finish: Finish | None = finish
        self._pending = begin()
        self.done = self._pending.done

    def result(self, timeout_ns: int) -> None:
        try:
            self._pending.result(timeout_ns)
        except OSError:
            self._note(False)
            raise
        self._note(True)

    def _note(self, ok: bool) -> None:
        finish, self._finish = self._finish, None
        if finish:
            finish(ok)


class TreeFiles:
    """Give undo access to a Tree's files, for a journal in memory; a Tree has attribute files only."""

    def __init__(self, tree: Tree) -> None:
        self.read = tree.read
        self.write = tree.write

    def mark(self, path: str) -> int | None:
        return None

    def rmdir(self, path: str) -> None:
        raise TreeError("rmdir", path, errno.ENOSYS)

    def unlink(self, path: str) -> None:
        raise TreeError("unlink", path, errno.ENOSYS)


class JournaledMachine:
    """A Machine that announces its changes. Only for a machine whose journal undoes them locally.

    Files below the directory ``keep`` (results of the run) are not journaled.
    """

    def __init__(self, machine: Machine, journal: Journal, keep: str | None = None) -> None:
        self.machine = machine
        self.name = machine.name
        self.clock = machine.clock
        self.journal = journal
        self.changes = Changes(journal, lambda path: _text(machine.read_file(path)))
        self._keep = None if keep is None else keep.rstrip("/") + "/"

    def batch(
        self, ops: Sequence[FileOp], stop_on_error: bool = False
    ) -> Sequence[bytes | Sequence[Entry] | OSError]:
        """Do ``ops`` one at a time, because each change must be announced before it is made."""
        results: list[bytes | Sequence[Entry] | OSError] = []
        for op in ops:
            if stop_on_error and results and isinstance(results[-1], OSError):
                results.append(OSError(errno.ECANCELED, "not tried: an earlier operation failed", op.path))
            else:
                results.append(self._one(op))
        return results

    def read_file(self, path: str, offset: int = 0, size: int = 0) -> bytes:
        return self.machine.read_file(path, offset, size)

    def write_file(self, path: str, data: bytes, create: bool = False, mode: int = 0o644) -> None:
        finish = self._announce(FileOp("write", path, data, create=create, mode=mode))
        _finishing(finish, lambda: self.machine.write_file(path, data, create, mode))

    def begin_write_file(self, path: str, data: bytes) -> PendingWrite:
        finish = self.changes.announce(path, _text(data))
        return _Announced(lambda: self.machine.begin_write_file(path, data), finish)

    def spawn(self, request: SpawnRequest) -> Process:
        process = self.machine.spawn(request)
        started = start_time(process.pid)
        if started is not None:
            argv = list(request.argv)
            self.journal.add("process", argv[0], argv=argv, pid=process.pid, start_time=started)
        return process

    def follow(self, path: str) -> ByteStream:
        return self.machine.follow(path)

    def _one(self, op: FileOp) -> bytes | Sequence[Entry] | OSError:
        if op.kind in ("read", "list", "walk", "stat"):
            return self.machine.batch([op])[0]
        try:
            finish = self._announce(op)
        except OSError as error:
            return error
        (result,) = self.machine.batch([op])
        finish(not isinstance(result, OSError))
        return result

    def _announce(self, op: FileOp) -> Finish:
        if self._keep and op.path.startswith(self._keep) and ".." not in op.path.split("/"):
            return _nothing
        match op.kind:
            case "mkdir":
                return self._announce_made("mkdir", op.path)
            case "rmdir" | "unlink":
                return self._announce_removal(op)
        if op.create and not self._exists(op.path):
            return self._announce_made("create", op.path)
        if op.offset == 0 and not self.changes.own(op.path, "create"):
            return self.changes.announce(op.path, _text(op.data))
        if self.changes.own(op.path, "create") or op.path.startswith(("/proc/", "/dev/")):
            return _nothing
        raise HarnessError(f"a write into {op.path} at offset {op.offset} could not be undone: not done")

    def _announce_made(self, kind: str, path: str) -> Finish:
        if self._exists(path):
            return _nothing  # will fail with EEXIST; the file is not ours to remove
        change = self.journal.add(kind, path)

        def finish(ok: bool) -> None:
            if ok:
                self.journal.after(change, mark=self.journal.files.mark(path))
            else:
                self.journal.settle(change, "not made")

        return finish

    def _announce_removal(self, op: FileOp) -> Finish:
        change = self.changes.own(op.path, "mkdir" if op.kind == "rmdir" else "create")
        if change is not None:
            return lambda ok: self.journal.settle(change) if ok else None
        if self._exists(op.path):
            raise PermissionError(errno.EPERM, "this run did not make it, so it does not remove it", op.path)
        return _nothing  # the machine will fail with ENOENT

    def _exists(self, path: str) -> bool:
        return not isinstance(self.machine.batch([FileOp("stat", path)])[0], OSError)


def _text(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape")
