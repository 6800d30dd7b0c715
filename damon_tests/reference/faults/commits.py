# SPDX-License-Identifier: GPL-2.0
"""Wrong commits: single parameters that keep their old value, and new schemes that lack some of theirs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from damon_tests.damon.params import Damos
from damon_tests.reference.faults.fault import Fault

Params = Callable[[Any, Any], Any]


def _keeps(*names: str) -> Params:
    """Return a rule that installs what is requested, but for the parameters of these names."""
    return lambda running, requested: replace(requested, **{n: getattr(running, n) for n in names})


def _keeps_in(part: str, *names: str) -> Params:
    """Return the same for parameters of a part of the request, such as ``quota``."""
    inside = _keeps(*names)

    def params(running: Any, requested: Any) -> Any:
        return replace(requested, **{part: inside(getattr(running, part), getattr(requested, part))})

    return params


def _scheme(parameter: str, rule: Params) -> Fault:
    imitates = f"a commit leaves {parameter} of a running scheme as it was"
    name = parameter.replace(".", "_")
    return Fault(f"commit_keeps_{name}", "schemes", imitates, "committed_params", rule)


def _attribute(parameter: str, rule: Params) -> Fault:
    name = parameter.replace(".", "_")
    return Fault(
        f"commit_keeps_{name}", "core", f"a commit leaves {parameter} as it was", "committed_attrs", rule
    )


def _added(part: str) -> Fault:
    default = getattr(Damos(), part)

    def params(requested: Any) -> Any:
        return replace(requested, **{part: default})

    imitates = f"a scheme that a commit adds has no {part}"
    return Fault(f"added_scheme_lacks_{part}", "schemes", imitates, "added_params", params)


_PATTERN = ("sz_min", "sz_max", "nr_accesses_min", "nr_accesses_max", "age_min", "age_max")

FAULTS = (
    *(_scheme(name, _keeps(name)) for name in ("action", "apply_interval_us", "max_nr_snapshots")),
    *(_scheme(f"pattern.{name}", _keeps_in("access_pattern", name)) for name in _PATTERN),
    *(_scheme(f"quota.{name}", _keeps_in("quota", name)) for name in ("bytes", "ms", "reset_interval_ms")),
    *(_scheme(f"watermarks.{name}", _keeps_in("watermarks", name)) for name in ("metric", "high", "low")),
    *(_scheme(name, _keeps(name)) for name in ("core_filters", "filters")),
    *(_attribute(name, _keeps(name)) for name in ("sample_us", "aggr_us", "update_us")),
    *(_attribute(name, _keeps(name)) for name in ("min_nr_regions", "max_nr_regions", "intervals_goal")),
    *(_added(part) for part in ("access_pattern", "core_filters", "filters", "watermarks")),
)
