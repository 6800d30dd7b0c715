# SPDX-License-Identifier: GPL-2.0
"""The catalogue of faults is complete and well-formed; each fault changes exactly one rule."""

from __future__ import annotations

from collections import Counter
from dataclasses import fields
from pathlib import Path

import pytest

from damon_tests.ports import UsageError
from damon_tests.reference.faults.catalogue import all_faults, catalogue, fault
from damon_tests.reference.rules.levels import LEVELS
from damon_tests.reference.rules.ruleset import Rules

HERE = Path(__file__).parent
AREAS = {"core", "ops", "tree", "schemes", "quotas", "goals", "filters", "watermarks", "stats", "modules"}


def test_every_area_has_faults():
    known = catalogue()
    assert len(known) >= 60
    assert set(Counter(f.area for f in known.values())) == AREAS


@pytest.mark.parametrize("name", catalogue())
def test_a_fault_replaces_one_rule(name):
    clean, faulty = Rules(), fault(name)
    wrong = faulty.apply(clean)
    changed = [f.name for f in fields(Rules) if getattr(wrong, f.name) is not getattr(clean, f.name)]
    assert changed == [faulty.rule]
    assert faulty.imitates
    for level in LEVELS.values():
        faulty.apply(level.rules)


def test_every_rule_is_varied_by_a_level_or_a_fault():
    """A rule that nobody replaces is no rule, but part of the engine."""
    varied = {f.rule for f in all_faults()}
    for rule in fields(Rules):
        if len({repr(getattr(level.rules, rule.name)) for level in LEVELS.values()}) > 1:
            varied.add(rule.name)
    assert sorted(varied) == sorted(rule.name for rule in fields(Rules))


def test_names_of_faults_are_unique():
    assert len(all_faults()) == len(catalogue())


def test_each_fault_is_noticed_by_a_test():
    """kills.txt names a test that exists for each. Run kill_faults.py --keep for those that are missing."""
    kept = [line.split() for line in (HERE / "kills.txt").read_text().splitlines()[1:]]
    assert [(area, name) for area, name, *_ in kept] == [(f.area, f.name) for f in all_faults()]
    for _, name, killer in kept:
        file, _, test = killer.partition("::")
        assert f"def {test}(" in (HERE / file).read_text(), name


def test_an_unknown_fault_is_refused():
    with pytest.raises(UsageError, match="unknown fault 'nothing'"):
        fault("nothing")
