# SPDX-License-Identifier: GPL-2.0
"""QEMU: find a version that does not corrupt guests, build its command line, run its process."""

from __future__ import annotations

import functools
import json
import logging
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock

from damon_tests import bundle
from damon_tests.kernel.images.arch import X86_64, Arch, of_this_machine
from damon_tests.kernel.images.packages import Archive, ArchiveUnreachable, run_tool, unpack, using
from damon_tests.ports import HarnessError, NotSupported

log = logging.getLogger(__name__)

MIN_VERSION = (10, 0)
"""QEMU 7.2 corrupted two-CPU guests under emulation in 7 of 31 runs, 10.0 in 0 of 63."""


@dataclass(frozen=True)
class Qemu:
    """A QEMU that works here: ``share`` are directories for -L, ``libraries`` for the loader."""

    binary: Path
    version: str
    share: tuple[Path, ...] = ()
    libraries: tuple[Path, ...] = ()
    packages: tuple[tuple[str, str, str], ...] = ()

    def command(self) -> list[str]:
        """Return the first words of every command line."""
        return [str(self.binary), *(word for path in self.share for word in ("-L", str(path)))]

    def environment(self) -> dict[str, str]:
        return _environment(self.libraries)


def _environment(libraries: Sequence[Path]) -> dict[str, str]:
    environment = dict(os.environ)
    if libraries:
        environment["LD_LIBRARY_PATH"] = ":".join(str(path) for path in libraries)
    return environment


