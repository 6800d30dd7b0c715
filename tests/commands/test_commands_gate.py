# SPDX-License-Identifier: GPL-2.0
"""Several kernels judged at once: one merged run, what is new, one exit code."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from damon_tests import cli
from damon_tests.commands import gate
from damon_tests.ports import UsageError
from damon_tests.report import model

TEST = "suites/monitoring/test_commands.py"


def request(tmp_path: Path, *kernels: str, **more: object) -> gate.GateRequest:
    return gate.GateRequest(kernels, tmp_path / "gate", areas=[TEST], **more)  # type: ignore[arg-type]


def test_two_kernels_make_one_run(tmp_path: Path) -> None:
    lines: list[str] = []
    code = gate.gate(
        request(tmp_path, "reference:6.12", "reference:7.3", baseline="reference:6.12", jobs=2), lines.append
    )
    run = model.load(tmp_path / "gate")
    assert code == 0
    assert {test["backend"] for test in run["tests"]} == {"reference:6.12", "reference:7.3"}
    assert run["counts"]["PASS"] == len([t for t in run["tests"] if t["verdict"] == "PASS"]) > 1
    for name in ("junit.xml", "results.ktap", "gate.json"):
        assert (tmp_path / "gate" / name).stat().st_size > 0
    properties = {
        p.get("name"): p.get("value") for p in ET.parse(tmp_path / "gate/junit.xml").iter("property")
    }
    assert properties["merged.1.kernel_option"] == "reference:6.12", "plain text of each run, not a list"
    assert "merged" not in properties
    assert any("good" in line and "reference:7.3" in line for line in lines)
    (capability,) = [line for line in lines if line.startswith("  commands ")]
    assert "SKIP 1 of" in capability, "a row for what is tested, a column for 6.12 ..."
    assert "PASS" in capability, "... and one for 7.3"
    with pytest.raises(UsageError, match="holds a run already"):
        gate.gate(request(tmp_path, "reference"), lines.append)


def test_two_shards_of_a_run_merge_into_the_whole(tmp_path: Path) -> None:
    """What ``run --shard`` leaves on two machines, ``report --merge`` makes the run of all tests."""
    command = ["run", "--kernel=reference:7.3", "-q", TEST]
    for name, shard in (("whole", []), ("first", ["--shard=1/2"]), ("second", ["--shard=2/2"])):
        assert cli.main([*command, *shard, f"--output={tmp_path / name}"]) == 0
    parts = [model.load(tmp_path / name) for name in ("first", "second")]
    assert all(part["tests"] for part in parts)
    merge = ["report", str(tmp_path / "merged"), "--merge", str(tmp_path / "first"), str(tmp_path / "second")]
    assert cli.main(merge) == 0
    merged, whole = (model.load(tmp_path / name) for name in ("merged", "whole"))
    assert verdicts(merged) == verdicts(whole)
    assert merged["counts"] == whole["counts"]


def verdicts(run: model.Json) -> list[tuple[str, str, str]]:
    return sorted((test["id"], test["backend"], test["verdict"]) for test in run["tests"])


def test_wrong_kernel_fails_the_gate_and_is_new_against_the_baseline(tmp_path: Path) -> None:
    """A DAMON that became wrong since the baseline fails the gate; what changed is named with its reason."""
    good = gate.GateRequest(["reference:7.3"], tmp_path / "before", areas=[TEST])
    assert gate.gate(good, lambda line: None) == 0
    lines: list[str] = []
    wrong = gate.GateRequest(
        ["reference:7.3"],
        tmp_path / "after",
        areas=[TEST],
        options=["--fault=booleans_strict"],
        baseline=str(tmp_path / "before"),
    )
    assert gate.gate(wrong, lines.append) == 1
    changes = json.loads((tmp_path / "after" / "gate.json").read_text())["changes"]
    assert [(c["before"], c["after"]) for c in changes] == [("PASS", "FAIL")]
    assert f"  PASS → FAIL  {changes[0]['test']}  [reference:7.3+booleans_strict]" in lines


@pytest.mark.parametrize(
    ("codes", "expected"),
    [
        ((0, 0), 0),
        ((0, 1), 1),
        ((1, 6), 6),
        ((7, 1), 1),
        ((7, 0), 7),
        ((5, 0), 0),
        ((5, 5), 5),
        ((2, 6), 2),
        ((-9, 0), 6),
        ((3, 0), 6),
    ],
)
def test_worst_exit_code_wins(codes: tuple[int, ...], expected: int) -> None:
    assert gate.worst(codes) == expected


@pytest.mark.parametrize(
    ("kernels", "sentence"),
    [((), "no kernel to judge"), (("reference", "reference"), "given twice")],
)
def test_requests_that_cannot_work_are_refused(
    tmp_path: Path, kernels: tuple[str, ...], sentence: str
) -> None:
    with pytest.raises(UsageError, match=sentence):
        gate.gate(request(tmp_path, *kernels))


def test_long_path_of_a_kernel_leaves_the_numbers_on_the_screen(tmp_path: Path) -> None:
    runs = [
        gate.KernelRun(name, tmp_path, exit_code=6, run=None, log=tmp_path / "log", seconds=3.0)
        for name in (f"/{'build/' * 12}arch/x86/boot/bzImage", "debian:7.3")
    ]
    lines = gate.summary(runs, None)
    at = lines.index(runs[0].kernel)
    assert lines[at + 1].split()[:2] == ["ERR", "0"]
    assert len(lines[at + 1]) <= 80
    assert lines[at + 2].split()[:2] == ["debian:7.3", "ERR"]
    assert gate.summary(runs[:1], None)[2] == runs[0].kernel, "also where no kernel has a short name"
