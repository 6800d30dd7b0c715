# SPDX-License-Identifier: GPL-2.0
"""``damon-tests serve``: the reference's tree at a directory, or around a command.

Around a command there are three processes beside it: this one, which only waits; the keeper, in user and
mount namespaces of its own, which sets up the covers; and the server. The command runs in yet another
user namespace. Each dies with its parent, and orphans are found and ended.
"""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import psutil

from damon_tests.ports import DamonTestsError, HarnessError, NotSupported, Truth, UsageError
from damon_tests.reference.live.live_truth import watch_or_nothing
from damon_tests.reference.rules.levels import level as level_of
from damon_tests.reference.serve import linux_calls, perf_stand_in
from damon_tests.reference.serve.fuse import Served, serve
from damon_tests.reference.serve.hide_kernel_damon import Covers

REFUSED = 126
"""What the command's process ends with when it was not started."""


def at(directory: str, level: str, *, transport: str = "auto", seed: int = 0) -> int:
    """Serve at ``directory`` until SIGINT or SIGTERM. Raises UsageError, NotSupported."""
    level_of(level)
    path = os.path.abspath(directory)
    if not os.path.isdir(path):
        raise UsageError(f"{directory} is not a directory: make one, empty, to mount at")
    if os.path.ismount(path) or os.listdir(path):
        raise UsageError(f"{directory} is not empty, or something is mounted there: choose another directory")
    serve(
        path,
        level,
        lambda served: _tell(path, level, served),
        seed=seed,
        transport=transport,
        truth_of=_watched,
    )
    return 0


def _tell(path: str, level: str, served: Served) -> None:
    print(f"DAMON {level} is served at {path}/kernel/mm/damon and {path}/module; stop it with Ctrl-C")
    for name, pid in served.processes.items():
        print(f"simulated process {pid}: {name}")
    sys.stdout.flush()


def around(
    command: Sequence[str], level: str, *, seed: int = 0, environment: Mapping[str, str] | None = None
) -> int:
    """Run a command that sees the reference as the machine's DAMON; returns its exit code.

    128+N is signal N. Raises UsageError, NotSupported, and HarnessError when the machine's own DAMON
    would not be hidden.
    """
    level_of(level)
    if not command:
        raise UsageError("--exec needs a command")
    linux_calls.adopt_orphans()
    me = os.getpid()
    with tempfile.TemporaryDirectory(prefix="damon-tests-serve-") as work:
        keeper = os.fork()
        if not keeper:
            _end_with(lambda: _keep(me, work, command, level, seed, dict(environment or os.environ)))
        forwarded = [signal.signal(n, lambda number, _: os.kill(keeper, number)) for n in _FORWARDED]
        try:
            status = _wait(keeper)
        finally:
            for number, handler in zip(_FORWARDED, forwarded, strict=True):
                signal.signal(number, handler)
            end_descendants()
        return _exit_code(status, Path(work) / "refused")


_PROMPT = "damon-tests"
_FORWARDED = (signal.SIGTERM, signal.SIGHUP)
_SHELLS = ("ash", "bash", "dash", "fish", "ksh", "sh", "zsh")


def _exit_code(status: int, refused: Path) -> int:
    """Turn what the keeper left into an exit code, or raise the error that it met."""
    if not refused.exists():
        return status
    kind, message = json.loads(refused.read_text())
    raise {"UsageError": UsageError, "NotSupported": NotSupported}.get(kind, HarnessError)(message)


def _end_with(function: object) -> None:
    """Run ``function`` as the whole life of a forked process."""
    assert callable(function)
    code = 1
    try:
        code = function()
    except KeyboardInterrupt:
        code = 130
    except SystemExit as end:  # a signal asked it to end: no message
        code = int(end.code or 0)
    except BaseException as error:
        print(f"damon-tests: {type(error).__name__}: {error}", file=sys.stderr)
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _wait(pid: int) -> int:
    """Exit code of a child, 128+N for signal N; other children that end meanwhile are reaped."""
    while True:
        try:
            ended, status = os.waitpid(-1, 0)
        except InterruptedError:
            continue
        except KeyboardInterrupt:
            continue  # Ctrl-C went to the command, too; it decides
        if ended == pid:
            code = os.waitstatus_to_exitcode(status)
            return code if code >= 0 else 128 - code


def end_descendants() -> None:
    """Kill everything that this process's children left running. Needs ``adopt_orphans``."""
    while children := psutil.Process().children(recursive=True):
        for child in children:
            with contextlib.suppress(psutil.NoSuchProcess):
                child.kill()
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, 0)[0]:
                pass


# The keeper


def _keep(
    parent: int, work: str, command: Sequence[str], level: str, seed: int, environment: dict[str, str]
) -> int:
    """Set everything up, run the command, tidy up; returns the exit code."""
    refused = Path(work) / "refused"
    try:
        linux_calls.adopt_orphans()
        for number in (signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, _raise_exit)
        _enter_namespaces()
        linux_calls.die_with_parent(parent, signal.SIGTERM)
        inner = Path(work) / "inner"
        inner.mkdir()
        linux_calls.mount(
            "tmpfs", str(inner), "tmpfs", linux_calls.MS_NOSUID | linux_calls.MS_NODEV, "size=16m"
        )
        served = _start_server(inner / "tree", level, seed)
        covers = Covers(str(inner / "tree"), str(inner), served.nonce)
        covers.install(served.events)
        covers.show_ram(served.ram)
        covers.verify()
        _greet(command, level)
        return _wait(
            _start_command(command, covers, refused, _environment(environment, inner, level, served))
        )
    except DamonTestsError as error:
        refused.write_text(json.dumps([type(error).__name__, str(error)]))
        return REFUSED
    finally:
        end_descendants()
        if os.getppid() != parent:  # it was killed, and cannot tidy up
            with contextlib.suppress(OSError):
                linux_calls.unmount(str(Path(work) / "inner"))
            shutil.rmtree(work, ignore_errors=True)


