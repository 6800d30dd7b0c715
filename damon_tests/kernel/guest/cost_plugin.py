# SPDX-License-Identifier: GPL-2.0
"""Control the QEMU plugin (workloads/src/qemu_plugin.c) and parse the instruction counts it reports."""

from __future__ import annotations

import mmap
import os
import struct
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from damon_tests.kernel.guest import symbols
from damon_tests.kernel.guest.symbols import Symbols
from damon_tests.kernel.images.programs import program
from damon_tests.ports import NSEC_PER_MSEC, NSEC_PER_SEC, HarnessError, Machine, TimedOut
from damon_tests.ports.cost import CallPath, CallTree, Cost, CostWindow, ThreadCost, Unit, merged

PLUGIN = "damon-tests-qemu_plugin"

_VERSION = 1
_COMM_LEN, _PATH_LEN = 16, 1536
# struct control of workloads/src/qemu_plugin.h
_HEAD = struct.Struct("<IIII")
_ORDER = struct.Struct(f"<Q{_COMM_LEN}s{_PATH_LEN}s{_PATH_LEN}s")
_SIZE = 4096
_OBEYS_NS = 10 * NSEC_PER_SEC


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

    def order(self, count: bool, init_task: int, thread: str, table: Path, report: Path) -> int:
        """Give an order and return its number; ``done(number)`` becomes true once it is carried out."""
        _, number, _, _ = self._head()
        number += 1 if (number + 1) % 2 == count else 2
        paths = [os.fsencode(path) for path in (table, report)]
        too_long = [os.fsdecode(path) for path in paths if len(path) >= _PATH_LEN]
        if too_long:
            raise HarnessError(f"the path {too_long[0]} is too long for the QEMU plugin; use a shorter one")
        _ORDER.pack_into(self._map, _HEAD.size, init_task, thread.encode()[: _COMM_LEN - 1], *paths)
        struct.pack_into("<I", self._map, 4, number)
        return number

    def done(self, number: int) -> bool:
        """Return whether that order was carried out. Raises HarnessError when it failed."""
        _, _, done, error = self._head()
        if done == number and error:
            raise HarnessError(f"the QEMU plugin could not count: {os.strerror(error)}")
        return done == number

    def _head(self) -> tuple[int, int, int, int]:
        version, order, done, error = _HEAD.unpack_from(self._map, 0)
        return version, order, done, error


class EmulatorProbe:
    """Count a guest's instructions exactly, on the instruction clock (implements ``ports.cost.CostProbe``).

    ``kept``: a file that caches the guest's symbols for all guests restored from the same saved guest (their
    kernel lies at the same addresses), because reading them takes five seconds under emulation.
    """

    unit: Unit = "instructions"

    def __init__(self, machine: Machine, control: Control, directory: Path, kept: Path | None) -> None:
        self._machine = machine
        self._control = control
        self._table = directory / "cost.symbols"
        self._report = directory / "cost.report"
        self._kept = kept
        self._symbols: Symbols | None = None

    def prepare(self) -> None:
        """Read the guest's symbols."""
        self.symbols()

    @contextmanager
    def window(self, thread: str) -> Iterator[CostWindow]:
        """See ``CostProbe``. It opens between two blocks of code and closes when the threads sleep."""
        known = self.symbols()
        window = CostWindow()
        self._carry_out(count=True, thread=thread)
        began_ns = self._machine.clock.now_ns()
        yield window
        ended_ns = self._machine.clock.now_ns()
        self._carry_out(count=False, thread=thread)
        window.cost = parse_report(self._report.read_text(), known, thread, ended_ns - began_ns)
        self._report.unlink()

    def symbols(self) -> Symbols:
        """Return the guest's functions; read them on the first call only."""
        if self._symbols is None:
            self._symbols = symbols.parse(self._kallsyms())
            self._table.write_bytes(self._symbols.table)
        return self._symbols

    def _kallsyms(self) -> str:
        path = "/proc/kallsyms"
        if self._kept is not None and self._kept.exists():
            text = self._kept.read_bytes()
            if text.startswith(self._machine.read_file(path, 0, 4096)):
                return text.decode()
        text = self._machine.read_file(path)
        if self._kept is not None and self._kept.parent.is_dir():
            partial = self._table.with_suffix(".partial")
            partial.write_bytes(text)
            os.replace(partial, self._kept)
        return text.decode()

    def _carry_out(self, *, count: bool, thread: str) -> None:
        init_task = self.symbols().init_task
        number = self._control.order(count, init_task, thread, self._table, self._report)
        what = "begin" if count else "end"
        deadline = self._machine.clock.now_ns() + _OBEYS_NS
        if not self._machine.clock.wait_until(_done(self._control, number), deadline, NSEC_PER_MSEC):
            raise TimedOut(f"the QEMU plugin did not {what} counting in 10 s of the guest")


def _done(control: Control, number: int) -> Callable[[], bool]:
    return lambda: control.done(number)


# Parsing the report


def parse_report(text: str, known: Symbols, thread: str, window_ns: int) -> Cost:
    """Parse what the plugin wrote at the end of a window. Raises HarnessError when it is incomplete."""
    lines = [line.split(" ", 4) for line in text.splitlines()]
    if not lines or lines[-1] != ["end"]:
        raise HarnessError("the QEMU plugin's report is cut off; is the disk full?")
    if int(lines[0][3]):
        raise HarnessError(f"calls nested too deep for the QEMU plugin: {lines[0][3]} frames were lost")
    threads, roots = _threads([line for line in lines if line[0] == "thread"])
    if not threads:
        raise HarnessError("no thread ran, or the QEMU plugin could not find out which")
    nodes = [tuple(map(int, " ".join(line[1:]).split())) for line in lines if line[0] == "node"]
    tree = _tree(nodes, roots if not thread else {}, known)
    switches = sum(t.switches for name, t in threads.items() if name.startswith(thread))
    return Cost("emulator", "instructions", tree.instructions, switches, window_ns, tree, threads)


def _threads(lines: Sequence[Sequence[str]]) -> tuple[dict[str, ThreadCost], dict[int, str]]:
    threads, roots = {}, {}
    for _, root, used, switches, comm in lines:
        name = comm.split("\0", 1)[0]
        threads[name] = ThreadCost(int(used), int(switches))
        roots[int(root)] = name
    return threads, roots


def _tree(nodes: Sequence[tuple[int, ...]], roots: dict[int, str], known: Symbols) -> CallTree:
    """Build the call tree. ``nodes`` come after their parents.

    Roots are not functions: they are named after their thread, or left out where ``roots`` has no name.
    """
    names: dict[int, tuple[str, ...]] = {}
    interrupted: dict[int, bool] = {}
    paths = []
    for index, parent, function, calls, instructions in nodes:
        if parent == 0:
            names[index], interrupted[index] = ((roots[index],) if index in roots else ()), False
            continue
        names[index] = (*names[parent], known.names[function])
        interrupted[index] = interrupted[parent] or function in known.interrupts
        paths.append(CallPath(names[index], calls, instructions, interrupted[index]))
    return merged(paths)
