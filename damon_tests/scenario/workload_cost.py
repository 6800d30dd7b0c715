# SPDX-License-Identifier: GPL-2.0
"""Count what a workload itself executes for its work, to see how much DAMON slows it down.

The emulator counts the whole guest: the workload's own instructions, page faults included, are exact; what
other threads did meanwhile, and how busy the host is, does not change them.
"""

from __future__ import annotations

from collections.abc import Callable

from damon_tests.experiment.backend import Subject
from damon_tests.judge.cost.savings import WorkloadCost
from damon_tests.ports import HarnessError, NotSupported
from damon_tests.ports.cost import CallPath, CallTree, Cost, CostProbe

_DEVICE_INTERRUPTS = ("asm_sysvec_", "asm_common_interrupt", "irq_entries_start", "spurious_entries_start")
_FLUSH = "flush_tlb_func"
"""What a processor runs for each request to flush translations of its TLB."""
_KDAMOND = "kdamond"


def measure(subject: Subject, thread: str, act: Callable[[], float]) -> WorkloadCost:
    """Count the machine while ``act`` lets the workload work; ``act`` returns how much was done.

    ``thread``: prefix of the names of the workload's threads. Raises NotSupported where instructions are not
    counted, HarnessError when none of these threads ran.
    """
    with counting_probe(subject).window("") as window:
        work = act()
    return of_window(window.result, thread, work)


def counting_probe(subject: Subject) -> CostProbe:
    """Return the probe of a machine whose instructions are counted. Raises NotSupported elsewhere."""
    probe = subject.cost_probe()
    if probe.unit != "instructions":
        raise NotSupported(
            "exact instructions: this machine only reports how long threads ran",
            remedy="use a kernel in a guest (--kernel debian:newest)",
        )
    return probe


def name_of(subject: Subject, pid: int) -> str:
    """Return the name of a process's threads, unless they gave themselves others: the engine's is that under
    which it executes itself again."""
    return subject.kernel_file(f"/proc/{pid}/comm").strip()


def of_window(cost: Cost, thread: str, work: float) -> WorkloadCost:
    """Return what the threads of a window over the whole machine executed."""
    if cost.tree is None:
        raise HarnessError(f"instructions were not counted: the cost is from {cost.source}")
    own = _executed(cost.tree, thread)
    if not own:
        names = ", ".join(sorted(cost.threads))
        raise HarnessError(f"no thread {thread}* ran while the workload was measured; these did: {names}")
    return WorkloadCost(
        work=work,
        own=own,
        kdamond=_executed(cost.tree, _KDAMOND),
        machine=sum(path.instructions for path in cost.tree.paths),
        tlb_flushes=_flushes(cost.tree),
        kdamond_flushes=_flushes(cost.tree, _KDAMOND),
        window_ns=cost.window_ns,
    )


def _executed(tree: CallTree, thread: str) -> int:
    """Return the instructions of threads, with the exceptions that they cause, such as page faults."""
    return sum(p.instructions for p in tree.paths if p.names[0].startswith(thread) and not _of_device(p))


def _flushes(tree: CallTree, thread: str = "") -> int:
    """Return how often threads flushed a TLB, or interrupts that came while they ran."""
    return sum(p.calls for p in tree.paths if p.names[-1] == _FLUSH and p.names[0].startswith(thread))


def _of_device(path: CallPath) -> bool:
    return any(name.startswith(_DEVICE_INTERRUPTS) for name in path.names)