def _raise_exit(number: int, frame: object) -> None:
    raise SystemExit(128 + number)


def _enter_namespaces() -> None:
    try:
        linux_calls.new_user_and_mount_namespaces()
    except OSError as error:
        raise NotSupported(
            f"this user may not make user and mount namespaces ({error.strerror})",
            remedy="see sysctl kernel.unprivileged_userns_clone and user.max_user_namespaces",
        ) from error


def _start_server(mountpoint: Path, level: str, seed: int) -> Served:
    """Fork the server and wait until it serves."""
    mountpoint.mkdir()
    reader, writer = os.pipe()
    parent = os.getpid()
    pid = os.fork()
    if not pid:
        os.close(reader)
        _end_with(lambda: _be_server(parent, mountpoint, level, seed, writer))
    os.close(writer)
    with os.fdopen(reader) as stream:
        text = stream.read()
    if not text:
        raise HarnessError("the server of the reference's tree ended before it was ready")
    answer = json.loads(text)
    if "refused" in answer:
        raise NotSupported(answer["refused"])
    return Served(**answer)


def _be_server(parent: int, mountpoint: Path, level: str, seed: int, writer: int) -> int:
    linux_calls.die_with_parent(parent, signal.SIGTERM)
    # Ctrl-C is for the command; the keeper ends the server.
    os.setpgid(0, 0)

    def send(answer: object) -> None:
        with os.fdopen(writer, "w") as stream:
            json.dump(answer, stream)

    try:
        serve(
            str(mountpoint),
            level,
            lambda served: send(asdict(served)),
            seed=seed,
            transport="direct",
            truth_of=_watched,
        )
    except DamonTestsError as error:
        with contextlib.suppress(OSError):
            send({"refused": str(error)})
    return 0


def _watched(pid: int) -> Truth:
    return watch_or_nothing(
        pid, time.monotonic_ns(), lambda reason: print(f"damon-tests: {reason}", file=sys.stderr)
    )


def _environment(outer: dict[str, str], inner: Path, level: str, served: Served) -> dict[str, str]:
    """Return the command's environment.

    HOME is private: what a tool remembers of this DAMON must not be taken for the machine's. A stand-in for
    perf is first on PATH: the machine's cannot see the reference's tracepoints.
    """
    home, stand_ins = inner / "home", inner / "bin"
    home.mkdir()
    stand_ins.mkdir()
    perf = stand_ins / "perf"
    call = shlex.join([sys.executable, "-I", "-S", perf_stand_in.__file__])
    perf.write_text(f'#!/bin/sh\nexec {call} "$@"\n', encoding="utf-8")
    perf.chmod(0o755)
    # An interactive bash reads it after the system's, which sets a prompt; others take the environment's.
    (home / ".bashrc").write_text(f'PS1="({_PROMPT} {level}) $PS1"\n', encoding="utf-8")
    path = os.pathsep.join([str(stand_ins), outer.get("PATH", os.defpath)])
    pids = {
        f"DAMON_TESTS_{name.upper().replace('-', '_')}": str(pid) for name, pid in served.processes.items()
    }
    pids["DAMON_TESTS_KDAMOND_PARENT"] = str(served.kdamond_parent)
    ours = {"HOME": str(home), "PATH": path, "DAMON_TESTS_STAND_INS": str(stand_ins)}
    ours["PS1"] = f"({_PROMPT} {level}) $ "
    return {**outer, **ours, "DAMON_TESTS_SERVED_LEVEL": level, **pids}


def _greet(command: Sequence[str], level: str) -> None:
    """Say where one is, to somebody who asked for a shell."""
    if len(command) == 1 and Path(command[0]).name in _SHELLS and sys.stdin.isatty():
        print(
            f"damon-tests: in this shell /sys/kernel/mm/damon is the reference, behaving as {level}:"
            " it watches processes that are started here; exit leaves",
            file=sys.stderr,
            flush=True,
        )


def _start_command(command: Sequence[str], covers: Covers, refused: Path, environment: dict[str, str]) -> int:
    """Fork the command, in namespaces from which the covers cannot be removed."""
    parent = os.getpid()
    pid = os.fork()
    if pid:
        return pid
    try:
        for number in (signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_DFL)
        linux_calls.new_user_and_mount_namespaces()
        linux_calls.die_with_parent(parent)
        covers.verify()
        os.closerange(3, 1 << 16)
        os.execvpe(command[0], list(command), environment)
    except OSError as error:
        refused.write_text(json.dumps(["UsageError", f"{command[0]} cannot be run: {error.strerror}"]))
    except DamonTestsError as error:
        refused.write_text(json.dumps([type(error).__name__, str(error)]))
    finally:
        os._exit(REFUSED)
