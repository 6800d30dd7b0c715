# SPDX-License-Identifier: GPL-2.0
"""From a test's checks to outcome, exit code and run.json, each in a pytest process of its own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from damon_tests.report import model

HEAD = """
import errno, os, signal
import pytest
from damon_tests.judge.verdict import Check, Measurement
from damon_tests.ports import HarnessError, NotSupported, TreeError

def check(holds):
    return Check("invariant", Measurement("regions", 7, "regions", (7.0,)), "<= 5", "because I12", holds)
"""

VERDICTS = {
    "PASS": "def test(expect):\n    expect.add(check(True))",
    "FAIL": "def test(expect):\n    expect.add(check(False))",
    "INCONCLUSIVE": "def test(expect):\n    expect.add(check(None))",
    "SKIP": "def test(expect):\n    raise NotSupported('no NUMA', remedy='boot with two nodes')",
    "ERROR": "def test(expect):\n    raise HarnessError('the engine died')",
    "XFAIL": "@pytest.mark.known_defect('too-many-regions')\ndef test(expect):\n    expect.add(check(False))",
    "XPASS": "@pytest.mark.known_defect('too-many-regions')\ndef test(expect):\n    expect.add(check(True))",
}
EXIT = {"PASS": 0, "FAIL": 1, "INCONCLUSIVE": 7, "SKIP": 5, "ERROR": 6, "XFAIL": 0, "XPASS": 1}


DEFECTS = """
- key: too-many-regions
  title: there are too many regions
  does: it keeps more regions than max_nr_regions
  releases: [{series: "7.3"}]
  evidence: this test
  kernels_only: false
  predicts: [{check: regions, at_most: 7}]
"""


def start(tmp_path: Path, body: str, *options: str) -> subprocess.Popen[str]:
    (tmp_path / "known_defects.yaml").write_text(DEFECTS)
    (tmp_path / "test_it.py").write_text(HEAD + body + "\n")
    command = [sys.executable, "-m", "pytest", "-p", "damon_tests.plugin", "-p", "no:cacheprovider"]
    command += [f"--rootdir={tmp_path}", "-c", os.devnull, "--output", str(tmp_path / "run"), *options]
    return subprocess.Popen(
        [*command, str(tmp_path / "test_it.py")],
        cwd=tmp_path,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )


def finish(process: subprocess.Popen[str]) -> tuple[int, str]:
    out, _ = process.communicate(timeout=300)
    return process.returncode, out


def load(tmp_path: Path) -> dict[str, Any]:
    run: dict[str, Any] = json.loads((tmp_path / "run" / "run.json").read_text())
    jsonschema.validate(run, model.schema())
    return run


@pytest.mark.parametrize("verdict", VERDICTS)
def test_verdict_and_exit_code(tmp_path: Path, verdict: str) -> None:
    code, out = finish(start(tmp_path, VERDICTS[verdict]))
    run = load(tmp_path)
    assert run["counts"][verdict] == 1, out
    assert run["tests"][0]["verdict"] == verdict
    assert code == EXIT[verdict], out


def test_test_that_a_defect_spoils_is_skipped_with_its_name(tmp_path: Path) -> None:
    body = "@pytest.mark.spoiled_by('too-many-regions')\ndef test(expect):\n    expect.add(check(False))"
    finish(start(tmp_path, body))
    (test,) = load(tmp_path)["tests"]
    assert test["verdict"] == "SKIP"
    assert "known defect too-many-regions (there are too many regions)" in test["reason"]


@pytest.mark.parametrize(("holds", "verdict"), [("True", "ERROR"), ("False", "FAIL")])
def test_broken_teardown_hides_no_violation(tmp_path: Path, holds: str, verdict: str) -> None:
    body = f"""
@pytest.fixture
def fragile():
    yield
    raise HarnessError("the guest is gone")

def test(fragile, expect):
    expect.add(check({holds}))
"""
    finish(start(tmp_path, body))
    assert load(tmp_path)["tests"][0]["verdict"] == verdict


COMPLAINING = """
from damon_tests.damon.params import DamonCtx
from damon_tests.experiment.reference_backend import ReferenceSubject

