# SPDX-License-Identifier: GPL-2.0
"""Count instructions with the QEMU plugin, and parse the counts that it reports."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from damon_tests.kernel.guest.plugin_control import Order, Plugin, Window
from damon_tests.kernel.guest.symbols import Symbols
from damon_tests.ports import HarnessError
from damon_tests.ports.cost import CallPath, CallTree, Cost, CostWindow, ThreadCost, Unit, merged


class EmulatorProbe:
    """Count a guest's instructions exactly, on the instruction clock (``ports.cost.CostProbe``)."""

    unit: Unit = "instructions"

    def __init__(self, plugin: Plugin) -> None:
        self._plugin = plugin

    def prepare(self) -> None:
        """Read the guest's symbols."""
        self._plugin.symbols()

    @contextmanager
    def window(self, thread: str) -> Iterator[CostWindow]:
        """See ``CostProbe``. It opens between two blocks of code and closes when the threads sleep."""
        known = self._plugin.symbols()
        clock = self._plugin.machine.clock
        window, order = CostWindow(), Order(Window.COST, thread)
        self._plugin.begin(order)
        began_ns = clock.now_ns()
        with self._plugin.ended_on_errors(order):
            yield window
        ended_ns = clock.now_ns()
        window.cost = parse_report(self._plugin.end(order), known, thread, ended_ns - began_ns)


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
