# SPDX-License-Identifier: GPL-2.0
"""Exclusive use of a kernel's DAMON: one run at a time, and never while somebody else uses DAMON.

``acquire`` checks that DAMON is free before anything is written. The journal records each change that a
run makes under its lease; releasing the lease undoes them, and the guard does if the run is killed.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import TracebackType

from filelock import FileLock, Timeout

from damon_tests.damon.users import ADMIN, MODULES, Usage, User, usage
from damon_tests.kernel.host.journal import Journal, command_line, make_private, runtime_directory
from damon_tests.kernel.host.journaled import JournaledMachine, JournaledTree, TreeFiles
from damon_tests.kernel.host.machine import LocalMachine
from damon_tests.kernel.host.owner import Owner, current_owner
from damon_tests.kernel.host.restore import Leftover, recover
from damon_tests.kernel.machine_tree import MachineTree
from damon_tests.ports import HarnessError, NotSupported, TimedOut, Tree, TreeError, UsageError
from damon_tests.ports.lines import LineFormat

WAIT_S = 3600.0
_POLL_S = 0.1
_ENDING_S = 10.0  # how long a dying run may take to exit after its lock is gone, and a module to stop

_COUNT = f"{ADMIN}/kdamonds/nr_kdamonds"
_KDAMOND_STAT = LineFormat("{pid:d} (kdamond.{number:d}) {state:l} {parent:d} {rest}")
_KTHREADD = 2

_REMEDY = (
    "a kdamond that this run did not start is never touched: wait until its owner turns it off,"
    " or test in a VM (--kernel debian:newest)"
)
_REMEDY_MODULE = (
    "turn the module off while testing (echo N > /sys/module/MODULE/parameters/enabled), let this run stop"
    " it and restore it afterwards (--stop-modules), or test in a VM (--kernel debian:newest)"
)

Notify = Callable[[str], None]


def to_stderr(text: str) -> None:
    """Print a notification on stderr; the default ``notify``."""
    print(f"damon-tests: {text}", file=sys.stderr, flush=True)


class Lease:
    """Exclusive use of one kernel's DAMON until ``release``. Use ``tree`` for everything that writes.

    ``leftovers``: what dead runs left behind, and what became of it. ``stopped``: modules that were stopped.
    """

    def __init__(self, tree: Tree, journal: Journal, lock: _KernelLock | None, notify: Notify) -> None:
        self.tree = JournaledTree(tree, journal)
        self.journal = journal
        self.leftovers: Sequence[Leftover] = ()
        self.stopped: tuple[str, ...] = ()
        self._mark = journal.mark()
        self._lock = lock
        self._notify = notify
        self._released = False

    def __enter__(self) -> Lease:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self.release()
        except HarnessError as trouble:
            if error is None:
                raise
            error.add_note(str(trouble))  # the first error matters more

    def release(self) -> None:
        """Undo all changes since ``acquire``: turn off and remove kdamonds, restore modules.

        Raises HarnessError naming what could not be undone. May be called twice.
        """
        if self._released:
            return
        self._released = True
        try:
            outcomes = self.journal.restore(since=self._mark)
        finally:
            if self._lock:
                self._lock.release()
        for outcome in outcomes:
            if outcome.result == "left":
                self._notify(f"not restored, as somebody else changed it meanwhile: {outcome}")
        failed = [str(o) for o in outcomes if o.result == "failed"]
        if failed:
            raise HarnessError(
                f"not everything that was changed could be undone: {'; '.join(failed)}."
                f" The next run tries again"
            )


def acquire(
    tree: Tree,
    journal: Journal | None,
    kernel_id: str,
    *,
    stop_modules: bool = False,
    wait_s: float = WAIT_S,
    lock_directory: str | os.PathLike[str] | None = None,
    notify: Notify = to_stderr,
) -> Lease:
    """Take the lock of this kernel, clean up after dead runs, and check that nobody uses DAMON.

    ``tree`` is not journalled yet; ``lease.tree`` is. ``journal`` None, or a journal in memory: a DAMON of
    this run alone (a guest, the reference), which needs neither lock nor recovery. ``kernel_id``: a
    word for the kernel, such as "host"; each has a lock file in ``lock_directory`` (default: the
    user's runtime directory). With ``stop_modules``, stop a running DAMON_STAT, DAMON_RECLAIM or
    DAMON_LRU_SORT and restore it on release. ``notify`` receives a sentence about the run that holds the
    lock, and about each cleanup.

    Raises NotSupported, with nothing written, naming everybody who uses DAMON; TimedOut if the lock is not
    free within ``wait_s``.
    """
    lock = None
    if journal is not None and journal.directory is not None:
        lock = _KernelLock(kernel_id, lock_directory, notify)
        lock.wait(wait_s)
    lease = Lease(tree, journal or Journal(None, files=TreeFiles(tree)), lock, notify)
    with contextlib.ExitStack() as undo:
        undo.push(lease)
        if lock and lease.journal.directory:
            lease.leftovers = _recover(lease.journal.directory, notify)
        used = _check_free(tree, stop_modules)
        lease.stopped = tuple(user.name for user in used)
        _stop(lease.tree, used)
        undo.pop_all()
    return lease


@contextlib.contextmanager
def hold_host(
    run_dir: Path,
    *,
    stop_modules: bool = False,
    directory: Path | None = None,
    root: str | os.PathLike[str] = "/",
    notify: Notify = to_stderr,
) -> Iterator[JournaledMachine]:
    """Lease this machine's DAMON and yield the machine; undo on leaving what was changed through it.

    The run keeps files below ``run_dir``: those are not journalled, and not removed. ``directory`` has the
    journals and locks (default: the user's runtime directory); ``root`` as for LocalMachine.
    """
    machine = LocalMachine(root=root)
    directory = directory or runtime_directory()
    with (
        Journal(directory / "journal", root=root) as journal,
        acquire(
            MachineTree(machine),
            journal,
            "host",
            stop_modules=stop_modules,
            lock_directory=directory,
            notify=notify,
        ),
    ):
        yield JournaledMachine(machine, journal, keep=os.fspath(run_dir))


def _recover(directory: Path, notify: Notify) -> Sequence[Leftover]:
    leftovers = recover(directory)
    for leftover in leftovers:
        changed = [o for o in leftover.outcomes if o.result != "nothing"]
        undone = "; ".join(map(str, changed)) or "nothing was left to undo"
        notify(f"cleaned up after a dead run (pid {leftover.owner.pid}, {leftover.cmdline}): {undone}")
    return leftovers


# --- is it free? -----------------------------------------------------------------------------------


def _check_free(tree: Tree, stop_modules: bool) -> Sequence[User]:
    """Return the modules to stop. Write nothing. Raises NotSupported naming everybody who uses DAMON."""
    count = _nr_kdamonds(tree)
    now = usage(tree)
    kdamonds = [u for u in now.users if u.kind == "kdamond"]
    modules = [u for u in now.users if u.kind == "module"]
    foreign = [f"{user} is on" for user in kdamonds]
    if count and not kdamonds:
        why = "its state cannot be read, as a command is being executed" if now.locked else "none is on"
        foreign.append(f"nr_kdamonds is {count} ({why}): somebody has prepared kdamonds there")
    foreign += _unreadable_modules(tree) + _strangers(tree, now)
    refused = foreign + ([] if stop_modules else [f"{user} is on" for user in modules])
    if refused:
        raise NotSupported("DAMON is in use: " + refused[0], *refused[1:], remedy=_remedy(foreign))
    return modules


def _remedy(foreign: Sequence[str]) -> str:
    return _REMEDY if foreign else _REMEDY_MODULE


def _nr_kdamonds(tree: Tree) -> int:
    try:
        return int(tree.read(_COUNT))
    except TreeError as error:
        if error.errno == errno.ENOENT:
            raise NotSupported(
                f"this kernel has no DAMON sysfs interface ({_COUNT} is absent)",
                remedy="a kernel with CONFIG_DAMON_SYSFS=y: --kernel debian:newest boots one in a VM",
            ) from error
        raise NotSupported(
            f"cannot find out whether DAMON is free ({error})",
            remedy="run as root, or test in a VM (--kernel debian:newest), which needs no root",
        ) from error


def _unreadable_modules(tree: Tree) -> list[str]:
    """Describe each module whose files do not show whether it runs."""
    answers = tree.read_batch([f"/sys/module/{m}/parameters/enabled" for m in MODULES])
    return [
        f"cannot find out whether module {module} runs ({answer})"
        for module, answer in zip(MODULES, answers, strict=True)
        if isinstance(answer, TreeError) and answer.errno not in (errno.ENOENT, errno.ENOTDIR)
    ]


def _strangers(tree: Tree, now: Usage) -> list[str]:
    """Describe each running kdamond of neither the tree nor a module (the kernel's samples start such)."""
    known = {user.pid for user in now.users}
    threads = sorted(set(_kdamond_threads(tree)) - known)
    # Up to 7.1 DAMON_STAT does not report its pid: each such module may account for one thread.
    unknown = len([user for user in now.users if user.pid is None])
    if len(threads) <= unknown:
        return []
    return [
        f"kdamond thread {pid} runs, started neither through sysfs nor by a known module" for pid in threads
    ]


def _kdamond_threads(tree: Tree) -> list[int]:
    """Return the pids of kernel threads named kdamond.N; none where /proc hides kernel threads."""
    try:
        pids = [e.path for e in tree.list("/proc") if e.path.isdecimal()]
    except TreeError:
        return []
    texts = tree.read_batch([f"/proc/{pid}/stat" for pid in pids])
    stats = [_KDAMOND_STAT.read(text.strip()) for text in texts if isinstance(text, str)]
    return [
        stat["pid"] for stat in stats if stat and stat["state"] not in "ZX" and stat["parent"] == _KTHREADD
    ]


def _stop(tree: JournaledTree, modules: Sequence[User]) -> None:
    for user in modules:
        tree.write(f"/sys/module/{user.name}/parameters/enabled", "N")
    deadline = time.monotonic() + _ENDING_S
    while modules and (still := usage(tree).users):
        if time.monotonic() >= deadline:
            raise HarnessError(f"still on after the request to stop: {', '.join(map(str, still))}")
        time.sleep(_POLL_S)


# --- whose turn is it? -----------------------------------------------------------------------------


class _KernelLock:
    """The lock file of a kernel, ``KERNEL.lock``, and beside it ``KERNEL.holder``, which names its holder."""

    def __init__(self, kernel_id: str, directory: str | os.PathLike[str] | None, notify: Notify) -> None:
        if not re.fullmatch(r"[\w.:-]+", kernel_id):
            raise UsageError(f"a kernel's id is one word of letters, digits and .:-_, not {kernel_id!r}")
        self._directory = Path(directory) if directory else runtime_directory()
        self._lock = FileLock(self._directory / f"{kernel_id}.lock", mode=0o600, thread_local=False)
        self._holder = self._directory / f"{kernel_id}.holder"
        self._notify = notify

    def wait(self, wait_s: float) -> None:
        """Wait for the lock. Raises TimedOut naming the holder."""
        deadline = time.monotonic() + wait_s
        notified = ""
        while not self._try():
            holder = self._describe_holder()
            if holder != notified:
                self._notify(f"DAMON of this kernel is taken by another run: waiting for {holder}")
                notified = holder
            if time.monotonic() >= deadline:
                raise TimedOut(f"no turn on this kernel's DAMON within {wait_s:g} s: it is held by {holder}")
            time.sleep(_POLL_S)
        self._await_end_of_dead_holder()
        self._write_holder()

    def release(self) -> None:
        self._holder.unlink(missing_ok=True)
        self._lock.release()

    def _try(self) -> bool:
        try:
            make_private(self._directory)
            self._lock.acquire(timeout=0)
        except Timeout:
            return False
        except OSError as error:
            raise HarnessError(f"cannot lock {self._lock.lock_file}: {error}") from error
        return True

    def _read_holder(self) -> tuple[Owner, str] | None:
        try:
            record = json.loads(self._holder.read_text(encoding="utf-8"))
            return Owner(**record["owner"]), str(record["cmdline"])
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def _describe_holder(self) -> str:
        held = self._read_holder()
        return f"pid {held[0].pid} ({held[1]})" if held else "a run that has just begun"

    def _write_holder(self) -> None:
        owner = current_owner()
        text = json.dumps({"owner": vars(owner), "cmdline": command_line()})
        new = self._holder.with_suffix(f".{owner.pid}")
        new.write_text(text, encoding="utf-8")
        new.replace(self._holder)

    def _await_end_of_dead_holder(self) -> None:
        """Wait until a holder that was killed is gone: the kernel drops its lock a moment before that, and
        until then its journal looks like that of a live run."""
        held = self._read_holder()
        deadline = time.monotonic() + _ENDING_S
        while held and held[0] != current_owner() and held[0].is_alive() and time.monotonic() < deadline:
            time.sleep(_POLL_S)
