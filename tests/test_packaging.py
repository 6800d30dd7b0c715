# SPDX-License-Identifier: GPL-2.0
"""The wheel has all that the checkout has, and runs the same tests under the same names."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
BUNDLE = "damon_tests/_bundle/"
PROGRAMS = (
    "damon-tests-agent",
    "damon-tests-clocks",
    "damon-tests-engine",
    "damon-tests-qemu_plugin",
)

pytestmark = pytest.mark.slow


def run(*command: str | Path, cwd: Path, **environment: str) -> str:
    """Standard output of a command that must succeed."""
    done = subprocess.run(
        command,
        cwd=cwd,
        env={**os.environ, **environment},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def build(kind: str, source: Path, output: Path, **environment: str) -> Path:
    run(sys.executable, "-m", "hatchling", "build", "-t", kind, "-d", output, cwd=source, **environment)
    (built,) = output.iterdir()
    return built


def contents(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if not (shutil.which("cc") and shutil.which("make")):
        pytest.skip("needs a C compiler and make (Debian: apt-get install gcc make libc6-dev)")
    return build("wheel", ROOT, tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment with the wheel in it; what the wheel depends on is borrowed from this one."""
    venv = tmp_path_factory.mktemp("venv")
    if shutil.which("uv"):
        run("uv", "venv", "--quiet", "--allow-existing", "--python", sys.executable, venv, cwd=venv)
        run(
            "uv", "pip", "install", "--python", venv / "bin/python", "--no-deps", "--offline", wheel, cwd=venv
        )
    else:
        run(sys.executable, "-m", "venv", venv, cwd=venv)
        run(venv / "bin/python", "-m", "pip", "install", "--no-deps", "--no-index", wheel, cwd=venv)
    (site,) = (venv / "lib").glob("python*/site-packages")
    # Python reads no .pth files there, so the editable installation of the checkout is not borrowed.
    borrowed = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}
    (site / "borrowed.pth").write_text("\n".join(sorted(borrowed)) + "\n")
    return venv


def test_wheel_has_everything(wheel: Path) -> None:
    names = contents(wheel)
    for directory in ("suites", "workloads/patterns", "workloads/src", "kselftest_compat/shims"):
        files = [p for p in (ROOT / directory).rglob("*") if p.is_file() and "__pycache__" not in p.parts]
        assert files
        assert {f"{BUNDLE}{file.relative_to(ROOT)}" for file in files} <= names
    assert {f"{BUNDLE}workloads/build/{program}" for program in PROGRAMS} <= names
    assert any(name.endswith("licenses/LICENSE") for name in names)
    assert "damon_tests/py.typed" in names
    assert [name for name in names if "__pycache__" in name] == []
    # It carries programs, so it must not be offered to other machines.
    assert wheel.name.endswith(f"-py3-none-linux_{os.uname().machine}.whl")


def test_wheel_from_sdist_is_the_same(wheel: Path, tmp_path: Path) -> None:
    (tmp_path / "sdist").mkdir()
    sdist = build("sdist", ROOT, tmp_path / "sdist")
    with tarfile.open(sdist) as archive:
        archive.extractall(tmp_path / "source", filter="data")
    (source,) = (tmp_path / "source").iterdir()
    (tmp_path / "wheel").mkdir()
    assert contents(build("wheel", source, tmp_path / "wheel")) == contents(wheel)


def test_wheel_without_compiler_is_for_every_machine(tmp_path: Path) -> None:
    pure = build("wheel", ROOT, tmp_path, CC="no-such-compiler")
    assert pure.name.endswith("-py3-none-any.whl")
    names = contents(pure)
    assert not [name for name in names if name.startswith(f"{BUNDLE}workloads/build/")]
    assert f"{BUNDLE}workloads/src/Makefile" in names


def test_same_tests_as_in_the_checkout(installed: Path, tmp_path: Path) -> None:
    """Ids are how results of two runs are compared."""
    outside = tmp_path / "outside"
    outside.mkdir()
    python = installed / "bin" / "python"
    where = "import damon_tests.bundle as b, sys; print(b.__file__.startswith(sys.prefix), b.root())"
    assert run(python, "-c", where, cwd=outside).startswith("True ")

    def collected(*command: str | Path, cwd: Path) -> list[str]:
        return [line for line in run(*command, cwd=cwd).splitlines() if "::" in line]

    options = ("--collect-only", "-q", f"--output={tmp_path / 'results'}")
    wheel_ids = collected(
        installed / "bin/damon-tests", "run", *(f"--pytest={option}" for option in options), cwd=outside
    )
    checkout_ids = collected(sys.executable, "-m", "pytest", "suites", *options, cwd=ROOT)
    assert checkout_ids
    assert wheel_ids == checkout_ids


def test_bundled_programs_can_be_run(installed: Path) -> None:
    (bundle,) = installed.glob("lib/python*/site-packages/damon_tests/_bundle/workloads/build")
    for program in PROGRAMS:
        assert os.access(bundle / program, os.X_OK)
