# SPDX-License-Identifier: GPL-2.0
"""A catalogue of wrong DAMONs: each is the correct ``Rules`` with one rule replaced.

What a suite is worth shows in which of them it notices. The oracle always gets clean rules.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from damon_tests.ports import UsageError
from damon_tests.reference.rules.ruleset import Rules


@dataclass(frozen=True)
class Fault:
    """``area``: core, ops, tree, schemes, quotas, goals, filters, watermarks, stats or modules.
    ``imitates``: the real bug, or its symptom, in one line. ``rule``: the field of Rules that is wrong.
    """

    name: str
    area: str
    imitates: str
    rule: str
    wrong: Any

    def apply(self, rules: Rules) -> Rules:
        """The rules with this fault in them."""
        return replace(rules, **{self.rule: self.wrong})


def all_faults() -> tuple[Fault, ...]:
    """Every fault of every area, in their order."""
    # These modules need Fault, so they can only be imported when it exists.
    from damon_tests.reference.faults import (
        actions,
        filters,
        modules,
        monitoring,
        ops,
        quotas,
        scheme_passes,
        schemes,
        tree,
    )

    areas = (
        monitoring,
        ops,
        tree,
        schemes,
        filters,
        quotas,
        actions,
        modules,
        scheme_passes,
    )
    return tuple(fault for area in areas for fault in area.FAULTS)


def catalogue() -> dict[str, Fault]:
    """All faults by name, in the order of the areas."""
    return {fault.name: fault for fault in all_faults()}


def fault(name: str) -> Fault:
    """The fault of that name. Raises UsageError for an unknown one."""
    known = catalogue()
    if name not in known:
        raise UsageError(f"unknown fault {name!r}; `damon-tests faults` lists {len(known)} of them")
    return known[name]
