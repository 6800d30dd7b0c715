# SPDX-License-Identifier: GPL-2.0
"""The survey reports a machine made of regular files, and writes nothing."""

from __future__ import annotations

import gzip
import platform
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from damon_tests import bundle
from damon_tests.commands import suite_outlook
from damon_tests.commands.suite_outlook import TestNeeds, forecast, suite_requirements
from damon_tests.experiment import machine_survey
from damon_tests.experiment.machine_survey import Fact, Host, Survey, collect, find_config
from damon_tests.kernel.host.machine import LocalMachine
from damon_tests.ports import Entry, FileOp, UsageError

ADMIN = "sys/kernel/mm/damon/admin/kdamonds"


class LookingOnly(LocalMachine):
    """A machine that fails the test on any change."""

    def batch(
        self, ops: Sequence[FileOp], stop_on_error: bool = False
    ) -> Sequence[bytes | Sequence[Entry] | OSError]:
        assert all(op.kind in ("read", "list", "walk", "stat") for op in ops), ops
        return super().batch(ops, stop_on_error)

    def write_file(self, *args: Any, **kwargs: Any) -> None:
        raise AssertionError(f"written: {args}")

    def begin_write_file(self, *args: Any) -> Any:
        raise AssertionError(f"written: {args}")

    def spawn(self, request: Any) -> Any:
        raise AssertionError(f"started: {request}")


