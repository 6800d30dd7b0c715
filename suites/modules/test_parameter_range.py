# SPDX-License-Identifier: GPL-2.0
"""Each parameter of the modules at both ends of its range: taken or refused, and never harmful."""

from __future__ import annotations

from dataclasses import fields, replace

import pytest

from damon_tests.damon.module_params import DamonLruSort, DamonReclaim
from damon_tests.damon.modules import ModuleClient, ModuleSession
from damon_tests.judge.verdict import Check, Measurement
from damon_tests.ports import NSEC_PER_MSEC, TreeError
from damon_tests.ports.word import unsigned_long_max
from damon_tests.reference.sysfs.system import ReferenceSystem

pytestmark = pytest.mark.profile("full")

ULONG_MAX = unsigned_long_max()
RUNS_NS = 30 * NSEC_PER_MSEC
"""Time for a module to take its first samples."""

# It watches one GiB, and must not reclaim it.
CALM = {"wmarks_high": 1000, "wmarks_mid": 999, "wmarks_low": 998}


def ends(parameters):
    """Yield (name, value) of each parameter at both ends of its type: 0 and ULONG_MAX, N and Y."""
    for field in fields(parameters):
        values = (False, True) if isinstance(field.default, bool) else (0, ULONG_MAX)
        for value in values:
            yield field.name, value


def enabled(tree, clock, asked):
    """Return what enabling the module answers, whether it then runs, and whether it can be turned off."""
    client = ModuleClient(tree, clock, asked.MODULE)
    try:
        with ModuleSession(client, asked):
            client.enable()
            clock.run_for(RUNS_NS)
            on = client.enabled
            client.disable()
    except TreeError as error:
        return error.errno_name, False, not client.enabled
    return "taken", on, not client.enabled


@pytest.mark.parametrize(
    "usual",
    [
        pytest.param(asked, marks=pytest.mark.needs(f"modules.{asked.MODULE}"), id=asked.MODULE)
        for asked in (DamonReclaim(), DamonLruSort())
    ],
)
def test_each_parameter_at_both_ends_is_taken_or_refused_as_documented(subject, expect, usual):
    """A module with one parameter at an end of its range runs or answers EINVAL, as its series does."""
    lacks = (
        set(type(usual).__dataclass_fields__)
        - ModuleClient(subject.tree, subject.clock, usual.MODULE).writable().keys()
    )
    differing, judged = [], 0
    for name, value in ends(usual):
        if name in lacks:
            continue
        asked = replace(usual, **{**CALM, name: value})
        reference = ReferenceSystem(level=str(subject.level))
        wanted = enabled(reference.tree, reference.clock, asked)
        answer = enabled(subject.tree, subject.clock, asked)
        judged += 1
        if answer != wanted:
            differing.append(f"{name} := {value}: {answer} instead of {wanted}")
    because = f"an extreme parameter is taken or refused, and the module goes off; {judged} requests (§6)"
    expect.nothing("parameters answered differently", differing, because=because)
    m = Measurement("requests", judged, "count")
    expect.add(Check("invariant", m, ">= 20", "each parameter has two ends", True if judged >= 20 else None))
    expect.nothing("kernel complaints", subject.splats(), because="no parameter is a reason to complain")
