# SPDX-License-Identifier: GPL-2.0
"""Events to run.json: the schema, killed runs, several workers, exit codes."""

from __future__ import annotations

import json
import math
import os
import re
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest

from damon_tests.judge.verdict import Check, Measurement, Verdict
from damon_tests.ports import UsageError
from damon_tests.report import model
from damon_tests.report.events import EVENTS, RunLog

RECALL = Check(
    "oracle band",
    Measurement("recall", 0.4, "fraction", (0.4,)),
    ">= 0.9",
    "the band",
    False,
    "at 1 s",
    0.001,
)


def valid(run: dict[str, Any]) -> dict[str, Any]:
    jsonschema.Draft202012Validator(model.schema()).validate(run)
    return run


def small_run(directory: Path) -> None:
    with RunLog(directory) as log:
        log.run_started({"kernel": "7.3.4", "seed": 1})
        log.test_started("a.py::good", "reference", "7.3")
        log.attempt("a.py::good", 1, 99, {"monitor": 0.5})
        log.measurement("a.py::good", Measurement("count", 3, "regions", (3.0,)), 1)
        log.check("a.py::good", Check("invariant", Measurement("x", 1, "count"), "== 1", "why", True), 1)
        log.artifact("a.py::good", directory / "t" / "r.npz", "recording", "the recording", 1)
        log.test_finished("a.py::good", "reference", "7.3", Verdict.PASS, "1 checks hold", 0.6)
        log.test_started("a.py::bad", "reference", "7.3")
        log.check("a.py::bad", RECALL)
        log.test_finished("a.py::bad", "reference", "7.3", Verdict.FAIL, "recall = 0.4", 0.1)
        log.test_finished("a.py::skipped", "reference", "7.3", Verdict.SKIP, "no probes", 0.0)
        log.artifact(None, "dmesg.txt", "dmesg")
        log.timing("boot", 4.0)
        log.timing("boot", 1.0)
        log.run_finished()


def test_the_schema_is_a_schema_and_a_run_keeps_it(tmp_path: Path) -> None:
    jsonschema.Draft202012Validator.check_schema(model.schema())
    small_run(tmp_path)
    run = valid(model.save(tmp_path))
    assert json.loads((tmp_path / "run.json").read_text()) == run
    assert {v: n for v, n in run["counts"].items() if n} == {"PASS": 1, "FAIL": 1, "SKIP": 1}
    good, bad, skipped = run["tests"]
    assert good["attempts"][0]["seed"] == 99
    assert good["attempts"][0]["artifacts"][0]["path"] == "t/r.npz"
    assert good["attempts"][0]["measurements"][0]["samples"] == [3.0]
    assert bad["checks"][0]["limit"] == ">= 0.9"
    assert bad["checks"][0]["holds"] is False
    assert skipped["reason"] == "no probes"
    assert run["timings"] == {"monitor": 0.5, "boot": 5.0}
    assert run["artifacts"] == [{"kind": "dmesg", "path": "dmesg.txt", "title": ""}]
    assert run["problems"] == []
    assert run["complete"]


def test_every_verdict_and_kind_is_in_the_schema() -> None:
    from typing import get_args

    from damon_tests.judge.verdict import Kind

    schema = model.schema()
    assert schema["$defs"]["verdict"]["enum"] == [v.value for v in Verdict]
    assert schema["properties"]["counts"]["required"] == [v.value for v in Verdict]
    assert schema["$defs"]["check"]["properties"]["kind"]["enum"] == list(get_args(Kind))


def test_a_run_killed_at_any_byte_still_tells_what_happened(tmp_path: Path) -> None:
    small_run(tmp_path / "whole")
    data = (tmp_path / "whole" / EVENTS).read_bytes()
    cut = tmp_path / "cut"
    cut.mkdir()
    # Without its line feed alone the last event is whole.
    for size in range(0, len(data) - 1, 37):
        (cut / EVENTS).write_bytes(data[:size])
        run = valid(model.derive(cut))
        assert not run["complete"]
        assert model.exit_code(run) in (1, 2, 6)


def test_a_test_under_way_when_the_run_ended_is_an_error(tmp_path: Path) -> None:
    with RunLog(tmp_path) as log:
        log.run_started({})
        log.test_started("a", "host", "7.3")
        log.check("a", RECALL)
        os.write(log._fd, b'{"event": "test_fin')
    run = valid(model.derive(tmp_path))
    (test,) = run["tests"]
    assert test["verdict"] == "ERROR"
    assert test["reason"] == "the run ended during this test"
    assert len(test["checks"]) == 1
    assert run["problems"] == ["events.jsonl line 4 is cut short, left out"]
    assert model.exit_code(run) == 6


def test_a_cut_line_does_not_swallow_the_next_writer(tmp_path: Path) -> None:
    (tmp_path / EVENTS).write_bytes(b'{"event": "run_sta')
    with RunLog(tmp_path) as log:
        log.run_started({"a": 1})
    run = model.derive(tmp_path)
    assert run["provenance"] == {"a": 1}
    assert len(run["problems"]) == 1


