# SPDX-License-Identifier: GPL-2.0
"""Read the specification's numbers, and the places that cite them."""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SPECIFICATION = ROOT / "damon_tests/reference/SPECIFICATION.md"
CHAPTERS = SPECIFICATION.parent / "specification"
CITING = (
    "damon_tests",
    "suites",
    "tests",
    "workloads",
    "ci",
    "kselftest_compat",
    "README.md",
    "CONTRIBUTING.md",
)
TEXT_SUFFIXES = {".c", ".h", ".j2", ".json", ".md", ".py", ".sh", ".toml", ".yaml", ".yml"}

_HEADING = re.compile(r"^#+ (?:(\d+(?:\.\d+)?)\.?|(Appendix [A-Z])\.)\s", re.MULTILINE)
_ITEM = re.compile(r"^\s*(\d{1,2})\. |^\| (\d{1,2}) \|", re.MULTILINE)
_INVARIANT_ROW = re.compile(r"^\| (I\d+) \|(.*)\|$", re.MULTILINE)
_QUIRK_ROW = re.compile(r"^\| (Q\d+) \|", re.MULTILINE)


@dataclass(frozen=True)
class Specification:
    """``sections``: text by number ("4.10"). ``items``: numbers of the list in a section. ``judged``: last
    column of each invariant's row ("I47")."""

    sections: Mapping[str, str]
    items: Mapping[str, frozenset[int]]
    judged: Mapping[str, str]
    quirks: frozenset[str]

    def defines(self, citation: str) -> bool:
        """Whether there is such a number: "4.10", "8.3, 15", "I47", "Q14", "Appendix A"."""
        section, _, item = citation.partition(", ")
        if item:
            return int(item) in self.items.get(section, frozenset())
        return citation in self.sections or citation in self.judged or citation in self.quirks


def read_specification(text: str | None = None) -> Specification:
    """All chapters, or ``text``, which stands for them."""
    if text is None:
        text = "\n".join(path.read_text(encoding="utf-8") for path in sorted(CHAPTERS.glob("*.md")))
    headings = list(_HEADING.finditer(text))
    ends = [*(h.start() for h in headings[1:]), len(text)]
    sections = {h[1] or h[2]: text[h.end() : end] for h, end in zip(headings, ends, strict=True)}
    items = {
        name: frozenset(int(m[1] or m[2]) for m in _ITEM.finditer(body)) for name, body in sections.items()
    }
    judged = {m[1]: m[2].split("|")[-1].strip() for m in _INVARIANT_ROW.finditer(text)}
    return Specification(sections, items, judged, frozenset(_QUIRK_ROW.findall(text)))


# --- citations ---------------------------------------------------------------------------------

# Without a sign a number with a point is a section, unless it is a series of kernels (6.12, 7.0).
_SERIES = r"6\.(?:1\d|[4-9])|7\.|0\."
_NUMBER = rf"(?!{_SERIES})\d{{1,2}}\.\d{{1,2}}"
_STEP = r"(?:(?:step|item) )?\d{1,2}(?![\d.\w-]| [A-Za-z(])"
# "§8.3, 15", "§8.3: 2, 8, 19", "8.3 (31)", "§2.2, step 11": a section, and numbers of its list.
_LIST = rf"(?:(?:, |: |; | \()(?!{_NUMBER})(?:{_STEP})(?:, (?:{_STEP}))*)?"
_FIRST = rf"(?:§\d{{1,2}}(?:\.\d{{1,2}})?|{_NUMBER}|\d{{1,2}}(?!\.?\d)){_LIST}"
_NEXT = rf"(?:§\d{{1,2}}(?:\.\d{{1,2}})?|{_NUMBER}){_LIST}"
_CHAIN = re.compile(
    rf"(?:(?=§)|\b[Ss]pec(?:ification)?[,:]? \(?)(?P<chain>{_FIRST}(?:(?:,| and| to|;) {_NEXT})*)"
)
# In brackets it needs no word before it.
_BARE = re.compile(rf"\((?P<chain>{_NUMBER}(?:(?:; |, )\d{{1,2}}(?:\.\d{{1,2}})?)*)(?=[);:]|, I\d)")
_BUG = re.compile(r"(?<![\d.§])8\.3, (?P<item>\d{1,2})\b")
_INVARIANTS = re.compile(r"\bI(?P<numbers>\d{1,2}(?:/I?\d{1,2})*)(?:(?: to |-)I(?P<last>\d{1,2}))?\b(?!\.\w)")
_QUIRK = re.compile(r"\bQ\d{1,2}\b")
_APPENDIX = re.compile(r"\b[Aa]ppendix ([A-Z])\b")


