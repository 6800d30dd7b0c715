# SPDX-License-Identifier: GPL-2.0
"""The most likely cause of an errno from DAMON's tree, in words.

Two tables: ``RULES`` by operation, file, value and errno; ``REFUSALS`` for the EINVAL of ``on`` and
``commit``, where the kernel checks the whole request at once and does not report which part is invalid.
"""

from __future__ import annotations

import errno
import re
from collections.abc import Callable
from dataclasses import dataclass, field

from damon_tests.damon.params import DamonCtx, Damos, DamosFilter, Kdamond
from damon_tests.damon.users import Usage
from damon_tests.ports import TreeError, page_size


@dataclass(frozen=True)
class Situation:
    """The situation of a failure: the requests that this run staged, and who uses DAMON."""

    requested: tuple[Kdamond, ...] = ()
    usage: Usage = field(default_factory=lambda: Usage(None, ()))

    def ctx_of(self, path: str) -> DamonCtx | None:
        """Return the context to which a file belongs, None unless this run staged it."""
        match = re.search(r"/kdamonds/(\d+)/", path)
        index = int(match[1]) if match else len(self.requested)
        return self.requested[index].ctx if index < len(self.requested) else None


Explain = Callable[[TreeError, Situation], str]


@dataclass(frozen=True)
class Rule:
    """``path`` and ``value`` are regular expressions searched in the error's path and value ("" for none)."""

    errno: int
    path: str
    explain: str | Explain
    value: str = ""
    operation: str = ""


def likely_cause(error: TreeError, situation: Situation) -> str:
    """Return the reasons in words; empty when none is known."""
    for rule in RULES:
        if (
            rule.errno == error.errno
            and rule.operation in ("", error.operation)
            and re.search(rule.path, error.path)
            and re.search(rule.value, error.value or "")
        ):
            explain = rule.explain
            return explain if isinstance(explain, str) else explain(error, situation)
    return ""


# --- EINVAL of on and commit -------------------------------------------------------------------

Refusal = Callable[[DamonCtx], str | None]


def _regions_count(ctx: DamonCtx) -> str | None:
    low, high = ctx.attrs.min_nr_regions, ctx.attrs.max_nr_regions
    if low < 3:
        return f"min_nr_regions {low} is below 3"
    return f"min_nr_regions {low} is above max_nr_regions {high}" if low > high else None


def _intervals(ctx: DamonCtx) -> str | None:
    sample, aggr = ctx.attrs.sample_us, ctx.attrs.aggr_us
    return f"sample_us {sample} is above aggr_us {aggr}" if sample > aggr else None


def _intervals_goal(ctx: DamonCtx) -> str | None:
    goal, sample = ctx.attrs.intervals_goal, ctx.attrs.sample_us
    if goal.aggrs and not goal.min_sample_us <= sample <= goal.max_sample_us:
        return (
            f"sample_us {sample} is outside the intervals goal's"
            f" min_sample_us {goal.min_sample_us} to max_sample_us {goal.max_sample_us}"
        )
    return None


def _targets(ctx: DamonCtx) -> str | None:
    if ctx.operations == "paddr":
        count = len(ctx.targets)
        return f"paddr takes one target, not {count}" if count > 1 else None
    pids = [t.pid_target for t in ctx.targets]
    if any(pid <= 0 for pid in pids):
        return f"pid_target {min(pids)} is no process"
    return None


def _target_regions(ctx: DamonCtx) -> str | None:
    for i, target in enumerate(ctx.targets):
        previous = 0
        for start, end in target.regions:
            if start >= end:
                return f"a region of target {i} ends at {end}, not after its start {start}"
            if start < previous:
                return f"regions of target {i} overlap or are not ascending at {start}"
            previous = end
    return None


def _obsolete(ctx: DamonCtx) -> str | None:
    if any(t.obsolete_target for t in ctx.targets):
        return "obsolete_target is set on a target that does not run"
    return None


