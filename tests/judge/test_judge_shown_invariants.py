# SPDX-License-Identifier: GPL-2.0
"""Checks that are silent when a workload gives them nothing to judge have a test that is about them."""

from __future__ import annotations

import ast
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def calls(folder, function):
    """Return the calls of a function in all files of a folder, as (file, call)."""
    for path in sorted((ROOT / folder).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and ast.unparse(node.func).rpartition(".")[2] == function:
                yield path.name, node


def test_each_silent_invariant_is_shown_by_a_suite():
    """``none_wrong`` makes no check without a region to judge: a suite asks for one (``shows``), and is
    undecided if there is none."""
    silent = {ast.literal_eval(call.args[1]): file for file, call in calls("damon_tests/judge", "none_wrong")}
    assert {"I15", "I23", "I32", "I33"} <= set(silent)
    shown = {
        invariant
        for _, call in calls("suites", "invariants")
        for keyword in call.keywords
        if keyword.arg == "shows"
        for invariant in ast.literal_eval(keyword.value)
    }
    assert set(silent) <= shown
