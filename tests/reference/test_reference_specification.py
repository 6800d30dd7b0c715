# SPDX-License-Identifier: GPL-2.0
"""The specification has what the tree cites, and says of each invariant where kernels are held to it."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
from specification_text import (
    CHAPTERS,
    CITING,
    ROOT,
    SPECIFICATION,
    Specification,
    citations,
    files_under,
    python_source,
    read_specification,
    source_of,
)

MINE = {"specification_text.py", Path(__file__).name}  # full of made-up citations
FEWEST = 300
"""Fewer citations than this mean that the search for them is broken."""

PLACE = re.compile(r"`((?:judge|scenario|suites)/[\w/]+\.py)(?:::(\w+))?`")
# A list of names that select checks of others, not a check.
NO_CHECKS = {"judge/monitoring/recording_verdict.py"}


@pytest.fixture(scope="module")
def specification() -> Specification:
    return read_specification()


def unresolved(spec: Specification, text: str) -> list[str]:
    return [cited for cited in citations(text) if not spec.defines(cited)]


def test_every_citation_of_the_tree_resolves(specification: Specification) -> None:
    """Whatever a docstring, comment, reason or page cites is a heading, an item or a row."""
    wrong, nr_citations = [], 0
    for path in files_under(*CITING):
        if path.name in MINE:
            continue
        for line, text in source_of(path).texts:
            nr_citations += sum(1 for _ in citations(text))
            wrong += [
                f"{path.relative_to(ROOT)}:{line}: {cited}" for cited in unresolved(specification, text)
            ]
    assert wrong == []
    assert nr_citations >= FEWEST


def test_the_specification_cites_itself_rightly(specification: Specification) -> None:
    for path in [SPECIFICATION, *CHAPTERS.glob("*.md")]:
        assert unresolved(specification, path.read_text(encoding="utf-8")) == [], path.name


def test_files_that_the_specification_names_exist() -> None:
    named = {
        name
        for path in [SPECIFICATION, *CHAPTERS.glob("*.md")]
        for name in re.findall(r"`([\w/]+/[\w.]+\.(?:py|yaml|md))", path.read_text(encoding="utf-8"))
    }
    assert sorted(name for name in named if not (ROOT / name).exists() and not located(name).exists()) == []
    assert len(named) > 20


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("see §4.10", ["4.10"]),
        ("(specification §4.1 and §4.2)", ["4.1", "4.2"]),
        ("(specification 4.3 to 4.7)", ["4.3", "4.7"]),
        ("(specification 5.3,\n5.4, appendix A)", ["5.3", "5.4", "Appendix A"]),
        ("specification 6: modules", ["6"]),
        ("an event of section I13/16/17", ["I13", "I16", "I17"]),
        ("I19/I20 nr_accesses", ["I19", "I20"]),
        ("in order: I51.", ["I51"]),
        ("I21-I24 and I1 to I3", ["I21", "I22", "I23", "I24", "I1", "I2", "I3"]),
        ("8.3, 15: gone", ["8.3, 15"]),
        ("(8.3, 17)", ["8.3", "8.3, 17"]),
        ("(§8.3: 2, 8, 19)", ["8.3", "8.3, 2", "8.3, 8", "8.3, 19"]),
        ("spec 8.3 (31)", ["8.3", "8.3, 31"]),
        ("(2.6; 8.3, 12)", ["2.6", "8.3", "8.3, 12"]),
        ("(2.7, I15)", ["2.7", "I15"]),
        ("(§2.2, step 11)", ["2.2", "2.2, 11"]),
        ("§8.4 Q7", ["8.4", "Q7"]),
        ("at half (1.3)", ["1.3"]),
        ("since 7.0 (6.12) §4.4: 12 MiB, §4.4, 12 MiB, for 0.9 (0.5)", ["4.4"]),
    ],
)
def test_every_form_of_citing_is_understood(text: str, expected: list[str]) -> None:
    assert sorted(set(citations(text))) == sorted(expected)


@pytest.mark.parametrize(
    "wrong",
    [
        "§4.13",
        "specification 13.1",
        "I71",
        "I0",
        "8.3, 99",
        "(9.9)",
        "§2.2, step 13",
        "Q23",
        "appendix B",
        "I68/71",
    ],
)
def test_wrong_citations_are_noticed(specification: Specification, wrong: str) -> None:
    source = python_source(
        f'def f():\n    """Do it ({wrong})."""\n    # because of {wrong}\n    g(f"{{1}}: {wrong}")\n'
    )
    assert [bool(unresolved(specification, text)) for _, text in source.texts] == [True, True, True]


# --- the table of invariants -------------------------------------------------------------------


def test_all_invariants_are_there(specification: Specification) -> None:
    assert list(specification.judged) == [f"I{n}" for n in range(1, len(specification.judged) + 1)]
    assert len(specification.judged) >= 70


def located(place: str) -> Path:
    return ROOT / place if place.startswith("suites/") else ROOT / "damon_tests" / place


def wrong_rows(spec: Specification) -> Iterator[str]:
    """Rows that name nothing without saying why, or a check that is not there, or that does not cite them."""
    for invariant, cell in spec.judged.items():
        places = PLACE.findall(cell)
        if not places and not cell.startswith("nowhere, because "):
            yield f"{invariant}: says neither where it is judged nor why nowhere"
        for file, name in places:
            path = located(file)
            if not path.is_file():
                yield f"{invariant}: there is no {file}"
            elif name and name not in defined_in(path):
                yield f"{invariant}: {file} has no {name}"
            elif invariant not in cited_in(path):
                yield f"{invariant}: {file} does not cite it"


def defined_in(path: Path) -> set[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return {n.name for n in tree.body if isinstance(n, ast.FunctionDef | ast.ClassDef)}


@cache
def cited_in(path: Path) -> set[str]:
    return {cited for _, text in source_of(path).texts for cited in citations(text)}


def missing_places(spec: Specification, place: str, code: list[tuple[int, str]]) -> list[str]:
    """Invariants that a check of this file cites, in rows that do not name the file."""
    judged = {cited for _, text in code for cited in citations(text) if cited.startswith("I")}
    return sorted(
        i for i in judged if place not in {file for file, _ in PLACE.findall(spec.judged.get(i, ""))}
    )


def test_where_invariants_are_judged_is_true(specification: Specification) -> None:
    assert list(wrong_rows(specification)) == []


def test_what_checks_judge_is_in_the_table(specification: Specification) -> None:
    """Each invariant that a measurement, a reason or a check's field names is said to be judged there."""
    missing = {}
    for path in files_under("damon_tests/judge", "damon_tests/scenario", "suites"):
        place = str(path.relative_to(ROOT)).removeprefix("damon_tests/")
        if path.suffix == ".py" and place not in NO_CHECKS:
            missing[place] = missing_places(specification, place, source_of(path).code)
    missing = {place: names for place, names in missing.items() if names}
    assert missing == {}, (
        "name these files in the rows of these invariants, in specification/09-invariants.md"
    )


@pytest.mark.parametrize(
    ("cell", "complaint"),
    [
        ("", "says neither"),
        ("somewhere", "says neither"),
        ("nowhere", "says neither"),
        ("`judge/monitoring/invariants.py::geometry`, `judge/nothing.py`", "there is no judge/nothing.py"),
        ("`judge/monitoring/invariants.py::geometries`", "has no geometries"),
        ("`judge/verdict.py::decide`", "does not cite it"),
    ],
)
def test_wrong_rows_are_noticed(cell: str, complaint: str) -> None:
    (wrong,) = wrong_rows(read_specification(f"## 9.1 Geometry\n\n| I1 | they ascend | none | {cell} |\n"))
    assert complaint in wrong


def test_checks_that_no_row_names_are_noticed() -> None:
    spec = read_specification("## 9.1 Geometry\n\n| I1 | they ascend | none | `suites/ops/test_one.py` |\n")
    code = python_source(
        'def f():\n    """I2 and more."""\n    g(because="they ascend (I1)", invariant="I3")\n'
    ).code
    assert missing_places(spec, "suites/ops/test_one.py", code) == ["I3"]
    assert missing_places(spec, "suites/ops/test_two.py", code) == ["I1", "I3"]
