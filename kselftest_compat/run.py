#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""Run the kernel's own DAMON selftests against the reference, and compare with a real kernel.

    python kselftest_compat/run.py [--level 7.3] [TEST…]

The sources come unchanged from Debian's linux-source package, fetched into the project's cache. Tests run
under ``damon-tests serve --exec``, with a few programs of ours first on PATH (``shims``).
Exit code 0: every test that passes on the real kernel passes here; 1: some test does not.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock

from damon_tests import bundle
from damon_tests.kernel.images.image import SUITES
from damon_tests.kernel.images.packages import Archive
from damon_tests.ports import DamonTestsError, HarnessError, NotSupported

SERIES = "7.3"
VERSION = "7.3.4"
TIMEOUT_S = 300
SKIPPED = 4  # kselftest's exit code
SELFTESTS = "tools/testing/selftests/damon"

# Results on a real 7.3.4 (in a VM, with sources and kernel of that version). Two failed for lack of drgn.
ON_REAL_KERNEL = {
    "sysfs.sh": "pass",
    "sysfs.py": "fail",
    "sysfs_update_schemes_tried_regions_wss_estimation.py": "pass",
    "damos_quota.py": "pass",
    "damos_quota_goal.py": "pass",
    "damos_apply_interval.py": "pass",
    "damos_tried_regions.py": "pass",
    "damon_nr_regions.py": "pass",
    "sysfs_refresh.py": "pass",
    "reclaim.sh": "pass",
    "lru_sort.sh": "pass",
    "sysfs_update_removed_scheme_dir.sh": "pass",
    "sysfs_update_schemes_tried_regions_hang.py": "pass",
    "sysfs_memcg_path_leak.sh": "pass",
    "sysfs_no_op_commit_break.py": "fail",
}
NEEDS = {
    "sysfs_memcg_path_leak.sh": "reads the kernel's kmemleak",
}


@dataclass(frozen=True)
class Result:
    """A test's result. ``outcome``: "pass", "fail" or "skip"; ``why``: a reason, or the last line printed."""

    name: str
    outcome: str
    seconds: float
    why: str = ""

    @property
    def as_on_kernel(self) -> bool:
        """Return whether it is at least as good as on a real kernel, or cannot run here."""
        return self.outcome in ("pass", "skip") or ON_REAL_KERNEL.get(self.name) == "fail"


def sources(cache: Path | None = None) -> Path:
    """Return the directory of the selftests; unpack it into the cache if needed. Raises DamonTestsError."""
    root = (cache or bundle.cache_dir()) / "selftests" / VERSION
    with FileLock(_made(root.parent) / ".lock"):
        if (root / SELFTESTS).is_dir():
            return root / SELFTESTS
        archive = Archive("kernels", SUITES, cache)
        archive.refresh()
        packages = archive.packages([f"linux-source-{SERIES}"])
        matching = [package for package in packages if package.version.startswith(VERSION + "-")]
        if not matching:
            raise NotSupported(
                f"Debian's archive has no linux-source-{SERIES} of version {VERSION}",
                remedy="there are " + (", ".join(package.version for package in packages) or "none"),
            )
        with tempfile.TemporaryDirectory(dir=root.parent, prefix=".unpack-") as directory:
            _unpack(archive.fetch(matching[:1])[0], Path(directory))
            os.rename(directory, root)
            _made(Path(directory))  # for the context to remove
    return root / SELFTESTS


def _made(directory: Path) -> Path:
    directory.mkdir(parents=True, exist_ok=True)
    return directory


def _unpack(deb: Path, into: Path) -> None:
    """Unpack only the selftests, without writing the whole kernel to disk."""
    outer = subprocess.Popen(["dpkg-deb", "--fsys-tarfile", str(deb)], stdout=subprocess.PIPE)
    try:
        with tarfile.open(fileobj=outer.stdout, mode="r|") as package:
            for member in package:
                if member.name.endswith(f"linux-source-{SERIES}.tar.xz"):
                    _unpack_tree(package, member, into)
                    return
    finally:
        outer.kill()
        outer.wait()
    raise HarnessError(f"{deb.name} has no linux-source-{SERIES}.tar.xz")


