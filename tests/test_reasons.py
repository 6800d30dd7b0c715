# SPDX-License-Identifier: GPL-2.0
"""Reasons of checks are sent to people who never heard of the specification: words first, numbers after."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
TOPS = ("damon_tests", "suites")
REASONS = ("because", "reason", "why")
"""Names of the parameters that are shown as the reason of a check."""
FEWEST = 250
"""Fewer reasons than this mean that the search for them is broken."""

CITATION = re.compile(
    r"§\s?\d+(?:\.\d+)?|\b[Ss]pec(?:ification)?\b(?:,? §?\d+(?:\.\d+)?)?"
    r"|\b[IQ]\d{1,2}(?:(?:/|-| to )I?\d{1,2})*\b|\b[Aa]ppendix [A-Z]\b"
    r"|\b(?!6\.(?:1\d|[4-9])|7\.|0\.)\d{1,2}\.\d{1,2}(?=[,;:)]|$)"  # a section, no series of kernels
)
WORD = re.compile(r"[^\W\d_]{2,}|\{\}")


def says_why(reason: str) -> bool:
    """Whether a reason begins with words, and is more than one word and what it cites. What an f-string puts
    in may be words."""
    first = CITATION.search(reason)
    words = WORD.findall(CITATION.sub("", reason))
    if first is None:
        return bool(words)
    return bool(WORD.search(reason[: first.start()])) and ("{}" in words or len(words) >= 2)


# --- finding reasons ---------------------------------------------------------------------------


def positions(trees: Mapping[str, ast.Module]) -> dict[str, int]:
    """Where each function takes a reason by position: {"takes_effect": 2}; self does not count."""
    positions = {"Check": 3}  # a dataclass: kind, measurement, limit, reason
    for tree in trees.values():
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef):
                names = [
                    a.arg for a in (*node.args.posonlyargs, *node.args.args) if a.arg not in ("self", "cls")
                ]
                for name in set(names) & set(REASONS):
                    positions[node.name] = names.index(name)
    return positions


def reasons(tree: ast.Module, where: Mapping[str, int]) -> Iterator[tuple[int, str]]:
    """(line, text) of each reason that is written in a module, "{}" for what an f-string puts in."""
    given = set(REASONS)
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        name = getattr(node.func, "attr", getattr(node.func, "id", ""))
        values = [k.value for k in node.keywords if k.arg in REASONS]
        if name in where and len(node.args) > where[name]:
            values.append(node.args[where[name]])
        for value in values:
            given |= {n.id for n in ast.walk(value) if isinstance(n, ast.Name)}
            yield from texts(value)
    for target, value in assignments(tree):
        if target in given:
            yield from texts(value)


def assignments(tree: ast.Module) -> Iterator[tuple[str, ast.expr]]:
    """Name and value, of tuples each with its own."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign):
            for target in node.targets:
                yield from _pairs(target, node.value)


def _pairs(target: ast.expr, value: ast.expr) -> Iterator[tuple[str, ast.expr]]:
    if isinstance(target, ast.Name):
        yield target.id, value
    elif isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple):
        for variable, of_it in zip(target.elts, value.elts, strict=False):
            yield from _pairs(variable, of_it)


def texts(value: ast.expr) -> Iterator[tuple[int, str]]:
    """The texts that an expression may be."""
    if isinstance(value, ast.Constant) and isinstance(value.value, str):
        yield value.lineno, value.value
    elif isinstance(value, ast.JoinedStr):
        parts = (str(v.value) if isinstance(v, ast.Constant) else "{}" for v in value.values)
        yield value.lineno, "".join(parts)
    elif isinstance(value, ast.IfExp):
        yield from texts(value.body)
        yield from texts(value.orelse)
    elif isinstance(value, ast.BinOp):
        yield from texts(value.left)


def modules() -> dict[str, ast.Module]:
    paths = [p for top in TOPS for p in sorted((ROOT / top).rglob("*.py")) if "_bundle" not in p.parts]
    return {str(p.relative_to(ROOT)): ast.parse(p.read_text(encoding="utf-8")) for p in paths}


# --- tests -------------------------------------------------------------------------------------


def test_reasons_say_why_in_words() -> None:
    """No reason is only a number of the specification, or begins with one."""
    trees = modules()
    where = positions(trees)
    texts = [(path, line, text) for path, tree in trees.items() for line, text in reasons(tree, where)]
    assert [f"{path}:{line}: {text}" for path, line, text in texts if not says_why(text)] == []
    assert len(texts) >= FEWEST


@pytest.mark.parametrize(
    "reason",
    [
        "I37",
        "§4.10",
        "(I37)",
        "I63, §3.3",
        "§5.6, §4.8",
        "specification 8.3, 31",
        "8.3, 15: nothing is waited for that is gone",
        "I44, I47: there is more memory than quota",
        "§4.10: the whole length",
        "Q14: vaddr has no such action",
        "specification 6.3: more than five seconds after the start",
        "kept (I61)",
        "",
    ],
)
def test_bare_citations_are_noticed(reason: str) -> None:
    assert not says_why(reason)


@pytest.mark.parametrize(
    "reason",
    [
        "a paused kdamond samples nothing (I37)",
        "a window may not try more than its quota (I44)",
        "lru_prio activates at once since 7.0 (§4.10)",
        "{} ms of the throughput so far (§4.4)",
        "7.0: activated at once",
        "the tree of {}",
    ],
)
def test_words_are_reasons(reason: str) -> None:
    assert says_why(reason)


@pytest.mark.parametrize(
    "source",
    [
        'expect.equal(m, 0, because="I37")',
        'expect.equal(m, 0, because=f"§4.4; {n} sizes")',
        'Check("invariant", m, "== 0", "I45", holds)',
        'effects.takes_effect("pageout", found, "§4.10: idle pages go", least=4)',
        'size, why = done(), "§4.10: the whole length"\nexpect.equal(m, size, because=why)',
        'WHOLE = "§4.10: all of it"\neffects.takes_effect("cold", found, WHOLE)',
        'expect.equal(m, 0, because="I37" if paused else "nothing is tried")',
        'expect.equal(m, 0, because="I37: " + text)',
    ],
)
def test_reasons_are_found_wherever_they_stand(source: str) -> None:
    where = {"Check": 3, "takes_effect": 2}
    assert [text for _, text in reasons(ast.parse(source), where) if not says_why(text)]


def test_reasons_by_position_are_known() -> None:
    where = positions(
        {"a": ast.parse("class A:\n    def f(self, m, because): ...\ndef g(x, y, why=''): ...")}
    )
    assert where == {"Check": 3, "f": 1, "g": 2}
