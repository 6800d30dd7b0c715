# SPDX-License-Identifier: GPL-2.0
"""Every file, word, command, tracepoint and parameter of DAMON is named by a suite that looks for its effect.

Suites that only compare answers (the trees, commands and parameters of a level) do not count. What no other
suite names stands in NOWHERE, with the reason; anything else that is named nowhere fails, and so does an
entry of NOWHERE that a suite has come to name. That a suite names it does not prove that it sees the effect:
the faults do (``damon-tests faults --run``).
"""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path

from damon_tests.damon.features import FEATURES
from damon_tests.damon.module_params import DamonLruSort, DamonReclaim, DamonStat

SUITES = Path(__file__).parent.parent / "suites"
ANSWERS_ONLY = ("test_tree.py", "test_commands.py", "test_module_parameters.py")
ELSEWHERE = {
    # What requests and fixtures write and read by other names than the files'.
    "addr_start": "addr",
    "addr_end": "addr",
    "on": "client.command",
    "off": '"off"',
    "sample_us": "DamonAttrs",
    "aggr_us": "DamonAttrs",
    "pid_target": "targets=",
    "operations": "DamonCtx",
    "start": "regions=",
    "end": "regions=",
    "action": "Damos",
    "type": "DamosFilter",
    "target_metric": "target_metric",
    "total_bytes": "total_bytes",
    "metric": "free_mem_rate",
    "interval_us": "interval_us",
    "update_schemes_effective_quotas": "effective_bytes",
    # The fixture sets them to where the target is; what is tried is judged by that range.
    "monitor_region_start": "regions[0]",
    "monitor_region_end": "regions[0]",
}
NOWHERE = {
    "modules.damon_lru_sort.addr_unit": "no test yet; DAMON_RECLAIM's is tested, and both read it alike",
}


def text(*names: str) -> str:
    """The code of the suites' files of these folders that look for effects."""
    files = sorted(f for f in SUITES.glob("*/*.py") if f.name not in ANSWERS_ONLY)
    return "\n".join(f.read_text() for f in files if not names or f.parent.name in names or f.name in names)


def is_named(word: str, where: str) -> bool:
    return re.search(rf"(?<![a-z0-9_]){re.escape(ELSEWHERE.get(word, word))}(?![a-z0-9_])", where) is not None


def parameters() -> dict[str, str]:
    """Every parameter of a module, and the suite that is about it."""
    about = {
        DamonReclaim: ("test_reclaim.py", "test_proactive_reclaim.py", "test_memory_pressure.py"),
        DamonLruSort: ("test_lru_sort.py",),
        DamonStat: ("test_stat.py",),
    }
    return {
        f"modules.{module.MODULE}.{field.name}": text(*files, "test_module_watermarks.py")
        for module, files in about.items()
        for field in fields(module)
    }


def unnamed() -> list[str]:
    code = text()
    missing = [name for name in FEATURES if not is_named(name.rpartition(".")[2], code)]
    return missing + [n for n, where in parameters().items() if not is_named(n.rpartition(".")[2], where)]


def test_what_no_suite_names_is_known_with_a_reason() -> None:
    assert sorted(set(unnamed())) == sorted(NOWHERE)
    assert all(len(reason) > 20 for reason in NOWHERE.values())
