# SPDX-License-Identifier: GPL-2.0
"""The table of known defects: its file, the affected releases, and the agreement with the suites."""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

from damon_tests import bundle
from damon_tests.damon.features import LEVELS
from damon_tests.damon.known_defects import FILE, Releases, load, table_for, the_table
from damon_tests.ports import UsageError, word

GOOD = """
- key: too-many-regions
  title: too many
  does: keeps more than max_nr_regions
  releases: [{series: "7.3", fixed: "7.3.2"}]
  evidence: a test
  kernels_only: false
  predicts:
    - {check: regions, at_most: 7}
"""


def test_valid_table_is_read(tmp_path: Path) -> None:
    (tmp_path / FILE).write_text(GOOD)
    (defect,) = load(tmp_path / FILE).values()
    assert defect.releases == (Releases("7.3", fixed="7.3.2"),)
    assert defect.predicts[0].allows_check("regions", 7, "")
    assert not defect.predicts[0].allows_check("regions", 8, "")
    assert not defect.predicts[0].allows_check("other regions", 7, "")


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("- key: too-many-regions", "- key: Too many", ":2: 0.key: 'Too many'"),
        ("kernels_only: false", "kernels_only: perhaps", ":7: 0.kernels_only: 'perhaps'"),
        ("  evidence: a test\n", "", ":2: 0: 'evidence' is a required property"),
        ("{check: regions, at_most: 7}", "{check: regions, at_mots: 7}", ":9: 0.predicts.0: "),
        ("{check: regions, at_most: 7}", "{at_most: 7}", ":9: 0.predicts.0: "),
        ("{check: regions, at_most: 7}", "{complaint: x, at_most: 7}", ":9: 0.predicts.0: 'check' is a dep"),
        ("{check: regions, at_most: 7}", "{complaint: '('}", ":9: complaint is no regular expression"),
        ('series: "7.3"', "series: 7.3", ":5: 0.releases.0.series: 7.3 is not of type 'string'"),
        ("title: too many", "title: [", ":5: "),
        (GOOD, GOOD + GOOD, ":11: the key 'too-many-regions' is there twice"),
    ],
)
def test_a_malformed_table_is_refused_with_file_and_line(
    tmp_path: Path, old: str, new: str, says: str
) -> None:
    path = tmp_path / FILE
    assert old in GOOD
    path.write_text(GOOD.replace(old, new))
    with pytest.raises(UsageError) as refused:
        load(path)
    assert f"{path}{says}" in str(refused.value)


def test_the_nearest_table_above_a_test_counts(tmp_path: Path) -> None:
    below = tmp_path / "a" / "b"
    below.mkdir(parents=True)
    assert table_for(below / "test_x.py") == the_table()
    (tmp_path / "a" / FILE).write_text(GOOD)
    assert list(table_for(below / "test_x.py")) == ["too-many-regions"]


@pytest.mark.parametrize(
    ("release", "fixed", "since"),
    [
        ("6.12.107+deb13-cloud-amd64", True, False),
        ("6.12.116", True, False),
        ("6.12.117+deb13-cloud-amd64", False, True),
        ("6.12.200", False, True),
        ("6.12.9", True, False),
        ("", True, False),  # what the series began with
    ],
)
def test_releases_since_and_before_fixed_have_the_defect(release: str, fixed: bool, since: bool) -> None:
    assert Releases("6.12", fixed="6.12.117").has(release) is fixed
    assert Releases("6.12", since="6.12.117").has(release) is since
    assert Releases("6.12").has(release)


def test_mainline_after_the_last_series_has_the_fixes_of_stable_releases() -> None:
    last = LEVELS[-1]
    major, minor = last.split(".")
    mainline = f"{major}.{int(minor) + 1}.0-rc1"
    assert not Releases(last, fixed=f"{last}.4").has(mainline)
    assert Releases(last).has(mainline)
    assert Releases(last, fixed=f"{last}.4").has(f"{last}.0-rc7")


def test_defect_of_32_bits_is_in_no_kernel_of_64(monkeypatch: pytest.MonkeyPatch) -> None:
    defect = the_table()["time-quota-in-32-bits"]
    assert not defect.applies("7.3", "7.3.4")
    assert defect.is_in("7.3", "7.3.4")
    monkeypatch.setattr(word, "_word_bits", 32)
    assert defect.applies("7.3", "7.3-armmp-lpae")
    assert defect.kernels()[-1] == "7.3 (all on 32-bit machines only)"


def _markers(tree: ast.AST, marker: str = "known_defect") -> Iterator[tuple[int, str]]:
    """Yield (line, key) of each ``pytest.mark.known_defect("KEY")`` of a file, or of another marker."""
    for node in ast.walk(tree):
        if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
            continue
        if node.func.attr == marker:
            assert len(node.args) == 1, f"line {node.lineno}: {marker} takes one key"
            yield node.lineno, ast.literal_eval(node.args[0])


def test_suites_and_table_name_the_same_defects() -> None:
    used: dict[str, set[str]] = defaultdict(set)
    functions: set[str] = set()
    for path in bundle.suites_dir().rglob("test_*.py"):
        tree = ast.parse(path.read_text())
        functions |= {n.name for n in ast.walk(tree) if isinstance(n, ast.FunctionDef)}
        for line, key in _markers(tree):
            used[key].add(f"{path.name}:{line}")
    table = the_table()
    assert used.keys() == table.keys(), "a marker without an entry, or an entry without a marker"
    named = {test for defect in table.values() for p in defect.predicts for test in p.tests}
    assert named <= functions


def test_defect_that_spoils_tests_is_shown_by_another() -> None:
    shown, spoiling = set[str](), set[str]()
    for path in bundle.suites_dir().rglob("test_*.py"):
        tree = ast.parse(path.read_text())
        shown |= {key for _, key in _markers(tree)}
        spoiling |= {key for _, key in _markers(tree, "spoiled_by")}
    assert spoiling <= shown


def test_series_of_the_table_are_known() -> None:
    assert {r.series for defect in the_table().values() for r in defect.releases} <= set(LEVELS)
