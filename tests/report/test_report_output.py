# SPDX-License-Identifier: GPL-2.0
"""Text reaches terminals of other encodings, colours only those that have them."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from pathlib import Path

import pytest
from synthetic_recordings import hot_cold

from damon_tests.damon import recording_file
from damon_tests.judge.monitoring.aggregation_windows import windows
from damon_tests.judge.monitoring.true_rates import spans_of
from damon_tests.report import output


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("environment", "colours"),
    [({}, True), ({"NO_COLOR": ""}, True), ({"NO_COLOR": "1"}, False), ({"TERM": "dumb"}, False)],
)
def test_colours_follow_terminal_and_environment(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], colours: bool
) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert output.colored(Terminal()) is colours
    assert not output.colored(io.StringIO())


def test_a_heat_map_keeps_its_shape_in_ascii(tmp_path: Path) -> None:
    truth, _, report = hot_cold(aggregations=20)
    recording_file.save(tmp_path / "r.npz", report, spans_of(truth, windows(report), report))
    command = [sys.executable, "-m", "damon_tests.cli", "recording", "show", str(tmp_path / "r.npz")]

    def shown(encoding: str) -> list[str]:
        environment = dict(os.environ, PYTHONIOENCODING=encoding, PYTHONUTF8="0", COLUMNS="120")
        done = subprocess.run(command, capture_output=True, check=True, env=environment)
        return done.stdout.decode(encoding).splitlines()

    plain, full = shown("ascii"), shown("utf-8")
    assert [len(line) for line in plain] == [len(line) for line in full]
    assert sum(line.count("|") for line in plain) == sum(line.count("│") for line in full) > 100
    assert sum("#" in line for line in plain) > 2
