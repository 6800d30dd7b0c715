# SPDX-License-Identifier: GPL-2.0
"""What a run shows while it lasts: failures at once, where it stands, an estimate."""

from __future__ import annotations

import io
import time
from pathlib import Path

import pytest
from rich.console import Console

from damon_tests.judge.verdict import Check, Measurement, Verdict
from damon_tests.report import progress
from damon_tests.report.events import RunLog
from damon_tests.report.progress import Progress

BACKEND = ("reference:7.3", "7.3")


def end(log: RunLog, name: str, verdict: Verdict) -> None:
    log.test_started(name, *BACKEND)
    if verdict is Verdict.FAIL:
        log.check(name, Check("invariant", Measurement("size", 7, "bytes"), "<= 5", "it is small", False))
    log.test_finished(name, *BACKEND, verdict, "size = 7 bytes", 0.1)


def shown(tmp_path: Path, *, terminal: bool = False, verbosity: int = 0) -> tuple[str, Progress]:
    out = io.StringIO()
    followed = Progress(
        tmp_path, Console(file=out, force_terminal=terminal, width=100, markup=False), verbosity=verbosity
    )
    followed.start()
    followed.expect(5)
    with RunLog(tmp_path) as log:
        log.run_started({"seed": 1})
        for name, verdict in (("a", Verdict.PASS), ("b", Verdict.FAIL), ("c", Verdict.SKIP)):
            end(log, f"t.py::{name}", verdict)
        log.test_started("t.py::running", *BACKEND)
        time.sleep(0.6)
        followed.stop()
    return out.getvalue(), followed


def test_failure_is_printed_with_its_reason_and_how_to_repeat_it(tmp_path: Path) -> None:
    text, _ = shown(tmp_path)
    assert text.splitlines() == [
        "FAIL  t.py::b",
        "  size = 7 bytes",
        "  expected  <= 5",
        "  because   it is small  [invariant]",
        "  rerun     damon-tests run --kernel=reference:7.3 --seed=1 t.py::b",
    ]


def test_verbosity_means_a_line_for_each_test_or_nothing(tmp_path: Path) -> None:
    (tmp_path / "v").mkdir()
    assert "PASS  t.py::a  100 ms" in shown(tmp_path / "v", verbosity=1)[0]
    (tmp_path / "q").mkdir()
    assert shown(tmp_path / "q", verbosity=-1)[0] == ""


def test_terminal_shows_what_runs_and_where_it_stands(tmp_path: Path) -> None:
    text, _ = shown(tmp_path, terminal=True)
    assert "3 of 5 tests · FAIL 1 · SKIP 1 · PASS 1" in text
    assert "left" in text
    assert "t.py::running" in text


def test_log_of_a_ci_gets_a_line_now_and_then(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "PLAIN_EVERY_S", 0.1)
    text, _ = shown(tmp_path)
    assert "3 of 5 tests · FAIL 1 · SKIP 1 · PASS 1" in text
    assert "· now t.py::running" in text
