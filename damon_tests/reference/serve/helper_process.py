# SPDX-License-Identifier: GPL-2.0
"""A process beside the server: it gives kdamonds a pid and a name, and cleans up when the server ends.

It is forked before the server does anything. Its children only have a pid and a name, so that ``ps -p``
finds a kdamond. When the server ends, however it ends, the helper reads the end of its stream, kills its
children, removes the mount if it is still there, and ends.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess

from damon_tests.ports import HarnessError
from damon_tests.reference.serve import linux_calls


class HelperProcess:
    """Start it while the process has one thread. ``mountpoint`` is unmounted at the end."""

    def __init__(self, mountpoint: str | None = None) -> None:
        ours, theirs = socket.socketpair()
        self.pid = os.fork()
        if not self.pid:
            ours.close()
            _attend(theirs, mountpoint)
        theirs.close()
        self._socket = ours
        self._lines = ours.makefile("r")
        self._closed = False

    def spawn(self, name: str) -> int:
        """Start a child of that name; return its pid."""
        self._send(f"spawn {name}")
        answer = self._lines.readline().strip()
        if not answer:
            raise HarnessError("the process that stands for kdamonds is gone")
        return int(answer)

    def kill(self, pid: int) -> None:
        """End a child; returns when ``ps`` does not show it any more. Others are left alone."""
        if self._closed:
            return  # with everything that it started
        self._send(f"kill {pid}")
        self._lines.readline()

    def _send(self, line: str) -> None:
        try:
            self._socket.sendall(line.encode() + b"\n")
        except OSError as error:
            raise HarnessError(f"the process that stands for kdamonds is gone ({error})") from error

    def close(self) -> None:
        """End it and everything it started; returns when that is done."""
        self._closed = True
        self._lines.close()
        self._socket.close()
        with contextlib.suppress(ChildProcessError):
            os.waitpid(self.pid, 0)


def _attend(stream: socket.socket, mountpoint: str | None) -> None:
    """Be the helper process; never return."""
    status = 1
    try:
        # A signal for the server's group (Ctrl-C) must not end it before its work is done.
        os.setsid()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        linux_calls.set_name("damon-helper")
        _close_all_but(stream.fileno())
        _obey(stream)
        if mountpoint is not None:
            unmount_leftover(mountpoint)
        status = 0
    finally:
        os._exit(status)


def _close_all_but(kept: int) -> None:
    null = os.open(os.devnull, os.O_RDWR)
    for fd in (0, 1, 2):
        os.dup2(null, fd)
    os.closerange(3, kept)
    os.closerange(kept + 1, 1 << 16)


def _obey(stream: socket.socket) -> None:
    children: set[int] = set()
    try:
        for line in stream.makefile("r"):
            command, _, argument = line.strip().partition(" ")
            if command == "spawn":
                pid = _sleeper(argument, stream)
                children.add(pid)
                stream.sendall(f"{pid}\n".encode())
            elif command == "kill":
                if int(argument) in children:
                    children.discard(int(argument))
                    _end(int(argument))
                stream.sendall(b"done\n")
    except OSError:
        pass  # the server is gone
    for pid in children:
        _end(pid)


def _sleeper(name: str, stream: socket.socket) -> int:
    parent = os.getpid()
    reader, writer = os.pipe()
    pid = os.fork()
    if pid:
        os.close(writer)
        os.read(reader, 1)  # the end of the stream: it has its name
        os.close(reader)
        return pid
    try:
        stream.close()
        os.close(reader)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_DFL)
        linux_calls.set_name(name)
        linux_calls.die_with_parent(parent)
        os.close(writer)
        while True:
            signal.pause()
    finally:
        os._exit(1)


def _end(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError, ChildProcessError):
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def unmount_leftover(mountpoint: str) -> None:
    """Remove a FUSE mount of ours, if it is still there."""
    if not is_ours(mountpoint):
        return
    try:
        linux_calls.unmount(mountpoint)
    except OSError:
        tool = shutil.which("fusermount3") or shutil.which("fusermount")
        if tool is not None:
            subprocess.run([tool, "-u", "-z", mountpoint], check=False, capture_output=True)


FS_NAME = "damon-tests"
"""Source of our mounts, as /proc/mounts shows it."""


def is_ours(mountpoint: str) -> bool:
    """Whether what is mounted on top at this path was mounted by us."""
    wanted = os.path.abspath(mountpoint)
    source = ""
    with open("/proc/self/mounts", encoding="utf-8", errors="surrogateescape") as file:
        for line in file:
            fields = line.split()
            if _unescaped(fields[1]) == wanted:
                source = fields[0]
    return source == FS_NAME


def _unescaped(text: str) -> str:
    for code, character in ((r"\040", " "), (r"\011", "\t"), (r"\012", "\n"), (r"\134", "\\")):
        text = text.replace(code, character)
    return text