def _unpack_tree(package: tarfile.TarFile, member: tarfile.TarInfo, into: Path) -> None:
    with tarfile.open(fileobj=package.extractfile(member), mode="r|xz") as tree:
        in_selftests = False
        for file in tree:
            name = file.name.partition("/")[2]
            wanted = name == SELFTESTS or name.startswith(SELFTESTS + "/")
            if wanted:
                file.name = name
                tree.extract(file, into, filter="data")
            elif in_selftests:
                return  # the tree is sorted: no more files follow
            in_selftests |= wanted


def build(source: Path, into: Path) -> None:
    """Copy the selftests and compile their C programs."""
    shutil.copytree(source, into, dirs_exist_ok=True)
    for program in into.glob("*.c"):
        done = subprocess.run(
            ["cc", "-O2", "-o", program.stem, program.name],
            cwd=into,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise HarnessError(f"{program.name} cannot be compiled: {done.stderr.strip()[-300:]}")


def run_one(name: str, directory: Path, level: str) -> Result:
    """Run a test in a fresh reference."""
    path = os.pathsep.join([str(Path(__file__).parent / "shims"), os.environ.get("PATH", os.defpath)])
    command = [*(["bash"] if name.endswith(".sh") else [sys.executable]), name]
    serve = [sys.executable, "-m", "damon_tests.cli", "serve", "--level", level, "--exec", *command]
    environment = {**os.environ, "PATH": path, "PYTHONPATH": str(Path(__file__).resolve().parent.parent)}
    started = time.monotonic()
    try:
        done = subprocess.run(
            serve,
            cwd=directory,
            env=environment,
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return Result(name, "fail", TIMEOUT_S, f"did not end within {TIMEOUT_S} s")
    seconds = time.monotonic() - started
    lines = (done.stdout + done.stderr).strip().splitlines()
    last = lines[-1] if lines else ""
    if done.returncode and name in NEEDS:
        return Result(name, "skip", seconds, NEEDS[name])
    if name in NEEDS and "not found" in last:  # it skips without kselftest's exit code
        return Result(name, "skip", seconds, NEEDS[name])
    if done.returncode == SKIPPED:
        return Result(name, "skip", seconds, last)
    return Result(name, "pass" if done.returncode == 0 else "fail", seconds, last if done.returncode else "")


def run(names: Sequence[str], level: str = SERIES) -> list[Result]:
    """Run tests one after the other; print a line for each. Raises DamonTestsError."""
    unknown = [name for name in names if name not in ON_REAL_KERNEL]
    if unknown:
        raise HarnessError(f"no such selftest: {', '.join(unknown)}; there are {', '.join(ON_REAL_KERNEL)}")
    results = []
    with tempfile.TemporaryDirectory(prefix="damon-selftests-") as directory:
        build(sources(), Path(directory))
        print(f"{'test':54} {'7.3.4':6} {'here':6} {'s':>6}")
        for name in names or ON_REAL_KERNEL:
            result = run_one(name, Path(directory), level)
            results.append(result)
            print(
                f"{name:54} {ON_REAL_KERNEL[name]:6} {result.outcome:6} {result.seconds:6.1f} {result.why}",
                flush=True,
            )
    return results


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--level", default=SERIES)
    parser.add_argument("tests", nargs="*", metavar="TEST", help="default: all")
    args = parser.parse_args()
    try:
        results = run(args.tests, args.level)
    except DamonTestsError as error:
        print(f"run.py: {error}", file=sys.stderr)
        return error.exit_code
    worse = [result.name for result in results if not result.as_on_kernel]
    good = len(results) - len(worse)
    print(f"{good} of {len(results)} are as on Linux {VERSION}, or better, or cannot run here")
    return 1 if worse else 0


if __name__ == "__main__":
    sys.exit(main())
