# SPDX-License-Identifier: GPL-2.0
"""A program that holds a file open does not keep others from making its directory anew (§8.3, 32)."""

import pytest

from damon_tests.judge.verdict import Measurement
from damon_tests.ports import TreeError
from damon_tests.scenario.abi_walk import ROOT

CONTEXT = f"{ROOT}/kdamonds/0/contexts/0"
SCHEME = f"{CONTEXT}/schemes/0"
DIRECTORIES = (
    (f"{ROOT}/kdamonds", "nr_kdamonds", "state"),
    (f"{ROOT}/kdamonds/0/contexts", "nr_contexts", "operations"),
    (f"{CONTEXT}/targets", "nr_targets", "pid_target"),
    (f"{CONTEXT}/targets/0/regions", "nr_regions", "start"),
    (f"{CONTEXT}/schemes", "nr_schemes", "action"),
    (f"{SCHEME}/quotas/goals", "nr_goals", "target_value"),
    (f"{SCHEME}/filters", "nr_filters", "type"),
    (f"{SCHEME}/core_filters", "nr_filters", "type"),
    (f"{SCHEME}/ops_filters", "nr_filters", "type"),
    (f"{SCHEME}/dests", "nr_dests", "id"),
)
"""Directories of numbered ones, the file that makes those, and a file of each; outer directories first."""
PROBES = (
    *DIRECTORIES[:2],
    (f"{CONTEXT}/monitoring_attrs/probes", "nr_probes", "filters/nr_filters"),
    (f"{CONTEXT}/monitoring_attrs/probes/0/filters", "nr_filters", "type"),
)


def made_anew(subject, directories):
    """Make directory 0 of each, and again while a file of it is open; return how many, and what failed."""
    tree = subject.tree
    there = []
    for directory, number, name in directories:
        if tree.exists(directory):
            tree.write(f"{directory}/{number}", "1")
            there.append((directory, number, name))
    wrong = []
    for directory, number, name in reversed(there):
        with subject.hold_open(f"{directory}/0/{name}"):
            try:
                tree.write(f"{directory}/{number}", "1")
                tree.read(f"{directory}/0/{name}")
            except TreeError as error:
                wrong.append(f"{directory.removeprefix(ROOT)}: {error}")
    return len(there), wrong


def judge(expect, made, least):
    count, wrong = made
    expect.at_least(
        Measurement("directories made", count, "count"), least, because="each series has these (§5.1)"
    )
    why = "a directory that is removed can be made again, whoever has a file of it open (§5.1)"
    expect.nothing("directories that cannot be made anew", wrong, because=why, kind="closed form")


@pytest.mark.needs("ops.fvaddr", "schemes.stat")
def test_open_directories_are_made_anew(subject, expect):
    """Directories of kdamonds, contexts, targets, regions and schemes are made again while one is open."""
    judge(expect, made_anew(subject, DIRECTORIES), 6)


@pytest.mark.needs("attrs.probes")
def test_open_probe_directories_are_made_anew(subject, expect):
    """Directories of probes and of their filters are made again while one is open."""
    judge(expect, made_anew(subject, PROBES), 4)
