# SPDX-License-Identifier: GPL-2.0
"""``--keep-guest`` uses a single guest for all tests (marked vm): which state it keeps."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from damon_tests.experiment.guest_backend import GuestBackend
from damon_tests.experiment.kernel_request import KernelRequest
from damon_tests.experiment.machine_backend import MachineSubject
from damon_tests.kernel.guest.topology import Topology
from damon_tests.kernel.images import image
from damon_tests.ports import UsageError

pytestmark = pytest.mark.vm

KERNEL = os.environ.get("DAMON_TESTS_VM_KERNELS", "debian:newest").split()[0]


def marked(backend: GuestBackend, topology: Topology | None = None) -> bool:
    """Return whether the guest had the mark of an earlier attempt; leave the mark and a splat."""
    subject = backend.subject(1, topology)
    assert isinstance(subject, MachineSubject)
    try:
        assert subject.splats() == [], "what others left in the log is theirs"
        subject.machine.write_file("/dev/kmsg", b"<4>BUG: unable to handle a test\n")
        assert len(subject.splats()) == 1
        try:
            return subject.machine.read_file("/tmp/mark") == b"here"
        except FileNotFoundError:
            subject.machine.write_file("/tmp/mark", b"here", create=True)
            return False
    finally:
        subject.close()


@pytest.mark.parametrize("keep", [True, False])
def test_kept_guest_survives_between_attempts(tmp_path: Path, keep: bool) -> None:
    backend = GuestBackend(image.resolve(KERNEL), tmp_path, "7.3", keep=keep)
    try:
        assert [marked(backend) for _ in range(3)] == [False, keep, keep]
        other = Topology(cpus=1)
        assert [marked(backend, other), marked(backend, other)] == [False, keep]
    finally:
        backend.close()


def test_dead_kept_guest_is_replaced(tmp_path: Path) -> None:
    backend = GuestBackend(image.resolve(KERNEL), tmp_path, "7.3", keep=True)
    try:
        assert not marked(backend)
        assert backend._kept is not None
        backend._kept[1].close()
        assert not marked(backend)
        assert marked(backend)
    finally:
        backend.close()


@pytest.mark.parametrize("kernel", ["reference", "host"])
def test_guest_options_without_a_guest_are_a_usage_error(kernel: str) -> None:
    with pytest.raises(UsageError, match="--keep-guest"):
        KernelRequest(kernel, keep_guest=True).check()
    with pytest.raises(UsageError, match="--guest-clock"):
        KernelRequest(kernel, guest_clock="host").check()
