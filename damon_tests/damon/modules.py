# SPDX-License-Identifier: GPL-2.0
"""The client of the built-in modules DAMON_RECLAIM, DAMON_LRU_SORT and DAMON_STAT.

with ModuleSession(client, DamonReclaim(min_age=1_000_000, wmarks_high=1000)) as session:
    session.enable()
    ...
    session.commit(min_age=2_000_000)

On leaving, also by an exception, the session restores every parameter, also those that the module itself
writes back, and turns the module off.
"""

from __future__ import annotations

import errno
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import fields, replace
from types import TracebackType
from typing import Generic, Self, TypeVar

from damon_tests.damon import layout
from damon_tests.damon.module_params import ModuleParameters
from damon_tests.damon.records import DamosStats
from damon_tests.ports import (
    NSEC_PER_MSEC,
    NSEC_PER_SEC,
    Clock,
    DamonHangs,
    DamonTestsError,
    MachineLost,
    NotSupported,
    Tree,
    TreeError,
)

COMMIT_TIMEOUT_NS = 30 * NSEC_PER_SEC
_POLL_NS = 5 * NSEC_PER_MSEC
_COMMANDS = ("enabled", "commit_inputs")
_STATS = {
    "damon_reclaim": (
        "nr_reclaim_tried_regions",
        "bytes_reclaim_tried_regions",
        "nr_reclaimed_regions",
        "bytes_reclaimed_regions",
        "nr_quota_exceeds",
    ),
    "damon_lru_sort": (
        "nr_lru_sort_tried_{}_regions",
        "bytes_lru_sort_tried_{}_regions",
        "nr_lru_sorted_{}_regions",
        "bytes_lru_sorted_{}_regions",
        "nr_{}_quota_exceeds",
    ),
}
_SCHEMES = {"damon_reclaim": ("",), "damon_lru_sort": ("hot", "cold")}

Value = int | bool | str
P = TypeVar("P", bound=ModuleParameters)


class ModuleClient:
    """A module on the machine of ``tree`` and ``clock``; ``name`` as in /sys/module."""

    def __init__(self, tree: Tree, clock: Clock, name: str) -> None:
        self.tree = tree
        self.clock = clock
        self.name = name
        self.directory = f"/sys/module/{name}/parameters"

    def path(self, parameter: str) -> str:
        return f"{self.directory}/{parameter}"

    def text(self, parameter: str) -> str:
        """Return what the file reads, without its newline. Raises TreeError."""
        return self.tree.read(self.path(parameter)).removesuffix("\n")

    def number(self, parameter: str) -> int:
        return int(layout.decode("number", self.text(parameter), self.path(parameter)))

    def flag(self, parameter: str) -> bool:
        return bool(layout.decode("bool", self.text(parameter), self.path(parameter)))

    def write(self, parameter: str, value: Value) -> None:
        """Write one parameter; a bool as Y or N. Raises TreeError if the kernel refuses the value."""
        self.tree.write(self.path(parameter), _shown(value))

    def writable(self) -> dict[str, str]:
        """Return every parameter that can be restored, with its text; leave out commands.

        Raises NotSupported where there is no such module.
        """
        try:
            listed = self.tree.list(self.directory)
        except TreeError as error:
            if error.errno != errno.ENOENT:
                raise
            raise NotSupported(
                f"this kernel has no module {self.name}",
                remedy="use a kernel that was built with it (--kernel debian:newest)",
            ) from None
        names = [e.path for e in listed if e.mode & 0o200 and e.path not in _COMMANDS]
        answers = self.tree.read_batch([self.path(name) for name in names])
        values = {}
        for name, answer in zip(names, answers, strict=True):
            if isinstance(answer, TreeError):
                raise answer
            values[name] = answer.removesuffix("\n")
        return values

    # --- control -----------------------------------------------------------------------------------

    @property
    def enabled(self) -> bool:
        return self.flag("enabled")

    def kdamond_pid(self) -> int | None:
        """Return the kdamond's pid, -1 when it does not run; None if the kernel does not report it."""
        try:
            return self.number("kdamond_pid")
        except TreeError as error:
            if error.errno == errno.ENOENT:
                return None
            raise

    def enable(self) -> None:
        """Turn the module on. Raises TreeError: EBUSY when any kdamond runs, EINVAL for bad parameters."""
        self.write("enabled", True)

    def disable(self) -> None:
        self.write("enabled", False)

    def commit_inputs(self, timeout_ns: int = COMMIT_TIMEOUT_NS) -> None:
        """Let the running module read its parameters again, and wait until it has.

        Raises TreeError for refused parameters (from 7.2 on; older kernels do not report it), DamonHangs if
        the module did not do it in time: it should at its next aggregation or watermark check.
        """
        self.write("commit_inputs", True)
        deadline = self.clock.now_ns() + timeout_ns
        if self.enabled and not self.clock.wait_until(self._consumed, deadline, _POLL_NS):
            raise DamonHangs(
                f"{self.path('commit_inputs')} still reads Y {timeout_ns / NSEC_PER_SEC:g} s later"
            )

    def _consumed(self) -> bool:
        return not self.flag("commit_inputs")

    @property
    def schemes(self) -> tuple[str, ...]:
        """Return the kinds of schemes whose counters ``stats`` returns; none for DAMON_STAT."""
        return _SCHEMES.get(self.name, ())

    # --- reports -----------------------------------------------------------------------------------

    def stats(self, kind: str = "") -> DamosStats:
        """Return the counters of DAMON_RECLAIM, or of the "hot" or "cold" scheme of DAMON_LRU_SORT."""
        names = [name.format(kind) for name in _STATS[self.name]]
        # In one round trip, so that the counters are of nearly the same moment.
        answers = self.tree.read_batch([self.path(name) for name in names])
        for answer in answers:
            if isinstance(answer, TreeError):
                raise answer
        return DamosStats(*(int(str(answer)) for answer in answers))


