# SPDX-License-Identifier: GPL-2.0
"""The places of the reference that a mutant can change, and the draw among them (``mutants.py``)."""

from __future__ import annotations

import ast
import functools
import hashlib
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from damon_tests import reference

ROOT = Path(reference.__file__).parent
WINGS = ("core", "machine", "rules", "sysfs")

SWAPS: dict[type, type] = {
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.FloorDiv,
    ast.FloorDiv: ast.Mult,
    ast.Div: ast.Mult,
    ast.Mod: ast.FloorDiv,
    ast.LShift: ast.RShift,
    ast.RShift: ast.LShift,
    ast.BitAnd: ast.BitOr,
    ast.BitOr: ast.BitAnd,
    ast.And: ast.Or,
    ast.Or: ast.And,
}
SWAPPED_CALLS = {"min": "max", "max": "min", "any": "all", "all": "any"}


@dataclass(frozen=True)
class Mutant:
    file: str
    """Relative to the reference's folder."""
    index: int
    """Which of the file's places."""
    line: int
    function: str
    change: str
    nth: int = 0
    """Which of the places of the function where this change can be made."""

    @property
    def key(self) -> str:
        """Name the mutant, also when other functions of its file change."""
        return f"{self.file}:{self.function}:{self.change}:{self.nth}"


class Places(ast.NodeVisitor):
    """Collect each place of a module that can be changed, as (function, node, what it becomes, change)."""

    def __init__(self) -> None:
        self.inside: list[str] = []
        self.in_function = False
        self.found: list[tuple[str, int, str, Callable[[], None]]] = []

    def add(self, node: ast.AST, words: str, change: Callable[[], None]) -> None:
        self.found.append((".".join(self.inside), getattr(node, "lineno", 0), words, change))

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        self.inside.append(node.name)
        for child in node.body:
            if isinstance(child, ast.FunctionDef | ast.ClassDef):
                self.visit(child)
        self.inside.pop()

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        """Visit a function; what lies in a function of its own counts as the outer one's."""
        outermost, self.in_function = not self.in_function, True
        if outermost:
            self.inside.append(node.name)
        for child in node.body:
            self.visit(child)
        if outermost:
            self.inside.pop()
            self.in_function = False

    def visit_Module(self, node: ast.Module) -> None:
        for child in node.body:
            if isinstance(child, ast.FunctionDef | ast.ClassDef):
                self.visit(child)

    def visit_Raise(self, node: ast.Raise) -> None:
        """Leave messages alone."""

    def visit_Assert(self, node: ast.Assert) -> None:
        """Leave assertions for the type checker alone."""

    def visit_JoinedStr(self, node: ast.JoinedStr) -> None:
        """Leave messages alone."""

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        if node.value is not None:
            self.visit(node.value)

    def visit_Compare(self, node: ast.Compare) -> None:
        for i, op in enumerate(node.ops):
            self.swap(node, op, functools.partial(node.ops.__setitem__, i))
        self.generic_visit(node)

    def visit_BinOp(self, node: ast.BinOp) -> None:
        self.swap(node, node.op, functools.partial(setattr, node, "op"))
        self.generic_visit(node)

    visit_AugAssign = visit_BoolOp = visit_BinOp  # type: ignore[assignment]

    def visit_UnaryOp(self, node: ast.UnaryOp) -> None:
        if isinstance(node.op, ast.Not):
            self.add(node, "not x -> x", functools.partial(unwrap, node))
        self.generic_visit(node)

    def visit_Constant(self, node: ast.Constant) -> None:
        if isinstance(node.value, bool):
            self.add(
                node, f"{node.value} -> {not node.value}", functools.partial(set_value, node, not node.value)
            )
        elif isinstance(node.value, int | float):
            more = node.value + 1
            self.add(node, f"{node.value} -> {more}", functools.partial(set_value, node, more))

    def visit_Call(self, node: ast.Call) -> None:
        if isinstance(node.func, ast.Name) and (other := SWAPPED_CALLS.get(node.func.id)):
            self.add(node, f"{node.func.id} -> {other}", functools.partial(setattr, node.func, "id", other))
        self.generic_visit(node)

    def swap(self, node: ast.AST, op: ast.AST, put: Callable[[ast.AST], None]) -> None:
        other = SWAPS.get(type(op))
        if other is not None:
            self.add(node, f"{type(op).__name__} -> {other.__name__}", functools.partial(put, other()))


def set_value(node: ast.Constant, value: float) -> None:
    node.value = value


def unwrap(node: ast.UnaryOp) -> None:
    """Turn ``not x`` into ``not not x``."""
    node.operand = ast.UnaryOp(ast.Not(), node.operand)


def places(source: str) -> tuple[ast.Module, list[tuple[str, int, str, Callable[[], None]]]]:
    """Return a module's tree and its places, in the order of the source."""
    tree, visitor = ast.parse(source), Places()
    visitor.visit(tree)
    return tree, visitor.found


def all_mutants() -> list[Mutant]:
    """Return every mutant there is."""
    mutants = []
    for path in sorted(path for wing in WINGS for path in (ROOT / wing).glob("*.py")):
        seen = Counter[tuple[str, str]]()
        for index, (function, line, change, _) in enumerate(places(path.read_text())[1]):
            nth = seen[function, change]
            seen[function, change] += 1
            mutants.append(Mutant(str(path.relative_to(ROOT)), index, line, function, change, nth))
    return mutants


def draw(seed: int, count: int) -> list[Mutant]:
    """Return ``count`` mutants, each place equally likely, in a random order."""

    def rank(mutant: Mutant) -> bytes:
        return hashlib.sha256(f"{seed}:{mutant.key}".encode()).digest()

    return sorted(all_mutants(), key=rank)[:count]


def mutate(source: str, index: int) -> ast.Module:
    """Return the tree of a module with one place changed."""
    tree, sites = places(source)
    sites[index][3]()
    return tree
