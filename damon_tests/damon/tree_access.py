# SPDX-License-Identifier: GPL-2.0
"""Access DAMON's tree: wait while it is busy, explain errors, collect missing files.

The kernel guards the whole tree by a lock that accesses only try to take, and holds it while a command
is executed. So retry on EBUSY, up to a deadline on the machine's clock, unless a running user of DAMON is
the cause; then raise it at once, naming the user.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import TypeVar

from damon_tests.damon import layout
from damon_tests.damon.errno_meanings import Situation, likely_cause
from damon_tests.damon.layout import Write
from damon_tests.damon.params import U32_MAX, U64_MAX, Kdamond
from damon_tests.damon.users import ADMIN, Usage, usage
from damon_tests.ports import NSEC_PER_MSEC, NSEC_PER_SEC, Clock, NotSupported, Pending, Tree, TreeError

T = TypeVar("T")

PATIENCE_NS = 10 * NSEC_PER_SEC
"""How long to retry on EBUSY by default: longer than commands usually take."""

_FIRST_WAIT_NS = NSEC_PER_MSEC
_LONGEST_WAIT_NS = 50 * NSEC_PER_MSEC


class TreeAccess:
    """Access to a tree. ``tree`` and ``clock`` belong to one machine; ``root`` has ``kdamonds/``.

    ``patience_ns`` limits every wait for EBUSY that has no deadline of its own.
    """

    def __init__(self, tree: Tree, clock: Clock, root: str = ADMIN, patience_ns: int = PATIENCE_NS) -> None:
        self.tree = tree
        self.clock = clock
        self.no_limit = U64_MAX
        """The kernel's ULONG_MAX: known to be less once a kernel of 32 bits has refused a larger one."""
        self.root = root
        self._patience_ns = patience_ns
        self._requested: tuple[Kdamond, ...] = ()

    def usage(self) -> Usage:
        """Return who uses DAMON now, modules included."""
        return usage(self.tree, self.root)

    def path(self, kdamond_idx: int, *parts: object) -> str:
        """Return the path of a file below ``kdamonds/N/``."""
        return "/".join([self.root, layout.KDAMONDS.path, str(kdamond_idx), *map(str, parts)])

    def ctx_path(self, kdamond_idx: int, *parts: object) -> str:
        """Return the path of a file below ``kdamonds/N/contexts/0/``."""
        return self.path(kdamond_idx, "contexts", 0, *parts)

    def read(self, path: str) -> str:
        """Read a file, retry on EBUSY; errors carry their likely cause."""
        return self.patiently(lambda: self.tree.read(path), self.deadline(), path)

    def number(self, path: str) -> int:
        """Read a number. Raises HarnessError for other text."""
        return int(layout.decode("number", self.read(path), path))

    def explain(self, error: TreeError) -> TreeError:
        """Return the error with its ``cause`` filled in, if one is known."""
        if not error.cause:
            who = self.usage() if error.errno == errno.EBUSY else Usage(None, ())
            error.cause = likely_cause(error, Situation(self._requested, who))
        return error

    def deadline(self) -> int:
        """Return the deadline for waits that begin now."""
        return self.clock.now_ns() + self._patience_ns

    def patiently(self, attempt: Callable[[], T], deadline_ns: int, what: str) -> T:
        """Retry ``attempt`` while it raises EBUSY; ``what`` names the file and the value."""
        wait = _FIRST_WAIT_NS
        while True:
            try:
                return attempt()
            except TreeError as error:
                if error.errno != errno.EBUSY or self.clock.now_ns() >= deadline_ns or self._lasting(what):
                    raise self.explain(error) from None
            self.clock.run_for(wait)
            wait = min(2 * wait, _LONGEST_WAIT_NS)

    def _lasting(self, what: str) -> bool:
        """Return whether retrying is pointless: turning on, or changing the number, while DAMON is in use."""
        if not what.endswith(("/state on", "/nr_kdamonds")):
            return False
        now = self.usage()
        return bool(now.users) and not now.locked

    def write_all(self, writes: Sequence[Write]) -> None:
        """Write in order, in as few round trips as possible.

        Raises NotSupported with every file or word that the kernel lacks, after writing all others, and
        TreeError for any other failure, at once.
        """
        left = list(writes)
        missing: list[str] = []
        refusals: list[TreeError] = []
        deadline = self.deadline()
        while left:
            try:
                self.patiently(partial(self._write_batch, left), deadline, f"{self.root}/{left[0].path}")
            except TreeError as error:
                if _is_beyond_32_bits(left[0], error):
                    self.no_limit = U32_MAX
                    left[0] = replace(left[0], text=str(U32_MAX))
                    continue
                lacking = _lacking(left[0], error)
                if lacking is None:
                    raise
                missing.append(lacking)
                refusals.append(error)
                left = _without(left[0], left)
        if missing:
            raise NotSupported(
                *dict.fromkeys(missing),
                remedy="run on a newer kernel, or leave it at its default",
                refusals=refusals,
            )

    def _write_batch(self, left: list[Write]) -> None:
        """Write a batch; after an error, ``left`` begins with the write that failed."""
        try:
            self.tree.write_batch([(f"{self.root}/{w.path}", w.text) for w in left])
        except TreeError as error:
            at = [f"{self.root}/{w.path}" for w in left].index(error.path)
            del left[:at]
            raise
        left.clear()


class ExplainedPending:
    """A pending command whose error carries its likely cause."""

    def __init__(self, pending: Pending, access: TreeAccess) -> None:
        self._pending = pending
        self._access = access

    def done(self) -> bool:
        return self._pending.done()

    def result(self, timeout_ns: int) -> None:
        try:
            self._pending.result(timeout_ns)
        except TreeError as error:
            raise self._access.explain(error) from None


def _is_beyond_32_bits(write: Write, error: TreeError) -> bool:
    """Return whether "no limit" was refused because the kernel's unsigned long has 32 bits."""
    no_limit = write.path.endswith("/sz/max") and write.text == str(U64_MAX)
    return no_limit and error.errno == errno.ERANGE


def _lacking(write: Write, error: TreeError) -> str | None:
    """Describe what the kernel lacks if that is why a write failed, else return None."""
    if error.errno == errno.ENOENT:
        return f"no file {write.path} (since {write.since})"
    if error.errno == errno.EINVAL and write.word_since is not None:
        return f"{write.path} does not take {write.text!r} (since {write.word_since})"
    return None


def _without(failed: Write, writes: Sequence[Write]) -> list[Write]:
    """Return the writes that do not depend on the failed write: a missing count file has no children."""
    directory, _, name = failed.path.rpartition("/")
    below = f"{directory}/" if name.startswith("nr_") else "\n"
    return [w for w in writes[1:] if not w.path.startswith(below)]
