# SPDX-License-Identifier: GPL-2.0
"""What docstrings and comments name exists: ``module.name`` and ``ClassName`` in double backticks."""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from damon_tests.damon.features import FEATURES

PACKAGE = Path(__file__).resolve().parent.parent / "damon_tests"
DOTTED = re.compile(r"``([A-Za-z_]\w*(?:\.[A-Za-z_]\w*)+)(?:\([^`]*\))?``")
CLASS = re.compile(r"``((?:[A-Z][a-z0-9]+){2,})(?:\([^`]*\))?``")

FILE = re.compile(r"\.(py|npz|log|jsonl|json|html|yaml|md|c|h)$")
FOREIGN = {"kernel.dmesg_restrict"}  # a sysctl
# What names of features look like, of which the table at the head of damon.features has placeholders, too.
PLACEHOLDER = re.compile(r"[a-z_]+\.(NAME|WORD|FIELD|ACTION|METRIC|TYPE|FILE|PARAMETER)\b")


def _by_name() -> dict[str, Path]:
    """All modules and packages by their dotted name below damon_tests: ``judge.verdict``."""
    named = {}
    for path in PACKAGE.rglob("*.py"):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        if dotted := ".".join(part for part in parts if part != "__init__"):
            named[dotted] = path
    return named


MODULES = _by_name()


@cache
def _parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def _defined(node: ast.AST) -> Iterator[str]:
    """The names that a statement binds."""
    if isinstance(node, ast.FunctionDef | ast.ClassDef):
        yield node.name
    elif isinstance(node, ast.Import | ast.ImportFrom):
        yield from ((alias.asname or alias.name).partition(".")[0] for alias in node.names)
    elif isinstance(node, ast.Assign | ast.AnnAssign):
        targets = node.targets if isinstance(node, ast.Assign) else [node.target]
        yield from (name.id for target in targets for name in ast.walk(target) if isinstance(name, ast.Name))
    elif isinstance(node, ast.If | ast.Try | ast.With):
        yield from (name for child in node.body for name in _defined(child))


@cache
def _names(path: Path) -> frozenset[str]:
    return frozenset(name for node in _parsed(path).body for name in _defined(node))


@cache
def _classes() -> dict[str, ast.ClassDef]:
    nodes = (node for path in MODULES.values() for node in ast.walk(_parsed(path)))
    return {node.name: node for node in nodes if isinstance(node, ast.ClassDef)}


@cache
def _has_member(class_name: str, name: str) -> bool:
    """Whether a class of the package defines it, or inherits from a class that is not ours."""
    node = _classes().get(class_name)
    if node is None:
        return True
    own = {name for child in node.body for name in _defined(child)}
    own |= {child.attr for child in ast.walk(node) if isinstance(child, ast.Attribute)}
    bases = [base.id for base in node.bases if isinstance(base, ast.Name)]
    return name in own or any(_has_member(base, name) for base in bases)


def _exists(reference: str) -> bool:
    """Whether a dotted name is that of a module, of something in a module, or of a member of a class."""
    parts = reference.split(".")
    for cut in range(len(parts), 0, -1):
        module, rest = ".".join(parts[:cut]), parts[cut:]
        for dotted, path in MODULES.items():
            if dotted != module and not dotted.endswith(f".{module}"):
                continue
            if not rest or (rest[0] in _names(path) and all(_has_member(rest[0], name) for name in rest[1:])):
                return True
    return parts[0] in _classes() and _has_member(parts[0], parts[1])


@cache
def _ours() -> frozenset[str]:
    """First words of dotted names that mean something of this package: packages, modules, classes."""
    words = {part for dotted in MODULES for part in dotted.split(".")[:-1]}
    return frozenset(words | {dotted.rpartition(".")[2] for dotted in MODULES} | set(_classes()))


def _prose(path: Path) -> Iterator[tuple[int, str]]:
    """(line, text) of each docstring and comment."""
    for node in ast.walk(_parsed(path)):
        value = node.value if isinstance(node, ast.Expr) else None
        if isinstance(value, ast.Constant) and isinstance(value.value, str):
            yield value.lineno, value.value
    for token in tokenize.generate_tokens(io.StringIO(path.read_text(encoding="utf-8")).readline):
        if token.type == tokenize.COMMENT:
            yield token.start[0], token.string


def _means_ours(name: str, variables: frozenset[str]) -> bool:
    """Whether a dotted name is meant to be of this package: no file, feature, sysctl or local variable."""
    if FILE.search(name) or PLACEHOLDER.search(name) or name in FEATURES or name in FOREIGN:
        return False
    first = name.partition(".")[0]
    return first in _ours() and first not in variables


def _dangling(text: str, variables: frozenset[str] = frozenset()) -> list[str]:
    dotted = [name for name in DOTTED.findall(text) if _means_ours(name, variables) and not _exists(name)]
    return dotted + [name for name in CLASS.findall(text) if name not in _classes()]


@cache
def _variables(path: Path) -> frozenset[str]:
    """Names of arguments, fields and local variables of a module."""
    nodes = list(ast.walk(_parsed(path)))
    stored = {n.id for n in nodes if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)}
    return frozenset(stored | {n.arg for n in nodes if isinstance(n, ast.arg)})


def test_a_dangling_reference_is_noticed():
    assert (
        _dangling("``judge.verdict.Check`` and ``reference.faults``, ``Recording`` and ``damon.records``")
        == []
    )
    assert _dangling("``judge.trials``") == ["judge.trials"]
    assert _dangling("``judge.verdict.Nothing`` of an ``UnknownClass``") == [
        "judge.verdict.Nothing",
        "UnknownClass",
    ]


def test_no_reference_dangles():
    places = ((path, line, text) for path in MODULES.values() for line, text in _prose(path))
    dangling = [
        f"{path.relative_to(PACKAGE.parent)}:{line}: {name}"
        for path, line, text in places
        for name in _dangling(text, _variables(path))
    ]
    assert not dangling, "\n".join(dangling)
