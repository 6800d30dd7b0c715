# SPDX-License-Identifier: GPL-2.0
"""The number of tests that may run at once."""

import json
import os
from pathlib import Path

import pytest

from damon_tests.experiment.kernel_request import KernelRequest
from damon_tests.kernel.guest.topology import Topology
from damon_tests.ports import UsageError

BOOT = Path("/proc/sys/kernel/random/boot_id").read_text().strip()


@pytest.fixture(autouse=True)
def four_processors(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 1, 2, 3})
    monkeypatch.setattr("damon_tests.bundle.cache_dir", lambda: tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("kernel", "clock", "most"),
    [
        ("reference", None, 4),
        ("reference:6.12", None, 4),
        ("host", None, 1),
        ("debian:7.3", None, 4),
        ("debian:7.3", "instructions", 4),
        ("debian:7.3", "host", 2),
    ],
)
def test_guests_on_the_machines_clock_need_their_processors(
    kernel: str, clock: str | None, most: int
) -> None:
    assert KernelRequest(kernel, guest_clock=clock).most_workers() == most


def test_kvm_guests_use_the_machines_clock(four_processors: Path) -> None:
    for failure, most in (("", 2), ("a trial boot failed", 4)):
        (four_processors / "kvm.json").write_text(json.dumps({f"6.18 qemu 10 boot {BOOT}": failure}))
        assert KernelRequest("debian:7.3").most_workers() == most
    (four_processors / "kvm.json").write_text(json.dumps({"6.18 qemu 10 boot another": ""}))
    assert KernelRequest("debian:7.3").most_workers() == 4


def test_more_workers_than_the_maximum_are_refused() -> None:
    KernelRequest("reference").check_workers(50)
    KernelRequest("debian:7.3").check_workers(4)
    for kernel, workers in (("debian:7.3", 5), ("host", 2)):
        with pytest.raises(UsageError, match="at most"):
            KernelRequest(kernel).check_workers(workers)


@pytest.mark.parametrize("kernel", ["reference", "host"])
def test_kernel_parameters_need_a_guest(kernel: str) -> None:
    with pytest.raises(UsageError, match="--append needs a kernel in a guest"):
        KernelRequest(kernel=kernel, append=("quiet",)).check()
    with pytest.raises(UsageError, match="--memory needs a kernel in a guest"):
        KernelRequest(kernel=kernel, memory_mib=2048).check()


def test_guest_has_what_the_request_says() -> None:
    request = KernelRequest("debian:7.3", append=("quiet",), memory_mib=2048, cpus=4, numa_nodes=2)
    assert request.guest() == Topology(memory_mib=2048, cpus=4, numa_nodes=2, cmdline=("quiet",))
    assert KernelRequest("debian:7.3").guest() == Topology()
    with pytest.raises(UsageError, match="a guest has at most 64"):
        KernelRequest("debian:7.3", cpus=65).check()
    with pytest.raises(UsageError, match="too little for the guest's memory nodes"):
        KernelRequest("debian:7.3", memory_mib=256, numa_nodes=4).check()
