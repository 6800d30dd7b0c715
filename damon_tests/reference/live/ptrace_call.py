# SPDX-License-Identifier: GPL-2.0
"""Make another process execute one system call, unnoticed by it (x86-64)."""

from __future__ import annotations

import contextlib
import ctypes
import os
import platform
import signal
import time
from collections.abc import Iterator

from damon_tests.ports import NSEC_PER_MSEC, NotSupported

_GETREGS, _SETREGS, _SINGLESTEP, _DETACH = 12, 13, 9, 17
_SEIZE, _INTERRUPT = 0x4206, 0x4207
_WALL = 0x40000000
_STOP_WITHIN_NS = 50 * NSEC_PER_MSEC
_SYSCALL_INSTRUCTION = b"\x0f\x05"


class _Registers(ctypes.Structure):
    """struct user_regs_struct."""

    _fields_ = [
        (name, ctypes.c_ulonglong)
        for name in (
            *("r15", "r14", "r13", "r12", "rbp", "rbx", "r11", "r10", "r9", "r8", "rax", "rcx", "rdx"),
            *("rsi", "rdi", "orig_rax", "rip", "cs", "eflags", "rsp", "ss", "fs_base", "gs_base"),
            *("ds", "es", "fs", "gs"),
        )
    ]


_libc = ctypes.CDLL(None, use_errno=True)
_libc.ptrace.restype = ctypes.c_long
_libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]


def _ptrace(request: int, pid: int, data: object = None) -> None:
    if _libc.ptrace(request, pid, None, data) < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), f"process {pid}")


class Stopped:
    """A process that is stopped. Calls are made by its main thread, from where it was interrupted.
    ``held_back`` are the signals that came for it meanwhile."""

    def __init__(self, pid: int, instruction: int) -> None:
        self.pid = pid
        self.held_back: list[int] = []
        self._instruction = instruction
        self._saved = _Registers()
        _ptrace(_GETREGS, pid, ctypes.addressof(self._saved))

    def call(self, number: int, *arguments: int) -> int:
        """Make a system call; return its result. Raises OSError as it failed."""
        registers = _Registers.from_buffer_copy(self._saved)
        registers.rax, registers.rip = number, self._instruction
        # Not within a system call any more, as the kernel sees it: nothing to restart at this address.
        registers.orig_rax = (1 << 64) - 1
        for name, value in zip(("rdi", "rsi", "rdx", "r10", "r8", "r9"), arguments, strict=False):
            setattr(registers, name, value)
        _ptrace(_SETREGS, self.pid, ctypes.addressof(registers))
        try:
            self._step()
            _ptrace(_GETREGS, self.pid, ctypes.addressof(registers))
        finally:
            _ptrace(_SETREGS, self.pid, ctypes.addressof(self._saved))
        result = ctypes.c_longlong(registers.rax).value
        if -4096 < result < 0:
            raise OSError(-result, os.strerror(-result), f"process {self.pid}")
        return result

    def _step(self) -> None:
        """Have one instruction executed, however long the process waits for a processor before it.

        Given up half-way, the process would go on with our registers, and be killed by the SIGTRAP that
        ends the step. Stops for other reasons come before the instruction.
        """
        while True:
            _ptrace(_SINGLESTEP, self.pid)
            event, number = _stop(os.waitpid(self.pid, _WALL), self.pid)
            if not event and number == signal.SIGTRAP:
                return
            if not event:
                self.held_back.append(number)


@contextlib.contextmanager
def stopped(pid: int) -> Iterator[Stopped]:
    """Stop a process for the time of a ``with``: well below a millisecond, if it gets a processor.

    Only for a process that ends soon, and that no signal ends before: a target that cannot stop now (it
    waits for an answer of ours) stays traced until its tracer has ended. Raises NotSupported on other
    processors, TimeoutError when the target does not stop, and other OSError when it may not be traced.
    """
    if platform.machine() != "x86_64":
        raise NotSupported(f"calls in another process are not written for {platform.machine()}")
    instruction = _find_instruction(pid)
    _ptrace(_SEIZE, pid)
    held_back: list[int] = []
    try:
        _ptrace(_INTERRUPT, pid)
        event, number = _wait_stopped(pid)
        process = Stopped(pid, instruction)
        held_back = process.held_back
        if not event:
            held_back.append(number)
        yield process
    finally:
        with contextlib.suppress(OSError):
            _ptrace(_DETACH, pid)
            # Signals that arrived meanwhile are delivered after all.
            for number in held_back:
                os.kill(pid, number)


def _wait_stopped(pid: int) -> tuple[int, int]:
    """Return why it stopped: (ptrace's event, 0 for a signal; signal). Raises TimeoutError."""
    deadline = time.monotonic_ns() + _STOP_WITHIN_NS
    while time.monotonic_ns() < deadline:
        waited = os.waitpid(pid, _WALL | os.WNOHANG)
        if waited[0]:
            return _stop(waited, pid)
        time.sleep(0.0001)
    raise TimeoutError(110, "the process does not stop", f"process {pid}")


def _stop(waited: tuple[int, int], pid: int) -> tuple[int, int]:
    _, status = waited
    if not os.WIFSTOPPED(status):
        raise OSError(3, "the process ended", f"process {pid}")
    return status >> 16, os.WSTOPSIG(status)


def _find_instruction(pid: int) -> int:
    """Return the address of a syscall instruction in its vdso."""
    with open(f"/proc/{pid}/maps", encoding="ascii", errors="replace") as maps:
        for line in maps:
            if not line.rstrip().endswith("[vdso]"):
                continue
            start, end = (int(part, 16) for part in line.split()[0].split("-"))
            with open(f"/proc/{pid}/mem", "rb", buffering=0) as memory:
                memory.seek(start)
                at = memory.read(end - start).find(_SYSCALL_INSTRUCTION)
            if at >= 0:
                return start + at
    raise OSError(95, "it has no vdso with a syscall instruction", f"process {pid}")
