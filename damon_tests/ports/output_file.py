# SPDX-License-Identifier: GPL-2.0
"""Write every output file completely or not at all, and never replace a device or a link.

A regular file is written beside its place and renamed into it. Other files (a terminal, a pipe,
``/dev/null``) are written directly, and symbolic links are followed: neither is ever replaced by a file.
``-`` is standard output.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import shutil
import stat
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from damon_tests.ports.errors import UsageError

STDOUT = Path("-")

_DESCRIPTORS = {"/dev/stdout": 1, "/dev/stderr": 2}
_DESCRIPTOR = re.compile(r"/(?:dev|proc/self)/fd/(\d+)")


def write_bytes(path: Path, data: bytes) -> None:
    """Write ``data`` to ``path`` as described above. Raises OSError, UsageError."""
    with writing(path) as file:
        file.write(data)


def write_text(path: Path, text: str) -> None:
    """Write ``text`` to ``path`` in UTF-8; what UTF-8 cannot hold becomes "?". Raises OSError, UsageError."""
    write_bytes(path, text.encode("utf-8", errors="replace"))


@contextlib.contextmanager
def writing(path: Path) -> Iterator[IO[bytes]]:
    """Yield a seekable binary file whose content is at ``path`` when the block ends without an error.

    Raises OSError, which names ``path``, and UsageError for a disk.
    """
    try:
        target = regular_file(path)
        with _beside(target) if target is not None else _through(path) as file:
            yield file
    except OSError as error:
        if error.errno is None:
            raise
        # Name the user's path, not the temporary file.
        raise OSError(error.errno, error.strerror, str(path)) from error


def check_writable(path: Path) -> None:
    """Raise UsageError if ``path`` cannot be written; call it before the work whose result goes there."""
    try:
        target = regular_file(path)
        if target is None:
            return
        if not target.parent.is_dir():
            raise UsageError(
                f"{path}: there is no directory {target.parent if path.is_symlink() else path.parent}"
            )
        if target.exists() and not os.access(target, os.W_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        if not target.exists() or os.access(target.parent, os.W_OK):
            temporary = _temporary(target)
            temporary.touch()
            temporary.unlink()
    except OSError as error:
        raise UsageError(f"{path} cannot be written: {error.strerror}") from error


def regular_file(path: Path) -> Path | None:
    """Return the regular file, existing or not, to which ``path`` leads; None for a file written directly.

    Raises OSError, UsageError (an empty name, a disk).
    """
    if not str(path) or path == Path():
        raise UsageError("an empty name is no file")
    if path == STDOUT or _descriptor(path) is not None:
        return None
    target = Path(os.path.realpath(path))
    try:
        mode = target.stat().st_mode
    except FileNotFoundError:
        return target
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    if stat.S_ISBLK(mode):
        raise UsageError(f"{path} is a disk, which is not overwritten")
    return target if stat.S_ISREG(mode) else None


def _descriptor(path: Path) -> int | None:
    """Return the file descriptor that a path such as /dev/stdout names."""
    named = _DESCRIPTOR.fullmatch(str(path))
    return int(named[1]) if named else _DESCRIPTORS.get(str(path))


@contextlib.contextmanager
def _beside(target: Path) -> Iterator[IO[bytes]]:
    if target.exists() and not os.access(target, os.W_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    if target.exists() and not os.access(target.parent, os.W_OK):
        with _through(target) as file:
            yield file
        return
    temporary = _temporary(target)
    try:
        with temporary.open("w+b") as file:
            yield file
        if target.exists():
            shutil.copymode(target, temporary)
        os.replace(temporary, target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _temporary(target: Path) -> Path:
    # A short name, as the file's name may already have the maximum length.
    return target.with_name(f".damon-tests-{os.getpid()}")


@contextlib.contextmanager
def _through(path: Path) -> Iterator[IO[bytes]]:
    """Collect the output, then write it, so that an earlier failure writes nothing."""
    with tempfile.TemporaryFile() as file:
        yield file
        file.seek(0)
        if path == STDOUT:
            sys.stdout.flush()
            shutil.copyfileobj(file, sys.stdout.buffer)
            sys.stdout.buffer.flush()
            return
        named = _descriptor(path)
        # Opening /dev/stdout again would overwrite the start of a file to which output is redirected.
        fd = os.dup(named) if named is not None else os.open(path, os.O_WRONLY | os.O_TRUNC | os.O_NOCTTY)
        if named is not None:
            sys.stdout.flush()
        with os.fdopen(fd, "wb") as out:
            shutil.copyfileobj(file, out)
