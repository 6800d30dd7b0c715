# SPDX-License-Identifier: GPL-2.0
"""Where a run's results go, under which names, and that they are there when the run is ended from outside."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
import time
import xml.etree.ElementTree as ET
from pathlib import Path

import psutil
import pytest
from test_plugin import DEFECTS, HEAD, VERDICTS, finish, load, start

from damon_tests.report import wording


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_signals_of_a_ci_end_a_run_as_ctrl_c_does(tmp_path: Path, number: signal.Signals) -> None:
    body = (
        VERDICTS["PASS"].replace("def test(", "def test_a(")
        + f"\n\ndef test_b(expect):\n    expect.add(check(True))\n    os.kill(os.getpid(), {int(number)})"
        + "\n    import time\n    time.sleep(60)"
    )
    code, out = finish(start(tmp_path, body))
    assert code == 2, out
    run = load(tmp_path)
    assert run["interrupted"]
    assert [t["verdict"] for t in run["tests"]] == ["PASS", "ERROR"]
    assert len(ET.parse(tmp_path / "run" / "junit.xml").findall(".//testcase")) == 2


def test_signal_to_a_run_with_workers_keeps_results_and_ends_the_workers(tmp_path: Path) -> None:
    body = """
import time

@pytest.mark.parametrize('n', range(4))
def test(expect, n):
    expect.add(check(True))
    time.sleep(0 if n == 0 else 120)
"""
    process = start(tmp_path, body, "-n", "2")
    events = tmp_path / "run" / "events.jsonl"
    deadline = time.monotonic() + 120
    while not (events.exists() and events.read_text().count('"test_started"') >= 2):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    workers = psutil.Process(process.pid).children()
    began = time.monotonic()
    process.terminate()
    code, out = finish(process)
    assert code == 2, out
    assert time.monotonic() - began < 100, "tests were not waited for"
    assert psutil.wait_procs(workers, timeout=60)[1] == []
    run = load(tmp_path)
    assert run["interrupted"]
    cases = ET.parse(tmp_path / "run" / "junit.xml").findall(".//testcase")
    assert len(cases) == len(run["tests"]) >= 2


def test_run_prints_no_line_of_xdist(tmp_path: Path) -> None:
    (tmp_path / "test_it.py").write_text(HEAD + VERDICTS["PASS"])
    command = [sys.executable, "-m", "damon_tests.cli", "run", "-n", "2", "test_it.py"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "bringing up nodes" not in done.stdout


def test_length_of_a_run_is_what_its_user_waited(tmp_path: Path) -> None:
    """It begins with this project's first module, not when pytest has started, and timings explain it."""
    (tmp_path / "test_it.py").write_text(
        "def test_it(expect):\n    expect.nothing('faults', [], because='nothing is looked for')\n"
    )
    began = time.monotonic()
    command = [sys.executable, "-m", "damon_tests.cli", "run", "test_it.py", "--output=out"]
    subprocess.run(command, cwd=tmp_path, capture_output=True, check=True)
    waited_s = time.monotonic() - began
    run = json.loads((tmp_path / "out/run.json").read_text())
    started_s = run["timings"]["start and collect tests"]
    # Importing this project alone takes a Python longer than that; a tick is 10 ms.
    assert 0.1 < started_s < run["duration_s"] < waited_s + 0.02
    assert sum(run["timings"].values()) >= 0.9 * run["duration_s"]


def test_length_of_a_run_leaves_out_what_its_process_was_before(tmp_path: Path) -> None:
    """ci/bootstrap installs the project, then becomes the command: the same process, another program."""
    (tmp_path / "test_it.py").write_text(HEAD + VERDICTS["PASS"])
    command = [sys.executable, "-m", "damon_tests.cli", "run", "test_it.py", "--output=out"]
    before = (
        "import os, sys, time\ntime.sleep(0.5)\nopen('became', 'w').write(str(time.time()))\n"
        "os.execv(sys.argv[1], sys.argv[1:])\n"
    )
    subprocess.run([sys.executable, "-c", before, *command], cwd=tmp_path, capture_output=True, check=True)
    run = json.loads((tmp_path / "out/run.json").read_text())
    assert run["started"] > float((tmp_path / "became").read_text())


