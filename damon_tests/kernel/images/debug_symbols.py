# SPDX-License-Identifier: GPL-2.0
"""Unpack the vmlinux of a Debian kernel, which has its symbols and lines, from its -dbg package."""

from __future__ import annotations

import subprocess
import tempfile
from pathlib import Path

from filelock import FileLock

from damon_tests import bundle
from damon_tests.kernel.images.arch import flavour
from damon_tests.kernel.images.image import archive_of
from damon_tests.kernel.images.packages import Archive, using
from damon_tests.ports import HarnessError, NotSupported, UsageError


def debian_vmlinux(
    spec: str, release: str, cache: Path | None = None, archive: Archive | None = None
) -> Path:
    """Return the vmlinux of Debian's kernel ``release``; fetch and unpack it (1 GB) if needed.

    ``spec``: the ``--kernel`` that chose it. Raises UsageError for a kernel that is not Debian's,
    NotSupported if the archive no longer has the package.
    """
    if not spec.startswith("debian:"):
        raise UsageError(
            f"{spec}: only Debian's kernels have a -dbg package; keep a build's vmlinux in its place"
        )
    cache = cache or bundle.cache_dir()
    vmlinux = cache / "symbols" / f"vmlinux-{release}"
    with using(cache):
        vmlinux.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{vmlinux}.lock"):
            if not vmlinux.is_file():
                _unpack(release, archive_of(flavour(spec).arch, cache), vmlinux)
    return vmlinux


def _unpack(release: str, archive: Archive, vmlinux: Path) -> None:
    name = f"linux-image-{release}-dbg"
    packages = archive.packages([name])
    if not packages:
        raise NotSupported(f"Debian's archive has no {name} now", remedy="archives drop old versions")
    (deb,) = archive.fetch(packages[-1:])
    with tempfile.TemporaryDirectory(dir=vmlinux.parent, prefix=".unpack-") as directory:
        _extract(deb, "./usr/lib/debug/*vmlinux*", directory)
        # The other names are links to it.
        found = [
            path for path in Path(directory).rglob("vmlinux*") if path.is_file() and not path.is_symlink()
        ]
        if not found:
            raise HarnessError(f"{deb.name} has no vmlinux")
        found[0].replace(vmlinux)
    deb.unlink()  # hundreds of MB, of which nothing else is needed


def _extract(deb: Path, pattern: str, directory: str) -> None:
    """Unpack the files of a package that match a pattern of tar; none is no error."""
    try:
        with subprocess.Popen(["dpkg-deb", "--fsys-tarfile", deb], stdout=subprocess.PIPE) as packed:
            subprocess.run(
                ["tar", "-x", "-C", directory, "--wildcards", pattern],
                stdin=packed.stdout,
                stderr=subprocess.DEVNULL,
                check=False,
            )
    except OSError as error:
        raise HarnessError(f"{deb.name} cannot be unpacked: {error}") from error