class Box:
    """A machine's files below a directory."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.programs: dict[str, str] = {}
        self.devices: dict[str, str] = {}
        self.put("proc/meminfo", "MemTotal:        8388608 kB\nMemAvailable:    4194304 kB\n")
        self.put("proc/cpuinfo", "processor\t: 0\nprocessor\t: 1\n")
        self.put("proc/self/status", "Name:\tx\nCapEff:\t0000000000200000\n")
        self.put("etc/os-release", 'NAME="x"\nPRETTY_NAME="Some Linux 1"\n')

    def put(self, path: str, text: str | bytes) -> None:
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(text if isinstance(text, bytes) else text.encode())

    def host(self, euid: int = 0) -> Host:
        return Host(
            machine=LookingOnly(root=self.root),
            which=lambda name: f"/usr/bin/{name}" if name in self.programs else None,
            run=lambda argv: self.programs.get(Path(argv[0]).name, ""),
            release="7.3.4-test",
            euid=euid,
            cache=self.root / "cache",
            etc_apt=self.root / "apt",
            trouble=lambda path: self.devices.get(path, "not there"),
        )

    def damon(self, nr_kdamonds: int = 0, state: str = "off") -> None:
        self.put(f"{ADMIN}/nr_kdamonds", f"{nr_kdamonds}\n")
        for i in range(nr_kdamonds):
            self.put(f"{ADMIN}/{i}/state", f"{state}\n")
            self.put(f"{ADMIN}/{i}/pid", "77\n")
            self.put(f"{ADMIN}/{i}/contexts/0/operations", "paddr\n")
            self.put(f"{ADMIN}/{i}/contexts/0/avail_operations", "paddr\n")
            self.put(f"{ADMIN}/{i}/contexts/0/targets/nr_targets", "1\n")
            self.put(f"{ADMIN}/{i}/contexts/0/schemes/nr_schemes", "2\n")


@pytest.fixture
def box(tmp_path: Path) -> Box:
    return Box(tmp_path)


def fact(survey: Survey, title: str, name: str) -> Fact:
    (section,) = (s for s in survey.sections if s.title == title)
    return next(f for f in section.facts if f.name == name)


def test_machine_without_anything_is_surveyed(box: Box) -> None:
    survey = collect(box.host(euid=1000))
    assert fact(survey, "DAMON", "sysfs tree").ok is False
    assert fact(survey, "privileges", "root") == Fact(
        "root", "no (uid 1000)", False, machine_survey._ROOT_REMEDY
    )
    assert fact(survey, "tracing", "tracefs").ok is False
    assert fact(survey, "virtual machines", "QEMU").ok is False
    assert fact(survey, "reference as files (FUSE)", "/dev/fuse").ok is False
    assert fact(survey, "machine", "CPUs").value == "2"
    assert fact(survey, "machine", "memory available") == Fact(
        "memory available", "4.0 of 8.0 GiB", True, "a guest needs about 1 GiB"
    )
    assert "Some Linux 1" in fact(survey, "machine", "system").value
    assert survey.level.startswith("unknown")


@pytest.mark.parametrize(
    "where", ["proc/config.gz", "boot/config-7.3.4-test", "usr/lib/modules/7.3.4-test/config"]
)
def test_configuration_is_read_from_every_usual_place(box: Box, where: str) -> None:
    text = b"CONFIG_DAMON=y\nCONFIG_DAMON_SYSFS=y\n# CONFIG_DAMON_VADDR is not set\n"
    box.put(where, gzip.compress(text) if where.endswith(".gz") else text)
    path, config = find_config(box.host())
    assert path == f"/{where}"
    assert config == {"CONFIG_DAMON": "y", "CONFIG_DAMON_SYSFS": "y"}
    survey = collect(box.host())
    assert fact(survey, "kernel", "CONFIG_DAMON").ok is True
    assert fact(survey, "kernel", "CONFIG_DAMON_VADDR").ok is False
    assert fact(survey, "kernel", "CONFIG_DAMON_VADDR").remedy == "build the kernel with CONFIG_DAMON_VADDR=y"
    assert fact(survey, "kernel", "CONFIG_DAMON_STAT").ok is None


def test_broken_configuration_counts_as_missing(box: Box) -> None:
    box.put("proc/config.gz", b"\x1f\x8b broken")
    assert find_config(box.host()) == (None, {})


def test_users_of_damon_are_reported(box: Box) -> None:
    box.damon(nr_kdamonds=1, state="on")
    box.put("proc/77/comm", "kdamond.0\n")
    survey = collect(box.host())
    assert fact(survey, "DAMON", "free for tests").ok is False
    use = fact(survey, "DAMON", "used by kdamonds/0")
    assert use.value == "thread kdamond.0 (pid 77), paddr, targets: 1, schemes: 2"
    assert survey.usage.nr_kdamonds == 1
    assert fact(survey, "DAMON", "operations").value == "paddr"


def test_running_module_is_reported_as_user(box: Box) -> None:
    box.damon()
    box.put("sys/module/damon_stat/parameters/enabled", "Y\n")
    box.put("sys/module/damon_stat/parameters/kdamond_pid", "53\n")
    survey = collect(box.host())
    assert "the kernel module" in fact(survey, "DAMON", "used by damon_stat").value
    assert fact(survey, "DAMON", "free for tests").ok is False


def test_unused_damon_is_free_for_tests(box: Box) -> None:
    box.damon()
    assert fact(collect(box.host()), "DAMON", "free for tests") == Fact("free for tests", "free", True, "")


@pytest.mark.parametrize(
    ("output", "ok", "text"),
    [
        ("QEMU emulator version 10.0.2 (Debian)", True, "10.0.2"),
        ("QEMU emulator version 7.2.1", False, "7.2.1 is too old"),
        ("", False, "not on PATH"),
    ],
)
def test_qemu_of_a_sufficient_version_is_required(box: Box, output: str, ok: bool, text: str) -> None:
    if output:
        box.programs["qemu-system-x86_64"] = output
    qemu = fact(collect(box.host()), "virtual machines", "QEMU")
    assert qemu.ok is ok
    assert text in qemu.value


def test_fetchable_or_cached_qemu_is_good(box: Box) -> None:
    box.programs["apt-get"] = ""
    box.put("apt/sources.list", "deb http://mirror.example/debian trixie main\n")
    survey = collect(box.host())
    assert fact(survey, "virtual machines", "QEMU").ok is True
    assert "fetched at first use" in fact(survey, "virtual machines", "QEMU").value
    assert fact(survey, "virtual machines", "package mirror").value == "http://mirror.example/debian"
    box.put("cache/qemu/1_10.0.2+ds-2_abc/qemu.json", "{}")
    assert "10.0.2, unpacked" in fact(collect(box.host()), "virtual machines", "QEMU").value


def test_result_of_the_last_kvm_trial_boot_is_reported(box: Box) -> None:
    assert "not there" in fact(collect(box.host()), "virtual machines", "KVM").value
    box.devices["/dev/kvm"] = ""
    assert "tried at first use" in fact(collect(box.host()), "virtual machines", "KVM").value
    box.put("cache/kvm.json", '{\n "6.1 qemu 10 boot x": "a trial boot with KVM failed: no"\n}\n')
    assert fact(collect(box.host()), "virtual machines", "KVM").value == "a trial boot with KVM failed: no"
    box.put("cache/kvm.json", '{\n "6.1 qemu 10 boot x": ""\n}\n')
    assert fact(collect(box.host()), "virtual machines", "KVM").ok is True


def test_flavours_name_their_compiler_or_the_packages_that_have_it(
    box: Box, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bundle, "programs_dir", lambda: tmp_path / "build")
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    monkeypatch.delenv("CC", raising=False)
    title, arm64, arm32 = (
        "flavours of Debian's kernels",
        "debian:SERIES@arm64-16k",
        "debian:SERIES@armmp-lpae",
    )

    survey = collect(box.host())
    assert fact(survey, title, arm64) == Fact(
        arm64,
        "aarch64, pages of 16 KiB; qemu-system-aarch64, no aarch64-linux-gnu-gcc to build its agent:"
        " apt-get install make gcc-aarch64-linux-gnu libc6-dev-arm64-cross",
    )
    native = fact(survey, title, "debian:SERIES")
    assert (native.ok, native.value.partition(", no cc ")[2]) == (
        None,
        "to build its agent: apt-get install make gcc libc6-dev",
    )

    box.programs |= {"cc": "", "aarch64-linux-gnu-gcc": ""}
    (tmp_path / "build/armv7l").mkdir(parents=True)
    (tmp_path / "build/armv7l/damon-tests-agent").touch()
    survey = collect(box.host())
    assert fact(survey, title, arm64).value.endswith("qemu-system-aarch64, aarch64-linux-gnu-gcc")
    assert [fact(survey, title, name).ok for name in ("debian:SERIES", arm64, arm32)] == [True, True, True]


def test_missing_tools_for_kernel_builds_are_named(box: Box) -> None:
    box.programs |= {"gcc": "", "make": "", "bc": "", "perl": ""}
    builds = fact(collect(box.host()), "tools", "kernel builds")
    assert builds.value == "not without flex bison"
    assert builds.remedy == "apt-get install flex bison libelf-dev"
    box.programs |= {"flex": "", "bison": "", "ccache": ""}
    assert fact(collect(box.host()), "tools", "kernel builds").value == "possible, with ccache"


def test_tracefs_is_read_where_it_is_mounted(box: Box) -> None:
    box.put("sys/kernel/debug/tracing/trace_clock", "[local] mono\n")
    box.put("sys/kernel/debug/tracing/events/damon/damon_aggregated/enable", "0\n")
    survey = collect(box.host())
    assert fact(survey, "tracing", "tracefs").value == "/sys/kernel/debug/tracing"
    assert fact(survey, "tracing", "DAMON tracepoints").value == "damon_aggregated"


# --- outlook ---------------------------------------------------------------------------------

SUITE = """
import pytest
pytestmark = [pytest.mark.accuracy, pytest.mark.needs("damon_aggregated")]

