# SPDX-License-Identifier: GPL-2.0
"""Guests: what needs no boot; and (marked vm) real kernels that boot, are restored, and crash."""

from __future__ import annotations

import fcntl
import os
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from damon_tests.commands import vm
from damon_tests.kernel.guest import accel, guest, launch, snapshot
from damon_tests.kernel.guest.guest import Guest, Guests
from damon_tests.kernel.guest.launch import Plan
from damon_tests.kernel.guest.qemu import Qemu
from damon_tests.kernel.guest.setup import swap_header
from damon_tests.kernel.guest.snapshot import (
    BootedGuest,
    SnapshotStore,
    copy_sparse,
    memory_files,
    remove_stale,
)
from damon_tests.kernel.guest.topology import Topology
from damon_tests.kernel.images import image
from damon_tests.kernel.images.image import KernelImage
from damon_tests.kernel.images.initramfs import plain
from damon_tests.kernel.images.userland import chroot
from damon_tests.ports import FileOp, HarnessError, MachineLost, NotSupported, SpawnRequest

IMAGE = KernelImage("k", "7.3.4", Path("/k/vmlinuz"), None, None, sha256="ab")
QEMU = Qemu(Path("/q"), "10.0.2")


# Topologies and plans


def test_swap_header_has_the_layout_that_swapon_reads() -> None:
    page = swap_header(65536 * 4096, 4096)
    assert len(page) == 4096
    assert page[-10:] == b"SWAPSPACE2"
    assert struct.unpack_from("<III", page, 1024) == (1, 65535, 0)


def test_guest_larger_than_free_memory_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guest, "available_mib", lambda: 900)
    with pytest.raises(HarnessError, match="needs 1224 MiB of free memory, and this machine has 900 MiB"):
        guest._require_memory(Topology())


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    def program(name: str, arch: object = None) -> Path:
        return tmp_path / name

    for name in ("damon-tests-agent", "damon-tests-engine"):
        program(name).write_bytes(name.encode())
    monkeypatch.setattr(launch, "program", program)
    return tmp_path


def test_plan_key_changes_with_everything_that_shapes_the_guest(programs: Path) -> None:
    keys = [
        Plan(IMAGE, Topology(), QEMU, "tcg").key,
        Plan(IMAGE, Topology(cpus=1), QEMU, "tcg").key,
        Plan(IMAGE, Topology(cmdline=("quiet",)), QEMU, "tcg").key,
        Plan(IMAGE, Topology(), Qemu(Path("/q"), "10.1.0"), "tcg").key,
        Plan(IMAGE, Topology(), QEMU, "kvm").key,
        Plan(IMAGE, Topology(), QEMU, "tcg", {"etc/x": plain(b"")}).key,
    ]
    assert len(set(keys)) == len(keys)
    assert Plan(IMAGE, Topology(), QEMU, "tcg").key == keys[0]
    (programs / "damon-tests-agent").write_bytes(b"a newer agent")
    assert Plan(IMAGE, Topology(), QEMU, "tcg").key != keys[0]


def test_kernel_parameters_follow_the_plan(programs: Path) -> None:
    emulated = Plan(IMAGE, Topology(hugetlb_pages=4, cmdline=("pti=off",)), QEMU, "tcg").cmdline.split()
    expected = {
        "console=ttyS0",
        "panic=-1",
        "damon_stat.enabled=N",
        "cryptomgr.notests",
        "pti=on",
        "hugepages=4",
    }
    assert expected <= {*emulated}
    assert emulated[-1] == "pti=off"  # the user's come last, and win
    assert "pti=on" not in Plan(IMAGE, Topology(), QEMU, "kvm").cmdline


def test_built_in_driver_needs_no_module(programs: Path) -> None:
    built_in = KernelImage("k", "7.3.4", Path("/k/vmlinuz"), None, {"CONFIG_ZRAM": "y"}, sha256="ab")
    assert b"zram.ko" not in Plan(built_in, Topology(swap_zram_mib=64), QEMU, "tcg").initramfs


def test_a_kernel_without_virtio_ports_gets_a_serial_line(programs: Path) -> None:
    ports = {"CONFIG_VIRTIO_CONSOLE": "y", "CONFIG_VIRTIO_PCI": "y"}
    configs = [None, ports, {"CONFIG_VIRTIO_PCI": "y"}, {**ports, "CONFIG_VIRTIO_CONSOLE": "m"}]
    serial = []
    for config in configs:
        plan = Plan(KernelImage("k", "7", Path("/k"), None, config), Topology(), QEMU, "tcg")
        serial.append(plan.on_serial_line)
        assert plan.on_serial_line is ("damon_tests.agent=/dev/ttyS1" in plan.cmdline)
    assert serial == [False, False, True, True]


