# SPDX-License-Identifier: GPL-2.0
"""The mutants of the reference: which places are changed, and that the changed function runs."""

from __future__ import annotations

import ast
from pathlib import Path

import mutant_places
import mutants
import pytest
from module_from_file import load

SOURCE = '''"""A module."""
LIMIT = 3

def first(a, b=1):
    """Return a."""
    if a < 5 and not b:
        raise ValueError("1 + 1")
    return min(a, b) + 2

class Kind:
    size = 4

    def grow(self, n: int = 0):
        def inner(x):
            return x * 10
        self.n -= 1
        return inner(n)
'''


def test_only_operators_comparisons_and_constants_of_functions_are_changed() -> None:
    _, places = mutant_places.places(SOURCE)
    assert [(function, change) for function, _, change, _ in places] == [
        ("first", "And -> Or"),
        ("first", "Lt -> LtE"),
        ("first", "5 -> 6"),
        ("first", "not x -> x"),
        ("first", "Add -> Sub"),
        ("first", "min -> max"),
        ("first", "2 -> 3"),
        ("Kind.grow", "Mult -> FloorDiv"),
        ("Kind.grow", "10 -> 11"),
        ("Kind.grow", "Sub -> Add"),
        ("Kind.grow", "1 -> 2"),
    ]


def test_each_mutant_differs_in_one_line() -> None:
    whole = ast.unparse(ast.parse(SOURCE)).splitlines()
    for index in range(len(mutant_places.places(SOURCE)[1])):
        changed = ast.unparse(mutant_places.mutate(SOURCE, index)).splitlines()
        assert sum(a != b for a, b in zip(whole, changed, strict=True)) == 1


def test_installed_mutant_runs_in_functions_that_others_hold(tmp_path: Path) -> None:
    path = tmp_path / "sample.py"
    path.write_text(SOURCE)
    module = load(path)
    held = module.first
    assert held(7) == 3
    mutants.install(mutant_places.mutate(SOURCE, 4), path)
    assert held(7) == -1


def test_places_cover_each_wing_of_the_reference() -> None:
    files = {Path(mutant.file).parent.name for mutant in mutant_places.all_mutants()}
    assert files == set(mutant_places.WINGS)


def test_tests_are_those_that_call_the_function_within_the_budget() -> None:
    mutant = mutant_places.Mutant("core/merge.py", 0, 1, "merge", "Lt -> LtE")
    calls = {"slow": (50.0, ["core/merge.py:merge"]), "quick": (1.0, ["core/merge.py:merge"])}
    calls["other"] = (0.1, ["core/split.py:split"])
    assert mutants.chosen(calls, mutant, 60.0) == ["quick", "slow"]
    assert mutants.chosen(calls, mutant, 10.0) == ["quick"]
    assert mutants.chosen(calls, mutant, 0.5) == ["quick"]


def test_process_that_does_not_end_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    def loop(_: Path) -> None:
        while True:
            pass

    assert str(mutants.in_child(loop, 1)).startswith("(ended")


def test_equivalent_mutants_exist_and_have_a_reason() -> None:
    keys = {mutant.key for mutant in mutant_places.all_mutants()}
    reasons = mutants.equivalent()
    assert reasons.keys() <= keys, "a line for a mutant that is no more"
    assert all(reasons.values())


def test_judged_mutants_that_none_noticed_have_a_reason() -> None:
    text = Path(mutants.__file__).with_name("judged_mutants.txt").read_text(encoding="utf-8")
    rows = [line.split("\t") for line in text.splitlines() if not line.startswith("#")]
    assert len(rows) >= 53
    assert all(len(row) == 3 for row in rows)
    missed = {key for key, *noticed in rows if set(noticed) == {"-"}}
    assert missed <= mutants.equivalent().keys()
    made = [
        {"key": key, "tests": {"killer": f"tests/{test}" if test != "-" else ""}, "suites": {"killer": ""}}
        for key, test, _ in rows
    ]
    assert [line.split("\t")[:2] for line in mutants.table_lines(made)] == [row[:2] for row in rows]


def test_draw_does_not_change_with_other_functions(monkeypatch: pytest.MonkeyPatch) -> None:
    first = mutant_places.draw(1, 20)
    assert len({mutant.key for mutant in first}) == 20
    rest = [mutant for mutant in mutant_places.all_mutants() if mutant.file != first[0].file]
    monkeypatch.setattr(mutant_places, "all_mutants", lambda: rest)
    assert [m.key for m in mutant_places.draw(1, 10)] == [m.key for m in first if m.file != first[0].file][
        :10
    ]


def test_mutant_that_nobody_noticed_is_printed_with_its_reason(capsys: pytest.CaptureFixture[str]) -> None:
    place = {"file": "core/merge.py", "line": 7, "function": "merge", "change": "1 -> 2"}
    none = {"tests": {"killer": ""}, "suites": {"killer": ""}}
    known = next(iter(mutants.equivalent()))
    mutants.print_table([{"key": known, **place, **none}, {"key": "another", **place, **none}])
    out = capsys.readouterr().out
    assert "tests: 0 of 2 mutants noticed" in out
    assert out.count("LACKS A TEST") == 1
