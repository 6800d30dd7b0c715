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
    ids = [line for line in capsys.readouterr().out.splitlines() if "::" in line]
    assert [line.rpartition("::")[2] for line in ids] == ["test_this"]
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


# Everything here is refused with a sentence, before any work is done.
BAD = [
    ["run", "--output", ""],
    ["run", "--output", "file/below"],
    ["run", "--output", "/proc/nothing"],
    ["run", "--output", "used"],
    ["run", "--kernel", ""],
    ["run", "--kernel", "directory"],
    ["run", "--kernel", "file"],
    ["run", "--kernel", "debian:"],
    ["run", "--kernel", "reference:9.9"],
    ["run", "--level", "99.0"],
    ["run", "--seed", "many"],
    ["run", "--profile", "slow"],
    ["run", "--fault", "nonsense"],
    ["run", "-n", "-1"],
    ["run", "-n", "100000"],
    ["run", "--keep-guest"],
    ["run", "no/such/test.py"],
    ["run", ""],
    ["run", "--pytest=-k '"],
    ["run", "--pytest=--first nothing"],
    ["report", "nothing"],
    ["report", "file"],
    ["report", "directory"],
    ["report", "used", "--html", ""],
    ["report", "used", "--junit", "no/such/junit.xml"],
    ["report", "used", "--json", "directory"],
    ["report", "used", "nothing_like_it"],
    ["recording", "show", "nothing"],
    ["recording", "show", "directory"],
    ["recording", "show", "file"],
    ["recording", "show", "file", "--width", "0"],
    ["recording", "export", "file", "--to", "damo", ""],
    ["recording", "judge", "file", "--ops", "bogus"],
    ["recording", "judge", "file", "--nr-regions", "5", "2"],
    ["recording", "judge", "file", "--intervals", "0", "5"],
    ["vm", "--kernel", "reference"],
    ["vm", "--kernel", "host"],
    ["vm", "--kernel", "file"],
    ["vm", "--kernel", "debian:7.3", "--memory", "much"],
    ["monitor", "--reference", "999999999"],
    ["monitor", "--reference", "nothing_like_it"],
    ["monitor", "--reference", "hot_cold", "--level", "1.0"],
    ["monitor", "--reference", "hot_cold", "--record", ""],
    ["monitor", "--reference", "hot_cold", "--record", "no/such/file"],
    ["workload", "nothing_like_it"],
    ["workload", "directory"],
    ["workload", "file"],
    ["workload", "hot_cold", "--seconds", "1e99"],
    ["faults", "nothing_like_it"],
    ["faults", "--area", ""],
    ["faults", "--run", "--output", ""],
    ["faults", "--run", "--suite", "no/such"],
    ["false-alarms", "--output", ""],
    ["false-alarms", "--runs", "0"],
    ["false-alarms", "no/such"],
    ["serve", "--at", "no/such"],
    ["nonsense"],
    [],
]


@pytest.mark.parametrize("argv", BAD, ids=" ".join)
def test_bad_input_is_a_sentence_and_a_documented_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], argv: list[str]
) -> None:
    (tmp_path / "directory").mkdir()
    (tmp_path / "file").write_bytes(b"no format that anybody knows")
    with RunLog(tmp_path / "used") as log:
        log.run_started({})
        log.run_finished()
    monkeypatch.chdir(tmp_path)
    try:
        code = cli.main(argv)
    except SystemExit as ended:
        code = int(ended.code or 0)
    out, err = capfd.readouterr()
    assert code == 2, out + err
    assert "Traceback" not in out + err
    last = [line for line in (err or out).splitlines() if line][-1]
    assert len(last.split()) >= 4, last
    assert sorted(p.name for p in tmp_path.iterdir()) == ["directory", "file", "used"]


def test_closed_standard_output_and_reader_that_goes_away_are_no_failure(tmp_path: Path) -> None:
    (tmp_path / "test_it.py").write_text("def test_it(): pass\n")
    program = f"{sys.executable} -m damon_tests.cli"
    for command in (
        f"{program} run test_it.py >&-",
        f"{program} run test_it.py | true; exit ${{PIPESTATUS[0]}}",
    ):
        done = subprocess.run(
            ["bash", "-c", command], cwd=tmp_path, capture_output=True, text=True, check=False
        )
        assert (done.returncode, done.stderr) == (0, ""), command
    done = subprocess.run(
        ["bash", "-c", f"{program} doctor | true; exit ${{PIPESTATUS[0]}}"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode in (0, 2)
    assert done.stderr == ""