ReferenceSubject.splats = lambda self: ["BUG: spilt milk"]
"""
WAYS_TO_DAMON = {
    "subject": "def test(subject, expect):\n    expect.add(check(True))",
    "live": "def test(live, expect):\n    with live('idle', DamonCtx()) as run:\n        run.record(1)\n"
    "    expect.add(check(True))",
    "unrecorded": "def test(live, expect):\n    with live('idle', DamonCtx(), source='none'):\n"
    "        expect.add(check(True))",
    "broken off": "def test(live, expect):\n    with live('idle', DamonCtx(), source='none'):\n"
    "        raise HarnessError('no answer')",
}


@pytest.mark.parametrize("way", WAYS_TO_DAMON)
def test_a_kernel_that_complains_fails_every_test(tmp_path: Path, way: str) -> None:
    code, out = finish(start(tmp_path, COMPLAINING + WAYS_TO_DAMON[way]))
    assert code == 1, out
    assert "the kernel complained: BUG: spilt milk" in out


def test_worst_verdict_decides(tmp_path: Path) -> None:
    bodies = [VERDICTS[v].replace("def test(", f"def test_{v}(") for v in ("FAIL", "INCONCLUSIVE", "ERROR")]
    code, _ = finish(start(tmp_path, "\n\n".join(bodies)))
    assert code == 6


def test_require_turns_skips_into_failures(tmp_path: Path) -> None:
    code, out = finish(start(tmp_path, VERDICTS["SKIP"], "--require"))
    assert code == 1, out
    assert "no NUMA" in out
    assert "Skips fail this run: --require" in out
    assert "INTERNALERROR" not in out
    assert "Traceback" not in out


def test_test_without_checks_is_an_error(tmp_path: Path) -> None:
    code, out = finish(start(tmp_path, "def test(expect):\n    pass"))
    assert code == 6
    assert "checked nothing" in out


def test_summary_has_value_limit_and_reason(tmp_path: Path) -> None:
    _, out = finish(start(tmp_path, VERDICTS["FAIL"]))
    assert "because I12" in out
    assert "<= 5" in out


def test_missing_feature_is_named(tmp_path: Path) -> None:
    body = "@pytest.mark.needs('ops.nonsense')\ndef test(expect):\n    expect.add(check(True))"
    code, out = finish(start(tmp_path, body))
    assert code in (2, 5, 6)
    assert "ops.nonsense" in out


@pytest.mark.parametrize(
    ("option", "words"),
    [
        ("--kernel=reference:9.9", "unknown level '9.9'"),
        ("--kernel=/no/such/image", "/no/such/image"),
        ("--level=banana", "unknown level 'banana'"),
        ("--stop-modules", "--stop-modules needs --kernel host"),
        ("--fault=nonsense", "unknown fault 'nonsense'"),
        ("--output=test_it.py/run", "test_it.py is no directory"),
    ],
)
def test_bad_words_are_a_sentence_at_once(tmp_path: Path, option: str, words: str) -> None:
    """Before anything is collected, and before there are workers that would break."""
    code, out = finish(start(tmp_path, VERDICTS["PASS"], option, "-n", "2"))
    assert code == 2, out
    assert words in out
    assert len(out.splitlines()) == 1


@pytest.mark.parametrize("workers", ["0", "2"])
def test_kernel_that_cannot_be_opened_makes_every_test_an_error(tmp_path: Path, workers: str) -> None:
    (tmp_path / "conftest.py").write_text(
        "from damon_tests import pytest_run\n"
        "from damon_tests.ports import HarnessError\n"
        "def broken(*_):\n"
        "    raise HarnessError('QEMU ended at once')\n"
        "pytest_run.open_backend = broken\n"
    )
    body = "@pytest.mark.parametrize('n', range(30))\ndef test(expect, n):\n    expect.add(check(True))"
    code, out = finish(start(tmp_path, body, "-n", workers))
    assert code == 6, out
    assert "--kernel reference: QEMU ended at once" in out
    assert "Traceback" not in out
    run = load(tmp_path)
    assert {t["verdict"] for t in run["tests"]} == {"ERROR"}
    assert len(run["tests"]) == 30, "every selected test says why it could not run"
    assert len(ET.parse(tmp_path / "run" / "junit.xml").findall(".//error")) == 30
    assert not run["interrupted"]


@pytest.mark.parametrize("workers", ["0", "2"])
def test_a_run_that_stops_early_has_the_exit_code_of_its_verdicts(tmp_path: Path, workers: str) -> None:
    body = "@pytest.mark.parametrize('n', range(30))\ndef test(expect, n):\n    expect.add(check(n > 0))"
    code, out = finish(start(tmp_path, body, "-n", workers, "-x"))
    assert code == 1, out
    assert not load(tmp_path)["interrupted"]


def test_interrupted_run_keeps_its_results_and_says_so(tmp_path: Path) -> None:
    body = (
        VERDICTS["PASS"].replace("def test(", "def test_a(")
        + "\n\ndef test_b(expect):\n    expect.add(check(True))\n    os.kill(os.getpid(), signal.SIGINT)"
        + "\n\ndef test_c(expect):\n    expect.add(check(True))"
    )
    code, out = finish(start(tmp_path, body))
    assert code == 2, out
    run = load(tmp_path)
    assert run["interrupted"]
    assert [t["verdict"] for t in run["tests"]] == ["PASS", "ERROR"]
    assert "2 tests in" in out
    assert "interrupted" in out


@pytest.mark.parametrize("workers", ["0", "2"])
def test_full_disk_ends_the_run_with_a_sentence(tmp_path: Path, workers: str) -> None:
    """A limit on the size of files stands for the disk: the log of events reaches it."""
    body = """
