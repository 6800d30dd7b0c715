# SPDX-License-Identifier: GPL-2.0
"""Runs put together: shards of one, or several kernels; and what is new against an earlier run."""

from __future__ import annotations

import copy
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import sample_run
from jsonschema import Draft202012Validator

from damon_tests import pytest_options
from damon_tests.ports import UsageError
from damon_tests.report import merge, model
from damon_tests.report.cost_changes import cost_changes
from damon_tests.report.verdict_changes import verdict_changes


def a_run(directory: Path) -> dict[str, Any]:
    sample_run.write(directory)
    return model.load(directory)


def shards(run: dict[str, Any], count: int) -> list[dict[str, Any]]:
    """The tests of a run, dealt out to ``count`` runs."""
    made = []
    for number in range(count):
        shard = copy.deepcopy(run)
        shard["tests"] = run["tests"][number::count]
        verdicts = [test["verdict"] for test in shard["tests"]]
        shard["counts"] = {verdict: verdicts.count(verdict) for verdict in run["counts"]}
        made.append(shard)
    return made


def test_two_shards_equal_one_whole(tmp_path: Path) -> None:
    whole = a_run(tmp_path / "whole")
    merged = merge.merged([(tmp_path / "whole", shard) for shard in shards(whole, 2)], tmp_path / "whole")
    assert merged["counts"] == whole["counts"]
    assert model.exit_code(merged) == model.exit_code(whole)
    by_id = {test["id"]: test for test in merged["tests"]}
    assert by_id == {test["id"]: test for test in whole["tests"]}
    assert next(iter(Draft202012Validator(model.schema()).iter_errors(merged)), None) is None


def test_artifacts_are_found_from_the_merged_run(tmp_path: Path) -> None:
    run = a_run(tmp_path / "all" / "one")
    merged = merge.merged([(tmp_path / "all" / "one", run)], tmp_path / "all")
    paths = [a["path"] for t in merged["tests"] for x in (t, *t["attempts"]) for a in x["artifacts"]]
    assert paths
    assert all(path.startswith("one/") for path in paths)


def test_same_test_in_two_runs_is_refused(tmp_path: Path) -> None:
    run = a_run(tmp_path)
    with pytest.raises(UsageError, match="in more than one of the runs"):
        merge.merged([(tmp_path, run), (tmp_path, run)], tmp_path)


def test_changed_verdicts_are_reported_worse_first(tmp_path: Path) -> None:
    before = a_run(tmp_path)
    after = copy.deepcopy(before)
    passing = next(t for t in after["tests"] if t["verdict"] == "PASS")
    failing = next(t for t in after["tests"] if t["verdict"] == "FAIL")
    passing["verdict"], failing["verdict"] = "FAIL", "PASS"
    gone = after["tests"].pop()
    changes = verdict_changes(after, before)
    assert [(c.test, c.before, c.after, c.worse) for c in changes] == [
        (passing["id"], "PASS", "FAIL", True),
        (gone["id"], gone["verdict"], "", gone["verdict"] != "SKIP"),
        (failing["id"], "FAIL", "PASS", False),
    ]
    assert verdict_changes(before, before) == []


def with_cost(run: dict[str, Any], value: float, metric: str = "check.paddr") -> dict[str, Any]:
    """Return the run with a budget checked in its first test."""
    made = copy.deepcopy(run)
    measured = {"name": metric, "value": value, "unit": "instructions", "samples": [value]}
    made["tests"][0]["checks"].append({"kind": "budget", "measurement": measured})
    return made


def test_costs_that_changed_by_a_percent_are_reported(tmp_path: Path) -> None:
    run = a_run(tmp_path)
    before = with_cost(with_cost(run, 2000.0), 500.0, "aggregation")
    after = with_cost(with_cost(run, 2200.0), 499.0, "aggregation")
    (change,) = cost_changes(after, before)
    assert str(change) == "check.paddr: 2,000 → 2,200 instructions (+10.0%)"
    assert [c.share for c in cost_changes(before, after)] == [pytest.approx(-1 / 11)]
    assert cost_changes(after, run) == []


def test_shards_are_disjoint_and_whole() -> None:
    ids = [f"suites/a/test_{number}.py::test_x" for number in range(10)]
    inside = [
        set(ids) - pytest_options.outside_shard(SimpleNamespace(shard=f"{part}/3"), ids[::-1])
        for part in (1, 2, 3)
    ]
    assert sum(len(part) for part in inside) == len(ids)
    assert set.union(*inside) == set(ids)
    assert pytest_options.outside_shard(SimpleNamespace(shard=None), ids) == set()


@pytest.mark.parametrize("text", ["", "0/2", "3/2", "1", "a/b", "1/2/3", "-1/2"])
def test_shard_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match=r"is not I/N( with I from 1 to N)?, such as 2/3"):
        pytest_options.shard(SimpleNamespace(shard=text))
