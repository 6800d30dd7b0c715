# SPDX-License-Identifier: GPL-2.0
"""Give orders to the QEMU plugin (workloads/src/qemu_plugin.c): begin and end windows that it records."""

from __future__ import annotations

import mmap
import os
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from enum import IntFlag
from pathlib import Path

from damon_tests.kernel.guest import symbols
from damon_tests.kernel.guest.symbols import Symbols
from damon_tests.kernel.images.programs import program
from damon_tests.ports import NSEC_PER_MSEC, NSEC_PER_SEC, DamonTestsError, HarnessError, Machine, TimedOut

PLUGIN = "damon-tests-qemu_plugin"

_VERSION = 2
_COMM_LEN, _PATH_LEN = 16, 1536
# struct control of workloads/src/qemu_plugin.h
_HEAD = struct.Struct("<IIII")
_ORDER = struct.Struct(f"<QQQ{_COMM_LEN}s{_PATH_LEN}s{_PATH_LEN}s{_PATH_LEN}s{_PATH_LEN}s")
_SIZE = 8192
_OBEYS_NS = 10 * NSEC_PER_SEC


class Window(IntFlag):
    """What a window records: ``enum window`` of workloads/src/qemu_plugin.h."""

    COST = 1
    ACCESSES = 2


@dataclass(frozen=True)
class Order:
    """What the plugin needs to know of a window, apart from the guest's symbols.

    ``thread``: count the cost of threads whose names begin with it. ``gap_ns``: see ``AccessRuns``.
    ``tasks``: a file that lists tasks, "" if pids are not needed.
    """

    window: Window
    thread: str = ""
    gap_ns: int = 0
    tasks: str = ""


class Control:
    """The file through which one QEMU's plugin receives orders. It must not be truncated while QEMU runs."""

    def __init__(self, directory: Path) -> None:
        self.path = directory / "cost.ctl"
        self.path.write_bytes(bytes(_SIZE))
        with self.path.open("r+b") as file:
            self._map = mmap.mmap(file.fileno(), _SIZE)

    def options(self) -> list[str]:
        """Return the options for QEMU's command line. Raises NotSupported when the plugin is not built."""
        words = [str(path).replace(",", ",,") for path in (program(PLUGIN), self.path)]
        return ["-plugin", f"file={words[0]},ctl={words[1]}"]

    @property
    def loaded(self) -> bool:
        """Return whether QEMU loaded the plugin, and its version is ours."""
        return self._head()[0] == _VERSION

    def order(self, begin: bool, init_task: int, order: Order, files: Files) -> int:
        """Give an order and return its number; ``done(number)`` becomes true once it is carried out."""
        _, number, _, _ = self._head()
        number += 1 if (number + 1) % 2 == begin else 2
        paths = [os.fsencode(path) for path in (files.symbols, files.report, files.accesses, order.tasks)]
        too_long = [os.fsdecode(path) for path in paths if len(path) >= _PATH_LEN]
        if too_long:
            raise HarnessError(f"the path {too_long[0]} is too long for the QEMU plugin; use a shorter one")
        thread = order.thread.encode()[: _COMM_LEN - 1]
        fields = (init_task, order.gap_ns, int(order.window), thread, *paths)
        _ORDER.pack_into(self._map, _HEAD.size, *fields)
        struct.pack_into("<I", self._map, 4, number)
        return number

    def done(self, number: int) -> bool:
        """Return whether that order was carried out. Raises HarnessError when it failed."""
        _, _, done, error = self._head()
        if done == number and error:
            raise HarnessError(f"the QEMU plugin could not carry out an order: {os.strerror(error)}")
        return done == number

    def _head(self) -> tuple[int, int, int, int]:
        version, order, done, error = _HEAD.unpack_from(self._map, 0)
        return version, order, done, error


class Files:
    """The files that plugin and harness exchange, in the guest's directory on the host."""

    def __init__(self, directory: Path) -> None:
        self.symbols = directory / "cost.symbols"
        self.report = directory / "cost.report"
        self.accesses = directory / "cost.accesses"
        self.tasks = directory / "cost.tasks"


class Plugin:
    """The plugin of a guest's QEMU.

    ``kept``: a file that caches the guest's symbols for all guests restored from the same saved guest (their
    kernel lies at the same addresses), because reading them takes five seconds under emulation. ``pid``: of
    QEMU.
    """

    def __init__(
        self, machine: Machine, control: Control, directory: Path, kept: Path | None, pid: int
    ) -> None:
        self.machine = machine
        self.files = Files(directory)
        self.pid = pid
        self._control = control
        self._kept = kept
        self._symbols: Symbols | None = None

    def symbols(self) -> Symbols:
        """Return the guest's functions; read them on the first call only."""
        if self._symbols is None:
            self._symbols = symbols.parse(self._kallsyms())
            self.files.symbols.write_bytes(self._symbols.table)
        return self._symbols

    def begin(self, order: Order) -> None:
        """Begin a window, between two blocks of code. Raises HarnessError, TimedOut."""
        self._carry_out(True, order)

    def end(self, order: Order) -> str:
        """End the window, when no counted thread runs; return the plugin's report."""
        self._carry_out(False, order)
        report = self.files.report.read_text()
        self.files.report.unlink()
        return report

    @contextmanager
    def ended_on_errors(self, order: Order) -> Iterator[None]:
        """End the window of ``order`` when the block raises: a guest that is kept has others later."""
        try:
            yield
        except BaseException:
            with suppress(DamonTestsError, OSError):  # the block's own error says what happened
                self.end(order)
            raise

    def _kallsyms(self) -> str:
        path = "/proc/kallsyms"
        if self._kept is not None and self._kept.exists():
            text = self._kept.read_bytes()
            if text.startswith(self.machine.read_file(path, 0, 4096)):
                return text.decode()
        text = self.machine.read_file(path)
        if self._kept is not None and self._kept.parent.is_dir():
            partial = self.files.symbols.with_suffix(".partial")
            partial.write_bytes(text)
            os.replace(partial, self._kept)
        return text.decode()

    def _carry_out(self, begin: bool, order: Order) -> None:
        number = self._control.order(begin, self.symbols().init_task, order, self.files)
        what = "begin" if begin else "end"
        clock = self.machine.clock
        deadline = clock.now_ns() + _OBEYS_NS
        if not clock.wait_until(_done(self._control, number), deadline, NSEC_PER_MSEC):
            raise TimedOut(f"the QEMU plugin did not {what} a window in 10 s of the guest")


def _done(control: Control, number: int) -> Callable[[], bool]:
    return lambda: control.done(number)
