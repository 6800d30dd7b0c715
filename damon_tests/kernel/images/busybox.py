# SPDX-License-Identifier: GPL-2.0
"""Get busybox, a static program with a shell and the usual commands, for interactive guests."""

from __future__ import annotations

import tempfile
from pathlib import Path

from filelock import FileLock

from damon_tests import bundle
from damon_tests.kernel.images import initramfs
from damon_tests.kernel.images.arch import X86_64, Arch, of_this_machine
from damon_tests.kernel.images.image import archive_of
from damon_tests.kernel.images.packages import Archive, run_tool, unpack, using
from damon_tests.ports import HarnessError, NotSupported

_PACKAGE = "busybox-static"
PATH = "/usr/sbin:/usr/bin:/sbin:/bin"


def find(cache: Path | None = None, arch: Arch = X86_64) -> Path:
    """Return the program's path, from Debian's busybox-static for ``arch`` (downloaded once).

    Raises NotSupported or HarnessError when it cannot be downloaded or unpacked.
    """
    cache = cache or bundle.cache_dir()
    kept = cache / ("busybox" if arch is X86_64 else f"busybox-{arch.debian}") / "busybox"
    with using(cache):
        kept.parent.mkdir(parents=True, exist_ok=True)
    with using(cache), FileLock(kept.parent / ".lock"):
        if not kept.is_file():
            _fetch(archive_of(arch, cache), kept)
    return kept


def _fetch(archive: Archive, kept: Path) -> None:
    version = archive.versions(_PACKAGE).get(archive.called("stable") or "")
    package = next((p for p in archive.packages([_PACKAGE]) if p.version == version), None)
    if package is None:
        raise NotSupported(f"the package {_PACKAGE} in Debian's stable release")
    with tempfile.TemporaryDirectory(dir=kept.parent, prefix=".unpack-") as name:
        unpack(archive.fetch([package]), Path(name))
        programs = [path for sub in ("usr/bin", "bin") if (path := Path(name) / sub / "busybox").is_file()]
        if not programs:
            raise HarnessError(f"the package {_PACKAGE} {version} has no program busybox")
        programs[0].replace(kept)


def nodes(cache: Path | None = None, arch: Arch = X86_64) -> dict[str, initramfs.Node]:
    """Return the files of a small userland for ``arch``: busybox, a link for each command, users.

    Raises what ``find`` raises.
    """
    files = {
        "bin/busybox": initramfs.program(find(cache, arch).read_bytes()),
        "etc/passwd": initramfs.plain(b"root:x:0:0:root:/root:/bin/sh\n"),
        "etc/group": initramfs.plain(b"root:x:0:\n"),
        "root": initramfs.directory(),
    }
    # The busybox of this machine's own architecture lists the commands: they are the same.
    own = find(cache, of_this_machine())
    for path in run_tool([own, "--list-full"]).stdout.split():
        files.setdefault(path, initramfs.link("/bin/busybox"))
    return files
