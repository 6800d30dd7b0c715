# SPDX-License-Identifier: GPL-2.0
"""Directories removed at every level under a running kdamond, and names of what does not exist."""

import pytest

from damon_tests.damon.keywords import COMMANDS
from damon_tests.damon.series import Series
from damon_tests.scenario.abi_walk import BEGINNING, NO_ANSWER, ROOT, Operation

pytestmark = pytest.mark.needs("ops.fvaddr", "schemes.stat", "commands.commit")

FIRST = "kdamonds/0/contexts/0"
STATE = "kdamonds/0/state"
SCHEME = f"{FIRST}/schemes/0"
COUNTS = (
    f"{FIRST}/monitoring_attrs/probes/0/filters/nr_filters",
    f"{FIRST}/monitoring_attrs/probes/nr_probes",
    f"{SCHEME}/quotas/goals/nr_goals",
    f"{SCHEME}/dests/nr_dests",
    f"{SCHEME}/filters/nr_filters",
    f"{SCHEME}/core_filters/nr_filters",
    f"{SCHEME}/ops_filters/nr_filters",
    f"{FIRST}/schemes/nr_schemes",
    f"{FIRST}/targets/0/regions/nr_regions",
    f"{FIRST}/targets/nr_targets",
)
CONTEXTS = "kdamonds/0/contexts/nr_contexts"
COMMITS = ("commit_schemes_quota_goals", "commit")
WORDS = (*(word for word in COMMANDS if word not in ("on", "off", *COMMITS)), *COMMITS)
"""Commits last: without targets they end the kdamond, and others test what a stopped one answers."""

AFTER_OFF = ("off", "clear_schemes_tried_regions", "update_schemes_stats", "commit")
STOPPED = tuple(Operation(STATE, word) for word in AFTER_OFF)
"""Commands to a kdamond that was stopped. Not requests for tried regions, which stay behind in 6.18:
test_commands.py has that known defect."""


def do(side, operations, level):
    """Do the operations whose files exist; return (operation, answer) of each, up to one without an answer:
    nor will there be one to the next."""
    if Series.of(level).survives_refused_commit:
        side.settle_ns = 30_000_000  # 6.12: a kdamond whose commit was refused ends a little later
    done = []
    for operation in operations:
        if operation in BEGINNING or side.tree.exists(f"{ROOT}/{operation.path}"):
            done.append((operation, side.do(operation)))
            if done[-1][1].error == NO_ANSWER:
                break
    return done


def differences(tested, clean, operations, level):
    """Do the operations on both; return the answers that differ."""
    wanted, given = do(clean, operations, level), do(tested, operations, level)
    wrong = [
        f"{a[0].path} := {a[0].value}: {a[1]} instead of {b[1]}"
        for a, b in zip(given, wanted, strict=False)
        if a != b
    ]
    hangs = bool(given) and given[-1][1].error == NO_ANSWER
    if len(given) != len(wanted) and not hangs:
        wrong.append(f"{len(given)} operations had a file, not {len(wanted)}")
    return wrong


def one_of_each(refresh_ms):
    core = [Operation(f"{SCHEME}/core_filters/0/type", "addr"), Operation(f"{SCHEME}/filters/0/type", "addr")]
    made = [Operation(path, "1") for path in reversed(COUNTS[:7])]
    return [*BEGINNING[:-1], *made, *core, Operation("kdamonds/0/refresh_ms", refresh_ms)]


def removal(count, refresh_ms):
    """Return the operations of one case: remove the directories of ``count`` while the kdamond runs."""
    commands = [Operation(STATE, word) for word in WORDS]
    return [
        *one_of_each(refresh_ms),
        Operation(STATE, "on"),
        Operation(STATE, "update_schemes_tried_regions"),
        Operation(count, "0"),
        *commands,
        Operation(STATE, "off"),
        Operation(STATE, "on"),
        Operation(STATE, "off"),
        *STOPPED,
        Operation("kdamonds/nr_kdamonds", "0"),
    ]


@pytest.mark.parametrize("refresh_ms", ["0", pytest.param("20", marks=pytest.mark.profile("full"))])
def test_removed_directories_stop_nothing(tested, model, subject, expect_same_answers, refresh_ms):
    """Directories of every level are removed under a running kdamond: each command is answered as
    documented, and DAMON can be turned off and on again."""
    operations = [op for count in COUNTS for op in removal(count, refresh_ms)]
    why = f"the answers of {subject.level}: staged directories are not what runs (§5.6)"
    expect_same_answers(differences(tested, model(), operations, subject.level), why)


