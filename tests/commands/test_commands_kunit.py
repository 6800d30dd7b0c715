# SPDX-License-Identifier: GPL-2.0
"""KUnit results on a console become a run: every test by name, what went wrong in its own words."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from damon_tests.commands import kunit
from damon_tests.kernel.build import uml
from damon_tests.kernel.build.make import Built
from damon_tests.kernel.guest.topology import Topology
from damon_tests.kernel.images.image import KernelImage
from damon_tests.ports import HarnessError, NotSupported
from damon_tests.report import model

HEAD = """\
[    0.100000] Linux version 7.3.4
[    0.900000] KTAP version 1
[    0.900001] 1..2
[    0.900002]     KTAP version 1
[    0.900003]     # Subtest: damon
[    0.900004]     # module: damon
[    0.900005]     1..3
[    0.900006]     ok 1 damon_test_target
"""
GOOD = f"""{HEAD}\
[    0.900007]     ok 2 damon_test_regions
[    0.900008]     ok 3 damon_test_commit # SKIP no memory
[    0.900009] # damon: pass:2 fail:0 skip:1 total:3
[    0.900010] ok 1 damon
[    0.900011]     KTAP version 1
[    0.900012]     # Subtest: damon-operations
[    0.900013]     1..1
[    0.900014]     ok 1 damon_test_three_regions_in_vmas
[    0.900015] ok 2 damon-operations
[    1.000000] damon-tests-agent: ready
"""
BAD = GOOD.replace(
    "[    0.900007]     ok 2",
    "[    0.900007]     # damon_test_regions: EXPECTATION FAILED at mm/damon/tests/core-kunit.h:33\n"
    "[    0.900007]     Expected damon_nr_regions(t) == 1u, but\n"
    "[    0.900007]     not ok 2",
).replace("ok 1 damon\n", "not ok 1 damon\n")
CRASHED = f"""{HEAD}\
[    0.950000] BUG: kernel NULL pointer dereference, address: 0000000000000008
[    0.950001] Oops: Oops: 0000 [#1] SMP
[    0.950002] RIP: 0010:damon_test_regions+0x10/0x20
"""


def record(tmp_path: Path, console: str) -> model.Json:
    (tmp_path / "console.log").write_text(console)
    return kunit.record(console, tmp_path, "bzImage", "7.3.4", 1.0)


def verdicts(run: model.Json) -> dict[str, str]:
    return {test["id"]: test["verdict"] for test in run["tests"]}


def test_every_test_is_in_the_run(tmp_path: Path) -> None:
    run = record(tmp_path, GOOD)
    assert verdicts(run) == {
        "kunit/damon::damon_test_target": "PASS",
        "kunit/damon::damon_test_regions": "PASS",
        "kunit/damon::damon_test_commit": "SKIP",
        "kunit/damon-operations::damon_test_three_regions_in_vmas": "PASS",
    }
    assert run["tests"][2]["reason"] == "no memory"
    assert model.exit_code(run) == 0
    assert model.load(tmp_path) == run
    assert (tmp_path / "junit.xml").is_file()
    assert kunit.summary(run)[-1] == "KUnit: 3 of 4 passed"


def test_failed_test_says_what_was_expected_where(tmp_path: Path) -> None:
    run = record(tmp_path, BAD)
    failed = [test for test in run["tests"] if test["verdict"] == "FAIL"]
    assert "kunit/damon::damon_test_regions" in [test["id"] for test in failed]
    assert "EXPECTATION FAILED at mm/damon/tests/core-kunit.h:33" in failed[0]["reason"]
    assert model.exit_code(run) == 1


def test_tests_that_a_crash_prevented_fail_with_the_crash(tmp_path: Path) -> None:
    """Planned, but never reported: nobody may take that for a pass."""
    run = record(tmp_path, CRASHED)
    by_test = verdicts(run)
    assert by_test["kunit/damon::damon_test_target"] == "PASS"
    assert list(by_test.values()).count("FAIL") >= 3
    assert by_test["kunit::kernel_log"] == "FAIL"
    assert "kernel NULL pointer dereference" in run["tests"][-1]["reason"]
    assert model.exit_code(run) == 1


def test_boot_without_damons_tests_is_not_supported(tmp_path: Path) -> None:
    for console in ("[    0.1] Linux version 7.3.4\n", GOOD.replace("damon", "ext4")):
        with pytest.raises(NotSupported, match="--config damon"):
            record(tmp_path, console)


def test_parameters_and_size_of_the_guest_are_added_to_those_of_kunit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    booted: list[Topology] = []

    def console(image: KernelImage, topology: Topology) -> str:
        booted.append(topology)
        return GOOD

    image = KernelImage("k", "7.3.4", Path("/k"), None, None)
    monkeypatch.setattr(kunit.images, "resolve", lambda kernel: image)
    monkeypatch.setattr(kunit, "boot_console", console)
    kunit.run_kunit("bzImage", tmp_path / "out", guest=Topology(memory_mib=2048, cmdline=("damon_x=1",)))
    assert booted[0].memory_mib == 2048
    assert {"kunit.enable=1", "damon_x=1"} <= set(booted[0].cmdline)


def program(path: Path, text: str) -> Built:
    """Write a stand-in for the program that User Mode Linux is."""
    path.write_text(f"#!{sys.executable}\n{text}")
    path.chmod(0o755)
    return Built(path, path, path.parent, 1.0, 1, (), (), "gcc")


def test_user_mode_linux_prints_its_results_until_it_halts(tmp_path: Path) -> None:
    """It is asked for KUnit's tests and to halt; what it leaves running is ended."""
    text = f"import subprocess, sys\nprint({GOOD!r}, flush=True)\nprint(sys.argv)\n"
    built = program(tmp_path / "linux", text + "subprocess.Popen(['sleep', '600'])\n")
    assert kunit.run_kunit_under_uml(built, tmp_path / "out", lambda line: None, ("quiet",)) == 0
    assert model.load(tmp_path / "out")["counts"]["PASS"] == 3
    console = (tmp_path / "out/console.log").read_text()
    assert all(word in console for word in ("kunit.enable=1", "kunit_shutdown=halt", "'quiet'"))


def test_user_mode_linux_that_hangs_is_ended_and_its_planned_tests_fail(tmp_path: Path) -> None:
    built = program(tmp_path / "linux", f"import time\nprint({HEAD!r}, flush=True)\ntime.sleep(600)\n")
    console = uml.console_of(built.image, (), timeout_s=2)
    assert "no end after 2 s" in console
    assert kunit.record(console, tmp_path / "run", "linux", "7.3.4", 1.0)["counts"]["FAIL"] >= 2


def test_program_that_is_no_user_mode_linux_is_a_broken_harness(tmp_path: Path) -> None:
    silent = program(tmp_path / "silent", "raise SystemExit(3)")
    with pytest.raises(HarnessError, match="printed nothing, and ended with 3"):
        uml.console_of(silent.image, ())
    with pytest.raises(HarnessError, match="cannot be run"):
        uml.console_of(tmp_path / "nothing", ())


def test_kernel_whose_configuration_leaves_kunit_out_is_not_booted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    without = KernelImage("k", "7.3.4", Path("/k"), None, {"CONFIG_DAMON": "y"})
    monkeypatch.setattr(kunit.images, "resolve", lambda kernel: without)
    with pytest.raises(NotSupported, match="build it with CONFIG_KUNIT=y and CONFIG_DAMON_KUNIT_TEST=y"):
        kunit.run_kunit("bzImage", tmp_path / "out")
    assert not (tmp_path / "out").exists()
