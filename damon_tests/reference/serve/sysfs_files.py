# SPDX-License-Identifier: GPL-2.0
"""Answer file operations as sysfs does, over a ReferenceTree: modes, open files, errno, removed
directories.

Knows nothing of FUSE: transports (``fuse_direct``, ``fuse_library``) translate. Paths are those below
``/sys``: ``/kernel/mm/damon/admin``. Not thread-safe: the caller has the engine's lock.
"""

from __future__ import annotations

import errno
import os
import stat
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from damon_tests.ports import NSEC_PER_SEC, NSEC_PER_USEC, DamonTestsError, Event, TreeError, page_size
from damon_tests.reference.sysfs.drgn_dump import dump
from damon_tests.reference.sysfs.kobjects import BlockingFile, Dir, Node, TriedDir
from damon_tests.reference.sysfs.tree import PendingWrite, ReferenceTree

SYS = "/sys"
NONCE_NAME = ".damon-tests"
"""In each served directory a file of this name can be read but is not listed: proof who serves it."""
STATE_NAME = ".damon-tests-state"
"""Another one: what a debugger would read of running kdamonds (``structs.dump``)."""
EVENTS_NAME = ".damon-tests-events"
"""And one that grows: the tracepoints from when it was opened on, as ``perf script`` prints them."""
HIDDEN = (NONCE_NAME, STATE_NAME, EVENTS_NAME)


@dataclass(frozen=True)
class Attributes:
    """``mode`` has the type bits.

    ``stable`` is False where a transport must not share or cache what it looked up: numbered directories
    are replaced, and opens of a file whose writes may wait must not wait for each other.
    """

    mode: int
    size: int
    nlink: int
    stable: bool

    @property
    def is_dir(self) -> bool:
        return stat.S_ISDIR(self.mode)


class SysfsFiles:
    """The file system. ``before_write(path, text)`` is called before each write, with the absolute path."""

    def __init__(
        self,
        tree: ReferenceTree,
        nonce: str,
        before_write: Callable[[str, str], None] = lambda path, text: None,
    ) -> None:
        self.tree = tree
        self.nonce = nonce
        self.before_write = before_write
        self._mounts = tuple(tree.mounts())
        # Directories above the mounts: absolute path to the names in it.
        self._above: dict[str, set[str]] = {SYS: set()}
        for mount in self._mounts:
            path = mount
            while path != SYS:
                parent, _, name = path.rpartition("/")
                self._above.setdefault(parent, set()).add(name)
                path = parent

    def _node(self, absolute: str) -> Node | None:
        return self.tree.node(absolute)

    def identity(self, path: str) -> object:
        """Return an object that stays the same while the file or directory at a path does. Raises OSError
        ENOENT.

        Directories of tried regions are made anew at each lookup: there the region itself is the identity.
        """
        absolute = SYS + path.rstrip("/")
        if absolute in self._above or self._is_hidden(absolute):
            return absolute
        node = self._node(absolute)
        if node is None:
            raise _error(errno.ENOENT, path)
        before, tried, rest = absolute.partition("/tried_regions/")
        if tried and rest.split("/")[0].isdecimal():
            directory = self._node(before + "/tried_regions")
            assert isinstance(directory, TriedDir)
            return directory.regions[int(rest.split("/")[0])]
        return node

    def is_still(self, path: str, identity: object) -> bool:
        """Whether ``identity`` is still that of the path."""
        try:
            now = self.identity(path)
        except (OSError, IndexError):
            return False
        return now is identity or (isinstance(now, str) and now == identity)

    def _is_hidden(self, absolute: str) -> bool:
        parent, _, name = absolute.rpartition("/")
        return name in HIDDEN and parent in self._mounts

    def hidden(self, absolute: str) -> bytes:
        """Return the contents of a file that is not listed."""
        if absolute.endswith(STATE_NAME):
            return dump(self.tree.system).encode()
        return self.nonce.encode() + b"\n"

    def attributes(self, path: str) -> Attributes:
        """Raises OSError ENOENT."""
        absolute = SYS + path.rstrip("/")
        if absolute in self._above:
            return Attributes(stat.S_IFDIR | 0o755, 0, 2 + len(self._above[absolute]), True)
        if self._is_hidden(absolute):
            return Attributes(stat.S_IFREG | 0o444, page_size(), 1, True)
        node = self._node(absolute)
        if node is None:
            raise _error(errno.ENOENT, path)
        stable = not absolute.rpartition("/")[2].isdecimal() and not isinstance(node, BlockingFile)
        if isinstance(node, Dir):
            return Attributes(stat.S_IFDIR | node.mode, 0, 2, stable)
        return Attributes(stat.S_IFREG | node.mode, page_size(), 1, stable)

    def names(self, path: str) -> Sequence[tuple[str, bool]]:
        """Return (name, whether a directory) of each child, sorted. Raises OSError."""
        absolute = SYS + path.rstrip("/")
        if absolute in self._above:
            return [(name, True) for name in sorted(self._above[absolute])]
        return [(entry.path, entry.is_dir) for entry in self.tree.list(absolute)]

    def open(self, path: str, flags: int, uid: int) -> OpenFile:
        """Open a file. Raises OSError: EACCES where sysfs does, for root, too. O_TRUNC and O_APPEND are
        ignored."""
        attributes = self.attributes(path)
        if attributes.is_dir:
            raise _error(errno.EISDIR, path)
        wanted = {os.O_RDONLY: 0o400, os.O_WRONLY: 0o200, os.O_RDWR: 0o600}.get(flags & os.O_ACCMODE, 0o600)
        if uid not in (0, os.getuid()):
            wanted >>= 6  # neither owner nor group
        if attributes.mode & wanted != wanted:
            raise _error(errno.EACCES, path)
        kind = EventLog if path.endswith("/" + EVENTS_NAME) else OpenFile
        return kind(self, path, attributes)


