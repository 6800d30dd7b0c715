# SPDX-License-Identifier: GPL-2.0
"""The client of DAMON's sysfs tree that every backend shares: staging, commands, results."""

from __future__ import annotations

import errno
from collections.abc import Sequence
from dataclasses import dataclass

from damon_tests.damon import layout, results
from damon_tests.damon.layout import Value, Write
from damon_tests.damon.params import U64_MAX, Kdamond
from damon_tests.damon.records import DamosStats, TriedRegions
from damon_tests.damon.tree_access import ExplainedPending, TreeAccess
from damon_tests.ports import NSEC_PER_SEC, DamonHangs, NotSupported, Pending, TimedOut, TreeError, UsageError

COMMAND_TIMEOUT_NS = 60 * NSEC_PER_SEC


@dataclass(frozen=True)
class Difference:
    """A file that does not hold the requested value. ``found`` None: there is no such file."""

    path: str
    requested: Value
    found: Value | None

    def __str__(self) -> str:
        value = "no such file" if self.found is None else f"{self.found!r}"
        return f"{self.path}: requested {self.requested!r}, found {value}"


class DamonClient(TreeAccess):
    """The client of a tree. ``tree`` and ``clock`` belong to one machine; ``root`` has ``kdamonds/``.

    ``patience_ns`` limits every wait for EBUSY that has no deadline of its own.
    """

    # --- staging -----------------------------------------------------------------------------

    def stage(self, kdamonds: Sequence[Kdamond]) -> None:
        """Create a directory for each kdamond and write every field that differs from its default.

        Replace what was staged before. Raises NotSupported with everything the kernel lacks for this
        request (nothing is left staged then), and TreeError for a value the kernel refuses.
        """
        count = Write(layout.KDAMONDS.count_path, str(len(kdamonds)))
        self.write_all([count])
        self._requested = tuple(kdamonds)
        writes = [w for i, k in enumerate(kdamonds) for w in layout.new_kdamond_writes(i, k)]
        try:
            self.write_all(writes)
        except NotSupported:
            self.clear()
            raise

    def restage(self, kdamonds: Sequence[Kdamond]) -> None:
        """Write only the differences from what is staged now, for a ``commit`` to running kdamonds.

        Raises UsageError when their number differs: it cannot change while one runs.
        """
        current = self.staged()
        if len(current) != len(kdamonds):
            raise UsageError(
                f"{len(current)} kdamonds are staged and {len(kdamonds)} requested:"
                " their number cannot change online; stage again after turning them off"
            )
        pairs = enumerate(zip(kdamonds, current, strict=True))
        base = layout.KDAMONDS.path
        self._requested = tuple(kdamonds)
        self.write_all(
            [w for i, (new, old) in pairs for w in layout.writes_of(layout.KDAMOND, f"{base}/{i}", new, old)]
        )

    def staged(self) -> tuple[Kdamond, ...]:
        """Return the staged requests; a file that this kernel lacks counts as its default.

        A kdamond directory without a context counts as one with a default context.
        """
        kdamonds: tuple[Kdamond, ...] = layout.read_many(layout.KDAMONDS, "", self._texts())
        return kdamonds

    def verify_staged(self, requested: Sequence[Kdamond]) -> tuple[Difference, ...]:
        """Return every file whose value differs from ``requested``; empty when staging worked.

        A missing file is no difference if the request has the default.
        """
        texts = self._texts()
        base = layout.KDAMONDS.path
        leaves = [layout.Leaf(layout.KDAMONDS.count_path, "number", len(requested), None)]
        for i, kdamond in enumerate(requested):
            leaves += layout.leaves_of(layout.KDAMOND, f"{base}/{i}", kdamond)
        differences = []
        for leaf in leaves:
            text = texts.get(leaf.path)
            actual = None if text is None else layout.decode(leaf.kind, text, leaf.path)
            value = self.no_limit if leaf.path.endswith("/sz/max") and leaf.value == U64_MAX else leaf.value
            if (leaf.default if actual is None else actual) != value:
                differences.append(Difference(leaf.path, leaf.value, actual))
        return tuple(differences)

    def clear(self) -> None:
        """Remove all kdamond directories (``nr_kdamonds`` 0). Raises TreeError if one runs."""
        self.write_all([Write(layout.KDAMONDS.count_path, "0")])
        self._requested = ()

    # --- commands and state ------------------------------------------------------------------

    def command(self, kdamond_idx: int, word: str, timeout_ns: int = COMMAND_TIMEOUT_NS) -> None:
        """Write a command to ``state`` and wait until the kernel has executed it.

        Raises TreeError with its likely cause, DamonHangs when it did not return in time (the
        kernel then still executes it, and holds DAMON's lock).
        """
        deadline = self.clock.now_ns() + timeout_ns
        path = self.path(kdamond_idx, "state")

        def attempt() -> None:
            pending = self.tree.begin_write(path, word)
            try:
                pending.result(max(deadline - self.clock.now_ns(), 1))
            except TimedOut as error:
                self.clock.now_ns()  # raises MachineLost if the machine does not answer
                raise DamonHangs(
                    f"{path} := {word!r} did not return within {timeout_ns / NSEC_PER_SEC:g} s"
                    " (commands wait for the kdamond: up to the longest apply or watermark interval)"
                ) from error

        self.patiently(attempt, deadline, f"{path} {word}")

    def begin_command(self, kdamond_idx: int, word: str) -> Pending:
        """Start a command and return at once. ``result`` raises EBUSY, without waiting for it to end."""
        return ExplainedPending(self.tree.begin_write(self.path(kdamond_idx, "state"), word), self)

    def state(self, kdamond_idx: int) -> str:
        """Return ``on`` or ``off``."""
        return self.read(self.path(kdamond_idx, "state")).strip()

    def pid(self, kdamond_idx: int) -> int:
        """Return the kdamond's pid, -1 when it does not run."""
        return self.number(self.path(kdamond_idx, "pid"))

    def nr_kdamonds(self) -> int:
        return self.number(f"{self.root}/{layout.KDAMONDS.count_path}")

    # --- results -----------------------------------------------------------------------------

    def stats(self, kdamond_idx: int, scheme_idx: int, update: bool = True) -> DamosStats:
        """Return a scheme's counters; without ``update``, as they were last updated."""
        if update:
            self.command(kdamond_idx, "update_schemes_stats")
        return results.read_stats(self, self.scheme_path(kdamond_idx, scheme_idx, "stats"))

    def tried_regions(self, kdamond_idx: int, scheme_idx: int, update: bool = True) -> TriedRegions:
        """Return the regions that a scheme tried; with ``update``, wait for its next apply interval."""
        if update:
            self.command(kdamond_idx, "update_schemes_tried_regions")
        path = self.scheme_path(kdamond_idx, scheme_idx, "tried_regions")
        return results.read_tried_regions(self, path, scheme_idx)

    def tried_bytes(self, kdamond_idx: int, scheme_idx: int, update: bool = True) -> int:
        """Return the tried regions' total size in core address units. Raises NotSupported before 6.6."""
        if update:
            self.command(kdamond_idx, "update_schemes_tried_bytes")
        return self._result(self.scheme_path(kdamond_idx, scheme_idx, "tried_regions", "total_bytes"), "6.6")

    def effective_bytes(self, kdamond_idx: int, scheme_idx: int, update: bool = True) -> int:
        """Return a scheme's effective size quota, 0 for none. Raises NotSupported before 6.9."""
        if update:
            self.command(kdamond_idx, "update_schemes_effective_quotas")
        return self._result(self.scheme_path(kdamond_idx, scheme_idx, "quotas", "effective_bytes"), "6.9")

    def tuned_intervals(self, kdamond_idx: int, update: bool = True) -> tuple[int, int]:
        """Return the tuned (sample_us, aggr_us); ``update`` also stores them in the staged files."""
        if update:
            self.command(kdamond_idx, "update_tuned_intervals")
        base = self.ctx_path(kdamond_idx, "monitoring_attrs", "intervals")
        return self.number(f"{base}/sample_us"), self.number(f"{base}/aggr_us")

    def scheme_path(self, kdamond_idx: int, scheme_idx: int, *parts: object) -> str:
        """Return the path of a file below ``schemes/S/``."""
        return self.ctx_path(kdamond_idx, "schemes", scheme_idx, *parts)

    def _result(self, path: str, since: str) -> int:
        try:
            return self.number(path)
        except TreeError as error:
            if error.errno == errno.ENOENT:
                raise NotSupported(f"no file {path} (since {since})") from None
            raise

    # --- inside ------------------------------------------------------------------------------

    def _texts(self) -> dict[str, str]:
        """Return all readable files below the root, by path; one round trip unless some are busy."""
        base = layout.KDAMONDS.path
        try:
            entries = self.tree.walk(f"{self.root}/{base}")
        except TreeError as error:
            raise self.explain(error) from None
        texts: dict[str, str] = {}
        for entry in entries:
            path = f"{base}/{entry.path}"
            if entry.value is not None:
                texts[path] = entry.value
            elif entry.error is not None and entry.path.endswith(
                "path"
            ):  # other unreadable files hold no staged values
                texts[path] = self.read(f"{self.root}/{path}")
        return texts
