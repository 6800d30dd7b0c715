# SPDX-License-Identifier: GPL-2.0
"""A Machine with only a scripted tracefs: files in a dictionary, trace_pipe fed by the test."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Callable, Sequence

from fake_tree import FakeClock

from damon_tests.ports import (
    ByteStream,
    Entry,
    FileOp,
    MachineLost,
    PendingWrite,
    Process,
    SpawnRequest,
)

ROOT = "/sys/kernel/tracing"
EVENTS = ("damon_aggregated", "damos_before_apply")


class FakePipe:
    def __init__(self, path: str, limit: int | None) -> None:
        self.path = path
        self.limit = limit  # bytes per read, to cut lines anywhere
        self.data = b""
        self.lost_bytes = 0
        self.closed = False

    def read(self) -> bytes:
        assert not self.closed
        limit = len(self.data) if self.limit is None else self.limit
        chunk, self.data = self.data[:limit], self.data[limit:]
        return chunk

    def lost(self) -> int:
        return self.lost_bytes

    def close(self) -> None:
        self.closed = True


class FakeTracefs:
    """``marks`` handles each mark; by default the mark comes out of the pipe at once."""

    def __init__(self, root: str = ROOT, events: Sequence[str] = EVENTS, pid: int = 77) -> None:
        self.name = "fake"
        self.clock = FakeClock()
        self.root = root
        self.files: dict[str, str] = {}
        self.pipes: list[FakePipe] = []
        self.pipe_limit: int | None = None
        self.busy_rmdirs = 0
        self.refuse: set[str] = set()
        self.dead = False
        self.log: list[tuple[str, str, str]] = []
        self.marks: Callable[[str], None] = self.put_mark
        self.stats = (
            "entries: 0\noverrun: 0\ncommit overrun: 0\nbytes: 0\ndropped events: 0\nread events: 9\n"
        )
        for event in events:
            self.files[f"{root}/events/damon/{event}/enable"] = "0"
        self.directories = {f"{root}/instances"}
        self.process(pid, 1234)
        self.files["/proc/self/stat"] = self.files[f"/proc/{pid}/stat"]

    def process(self, pid: int, start: int) -> None:
        self.files[f"/proc/{pid}/stat"] = f"{pid} (a) (b c) S " + " ".join(["0"] * 18) + f" {start} 0 0\n"

    def put(self, *lines: str) -> None:
        self.pipes[-1].data += "".join(f"{line}\n" for line in lines).encode()

    def put_mark(self, text: str) -> None:
        now = self.clock.ns // 1000
        when = f"{now // 10**6}.{now % 10**6:06}"
        self.put(f"           agent-77      [000] ..... {when}: tracing_mark_write: {text}")

    def instances(self) -> list[str]:
        return sorted(
            d.rsplit("/", 1)[1] for d in self.directories if d.startswith(f"{self.root}/instances/")
        )

    # --- ports.Machine -----------------------------------------------------------------------

    def batch(
        self, ops: Sequence[FileOp], stop_on_error: bool = False
    ) -> Sequence[bytes | Sequence[Entry] | OSError]:
        if self.dead:
            raise MachineLost("gone")
        answers: list[bytes | Sequence[Entry] | OSError] = []
        for op in ops:
            if stop_on_error and answers and isinstance(answers[-1], OSError):
                answers.append(OSError(errno.ECANCELED, "not tried", op.path))
                continue
            try:
                answers.append(self._do(op))
            except OSError as error:
                answers.append(error)
        return answers

    def read_file(self, path: str, offset: int = 0, size: int = 0) -> bytes:
        answer = self.batch([FileOp("read", path)])[0]
        if isinstance(answer, OSError):
            raise answer
        assert isinstance(answer, bytes)
        return answer

    def write_file(self, path: str, data: bytes, create: bool = False, mode: int = 0o644) -> None:
        raise NotImplementedError

    def begin_write_file(self, path: str, data: bytes) -> PendingWrite:
        raise NotImplementedError

    def spawn(self, request: SpawnRequest) -> Process:
        raise NotImplementedError

    def follow(self, path: str) -> ByteStream:
        self.log.append(("follow", path, ""))
        self.pipes.append(FakePipe(path, self.pipe_limit))
        return self.pipes[-1]

    def _do(self, op: FileOp) -> bytes | Sequence[Entry]:
        self.log.append((op.kind, op.path, op.data.decode()))
        if op.path in self.refuse:
            raise OSError(errno.EACCES, os.strerror(errno.EACCES), op.path)
        if op.kind == "mkdir":
            self.directories.add(op.path)
            return b""
        if op.kind == "rmdir":
            return self._rmdir(op.path)
        if op.kind == "list":
            names = {
                re.split("/", p[len(op.path) + 1 :])[0]
                for p in (
                    *self.files,
                    *self.directories,
                    *(f"{d}/per_cpu/cpu{i}/stats" for d in self.directories for i in (0, 1)),
                )
                if p.startswith(op.path + "/")
            }
            if not names and op.path not in self.directories:
                raise OSError(errno.ENOENT, os.strerror(errno.ENOENT), op.path)
            return [Entry(name, 0o700, "enable" not in name) for name in sorted(names)]
        if op.kind == "read":
            if op.path.endswith("/stats"):
                return self.stats.encode()
            if op.path not in self.files:
                raise OSError(errno.ENOENT, os.strerror(errno.ENOENT), op.path)
            return self.files[op.path].encode()
        assert op.kind == "write"
        if op.path.endswith("/trace_marker"):
            self.marks(op.data.decode())
        elif not any(op.path.startswith(d + "/") for d in self.directories):
            raise OSError(errno.ENOENT, os.strerror(errno.ENOENT), op.path)
        return str(len(op.data)).encode()

    def _rmdir(self, path: str) -> bytes:
        if path not in self.directories:
            raise OSError(errno.ENOENT, os.strerror(errno.ENOENT), path)
        if self.busy_rmdirs or any(p.path.startswith(path + "/") and not p.closed for p in self.pipes):
            self.busy_rmdirs = max(0, self.busy_rmdirs - 1)
            raise OSError(errno.EBUSY, os.strerror(errno.EBUSY), path)
        self.directories.remove(path)
        return b""