def test_swap_without_zram_is_not_supported(programs: Path) -> None:
    with pytest.raises(NotSupported, match="the module zram of this kernel"):
        _ = Plan(
            replace(IMAGE, config={"CONFIG_ZRAM": "m"}), Topology(swap_zram_mib=64), QEMU, "tcg"
        ).initramfs


def test_unusable_cache_is_reported_with_the_remedy(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(HarnessError, match="DAMON_TESTS_CACHE names another directory"):
        Guests(tmp_path / "run", tmp_path / "file" / "cache")
    with pytest.raises(HarnessError, match="DAMON_TESTS_CACHE names another directory"):
        image.resolve("debian:stable", tmp_path / "file" / "cache")


# KVM


def test_reason_for_emulation_is_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(accel, "_DEVICE", tmp_path / "kvm")
    assert accel.choose(IMAGE, QEMU, tmp_path, tmp_path) == accel.Accel("tcg", "this machine has no /dev/kvm")


def test_kvm_trial_runs_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "kvm").touch()
    monkeypatch.setattr(accel, "_DEVICE", tmp_path / "kvm")
    answers = iter(["it crashed", ""])
    monkeypatch.setattr(accel, "_try", lambda *_: next(answers))
    for _ in range(2):
        assert accel.choose(IMAGE, QEMU, tmp_path, tmp_path) == accel.Accel("tcg", "it crashed")
    other = Qemu(Path("/q"), "10.1.0")
    for _ in range(2):
        assert accel.choose(IMAGE, other, tmp_path, tmp_path) == accel.Accel("kvm")


# Saved guests


def test_memory_files_are_removed_with_their_owner(tmp_path: Path) -> None:
    with memory_files([1 << 40, 1 << 40], otherwise=tmp_path) as files:
        assert [path.name for path in files] == ["memory.0", "memory.1"]
        assert files[0].is_relative_to(tmp_path)  # /dev/shm has no such room
        assert remove_stale(tmp_path) == []
        files[0].write_bytes(b"x")
    assert list(tmp_path.iterdir()) == []


