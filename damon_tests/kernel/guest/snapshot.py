# SPDX-License-Identifier: GPL-2.0
"""Saved guests: a memory file per NUMA node and QEMU's state, kept for all runs of this user."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from damon_tests.kernel.guest.qmp import Qmp

KEPT_BYTES = 3 << 30
"""How much disk space saved guests may take; the least recently used are removed first."""

_IN_USE_S = 600  # every restore renews it
_FORMAT = 2
_IGNORE_SHARED = [{"capability": "x-ignore-shared", "state": True}]


@dataclass(frozen=True)
class BootedGuest:
    """A guest that was saved when it was ready.

    ``boot_log``: what its console printed until then; ``boot_s``: seconds from QEMU's start to the agent's
    first answer; ``save_s``: seconds to save it; ``boot_attempts``: above 1 when earlier boots stalled.
    """

    directory: Path
    memory: tuple[Path, ...]
    boot_log: str
    boot_s: float
    boot_attempts: int
    save_s: float
    boot_splats: tuple[str, ...]

    @property
    def state(self) -> Path:
        return self.directory / "state"


# Saving and loading, in QEMU's terms


def save_state(qmp: Qmp, state: Path) -> None:
    """Stop the guest and write its state without its (shared) memory to ``state``."""
    qmp.call("stop")
    qmp.call("migrate-set-capabilities", capabilities=_IGNORE_SHARED)
    qmp.call("migrate", uri=f"file:{state}")
    qmp.wait_migration()


def load_state(qmp: Qmp, state: Path) -> None:
    """Load ``state`` into a QEMU that was started with ``-incoming defer``, and resume the guest."""
    qmp.call("migrate-set-capabilities", capabilities=_IGNORE_SHARED)
    qmp.call("migrate-incoming", uri=f"file:{state}")
    qmp.wait_migration()
    qmp.call("cont")


# Memory files of booting guests


@contextlib.contextmanager
def memory_files(sizes_mib: Sequence[int], otherwise: Path) -> Iterator[list[Path]]:
    """Make empty files for a guest's memory, in /dev/shm if they fit there, else below ``otherwise``.

    They are removed at the end; the next caller removes those whose owner died.
    """
    shm = Path("/dev/shm")
    needed = sum(sizes_mib) << 20
    base = shm if shm.is_dir() and shutil.disk_usage(shm).free > needed * 1.1 else otherwise
    remove_stale(base)
    # Take the lock under another name first, so that no other run takes it for stale in between.
    directory = Path(tempfile.mkdtemp(prefix=".damon-tests-new-", dir=base))
    owner = os.open(directory / "owner", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(owner, fcntl.LOCK_EX)
        renamed = directory.with_name(directory.name.replace(".damon-tests-new-", "damon-tests-"))
        directory = directory.rename(renamed)
        yield [directory / f"memory.{node}" for node in range(len(sizes_mib))]
    finally:
        shutil.rmtree(directory, ignore_errors=True)
        os.close(owner)


def remove_stale(base: Path) -> list[Path]:
    """Remove the memory files of dead owners; return the removed paths."""
    removed = []
    for directory in base.glob("damon-tests-*"):
        try:
            owner = os.open(directory / "owner", os.O_RDWR | os.O_CLOEXEC)
        except OSError:  # another user's, or not one of ours
            continue
        try:
            fcntl.flock(owner, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(directory, ignore_errors=True)
            removed.append(directory)
        except BlockingIOError:
            pass
        finally:
            os.close(owner)
    return removed


def copy_sparse(source: Path, target: Path) -> int:
    """Copy a file without its holes; returns the bytes of data copied."""
    copied = 0
    with source.open("rb") as reader, target.open("wb") as writer:
        size = os.fstat(reader.fileno()).st_size
        os.ftruncate(writer.fileno(), size)
        at = 0
        while at < size:
            try:
                start = os.lseek(reader.fileno(), at, os.SEEK_DATA)
            except OSError:  # ENXIO: only a hole remains
                break
            at = os.lseek(reader.fileno(), start, os.SEEK_HOLE)
            os.lseek(writer.fileno(), start, os.SEEK_SET)
            copied += at - start
            while start < at:
                start += os.sendfile(writer.fileno(), reader.fileno(), start, at - start)
    return copied


# The store


class SnapshotStore:
    """Saved guests by the key of their plan, below the project's cache directory."""

    def __init__(self, cache: Path) -> None:
        self._root = cache / "guests"
        self._root.mkdir(parents=True, exist_ok=True)

    def lock(self, key: str) -> FileLock:
        """Return the lock to hold while booting and saving a guest of this key, so that only one run does."""
        return FileLock(self._root / f"{key}.lock")

    def load(self, key: str) -> BootedGuest | None:
        """Return the saved guest, or None."""
        directory = self._root / key
        try:
            record = json.loads((directory / "guest.json").read_text())
            os.utime(directory)
        except (OSError, ValueError):
            return None
        if record["format"] != _FORMAT:
            return None
        memory = tuple(directory / name for name in record["memory"])
        if not all(path.is_file() for path in memory):
            return None
        return BootedGuest(
            directory=directory,
            memory=memory,
            boot_log=record["boot_log"],
            boot_s=record["boot_s"],
            boot_attempts=record["boot_attempts"],
            save_s=record["save_s"],
            boot_splats=tuple(record["boot_splats"]),
        )

    def store(self, key: str, guest: BootedGuest) -> BootedGuest:
        """Move a saved guest's state here and copy its memory; its key's lock must be held."""
        self.remove(key)
        partial = Path(tempfile.mkdtemp(prefix=".new-", dir=self._root))
        try:
            for path in guest.memory:
                copy_sparse(path, partial / path.name)
            shutil.move(guest.state, partial / "state")
            record = asdict(guest) | {"format": _FORMAT, "memory": [path.name for path in guest.memory]}
            del record["directory"]
            (partial / "guest.json").write_text(json.dumps(record, indent=1) + "\n")
            partial.rename(self._root / key)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
        self._make_room(keep=key)
        stored = self.load(key)
        assert stored is not None
        return stored

    def remove(self, key: str) -> None:
        shutil.rmtree(self._root / key, ignore_errors=True)

    def _make_room(self, keep: str) -> None:
        """Remove the least recently used guests, except those that a run may be using now."""
        now = time.time()
        for directory in self._root.glob(".new-*"):  # left by a run that was killed
            made = _modified(directory)
            if made is not None and now - made > _IN_USE_S:
                shutil.rmtree(directory, ignore_errors=True)
        directories = [(_modified(path.parent), path.parent) for path in self._root.glob("*/guest.json")]
        saved = sorted(((used, path) for used, path in directories if used is not None), reverse=True)
        total = 0
        for used, directory in saved:
            with contextlib.suppress(FileNotFoundError):
                total += sum(path.stat().st_blocks * 512 for path in directory.iterdir())
            if total > KEPT_BYTES and now - used > _IN_USE_S and directory.name != keep:
                with contextlib.suppress(Timeout), self.lock(directory.name).acquire(timeout=0):
                    shutil.rmtree(directory, ignore_errors=True)


def _modified(path: Path) -> float | None:
    """Return when a directory was modified, or None when another run renamed or removed it meanwhile."""
    try:
        return path.stat().st_mtime
    except FileNotFoundError:
        return None
