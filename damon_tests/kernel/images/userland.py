# SPDX-License-Identifier: GPL-2.0
"""Make a root file system with Python, for guests that run Python programs (the kernel's selftests, damo).

Other guests do without: importing Python in an emulated guest takes seconds.
"""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

from filelock import FileLock

from damon_tests import bundle
from damon_tests.kernel.images.packages import Archive, ArchiveUnreachable, Package, run_tool, unpack, using
from damon_tests.ports import HarnessError, NotSupported

log = logging.getLogger(__name__)

BUSYBOX = "/bin/busybox"
"""Where a guest that has a userland has busybox, outside of it."""
MOUNTED_AT = "/userland"
"""Where a guest mounts it: read-only except for tmp/, with the guest's /dev, /proc and /sys."""

SUITE = "trixie"
PACKAGES = (
    *("base-files", "bash", "coreutils", "diffutils", "file", "findutils", "gawk", "grep", "mount", "procps"),
    *("python3", "sed", "util-linux"),
)
"""What the in-tree DAMON selftests and damo need: a shell, pgrep and ps, file, Python."""

_FORMAT = 3
_UNUSED = ("usr/share/doc", "usr/share/man", "usr/share/locale", "usr/share/info", "usr/share/zoneinfo")
_HEADROOM_MIB = 16


def chroot(argv: Sequence[str]) -> list[str]:
    """Return the command line that runs ``argv`` in a guest's userland."""
    return [BUSYBOX, "chroot", MOUNTED_AT, *argv]


def disk(cache: Path | None = None, more: Sequence[str] = ()) -> Path:
    """Return the ext4 image, made once from about 25 MB of Debian packages and named after their hashes.

    With ``more`` packages, the image also has those and their dependencies. Maintainer scripts do not run.
    Raises NotSupported (no apt, no mkfs.ext4) and HarnessError.
    """
    cache = cache or bundle.cache_dir()
    more = sorted(set(more))
    root = cache / "userland"
    if more:
        root /= hashlib.sha256(" ".join(more).encode()).hexdigest()[:16]
    with using(root):
        root.mkdir(parents=True, exist_ok=True)
    with using(root), FileLock(root / ".lock"):
        try:
            return _current(cache, root, (*PACKAGES, *more))
        except ArchiveUnreachable as error:
            kept = sorted(root.glob("*.ext4"), key=lambda path: path.stat().st_mtime)
            if not kept:
                raise
            log.warning("the userland is the cached one: %s", error)
            return kept[-1]


def _current(cache: Path, root: Path, packages: Sequence[str]) -> Path:
    archive = Archive("userland", (SUITE,), cache)
    needed = archive.closure(packages, SUITE)
    known = {(p.name, p.version): p for p in archive.packages(sorted({name for name, _ in needed}))}
    chosen = [known[entry] for entry in sorted(needed)]
    contents = json.dumps([_FORMAT, [package.sha256 for package in chosen]])
    path = root / f"{hashlib.sha256(contents.encode()).hexdigest()[:16]}.ext4"
    if not path.exists():
        _build(chosen, archive, path)
    return path


def _build(packages: Sequence[Package], archive: Archive, path: Path) -> None:
    mkfs = shutil.which("mkfs.ext4") or shutil.which("mkfs.ext4", path="/usr/sbin:/sbin")
    if mkfs is None:
        raise NotSupported("mkfs.ext4", remedy="apt-get install e2fsprogs")
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".build-") as name:
        tree, image = Path(name) / "tree", Path(name) / "image"
        unpack(archive.fetch(packages), tree)
        _finish(tree)
        used = sum(p.lstat().st_size + 4096 for p in tree.rglob("*")) >> 20
        size = f"{int(used * 1.1) + _HEADROOM_MIB}M"
        options = ["-q", "-F", "-O", "^has_journal", "-E", "root_owner=0:0"]
        result = run_tool([mkfs, *options, "-d", tree, image, size])
        if result.returncode:
            raise HarnessError(f"the userland could not be made: {result.stderr.strip()}")
        image.replace(path)


def _finish(tree: Path) -> None:
    """Do what we need of the packages' maintainer scripts."""
    for unused in _UNUSED:
        shutil.rmtree(tree / unused, ignore_errors=True)
    for directory in ("dev", "proc", "sys", "tmp", "root", "run"):
        (tree / directory).mkdir(exist_ok=True)
    (tree / "usr/bin/awk").symlink_to("gawk")
    if not (tree / "usr/bin/sh").exists():  # of dash, which bash replaces well
        (tree / "usr/bin/sh").symlink_to("bash")
    _choose_alternatives(tree)
    _compile(tree)
    (tree / "etc/passwd").write_text("root:x:0:0:root:/root:/bin/bash\n")
    (tree / "etc/group").write_text("root:x:0:\n")


def _choose_alternatives(tree: Path) -> None:
    """Link the linear algebra libraries for numpy: Debian manages them as alternatives."""
    libraries = tree / "usr/lib/x86_64-linux-gnu"
    for name in ("blas", "lapack"):
        for library in (libraries / name).glob("*.so.3"):
            (libraries / library.name).symlink_to(f"{name}/{library.name}")


def _compile(tree: Path) -> None:
    """Compile the Python library with the tree's own Python.

    A guest cannot keep the result, so it would compile at every start. A failure only makes guests slower.
    """
    loader = tree / "usr/lib64/ld-linux-x86-64.so.2"
    libraries = tree / "usr/lib/x86_64-linux-gnu"
    library = next((tree / "usr/lib").glob("python3.[0-9]*"))
    python = tree / "usr/bin" / library.name
    command: list[str | Path] = ["env", f"PYTHONHOME={tree / 'usr'}", loader, "--library-path", libraries]
    command += [python, "-m", "compileall", "-q", "-s", tree, library]
    if (packages := tree / "usr/lib/python3/dist-packages").exists():
        command.append(packages)
    result = run_tool(command)
    if result.returncode:
        log.warning("the userland's Python library is not compiled: %s", result.stderr.strip()[-200:])
