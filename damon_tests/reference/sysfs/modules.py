# SPDX-License-Identifier: GPL-2.0
"""DAMON_RECLAIM, DAMON_LRU_SORT and DAMON_STAT: parameters in, requests derived, statistics out."""

from __future__ import annotations

import errno
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from damon_tests.damon.params import DamonCtx
from damon_tests.ports.ranges import Range
from damon_tests.reference.core.build import build_context, commit
from damon_tests.reference.core.context import Context
from damon_tests.reference.core.kdamond import Kdamond, Request
from damon_tests.reference.core.schemes import SchemeStats
from damon_tests.reference.rules.errors import CoreError
from damon_tests.reference.rules.ruleset import Rules
from damon_tests.reference.sysfs import module_requests as requests
from damon_tests.reference.sysfs.formats import BOOL, Grammar, Value
from damon_tests.reference.sysfs.kobjects import BlockingFile, Dir, File, Finish
from damon_tests.reference.sysfs.module_abi import MODULES

if TYPE_CHECKING:
    from damon_tests.reference.sysfs.system import ReferenceSystem

Derive = Callable[[requests.Parameters, Sequence[Range], Rules], DamonCtx]

# Statistics of the modules' schemes: parameter name by scheme and field.
_RECLAIM_STATS = (
    {
        "nr_reclaim_tried_regions": "nr_tried",
        "bytes_reclaim_tried_regions": "sz_tried",
        "nr_reclaimed_regions": "nr_applied",
        "bytes_reclaimed_regions": "sz_applied",
        "nr_quota_exceeds": "qt_exceeds",
    },
)
_LRU_SORT_STATS = tuple(
    {
        f"nr_lru_sort_tried_{kind}_regions": "nr_tried",
        f"bytes_lru_sort_tried_{kind}_regions": "sz_tried",
        f"nr_lru_sorted_{kind}_regions": "nr_applied",
        f"bytes_lru_sorted_{kind}_regions": "sz_applied",
        f"nr_{kind}_quota_exceeds": "qt_exceeds",
    }
    for kind in ("hot", "cold")
)


class Module:
    """One built-in module and its ``parameters`` directory."""

    def __init__(
        self,
        name: str,
        system: ReferenceSystem,
        derive: Derive,
        stats: Sequence[dict[str, str]] = (),
    ) -> None:
        self.name = name
        self.system = system
        self.directory = Dir()
        self.kdamond: Kdamond | None = None
        self._requested = DamonCtx()
        self._derive = derive
        self._stats = stats
        grammar = Grammar(system.version, system.rules)
        for spec in MODULES[name][1]:
            if spec.since <= system.version:
                file = File(spec.format, spec.default, grammar, spec.mode)
                self.directory.children[spec.name] = file
        self._connect("enabled", EnabledFile)
        self._connect("commit_inputs", CommitInputsFile)
        self._connect("kdamond_pid", ModulePidFile)

    def _connect(self, name: str, kind: type[ModuleFile]) -> None:
        plain = self.directory.get(name)
        if isinstance(plain, File):
            self.directory.children[name] = kind(plain, self)

    @property
    def running(self) -> bool:
        return self.kdamond is not None and self.kdamond.running

    def request(self) -> DamonCtx:
        """Return the request that the parameters make now. Raises CoreError."""
        values: dict[str, Value] = {
            name: file.value for name, file in self.directory.children.items() if isinstance(file, File)
        }
        rules = self.system.rules
        ctx: DamonCtx = rules.module_request(self.name, self._derive(values, self.system.ram_ranges(), rules))
        return ctx

    def start(self) -> None:
        """Turn the module on. Raises CoreError: what the core refuses, else EBUSY when any kdamond runs."""
        system = self.system
        params = self.request()
        self._requested = params
        self._write_back(params)
        if system.nr_running and system.rules.module_asks_first:
            raise CoreError(errno.EBUSY, "another kdamond is running")
        if not system.rules.module_starts:
            return
        ctx = build_context(params, system.memory, system.rules, system.new_rng())
        if system.rules.module_schemes_live_on:
            self._live_on(ctx)
        self.kdamond = Kdamond(system, ctx, system.new_pid())
        self.kdamond.exclusive = system.rules.module_is_exclusive
        waits = system.rules.module_waits_for_aggregation
        (self.kdamond.at_aggregations if waits else self.kdamond.repeating).append(self.refresh)
        system.start_kdamond(self.kdamond)
        flag = self.directory.get("commit_inputs")
        if isinstance(flag, CommitInputsFile):
            flag.serve()

    def _live_on(self, ctx: Context) -> None:
        """Keep counters and quota: a module keeps its context for good, and its schemes go on counting when
        it is turned on again. Seen on 6.12.107, 6.18.15 and 7.3.4."""
        old = self.kdamond.ctx.schemes if self.kdamond is not None else []
        for index, (scheme, fresh) in enumerate(zip(old, ctx.schemes, strict=False)):
            scheme.set_params(fresh.params, fresh=True)
            scheme.activated = True
            scheme.quota.forget()
            ctx.schemes[index] = scheme

    def _write_back(self, params: DamonCtx) -> None:
        """Store the range that was found as the value of the parameter."""
        if not self.system.rules.module_writes_back:
            return
        start, end = params.targets[0].regions[0]
        self.directory.set_value("monitor_region_start", start)
        self.directory.set_value("monitor_region_end", end)

    def stop(self, finish: Finish) -> None:
        assert self.kdamond is not None
        if self.system.rules.module_stops:
            self.kdamond.stop(lambda: finish(0))
        else:
            finish(0)

    def commit_inputs(self, finish: Finish) -> None:
        """Apply the parameters to the running kdamond."""
        kdamond, rules = self.kdamond, self.system.rules
        if kdamond is None:
            raise CoreError(errno.EINVAL, "the module was never enabled")

        def run() -> int:
            if rules.commit_inputs_reads:
                self._requested = self.request()
                self._write_back(self._requested)
            commit(kdamond.ctx, self._requested, self.system.memory)
            return 0

        def done(outcome: Exception | int) -> None:
            finish(outcome.errno if isinstance(outcome, CoreError) else outcome)

        kdamond.call(Request(run, done, rules.module_waits_for_aggregation, rules.invalid_inputs_end_module))

    def refresh(self) -> None:
        """Copy statistics of the schemes to parameters: after every sample (6.16 and older: aggregation)."""
        assert self.kdamond is not None
        for scheme, names in zip(self.kdamond.ctx.schemes, self._stats, strict=False):
            stats: SchemeStats = scheme.stats
            for name, field in names.items():
                shown = self.system.rules.module_statistic(field)
                self.directory.set_value(name, getattr(stats, shown) if shown else 0)


