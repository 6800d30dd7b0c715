# SPDX-License-Identifier: GPL-2.0
"""Requests that DAMON refuses, at start and by a commit: what runs stays as it was."""

import pytest

from damon_tests.damon.series import Series
from damon_tests.scenario.abi_walk import BEGINNING, ROOT, U64, Operation

pytestmark = pytest.mark.needs("ops.fvaddr", "schemes.stat", "commands.commit")

FIRST = "kdamonds/0/contexts/0"
STATE = "kdamonds/0/state"
ATTRS = f"{FIRST}/monitoring_attrs"
SCHEME = f"{FIRST}/schemes/0"
TRIED = f"{SCHEME}/tried_regions/total_bytes"
EVERYTHING = (
    Operation(f"{SCHEME}/access_pattern/nr_accesses/max", U64),
    Operation(f"{SCHEME}/access_pattern/age/max", U64),
)
NOTHING = Operation(f"{SCHEME}/access_pattern/sz/max", "0")
"""Staged together with what is refused: the running scheme must not become this."""
FULL = pytest.mark.profile("full")
REFUSED = (
    pytest.param([Operation(f"{ATTRS}/nr_regions/min", "2")], id="fewer than three regions"),
    pytest.param(
        [Operation(f"{ATTRS}/intervals/aggr_us", "500")], id="sample longer than an aggregation", marks=FULL
    ),
    pytest.param(
        [
            Operation(f"{SCHEME}/filters/nr_filters", "1"),
            Operation(f"{SCHEME}/filters/0/type", "memcg"),
            Operation(f"{SCHEME}/filters/0/memcg_path", "/no/such"),
        ],
        id="filter of no group",
        marks=pytest.mark.needs("filters.memcg"),
    ),
    pytest.param(
        [Operation(f"{FIRST}/targets/0/regions/0/start", U64)], id="range that ends before it starts"
    ),
    pytest.param([Operation(f"{FIRST}/targets/0/pid_target", "2147483647")], id="no process"),
    pytest.param(
        [
            Operation(f"{SCHEME}/quotas/goals/nr_goals", "1"),
            Operation(f"{SCHEME}/quotas/goals/0/target_metric", "node_eligible_mem_bp"),
            Operation(f"{SCHEME}/quotas/goals/0/target_value", "5000"),
        ],
        id="eligible memory of a process",
        marks=pytest.mark.needs("goals.node_eligible_mem_bp"),
    ),
    pytest.param(
        [
            Operation(f"{FIRST}/targets/nr_targets", "2"),
            Operation(f"{FIRST}/targets/0/pid_target", "{pid}"),
            Operation(f"{FIRST}/targets/1/pid_target", "{pid}"),
            Operation(f"{FIRST}/targets/1/obsolete_target", "Y"),
        ],
        id="obsolete target without a counterpart",
        marks=pytest.mark.needs("targets.obsolete_target"),
    ),
)


def valid(side):
    """Stage the usual request: its scheme tries all memory."""
    for operation in (*BEGINNING[:-1], *EVERYTHING):
        side.do(operation)


def answers(side, refused, level):
    """Return what a start with ``refused`` is answered, then a commit of it, and how much the scheme of the
    running kdamond tries afterwards ("all", or the bytes)."""
    if Series.of(level).survives_refused_commit:
        side.settle_ns = 0  # else a kdamond whose commit was refused ends a little later
    valid(side)
    start = [side.do(operation) for operation in (*refused, Operation(STATE, "on"), Operation(STATE, "off"))]
    side.reset()
    valid(side)
    commit = [
        side.do(operation)
        for operation in (Operation(STATE, "on"), NOTHING, *refused, Operation(STATE, "commit"))
    ]
    if side.do(Operation(STATE, "update_schemes_tried_bytes")).error != "0":
        return start, commit, "not running"
    tried = int(side.tree.read(f"{ROOT}/{TRIED}"))
    side.reset()
    size = side.places["end"] - side.places["start"]
    return start, commit, "all" if tried == size else f"{tried} of {size} bytes"


def shown(answers):
    return " ".join(f"{a.error} {a.after.strip()}".strip() for a in answers)


@pytest.mark.needs("commands.update_schemes_tried_bytes")
@pytest.mark.parametrize("refused", REFUSED)
def test_refused_request_leaves_running_one(tested, model, subject, expect, refused):
    """What is refused at start is refused by a commit, too, and the running scheme tries all memory as
    before."""
    wanted, given = (answers(side, refused, subject.level) for side in (model(), tested))
    wrong = [
        f"{when}: {shown(answered)} instead of {shown(usual)}"
        for when, answered, usual in zip(("start", "commit"), given[:2], wanted[:2], strict=True)
        if answered != usual
    ]
    if given[2] != wanted[2]:
        wrong.append(f"tried afterwards: {given[2]} instead of {wanted[2]}")
    expect.nothing(
        "answers that differ",
        wrong,
        because=f"the answers of {subject.level}: a request is checked before it replaces what runs (§5.6)",
    )
