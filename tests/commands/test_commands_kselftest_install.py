# SPDX-License-Identifier: GPL-2.0
"""``damon-tests kselftest-install``: what kselftest runs, with its KTAP and its exit codes."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from damon_tests.commands import kselftest_install
from damon_tests.kernel import ktap
from damon_tests.ports import UsageError

# Takes the place of damon-tests: writes the KTAP that it is given, and exits with $CODE.
FAKE = """#!/bin/sh
echo "monitoring: 3 tests"
for word; do case $word in --ktap=*) [ -z "$KTAP" ] || printf '%s\\n' "$KTAP" >"${word#--ktap=}" ;; esac; done
echo "$@" >"$ARGUMENTS"
exit $CODE
"""
KTAP = "KTAP version 1\n1..3\nok 1 a\nok 2 b # SKIP no swap\nok 3 c # XFAIL known"

IMAGE = bytes(0x38) + b"ARM\x64" + b"Linux version 7.3.0 (builder@example)"  # arm64, all that is read of it


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    kselftest_install.install(tmp_path / "damon-tests", kernel="reference")
    return tmp_path / "damon-tests"


def run_wrapper(directory: Path, code: int, text: str, command: str = "") -> subprocess.CompletedProcess[str]:
    fake = directory.parent / "fake"
    fake.write_text(FAKE)
    fake.chmod(0o755)
    environment = {
        **os.environ,
        "DAMON_TESTS": command or str(fake),
        "TMPDIR": str(directory.parent),
        "CODE": str(code),
        "KTAP": text,
        "ARGUMENTS": str(directory.parent / "arguments"),
    }
    return subprocess.run(
        ["./monitoring.sh"], cwd=directory, env=environment, capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize(
    ("code", "expected"), [(0, 0), (1, 1), (2, 1), (5, 4), (6, 1), (7, 1), (3, 1), (4, 1), (130, 1)]
)
def test_exit_codes_are_those_of_kselftest(directory: Path, code: int, expected: int) -> None:
    done = run_wrapper(directory, code, KTAP)
    assert done.returncode == expected, done.stdout
    log = ktap.read(done.stdout.splitlines())
    assert [test.outcome for _, test in log.leaves()] == ["pass", "skip", "xfail"]
    assert log.problems == ()
    # What was printed meanwhile is a comment.
    assert "# monitoring: 3 tests" in done.stdout
    arguments = (directory.parent / "arguments").read_text()
    assert "run --kernel=reference --profile=quick" in arguments
    assert arguments.split()[-1] == "suites/monitoring"


def test_nothing_that_could_run_is_a_skip(directory: Path) -> None:
    done = run_wrapper(directory, 5, "")
    assert done.returncode == 4
    assert "1..0 # SKIP no test of suites/monitoring could run" in done.stdout


def test_missing_command_is_a_skip(directory: Path) -> None:
    done = run_wrapper(directory, 0, "", command="no-such-command")
    assert done.returncode == 4
    assert "1..0 # SKIP the command no-such-command is not installed" in done.stdout


def test_a_broken_run_without_results_fails(directory: Path) -> None:
    assert run_wrapper(directory, 6, "").returncode == 1


def test_every_suite_has_a_wrapper(directory: Path) -> None:
    makefile = (directory / "Makefile").read_text()
    assert "monitoring.sh" in makefile
    assert "schemes.sh" in makefile
    assert (directory / "settings").read_text() == "timeout=7200\n"
    assert "CONFIG_DAMON_SYSFS=y" in (directory / "config").read_text()


def test_wrappers_are_clean_shell(directory: Path) -> None:
    if shutil.which("shellcheck") is None:
        pytest.skip("shellcheck is not installed")
    scripts = [str(path) for path in directory.glob("*.sh")]
    done = subprocess.run(["shellcheck", "-s", "sh", *scripts], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_kernel_of_the_command_line_is_found_from_everywhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'my "kernel" $1').write_bytes(IMAGE)
    kselftest_install.install(tmp_path / "damon-tests", kernel='my "kernel" $1,modules=lib')
    assert run_wrapper(tmp_path / "damon-tests", 0, KTAP).returncode == 0
    asked = f'--kernel={tmp_path}/my "kernel" $1,modules={tmp_path}/lib --profile=quick'
    assert asked in (tmp_path / "arguments").read_text()
    with pytest.raises(UsageError, match="'nope' does not exist"):
        kselftest_install.install(tmp_path / "other", kernel="nope")
    assert not (tmp_path / "other").exists()


def test_again_replaces_only_its_own_files(directory: Path) -> None:
    kselftest_install.install(directory, kernel="host")
    assert "KERNEL:-host" in (directory / kselftest_install.COMMON).read_text()
    (directory / "notes.txt").write_text("mine")
    with pytest.raises(UsageError, match=r"files of others \(notes\.txt\)"):
        kselftest_install.install(directory)