class StatModule(Module):
    """DAMON_STAT: it computes its results every five seconds, from what the counters hold then."""

    def __init__(self, system: ReferenceSystem) -> None:
        super().__init__("damon_stat", system, requests.stat)
        self._refreshed_ns = 0

    def start(self) -> None:
        self._refreshed_ns = self.system.clock.now_ns()
        super().start()

    def refresh(self) -> None:
        now = self.system.clock.now_ns()
        rules = self.system.rules
        if self.kdamond is None or now - self._refreshed_ns <= rules.stat_refresh_ns:
            return
        self._refreshed_ns = now
        ctx = self.kdamond.ctx
        regions, aggr_us = ctx.regions, ctx.attrs.aggr_us
        sizes, nr, ages = (a.tolist() for a in (regions.sizes, regions.nr_accesses, regions.age))
        accessed = sum(size * n for size, n in zip(sizes, nr, strict=True))
        self.directory.set_value("estimated_memory_bandwidth", rules.stat_bandwidth(accessed, aggr_us))
        idle = [rules.stat_idle_ms(age, aggr_us, n > 0) for age, n in zip(ages, nr, strict=True)]
        percentiles = rules.stat_percentiles(sizes, idle)
        self.directory.set_value("memory_idle_ms_percentiles", ",".join(map(str, percentiles)))
        self.directory.set_value("aggr_interval_us", aggr_us)


class ModuleFile(BlockingFile):
    """A parameter whose write or read does something."""

    __slots__ = ("module",)

    def __init__(self, plain: File, module: Module) -> None:
        super().__init__(plain.format, plain.value, plain.grammar, plain.mode, plain.locked)
        self.module = module


class EnabledFile(ModuleFile):
    """``enabled``: reads Y while the kdamond runs; writing the present state does nothing."""

    __slots__ = ()

    def read(self) -> str:
        return BOOL.show(self.module.running) + "\n"

    def begin(self, text: str, finish: Finish) -> None:
        wanted = BOOL.parse(text, self.grammar)
        if wanted == self.module.running:
            finish(self.module.system.rules.module_enabled_again if wanted else 0)
        elif wanted:
            self.module.start()
            finish(0)
        else:
            self.module.stop(finish)


class CommitInputsFile(ModuleFile):
    """``commit_inputs``: a write returns the result of the commit, and the file reads N (7.2). Before, it
    is a flag that the running module takes back when it has read its parameters, and the write always
    succeeds."""

    __slots__ = ()

    def begin(self, text: str, finish: Finish) -> None:
        wanted = BOOL.parse(text, self.grammar)
        if self.module.system.rules.commit_inputs_answers:
            if wanted:
                self.module.commit_inputs(finish)
            else:
                finish(0)
            return
        self.value = wanted
        finish(0)
        self.serve()

    def serve(self) -> None:
        """Have the module, if it runs, read its parameters when the flag is set."""
        if self.value and self.module.running:
            self.module.commit_inputs(self._served)

    def _served(self, outcome: Exception | int) -> None:
        if outcome != errno.ECANCELED:
            self.value = False
        _unanswered(outcome)


def _unanswered(outcome: Exception | int) -> None:
    """Drop refusals, which are not reported before 7.2; anything else is a defect of the reference."""
    if isinstance(outcome, Exception):
        raise outcome


class ModulePidFile(ModuleFile):
    """``kdamond_pid``."""

    __slots__ = ()

    def read(self) -> str:
        kdamond = self.module.kdamond
        if kdamond is None:
            return "-1\n"
        return f"{self.module.system.rules.module_pid(kdamond.pid, kdamond.running)}\n"


def make_modules(system: ReferenceSystem) -> dict[str, Module]:
    """Return the modules that this version has, by name."""
    made = {
        "damon_reclaim": Module("damon_reclaim", system, requests.reclaim, _RECLAIM_STATS),
        "damon_lru_sort": Module("damon_lru_sort", system, requests.lru_sort, _LRU_SORT_STATS),
        "damon_stat": StatModule(system),
    }
    return {name: module for name, module in made.items() if MODULES[name][0] <= system.version}