class ModuleSession(Generic[P]):
    """Owns a module from ``__enter__`` to ``__exit__``; it must be off before, and is restored after.

    ``parameters`` are written on entering; the module stays off.
    """

    def __init__(self, client: ModuleClient, parameters: P) -> None:
        self.client = client
        self.parameters: P = parameters
        self._saved: Mapping[str, str] = {}

    def __enter__(self) -> Self:
        """Stage. Raises NotSupported when the module is on, or lacks a requested parameter."""
        self._saved = self.client.writable()
        if self.client.enabled:
            raise NotSupported(
                f"module {self.client.name} is on, and this run did not start it",
                remedy=f"turn it off while testing: echo N > {self.client.path('enabled')}",
            )
        try:
            self.stage(self.parameters)
        except BaseException as error:
            self._leave(error)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self._leave(error)

    def stage(self, parameters: P) -> None:
        """Write the parameters that differ from the files. Raises NotSupported with everything the kernel
        lacks, and then writes nothing."""
        wanted = {f.name: getattr(parameters, f.name) for f in fields(parameters)}
        defaults = {f.name: f.default for f in fields(parameters)}
        now = self.client.writable()
        missing = [n for n, value in wanted.items() if n not in now and value != defaults[n]]
        if missing:
            since = parameters.SINCE
            raise NotSupported(
                *(f"parameter {n} of {self.client.name} (since {since.get(n, 'ever')})" for n in missing),
                remedy="run on a newer kernel, or leave it at its default",
            )
        for name, value in wanted.items():
            if name in now and now[name] != _shown(value):
                self.client.write(name, value)
        self.parameters = parameters

    def enable(self) -> None:
        """Turn the module on. Raises TreeError when DAMON refuses."""
        self.client.enable()

    def disable(self) -> None:
        self.client.disable()

    def commit(self, **changed: Value) -> None:
        """Change parameters of the running module online."""
        # The module writes back the values that it chose itself, so read them.
        kept = {n: self.client.number(n) for n in ("monitor_region_start", "monitor_region_end")}
        changed = {**{n: v for n, v in kept.items() if hasattr(self.parameters, n)}, **changed}
        self.stage(replace(self.parameters, **changed))  # type: ignore[arg-type]  # by name
        self.client.commit_inputs()

    def _leave(self, error: BaseException | None) -> None:
        """Turn off and restore. A failure to do so never hides the error that ended the body."""
        if isinstance(error, MachineLost):
            return
        try:
            self._restore()
        except DamonTestsError as failure:
            if error is None:
                raise
            error.add_note(f"and restoring {self.client.name} failed: {failure}")

    def _restore(self) -> None:
        failure: TreeError | None = None
        with suppress(NotSupported):
            if self.client.enabled:
                self.client.disable()
            now = self.client.writable()
            for name, value in self._saved.items():
                if now.get(name) != value:
                    try:
                        self.client.write(name, value)
                    except TreeError as refused:
                        failure = failure or refused
        if failure:
            raise failure


def _shown(value: Value) -> str:
    if isinstance(value, bool):
        return "Y" if value else "N"
    return str(value)
