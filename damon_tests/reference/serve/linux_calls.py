# SPDX-License-Identifier: GPL-2.0
"""The few Linux system calls that serving files needs and Python 3.11 lacks."""

from __future__ import annotations

import ctypes
import os
import signal

MS_RDONLY, MS_NOSUID, MS_NODEV = 1, 2, 4
MS_REMOUNT, MS_BIND, MS_REC, MS_PRIVATE = 1 << 5, 1 << 12, 1 << 14, 1 << 18
MNT_DETACH = 2
CLONE_NEWNS, CLONE_NEWUSER = 0x00020000, 0x10000000

_PR_SET_PDEATHSIG, _PR_SET_NAME, _PR_SET_CHILD_SUBREAPER = 1, 15, 36

_libc = ctypes.CDLL(None, use_errno=True)


def _check(result: int, what: str) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), what)
    return result


def mount(source: str, target: str, kind: str | None, flags: int, options: str = "") -> None:
    """mount(2). Raises OSError with the target as its filename."""
    fstype = None if kind is None else kind.encode()
    data = options.encode() if options else None
    _check(_libc.mount(os.fsencode(source), os.fsencode(target), fstype, ctypes.c_ulong(flags), data), target)


def bind(source: str, target: str) -> None:
    """Show ``source`` with everything mounted below it at ``target``, too."""
    mount(source, target, None, MS_BIND | MS_REC)


def unmount(target: str, flags: int = MNT_DETACH) -> None:
    _check(_libc.umount2(os.fsencode(target), flags), target)


def unshare(flags: int) -> None:
    """unshare(2); the caller must have one thread only for CLONE_NEWUSER."""
    _check(_libc.unshare(flags), "unshare")


def new_user_and_mount_namespaces() -> None:
    """Become root of new user and mount namespaces; later mounts are seen in them only."""
    uid, gid = os.getuid(), os.getgid()
    unshare(CLONE_NEWUSER | CLONE_NEWNS)
    for name, text in (("setgroups", "deny"), ("uid_map", f"0 {uid} 1"), ("gid_map", f"0 {gid} 1")):
        with open(f"/proc/self/{name}", "w", encoding="ascii") as file:
            file.write(text)
    mount("none", "/", None, MS_REC | MS_PRIVATE)


def die_with_parent(parent_pid: int, number: int = signal.SIGKILL) -> None:
    """Be killed when the parent ends; at once if it already has (its pid is ``parent_pid``)."""
    _check(_libc.prctl(_PR_SET_PDEATHSIG, number, 0, 0, 0), "prctl")
    if os.getppid() != parent_pid:
        os.kill(os.getpid(), number)


def adopt_orphans() -> None:
    """Make orphaned descendants children of this process."""
    _check(_libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0), "prctl")


def set_name(name: str) -> None:
    """Set the name that ``ps -o comm`` shows; 15 bytes at most."""
    _check(_libc.prctl(_PR_SET_NAME, name.encode()[:15], 0, 0, 0), "prctl")
