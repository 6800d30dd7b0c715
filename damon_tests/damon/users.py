# SPDX-License-Identifier: GPL-2.0
"""Find the users of DAMON: running kdamonds of the sysfs tree, and modules. Write nothing."""

from __future__ import annotations

import errno
from dataclasses import dataclass
from typing import Literal

from damon_tests.ports import Tree, TreeError

ADMIN = "/sys/kernel/mm/damon/admin"
MODULES = ("damon_stat", "damon_reclaim", "damon_lru_sort")


@dataclass(frozen=True)
class User:
    """A running DAMON. ``pid``: its kdamond thread, None if the kernel does not report it.

    ``name``: "kdamonds/N" if started through sysfs, else the module's name."""

    kind: Literal["kdamond", "module"]
    name: str
    pid: int | None

    def __str__(self) -> str:
        what = f"module {self.name}" if self.kind == "module" else f"{self.name} of the sysfs tree"
        return f"{what} (pid {self.pid})" if self.pid else what


@dataclass(frozen=True)
class Usage:
    """``nr_kdamonds`` as it reads, None without a tree. ``locked``: the kernel was executing a command,
    so that states could not be read (retry)."""

    nr_kdamonds: int | None
    users: tuple[User, ...]
    locked: bool = False

    def __str__(self) -> str:
        return ", ".join(map(str, self.users)) or "nobody"


def usage(tree: Tree, root: str = ADMIN) -> Usage:
    """Return the users of DAMON. Leave out what cannot be read instead of raising TreeError.

    Up to 6.19, ``enabled`` of a module whose kdamond ended by itself still reads Y.
    """
    nr = _number(_read(tree, f"{root}/kdamonds/nr_kdamonds"))
    paths = [f"{root}/kdamonds/{i}/{name}" for i in range(nr or 0) for name in ("state", "pid")]
    paths += [f"/sys/module/{m}/parameters/{name}" for m in MODULES for name in ("enabled", "kdamond_pid")]
    answers = tree.read_batch(paths)
    users: list[User] = []
    for path, first, pid in zip(paths[::2], answers[::2], answers[1::2], strict=True):
        if isinstance(first, TreeError):
            continue
        if path.endswith("/state") and first.strip() == "on":
            users.append(User("kdamond", "/".join(path.split("/")[-3:-1]), _pid(pid)))
        elif path.endswith("/enabled") and first.strip() == "Y":
            users.append(User("module", path.split("/")[3], _pid(pid)))
    locked = any(isinstance(a, TreeError) and a.errno == errno.EBUSY for a in answers)
    return Usage(nr, tuple(users), locked)


def _read(tree: Tree, path: str) -> str | TreeError:
    return tree.read_batch([path])[0]


def _number(answer: str | TreeError) -> int | None:
    if isinstance(answer, TreeError) or not answer.strip().isdecimal():
        return None
    return int(answer)


def _pid(answer: str | TreeError) -> int | None:
    return _number(answer) or None
