# SPDX-License-Identifier: GPL-2.0
"""The catalogue of wrong DAMONs: what a suite is worth shows in which of them it notices.

The oracle always gets clean rules, so that a fault never agrees with itself.
"""

from __future__ import annotations

from damon_tests.ports import UsageError
from damon_tests.reference.faults import (
    actions,
    commits,
    filters,
    goals,
    modules,
    monitoring,
    ops,
    quotas,
    schemes,
    stats,
    tree,
    watermarks,
)
from damon_tests.reference.faults.fault import Fault

_FILES = (
    monitoring,
    ops,
    tree,
    commits,
    schemes,
    actions,
    quotas,
    goals,
    filters,
    watermarks,
    stats,
    modules,
)


def all_faults() -> tuple[Fault, ...]:
    """Return every fault, file by file."""
    return tuple(fault for file in _FILES for fault in file.FAULTS)


def catalogue() -> dict[str, Fault]:
    """Return all faults by name."""
    return {fault.name: fault for fault in all_faults()}


def fault(name: str) -> Fault:
    """Return the fault of that name. Raises UsageError for an unknown one."""
    known = catalogue()
    if name not in known:
        raise UsageError(f"unknown fault {name!r}; `damon-tests faults` lists {len(known)} of them")
    return known[name]
