# SPDX-License-Identifier: GPL-2.0
"""Kernel builds: the build directory, options that were not obtained, errors by whose they are.

A stand-in for make does what kbuild would: it writes .config and an image, prints the files it compiles,
and fails as the tree's file ``fails`` says.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest
from fake_kernel_tree import fake_make, kernel_tree

from damon_tests.kernel.build import config, make
from damon_tests.kernel.build.diagnose import diagnose
from damon_tests.kernel.build.make import BuildFailed, BuildRequest, build
from damon_tests.ports import HarnessError, NotSupported, UsageError


@pytest.fixture
def request_(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> BuildRequest:
    monkeypatch.setattr(make, "_TOOLS", {})  # the stand-in needs none
    return BuildRequest(
        kernel_tree(tmp_path / "linux"), ("guest", "damon"), 2, tmp_path / "cache", fake_make(tmp_path)
    )


def test_build_leaves_image_and_symbols_in_a_directory_of_the_cache(
    request_: BuildRequest, tmp_path: Path
) -> None:
    lines: list[str] = []
    built = build(request_, lines.append)
    assert built.image.read_text() == "image of core 1"
    assert built.vmlinux.is_file()
    assert built.directory.parent == tmp_path / "cache" / "builds"
    assert built.compiled == 2
    assert not (request_.tree / ".config").exists()
    assert f"build: 2 files in {built.seconds:.0f} s: {built.image}" in lines


def test_second_build_goes_on_in_the_same_directory(request_: BuildRequest) -> None:
    """Only what changed is compiled; another configuration has a directory of its own."""
    first = build(request_, lambda line: None)
    (request_.tree / "mm/damon/core.c").write_text("core 2")
    second = build(request_, lambda line: None)
    assert (second.directory, second.compiled) == (first.directory, 1)
    assert second.image.read_text() == "image of core 2"
    third = build(
        BuildRequest(request_.tree, ("guest",), 1, request_.cache, request_.make), lambda line: None
    )
    assert third.directory != first.directory


def test_options_that_were_not_obtained_are_named(request_: BuildRequest) -> None:
    (request_.tree / "refuses").write_text("CONFIG_DAMON_STAT\nCONFIG_KUNIT\n")
    lines: list[str] = []
    built = build(request_, lines.append)
    assert [o.option for o in built.not_obtained] == ["CONFIG_DAMON_STAT", "CONFIG_KUNIT"]
    why = "is unknown to this tree, or what it depends on is not set"
    assert f"build: CONFIG_DAMON_STAT=y was asked for, but {why}" in lines


def test_error_in_damon_is_shown_with_file_and_line(request_: BuildRequest) -> None:
    (request_.tree / "fails").write_text("../mm/damon/core.c:12:3: error: expected ';' before 'return'\n")
    with pytest.raises(
        BuildFailed, match=r"DAMON does not build:\n  mm/damon/core\.c:12: error: ex"
    ) as error:
        build(request_, lambda line: None)
    assert error.value.exit_code == 1


@pytest.mark.parametrize(
    ("output", "reason"),
    [
        ("fs/ext4/super.c:7:1: error: unknown type name 'foo'", "fs/ext4/super.c:7: error: unknown type"),
        ("/usr/bin/ld: mm/vmscan.o: undefined reference to `bar'", "undefined reference to `bar'"),
        ("make[2]: *** No rule to make target 'mm/x.o'.  Stop.", "No rule to make target 'mm/x.o'"),
        ("killed by nobody knows what", "make gave no reason"),
    ],
)
def test_other_errors_say_nothing_about_damon(request_: BuildRequest, output: str, reason: str) -> None:
    (request_.tree / "fails").write_text(f"{output}\n")
    with pytest.raises(BuildFailed) as error:
        build(request_, lambda line: None)
    assert "does not build: " in str(error.value)
    assert reason in str(error.value)
    assert error.value.exit_code == 6


def test_trees_that_cannot_be_built_are_refused(request_: BuildRequest, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no kernel source tree"):
        build(BuildRequest(tmp_path))
    (request_.tree / ".config").touch()
    with pytest.raises(UsageError, match=r"was built in place.*--rev HEAD"):
        build(request_)


def test_missing_programs_are_named_with_their_packages(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    with pytest.raises(NotSupported, match=r"the program flex.*apt-get install .*bison"):
        build(BuildRequest(kernel_tree(tmp_path / "linux")))


def test_two_builds_of_one_tree_do_not_mix(request_: BuildRequest) -> None:
    """The second is refused while the first is at work; when that is interrupted, make ends, too."""
    (request_.tree / "sleeps").write_text("30")
    code = (
        "from pathlib import Path; from damon_tests.kernel.build.make import *;"
        "from damon_tests.kernel.build.make import _TOOLS; _TOOLS.clear();"
        f"build(BuildRequest(Path({str(request_.tree)!r}), ('guest', 'damon'), 2,"
        f" Path({str(request_.cache)!r}), {request_.make!r}))"
    )
    child = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.DEVNULL)
    try:
        pid_file = request_.tree / "make.pid"
        deadline = time.monotonic() + 60
        while not pid_file.exists() and time.monotonic() < deadline:
            time.sleep(0.05)
        pid = int(pid_file.read_text())
        with pytest.raises(HarnessError, match="another build is at work"):
            build(request_, lambda line: None)
        child.send_signal(signal.SIGINT)
        child.wait(300)
    finally:
        child.kill()
        child.wait()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_progress_is_said_while_files_are_compiled(
    request_: BuildRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("damon_tests.kernel.build.make._PROGRESS_S", 0.0)
    lines: list[str] = []
    others = set(threading.enumerate())  # of tests before, which may end meanwhile
    build(request_, lines.append)
    assert any(line.startswith("build: 1 files after ") and "mm/damon/core.o" in line for line in lines)
    assert set(threading.enumerate()) <= others


def test_fragments_are_merged_in_order_and_unknown_ones_refused(tmp_path: Path) -> None:
    own = tmp_path / "mine.config"
    own.write_text("CONFIG_DAMON_STAT=n\n# CONFIG_KUNIT is not set\nCONFIG_NR_CPUS=4\n# a remark\n")
    merged = config.merge(["guest", "damon", str(own)])
    assert (merged["CONFIG_DAMON_STAT"], merged["CONFIG_KUNIT"], merged["CONFIG_NR_CPUS"]) == ("n", "n", "4")
    assert config.parse(config.as_text(merged)) == merged
    with pytest.raises(UsageError, match=r"none of our fragments .*damon, debug, guest, memcg, numa"):
        config.merge(["gest"])


@pytest.mark.parametrize("name", ["guest", "damon", "debug", "numa", "memcg"])
def test_every_fragment_has_only_options(name: str) -> None:
    """A line that kconfig would skip is a typing error; an option is set in one fragment only."""
    lines = config.fragment_path(name).read_text().splitlines()
    options = [line for line in lines if line and not line.startswith("# ")]
    assert options == [f"{o}={v}" for o, v in config.parse("\n".join(options)).items()]
    others = {*config.DEFAULT, "debug"} - {name}
    assert not set(config.parse("\n".join(options))) & set(config.merge(sorted(others)))


def test_diagnosis_lists_each_message_once_and_knows_damons_files(tmp_path: Path) -> None:
    tree = tmp_path / "linux"
    lines = [
        "  CC      mm/damon/core.o",
        f"{tree}/include/linux/damon.h:8:2: warning: unused variable 'x' [-Wunused-variable]",
        f"{tree}/include/linux/damon.h:8:2: warning: unused variable 'x' [-Wunused-variable]",
        "../mm/damon/vaddr.c: In function 'f':",
        "../mm/damon/vaddr.c:3:1: fatal error: no.h: No such file or directory",
        "../mm/damonish.c:3:1: warning: not DAMON's",
        "make[3]: *** [../scripts/Makefile.build:229: mm/damon/vaddr.o] Error 1",
        "make: *** Waiting for unfinished jobs....",
    ]
    diagnosis = diagnose(lines, tree)
    assert [str(d) for d in diagnosis.damon_warnings] == [
        "include/linux/damon.h:8: warning: unused variable 'x' [-Wunused-variable]"
    ]
    assert [(d.path, d.line) for d in diagnosis.damon_errors] == [("mm/damon/vaddr.c", 3)]
    assert diagnosis.others == ()


def test_user_mode_linux_has_a_directory_of_its_own_and_another_image(request_: BuildRequest) -> None:
    guest_kernel = build(request_, lambda line: None)
    built = build(replace(request_, arch="um"), lambda line: None)
    assert built.directory != guest_kernel.directory
    assert built.image == built.directory / "linux"
    assert built.image.read_text() == "ARCH=um image of core 1"
    assert built.release == "7.3.4"