import resource

@pytest.mark.parametrize('n', range(40))
def test(expect, n):
    resource.setrlimit(resource.RLIMIT_FSIZE, (4000, resource.RLIM_INFINITY))
    expect.add(check(True))
"""
    code, out = finish(start(tmp_path, body, "-n", workers))
    assert code == 6, out
    assert "results cannot be written to" in out
    assert "File too large" in out
    assert "INTERNALERROR" not in out
    assert "Traceback" not in out


def test_waiting_for_another_run_is_printed_at_once(tmp_path: Path) -> None:
    """Opening the kernel is a test's setup, whose output pytest keeps to itself."""
    (tmp_path / "conftest.py").write_text(
        "from damon_tests import pytest_run\n"
        "real = pytest_run.open_backend\n"
        "def waiting(request, run_dir, notify):\n"
        "    notify('waiting for pid 7')\n"
        "    return real(request, run_dir, notify)\n"
        "pytest_run.open_backend = waiting\n"
    )
    code, out = finish(start(tmp_path, VERDICTS["PASS"]))
    assert code == 0, out
    assert "damon-tests: waiting for pid 7\n" in out


@pytest.mark.parametrize("option", ["--fault=age_always_reset", "--kernel=reference:7.3+age_always_reset"])
def test_fault_is_noticed_and_named(tmp_path: Path, option: str) -> None:
    body = """
from damon_tests.damon.params import DamonAttrs, DamonCtx
from damon_tests.scenario.invariants import invariants

def test(experiment, expect):
    expect.add(invariants(experiment("hot_cold", DamonCtx(attrs=DamonAttrs()), seconds=1).observe()))
"""
    code, out = finish(start(tmp_path, body, option))
    assert code == 1, out
    assert load(tmp_path)["tests"][0]["backend"] == "reference:7.3+age_always_reset"


def test_harness_tests_are_left_alone(tmp_path: Path) -> None:
    code, _ = finish(start(tmp_path, "def test():\n    assert 1 == 2"))
    assert code == 1
    assert not (tmp_path / "run").exists()


def test_ordinary_failure_beside_good_verdicts_still_fails(tmp_path: Path) -> None:
    code, _ = finish(start(tmp_path, VERDICTS["PASS"] + "\n\ndef test_other():\n    assert 1 == 2"))
    assert code == 1


def test_workers_share_one_run(tmp_path: Path) -> None:
    body = "@pytest.mark.parametrize('n', range(6))\ndef test(expect, n):\n    expect.add(check(n != 3))"
    code, out = finish(start(tmp_path, body, "-n", "2"))
    run = load(tmp_path)
    assert (run["counts"]["PASS"], run["counts"]["FAIL"]) == (5, 1), out
    assert code == 1


def test_workers_agree_on_a_default_directory(tmp_path: Path) -> None:
    body = "@pytest.mark.parametrize('n', range(4))\ndef test(expect, n):\n    expect.add(check(True))"
    (tmp_path / "test_it.py").write_text(HEAD + body + "\n")
    command = [sys.executable, "-m", "damon_tests.cli", "run", "-n", "2", str(tmp_path / "test_it.py")]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    (run,) = (tmp_path / "damon-tests-runs").iterdir()
    assert json.loads((run / "run.json").read_text())["counts"]["PASS"] == 4


