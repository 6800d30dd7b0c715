# SPDX-License-Identifier: GPL-2.0
"""The kernel's own DAMON selftests: find their source, build them, and install them to run.

The source is a kernel tree, or Debian's ``linux-source`` package of a series; nothing of it is part of this
project. Installed as ``make install`` of tools/testing/selftests does, with its runner, which prints KTAP,
but without rsync, kernel headers and the rest of the tree.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tarfile
import tempfile
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock

from damon_tests import bundle
from damon_tests.kernel.images.image import SUITES
from damon_tests.kernel.images.packages import Archive, Package, using
from damon_tests.ports import HarnessError, NotSupported, UsageError

COLLECTION = "damon"
RUNNER = "run_kselftest.sh"

_SELFTESTS = "tools/testing/selftests"
_KUNIT = "tools/testing/kunit"
_WANTED = (_KUNIT, *(f"{_SELFTESTS}/{name}" for name in (COLLECTION, "kselftest", "lib.mk", RUNNER)))
_PREFIX = "linux-source-"


@dataclass(frozen=True)
class SelftestSource:
    """``directory``: a tree's tools/testing/selftests. ``name``: where it is from, as people read it."""

    directory: Path
    name: str

    @property
    def programs(self) -> tuple[str, ...]:
        """Return the names of the DAMON selftests, in the order of their Makefile. Raises UsageError."""
        return makefile_words(self._makefile(), ("TEST_PROGS", "TEST_GEN_PROGS"), self.name)

    @property
    def kunit(self) -> Path:
        """Return the tree's kunit.py, which reads KTAP."""
        return self.directory.parent / "kunit/kunit.py"

    def text(self, program: str) -> str:
        """Return the source of a program, "" for one that is compiled."""
        path = self.directory / COLLECTION / program
        return path.read_text(errors="replace") if path.is_file() else ""

    def _makefile(self) -> str:
        path = self.directory / COLLECTION / "Makefile"
        try:
            return path.read_text()
        except OSError as error:
            raise UsageError(f"{path}: cannot be read ({error.strerror}): no DAMON selftests there") from None


def makefile_words(makefile: str, variables: tuple[str, ...], name: str) -> tuple[str, ...]:
    """Return what a Makefile assigns to these variables. Raises UsageError if that is nothing."""
    words: list[str] = []
    for line in makefile.replace("\\\n", " ").splitlines():
        assigned = re.match(r"(\w+)\s*[:+?]?=(.*)", line)
        if assigned and assigned[1] in variables:
            words += assigned[2].partition("#")[0].split()
    if not words:
        raise UsageError(f"the Makefile of the DAMON selftests of {name} names no program")
    return tuple(dict.fromkeys(words))


def of_tree(tree: Path) -> SelftestSource:
    """Return the selftests of a kernel tree. Raises UsageError if it has none."""
    directory = tree / _SELFTESTS
    for name in (f"{COLLECTION}/Makefile", "kselftest/runner.sh", RUNNER):
        if not (directory / name).is_file():
            raise UsageError(f"{tree}: no kernel tree with DAMON selftests ({_SELFTESTS}/{name} is missing)")
    return SelftestSource(directory, str(tree))


def of_debian(series: str, cache: Path | None = None) -> SelftestSource:
    """Return the selftests of Debian's source package for kernels of a series; fetch it if needed.

    It is that of the series, or of the newest series before it: user space that works on a kernel works on
    later ones, while new selftests need files that older kernels do not have. Raises DamonTestsError.
    """
    archive = Archive("kernels", SUITES, cache)
    archive.refresh()
    offered = {name.removeprefix(_PREFIX): name for name in archive.names(_PREFIX)}
    chosen = nearest_series(series, list(offered))
    if chosen is None:
        raise NotSupported(
            f"Debian's archive has no linux-source of {series} or an older series",
            remedy="give a kernel tree: --source TREE",
        )
    package = archive.packages([offered[chosen]])[0]
    root = (cache or bundle.cache_dir()) / "kernel-tests" / package.version.replace("/", "_")
    with using(root.parent):
        root.parent.mkdir(parents=True, exist_ok=True)
    with using(root.parent), FileLock(root.parent / ".lock"):
        if not (root / _SELFTESTS).is_dir():
            _unpack(archive, package, root)
    return SelftestSource(root / _SELFTESTS, f"{package.name} {package.version}")


def nearest_series(series: str, offered: list[str]) -> str | None:
    """Return the newest of the series that is not newer than ``series``; None if all are newer."""
    known = {_numbers(name): name for name in offered if re.fullmatch(r"\d+\.\d+", name)}
    older = [numbers for numbers in known if numbers <= _numbers(series)]
    return known[max(older)] if older else None


def _numbers(series: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", series)[:2])


def _unpack(archive: Archive, package: Package, root: Path) -> None:
    deb = archive.fetch([package])[0]
    with tempfile.TemporaryDirectory(dir=root.parent, prefix=".unpack-") as name:
        into = Path(name) / "tree"
        into.mkdir()
        outer = subprocess.Popen(["dpkg-deb", "--fsys-tarfile", str(deb)], stdout=subprocess.PIPE)
        try:
            _unpack_selftests(outer, package.name, into)
        finally:
            outer.kill()
            outer.wait()
        os.rename(into, root)


def _unpack_selftests(outer: subprocess.Popen[bytes], name: str, into: Path) -> None:
    """Unpack only the selftests, without writing the whole kernel to disk."""
    with tarfile.open(fileobj=outer.stdout, mode="r|") as package:
        for member in package:
            if member.name.endswith(f"{name}.tar.xz"):
                with tarfile.open(fileobj=package.extractfile(member), mode="r|xz") as tree:
                    _extract_wanted(tree, into)
                return
    raise HarnessError(f"the package {name} has no {name}.tar.xz")


def _extract_wanted(tree: tarfile.TarFile, into: Path) -> None:
    for file in tree:
        file.name = file.name.partition("/")[2]
        if any(file.name == name or file.name.startswith(name + "/") for name in _WANTED):
            tree.extract(file, into, filter="data")
        if file.name == _WANTED[-1]:
            return  # the tree is sorted: nothing wanted follows


def install(source: SelftestSource, into: Path) -> None:
    """Copy the selftests, compile their C programs, and list them for the runner. Raises HarnessError.

    ``into`` is a new directory. Programs are static: they also run in a guest with other libraries.
    """
    tests = into / COLLECTION
    shutil.copytree(source.directory / COLLECTION, tests)
    shutil.copytree(source.directory / "kselftest", into / "kselftest")
    shutil.copy(source.directory / RUNNER, into / RUNNER)
    for program in sorted(tests.glob("*.c")):
        command = ["cc", "-O2", "-static", "-D_GNU_SOURCE=", f"-I{source.directory}"]
        try:
            done = subprocess.run(
                [*command, "-o", program.stem, program.name],
                cwd=tests,
                capture_output=True,
                text=True,
                check=False,
            )
        except OSError as error:
            raise NotSupported(
                f"no C compiler ({error.strerror})", remedy="apt-get install gcc libc6-dev"
            ) from None
        if done.returncode:
            raise HarnessError(f"{program.name} cannot be compiled: {done.stderr.strip()[-300:]}")
    for path in (into / RUNNER, *(into / "kselftest").iterdir(), *(tests / name for name in source.programs)):
        if path.is_file():
            path.chmod(0o755)
    lines = "".join(f"{COLLECTION}:{program}\n" for program in source.programs)
    (into / "kselftest-list.txt").write_text(lines)
