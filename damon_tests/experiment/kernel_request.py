# SPDX-License-Identifier: GPL-2.0
"""From the word given to ``--kernel`` to a backend."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from damon_tests import bundle
from damon_tests.experiment.backend import Backend
from damon_tests.kernel.guest import accel
from damon_tests.kernel.guest.topology import Topology
from damon_tests.kernel.images import image
from damon_tests.ports import UsageError
from damon_tests.reference.faults import catalogue
from damon_tests.reference.rules.levels import LEVELS


@contextmanager
def open_backend(
    kernel: str,
    run_dir: Path,
    level: str | None = None,
    fault: str | None = None,
    stop_modules: bool = False,
    notify: Callable[[str], None] | None = None,
    keep_guest: bool = False,
    guest_clock: str | None = None,
) -> Iterator[Backend]:
    """The backend named by ``kernel``, closed (guests ended, lease released) at the end.

    ``fault`` makes the reference a wrong DAMON (``reference.faults.catalogue``), to see which tests notice.
    ``stop_modules`` and ``notify`` are for this machine, see ``lease.acquire``. ``keep_guest``: one guest for
    all attempts instead of a restored one for each. ``guest_clock`` (default "instructions"): what time
    emulated guests see, see ``kernel.guest.qemu.machine_options``.
    ``reference[:LEVEL]``, ``host``, ``debian:SERIES|stable|newest``, or a kernel image's path.
    Raises UsageError as ``check_request`` does, NotSupported when the machine cannot.
    """
    check_request(kernel, level, fault, stop_modules, keep_guest, guest_clock)
    if _is_reference(kernel):
        yield _reference(kernel, level, fault)
    elif kernel == "host":
        with _host(run_dir, level, stop_modules, notify) as backend:
            yield backend
    else:
        with _guest(kernel, run_dir, level, keep_guest, guest_clock or "instructions") as backend:
            yield backend


def check_request(
    kernel: str,
    level: str | None = None,
    fault: str | None = None,
    stop_modules: bool = False,
    keep_guest: bool = False,
    guest_clock: str | None = None,
) -> None:
    """What can be said of ``open_backend``'s arguments before anything is opened.

    Raises UsageError for words that mean nothing, or that do not go together.
    """
    if level is not None and level not in LEVELS:
        raise UsageError(f"unknown level {level!r}; known: {', '.join(LEVELS)}")
    if stop_modules and kernel != "host":
        raise UsageError(f"--stop-modules needs --kernel host: in {kernel} none of them runs")
    if kernel == "host" or _is_reference(kernel):
        for option, given in (("--keep-guest", keep_guest), ("--guest-clock", guest_clock)):
            if given:
                raise UsageError(f"{option} needs a kernel in a guest: {kernel} is none")
    if _is_reference(kernel):
        _of_reference(kernel, level, fault)
    elif fault is not None:
        raise UsageError(f"--fault {fault} needs --kernel reference: only that can be made wrong on purpose")
    elif kernel != "host":
        image.check(kernel)


def _is_reference(kernel: str) -> bool:
    return re.match(r"reference(:|\+|$)", kernel) is not None


def most_workers(kernel: str, guest_clock: str | None = None) -> int:
    """How many tests of this kernel this machine can run beside each other without one measuring the other.

    Of the reference, whose time is virtual, any number; one for each processor is of use. A guest needs one
    processor, or, if it sees the machine's time or has KVM, each of its CPUs. This machine has one DAMON.
    """
    processors = len(os.sched_getaffinity(0))
    if kernel == "host":
        return 1
    if _is_reference(kernel):
        return processors
    sees_time = guest_clock == "host" or accel.known_good(bundle.cache_dir())
    return max(1, processors // (Topology().cpus if sees_time else 1))


def check_workers(kernel: str, workers: int, guest_clock: str | None = None) -> None:
    """Raises UsageError for more workers than ``most_workers``."""
    if workers <= 1 or _is_reference(kernel):
        return
    most = most_workers(kernel, guest_clock)
    if workers > most:
        raise UsageError(
            f"-n {workers} with --kernel {kernel}: at most {most} on this machine, because targets and DAMON"
            " must not wait for processors that other tests keep busy"
        )


def _of_reference(kernel: str, level: str | None, fault: str | None) -> tuple[str, str | None]:
    """Which level, and made wrong how."""
    kernel, _, in_word = kernel.partition("+")  # as a run of a fault names its backend
    fault = fault or in_word or None
    _, _, named = kernel.partition(":")
    if named and level and named != level:
        raise UsageError(f"--kernel {kernel} and --level {level} disagree; give one of them")
    chosen = named or level or list(LEVELS)[-1]
    if chosen not in LEVELS:
        raise UsageError(f"unknown level {chosen!r} in --kernel {kernel}; known: {', '.join(LEVELS)}")
    if fault is not None:
        catalogue.fault(fault)
    return chosen, fault


def _reference(kernel: str, level: str | None, fault: str | None) -> Backend:
    from damon_tests.experiment.reference_backend import ReferenceBackend

    chosen, fault = _of_reference(kernel, level, fault)
    if fault is None:
        return ReferenceBackend(chosen)
    wrong = catalogue.fault(fault).apply(LEVELS[chosen].rules)
    return ReferenceBackend(chosen, wrong, fault)


@contextmanager
def _guest(kernel: str, run_dir: Path, level: str | None, keep: bool, clock: str) -> Iterator[Backend]:
    from damon_tests.experiment.guest_backend import GuestBackend

    backend = GuestBackend(image.resolve(kernel), run_dir, level, keep=keep, clock=clock)
    try:
        yield backend
    finally:
        backend.close()


@contextmanager
def _host(
    run_dir: Path, level: str | None, stop_modules: bool, notify: Callable[[str], None] | None
) -> Iterator[Backend]:
    from damon_tests.experiment.lease import hold_host, to_stderr

    with hold_host(run_dir, stop_modules=stop_modules, notify=notify or to_stderr) as machine:
        from damon_tests.experiment.machine_backend import HostBackend

        yield HostBackend(machine, run_dir, level)
