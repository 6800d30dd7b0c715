# SPDX-License-Identifier: GPL-2.0
"""The command line: what it refuses, in which words, and with which exit code."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from damon_tests import cli
from damon_tests.report.events import RunLog


def refused(capsys: pytest.CaptureFixture[str], *argv: str) -> str:
    """What is said about arguments that cannot be understood."""
    with pytest.raises(SystemExit) as ended:
        cli.main(argv)
    assert ended.value.code == 2
    return capsys.readouterr().err


@pytest.mark.parametrize("command", ["run", "doctor", "faults", "false-alarms"])
def test_unknown_option_shows_the_usage_of_its_command(
    capsys: pytest.CaptureFixture[str], command: str
) -> None:
    said = refused(capsys, command, "--nonsense")
    assert said.startswith(f"usage: damon-tests {command} ")
    assert "unrecognized arguments: --nonsense" in said
    assert ("--pytest=" in said.splitlines()[-1]) == (command == "run")


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["run", "-n", "many"], "'many' is neither a number nor auto"),
        (["faults", "--run", "-n", "0"], "0 is not 1 or more"),
        (["vm", "--kernel", "debian:7.3", "--cpus", "-2"], "-2 is not 1 or more"),
        (["monitor", "--reference", "hot_cold", "--seconds", "0"], "0 is no time"),
        (["workload", "hot_cold", "--seconds", "nan"], "nan is no time"),
        (["workload", "hot_cold", "--seconds", "soon"], "invalid number value: 'soon'"),
        (["false-alarms", "--minutes", "inf"], "inf is no time"),
    ],
)
def test_numbers_that_make_no_sense(capsys: pytest.CaptureFixture[str], argv: list[str], words: str) -> None:
    assert words in refused(capsys, *argv).splitlines()[-1]


@pytest.mark.parametrize(
    ("name", "code", "words"),
    [
        ("no/such/page.html", 2, "No such file or directory"),
        ("", 2, "Is a directory"),
        ("/dev/full", 6, "No space left on device"),
    ],
)
def test_file_that_cannot_be_written_is_a_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, code: int, words: str
) -> None:
    pytest.importorskip("jinja2")
    with RunLog(tmp_path / "run") as log:
        log.run_started({})
        log.run_finished()
    argv = ["report", str(tmp_path / "run"), "--html", str(tmp_path / name)]
    assert cli.main(argv) == code
    said = capsys.readouterr().err
    assert said.startswith("damon-tests: ")
    assert words in said


def test_options_of_pytest_are_taken_apart_as_by_a_shell(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "test_it.py").write_text("def test_this(): pass\ndef test_that(): pass\n")
    common = ["run", f"--output={tmp_path / 'run'}", str(tmp_path / "test_it.py")]
    assert cli.main([*common, "--pytest=--collect-only -q -k 'this or these'"]) == 0
    found = [line for line in capsys.readouterr().out.splitlines() if "::" in line]
    assert [line.rpartition("::")[2] for line in found] == ["test_this"]
    assert cli.main([*common, "--pytest=-k 'this"]) == 2
    assert "No closing quotation" in capsys.readouterr().err


def test_terminal_without_unicode_gets_what_it_can_show() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "damon_tests.cli", "--help"],
        env={**os.environ, "PYTHONIOENCODING": "ascii"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "0 good . 1 FAIL" in done.stdout
