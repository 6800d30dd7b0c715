# SPDX-License-Identifier: GPL-2.0
"""``damon-tests explore``: its table, its files, and bad input."""

import json

import pytest

from damon_tests import cli
from damon_tests.damon.params import DamonAttrs
from damon_tests.ports import UsageError
from damon_tests.scenario.exploration import Grid, describe

SMALL = [
    "--sample-ms",
    "5",
    "20",
    "--regions",
    "100",
    "--goals-bp",
    "400",
    "--seconds",
    "4",
    "--attempts",
    "1",
]


def test_table_has_every_attribute_and_names_those_to_choose(capsys):
    assert cli.main(["explore", "hot_cold", *SMALL]) == 0
    out = capsys.readouterr().out
    lines = out.splitlines()
    assert lines[0].startswith("hot_cold on reference:7.3: hot is touched in 50% of all intervals of 5 ms")
    rows = [line[2:28].strip() for line in lines[2:5]]
    assert sorted(rows) == ["20 ms, 100 regions", "5 ms, 100 regions", "tuned to 4 %, 100 regions"]
    assert lines[-1].startswith("cheapest within 0.02 of the best F1")


def test_json_and_picture_hold_the_same_points(tmp_path, capsys):
    pytest.importorskip("matplotlib")
    files = ["--json", str(tmp_path / "x.json"), "--picture", str(tmp_path / "x.svg")]
    assert cli.main(["explore", "hot_cold", *SMALL, *files]) == 0
    content = json.loads((tmp_path / "x.json").read_text())
    assert content["kernel"] == "reference:7.3"
    assert content["cost"] == "estimated from budgets"
    points = content["points"]
    assert [(p["sample_us"], p["goal_access_bp"]) for p in points] == [(5_000, 0), (20_000, 0), (12_500, 400)]
    # Four times the interval, a quarter of the checks, however many regions there are.
    assert 2 < points[0]["instructions_per_s"] / points[1]["instructions_per_s"] < 8
    assert any(p["worth_it"] for p in points)
    svg = (tmp_path / "x.svg").read_text()
    assert "<svg" in svg
    assert "tuned" in svg


def test_json_to_standard_output_is_nothing_but_json(capsys):
    assert cli.main(["explore", "hot_cold", *SMALL, "--json", "-"]) == 0
    assert len(json.loads(capsys.readouterr().out)["points"]) == 3


def test_series_without_tuner_explores_fixed_intervals_only(capsys):
    assert cli.main(["explore", "hot_cold", *SMALL, "--kernel", "reference:6.12"]) == 0
    assert "tuned" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["no_such_pattern"], "no_such_pattern"),
        (["hot_cold", "--regions", "3"], "10 regions or more"),
        (["hot_cold", "--sample-ms", "0.0001"], "0.001 ms or more"),
        (["hot_cold", "--picture", "x.gif"], ".svg"),
        (["idle", *SMALL], "nothing is hot"),
    ],
)
def test_bad_input_gets_a_sentence(arguments, message, capsys):
    assert cli.main(["explore", *arguments]) == UsageError.exit_code
    assert message in capsys.readouterr().err


def test_grid_tries_fixed_intervals_then_goals_with_every_limit():
    grid = Grid((5, 100), (100, 1000), (400,))
    words = [describe(attrs) for attrs in grid.attrs(with_goals=True)]
    assert words[:2] == ["5 ms, 100 regions", "100 ms, 100 regions"]
    assert words[-1] == "tuned to 4 %, 1000 regions"
    assert len(words) == 6
    assert all(isinstance(a, DamonAttrs) and a.samples_per_aggr == 20 for a in grid.attrs(with_goals=False))
