# SPDX-License-Identifier: GPL-2.0
"""A run as KCIDB takes it, as TAP, and as JUnit read by others."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections import Counter
from pathlib import Path

import pytest
import sample_run

from damon_tests.commands.report import ReportRequest, show_report
from damon_tests.ports import UsageError
from damon_tests.report import junit, kcidb, ktap, model

STATUS = {"XFAIL": "FAIL", "XPASS": "FAIL", "INCONCLUSIVE": "DONE"}


@pytest.fixture
def run(tmp_path: Path) -> model.Json:
    sample_run.write(tmp_path)
    return model.load(tmp_path)


def test_a_build_has_the_architecture_of_its_guest(run: model.Json) -> None:
    run["provenance"]["kernel"]["arch"] = "aarch64"
    assert {build["architecture"] for build in kcidb.report(run)["builds"]} == {"aarch64"}


@pytest.mark.parametrize("build", ["", "maestro:6743f7"])
def test_kcidb_accepts_the_report(run: model.Json, build: str) -> None:
    schema = pytest.importorskip("kcidb_io.schema", reason="kcidb-io: pip install 'damon-tests[kcidb]'")
    report = kcidb.report(run, build)
    schema.V5_3.validate(report)
    assert schema.V5_3.is_compatible_exactly(report)
    assert len(report["tests"]) == len(run["tests"])
    assert len({test["id"] for test in report["tests"]}) == len(run["tests"])
    for test, reported in zip(run["tests"], report["tests"], strict=True):
        assert reported["status"] == STATUS.get(test["verdict"], test["verdict"])
        assert reported["misc"]["verdict"] == test["verdict"]
    if build:
        assert {test["build_id"] for test in report["tests"]} == {build}
        assert "builds" not in report
    else:
        assert {test["build_id"] for test in report["tests"]} == {b["id"] for b in report["builds"]}
        assert report["builds"][0]["id"] == "damon_tests:7.3.4-amd64"


def test_kcidb_paths_are_a_tree_of_tests() -> None:
    assert kcidb.path_of("suites/ops/test_a.py::test_b[x.y-2]") == "damon.ops.test_a.test_b_x_y-2"
    assert kcidb.path_of("kselftest/damon::sysfs.sh") == "damon.kselftest.damon.sysfs_sh"


def test_ids_that_kcidb_refuses_are_refused(run: model.Json) -> None:
    with pytest.raises(UsageError, match="no build id of KCIDB"):
        kcidb.report(run, "6743f7")
    with pytest.raises(UsageError, match="no origin"):
        kcidb.report(run, origin="Damon-Tests")


def test_files_are_written(tmp_path: Path) -> None:
    sample_run.write(tmp_path)
    show_report(ReportRequest(tmp_path, kcidb=tmp_path / "k.json", tap=tmp_path / "t.tap", kcidb_build="a:1"))
    assert json.loads((tmp_path / "k.json").read_text())["tests"][0]["build_id"] == "a:1"
    assert (tmp_path / "t.tap").read_text().startswith("TAP version 14\n1..")


def test_tap_marks_expected_failures_as_todo(run: model.Json) -> None:
    lines = list(ktap.tap_lines(run))
    expected = [line for line in lines if " # TODO " in line]
    assert len(expected) == run["counts"]["XFAIL"]
    assert all(line.startswith("not ok ") for line in expected)
    assert not [line for line in lines if "XFAIL " in line.partition(" # ")[2][:6]]


def test_prove_reads_the_tap(run: model.Json, tmp_path: Path) -> None:
    """Perl's harness counts what stops a gate as failures, and skips and expected failures as none."""
    if shutil.which("prove") is None:
        pytest.skip("prove is not installed (Debian: perl)")
    ktap.save_tap(run, tmp_path / "t.tap")
    command = ["prove", "--exec", "cat", "--verbose", str(tmp_path / "t.tap")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    bad = sum(run["counts"][v] for v in ("FAIL", "XPASS", "INCONCLUSIVE", "ERROR"))
    assert f"Failed {bad}/{len(run['tests'])} subtests" in done.stdout
    assert f"(less {run['counts']['SKIP']} skipped subtests" in done.stdout


def test_junit_is_read_by_others(run: model.Json, tmp_path: Path) -> None:
    """Names are stable and unique, messages one line, times add up, properties are plain text."""
    junitparser = pytest.importorskip("junitparser", reason="junitparser is not installed")
    long = "two\nlines  of\ttext"
    run["tests"][-1]["reason"] = long
    path = tmp_path / "junit.xml"
    junit.save(run, path)
    (suite,) = list(junitparser.JUnitXml.fromfile(str(path)))
    cases = list(suite)
    assert (suite.tests, len(cases)) == (len(run["tests"]), len(run["tests"]))
    assert suite.time == pytest.approx(sum(case.time for case in cases), abs=0.01)
    assert len({(case.classname, case.name) for case in cases}) == len(cases)
    kinds = Counter(type(result).__name__ for case in cases for result in case.result)
    assert kinds == {
        "Failure": suite.failures,
        "Error": suite.errors,
        "Skipped": suite.skipped,
    }
    messages = [result.message for case in cases for result in case.result]
    assert all(message and "\n" not in message for message in messages)
    assert "two lines of text" in messages
    names = {p.name: p.value for p in suite.properties()}
    assert all(isinstance(value, str) and not value.startswith(("[", "{")) for value in names.values())
    assert names["kernel.release"] == "7.3.4-amd64"
