# SPDX-License-Identifier: GPL-2.0
"""The source of the kernel's selftests: which one fits a kernel, and how it is installed."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from selftest_tree import make

from damon_tests.kernel.images import selftests
from damon_tests.ports import UsageError

MAKEFILE = """\
# SPDX
TEST_GEN_FILES += access_memory
TEST_FILES = _damon_sysfs.py
TEST_PROGS += sysfs.sh sysfs.py # both
TEST_PROGS += damos_quota.py \\
\tdamos_quota_goal.py
include ../lib.mk
"""


def test_programs_are_those_of_the_makefile() -> None:
    words = selftests.makefile_words(MAKEFILE, ("TEST_PROGS", "TEST_GEN_PROGS"), "x")
    assert words == ("sysfs.sh", "sysfs.py", "damos_quota.py", "damos_quota_goal.py")
    with pytest.raises(UsageError, match="names no program"):
        selftests.makefile_words("include ../lib.mk\n", ("TEST_PROGS",), "x")


@pytest.mark.parametrize(
    ("series", "chosen"), [("7.3", "7.3"), ("7.1", "6.12"), ("6.12", "6.12"), ("7.10", "7.3"), ("6.1", None)]
)
def test_selftests_are_never_newer_than_the_kernel(series: str, chosen: str | None) -> None:
    assert selftests.nearest_series(series, ["6.12", "7.2", "7.3", "7.3-rt"]) == chosen


def test_directory_without_selftests_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no kernel tree with DAMON selftests"):
        selftests.of_tree(tmp_path)


def test_installed_as_the_runner_expects(tmp_path: Path) -> None:
    source = selftests.of_tree(make(tmp_path / "tree", {"a.sh": "exit 0", "b.sh": "exit 4"}))
    assert source.programs == ("a.sh", "b.sh")
    assert "exit 4" in source.text("b.sh")
    if shutil.which("cc"):
        program = tmp_path / "tree/tools/testing/selftests/damon/access_memory.c"
        program.write_text("int main(void) { return 0; }\n")
    into = tmp_path / "installed"
    selftests.install(source, into)
    assert (into / "kselftest-list.txt").read_text() == "damon:a.sh\ndamon:b.sh\n"
    assert all((into / name).stat().st_mode & 0o100 for name in ("run_kselftest.sh", "damon/a.sh"))
    assert (into / "damon/access_memory").exists() == bool(shutil.which("cc"))