def citations(text: str) -> Iterator[str]:
    """Everything that a text cites, as ``Specification.defines`` takes it."""
    text = " ".join(text.split())
    for pattern in (_CHAIN, _BARE):
        for match in pattern.finditer(text):
            yield from _of_chain(match["chain"])
    yield from (f"8.3, {match['item']}" for match in _BUG.finditer(text))
    for match in _INVARIANTS.finditer(text):
        numbers = [int(n.removeprefix("I")) for n in match["numbers"].split("/")]
        if match["last"]:
            numbers += range(numbers[-1] + 1, int(match["last"]) + 1)
        yield from (f"I{n}" for n in numbers)
    yield from _QUIRK.findall(text)
    yield from (f"Appendix {letter}" for letter in _APPENDIX.findall(text))


def _of_chain(chain: str) -> Iterator[str]:
    """Sections, and items of the section before them. A chapter stands alone ("§4 and §6")."""
    section = ""
    for sign, number in re.findall(r"(§|step |item )?(\d{1,2}(?:\.\d{1,2})?)", chain):
        if "." in number or sign == "§" or not section:
            section = number
            yield number
        else:
            yield f"{section}, {number}"


# --- what cites --------------------------------------------------------------------------------


@dataclass
class Source:
    """The texts of a file: (line, text) of strings and comments, ``code`` those that are no docstrings."""

    texts: list[tuple[int, str]] = field(default_factory=list)
    code: list[tuple[int, str]] = field(default_factory=list)


def python_source(text: str) -> Source:
    source, tree = Source(), ast.parse(text)
    statements = {id(n.value) for n in ast.walk(tree) if isinstance(n, ast.Expr)}
    parts = {id(v) for n in ast.walk(tree) if isinstance(n, ast.JoinedStr) for v in ast.walk(n) if v is not n}
    for node in ast.walk(tree):
        if id(node) in parts:
            continue
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            source.texts.append((node.lineno, node.value))
        elif isinstance(node, ast.JoinedStr):
            source.texts.append((node.lineno, spoken(node)))
        else:
            continue
        if id(node) not in statements:
            source.code.append(source.texts[-1])
    source.texts += _comments(text)
    return source


def spoken(node: ast.JoinedStr) -> str:
    """An f-string with "{}" for what is put in."""
    return "".join(str(v.value) if isinstance(v, ast.Constant) else "{}" for v in node.values)


def _comments(text: str) -> Iterator[tuple[int, str]]:
    """Blocks of comment lines, joined."""
    block, first, last = "", 0, -1
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.COMMENT:
            if token.start[0] != last + 1:
                if block:
                    yield first, block
                block, first = "", token.start[0]
            block, last = f"{block} {token.string.lstrip('# ')}", token.start[0]
    if block:
        yield first, block


@cache
def source_of(path: Path) -> Source:
    text = path.read_text(encoding="utf-8")
    return python_source(text) if path.suffix == ".py" else Source([(1, text)])


def files_under(*names: str) -> list[Path]:
    """The text files of the tree that may cite, but for the specification itself and what was generated."""
    rows = []
    for name in names:
        top = ROOT / name
        for path in sorted(top.rglob("*") if top.is_dir() else [top]):
            generated = {"_bundle", "__pycache__", "build"} & set(path.relative_to(ROOT).parts)
            is_text = path.is_file() and path.suffix in TEXT_SUFFIXES
            if is_text and not generated and CHAPTERS not in path.parents and path != SPECIFICATION:
                rows.append(path)
    return rows
