# SPDX-License-Identifier: GPL-2.0
"""Run make for a source tree in a build directory of the cache, which later builds of the tree go on with."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from filelock import FileLock, Timeout

from damon_tests import bundle
from damon_tests.kernel.build import config
from damon_tests.kernel.build.diagnose import Diagnosis, Diagnostic, diagnose
from damon_tests.ports import DamonTestsError, HarnessError, NotSupported, UsageError

ARCHES = {"": ("bzImage", Path("arch/x86/boot/bzImage")), "um": ("linux", Path("linux"))}
"""What make is asked for, and the kernel that it makes, by ``ARCH=``; empty: this machine's."""

_TOOLS = {
    "make": "make",
    "gcc": "gcc",
    "ld": "binutils",
    "flex": "flex",
    "bison": "bison",
    "bc": "bc",
    "perl": "perl",
}
_PROGRESS_S = 15.0
_COMPILED = re.compile(r"^  (?:CC|AS|LD|AR|HOSTCC)(?: \[M\])? +(\S+)")

# So that equal sources give an equal image: saved guests are found again, and no commit recompiles all.
_REPRODUCIBLE = {
    "KBUILD_BUILD_TIMESTAMP": "Thu Jan  1 00:00:00 UTC 1970",
    "KBUILD_BUILD_USER": "damon-tests",
    "KBUILD_BUILD_HOST": "damon-tests",
    "KBUILD_BUILD_VERSION": "1",
    "LC_ALL": "C",
}

Say = Callable[[str], None]


class BuildFailed(DamonTestsError):
    """The tree does not build. ``diagnosis``: why; ``log``: everything that make printed.

    The exit code is 1 where DAMON's own code has the error, else 6: nothing is said about DAMON.
    """

    def __init__(self, message: str, diagnosis: Diagnosis, log: Path) -> None:
        super().__init__(message)
        self.diagnosis = diagnosis
        self.log = log
        self.exit_code = 1 if diagnosis.damon_errors else 6


@dataclass(frozen=True)
class BuildRequest:
    """``tree``: a kernel source directory. ``fragments``: names in ``ci/kconfig`` or paths, later ones win.

    ``cache``: where build directories are (default: the project's). ``make``: the program. ``arch``: a key
    of ``ARCHES``; "um" builds User Mode Linux.
    """

    tree: Path
    fragments: Sequence[str] = config.DEFAULT
    jobs: int = field(default_factory=lambda: os.cpu_count() or 1)
    cache: Path | None = None
    make: str = "make"
    arch: str = ""


@dataclass(frozen=True)
class Built:
    """A built kernel. ``seconds``: how long it took; ``compiled``: how many files make made, linked ones too.

    ``vmlinux`` has the symbols. ``warnings``: the compiler's about DAMON's own code.
    """

    image: Path
    vmlinux: Path
    directory: Path
    seconds: float
    compiled: int
    not_obtained: tuple[config.NotObtained, ...]
    warnings: tuple[Diagnostic, ...]
    compiler: str

    @property
    def release(self) -> str:
        """Return what ``uname -r`` prints in this kernel; empty if the build did not leave it."""
        path = self.directory / "include/config/kernel.release"
        return path.read_text().strip() if path.is_file() else ""


def build(request: BuildRequest, say: Say = print) -> Built:
    """Configure and compile a tree; print progress; go on with what an earlier build of it left.

    Raises BuildFailed, UsageError (no kernel source, or built in place), NotSupported (a tool is missing).
    """
    tree = source_tree(request.tree)
    compiler = _require_tools(request.make)
    asked = config.merge(request.fragments)
    target, image_path = ARCHES[request.arch]
    directory = _directory(tree, asked, (compiler, request.arch), request.cache or bundle.cache_dir())
    directory.mkdir(parents=True, exist_ok=True)
    with _alone(directory):
        began = time.monotonic()
        log = directory / "damon-tests-build.log"
        _configure(request, tree, directory, asked, log)
        missing = config.not_obtained(asked, (directory / ".config").read_text(errors="replace"))
        for option in missing:
            say(f"build: {option}")
        compiled = _make(request, tree, directory, log, say, target)
        seconds = time.monotonic() - began
    diagnosis = diagnose(log.read_text(errors="replace").splitlines(), tree)
    image = directory / image_path
    if not image.is_file():
        raise HarnessError(f"make ended well, but made no {image}")
    say(f"build: {compiled} files in {seconds:.0f} s: {image}")
    return Built(
        image,
        directory / "vmlinux",
        directory,
        seconds,
        compiled,
        tuple(missing),
        diagnosis.damon_warnings,
        compiler,
    )


