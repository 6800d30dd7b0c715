# SPDX-License-Identifier: GPL-2.0
"""The table of parameters that a commit can change is complete, and the tests that it names exist."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from damon_tests.damon import layout
from damon_tests.damon.layout import Node

SUITES = Path(__file__).resolve().parent.parent / "suites"


def parameters(node: Node, name: str) -> Iterator[str]:
    """Yield "part.field" for each file and list of a request's part, and of all parts below it."""
    for file in node.files:
        yield f"{name}.{file.field}"
    for sub in node.subs:
        yield from parameters(sub.node, {"quota": "quotas"}.get(sub.field, sub.field))
    for many in node.lists:
        yield f"{name}.{many.field}"
        below = "probe_filters" if name == "probes" else many.field
        yield from parameters(many.node, below)


@cache
def table() -> dict[str, dict[str, str]]:
    read: dict[str, Any] = yaml.safe_load((SUITES / "commit_parameters.yaml").read_text(encoding="utf-8"))
    return read


@cache
def functions(file: str) -> frozenset[str]:
    tree = ast.parse((SUITES / file).read_text(encoding="utf-8"))
    return frozenset(node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef))


def test_table_has_every_parameter_once() -> None:
    shown, not_shown = table()["shown"], table()["not_shown"]
    assert not shown.keys() & not_shown.keys()
    assert sorted([*shown, *not_shown]) == sorted(set(parameters(layout.KDAMOND, "kdamond")))


def test_named_tests_exist() -> None:
    for parameter, test in table()["shown"].items():
        file, _, function = test.partition("::")
        assert function in functions(file), f"{parameter}: {test}"


def test_what_is_not_shown_has_a_reason() -> None:
    assert all(len(reason) > 20 for reason in table()["not_shown"].values())
