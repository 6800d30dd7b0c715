# SPDX-License-Identifier: GPL-2.0
"""Serve writes to ``kdamonds/N/state`` (specification §5.4 and §5.5)."""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import TYPE_CHECKING

from damon_tests.reference.core.build import build_context, commit, quota_goals_only
from damon_tests.reference.core.context import Context
from damon_tests.reference.core.intervals import commit_attrs
from damon_tests.reference.core.kdamond import Kdamond, Request
from damon_tests.reference.core.schemes import TriedRegion, Walk
from damon_tests.reference.rules.errors import CoreError, invalid
from damon_tests.reference.sysfs.kobjects import Dir, Finish, ListDir, TriedDir
from damon_tests.reference.sysfs.staged_request import read_context

if TYPE_CHECKING:
    from damon_tests.reference.sysfs.system import ReferenceSystem


class Slot:
    """The kdamond behind one ``kdamonds/N`` directory."""

    def __init__(self, system: ReferenceSystem, directory: Dir) -> None:
        self.system = system
        self.directory = directory
        self.kdamond: Kdamond | None = None
        self.refreshed_jiffies = 0

    @property
    def _timer(self) -> Slot | ReferenceSystem:
        """Return who remembers when ``refresh_ms`` was served last: this kdamond, or the whole system (a
        fault)."""
        return self if self.system.rules.refresh_timer_is_own else self.system

    @property
    def running(self) -> bool:
        return self.kdamond is not None and self.kdamond.running

    @property
    def pid(self) -> int:
        return self.kdamond.pid if self.kdamond is not None and self.kdamond.running else -1

    def execute(self, command: str, finish: Finish) -> None:
        """Run a command; call ``finish`` now, or when the kdamond has done its part."""
        rules = self.system.rules
        if command not in rules.state_commands:
            finish(errno.EINVAL)
            return
        try:
            if command != "off" and self._contexts().count != 1:
                raise invalid("nr_contexts is not 1")
            getattr(self, "_" + command)(finish)
        except CoreError as error:
            finish(error.errno)

    def _contexts(self) -> ListDir:
        contexts = self.directory.dir("contexts")
        assert isinstance(contexts, ListDir)
        return contexts

    def _context_dir(self) -> Dir:
        return self._contexts().item(0)

    def _schemes(self) -> list[Dir]:
        schemes = self._context_dir().dir("schemes")
        return list(schemes.items()) if isinstance(schemes, ListDir) else []

    # Commands

    def _on(self, finish: Finish) -> None:
        system = self.system
        if self.running and system.rules.on_refuses_running:
            finish(errno.EBUSY)
            return
        rng, directory = system.new_rng(), self._context_dir()
        if not self.running:
            self.kdamond = None  # the stopped one is gone, also if this start fails
        ctx = build_context(read_context(directory), system.memory, system.rules, rng)
        # Part of the start itself, which comes last (§5.3): what is staged wrongly is EINVAL all the same.
        if system.exclusive_running:
            finish(errno.EBUSY)
            return
        self.kdamond = Kdamond(system, ctx, system.new_pid())
        self._timer.refreshed_jiffies = system.clock.jiffies()
        self.kdamond.repeating.append(self._refresh)
        if not system.rules.staging_waits_for_commit:
            self.kdamond.at_aggregations.append(lambda: self._take_staged_attrs(ctx))
        system.start_kdamond(self.kdamond)
        finish(0)

    def _take_staged_attrs(self, ctx: Context) -> None:
        """Take over the attributes in the files without a commit, unless they are refused (a fault)."""
        with suppress(CoreError):
            commit_attrs(ctx, read_context(self._context_dir()).attrs)

    def _off(self, finish: Finish) -> None:
        if self.kdamond is None:
            finish(errno.EINVAL)
        elif not self.kdamond.running:
            finish(self.system.rules.off_when_stopped)
        else:
            self.kdamond.stop(lambda: finish(0))

    def _call(self, function: Callable[[Kdamond], None], finish: Finish, is_commit: bool = False) -> None:
        """Have the kdamond run ``function``; refuse when there is none, or it ends first."""
        kdamond = self._started()

        def run() -> int:
            function(kdamond)
            return 0

        answer = self._polled(finish)
        if self.system.rules.command_poll_ns:
            self.system.lock_holder = None

        def done(outcome: Exception | int) -> None:
            answer(outcome.errno if isinstance(outcome, CoreError) else outcome)

        rules = self.system.rules
        waits = rules.commit_waits_for_aggregation or not rules.inactive_serves_commits
        fatal = rules.failed_commit_ends
        kdamond.call(Request(run, done, is_commit and waits, is_commit and fatal))

    def _polled(self, finish: Finish) -> Finish:
        """Answer as 6.12 does: when the writer looks again, and for one request at a time."""
        system = self.system
        poll_ns = system.rules.command_poll_ns
        if not poll_ns:
            return finish
        if system.polled_command is not None:
            raise CoreError(errno.EBUSY, "another command is being waited for")
        outcomes: list[Exception | int] = []
        system.polled_command = outcomes

        def look() -> Iterator[int]:
            while not outcomes:
                yield system.clock.now_ns() + poll_ns
            system.polled_command = None
            finish(outcomes[0])

        system.clock.start(look())
        return outcomes.append

    def _started(self) -> Kdamond:
        if self.kdamond is None:
            raise invalid("the kdamond was never started")
        if not self.kdamond.running:
            raise CoreError(self.system.rules.command_when_stopped, "the kdamond has stopped")
        return self.kdamond

    def _commit(self, finish: Finish) -> None:
        def run(kdamond: Kdamond) -> None:
            commit(kdamond.ctx, read_context(self._context_dir()), self.system.memory)

        self._call(run, finish, is_commit=True)

    def _commit_schemes_quota_goals(self, finish: Finish) -> None:
        def run(kdamond: Kdamond) -> None:
            staged = read_context(self._context_dir())
            for scheme, new in zip(kdamond.ctx.schemes, staged.schemes, strict=False):
                scheme.set_params(quota_goals_only(scheme.params, new))

        self._call(run, finish)

    def _update_schemes_stats(self, finish: Finish) -> None:
        self._call(self._copy_stats, finish)

    def _update_schemes_effective_quotas(self, finish: Finish) -> None:
        self._call(self._copy_effective_quotas, finish)

    def _update_tuned_intervals(self, finish: Finish) -> None:
        self._call(self._copy_intervals, finish)

    def _clear_schemes_tried_regions(self, finish: Finish) -> None:
        if not self.system.rules.clear_needs_no_kdamond:
            self._started()
        self._clear_tried()
        finish(0)

    def _update_schemes_tried_bytes(self, finish: Finish) -> None:
        self._walk(finish, with_dirs=False)

    def _update_schemes_tried_regions(self, finish: Finish) -> None:
        self._walk(finish, with_dirs=True)

    def _walk(self, finish: Finish, with_dirs: bool) -> None:
        if self.system.rules.walk_clears_first:
            self._clear_tried()
        kdamond = self._started()
        tried = [scheme.dir("tried_regions") for scheme in self._schemes()]

        def on_region(scheme_idx: int, region: TriedRegion) -> None:
            if scheme_idx < len(tried):
                directory = tried[scheme_idx]
                assert isinstance(directory, TriedDir)
                directory.add(region, with_dirs)

        answer, holder = self._polled(finish), self.system.lock_holder

        def done(outcome: Exception | int) -> None:
            # 6.12: the kdamond has the lock until here, the writer that waits does not.
            if self.system.lock_holder is holder:
                self.system.lock_holder = None
            answer(outcome)

        kdamond.start_walk(Walk(on_region, done))

    # What the commands copy to the tree

    def _clear_tried(self) -> None:
        for scheme in self._schemes():
            directory = scheme.dir("tried_regions")
            assert isinstance(directory, TriedDir)
            directory.clear()

    def _copy_stats(self, kdamond: Kdamond) -> None:
        for scheme, directory in zip(kdamond.ctx.schemes, self._schemes(), strict=False):
            stats = directory.dir("stats")
            for name in vars(scheme.stats):
                stats.set_value(name, getattr(scheme.stats, self.system.rules.statistic(name)))

    def _copy_effective_quotas(self, kdamond: Kdamond) -> None:
        for scheme, directory in zip(kdamond.ctx.schemes, self._schemes(), strict=False):
            directory.dir("quotas").set_value("effective_bytes", scheme.effective_bytes)

    def _copy_intervals(self, kdamond: Kdamond) -> None:
        intervals = self._context_dir().dir("monitoring_attrs").dir("intervals")
        intervals.set_value("sample_us", kdamond.ctx.attrs.sample_us)
        intervals.set_value("aggr_us", kdamond.ctx.attrs.aggr_us)

    def _refresh(self) -> None:
        """Serve ``refresh_ms`` after a sample, when its time has come and the lock is free."""
        refresh_ms = int(self.directory.value("refresh_ms", 0))
        now, kdamond = self.system.clock.jiffies(), self.kdamond
        due = self.system.rules.refresh_is_due(now, self._timer.refreshed_jiffies, refresh_ms)
        if kdamond is None or not due:
            return
        self._timer.refreshed_jiffies = now
        if self.system.locked or self._contexts().count != 1:
            return
        self._copy_intervals(kdamond)
        self._copy_stats(kdamond)
        self._copy_effective_quotas(kdamond)
