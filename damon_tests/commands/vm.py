# SPDX-License-Identifier: GPL-2.0
"""``damon-tests vm``: a shell, or one command, on a kernel in a guest."""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import socket
import sys
import tempfile
import termios
import tty
from collections.abc import Iterator, Sequence
from pathlib import Path

from damon_tests.experiment.kernel_request import KernelRequest
from damon_tests.kernel.guest.guest import Guest, Guests
from damon_tests.kernel.guest.topology import MOST_CPUS, Topology, parse_memory
from damon_tests.kernel.images import busybox, image
from damon_tests.kernel.images.arch import Arch
from damon_tests.kernel.images.initramfs import Node
from damon_tests.ports import DamonTestsError, ExitStatus, MachineLost, Process, SpawnRequest, UsageError
from damon_tests.ports.narration import narrated

_ENVIRONMENT = {"PATH": busybox.PATH, "HOME": "/root", "TERM": os.environ.get("TERM", "linux")}
_POLL_S = 0.01
_LOG_TAIL_LINES = 40


def run_in_guest(
    kernel: str, memory: str, cpus: int, numa: int, append: str, command: Sequence[str] | None
) -> int:
    """Boot ``kernel`` and run ``command`` in it, or a shell on this terminal.

    ``append``: kernel parameters after ours, so that they win.

    Returns the command's exit status (128 + signal when a signal ended it). Raises MachineLost,
    after printing the end of the log, when the guest dies; other errors as ``Guests`` does.
    """
    request = KernelRequest(kernel)
    if request.is_host or request.is_reference:
        raise UsageError(f"{kernel} is no kernel for a guest: use debian:SERIES, or a kernel image's path")
    if cpus > MOST_CPUS:
        raise UsageError(f"--cpus {cpus}: a guest has at most {MOST_CPUS}")
    topology = Topology(
        memory_mib=parse_memory(memory), cpus=cpus, numa_nodes=numa, cmdline=tuple(append.split())
    )
    with narrated(lambda text: print(f"damon-tests vm: {text}", file=sys.stderr, flush=True)):
        chosen = image.resolve(kernel)
        files = _userland(chosen.arch, required=not command)
    interactive = not command and sys.stdin.isatty() and sys.stdout.isatty()
    with (
        tempfile.TemporaryDirectory(prefix="damon-tests-vm-") as directory,
        Guests(Path(directory)) as guests,
        guests.live(chosen, topology, files, terminal=interactive) as guest,
    ):
        _announce(guest, interactive)
        try:
            return _shell(guest) if interactive else _command(guest, command or ["/bin/sh"])
        except MachineLost as error:
            tail = error.log.splitlines()[-_LOG_TAIL_LINES:]
            if any("reboot: Power down" in line for line in tail):
                return 0  # somebody switched it off in there
            print("\n".join(["", "The guest ended. Its log ends with:", *tail]), file=sys.stderr)
            raise


def _userland(arch: Arch, *, required: bool) -> dict[str, Node]:
    try:
        return busybox.nodes(arch=arch)
    except DamonTestsError as error:
        if required:
            raise
        print(f"damon-tests vm: no shell commands in the guest: {error}", file=sys.stderr)
        return {}


def _announce(guest: Guest, interactive: bool) -> None:
    facts = guest.provenance
    how = "KVM" if facts["accel"] == "kvm" else f"emulated: {facts['accel_why']}"
    text = f"{facts['kernel']} is up after {facts['boot_s']:.1f} s ({how})"
    for note in (*facts["notes"],) if isinstance(facts["notes"], list) else ():
        text += f"\n{note}"
    if interactive:
        text += "\nDAMON: /sys/kernel/mm/damon/admin. Leave with 'exit' or Ctrl-D."
    print(text, file=sys.stderr)


# One command


def _command(guest: Guest, command: Sequence[str]) -> int:
    try:
        process = guest.machine.spawn(SpawnRequest(list(command), _ENVIRONMENT))
    except FileNotFoundError:
        print(f"damon-tests vm: there is no {command[0]!r} in the guest", file=sys.stderr)
        return 127
    stdin = _stdin_to_pass_on()
    if stdin is None:
        process.close_stdin()
    while True:
        status = process.poll()
        _copy_output(process)
        if status is not None:
            return _as_exit_code(status)
        readable = select.select([] if stdin is None else [stdin], [], [], _POLL_S)[0]
        if readable and stdin is not None and not _feed(process, stdin):
            stdin = None


def _stdin_to_pass_on() -> int | None:
    """Our standard input if it is a file or a pipe; a terminal is for shells."""
    try:
        return None if sys.stdin.isatty() else sys.stdin.fileno()
    except (AttributeError, OSError, ValueError):  # there is none, or a stand-in without a file
        return None


def _copy_output(process: Process) -> None:
    for data, to in ((process.read_stdout(), sys.stdout), (process.read_stderr(), sys.stderr)):
        if data:
            to.buffer.write(data)
            to.buffer.flush()


def _feed(process: Process, stdin: int) -> bool:
    """Pass some of our standard input on; False when there is no more, or nobody reads it."""
    data = os.read(stdin, 1 << 16)
    with contextlib.suppress(OSError):  # it ended, or closed its input
        if data:
            process.write_stdin(data)
            return True
        process.close_stdin()
    return False


def _as_exit_code(status: ExitStatus) -> int:
    return status.code if status.code is not None else 128 + (status.signal or 0)


# A shell


def _shell(guest: Guest) -> int:
    """A login shell on the guest's virtio console, joined with this terminal."""
    terminal = guest.terminal
    assert terminal is not None
    size = shutil.get_terminal_size()
    script = (
        # The agent makes us a session leader, so this becomes our controlling terminal.
        "exec </dev/hvc0 >/dev/hvc0 2>&1;"
        f" stty rows {size.lines} cols {size.columns} sane; export PS1='\\w # '; exec /bin/sh -i"
    )
    process = guest.machine.spawn(SpawnRequest(["/bin/sh", "-c", script], _ENVIRONMENT, "/root"))
    with _raw(sys.stdin.fileno()):
        while (status := process.poll()) is None:
            _relay(terminal)
        _relay(terminal)
    return _as_exit_code(status)


def _relay(terminal: socket.socket) -> None:
    """Pass on what came from either side within a moment."""
    for ready in select.select([sys.stdin, terminal], [], [], 0.05)[0]:
        if ready is terminal:
            if data := terminal.recv(1 << 16):
                os.write(sys.stdout.fileno(), data)
        elif data := os.read(sys.stdin.fileno(), 1 << 10):
            terminal.sendall(data)


@contextlib.contextmanager
def _raw(fd: int) -> Iterator[None]:
    """The terminal hands every key to the guest, Ctrl-C included."""
    before = termios.tcgetattr(fd)
    try:
        tty.setraw(fd)
        yield
    finally:
        termios.tcsetattr(fd, termios.TCSADRAIN, before)
