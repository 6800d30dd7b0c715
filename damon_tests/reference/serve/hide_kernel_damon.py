# SPDX-License-Identifier: GPL-2.0
"""Hide the machine's own DAMON from a program, and prove that it is hidden.

All of this happens in a mount namespace of our own. The rules, in order of strength: the real sysfs is
read-only there before anything else is done; every path by which DAMON could be reached is covered; the
covers are verified; and the program runs in a further user namespace, for which the covers are locked.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from damon_tests.ports import HarnessError, NotSupported
from damon_tests.reference.serve import linux_calls
from damon_tests.reference.serve.linux_calls import MS_BIND, MS_NODEV, MS_NOSUID, MS_RDONLY, MS_REMOUNT
from damon_tests.reference.serve.sysfs_files import NONCE_NAME

MM = "/sys/kernel/mm"
MODULES = "/sys/module"
MODULE_PREFIX = "damon_"
TRACING = ("tracefs", "debugfs")
TRACING_POINT = "/sys/kernel/tracing"

_LOCKED_FLAGS = {os.ST_NOSUID: MS_NOSUID, os.ST_NODEV: MS_NODEV, os.ST_NOEXEC: 8}


class Covers:
    """Cover DAMON with what is served below ``served`` (a mounted ``SysfsFiles``).

    ``work`` is an empty directory, on which a tmpfs is mounted.
    """

    def __init__(self, served: str, work: str, nonce: str) -> None:
        self._served = Path(served)
        self._work = Path(work)
        self._nonce = nonce
        self._sysfs_dev = os.stat("/sys").st_dev
        self._mm = [f"{MM}/{name}" for name in _names(self._served / "kernel/mm")]
        self._modules = [f"{MODULES}/{name}" for name in _names(self._served / "module")]

    @property
    def paths(self) -> Sequence[str]:
        """What must be covered, and with the served files."""
        return [*self._mm, *self._modules]

    def install(self, events: Sequence[str]) -> None:
        """Cover everything. ``events``: tracepoints to list where tracefs is looked for; they cannot be
        traced.

        Raises NotSupported where this kernel or container forbids it.
        """
        try:
            _make_read_only("/sys")
            tracing = self._work / "tracing"
            tracing.mkdir()
            names = "".join(f"damon:{name}\n" for name in sorted(events))
            (tracing / "available_events").write_text(names, encoding="ascii")
            self._cover_other_mounts(tracing)
            self._cover(MM, [Path(path) for path in self._mm], lambda name: name == "damon")
            self._cover(
                MODULES,
                [Path(path) for path in self._modules],
                lambda name: name == "damon" or name.startswith(MODULE_PREFIX),
            )
        except OSError as error:
            raise NotSupported(
                f"covering the machine's own DAMON failed at {error.filename}: {error.strerror}",
                remedy="it needs unprivileged user namespaces and a mounted sysfs",
            ) from error

    def _cover(self, parent: str, ours: Sequence[Path], hidden: object) -> None:
        """Show ours in ``parent``, and nothing of the kernel's for which ``hidden(name)`` holds."""
        assert callable(hidden)
        real = {name for name in os.listdir(parent) if hidden(name)}
        if real != {path.name for path in ours}:
            self._replace(parent, ours, hidden)
            return
        for path in ours:
            linux_calls.bind(self._source(path), str(path))

    def _source(self, path: Path) -> str:
        return str(self._served / path.relative_to("/sys"))

    def _replace(self, parent: str, ours: Sequence[Path], hidden: object) -> None:
        """Put a tmpfs over ``parent`` that has its other children, and ours."""
        assert callable(hidden)
        stage = self._work / Path(parent).name
        stage.mkdir()
        linux_calls.mount("tmpfs", str(stage), "tmpfs", MS_NOSUID | MS_NODEV, "mode=755,size=1m")
        for name in os.listdir(parent):
            child = Path(parent, name)
            if hidden(name):
                continue
            if child.is_symlink():
                (stage / name).symlink_to(os.readlink(child))
                continue
            if child.is_dir():
                (stage / name).mkdir()
            else:
                (stage / name).touch()
            linux_calls.bind(str(child), str(stage / name))
        for path in ours:
            (stage / path.name).mkdir()
            linux_calls.bind(self._source(path), str(stage / path.name))
        linux_calls.bind(str(stage), parent)
        linux_calls.unmount(str(stage))

    def _cover_other_mounts(self, tracing: Path) -> None:
        """Cover other instances of sysfs, and tracing files, which belong to the machine's DAMON."""
        has_tracefs = False
        for kind, point in _mounts():
            if kind == "tracefs" and os.path.isdir(point):
                linux_calls.bind(str(tracing), point)
                has_tracefs = True
            elif kind in TRACING or (kind == "sysfs" and point != "/sys"):
                linux_calls.mount(
                    "none", point, "tmpfs", MS_NOSUID | MS_NODEV | MS_RDONLY, "mode=755,size=4k"
                )
        if not has_tracefs and os.path.isdir(TRACING_POINT):
            linux_calls.bind(str(tracing), TRACING_POINT)
            self._list_tracefs()

    def _list_tracefs(self) -> None:
        """List tracefs in /proc/mounts: damo looks there and refuses to work without; it cannot be mounted
        here."""
        table = self._work / "mounts"
        line = f"tracefs {TRACING_POINT} tracefs ro,relatime 0 0\n"
        table.write_text(Path("/proc/self/mounts").read_text(encoding="utf-8") + line, encoding="utf-8")
        # /proc/mounts is a symbolic link: cover the link itself.
        fd = os.open("/proc/mounts", os.O_PATH | os.O_NOFOLLOW)
        try:
            linux_calls.bind(str(table), f"/proc/self/fd/{fd}")
        except OSError:
            pass  # an old kernel; only damo misses it
        finally:
            os.close(fd)

    def show_ram(self, ranges: Sequence[tuple[int, int]]) -> None:
        """Show the reference's memory in /proc/iomem (where the kernel shows ordinary users zeros)."""
        text = "".join(f"{start:08x}-{end - 1:08x} : System RAM\n" for start, end in ranges)
        file = self._work / "iomem"
        file.write_text(text, encoding="ascii")
        linux_calls.bind(str(file), "/proc/iomem")

    # Proof

    def verify(self) -> None:
        """Raises HarnessError unless every way to DAMON leads to the served files. Writes nothing."""
        served_dev = self._served_dev()
        for path in self.paths:
            _require(os.stat(path).st_dev != self._sysfs_dev, f"{path} is still the kernel's")
            _require(os.stat(path).st_dev == served_dev, f"{path} is not what is served")
            nonce = Path(path, NONCE_NAME).read_text(encoding="ascii").strip()
            _require(nonce == self._nonce, f"{path} is not served by this server")
        for parent, ours in ((MM, self._mm), (MODULES, self._modules)):
            for name in os.listdir(parent):
                hidden = name == "damon" or name.startswith(MODULE_PREFIX)
                _require(not hidden or f"{parent}/{name}" in ours, f"{parent}/{name} is not covered")
        _require(bool(os.statvfs("/sys").f_flag & os.ST_RDONLY), "/sys can be written")
        for kind, point in _mounts(on_top=True):
            other = kind in TRACING or (kind == "sysfs" and not point.startswith("/sys"))
            _require(not other, f"{point} ({kind}) is not covered")

    def _served_dev(self) -> int:
        return os.stat(self._served).st_dev


def _require(holds: bool, otherwise: str) -> None:
    if not holds:
        raise HarnessError(f"the machine's own DAMON is not safely hidden: {otherwise}; nothing was started")


def _names(path: Path) -> list[str]:
    return sorted(os.listdir(path)) if path.is_dir() else []


def _make_read_only(point: str) -> None:
    flags = os.statvfs(point).f_flag
    keep = sum(flag for bit, flag in _LOCKED_FLAGS.items() if flags & bit)
    linux_calls.mount("none", point, None, MS_REMOUNT | MS_BIND | MS_RDONLY | keep)


def _mounts(on_top: bool = False) -> list[tuple[str, str]]:
    """Return (file system, mount point) of each mount; ``on_top``: only the last one of each point."""
    mounts: list[tuple[str, str]] = []
    with open("/proc/self/mounts", encoding="utf-8", errors="surrogateescape") as file:
        for line in file:
            _, point, kind, *_ = line.split()
            mounts.append((kind, point.replace(r"\040", " ")))
    if on_top:
        return [(kind, point) for point, kind in {point: kind for kind, point in mounts}.items()]
    return mounts
