# SPDX-License-Identifier: GPL-2.0
"""Unpack the kernel source of a series from Debian's ``linux-source`` package into the cache."""

from __future__ import annotations

import re
import tempfile
from pathlib import Path

from filelock import FileLock

from damon_tests import bundle
from damon_tests.kernel.images.image import SUITES, parse_version
from damon_tests.kernel.images.packages import Archive, Package, run_tool, unpack, using
from damon_tests.ports import HarnessError, NotSupported, UsageError


def linux_source(spec: str, cache: Path | None = None) -> Path:
    """Return the source tree that ``debian:SERIES`` names; fetch and unpack it (1.5 GB) if needed.

    Raises UsageError for another spec, NotSupported if the archive has no such package.
    """
    match = re.fullmatch(r"debian:(\d+\.\d+)", spec)
    if match is None:
        raise UsageError(f"{spec!r}: Debian has kernel source by series; write debian:7.3")
    cache = cache or bundle.cache_dir()
    archive = Archive("kernels", SUITES, cache)
    package = newest(archive.packages([f"linux-source-{match[1]}"]))
    if package is None:
        raise NotSupported(
            f"Debian's archive has no linux-source-{match[1]} now", remedy="give a source tree"
        )
    tree = cache / "sources" / f"{package.name}_{package.version.replace('/', '_')}"
    with using(cache):
        tree.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{tree}.lock"):
            if not tree.is_dir():
                _unpack(archive.fetch([package])[0], package.name, tree)
    return tree


def newest(packages: list[Package]) -> Package | None:
    """Return the newest package; a release candidate is older than its release."""
    return max(packages, key=lambda package: parse_version(package.version), default=None)


def _unpack(deb: Path, name: str, tree: Path) -> None:
    with tempfile.TemporaryDirectory(dir=tree.parent, prefix=".unpack-") as directory:
        unpack([deb], Path(directory) / "deb")
        packed = Path(directory) / "deb/usr/src" / f"{name}.tar.xz"
        if not packed.is_file():
            raise HarnessError(f"{deb.name} has no {packed.name}")
        into = Path(directory) / "tree"
        into.mkdir()
        done = run_tool(["tar", "-xJf", packed, "-C", into, "--strip-components=1"])
        if done.returncode:
            raise HarnessError(f"{packed.name} could not be unpacked: {done.stderr.strip()[-300:]}")
        into.replace(tree)