def test_too_many_workers_for_a_guest(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "damon_tests.cli", "run", "--kernel", "host", "-n", "2"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 2
    assert "at most 1" in done.stderr


def test_killed_run_keeps_what_was_measured(tmp_path: Path) -> None:
    body = (
        VERDICTS["FAIL"].replace("def test(", "def test_a(")
        + "\n\ndef test_b(expect):\n    expect.add(check(True))\n    signal.pause()"
    )
    process = start(tmp_path, body)
    events = tmp_path / "run" / "events.jsonl"
    deadline = time.monotonic() + 60
    while not (events.exists() and events.read_text().count('"check"') >= 4):
        assert time.monotonic() < deadline, "the second test never began"
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    finish(process)
    run = model.derive(tmp_path / "run")
    assert {t["id"].rpartition("::")[2]: t["verdict"] for t in run["tests"]} == {
        "test_a": "FAIL",
        "test_b": "ERROR",
    }
    assert run["tests"][0]["checks"][0]["measurement"]["samples"] == [7.0]


def test_main_job_on_the_reference(tmp_path: Path) -> None:
    """One real experiment: attempt, recording and raw samples are in the run's files."""
    body = """
from damon_tests.damon.params import DamonAttrs, DamonCtx
from damon_tests.scenario.invariants import invariants

def test(experiment, expect):
    expect.add(invariants(experiment("hot_cold", DamonCtx(attrs=DamonAttrs()), seconds=1).observe()))
"""
    code, out = finish(start(tmp_path, body))
    assert code == 0, out
    test = load(tmp_path)["tests"][0]
    assert test["level"] == "7.3"
    assert len(test["checks"]) > 10
    attempt = test["attempts"][0]
    assert attempt["seed"] > 0
    assert any(
        (tmp_path / "run" / a["path"]).is_file() for a in attempt["artifacts"] if a["kind"] == "recording"
    )


def test_what_the_machine_was_given_is_in_the_results(tmp_path: Path) -> None:
    body = "@pytest.mark.needs(swap_mib=64, numa_nodes=2)\ndef test(expect):\n    expect.add(check(True))"
    code, out = finish(start(tmp_path, body))
    assert code == 0, out
    names = [m["name"] for m in load(tmp_path)["tests"][0]["measurements"]]
    assert names == ["machine: 2 memory nodes", "machine: 64 MiB of swap"]


FAKE_BACKEND = """
from contextlib import contextmanager
from damon_tests import pytest_run
from damon_tests.damon.capability import Capabilities
from damon_tests.damon.features import FEATURES
from damon_tests.ports import MachineLost, NotSupported

class Fake:
    name, shows_all_accesses = "debian:9.9", True
    opened = 0

    @property
    def level(self):
        self.capabilities()
        raise AssertionError("a kernel whose DAMON is not known has no level")

    def capabilities(self):
        Fake.opened += 1
        assert Fake.opened == 1, "what did not work once is not tried again"
        {how}

    def provenance(self):
        return {{"release": "9.9.9"}}

@contextmanager
def fake(*_):
    yield Fake()

pytest_run.open_backend = fake
"""
CONSOLE = "Booting\\nKernel panic - not syncing: no root"
NO_BOOT = f"raise MachineLost('it did not come up (log: guest-x/console.log)', {CONSOLE!r})"
NO_DAMON = "return Capabilities(dict.fromkeys(FEATURES, False))"
WITHOUT = "raise NotSupported('the kernel 9.9.9 is built without DAMON', remedy='take another')"


@pytest.mark.parametrize("workers", ["0", "2"])
@pytest.mark.parametrize(
    ("how", "verdict", "code", "words"),
    [
        (NO_BOOT, "ERROR", 6, "it did not come up (log: guest-x/console.log)"),
        (NO_DAMON, "SKIP", 5, "this kernel has no DAMON: there is no /sys/kernel/mm/damon"),
        (WITHOUT, "SKIP", 5, "built without DAMON"),
    ],
)
def test_kernel_without_a_usable_damon_is_one_reason_for_all_tests(
    tmp_path: Path, how: str, verdict: str, code: int, words: str, workers: str
) -> None:
    """It is opened once, each test has the verdict, and every file of the run says why."""
    (tmp_path / "conftest.py").write_text(FAKE_BACKEND.format(how=how))
    body = "@pytest.mark.parametrize('n', range(6))\ndef test(expect, n):\n    expect.add(check(True))"
    ended, out = finish(start(tmp_path, body, "-n", workers))
    assert ended == code, out
    assert "INTERNALERROR" not in out
    assert "Traceback" not in out
    run = load(tmp_path)
    assert [t["verdict"] for t in run["tests"]] == [verdict] * 6
    assert all(words in t["reason"] for t in run["tests"])
    said = ET.parse(tmp_path / "run" / "junit.xml").findall(".//testcase/*[@message]")
    assert len(said) == 6
    assert all(words in str(element.get("message")) for element in said)
    logs = [(tmp_path / "run" / a["path"]).read_text() for a in run["artifacts"] if a["kind"] == "log"]
    assert all("Kernel panic" in log for log in logs)
    assert bool(logs) == (verdict == "ERROR")
