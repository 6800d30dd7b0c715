# SPDX-License-Identifier: GPL-2.0
"""Every file, word, command, tracepoint and parameter of DAMON is used by a test that looks for its effect.

A file counts as used when a test, or a helper or constant of the test's own file, writes it to more than its
default; a word, when a test passes it; a result, when a test reads it. Tests that only compare answers (of
the trees, commands and parameters of a level) do not count. What no other test uses stands in NOWHERE with
the reason; anything else that is used nowhere fails.
"""

from __future__ import annotations

import ast
from collections.abc import Callable
from dataclasses import MISSING, fields
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from suite_calls import Uses, uses_by_test

from damon_tests.damon import params, trace
from damon_tests.damon.features import FEATURES
from damon_tests.damon.module_params import DamonLruSort, DamonReclaim, DamonStat

SUITES = Path(__file__).parent.parent / "suites"
ANSWERS_ONLY = ("test_tree.py", "test_commands.py", "test_module_parameters.py", "test_every_file.py")
CLASSES: dict[str, type] = {
    "kdamond": params.Kdamond,
    "ctx": params.DamonCtx,
    "attrs": params.DamonAttrs,
    "intervals_goal": params.DamonIntervalsGoal,
    "probes": params.DamonProbe,
    "probe_filters": params.DamonProbeFilter,
    "targets": params.DamonTarget,
    "schemes": params.Damos,
    "access_pattern": params.DamosAccessPattern,
    "quotas": params.DamosQuota,
    "goals": params.DamosQuotaGoal,
    "watermarks": params.DamosWatermarks,
    "core_filters": params.DamosFilter,
    "ops_filters": params.DamosFilter,
    "filters": params.DamosFilter,
    "dests": params.DamosDest,
}
FILTER_LISTS = ("core_filters", "ops_filters", "filters")
COMMANDS = {
    "update_schemes_effective_quotas": "effective_bytes",
    "update_tuned_intervals": "tuned_intervals",
    "update_schemes_stats": "stats",
    "on": "enable",
}
"""What clients and runs call that gives these commands."""
RESULTS = {"effective_bytes", "total_bytes"}
NOWHERE = {
    "targets.pid_target": "the fixtures write it for each target, which then is monitored",
    "modules.damon_reclaim.monitor_region_end": "the fixture sets it; what is tried is judged by that range",
    "modules.damon_lru_sort.monitor_region_end": "the fixture sets it; what is tried is judged by that range",
    "core_filters.memcg_path": "each filter directory has it, and no core filter reads it (§5.2)",
    "core_filters.min": "each filter directory has it, and no core filter reads it (§5.2)",
    "core_filters.max": "each filter directory has it, and no core filter reads it (§5.2)",
    "ops_filters.addr_start": "each filter directory has it, and no page filter reads it (§5.2)",
    "ops_filters.addr_end": "each filter directory has it, and no page filter reads it (§5.2)",
    "ops_filters.damon_target_idx": "each filter directory has it, and no page filter reads it (§5.2)",
}
MODULE_FILES = {
    DamonReclaim: ("test_reclaim.py", "test_proactive_reclaim.py", "test_memory_pressure.py"),
    DamonLruSort: ("test_lru_sort.py",),
    DamonStat: ("test_stat.py",),
}


@cache
def suites() -> dict[str, Uses]:
    """Return what each test reaches that looks for effects, by folder/file::test."""
    files = sorted(f for f in SUITES.glob("*/test_*.py") if f.name not in ANSWERS_ONLY)
    return {
        f"{f.parent.name}/{f.name}::{name}": uses for f in files for name, uses in uses_by_test(f).items()
    }


def users(used: Callable[[Uses], bool], files: tuple[str, ...] = ()) -> list[str]:
    """Return the tests that use something, of these files only if some are given."""
    chosen = [
        (test, uses) for test, uses in suites().items() if not files or test.split("/")[1].startswith(files)
    ]
    return [test for test, uses in chosen if used(uses)]


def writes(uses: Uses, name: str, default: Any, made_by: str = "", place: int = -1) -> bool:
    """Return whether a value other than ``default`` is given by keyword, or as argument ``place``."""
    values = list(uses.keywords.get(name, ()))
    for arguments in uses.positional.get(made_by, ()):
        values += arguments[place : place + 1] if place >= 0 else []
    return any(not (isinstance(value, ast.Constant) and value.value == default) for value in values)


def of_feature(name: str) -> list[str]:
    """Return the tests that use a feature of ``damon.features``."""
    group, _, word = name.rpartition(".")
    if group == "commands":
        return users(lambda u: word in u.texts or COMMANDS.get(word, word) in u.attributes)
    if group in ("stats", "tried_regions") or word in RESULTS:
        return users(lambda u: word in u.attributes or word in u.keywords)
    made = CLASSES.get(group)
    names = [field.name for field in fields(made)] if made else []
    if made is None or word not in names:
        constants = {key for key, value in vars(trace).items() if value == name}
        listed = group not in FILTER_LISTS
        return users(
            lambda u: (listed or group in u.keywords) and (word in u.texts or bool(constants & u.attributes))
        )
    place, listed = names.index(word), group not in FILTER_LISTS
    default = _default(made, word)
    return users(lambda u: (listed or group in u.keywords) and writes(u, word, default, made.__name__, place))


def _default(made: type, name: str) -> Any:
    field = next(f for f in fields(made) if f.name == name)
    return field.default if field.default is not MISSING else None


def of_parameters() -> dict[str, list[str]]:
    """Return for each parameter of each module the tests of the module that change it."""
    return {
        f"modules.{made.MODULE}.{field.name}": users(
            lambda u, f=field: writes(u, f.name, f.default), (*files, "test_module_watermarks.py")
        )
        for made, files in MODULE_FILES.items()
        for field in fields(made)
    }


def coverage() -> dict[str, list[str]]:
    """Return the tests that use each feature and each module's parameter."""
    of_modules = {
        name: users(lambda u, n=name: n.rpartition(".")[2] in u.texts | u.attributes | set(u.keywords))
        for name in FEATURES
        if name.startswith("modules.")
    }
    others = {name: of_feature(name) for name in FEATURES if not name.startswith("modules.")}
    return {**others, **of_modules, **of_parameters()}


def test_what_no_test_uses_is_known_with_a_reason() -> None:
    unused = [name for name, tests in coverage().items() if not tests]
    assert sorted(unused) == sorted(set(unused) & set(NOWHERE))
    assert all(len(reason) > 20 for reason in NOWHERE.values())


@pytest.mark.parametrize(
    ("source", "used"),
    [
        ("def test_a(live):\n    live(Damos(quota=DamosQuota(bytes=4096)))", True),
        ("def test_a(live):\n    live(Damos(quota=DamosQuota(bytes=0)))", False),
        ('def test_a(live):\n    "DamosQuota(bytes=4096)"', False),
        ("@pytest.mark.needs(bytes=1)\ndef test_a(live):\n    pass", False),
        (
            "Q = DamosQuota(bytes=4096)\ndef helper():\n    return Q\ndef test_a(live):\n    helper()",
            True,
        ),
        ("Q = DamosQuota(bytes=4096)\ndef test_a(live):\n    pass", False),
    ],
)
def test_file_is_used_only_by_a_test_that_writes_more_than_its_default(
    tmp_path: Path, source: str, used: bool
) -> None:
    (tmp_path / "test_x.py").write_text(source)
    assert writes(uses_by_test(tmp_path / "test_x.py")["test_a"], "bytes", 0) is used