def _addr_unit(ctx: DamonCtx) -> str | None:
    smallest = max(page_size() // (ctx.addr_unit or 1), 1)
    if ctx.operations == "paddr" and smallest & (smallest - 1):
        return f"addr_unit {ctx.addr_unit} makes the smallest region {smallest} units, no power of two"
    return None


def _eligible_goal(ctx: DamonCtx) -> str | None:
    metrics = {g.target_metric for s in ctx.schemes for g in s.quota.goals}
    if "node_eligible_mem_bp" in metrics and ctx.operations != "paddr":
        return f"the goal node_eligible_mem_bp needs paddr, not {ctx.operations}"
    return None


def _probe_weights(ctx: DamonCtx) -> str | None:
    samples = ctx.attrs.samples_per_aggr
    weights = [p.weight for p in ctx.attrs.probes if p.weight]
    if weights and samples > 255:
        return f"weighted probes allow 255 samples per aggregation, not {samples}"
    if sum(weights) * samples >= 1 << 32:
        return "the probes' weights times the samples per aggregation exceed 32 bits"
    return None


def _probe_paths(ctx: DamonCtx) -> str | None:
    filters = [f for p in ctx.attrs.probes for f in p.filters if f.type == "memcg"]
    if filters:
        return f"no memory cgroup has the probe filter's path {filters[0].path!r}"
    return None


REFUSALS: tuple[Refusal, ...] = (
    _regions_count,
    _intervals,
    _intervals_goal,
    _targets,
    _target_regions,
    _obsolete,
    _addr_unit,
    _eligible_goal,
    _probe_weights,
    _probe_paths,
)


def _refused(error: TreeError, situation: Situation) -> str:
    ctx = situation.ctx_of(error.path)
    if ctx is None:
        return "DAMON refuses the staged values, or the context never ran"
    reasons = [reason for refusal in REFUSALS if (reason := refusal(ctx))]
    if reasons:
        return "; ".join(reasons)
    pids = [str(t.pid_target) for t in ctx.targets]
    if ctx.operations != "paddr" and pids:
        return f"a target process may have ended (pid {', '.join(pids)}), or {ctx.operations} is not built in"
    return f"DAMON refuses the staged values; avail_operations may lack {ctx.operations}"


# --- ENOMEM of on and commit: every failure to build a scheme ----------------------------------


def _bad_filter(f: DamosFilter) -> str | None:
    if f.type == "memcg":
        return f"no memory cgroup has the filter's memcg_path {f.memcg_path!r}"
    if f.type == "addr" and f.addr_end < f.addr_start:
        return f"an addr filter ends at {f.addr_end}, before its start {f.addr_start}"
    if f.type == "hugepage_size" and f.min > f.max:
        return f"a hugepage_size filter's min {f.min} is above its max {f.max}"
    return None


def _filters(scheme: Damos) -> tuple[DamosFilter, ...]:
    return scheme.core_filters + scheme.ops_filters + scheme.filters


def _scheme_not_built(error: TreeError, situation: Situation) -> str:
    ctx = situation.ctx_of(error.path)
    schemes = ctx.schemes if ctx else ()
    reasons = [
        f"scheme {i}: {reason}"
        for i, s in enumerate(schemes)
        for f in _filters(s)
        if (reason := _bad_filter(f))
    ]
    rule = "DAMON answers ENOMEM to every scheme it cannot build"
    return f"{rule}; {'; '.join(reasons)}" if reasons else f"{rule}, or memory is short"


# --- EBUSY ---------------------------------------------------------------------------------------


def _in_use(error: TreeError, situation: Situation) -> str:
    usage = situation.usage
    if usage.users:
        return f"DAMON is in use by {usage}"
    if usage.locked:
        return "another command is being executed and holds DAMON's lock"
    return "DAMON's lock was held, or an exclusive user ran, at that moment"


def _locked(error: TreeError, situation: Situation) -> str:
    who = f"; running: {situation.usage}" if situation.usage.users else ""
    return f"another state command or a refresh holds DAMON's lock{who}"


# --- ECANCELED -----------------------------------------------------------------------------------


def _cancelled(error: TreeError, situation: Situation) -> str:
    ctx = situation.ctx_of(error.path)
    if ctx is not None and "tried" in (error.value or ""):
        if not ctx.schemes:
            return "there is no scheme whose tried regions could be reported"
        if ctx.pause:
            return "the context is paused"
        if all(s.watermarks.metric != "none" for s in ctx.schemes):
            return "all schemes are deactivated by their watermarks, or the kdamond has stopped"
    return "the kdamond has stopped (were its targets processes that ended?)"


_COUNT = r"/nr_(kdamonds|contexts|targets|regions|schemes|filters|goals|dests|probes)$"
_START = "^(on|commit)"

RULES: tuple[Rule, ...] = (
    Rule(errno.EBUSY, r"/nr_kdamonds$", _in_use),
    Rule(errno.EBUSY, r"/state$", _in_use, value="^on"),
    Rule(errno.EBUSY, r"", _locked),
    Rule(errno.EINVAL, r"/state$", _refused, value=_START),
    Rule(
        errno.EINVAL,
        r"/state$",
        "the kdamond never ran, or has stopped, or nr_contexts is not 1",
        value="^(off|u|cl)",
    ),
    Rule(errno.EINVAL, r"/state$", "no such command"),
    Rule(errno.EINVAL, r"/nr_contexts$", "a kdamond has no or one context"),
    Rule(errno.EINVAL, r"/nr_probes$", "a context has at most 4 probes"),
    Rule(errno.EINVAL, _COUNT, "a count is a number that is not negative"),
    Rule(errno.EINVAL, r"/core_filters/\d+/type$", "core filters are of type addr or target only"),
    Rule(
        errno.EINVAL,
        r"/ops_filters/\d+/type$",
        "ops filters are of any type but addr and target, if known here",
    ),
    Rule(
        errno.EINVAL,
        r"/(type|action|operations|target_metric|metric|goal_tuner)$",
        "no word this kernel knows",
    ),
    Rule(errno.EINVAL, r"/addr_unit$", "an address unit is a number above 0", value="^0"),
    Rule(errno.EINVAL, r"/(matching|allow|pause|obsolete_target)$", "a bool is Y or N"),
    Rule(
        errno.EINVAL,
        r"/(pid_target|ms|bytes|reset_interval_ms|fail_charge_\w+)$",
        "no number, or out of range",
    ),
    Rule(errno.EINVAL, r"", "no number, or a negative one", operation="write"),
    Rule(errno.ERANGE, r"", "the number does not fit the file's type"),
    Rule(errno.ENOMEM, r"/state$", _scheme_not_built, value=_START),
    Rule(errno.ENOMEM, _COUNT, "more directories than the kernel can allocate; the count now reads 0"),
    Rule(errno.ECANCELED, r"/state$", _cancelled),
    Rule(
        errno.EPERM,
        r"/state$",
        "the kdamond has already stopped (kernels before 7.3 refuse a second off)",
        value="^off",
    ),
    Rule(
        errno.EACCES,
        r"/(pid|avail_operations|effective_bytes|total_bytes)$",
        "the file is read-only",
        operation="write",
    ),
    Rule(errno.EACCES, r"/(stats|tried_regions)/", "the file is read-only", operation="write"),
    Rule(errno.EACCES, r"", "DAMON's files are for root only"),
    Rule(errno.EPERM, r"", "DAMON's files are for root only"),
    Rule(errno.ENOENT, r"/damon/admin$", "this kernel has no DAMON sysfs interface (CONFIG_DAMON_SYSFS)"),
    Rule(errno.ENOENT, r"", "this kernel has no such file, or the index is beyond its nr_ count"),
    Rule(errno.ENODEV, r"", "the directory was removed meanwhile"),
)
