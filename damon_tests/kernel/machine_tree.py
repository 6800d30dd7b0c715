# SPDX-License-Identifier: GPL-2.0
"""Access DAMON's sysfs files on a machine (here or in a guest) as a Tree."""

from __future__ import annotations

import errno
from collections.abc import Sequence

from damon_tests.ports import Entry, FileOp, Machine, Pending, PendingWrite, TreeError


class MachineTree:
    """The files of ``machine``; implements ``ports.Tree``. Text is UTF-8; other bytes are preserved."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine

    def read(self, path: str) -> str:
        (result,) = self.read_batch([path])
        if isinstance(result, TreeError):
            raise result
        return result

    def write(self, path: str, value: str) -> None:
        try:
            self.machine.write_file(path, _encode(value))
        except OSError as error:
            raise _tree_error("write", path, error, value) from None

    def begin_write(self, path: str, value: str) -> Pending:
        try:
            return _PendingTreeWrite(self.machine.begin_write_file(path, _encode(value)), path, value)
        except OSError as error:
            raise _tree_error("write", path, error, value) from None

    def list(self, path: str) -> Sequence[Entry]:
        return self._entries(FileOp("list", path))

    def exists(self, path: str) -> bool:
        (result,) = self.machine.batch([FileOp("stat", path)])
        if not isinstance(result, OSError):
            return True
        if result.errno in (errno.ENOENT, errno.ENOTDIR):
            return False
        raise _tree_error("read", path, result)

    def read_batch(self, paths: Sequence[str]) -> Sequence[str | TreeError]:
        results = self.machine.batch([FileOp("read", path) for path in paths])
        return [
            _tree_error("read", path, result) if isinstance(result, OSError) else _text(result)
            for path, result in zip(paths, results, strict=True)
        ]

    def write_batch(self, writes: Sequence[tuple[str, str]]) -> None:
        ops = [FileOp("write", path, _encode(value)) for path, value in writes]
        results = self.machine.batch(ops, stop_on_error=True)
        for op, (path, value), result in zip(ops, writes, results, strict=True):
            if isinstance(result, OSError):
                raise _tree_error("write", path, result, value)
            if int(_text(result)) != len(op.data):
                raise TreeError("write", path, errno.EIO, value, "the kernel took only a part of it")

    def walk(self, path: str) -> Sequence[Entry]:
        return self._entries(FileOp("walk", path))

    def _entries(self, op: FileOp) -> Sequence[Entry]:
        (result,) = self.machine.batch([op])
        if isinstance(result, OSError):
            raise _tree_error("list", op.path, result)
        assert not isinstance(result, bytes)
        return result


class _PendingTreeWrite:
    """A PendingWrite that raises TreeError on failure."""

    def __init__(self, pending: PendingWrite, path: str, value: str) -> None:
        self._pending = pending
        self._path = path
        self._value = value

    def done(self) -> bool:
        return self._pending.done()

    def result(self, timeout_ns: int) -> None:
        try:
            self._pending.result(timeout_ns)
        except OSError as error:
            raise _tree_error("write", self._path, error, self._value) from None


def _tree_error(operation: str, path: str, error: OSError, value: str | None = None) -> TreeError:
    return TreeError(operation, path, error.errno or errno.EIO, value)


def _text(result: bytes | Sequence[Entry]) -> str:
    assert isinstance(result, bytes)
    return result.decode("utf-8", "surrogateescape")


def _encode(value: str) -> bytes:
    return value.encode("utf-8", "surrogateescape")
