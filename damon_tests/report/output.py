# SPDX-License-Identifier: GPL-2.0
"""What the terminal that reads us can show: its colours, its characters.

Text is written in Unicode. Where the output has another encoding, each character that it lacks is replaced by
one of ASCII that looks or means alike, so that tables and heat maps keep their shape.
"""

from __future__ import annotations

import codecs
import contextlib
import errno
import io
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

from rich.console import Console

_LOOKS_LIKE = str.maketrans(
    "│┌┐└┘├┤┬┴┼─·░▒▓█▁▂▃▄▅▆▇▾✓✗×µαθΣ–…±",
    "|+++++++++-.:*%#__..oo#v+xxuatS-.~",
)
_ERRORS = "damon-tests-ascii"


def colored(out: TextIO) -> bool:
    """Whether to write colours: to a terminal that has them, unless NO_COLOR is set (https://no-color.org)."""
    return out.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


class PipeConsole(Console):
    """A console whose reader may go away: rich would end the program with 1, which means FAIL here."""

    def on_broken_pipe(self) -> None:
        raise BrokenPipeError


def from_here(path: Path) -> Path:
    """Return a path as somebody would type it: relative to the working directory if it is below that."""
    with contextlib.suppress(FileNotFoundError):  # the working directory was removed
        here = Path.cwd()
        return path.relative_to(here) if path.is_relative_to(here) else path
    return path


def never_fail() -> None:
    """Replace what standard output and standard error cannot encode instead of failing; both exist then."""
    codecs.register_error(_ERRORS, _replaced)
    _open_closed_descriptors()
    for out in (sys.stdout, sys.stderr):
        if isinstance(out, io.TextIOWrapper) and out.errors in ("strict", "surrogateescape"):
            out.reconfigure(errors=_ERRORS)


def _replaced(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    text = error.object[error.start : error.end].translate(_LOOKS_LIKE)
    return "".join(c if c.isascii() else "?" for c in text), error.end


def _open_closed_descriptors() -> None:
    """Who closed standard output (``>&-``) wants to see nothing; no other file may take its place."""
    for fd in (0, 1, 2):
        try:
            os.fstat(fd)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
    sys.stdin = sys.stdin or io.TextIOWrapper(io.FileIO(0, closefd=False))
    sys.stdout = sys.stdout or io.TextIOWrapper(io.FileIO(1, "w", closefd=False))
    sys.stderr = sys.stderr or io.TextIOWrapper(io.FileIO(2, "w", closefd=False))


class _Surviving(io.RawIOBase):
    """Write to a descriptor until nobody reads it (a pager ended, a terminal closed), then nowhere."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._gone = False

    def fileno(self) -> int:
        return self._fd

    def isatty(self) -> bool:
        return os.isatty(self._fd)

    def writable(self) -> bool:
        return True

    def write(self, data: object) -> int:
        view = memoryview(data).cast("B")  # type: ignore[arg-type]
        if not self._gone:
            try:
                return os.write(self._fd, view)
            except OSError as error:
                if error.errno not in (errno.EIO, errno.EPIPE, errno.ENXIO):
                    raise
                self._gone = True
        return len(view)


def surviving(fd: int, like: TextIO) -> TextIO:
    """Return a text file on ``fd`` that goes on when its reader has gone; encoded as ``like``."""
    return io.TextIOWrapper(
        io.BufferedWriter(_Surviving(fd)), encoding=like.encoding, errors=like.errors, line_buffering=True
    )


@contextlib.contextmanager
def surviving_stdout() -> Iterator[None]:
    """Standard output is ``surviving`` in the block: a run whose reader goes away comes to its end."""
    before = sys.stdout
    before.flush()
    try:
        fd = before.fileno()
    except (OSError, ValueError):  # a stand-in without a descriptor
        yield
        return
    sys.stdout = surviving(fd, before)
    try:
        yield
    finally:
        sys.stdout.flush()
        sys.stdout = before
