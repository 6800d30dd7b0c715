# SPDX-License-Identifier: GPL-2.0
"""Bad values of every option of every command: a sentence and the documented exit code, no traceback."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import pytest

from damon_tests import cli
from damon_tests.arguments import parser
from damon_tests.report.events import RunLog

HUGE = "9" * 400
LONG = "x" * 300

# What makes each command complete, so that only the option that is tried is wrong.
VALID = {
    "run": ["test_it.py"],
    "gate": ["--kernel", "reference"],
    "vm": ["--kernel", "debian:7.3"],
    "serve": ["--at", "directory"],
    "monitor": ["--reference", "hot_cold", "--seconds", "1"],
    "workload": ["hot_cold", "--seconds", "1"],
    "doctor": [],
    "false-alarms": ["test_it.py"],
    "faults": ["--run", "merge_threshold_half"],
    "defects": [],
    "new-test": [],
    "report": ["used"],
    "recording show": ["recording.txt"],
    "recording compare": ["recording.txt", "recording.txt"],
    "recording export": ["recording.txt", "--to", "damo", "out"],
    "recording import": ["recording.txt", "out"],
    "recording judge": ["recording.txt", "--level", "7.3", "--intervals", "5000", "100000"],
    "bench": [],
    "build": ["--tree", "directory"],
    "kunit": ["--kernel", "debian:7.3"],
    "bisect": ["--tree", "directory", "--good", "a", "--bad", "b"],
    "explore": ["hot_cold"],
    "savings": ["reclaim"],
    "truth": ["--program", "redis"],
    "kselftest": ["--kernel", "debian:7.3"],
    "kselftest-install": ["out"],
    "compare": ["directory", "directory"],
    "history": ["--file", "nothing"],
}

NUMBERS = ["", "many", "-1", "0", "1.5x", HUGE]
OUTPUTS = ["", "no/such/file", "directory", "/proc/nothing", LONG]
OUTPUT_DIRECTORIES = ["", "file", "file/below", "/proc/nothing", LONG]
INPUTS = ["", "nothing", "directory", "file", "unreadable", LONG]
LEVELS = ["", "9.9", "7", "banana", LONG]
KERNELS = ["", " ", "directory", "file", "nothing", "/dev/null", "debian:", "debian:x", "reference:", LONG]
TESTS = ["", "nothing", "nothing.py::test", LONG]

# By command and option (or name of the argument): values that are refused.
BAD: dict[tuple[str, str], list[str]] = {
    ("run", "paths"): TESTS,
    ("run", "--kernel"): [*KERNELS, "reference:9.9", "reference+", "reference+nothing"],
    ("run", "--level"): LEVELS,
    ("run", "--output"): OUTPUT_DIRECTORIES,
    ("run", "--seed"): ["", "many", "1.5"],
    ("run", "--fault"): ["", "nothing", LONG],
    ("run", "--budgets"): INPUTS,
    ("run", "--append"): ["quiet"],  # the reference is no guest
    ("run", "--memory"): ["", "much", "-1G", "2G", HUGE[:60]],
    ("run", "--cpus"): [*NUMBERS, "2"],
    ("run", "--numa"): [*NUMBERS, "2"],
    ("run", "--shard"): ["", "1", "0/3", "4/3", "a/b", "1/2/3", f"1/{HUGE}x"],
    ("run", "--ktap"): OUTPUTS,
    ("run", "-n"): ["", "many", "-1", HUGE],
    ("run", "--pytest"): ["-k '", "--nonsense", "--first nothing"],
    ("gate", "--kernel"): KERNELS,
    ("gate", "--baseline"): ["", "nothing", "directory", LONG],
    ("gate", "--select"): TESTS,
    ("gate", "--output"): OUTPUT_DIRECTORIES,
    ("gate", "--seed"): ["", "many"],
    ("gate", "--shard"): ["", "1", "4/3"],
    ("gate", "--append"): ["quiet"],
    ("gate", "--memory"): ["", "much", "-1G", "2G", HUGE[:60]],
    ("gate", "--cpus"): [*NUMBERS, "2"],
    ("gate", "--numa"): [*NUMBERS, "2"],
    ("gate", "-j"): NUMBERS[:-1],
    ("gate", "-n"): ["", "many", "-1", HUGE],
    ("vm", "--kernel"): [*KERNELS[:-2], "reference", "host", LONG],
    ("vm", "--memory"): ["", "much", "-1G", "1", HUGE[:60]],
    ("vm", "--cpus"): NUMBERS,
    ("vm", "--numa"): NUMBERS,
    ("serve", "--level"): LEVELS,
    ("serve", "--seed"): ["", "many"],
    ("serve", "--at"): ["", "nothing", "file", LONG],
    ("monitor", "--reference"): ["", "nothing", "999999999", "-1", "directory", "file", LONG],
    ("monitor", "--play"): INPUTS,
    ("monitor", "--speed"): [*NUMBERS, "nan", "inf"],
    ("monitor", "--level"): LEVELS,
    ("monitor", "--operations"): ["", "nothing"],
    ("monitor", "--seconds"): [*NUMBERS, "nan", "inf"],
    ("monitor", "--record"): OUTPUTS,
    ("monitor", "--seed"): ["", "many"],
    ("workload", "pattern"): INPUTS,
    ("workload", "--seconds"): [*NUMBERS, "nan", "inf"],
    ("workload", "--seed"): ["", "many"],
    ("workload", "--times"): NUMBERS[:-1],
    ("false-alarms", "paths"): TESTS,
    ("false-alarms", "--runs"): NUMBERS[:-1],
    ("false-alarms", "--rounds"): NUMBERS[:-1],
    ("false-alarms", "--minutes"): [*NUMBERS, "nan", "inf"],
    ("false-alarms", "--kernel"): KERNELS,
    ("false-alarms", "--first-seed"): ["", "many"],
    ("false-alarms", "--output"): OUTPUT_DIRECTORIES,
    ("faults", "names"): ["", "nothing", LONG],
    ("faults", "--area"): ["", "nothing"],
    ("faults", "--suite"): TESTS,
    ("faults", "--output"): OUTPUT_DIRECTORIES,
    ("faults", "-n"): NUMBERS[:-1],
    ("defects", "--kernel"): ["", "nothing", "9.9.9.9", "directory", LONG],
    ("new-test", "name"): ["", "no/such/place", "1st", "two words", LONG],
    ("report", "directory"): INPUTS,
    ("report", "test"): ["nothing_like_it", LONG],
    ("report", "--mail"): ["nothing_like_it"],
    ("report", "--github"): ["nothing_like_it"],
    ("report", "--tree"): ["", "nothing", "directory"],
    ("report", "--bisection"): ["", "nothing", "directory"],
    ("report", "--regzbot"): ["v7.2", "v7.2 to v7.3"],
    ("report", "--html"): OUTPUTS,
    ("report", "--junit"): OUTPUTS,
    ("report", "--json"): OUTPUTS,
    ("report", "--ktap"): OUTPUTS,
    ("report", "--merge"): ["", "nothing", "directory", "file"],
    ("recording show", "file"): INPUTS,
    ("recording show", "--select"): ["", "many", "-1", "5", HUGE],
    ("recording show", "--png"): [*OUTPUTS, "picture.bmp", "picture"],
    ("recording show", "--width"): NUMBERS,
    ("recording show", "--target"): ["", "many", "-1", "5", HUGE],
    ("recording compare", "file"): INPUTS,
    ("recording compare", "other"): INPUTS,
    ("recording compare", "--png"): [*OUTPUTS, "picture.bmp", "picture"],
    ("recording compare", "--width"): NUMBERS,
    ("recording compare", "--target"): ["", "many", "-1", "5", HUGE],
    ("recording export", "file"): INPUTS,
    ("recording export", "out"): OUTPUTS,
    ("recording import", "file"): INPUTS,
    ("recording import", "--select"): ["", "many", "-1", "5", HUGE],
    ("recording import", "--intervals"): NUMBERS,
    ("recording import", "out"): OUTPUTS,
    ("recording judge", "file"): INPUTS,
    ("recording judge", "--select"): ["", "many", "-1", "5", HUGE],
    ("recording judge", "--intervals"): NUMBERS,
    ("recording judge", "--level"): LEVELS,
    ("recording judge", "--nr-regions"): NUMBERS,
    ("bench", "names"): ["", "nothing"],
    ("bench", "--kernel"): ["", "reference", "directory", "file", "nothing", "debian:", LONG],
    ("bench", "--output"): OUTPUT_DIRECTORIES,
    ("bench", "--seed"): ["", "many"],
    ("bench", "--history"): ["", "no/such/file", "directory"],
    ("bench", "--show"): ["", "nothing", "directory", "file", "used"],
    ("compare", "before"): ["", "nothing", "directory", "file", "used"],
    ("compare", "after"): ["", "nothing", "directory", "file", "used"],
    ("compare", "--flames"): ["", "file"],
    ("compare", "--seed"): ["", "many"],
    ("history", "metric"): ["nothing"],
    ("history", "--file"): ["", "nothing", "directory", "file"],
    ("history", "--plot"): ["", "no/such/file.png", "picture.bmp"],
}

BAD |= {
    ("gate", "--tree"): ["nothing", "directory", "file", LONG],
    ("gate", "--rev"): ["a..b"],  # goes with --tree
    ("build", "--tree"): ["nothing", "directory", "file", LONG],
    ("build", "--build-jobs"): NUMBERS,
    ("kunit", "--tree"): ["nothing", "directory"],
    ("kunit", "--kernel"): ["", "reference", "host", "directory", "nothing", "debian:", LONG],
    ("kunit", "--output"): ["", "file"],
    ("bisect", "--tree"): ["nothing", "directory", "file"],
    ("bisect", "--select"): TESTS,
    ("bisect", "--limit"): ["", "many"],
    ("bisect", "--output"): OUTPUT_DIRECTORIES,
    ("explore", "pattern"): INPUTS,
    ("explore", "--kernel"): ["", "directory", "nothing", "reference:", LONG],
    ("explore", "--sample-ms"): ["", "many", "0", "-1", "nan"],
    ("explore", "--regions"): NUMBERS,
    ("explore", "--seconds"): ["", "many", "0", "-1", "nan", "inf"],
    ("explore", "--attempts"): NUMBERS,
    ("explore", "--json"): OUTPUTS,
    ("explore", "--picture"): OUTPUTS,
    ("savings", "uses"): ["", "nothing", "RECLAIM", LONG],
    ("savings", "--kernel"): ["", "directory", "nothing", "reference", "host", "debian:", LONG],
    ("savings", "--workload"): INPUTS,
    ("savings", "--repeats"): NUMBERS,
    ("savings", "--settle"): ["", "many", "0", "-1", "nan", "inf"],
    ("savings", "--seconds"): ["", "many", "0", "-1", "nan", "inf"],
    ("savings", "--json"): OUTPUTS,
    ("savings", "--beside"): INPUTS,
    ("savings", "--show"): INPUTS,
    ("savings", "--picture"): [*OUTPUTS, "picture.gif"],
    ("truth", "--program"): ["", "nothing", "file", LONG],
    ("truth", "--package"): ["sqlite3"],  # goes with a command
    ("truth", "--kernel"): ["", "host", "reference", "directory", "nothing", "debian:", LONG],
    ("truth", "--warm"): ["", "many", "0", "-1", "nan"],
    ("truth", "--seconds"): ["", "many", "0", "-1", "nan", "inf"],
    ("truth", "--sample-ms"): ["", "many", "0", "-1", "nan", "1000"],
    ("truth", "--aggr-ms"): ["", "many", "0", "-1", "nan", "1"],
    ("truth", "--regions"): [*NUMBERS, "9"],
    ("truth", "--goal-bp"): NUMBERS,
    ("truth", "--output"): OUTPUT_DIRECTORIES,
    ("kselftest", "--kernel"): ["", "directory", "nothing", "debian:", LONG],
    ("kselftest", "--timeout"): ["", "many", "0", "-1"],
    ("kselftest", "--output"): OUTPUT_DIRECTORIES,
}

BAD |= {
    ("run", "--allow-skips"): INPUTS,
    ("run", "--budget"): ["", "many", "0", "-1", "nan", "inf"],
    ("gate", "--config"): ["guest"],  # goes with --tree
    ("gate", "--build-jobs"): NUMBERS,
    ("gate", "--base"): ["v7.2"],  # goes with --tree
    ("gate", "--selftests"): ["directory", "nothing", LONG],
    ("build", "--config"): ["nothing", "directory", LONG],
    ("build", "--rev"): ["nothing", LONG],
    ("kunit", "--config"): ["guest"],  # goes with --tree
    ("kunit", "--build-jobs"): NUMBERS,
    ("bisect", "--config"): ["nothing", "directory", LONG],
    ("bisect", "--build-jobs"): NUMBERS,
    ("bisect", "--good"): ["", "nothing", LONG],
    ("bisect", "--bad"): ["", "nothing", LONG],
    ("bisect", "--test"): TESTS,
    ("bisect", "--metric"): ["", "nothing", LONG],
    ("bisect", "--seed"): ["", "many"],
    ("monitor", "target"): ["", "nothing", "999999999", "directory", "file", LONG],
    ("monitor", "--kernel"): [*KERNELS, "host", "debian:7.3"],  # goes with TARGET, not with --reference
    ("defects", "--findings"): ["", "nothing", "directory", "file"],
    ("report", "--failed"): ["nothing_like_it", LONG],
    ("report", "--figures"): ["nothing_like_it", LONG],
    ("report", "--matrix"): ["nothing_like_it", LONG],
    ("report", "--tap"): OUTPUTS,
    ("report", "--kcidb"): OUTPUTS,
    ("report", "--png"): OUTPUT_DIRECTORIES,
    ("report", "--svg"): OUTPUT_DIRECTORIES,
    ("explore", "--goals-bp"): NUMBERS,
    ("explore", "--hot"): ["", "many", "0", "-1", "nan", "2"],
    ("explore", "--hot-ms"): ["", "many", "0", "-1", "nan", "inf"],
    ("explore", "--seed"): ["", "many"],
    ("savings", "--seed"): ["", "many"],
    ("truth", "--seed"): ["", "many"],
    ("kselftest", "tests"): ["", "nothing_like_it", LONG],
    ("kselftest", "--source"): ["", "nothing", "directory", "file"],
    ("kselftest", "--baseline"): ["", "nothing", "directory", "file"],
    ("kselftest-install", "directory"): ["", "file", "file/below", "/proc/nothing", LONG],
    ("kselftest-install", "--kernel"): ["", "directory", "nothing", "debian:", LONG],
}

# Any value may be right: a command of the user, or text that others judge.
FREE = {
    ("vm", "command"): "a command of the user",
    ("serve", "--exec"): "a command of the user",
    ("truth", "words"): "a command of the user",
    ("vm", "--append"): "the kernel judges its parameters",
    ("kunit", "--append"): "the kernel judges its parameters",
    ("report", "--kcidb-build"): "KCIDB names its builds",
}


def options() -> Iterator[tuple[str, str, argparse.Action]]:
    """Yield the command, the name and the definition of each option that takes a value."""

    def walk(command: argparse.ArgumentParser, name: str) -> Iterator[tuple[str, str, argparse.Action]]:
        for action in command._actions:
            if isinstance(action, argparse._SubParsersAction):
                for word, below in action.choices.items():
                    yield from walk(below, f"{name} {word}".strip())
            elif action.nargs != 0 and name:
                yield name, (action.option_strings or [action.dest])[0], action

    yield from walk(parser(), "")


def cases() -> Iterator[tuple[str, str, str]]:
    for command, option, action in options():
        values = BAD.get((command, option), [])
        yield from (
            (command, option, value) for value in values or (["", "nonsense"] if action.choices else ())
        )


def test_every_option_has_bad_values() -> None:
    """An option that is new needs a row in BAD, unless its choices are listed or any value may be right."""
    without = [
        f"{command} {option}"
        for command, option, action in options()
        if not action.choices and (command, option) not in BAD | FREE
    ]
    assert without == []
    known = {(command, option) for command, option, _ in options()}
    assert sorted((BAD | FREE).keys() - known) == []


def command_line(command: str, option: str, value: str, action: argparse.Action) -> list[str]:
    """Return a complete command line in which only this option is wrong."""
    valid = [] if option == "--play" else list(VALID.get(command, []))
    if action.option_strings:
        if option in valid:
            at = valid.index(option)
            del valid[at : at + 1 + (action.nargs if isinstance(action.nargs, int) else 1)]
        if action.nargs == 2:
            return [*command.split(), *valid, option, value, "5000"]
        return [
            *command.split(),
            *valid,
            f"{option}={value}" if option.startswith("--") else f"{option}{value}",
        ]
    positional = [a.dest for c, _, a in options() if c == command and not a.option_strings]
    at = positional.index(action.dest)
    if at < len(valid) and not valid[at].startswith("-"):
        valid[at] = value
    else:
        valid.append(value)
    return [*command.split(), *valid]


ACTIONS = {(command, option): action for command, option, action in options()}


def name_of(case: tuple[str, str, str]) -> str:
    command, option, value = case
    return f"{command} {option} {value[:20]!r}"


@pytest.fixture
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory with one of everything that can be named by mistake."""
    (tmp_path / "directory").mkdir()
    (tmp_path / "file").write_bytes(b"no format that anybody knows")
    (tmp_path / "unreadable").symlink_to("unreadable")
    (tmp_path / "test_it.py").write_text("def test_it(): pass\n")
    line = "kdamond.0 77 [000] {}.0: damon:damon_aggregated: target_id=0 nr_regions=1 4096-8192: 1 1\n"
    (tmp_path / "recording.txt").write_text(line.format(1) + line.format(2))
    with RunLog(tmp_path / "used") as log:
        log.run_started({})
        log.run_finished()
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("case", list(cases()), ids=name_of)
def test_bad_value_is_a_sentence_and_a_documented_code(
    directory: Path, capfd: pytest.CaptureFixture[str], case: tuple[str, str, str]
) -> None:
    command, option, value = case
    before = sorted(p.name for p in directory.iterdir())
    try:
        code = cli.main(command_line(command, option, value, ACTIONS[command, option]))
    except SystemExit as ended:
        code = int(ended.code or 0)
    out, err = capfd.readouterr()
    assert code == 2, out + err
    assert "Traceback" not in out + err
    said = [line for line in (err or out).splitlines() if not line.startswith(("usage:", " "))]
    assert max(len(line.split()) for line in said) >= 4, said
    assert sorted(p.name for p in directory.iterdir()) == before