def version_of(binary: Path, libraries: Sequence[Path] = ()) -> str | None:
    """Return the version that the program reports, such as ``10.0.2``, or None when it does not run."""
    try:
        result = subprocess.run(
            [binary, "--version"],
            env=_environment(libraries),
            capture_output=True,
            text=True,
            errors="replace",
            timeout=60,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    match = re.search(r"version (\d+(?:\.\d+)+)", result.stdout)
    return match[1] if match and result.returncode == 0 else None


def is_new_enough(version: str) -> bool:
    return tuple(int(part) for part in version.split(".")[:2]) >= MIN_VERSION


@functools.cache
def find(cache: Path | None = None, arch: Arch = X86_64) -> Qemu:
    """Return a QEMU ≥ 10 for ``arch`` from PATH, else one unpacked from Debian's packages (downloaded once).

    Raises NotSupported, with the remedy, when neither works.
    """
    too_old = ""
    if on_path := shutil.which(arch.qemu_binary):
        version = version_of(Path(on_path))
        if version and is_new_enough(version):
            return Qemu(Path(on_path), version)
        too_old = f"; the one on PATH is {version or 'broken'}, and older than 10 corrupts guests"
    root = (cache or bundle.cache_dir()) / ("qemu" if arch is X86_64 else f"qemu-{arch.debian}")
    with using(root):
        root.mkdir(parents=True, exist_ok=True)
    with using(root), FileLock(root / ".lock"):
        for directory in sorted(root.glob("*/qemu.json"), reverse=True):
            if unpacked := _load(directory.parent, arch):
                return unpacked
        return _fetch(root, cache, too_old, arch)


def _fetch(root: Path, cache: Path | None, too_old: str, arch: Arch) -> Qemu:
    problems = []
    for suites in _suites_to_try():
        try:
            fetched = _fetch_from(suites, root, cache, arch)
        except ArchiveUnreachable as error:
            problems.append(str(error))
            continue
        except NotSupported as error:
            problems.append("; ".join(error.missing))
            break
        if fetched:
            return fetched
        problems.append(f"the one of {suites[-1]} does not run here or is too old")
    remedy = f"install QEMU 10 or newer so that {arch.qemu_binary} is on PATH"
    raise NotSupported(f"no usable QEMU{too_old} ({'; '.join(problems)})", remedy=remedy)


def _suites_to_try() -> list[tuple[str, str]]:
    """Return (release, suite with QEMU) pairs: this machine's release, then the one with the oldest glibc."""
    try:
        os_release = Path("/etc/os-release").read_text()
    except OSError:
        os_release = ""
    own = re.search(r"^VERSION_CODENAME=\"?(\w+)", os_release, re.MULTILINE)
    pairs = [("bookworm", "bookworm-backports"), ("trixie", "trixie")]
    if own and own[1] == "trixie":
        pairs.reverse()
    return pairs


def _fetch_from(suites: tuple[str, str], root: Path, cache: Path | None, arch: Arch) -> Qemu | None:
    (release, suite), packages = suites, arch.qemu_packages
    own = of_this_machine()
    lists = f"qemu-{release}" if own is X86_64 else f"qemu-{release}-{own.debian}"
    archive = Archive(lists, tuple(dict.fromkeys(suites)), cache, architecture=own.debian)
    needed = dict(archive.closure(packages[:1], suite))
    known = {(p.name, p.version): p for p in archive.packages(sorted(needed))}
    version = needed[packages[0]]
    with tempfile.TemporaryDirectory(dir=root, prefix=".unpack-") as name:
        tree = Path(name) / "qemu"
        chosen = [known[p, needed[p]] for p in packages]
        unpack(archive.fetch(chosen), tree)
        if _missing_libraries(tree / "usr/bin" / arch.qemu_binary):
            # Fetch only libraries that this machine lacks: QEMU must use this machine's own C library.
            lacking = sorted(p for p in needed if p.startswith("lib") and not _never_ours(p))
            lacking = [p for p in lacking if p not in _installed_packages()]
            extra = [known[p, needed[p]] for p in lacking]
            unpack(archive.fetch(extra), tree)
            chosen += extra
        record = {"packages": [[p.name, p.version, p.sha256] for p in chosen]}
        (tree / "qemu.json").write_text(json.dumps(record, indent=1) + "\n")
        if _load(tree, arch) is None:
            return None
        directory = root / re.sub(r"[^\w.+-]", "_", f"{version}_{chosen[0].sha256[:12]}")
        shutil.rmtree(directory, ignore_errors=True)
        tree.replace(directory)
    return _load(directory, arch)


def _load(directory: Path, arch: Arch) -> Qemu | None:
    """Return an unpacked QEMU, or None if it does not run on this machine or is too old."""
    binary, triplet = directory / "usr/bin" / arch.qemu_binary, of_this_machine().triplet
    libraries = tuple(
        path
        for sub in (f"usr/lib/{triplet}", f"lib/{triplet}", "usr/lib", "lib")
        if any((path := directory / sub).glob("*.so*"))
    )
    version = version_of(binary, libraries)
    if version is None or not is_new_enough(version):
        return None
    share = tuple(path for sub in ("qemu", "seabios") if (path := directory / "usr/share" / sub).is_dir())
    record = json.loads((directory / "qemu.json").read_text())
    packages = tuple((name, ver, digest) for name, ver, digest in record["packages"])
    return Qemu(binary, version, share, libraries, packages)


def _missing_libraries(binary: Path) -> bool:
    return "not found" in run_tool(["ldd", binary]).stdout


def _never_ours(package: str) -> bool:
    return bool(re.match(r"^(libc6|libc-bin|libgcc-s1|libstdc\+\+6)", package))


@functools.cache
def _installed_packages() -> frozenset[str]:
    if shutil.which("dpkg-query") is None:
        return frozenset()
    lines = run_tool(["dpkg-query", "-W", "-f", "${db:Status-Status} ${Package}\\n"]).stdout.splitlines()
    return frozenset(line.split()[1] for line in lines if line.startswith("installed "))


# The command line

INSTRUCTION_CLOCK = "shift=0,sleep=off"
"""Each instruction takes 2^0 ns, about as on real processors; idle time is skipped."""


def machine_options(accel: str, clock: str, cpus: int, memory_mib: int, arch: Arch = X86_64) -> list[str]:
    """Return the options for accelerator ("kvm" or "tcg"), clock, CPUs and memory, without default devices.

    ``clock``, for "tcg" only: "host", or "instructions" for time that advances with the instructions the
    guest executes, so that other load on this machine does not show in the guest. All guest CPUs then
    share one host CPU.
    """
    options = ["-nodefaults", "-no-user-config", "-display", "none", "-no-reboot", "-M"]
    options += [arch.kvm_machine or arch.machine if accel == "kvm" else arch.machine]
    if accel == "kvm":
        options += ["-accel", "kvm", "-cpu", "host"]
    elif clock == "instructions":
        options += ["-accel", "tcg,thread=single", "-icount", INSTRUCTION_CLOCK, "-cpu", arch.tcg_cpu]
    else:
        options += ["-accel", "tcg,thread=multi", "-cpu", arch.tcg_cpu]
    return [*options, "-smp", str(cpus), "-m", str(memory_mib)]


def memory_options(files: Sequence[Path], memory_mib: int, nodes: int, cpus: int, share: bool) -> list[str]:
    """Return the options for ``nodes`` equal NUMA nodes; all CPUs are on node 0, the others are far memory.

    ``files`` back one node each: written to with ``share``, else mapped privately. Empty:
    anonymous memory.
    """
    options = []
    sizes = [memory_mib // nodes] * nodes
    sizes[0] += memory_mib - sum(sizes)
    for node, size in enumerate(sizes):
        if files:
            sharing = "on" if share else "off"
            backend = f"memory-backend-file,id=m{node},mem-path={_comma(files[node])},share={sharing}"
        else:
            backend = f"memory-backend-ram,id=m{node}"
        cpu_list = f",cpus=0-{cpus - 1}" if node == 0 else ""
        options += [
            "-object",
            f"{backend},size={size}M",
            "-numa",
            f"node,nodeid={node},memdev=m{node}{cpu_list}",
        ]
    return options


def _comma(path: Path) -> str:
    """Quote a path for an option list, where a comma is written twice."""
    return str(path).replace(",", ",,")


# The process

# Runs in the child before QEMU: asks the kernel to kill the child when the thread that started it
# ends for any reason, and exits if that thread has ended already.
_LAUNCHER = """\
import ctypes, os, sys
ctypes.CDLL(None).prctl(1, 9, 0, 0, 0)
if os.getppid() == int(sys.argv[1]):
    os.execv(sys.argv[2], sys.argv[2:])
"""


@functools.cache
def _starter(pid: int) -> ThreadPoolExecutor:
    """Return the thread that starts every QEMU of the process ``pid`` (ours; a fork has no threads).

    The parent-death signal follows the thread that forked, not the process, so this thread must live as
    long as the process.
    """
    return ThreadPoolExecutor(max_workers=1, thread_name_prefix=f"qemu-starter-{pid}")


class QemuProcess:
    """A running QEMU that cannot outlive this process, even when this process gets SIGKILL."""

    def __init__(
        self, qemu: Qemu, options: Sequence[str], error_log: Path, sockets: Mapping[str, socket.socket]
    ) -> None:
        """Start QEMU. ``sockets`` {chardev id: child's end} become socket chardevs and are closed here."""
        self.argv = [*qemu.command(), *options]
        for name, end in sockets.items():
            self.argv += ["-chardev", f"socket,id={name},fd={end.fileno()}"]
        self.error_log = error_log
        launcher = [sys.executable, "-I", "-S", "-c", _LAUNCHER, str(os.getpid()), *self.argv]
        fds = [end.fileno() for end in sockets.values()]
        starter = _starter(os.getpid())
        self._process = starter.submit(_spawn, launcher, fds, qemu.environment(), error_log).result()
        self.pid = self._process.pid
        for end in sockets.values():
            end.close()

    def poll(self) -> int | None:
        """Return its exit status, or None while it runs."""
        return self._process.poll()

    def complaint(self) -> str:
        """Return what it printed on its standard error."""
        try:
            return self.error_log.read_text(errors="replace").strip()
        except OSError:
            return ""

    def kill(self) -> None:
        """Kill it and wait; does nothing when it has ended."""
        if self._process.poll() is None:
            self._process.kill()
        try:
            self._process.wait(timeout=30)
        except subprocess.TimeoutExpired as error:
            raise HarnessError(f"QEMU (pid {self.pid}) does not end after SIGKILL") from error


def _spawn(
    argv: Sequence[str], fds: Sequence[int], environment: Mapping[str, str], error_log: Path
) -> subprocess.Popen[bytes]:
    with error_log.open("wb") as errors:
        return subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=errors,
            stderr=errors,
            pass_fds=fds,
            env=environment,
            start_new_session=True,  # a Ctrl-C at the terminal must reach us, not QEMU
        )
