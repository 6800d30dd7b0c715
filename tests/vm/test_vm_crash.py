# SPDX-License-Identifier: GPL-2.0
"""A guest that dies during a test fails that test, with the log attached; the run goes on."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.vm

BODY = """
from damon_tests.damon.params import DamonAttrs, DamonCtx
from damon_tests.scenario.invariants import invariants
from damon_tests.judge.verdict import Check, Measurement
from damon_tests.ports import FileOp

GOOD = Check("invariant", Measurement("answers", 1, "count"), ">= 1", "the guest answers", True)

def test_panic(subject, expect):
    subject.machine.write_file("/proc/sysrq-trigger", b"c")
    subject.tree.read("/sys/kernel/mm/damon/admin/kdamonds/nr_kdamonds")

def test_panic_while_recording(experiment, expect, monkeypatch):
    from damon_tests.damon.session import Session
    from damon_tests.experiment.machine_backend import MachineSubject
    record, start, machines = Session.record, MachineSubject.start_target, []
    def remember(self, *args):
        machines.append(self.machine)
        return start(self, *args)
    def dying(self, duration_ns=None, *args, **kwargs):
        record(self, duration_ns, *args, **kwargs)
        machines[0].write_file("/proc/sysrq-trigger", b"c")
        record(self, duration_ns, *args, **kwargs)
        return True
    monkeypatch.setattr(MachineSubject, "start_target", remember)
    monkeypatch.setattr(Session, "record", dying)
    experiment("hot_cold", DamonCtx(attrs=DamonAttrs()), seconds=1).observe()

def test_next_is_not_harmed(experiment, expect):
    expect.add(invariants(experiment("hot_cold", DamonCtx(attrs=DamonAttrs()), seconds=1).observe()))
"""


def test_panics_of_guests_are_reported_as_failures(tmp_path: Path) -> None:
    (tmp_path / "test_it.py").write_text(BODY)
    command = [sys.executable, "-m", "pytest", "-p", "damon_tests.plugin", "-p", "no:cacheprovider"]
    command += ["-c", os.devnull, f"--rootdir={tmp_path}", "--kernel=debian:newest", "--output=run"]
    done = subprocess.run(
        [*command, "test_it.py"], cwd=tmp_path, capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == 1, done.stdout + done.stderr
    run = json.loads((tmp_path / "run" / "run.json").read_text())
    tests = {t["id"].rpartition("::")[2]: t for t in run["tests"]}
    assert tests["test_next_is_not_harmed"]["verdict"] == "PASS"
    for name in ("test_panic", "test_panic_while_recording"):
        assert tests[name]["verdict"] == "FAIL", tests[name]["reason"]
        assert "panic" in tests[name]["reason"]
        logs = [a["path"] for t in tests[name]["attempts"] for a in t["artifacts"] if a["kind"] == "log"]
        assert "sysrq triggered crash" in (tmp_path / "run" / logs[0]).read_text()
    kept = [a["kind"] for t in tests["test_panic_while_recording"]["attempts"] for a in t["artifacts"]]
    assert "recording" in kept, "what was recorded before the crash must come back"
