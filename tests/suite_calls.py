# SPDX-License-Identifier: GPL-2.0
"""What the tests of a suite write and read, from their source: for the coverage of the ABI.

A test reaches what it and what it calls use: helpers, constants and parameters of its file and of scenarios.
Markers (what a test needs) and docstrings are no use of a name.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

PROJECT = Path(__file__).parent.parent


@dataclass
class Uses:
    """What one test reaches: keyword arguments with their values, names of attributes, texts, numbers of
    positional arguments by the function that is called."""

    keywords: dict[str, list[ast.expr]] = field(default_factory=dict)
    attributes: set[str] = field(default_factory=set)
    texts: set[str] = field(default_factory=set)
    positional: dict[str, list[list[ast.expr]]] = field(default_factory=dict)


def uses_by_test(path: Path) -> dict[str, Uses]:
    """Return what each test of a file reaches, by name."""
    return {
        name: _uses(_reached(path, name))
        for name, (_, node) in _names(path).items()
        if isinstance(node, ast.FunctionDef) and name.startswith("test_")
    }


@cache
def _names(path: Path) -> dict[str, tuple[Path, ast.stmt]]:
    """Return where each name of a file is defined: there, or in a module of scenarios that it imports."""
    names: dict[str, tuple[Path, ast.stmt]] = {}
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("damon_tests.scenario."):
            other = PROJECT / (node.module or "").replace(".", "/")
            there = _names(other.with_suffix(".py"))
            names |= {a.asname or a.name: there[a.name] for a in node.names if a.name in there}
        names |= dict.fromkeys(_binds(node), (path, node))
    return names


def _binds(node: ast.stmt) -> Iterator[str]:
    if isinstance(node, ast.FunctionDef | ast.ClassDef):
        yield node.name
    elif isinstance(node, ast.Assign | ast.AnnAssign):
        targets = node.targets if isinstance(node, ast.Assign) else [node.target]
        yield from (n.id for target in targets for n in ast.walk(target) if isinstance(n, ast.Name))


def _reached(path: Path, first: str) -> list[ast.AST]:
    """Return what a test of a file reaches, without markers that state what it needs."""
    todo, done = [_names(path)[first]], set[tuple[Path, ast.stmt]]()
    while todo:
        place = todo.pop()
        if place in done:
            continue
        done.add(place)
        file, node = place
        used = {n.id for part in _parts(node) for n in ast.walk(part) if isinstance(n, ast.Name)}
        arguments = {n.arg for n in ast.walk(node) if isinstance(n, ast.arg)}  # fixtures of the file
        todo += [_names(file)[name] for name in used | arguments if name in _names(file)]
    return [part for _, node in done for part in _parts(node)]


def _parts(node: ast.AST) -> list[ast.AST]:
    """Return a statement's parts that count: of a test, its body and the parameters that it runs with."""
    if not isinstance(node, ast.FunctionDef):
        return [node]
    parameters = [d for d in node.decorator_list if "parametrize" in ast.unparse(d)]
    docstring = ast.get_docstring(node) is not None
    return [*parameters, *node.body[docstring:], *node.args.defaults]


def _uses(parts: list[ast.AST]) -> Uses:
    uses = Uses()
    markers = {
        inner
        for part in parts
        for call in ast.walk(part)
        if isinstance(call, ast.Call) and ast.unparse(call.func).endswith("mark.needs")
        for inner in ast.walk(call)
    }
    for node in (n for part in parts for n in ast.walk(part) if n not in markers):
        if isinstance(node, ast.Call):
            for keyword in node.keywords:
                if keyword.arg:
                    uses.keywords.setdefault(keyword.arg, []).append(keyword.value)
            uses.positional.setdefault(ast.unparse(node.func), []).append(node.args)
        elif isinstance(node, ast.Dict):  # passed on as keywords
            for key, value in zip(node.keys, node.values, strict=True):
                if isinstance(key, ast.Constant) and isinstance(key.value, str):
                    uses.keywords.setdefault(key.value, []).append(value)
        elif isinstance(node, ast.Attribute):
            uses.attributes.add(node.attr)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            uses.texts.add(node.value)
    return uses