def test_workers_share_one_file(tmp_path: Path) -> None:
    """Four processes write long events at once; no line is torn, each test has its own checks."""
    big = Measurement("m", 0, "count", tuple(np.random.default_rng(1).random(3000)))
    children = []
    for worker in range(4):
        pid = os.fork()
        if pid == 0:
            with RunLog(tmp_path, f"gw{worker}") as log:
                for i in range(10):
                    name = f"{worker}::{i}"
                    log.test_started(name, "reference", "7.3")
                    log.check(name, Check("invariant", big, "== 0", "why", True))
                    log.test_finished(name, "reference", "7.3", Verdict.PASS, "ok", 0.0)
            os._exit(0)
        children.append(pid)
    assert [os.waitpid(pid, 0)[1] for pid in children] == [0] * 4
    run = valid(model.derive(tmp_path))
    assert run["counts"]["PASS"] == 40
    assert all(len(t["checks"]) == 1 for t in run["tests"])
    assert run["problems"] == []


def test_numbers_json_does_not_have(tmp_path: Path) -> None:
    odd = Measurement("m", math.nan, "ms", (math.inf, -math.inf, 1.5))
    with RunLog(tmp_path) as log:
        log.run_started({"numpy": np.int64(3), "path": tmp_path, "set": {1}})
        log.test_started("a", "reference", "7.3")
        log.measurement("a", odd)
        log.test_finished("a", "reference", "7.3", Verdict.PASS, "", 0.0)
    run = valid(model.derive(tmp_path))
    assert run["tests"][0]["measurements"][0] == {
        "name": "m",
        "value": "nan",
        "unit": "ms",
        "samples": ["inf", "-inf", 1.5],
    }
    assert run["provenance"] == {"numpy": 3, "path": str(tmp_path), "set": [1]}


def test_unknown_and_bad_events_are_named(tmp_path: Path) -> None:
    lines = [
        '{"event": "new_thing", "time": 1}',
        '{"event": "check", "time": 1, "worker": "x", "id": "?"}',
        "[1]",
    ]
    (tmp_path / EVENTS).write_text("\n".join(lines) + "\n")
    problems = valid(model.derive(tmp_path))["problems"]
    assert len(problems) == 3


def test_directory_without_run_json_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="not a run's directory"):
        model.load(tmp_path)
    (tmp_path / "run.json").write_text('{"schema": 99}')
    with pytest.raises(UsageError, match="schema 99, this program reads 1"):
        model.load(tmp_path)


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        ({"tests": [{}]}, "tests[0]: 'id' is a required property"),
        ({"counts": None}, "counts: None is not of type 'object'"),
    ],
)
def test_damaged_run_json_is_a_sentence(tmp_path: Path, damage: dict[str, object], words: str) -> None:
    small_run(tmp_path)
    run = model.save(tmp_path)
    (tmp_path / EVENTS).unlink()
    (tmp_path / "run.json").write_text(json.dumps(run | damage))
    with pytest.raises(UsageError, match=f"run.json: damaged; {re.escape(words)}"):
        model.load(tmp_path)
    with pytest.raises(UsageError, match=r"give the directory that run\.json is in"):
        model.load(tmp_path / "run.json")


def test_a_condition_is_a_number(tmp_path: Path) -> None:
    with RunLog(tmp_path) as log:
        log.run_started({})
        log.test_started("t", "reference:7.3", "7.3")
        log.check("t", Check("invariant", Measurement("woke up", True, "count"), "== 1", "why", True))
        log.test_finished("t", "reference:7.3", "7.3", Verdict.PASS, "", 1.0)
        log.run_finished()
    run = model.derive(tmp_path)
    jsonschema.validate(run, model.schema())
    assert run["tests"][0]["checks"][0]["measurement"]["value"] == 1


def test_run_json_alone_is_enough(tmp_path: Path) -> None:
    small_run(tmp_path)
    run = model.save(tmp_path)
    (tmp_path / EVENTS).unlink()
    assert model.load(tmp_path) == run


@pytest.mark.parametrize(
    ("verdicts", "extra", "code"),
    [
        (["PASS", "XFAIL", "SKIP"], {}, 0),
        (["XFAIL"], {}, 0),
        (["PASS", "FAIL"], {}, 1),
        (["PASS", "XPASS"], {}, 1),
        (["PASS", "SKIP"], {"require": True}, 1),
        ([], {}, 5),
        (["SKIP"], {}, 5),
        (["PASS", "FAIL", "ERROR", "INCONCLUSIVE"], {}, 6),
        (["FAIL", "INCONCLUSIVE"], {}, 1),
        (["PASS", "INCONCLUSIVE"], {}, 7),
        (["PASS"], {"complete": False}, 2),
        (["ERROR"], {"complete": False}, 6),
        (["PASS", "ERROR"], {"interrupted": True}, 2),
    ],
)
def test_exit_code_follows_the_worst_verdict(verdicts: list[str], extra: dict[str, bool], code: int) -> None:
    run = {"counts": {v: verdicts.count(v) for v in verdicts}, "complete": True, "interrupted": False}
    assert model.exit_code({**run, "require": False, **extra}) == code