def test_time_of_a_worker_that_waits_for_the_last_test_is_named(tmp_path: Path) -> None:
    (tmp_path / "test_it.py").write_text(
        "import time\nimport pytest\n"
        "@pytest.mark.parametrize('seconds', [0, 3])\n"
        "def test_it(expect, seconds):\n"
        "    time.sleep(seconds)\n"
        "    expect.nothing('faults', [], because='nothing is looked for')\n"
    )
    command = [sys.executable, "-m", "damon_tests.cli", "run", "test_it.py", "--output=out", "-n2"]
    subprocess.run(command, cwd=tmp_path, capture_output=True, check=True)
    run = json.loads((tmp_path / "out/run.json").read_text())
    waited_s = run["timings"]["wait for the last tests"]
    # The other worker may have been slow to start, but the sum over both is all the time of both.
    assert 0 < waited_s < 2 * run["duration_s"]
    assert 1.8 * run["duration_s"] < sum(run["timings"].values()) < 2.02 * run["duration_s"]


def test_failed_assert_names_its_line(tmp_path: Path) -> None:
    code, out = finish(start(tmp_path, "def test(expect):\n    assert 1 == 2"))
    assert code == 1
    line = 1 + (HEAD + "def test(expect):").count("\n")
    assert f"test_it.py:{line + 1}: assert 1 == 2" in out


def test_second_run_into_one_directory_is_refused(tmp_path: Path) -> None:
    assert finish(start(tmp_path, VERDICTS["PASS"]))[0] == 0
    code, out = finish(start(tmp_path, VERDICTS["FAIL"]))
    assert code == 2
    assert "damon-tests: " in out
    assert "holds the results of a run" in out
    assert load(tmp_path)["counts"]["PASS"] == 1
    assert finish(start(tmp_path, VERDICTS["FAIL"], "--overwrite"))[0] == 1
    assert (load(tmp_path)["counts"]["PASS"], load(tmp_path)["counts"]["FAIL"]) == (0, 1)


def test_tests_elsewhere_keep_the_name_of_their_file(tmp_path: Path) -> None:
    """Ids, artifacts, JUnit and the line that repeats a test all name the file."""
    here = tmp_path / "here"
    here.mkdir()
    for name in ("one", "other"):
        (tmp_path / name).mkdir()
        (tmp_path / name / f"test_{name}.py").write_text(HEAD + VERDICTS["FAIL"])
    files = [str(tmp_path / name / f"test_{name}.py") for name in ("one", "other")]
    command = [sys.executable, "-m", "damon_tests.cli", "run", "--output", "run", *files]
    done = subprocess.run(command, cwd=here, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 1, done.stdout + done.stderr
    ids = [t["id"] for t in json.loads((here / "run" / "run.json").read_text())["tests"]]
    assert ids == ["one/test_one.py::test", "other/test_other.py::test"]
    cases = ET.parse(here / "run" / "junit.xml").findall(".//testcase")
    assert [case.get("classname") for case in cases] == ["one.test_one", "other.test_other"]
    for file in files:
        assert f" {file}::test" in done.stdout


@pytest.mark.parametrize("workers", [[], ["-n", "2"]])
def test_rerun_names_the_plugins_of_the_user_and_provenance_the_command(
    tmp_path: Path, workers: list[str]
) -> None:
    """A user's pytest plugin may bring fixtures; a worker's own command line is not what the user typed."""
    (tmp_path / "my_plugin.py").write_text("")
    (tmp_path / "known_defects.yaml").write_text(DEFECTS)
    (tmp_path / "test_it.py").write_text(HEAD + VERDICTS["FAIL"] + "\n")
    command = [sys.executable, "-m", "damon_tests.cli", "run", *workers, "--pytest=-p my_plugin -q"]
    done = subprocess.run(
        [*command, "--output", "run", "test_it.py"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1, done.stdout + done.stderr
    run = load(tmp_path)
    words = shlex.split(wording.rerun(run, run["tests"][0]))
    assert words[-2:] == ["--pytest=-p my_plugin", f"{tmp_path / 'test_it.py'}::test"]
    assert "run" in run["provenance"]["command"].split()
    assert "test_it.py" in run["provenance"]["command"].split()
