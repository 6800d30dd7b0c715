# SPDX-License-Identifier: GPL-2.0
"""A fault: the correct rules with one of them replaced."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

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
        """Return the rules with this fault in them."""
        return replace(rules, **{self.rule: self.wrong})
