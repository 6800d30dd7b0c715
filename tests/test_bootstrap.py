# SPDX-License-Identifier: GPL-2.0
"""ci/bootstrap: what it does, and what it says when something is missing.

A copy of it runs in a directory of its own, with an environment that is already there (or a program that
only notes how it was called), so that nothing is downloaded and nothing here is changed.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
TOOLS = ("bash", "cat", "cmp", "dirname", "env", "flock", "head", "id", "ls", "mkdir", "rm", "touch")
TEST_TOOLS = (
    "cpio",
    "file",
    "fusermount3",
    "gpg",
    "mkfs.ext4",
    "ps",
    "setpriv",
    "unshare",
    "zstd",
    "aarch64-linux-gnu-gcc",
)
GOOD_MAKEFILE = "all:\n\t@mkdir -p ../build; touch ../build/program\n"


class Checkout:
    """A directory with ci/bootstrap in it, and a PATH of its own."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.log = path / "calls"
        self.bin = path / "bin"
        (path / "ci").mkdir(parents=True)
        (path / "pyproject.toml").write_text("[project]\n")
        shutil.copy(ROOT / "ci" / "bootstrap", path / "ci")
        self.bin.mkdir()
        for tool in TOOLS:
            program = shutil.which(tool)
            assert program, tool
            (self.bin / tool).symlink_to(program)

    @property
    def venv(self) -> Path:
        return self.path / ".venv"

    def program(self, name: str, text: str, directory: Path | None = None) -> None:
        """A script on PATH (or in ``directory``) that logs its name and arguments, then does ``text``."""
        file = (directory or self.bin) / name
        file.unlink(missing_ok=True)
        file.write_text(f'#!/usr/bin/env bash\necho "{name} $*" >>"{self.log}"\n{text}\n')
        file.chmod(0o755)

    def with_venv(self, *, stamp: bool = True) -> Checkout:
        (self.venv / "bin").mkdir(parents=True)
        (self.venv / "pyvenv.cfg").write_text("")
        self.program("python", "exit 0", self.venv / "bin")
        if stamp:
            text = (self.path / "pyproject.toml").read_text()
            (self.venv / "damon-tests.stamp").write_text(f"{self.path}\n{text}")
        return self

    def with_makefile(self, text: str) -> Checkout:
        (self.path / "workloads" / "src").mkdir(parents=True)
        (self.path / "workloads" / "src" / "Makefile").write_text(text)
        return self

    def with_compiler(self) -> Checkout:
        for tool in ("make", "cc"):
            path = shutil.which(tool)
            if not path:
                pytest.skip(f"needs {tool} (Debian: apt-get install gcc make)")
            (self.bin / tool).symlink_to(path)
        return self

    def with_test_tools(self) -> Checkout:
        for tool in TEST_TOOLS:
            self.program(tool, "exit 1")
        return self

    def run(self, *args: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [self.path / "ci" / "bootstrap", *args],
            cwd="/",
            env={"PATH": str(self.bin), **environment},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def calls(self, name: str) -> list[str]:
        """How ``name`` was called, in order."""
        lines = self.log.read_text().splitlines() if self.log.exists() else []
        return [line for line in lines if line.split(" ")[0] == name]


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    # Its own name has a space: paths must be quoted everywhere.
    return Checkout(tmp_path.resolve() / "a clone")


def test_up_to_date_runs_the_command_and_says_nothing(checkout: Checkout) -> None:
    checkout.with_venv().with_makefile(GOOD_MAKEFILE).with_compiler()
    done = checkout.run("bash", "-c", 'echo "$1|$VIRTUAL_ENV|$PATH"; exit 7', "x", "a b")
    assert done.stdout == f"a b|{checkout.venv}|{checkout.venv}/bin:{checkout.bin}\n"
    assert (done.returncode, done.stderr) == (7, "")
    assert not [call for call in checkout.calls("python") if "pip" in call]
    assert (checkout.path / "workloads" / "build" / "program").exists()


def test_changed_pyproject_installs_once(checkout: Checkout) -> None:
    checkout.with_venv()
    (checkout.path / "pyproject.toml").write_text("[project]\nname = 'new'\n")
    for _ in range(2):
        assert checkout.run("bash", "-c", ":").returncode == 0
    installs = [call for call in checkout.calls("python") if "pip install" in call]
    assert len(installs) == 1
    assert installs[0].endswith(f"--editable {checkout.path}[dev]")


def test_failed_installation_is_tried_again(checkout: Checkout) -> None:
    checkout.with_venv(stamp=False)
    checkout.program("python", '[ "$3" != install ]', checkout.venv / "bin")
    for _ in range(2):
        done = checkout.run("bash", "-c", "echo ran")
        assert (done.returncode, done.stdout) == (1, "")
        assert "could not be installed" in done.stderr
    assert len([call for call in checkout.calls("python") if "pip install" in call]) == 2


def test_uv_installs_if_it_is_there(checkout: Checkout) -> None:
    checkout.with_venv(stamp=False).program("uv", "exit 0")
    assert checkout.run("bash", "-c", ":").returncode == 0
    assert len([call for call in checkout.calls("uv") if call.startswith("uv pip install")]) == 1
    assert not [call for call in checkout.calls("python") if "pip" in call]


def test_moved_checkout_gets_a_new_environment(checkout: Checkout) -> None:
    """Scripts in .venv/bin hold absolute paths: after a move they would run the old place's Python."""
    checkout.with_venv()
    (checkout.venv / "damon-tests.stamp").write_text("/elsewhere\n[project]\n")
    (checkout.bin / "python3").symlink_to(sys.executable)
    makes = 'if [ "$1" = venv ]; then for d; do :; done; mkdir -p "$d/bin"; printf new >"$d/new"; fi'
    checkout.program("uv", makes)
    checkout.run("bash", "-c", ":")
    assert (checkout.venv / "new").exists()
    assert not (checkout.venv / "pyvenv.cfg").exists()


def test_directory_in_the_way_is_not_removed(checkout: Checkout) -> None:
    checkout.venv.mkdir()
    (checkout.venv / "precious").touch()
    done = checkout.run("bash", "-c", "echo ran")
    assert (done.returncode, done.stdout) == (1, "")
    assert "in the way" in done.stderr
    assert (checkout.venv / "precious").exists()


@pytest.mark.parametrize(
    ("manager", "command"),
    [
        ("apt-get", "apt-get install -y gcc make libc6-dev"),
        ("dnf", "dnf install -y gcc make glibc-static"),
        ("zypper", "zypper --non-interactive install gcc make glibc-devel-static"),
        ("pacman", "pacman -S --noconfirm gcc make"),
        ("none", "install gcc make libc (static) with your system's package manager"),
    ],
)
def test_missing_compiler_is_named_and_the_command_runs(
    checkout: Checkout, manager: str, command: str
) -> None:
    checkout.with_venv().with_makefile(GOOD_MAKEFILE).program(manager, "exit 1")
    checkout.program("id", "echo 0")
    done = checkout.run("bash", "-c", "echo ran")
    assert (done.returncode, done.stdout) == (0, "ran\n")
    assert len(done.stderr.splitlines()) == 1
    assert done.stderr.endswith(f": {command}\n")
    assert checkout.calls(manager) == []


def test_ordinary_user_is_told_to_use_sudo(checkout: Checkout) -> None:
    checkout.with_venv().with_makefile(GOOD_MAKEFILE).program("apt-get", "exit 1")
    checkout.program("id", "echo 1000")
    done = checkout.run("--install", "bash", "-c", "echo ran", CI="true")
    assert done.returncode == 0
    assert "sudo apt-get install -y gcc make libc6-dev" in done.stderr
    assert checkout.calls("apt-get") == []


@pytest.mark.parametrize("how", ["--install", "CI"])
def test_root_installs_the_compiler_when_asked(checkout: Checkout, how: str) -> None:
    checkout.with_venv().with_makefile(GOOD_MAKEFILE).with_compiler().with_test_tools()
    parked = checkout.path / "parked"
    (checkout.bin / "cc").rename(parked)
    (checkout.bin / "mv").symlink_to(shutil.which("mv") or "")
    checkout.program("id", "echo 0")
    # The first try fails, as on an image without package lists.
    checkout.program("apt-get", f'[ "$1" = update ] || [ -e "{checkout.bin}/lists" ] || exit 100\n')
    with open(checkout.bin / "apt-get", "a", encoding="utf-8") as file:
        file.write(f'touch "{checkout.bin}/lists"\n[ "$1" = update ] || mv "{parked}" "{checkout.bin}/cc"\n')
    asked = {"CI": "true"} if how == "CI" else {}
    done = checkout.run(*([how] if how != "CI" else []), "bash", "-c", "echo ran", **asked)
    assert (done.returncode, done.stdout) == (0, "ran\n")
    install = "apt-get install -y gcc make libc6-dev"
    assert checkout.calls("apt-get") == [install, "apt-get update -qq", install]
    assert (checkout.path / "workloads" / "build" / "program").exists()


TEST_PACKAGES = {
    "apt-get": "cpio file fuse3 gnupg procps zstd gcc-aarch64-linux-gnu libc6-dev-arm64-cross",
    "dnf": "cpio file fuse3 gnupg2 procps-ng zstd",
    "zypper": "cpio file fuse3 gpg2 procps zstd",
    "pacman": "cpio file fuse3 gnupg procps-ng zstd",
}


@pytest.mark.parametrize("manager", TEST_PACKAGES)
def test_root_installs_the_tests_tools_when_asked(checkout: Checkout, manager: str) -> None:
    """In one command, and a failure does not stop what follows: the tests skip and say what they miss."""
    checkout.with_venv().program("id", "echo 0")
    for tool in set(TEST_TOOLS) - {
        "aarch64-linux-gnu-gcc",
        "cpio",
        "file",
        "fusermount3",
        "gpg",
        "ps",
        "zstd",
    }:
        checkout.program(tool, "exit 1")
    checkout.program(manager, "exit 1")
    done = checkout.run("bash", "-c", "echo ran", CI="true")
    assert (done.returncode, done.stdout) == (0, "ran\n")
    last = checkout.calls(manager)[-1]
    assert last.endswith(f" {TEST_PACKAGES[manager]}")
    assert f"will be skipped: {TEST_PACKAGES[manager]}" in done.stderr
    assert checkout.run("bash", "-c", "echo ran").stderr == ""  # nobody asked


def test_broken_program_stops_unless_not_needed(checkout: Checkout) -> None:
    checkout.with_venv().with_makefile("all:\n\t@echo broken here; false\n").with_compiler()
    done = checkout.run("bash", "-c", "echo ran")
    assert (done.returncode, done.stdout) == (1, "")
    assert "broken here" in done.stderr
    assert checkout.run("--no-build", "bash", "-c", "echo ran").stdout == "ran\n"


def test_bad_options_and_unknown_commands_are_refused(checkout: Checkout) -> None:
    checkout.with_venv()
    assert checkout.run("--nonsense").returncode == 2
    assert checkout.run("--help").stdout.startswith("Usage: ci/bootstrap")
    done = checkout.run("no-such-command")
    assert done.returncode == 127
    assert "no-such-command" in done.stderr