class OpenFile:
    """What a descriptor refers to: the file that was there when it was opened."""

    def __init__(self, files: SysfsFiles, path: str, attributes: Attributes) -> None:
        self.path = path
        self.attributes = attributes
        self._files = files
        self._identity = files.identity(path)
        self._absolute = SYS + path

    def _check_there(self) -> None:
        if not self._files.is_still(self.path, self._identity):
            raise _error(errno.ENODEV, self.path)

    def read(self) -> bytes:
        """Return the whole text. Raises OSError; ENODEV when its directory was removed."""
        self._check_there()
        if self._identity == self._absolute:
            return self._files.hidden(self._absolute)
        return self._files.tree.read(self._absolute).encode("utf-8", "surrogateescape")

    def read_at(self, offset: int, size: int) -> bytes:
        """Return what read(2) gives at an offset. Raises OSError."""
        return self.read()[offset : offset + size]

    def close(self) -> None:
        """Note that the last user closed it."""

    def begin_write(self, data: bytes) -> Write:
        """Begin one write(2), of which sysfs takes a page. Raises OSError for what fails at once."""
        self._check_there()
        taken = data[: page_size()]  # sysfs hands at most one page to a file
        # DAMON reads a C string.
        text = (taken.split(b"\0")[0] or taken[:1]).decode("utf-8", "surrogateescape")
        self._files.before_write(self._absolute, text)
        return Write(self._files.tree.begin_write(self._absolute, text), len(taken))


class EventLog(OpenFile):
    """The file of events, read from its beginning on; what was read is dropped."""

    def __init__(self, files: SysfsFiles, path: str, attributes: Attributes) -> None:
        super().__init__(files, path, attributes)
        events = files.tree.system.events
        self._stream = events.open(sorted(events.available()))
        self._text = b""
        self._text_begins = 0

    def read_at(self, offset: int, size: int) -> bytes:
        new = "".join(_perf_line(event) for event in self._stream.read())
        forgotten = max(0, offset - self._text_begins)
        self._text = (self._text + new.encode())[forgotten:]
        self._text_begins += forgotten
        return self._text[:size]

    def close(self) -> None:
        self._stream.close()


def _perf_line(event: Event) -> str:
    seconds, nanoseconds = divmod(event.time_ns, NSEC_PER_SEC)
    time_s = f"{seconds}.{nanoseconds // NSEC_PER_USEC:06d}"
    return f"kdamond {event.pid} [000] {time_s}: damon:{event.name}: {event.text}\n"


class Write:
    """A write under way; ``count`` is what it returns when it succeeds."""

    def __init__(self, pending: PendingWrite, count: int) -> None:
        self._pending = pending
        self.count = count

    def done(self) -> bool:
        return self._pending.done()

    def errno(self) -> int:
        """Return 0, or how it failed. Only when done. What this reference cannot do is also reported on
        stderr."""
        try:
            self._pending.raise_failure()
        except TreeError as error:
            return error.errno or errno.EIO
        except DamonTestsError as error:
            print(f"damon-tests: {error}", file=sys.stderr)
            return errno.EOPNOTSUPP
        except Exception as error:
            print(f"damon-tests: the reference failed: {type(error).__name__}: {error}", file=sys.stderr)
            return errno.EIO
        return 0


def _error(number: int, path: str) -> OSError:
    return OSError(number, os.strerror(number), path)