@pytest.mark.known_defect("command-without-context")
def test_commands_without_a_context_are_refused(tested, model, subject, expect_same_answers):
    """The context's directory is removed under a running kdamond: every command but off is refused."""
    why = f"the answers of {subject.level}: without a context a command has nothing to serve (§5.4)"
    expect_same_answers(differences(tested, model(), removal(CONTEXTS, "0"), subject.level), why)


ABSENT = (
    (f"{FIRST}/targets/0/pid_target", ("0", "-1", "2147483647")),
    (f"{SCHEME}/target_nid", ("1000", "-2", "2147483647")),
    (f"{SCHEME}/dests/0/id", ("1000", "4294967295")),
    (f"{SCHEME}/filters/0/damon_target_idx", ("7", "-1", "2147483647")),
    (f"{SCHEME}/filters/0/memcg_path", ("/no/such", "/" + "x" * 2000)),
    (f"{SCHEME}/quotas/goals/0/path", ("/no/such",)),
    (f"{FIRST}/monitoring_attrs/probes/0/filters/0/path", ("/no/such",)),
)
NODE_GOALS = ((f"{SCHEME}/quotas/goals/0/nid", ("1000", "-1", "2147483647")),)
USED_BY = {
    # What makes DAMON look at the name.
    "filters/0/damon_target_idx": (Operation(f"{SCHEME}/filters/0/type", "target"),),
    "filters/0/memcg_path": (Operation(f"{SCHEME}/filters/0/type", "memcg"),),
    "goals/0/nid": (
        Operation(f"{SCHEME}/quotas/goals/0/target_metric", "node_mem_used_bp"),
        Operation(f"{SCHEME}/quotas/goals/0/target_value", "5000"),
    ),
    "goals/0/path": (
        Operation(f"{SCHEME}/quotas/goals/0/target_metric", "node_memcg_used_bp"),
        Operation(f"{SCHEME}/quotas/goals/0/target_value", "5000"),
    ),
    "probes/0/filters/0/path": (Operation(f"{FIRST}/monitoring_attrs/probes/0/filters/0/type", "memcg"),),
}


def absent(path, value, running="update_schemes_stats", stopped=()):
    """Return the operations of one case: start with the name, and commit it to a running kdamond.

    ``running``: the command that is served before it is turned off; ``stopped``: what is done once it is off.
    """
    used_by = next((ops for end, ops in USED_BY.items() if path.endswith(end)), ())
    usual = "{pid}" if path.endswith("pid_target") else ""
    good = [Operation(path, usual)] if usual else []
    return [
        *one_of_each("0"),
        *used_by,
        Operation(path, value),
        Operation(STATE, "on"),
        Operation(STATE, running),
        Operation(STATE, "off"),
        *one_of_each("0")[1:],
        *good,
        Operation(STATE, "on"),
        *used_by,
        Operation(path, value),
        Operation(STATE, "commit"),
        Operation(STATE, running),
        Operation(STATE, "off"),
        *stopped,
        Operation("kdamonds/nr_kdamonds", "0"),
    ]


def test_absent_names_are_refused_or_ignored(tested, model, subject, expect_same_answers):
    """Nodes, control groups, processes and targets that do not exist are refused as documented, at start
    and by a commit, or DAMON goes on without them."""
    operations = [op for path, values in ABSENT for value in values for op in absent(path, value)]
    why = f"the answers of {subject.level}: a name of nothing is refused, or matches nothing (§5.3)"
    expect_same_answers(differences(tested, model(), operations, subject.level), why)


@pytest.mark.known_defect("goal-of-absent-node")
@pytest.mark.needs("goals.nid", "commands.update_schemes_tried_bytes")
def test_goals_of_absent_nodes_are_neutral(tested, model, subject, expect_same_answers):
    """A quota goal may be of a node that does not exist, at start and after a commit: the kdamond lives."""
    values = [(path, value) for path, values in NODE_GOALS for value in values]
    # Tried bytes are those of a pass, which reads the goal.
    operations = [
        op for path, value in values for op in absent(path, value, "update_schemes_tried_bytes", STOPPED)
    ]
    why = f"the answers of {subject.level}: no memory is in a node that does not exist (§4.5)"
    expect_same_answers(differences(tested, model(), operations, subject.level), why)