def source_tree(path: Path) -> Path:
    """Return the absolute path of a kernel source tree that can be built elsewhere. Raises UsageError."""
    tree = path.expanduser().resolve()
    if not (tree / "Kbuild").is_file() or not (tree / "Kconfig").is_file():
        raise UsageError(f"{path}: no kernel source tree (it has no Kbuild and Kconfig)")
    if not (tree / "mm" / "damon").is_dir():
        raise UsageError(f"{path}: this kernel has no DAMON (no mm/damon)")
    if (tree / ".config").exists() or (tree / "include" / "config").is_dir():
        raise UsageError(
            f"{path}: was built in place, and kbuild refuses to build such a tree elsewhere:"
            " give --rev HEAD to build a clean checkout, or run make mrproper there"
        )
    return tree


def _require_tools(make: str) -> str:
    """Return the compiler's version. Raises NotSupported naming every missing tool."""
    missing = {tool: package for tool, package in _TOOLS.items() if tool != "make" and not shutil.which(tool)}
    if shutil.which(make) is None:
        missing["make"] = "make"
    if missing:
        raise NotSupported(
            *(f"the program {tool}" for tool in missing),
            remedy=f"building a kernel needs them; on Debian: apt-get install {' '.join(missing.values())}"
            " libelf-dev",
        )
    done = subprocess.run(["gcc", "--version"], capture_output=True, text=True, check=False)
    return next(iter(done.stdout.splitlines()), "gcc")


def _directory(tree: Path, asked: dict[str, str], made_for: tuple[str, str], cache: Path) -> Path:
    key = "\0".join((str(tree), config.as_text(asked), *filter(None, made_for)))
    return cache / "builds" / f"{tree.name}-{hashlib.sha256(key.encode()).hexdigest()[:16]}"


@contextlib.contextmanager
def _alone(directory: Path) -> Iterator[None]:
    lock = FileLock(f"{directory}.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise HarnessError(f"another build is at work in {directory}: wait for it to end") from None
    try:
        yield
    finally:
        lock.release()


def _configure(request: BuildRequest, tree: Path, directory: Path, asked: dict[str, str], log: Path) -> None:
    """Write .config: what was asked for and what that selects, everything else off."""
    wanted = directory / "damon-tests.config"
    wanted.write_text(config.as_text(asked))
    log.write_text("")
    _make(request, tree, directory, log, lambda line: None, f"KCONFIG_ALLCONFIG={wanted}", "allnoconfig")


def _make(request: BuildRequest, tree: Path, directory: Path, log: Path, say: Say, *words: str) -> int:
    """Run make; return how many files it compiled. Raises BuildFailed, with the errors that matter."""
    compiler = "ccache gcc" if shutil.which("ccache") else "gcc"
    command = [request.make, "-C", str(tree), f"O={directory}", f"-j{request.jobs}", "--no-print-directory"]
    command += [
        "LOCALVERSION=",
        f"CC={compiler}",
        *([f"ARCH={request.arch}"] if request.arch else []),
        *words,
    ]
    process = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        start_new_session=True,
        env={**os.environ, **_REPRODUCIBLE},
    )
    try:
        compiled = _follow(process, log, say)
    except BaseException:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        process.wait()
        raise
    if process.returncode:
        raise _failure(tree, log)
    return compiled


def _follow(process: subprocess.Popen[str], log: Path, say: Say) -> int:
    """Write what make prints to the log, say now and then how far it is; return the files compiled."""
    compiled, began = 0, time.monotonic()
    said = began
    assert process.stdout is not None
    with log.open("a", buffering=1) as file:  # a line at a time, for who looks at it meanwhile
        for line in process.stdout:
            file.write(line)
            match = _COMPILED.match(line)
            compiled += bool(match)
            if match and time.monotonic() - said >= _PROGRESS_S:
                said = time.monotonic()
                say(f"build: {compiled} files after {said - began:.0f} s, now {match[1]}")
    process.wait()
    return compiled


def _failure(tree: Path, log: Path) -> BuildFailed:
    diagnosis = diagnose(log.read_text(errors="replace").splitlines(), tree)
    if diagnosis.damon_errors:
        lines = "\n  ".join(str(error) for error in diagnosis.damon_errors)
        return BuildFailed(f"DAMON does not build:\n  {lines}", diagnosis, log)
    reason = diagnosis.first_error() or "make gave no reason"
    return BuildFailed(f"{tree} does not build: {reason} (log: {log})", diagnosis, log)
