# SPDX-License-Identifier: GPL-2.0
"""A directory of regular files that stands for DAMON's part of /sys, for tests of respect.

It knows just enough to be respected or not: ``nr_kdamonds`` makes new directories, ``on`` gives a
kdamond a pid and a /proc entry, a module's ``enabled`` likewise. Every write is recorded.
"""

from __future__ import annotations

import itertools
import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from damon_tests.ports import Entry, Pending, TreeError
from damon_tests.ports.tree import SingleCalls

ADMIN = "/sys/kernel/mm/damon/admin"
KDAMONDS = f"{ADMIN}/kdamonds"
COUNT = f"{KDAMONDS}/nr_kdamonds"
MODULES = "/sys/module"


class FakeDamon(SingleCalls):
    """Implements ``ports.Tree`` below ``root``; ``writes`` holds what was written through it.

    With ``proc``, its threads are in /proc too, where they stay: nothing ends them.
    """

    # Above pid_max, so that no real process has these; processes that share a root use different ones.
    _pids = itertools.count(10_000_000 + 1000 * os.getpid())

    def __init__(self, root: Path, modules: Sequence[str] = ("damon_stat", "damon_reclaim")) -> None:
        self.root = root
        self.writes: list[tuple[str, str]] = []
        self.write_allowed = True
        self.proc = False
        if not (root / COUNT[1:]).exists():
            self.put(COUNT, "0\n")
            for module in modules:
                self.put(self.parameter(module, "enabled"), "N\n")
                self.put(self.parameter(module, "kdamond_pid"), "-1\n")
                self.put(self.parameter(module, "sample_interval"), "5000\n")

    @staticmethod
    def parameter(module: str, name: str) -> str:
        return f"{MODULES}/{module}/parameters/{name}"

    def put(self, path: str, value: str) -> None:
        """What the kernel, or somebody else, does: no write of ours."""
        real = self.root / path[1:]
        real.parent.mkdir(parents=True, exist_ok=True)
        real.write_text(value)

    def get(self, path: str) -> str:
        return (self.root / path[1:]).read_text().strip()

    def make_kdamonds(self, count: int) -> None:
        """New directories with new inode numbers, as sysfs does it."""
        for old in (self.root / KDAMONDS[1:]).glob("[0-9]*"):
            # Kept aside: a regular file system would give a freed inode number to the next directory.
            old.rename(self.root / f"removed.{next(self._pids)}")
        self.put(COUNT, f"{count}\n")
        for index in range(count):
            self.put(f"{KDAMONDS}/{index}/state", "off\n")
            self.put(f"{KDAMONDS}/{index}/pid", "-1\n")
            self.put(f"{KDAMONDS}/{index}/contexts/nr_contexts", "0\n")

    def start(self, index: int = 0) -> int:
        """Turn a kdamond on; its pid."""
        pid = self._new_thread(f"kdamond.{index}")
        self.put(f"{KDAMONDS}/{index}/state", "on\n")
        self.put(f"{KDAMONDS}/{index}/pid", f"{pid}\n")
        return pid

    def start_module(self, module: str) -> int:
        pid = self._new_thread("kdamond.0")
        self.put(self.parameter(module, "enabled"), "Y\n")
        self.put(self.parameter(module, "kdamond_pid"), f"{pid}\n")
        return pid

    def _new_thread(self, name: str) -> int:
        pid = next(self._pids)
        if self.proc:
            self.put(f"/proc/{pid}/stat", f"{pid} ({name}) S 2 " + "0 " * 17 + f"{pid} 0 0\n")
        return pid

    def picture(self) -> dict[str, bytes | None]:
        """Every path below the root with its bytes (None: a directory)."""
        paths = sorted(self.root.rglob("*"))
        return {str(p.relative_to(self.root)): None if p.is_dir() else p.read_bytes() for p in paths}

    # --- Tree ----------------------------------------------------------------------------------

    def read(self, path: str) -> str:
        try:
            return (self.root / path[1:]).read_text()
        except OSError as error:
            raise TreeError("read", path, error.errno or 0) from None

    def write(self, path: str, value: str) -> None:
        self.writes.append((path, value))
        assert self.write_allowed, f"a write was tried: {path} := {value!r}"
        self.read(path)  # as the kernel: no file is created
        module = path.split("/")[3] if path.startswith(f"{MODULES}/") else ""
        if path == COUNT:
            self.make_kdamonds(int(value))
        elif path.endswith("/state") and value.strip() == "on":
            self.start(int(path.split("/")[-2]))
        elif path.endswith("/enabled") and value.strip() == "Y":
            self.start_module(module)
        else:
            self.put(path, value if value.endswith("\n") else f"{value}\n")

    def begin_write(self, path: str, value: str) -> Pending:
        self.write(path, value)
        return Finished()

    def list(self, path: str) -> Sequence[Entry]:
        try:
            children = sorted((self.root / path[1:]).iterdir())
        except OSError as error:
            raise TreeError("list", path, error.errno or 0) from None
        return [Entry(c.name, c.stat().st_mode & 0o777, c.is_dir()) for c in children]

    def exists(self, path: str) -> bool:
        return (self.root / path[1:]).exists()

    def walk(self, path: str) -> Sequence[Entry]:
        raise NotImplementedError

    def remove(self) -> None:
        """This kernel has no DAMON."""
        shutil.rmtree(self.root / "sys")


class Finished:
    def done(self) -> bool:
        return True

    def result(self, timeout_ns: int) -> None:
        return
