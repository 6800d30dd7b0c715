# SPDX-License-Identifier: GPL-2.0
"""Open the DAMON that a run requests. Begin here to see what the ``--kernel`` option does."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from damon_tests.experiment.backend import Backend
from damon_tests.experiment.kernel_request import KernelRequest
from damon_tests.kernel.images import image
from damon_tests.kernel.images.arch import flavour
from damon_tests.kernel.images.programs import AGENT, program
from damon_tests.reference.faults import catalogue
from damon_tests.reference.rules.levels import LEVELS

Notify = Callable[[str], None]


@contextmanager
def open_backend(request: KernelRequest, run_dir: Path, notify: Notify | None = None) -> Iterator[Backend]:
    """Open the backend of ``request``; on leaving, end guests and release the host's lease.

    ``notify`` receives a sentence about what the user has to wait for or should know (default: on stderr).
    Raises UsageError as ``KernelRequest.check`` does, NotSupported when this machine cannot do it.
    """
    request.check()
    request.expect_machine()
    if request.is_reference:
        yield _reference(request)
    elif request.is_host:
        with _host(request, run_dir, notify) as backend:
            yield backend
    else:
        with _guest(request, run_dir) as backend:
            yield backend


def _reference(request: KernelRequest) -> Backend:
    from damon_tests.experiment.reference_backend import ReferenceBackend

    level, fault = request.reference_level_and_fault()
    if fault is None:
        return ReferenceBackend(level)
    wrong = catalogue.fault(fault).apply(LEVELS[level].rules)
    return ReferenceBackend(level, wrong, fault)


@contextmanager
def _guest(request: KernelRequest, run_dir: Path) -> Iterator[Backend]:
    from damon_tests.experiment.guest_backend import GuestBackend

    if request.kernel.startswith("debian:"):
        # Without a compiler no guest can be talked to: say so before a kernel and QEMU are downloaded.
        program(AGENT, flavour(request.kernel).arch)
    backend = GuestBackend(
        image.resolve(request.kernel),
        run_dir,
        request.level,
        keep=request.keep_guest,
        clock=request.guest_clock or "instructions",
        usual=request.guest(),
    )
    try:
        yield backend
    finally:
        backend.close()


@contextmanager
def _host(request: KernelRequest, run_dir: Path, notify: Notify | None) -> Iterator[Backend]:
    from damon_tests.experiment.lease import hold_host, to_stderr

    with hold_host(run_dir, stop_modules=request.stop_modules, notify=notify or to_stderr) as machine:
        from damon_tests.experiment.machine_backend import HostBackend

        yield HostBackend(machine, run_dir, request.level)
