# SPDX-License-Identifier: GPL-2.0
"""Find and build the static C programs, in a mock checkout."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from damon_tests import bundle
from damon_tests.kernel.images import programs
from damon_tests.ports import HarnessError, NotSupported

NAME = "damon-tests-thing"
MAKEFILE = """
OUT ?= ../build
$(OUT)/damon-tests-thing: thing.c thing_part.h
\techo built >> log
\tcp thing.c $@
"""


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A checkout whose "compiler" copies; ``workloads/src/log`` has a line for each build."""
    if shutil.which("make") is None:
        pytest.skip("needs make (Debian: apt-get install make)")
    sources = tmp_path / "workloads" / "src"
    sources.mkdir(parents=True)
    (sources / "Makefile").write_text(MAKEFILE)
    (sources / "thing.c").write_text("first")
    (sources / "thing_part.h").write_text("")
    (sources / "other.c").write_text("")
    monkeypatch.setattr(bundle, "root", lambda: tmp_path)
    # These builds need only `make`, no compiler.
    monkeypatch.setenv("CC", "make")
    return tmp_path


def builds(checkout: Path) -> int:
    return len((checkout / "workloads/src/log").read_text().splitlines())


def make_older(path: Path, seconds: int) -> None:
    status = path.stat()
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns - seconds * 10**9))


def test_a_missing_program_is_built_once(checkout: Path) -> None:
    path = programs.program(NAME)
    assert path == checkout / "workloads/build" / NAME
    assert path.read_text() == "first"
    assert programs.program(NAME) == path
    assert builds(checkout) == 1


@pytest.mark.parametrize("changed", ["thing.c", "thing_part.h"])
def test_a_program_older_than_its_sources_is_built_again(checkout: Path, changed: str) -> None:
    path = programs.program(NAME)
    make_older(path, 100)
    for source in ("Makefile", "thing.c", "thing_part.h", "other.c"):
        make_older(checkout / "workloads/src" / source, 200)
    programs.program(NAME)
    assert builds(checkout) == 1
    (checkout / "workloads/src" / "other.c").write_text("somebody else's")
    programs.program(NAME)
    assert builds(checkout) == 1
    (checkout / "workloads/src" / changed).write_text("changed")
    programs.program(NAME)
    assert builds(checkout) == 2


def test_program_of_a_wheel_is_never_rebuilt(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = programs.program(NAME)
    make_older(path, 1000)
    bundled = checkout / "_bundle"
    bundled.mkdir()
    (checkout / "workloads").rename(bundled / "workloads")
    monkeypatch.setattr(bundle, "root", lambda: bundled)
    assert programs.program(NAME) == bundled / "workloads/build" / NAME
    assert len((bundled / "workloads/src/log").read_text().splitlines()) == 1


def test_missing_compiler_is_reported_with_the_remedy(
    checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CC", "no-such-compiler -O2")
    with pytest.raises(NotSupported, match=r"there is no no-such-compiler .*apt-get install gcc"):
        programs.program(NAME)


def test_old_program_is_used_without_a_compiler(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = programs.program(NAME)
    make_older(path, 1000)
    monkeypatch.setenv("CC", "no-such-compiler")
    assert programs.program(NAME) == path


def test_a_failing_build_shows_what_the_compiler_said(checkout: Path) -> None:
    (checkout / "workloads/src/Makefile").write_text(
        "%/damon-tests-thing:\n\t@echo 'cannot find -lc: no such file'; false\n"
    )
    with pytest.raises(HarnessError, match=r"(?s)static libc is needed.*cannot find -lc"):
        programs.program(NAME)


def test_read_only_checkout_is_a_harness_error(checkout: Path) -> None:
    (checkout / "workloads/build").write_text("in the way")
    with pytest.raises(HarnessError, match="cannot be built in"):
        programs.program(NAME)


def test_concurrent_callers_build_once(checkout: Path) -> None:
    script = (
        "import sys, pathlib; from damon_tests import bundle; from damon_tests.kernel.images import programs;"
        "bundle.root = lambda: pathlib.Path(sys.argv[1]); programs.program(sys.argv[2])"
    )
    command = [sys.executable, "-c", script, str(checkout), NAME]
    processes = [subprocess.Popen(command) for _ in range(4)]
    assert [process.wait() for process in processes] == [0] * 4
    assert builds(checkout) == 1


def test_the_real_agent_is_static_and_complains_about_bad_arguments() -> None:
    try:
        path = programs.program(programs.AGENT)
    except NotSupported as error:
        pytest.skip(str(error))
    assert b"/lib64/ld-linux" not in path.read_bytes()  # no interpreter: nothing else is needed
    answer = subprocess.run([path, "--nonsense"], capture_output=True, text=True, check=False)
    assert answer.returncode == 2
    assert "usage: damon-tests-agent" in answer.stderr