@pytest.mark.needs("ops.vaddr", "ctx.pause")
def test_one(): ...

@pytest.mark.profile("full")
@pytest.mark.parametrize("x", [1, 2])
def test_two(x): ...

@pytest.mark.needs("schemes.collapse")
class TestMore:
    def test_three(self): ...
    def helper(self): ...

def not_a_test(): ...
"""


def test_needs_are_read_from_the_source(tmp_path: Path) -> None:
    suites = tmp_path / "suites"
    (suites / "a").mkdir(parents=True)
    (suites / "a" / "test_x.py").write_text(SUITE)
    (suites / "a" / "helper.py").write_text("def test_not(): ...")
    first, second, third = suite_requirements(suites)
    assert first == TestNeeds("suites/a/test_x.py::test_one", ("damon_aggregated", "ops.vaddr", "ctx.pause"))
    assert second == TestNeeds("suites/a/test_x.py::test_two", ("damon_aggregated",), full=True)
    assert third.id == "suites/a/test_x.py::TestMore::test_three"
    assert third.needs == ("damon_aggregated", "schemes.collapse")
    assert {t.suite for t in (first, second, third)} == {"suites/a"}


def test_a_broken_suite_is_named(tmp_path: Path) -> None:
    (tmp_path / "test_x.py").write_text("def test_(:\n")
    with pytest.raises(UsageError, match=r"test_x.py line 1"):
        suite_requirements(tmp_path)


def test_the_projects_own_suites_can_be_read() -> None:
    tests = suite_requirements()
    assert len(tests) >= 5
    assert all(t.suite.startswith("suites/") for t in tests)
    for look in forecast(collect(), tests)[:1]:
        assert look.kernel == "reference"
        assert not [reason for s in look.suites for reason, _ in s.skips if "misspelt" in reason]


TESTS = (
    TestNeeds("suites/a/test_x.py::test_1", ("ops.paddr",)),
    TestNeeds("suites/a/test_x.py::test_2", ("vaddr", "damon_aggregated")),
    TestNeeds("suites/b/test_y.py::test_3", ("ops.vadr",)),
    TestNeeds("suites/c/test_z.py::test_4", ()),
    TestNeeds("suites/c/test_z.py::test_5", ("schemes.collapse",)),
)


def test_outlook_blocks_a_host_whose_damon_is_in_use(box: Box) -> None:
    box.damon(nr_kdamonds=1, state="on")
    reference, guest, host = forecast(collect(box.host()), TESTS)
    assert (reference.kernel, guest.kernel, host.kernel) == ("reference", "debian:newest", "host")
    assert reference.blocked == ""
    assert "in use by kdamonds/0" in host.blocked
    assert guest.blocked.startswith("missing: QEMU, package mirror")
    assert [(s.suite, s.would, s.tests, s.skipped) for s in reference.suites] == [
        ("suites/a", "run", 2, 0),
        ("suites/b", "skip", 1, 1),
        ("suites/c", "run", 2, 0),
    ]
    assert reference.suites[1].skips == (("ops.vadr: no such feature (misspelt)", 1),)


def test_outlook_separates_absent_from_unknown_features(box: Box) -> None:
    """Nothing is staged, so some features are known to be absent and some are unknown."""
    box.damon(nr_kdamonds=1)
    look = suite_outlook._suites(TESTS, collect(box.host()).capabilities)
    a, _, c = look
    assert (a.would, a.skipped, a.unsure) == ("run in part", 1, 0)
    assert any("ops.vaddr" in reason and "CONFIG_DAMON_VADDR" in reason for reason, _ in a.skips)
    assert (c.would, c.unsure) == ("run", 1)


def test_outlook_blocks_the_host_without_root(box: Box) -> None:
    box.damon()
    host = forecast(collect(box.host(euid=1)), TESTS)[2]
    assert host.blocked == "not root"
    assert forecast(collect(box.host()), TESTS)[2].blocked == ""


@pytest.mark.parametrize("with_damon", [False, True])
def test_every_cross_names_a_step(box: Box, with_damon: bool) -> None:
    """A machine without anything, and one whose DAMON an ordinary user may not use."""
    if with_damon:
        box.damon(nr_kdamonds=1, state="on")
    survey = collect(box.host(euid=1000))
    crosses = [f for s in survey.sections for f in s.facts if f.ok is False]
    assert len(crosses) >= 5
    assert [f.name for f in crosses if not f.remedy] == []
    assert [look.kernel for look in forecast(survey, TESTS) if look.blocked and not look.remedy] == []


def test_cases_are_counted_as_pytest_collects_them(tmp_path: Path) -> None:
    suites = tmp_path / "suites"
    suites.mkdir()
    (suites / "test_x.py").write_text(
        "import pytest\n@pytest.mark.parametrize('n', [1, 2, 3])\ndef test_many(n): ...\n"
        "def test_one(): ...\n"
    )
    many, one = suite_outlook.with_cases(suite_requirements(suites), suites)
    assert (many.cases, one.cases) == (3, 1)
    (look,) = suite_outlook._suites([many, one], None)
    assert look.tests == 4
    (suites / "test_y.py").write_text("import nothing_like_it\ndef test_z(): ...\n")
    assert [t.cases for t in suite_outlook.with_cases(suite_requirements(suites), suites)][-1] == 1