def test_memory_files_of_dead_owners_are_removed(tmp_path: Path) -> None:
    (tmp_path / "damon-tests-dead").mkdir()
    (tmp_path / "damon-tests-dead" / "owner").touch()
    (tmp_path / "damon-tests-dead" / "memory.0").touch()
    (tmp_path / "damon-tests-other").mkdir()  # not ours: it has no owner
    (tmp_path / "damon-tests-alive").mkdir()
    with (tmp_path / "damon-tests-alive" / "owner").open("w") as owner:
        fcntl.flock(owner, fcntl.LOCK_EX)
        assert remove_stale(tmp_path) == [tmp_path / "damon-tests-dead"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["damon-tests-alive", "damon-tests-other"]


def test_sparse_files_are_copied_without_their_holes(tmp_path: Path) -> None:
    source, target = tmp_path / "a", tmp_path / "b"
    with source.open("wb") as file:
        file.truncate(64 << 20)
        file.seek(8 << 20)
        file.write(b"data" * 1024)
        file.seek(40 << 20)
        file.write(b"more" * 4096)
    copy_sparse(source, target)
    assert target.read_bytes() == source.read_bytes()
    assert target.stat().st_blocks * 512 < 1 << 20


def saved(directory: Path, size: int = 4096) -> BootedGuest:
    directory.mkdir()
    (directory / "state").write_bytes(b"state")
    (directory / "memory.0").write_bytes(b"m" * size)
    return BootedGuest(directory, (directory / "memory.0",), "log", 3.0, 1, 0.1, ())


def test_saved_guest_loads_again(tmp_path: Path) -> None:
    store = SnapshotStore(tmp_path)
    assert store.load("k1") is None
    with store.lock("k1"):
        stored = store.store("k1", saved(tmp_path / "new"))
    again = SnapshotStore(tmp_path).load("k1")
    assert again == stored
    assert again is not None
    assert again.memory[0].read_bytes() == b"m" * 4096
    assert again.state.read_bytes() == b"state"
    (again.memory[0]).unlink()
    assert SnapshotStore(tmp_path).load("k1") is None


def test_least_recently_used_guest_is_removed_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(snapshot, "KEPT_BYTES", 3 * 4096 * 4)
    store = SnapshotStore(tmp_path)
    for key, age_s in (("old", 9000), ("older", 10000), ("young", 60)):
        store.store(key, saved(tmp_path / f"new-{key}", 3 * 4096))
        then = time.time() - age_s
        os.utime(tmp_path / "guests" / key, (then, then))
    store.store("newest", saved(tmp_path / "new-newest", 3 * 4096))
    kept = {path.parent.name for path in (tmp_path / "guests").glob("*/guest.json")}
    # Two do not fit, but a guest that was used a minute ago may still be in use.
    assert kept == {"newest", "young"}


def test_removal_skips_guest_that_another_run_is_storing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another run may rename or remove a listed directory before this run reads it."""
    store, glob = SnapshotStore(tmp_path), Path.glob

    def and_gone(self: Path, pattern: str) -> list[Path]:
        gone = {".new-*": self / ".new-gone", "*/guest.json": self / "gone" / "guest.json"}
        return [*glob(self, pattern), *([gone[pattern]] if pattern in gone else [])]

    monkeypatch.setattr(Path, "glob", and_gone)
    assert store.store("mine", saved(tmp_path / "new-mine", 3 * 4096)).directory.name == "mine"


# Real kernels


KERNELS = os.environ.get("DAMON_TESTS_VM_KERNELS", "debian:stable debian:newest").split()
RUN_CODE = """
import sys, time
from pathlib import Path
from damon_tests.kernel.images import image
from damon_tests.kernel.guest.guest import Guests
from damon_tests.kernel.guest.topology import Topology
guest = Guests(Path(sys.argv[1])).fresh(image.resolve(sys.argv[2]), Topology(), 1)
print(guest.pid, flush=True)
time.sleep(600)
"""


@pytest.fixture(scope="module", params=KERNELS)
def kernel(request: pytest.FixtureRequest) -> KernelImage:
    return image.resolve(request.param)


@pytest.fixture(scope="module")
def guests(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guests]:
    with Guests(tmp_path_factory.mktemp("run")) as guests:
        yield guests


def read(guest: Guest, path: str) -> str:
    return guest.machine.read_file(path).decode()


@pytest.mark.vm
def test_restored_guests_are_pristine_and_reseeded(kernel: KernelImage, guests: Guests) -> None:
    numbers = set()
    for seed in range(10):
        with guests.fresh(kernel, Topology(), seed) as fresh:
            assert read(fresh, "/proc/sys/kernel/osrelease").strip() == kernel.release
            assert read(fresh, "/sys/kernel/mm/damon/admin/kdamonds/nr_kdamonds") == "0\n"
            with pytest.raises(FileNotFoundError):
                read(fresh, "/tmp/mine")
            fresh.machine.write_file("/sys/kernel/mm/damon/admin/kdamonds/nr_kdamonds", b"1")
            fresh.machine.write_file("/tmp/mine", b"x", create=True)
            numbers.add(read(fresh, "/proc/sys/kernel/random/uuid"))
            assert fresh.alive()
            assert fresh.splats() == []
    assert len(numbers) == 10


@pytest.mark.vm
def test_saved_guests_are_shared_with_other_runs(kernel: KernelImage, guests: Guests, tmp_path: Path) -> None:
    booted = guests.boot(kernel, Topology())
    assert booted.boot_splats == ()
    assert "Linux version" in booted.boot_log
    with Guests(tmp_path) as others:
        assert others.boot(kernel, Topology()) == booted


@pytest.mark.vm
def test_guest_has_the_requested_topology(kernel: KernelImage, guests: Guests) -> None:
    topology = Topology(
        memory_mib=768, cpus=2, numa_nodes=2, swap_zram_mib=64, hugetlb_pages=8, cmdline=("slab_nomerge",)
    )
    with guests.fresh(kernel, topology, 1) as fresh:
        assert read(fresh, "/sys/devices/system/node/online") == "0-1\n"
        assert read(fresh, "/sys/devices/system/node/node0/cpulist") == "0-1\n"
        assert read(fresh, "/sys/devices/system/node/node1/cpulist") == "\n"
        meminfo = dict(line.split(":") for line in read(fresh, "/proc/meminfo").splitlines())
        assert 600 << 10 < int(meminfo["MemTotal"].split()[0]) < 768 << 10
        assert meminfo["SwapTotal"].split()[0] == str((64 << 10) - 4)
        assert meminfo["HugePages_Total"].strip() == "8"
        assert read(fresh, "/proc/sys/kernel/numa_balancing") == "0\n"
        assert read(fresh, "/proc/sys/vm/percpu_pagelist_high_fraction") == "1000000\n"
        assert "slab_nomerge" in read(fresh, "/proc/cmdline")


@pytest.mark.vm
def test_panic_is_machine_lost_with_its_log(kernel: KernelImage, guests: Guests) -> None:
    with guests.fresh(kernel, Topology(), 1) as fresh:
        with pytest.raises(MachineLost) as lost:
            fresh.machine.write_file("/proc/sysrq-trigger", b"c")
        assert "sysrq triggered crash" in lost.value.log
        assert not fresh.alive()
        (splat,) = fresh.splats()
        assert (splat.kind, splat.title) == ("panic", "Kernel panic - not syncing: sysrq triggered crash")


@pytest.mark.vm
def test_log_of_a_running_guest_is_complete(kernel: KernelImage, guests: Guests) -> None:
    with guests.fresh(kernel, Topology(), 1) as fresh:
        fresh.machine.write_file("/dev/kmsg", b"<6>damon-tests says something\n")
        assert "damon-tests says something" in fresh.dmesg()
        fresh.machine.write_file("/proc/sysrq-trigger", b"l")  # backtraces are no report of a defect
        assert fresh.splats() == []


@pytest.mark.vm
def test_qemu_dies_with_its_run(kernel: KernelImage, guests: Guests, tmp_path: Path) -> None:
    guests.boot(kernel, Topology())
    command = [sys.executable, "-c", RUN_CODE, str(tmp_path), kernel.spec]
    parent = subprocess.Popen(command, stdout=subprocess.PIPE)
    assert parent.stdout is not None
    pid = int(parent.stdout.readline())
    assert Path(f"/proc/{pid}/cmdline").read_bytes().count(b"qemu-system") > 0
    parent.kill()
    parent.wait()
    parent.stdout.close()
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline and _runs(pid):
        time.sleep(0.01)
    assert not _runs(pid)


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0] != "Z"
    except OSError:
        return False


@pytest.mark.vm
def test_a_damaged_saved_guest_is_booted_again(tmp_path: Path) -> None:
    kernel = image.resolve(KERNELS[0])
    with Guests(tmp_path / "run", tmp_path / "cache") as guests:
        guests.boot(kernel, Topology()).state.write_bytes(b"rot")
        with guests.fresh(kernel, Topology(), 1) as fresh:
            assert fresh.alive()


@pytest.mark.vm
def test_failed_boot_is_machine_lost_with_its_log(guests: Guests) -> None:
    topology = Topology(cmdline=("init=/nothing", "rdinit=/nothing", "root=/dev/none"))
    with pytest.raises(MachineLost, match="did not boot under QEMU: Kernel panic") as lost:
        guests.live(image.resolve(KERNELS[0]), topology)
    assert "Unable to mount root fs" in lost.value.log


@pytest.mark.vm
def test_a_live_guest_runs_programs(kernel: KernelImage, guests: Guests) -> None:
    with guests.live(kernel, Topology(), {"hello": plain(b"from outside")}) as live:
        assert read(live, "/hello") == "from outside"
        assert "Linux version" in live.dmesg()
        (entries,) = live.machine.batch([FileOp("list", "/sys/kernel/mm/damon/admin")])
        assert not isinstance(entries, (bytes, OSError))
        assert [entry.path for entry in entries] == ["kdamonds"]
        process = live.machine.spawn(SpawnRequest(["/init", "--nonsense"]))
        assert process.wait(30 * 10**9).code not in (0, None)


@pytest.mark.vm
def test_a_userland_has_python(guests: Guests) -> None:
    script = "import json, sys; print(open('/sys/kernel/mm/damon/admin/kdamonds/nr_kdamonds').read(), end='')"
    with guests.fresh(image.resolve(KERNELS[0]), Topology(userland=True), 1) as fresh:
        for argv in (
            ["/usr/bin/python3", "-c", script],
            ["/bin/bash", "-c", "echo x > /tmp/x && pgrep -c init"],
        ):
            process = fresh.machine.spawn(SpawnRequest(chroot(argv), {"PATH": "/usr/bin"}))
            assert process.wait(120 * 10**9).ok, process.read_stderr()
            assert process.read_stdout() in (b"0\n", b"1\n")


@pytest.mark.vm
def test_vm_runs_a_command_and_returns_its_status(capfd: pytest.CaptureFixture[str]) -> None:
    command = ["sh", "-c", "uname -r; echo to stderr >&2; exit 3"]
    assert vm.run_in_guest(KERNELS[0], "512M", 1, 1, "", command) == 3
    out, err = capfd.readouterr()
    assert out.strip() == image.resolve(KERNELS[0]).release
    assert "to stderr\n" in err
    assert vm.run_in_guest(KERNELS[0], "512M", 1, 1, "", ["nonsense"]) == 127


@pytest.mark.vm
def test_instruction_clock_stands_while_no_call_waits(kernel: KernelImage, tmp_path: Path) -> None:
    with Guests(tmp_path, clock="instructions") as guests:
        guest = guests.fresh(kernel, Topology(), 1)
        assert guest.provenance["clock"] == "instructions"
        before_ns = guest.machine.clock.now_ns()
        time.sleep(0.5)  # an idle guest would have skipped many seconds
        assert guest.machine.clock.now_ns() - before_ns < 200_000_000
        guest.machine.clock.run_for(3_000_000_000)
        assert 3_000_000_000 <= guest.machine.clock.now_ns() - before_ns < 3_400_000_000
        guest.machine.write_file("/dev/kmsg", b"<5>said by a guest that stands still\n")
        assert "said by a guest that stands still" in guest.dmesg()
