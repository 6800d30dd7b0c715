# SPDX-License-Identifier: GPL-2.0
"""The directory of ``kselftest-install`` under the kernel's own kselftest: its lib.mk and its runner."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from damon_tests.commands import kselftest_install
from damon_tests.kernel import ktap
from damon_tests.kernel.images import selftests
from damon_tests.ports import DamonTestsError

pytestmark = pytest.mark.long

# Takes the place of damon-tests: all is good in "schemes", nothing can run in "ops", and the rest fails.
FAKE = r"""#!/bin/sh
for word; do case $word in --ktap=*) file=${word#--ktap=} ;; suites/*) suite=${word#suites/} ;; esac; done
echo "testing $suite"
case $suite in
schemes) printf 'KTAP version 1\n1..2\nok 1 a\nok 2 b # XFAIL known\n' >"$file"; exit 0 ;;
ops) printf 'KTAP version 1\n1..1\nok 1 a # SKIP no swap\n' >"$file"; exit 5 ;;
*) printf 'KTAP version 1\n1..1\n# FAIL: 3 regions\nnot ok 1 a\n' >"$file"; exit 1 ;;
esac
"""


def test_kselftest_runs_the_suites(tmp_path: Path) -> None:
    """One result for each suite with its exit code's meaning, one line for each test within."""
    try:
        source = selftests.of_debian("7.3")
    except DamonTestsError as error:
        pytest.skip(f"the kernel's source cannot be had: {error}")
    tree = tmp_path / "tools/testing/selftests"
    shutil.copytree(source.directory / "kselftest", tree / "kselftest")
    shutil.copy(source.directory / "lib.mk", tree)
    for script in ("runner.sh", "prefix.pl"):
        (tree / "kselftest" / script).chmod(0o755)
    kselftest_install.install(tree / "damon-tests", kernel="reference")
    fake = tmp_path / "fake"
    fake.write_text(FAKE)
    fake.chmod(0o755)
    environment = {k: v for k, v in os.environ.items() if k not in ("MAKELEVEL", "MAKEFLAGS")}
    environment |= {"DAMON_TESTS": str(fake), "TMPDIR": str(tmp_path)}
    command = ["make", "-C", str(tree / "damon-tests"), "run_tests"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    print(done.stdout, done.stderr)
    tests = {test.name.split(": ")[-1]: test for test in ktap.read(done.stdout.splitlines()).tests}
    assert {name: test.outcome for name, test in tests.items()} == {
        "conformance.sh": "fail",
        "modules.sh": "fail",
        "monitoring.sh": "fail",
        "ops.sh": "skip",
        "overhead.sh": "fail",
        "regressions.sh": "fail",
        "schemes.sh": "pass",
    }
    assert [test.outcome for test in tests["schemes.sh"].subtests] == ["pass", "xfail"]
    assert [test.reason for test in tests["ops.sh"].subtests] == ["no swap"]
    assert "# timeout set to 7200" in done.stdout
