# SPDX-License-Identifier: GPL-2.0
"""A skip names everything that is missing, and how to get it."""

from __future__ import annotations

from pathlib import Path

import pytest

from damon_tests.damon.capability import Capabilities
from damon_tests.damon.features import FEATURES
from damon_tests.experiment.requirements import (
    Missing,
    Needs,
    Requirements,
    combine,
    evaluate,
    look,
    not_supported,
    of,
)
from damon_tests.kernel.guest.topology import Topology
from damon_tests.kernel.host.machine import LocalMachine
from damon_tests.ports import UsageError


def having(*absent: str, unknown: tuple[str, ...] = ()) -> Capabilities:
    """Return the capabilities of a DAMON without the ``absent`` features."""
    present: dict[str, bool | None] = dict.fromkeys(FEATURES, True)
    present |= dict.fromkeys(absent, False) | dict.fromkeys(unknown, None)
    reasons = {name: f"no file {name}" for name in absent} | dict.fromkeys(unknown, "not probed")
    return Capabilities(present, reasons)


def test_nothing_is_missing_on_a_complete_machine() -> None:
    needed = Requirements(("schemes.stat",), ("paddr",), ("damon_aggregated",), Needs(memory_mib=512))
    assert evaluate(needed, having(), of(Topology())) == []


def test_everything_missing_is_listed_with_its_reason_and_the_way_to_get_it() -> None:
    needed = Requirements(
        ("schemes.collapse", "schemes.stat", "ctx.pause"),
        ("vaddr", "paddr"),
        ("damon_region_aggregated",),
        Needs(memory_mib=2048, cpus=2, numa_nodes=2, swap_mib=64, hugetlb_pages=16),
    )
    damon = having("schemes.collapse", "ops.paddr", "damon_region_aggregated", unknown=("ctx.pause",))
    missing = evaluate(needed, damon, Needs(memory_mib=1024, cpus=4, numa_nodes=1))
    assert [item.what.partition(":")[0] for item in missing] == [
        "ops.paddr",
        "schemes.collapse",
        "ctx.pause",
        "damon_region_aggregated",
        "2048 MiB of memory",
        "2 memory nodes",
        "64 MiB of swap",
        "16 reserved huge pages",
    ]
    collapse, pause, memory = missing[1], missing[2], missing[4]
    assert "no file schemes.collapse" in collapse.what
    assert "series 7.2 or later" in collapse.how
    assert "not probed" in pause.what
    assert "while nobody uses DAMON" in pause.how
    assert memory.what.endswith("the machine has 1024")
    assert all("--kernel debian:newest" in item.how for item in missing)


def test_a_machine_made_to_order_lacks_nothing() -> None:
    assert evaluate(Requirements(needs=Needs(numa_nodes=8)), having(), None) == []


def test_a_feature_is_named_once_however_often_it_is_required() -> None:
    needed = Requirements(("ops.paddr", "paddr", "schemes.stat", "schemes.stat"), ("paddr",))
    assert needed.names() == ("ops.paddr", "schemes.stat")
    assert len(evaluate(needed, having("ops.paddr"))) == 1


def test_misspelt_feature_is_a_usage_error() -> None:
    with pytest.raises(UsageError, match=r"schemes\.stats"):
        evaluate(Requirements(("schemes.stats",)), having())


def test_requirements_of_module_and_test_are_combined() -> None:
    both = combine(
        Requirements(("ctx.pause",), ("vaddr",), (), Needs(memory_mib=512, numa_nodes=2)),
        Requirements(("ctx.pause", "schemes.stat"), (), ("damos_esz",), Needs(memory_mib=2048)),
    )
    assert both == Requirements(
        ("ctx.pause", "schemes.stat"), ("vaddr",), ("damos_esz",), Needs(memory_mib=2048, numa_nodes=2)
    )
    assert combine() == Requirements()


def test_guest_has_at_least_the_default_and_the_needs() -> None:
    topology = Needs(numa_nodes=2, swap_mib=256).topology()
    assert topology == Topology(numa_nodes=2, swap_zram_mib=256)
    needs = Needs(memory_mib=4096, cpus=1, hugetlb_pages=64)
    assert needs.topology(Topology(cmdline=("quiet",))) == Topology(
        memory_mib=4096, hugetlb_pages=64, cmdline=("quiet",)
    )
    assert evaluate(Requirements(needs=needs), having(), of(needs.topology())) == []


def test_skip_lists_everything_missing_and_each_remedy_once() -> None:
    error = not_supported([Missing("a", "do this"), Missing("b", "do that"), Missing("c", "do this")])
    assert error.missing == ("a", "b", "c")
    assert error.remedy == "do this; do that"


def machine(root: Path, **files: str) -> LocalMachine:
    paths = {
        "meminfo": "proc/meminfo",
        "mounts": "proc/mounts",
        "cpus": "sys/devices/system/cpu/online",
        "nodes": "sys/devices/system/node/has_memory",
        "lru_gen": "sys/kernel/mm/lru_gen/enabled",
        "thp": "sys/kernel/mm/transparent_hugepage/enabled",
        "khugepaged": "sys/kernel/mm/transparent_hugepage/khugepaged/scan_sleep_millisecs",
        "pressure": "proc/pressure/memory",
    }
    for name, text in files.items():
        path = root / paths[name]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return LocalMachine(root=root)


MEMINFO = """MemTotal:       24684444 kB
SwapTotal:       2097148 kB
HugePages_Total:      12
Hugepagesize:       2048 kB
"""


def test_what_a_machine_has_is_read_from_its_files(tmp_path: Path) -> None:
    has = look(machine(tmp_path, meminfo=MEMINFO, cpus="0-3,6\n", nodes="0,2\n", lru_gen="0x0007\n"))
    assert has == Needs(memory_mib=24105, cpus=5, numa_nodes=2, swap_mib=2047, hugetlb_pages=12)


def test_kernel_without_nodes_swap_and_huge_pages_is_read(tmp_path: Path) -> None:
    has = look(machine(tmp_path, meminfo="MemTotal:  1024 kB\n", cpus="0\n"))
    assert has == Needs(memory_mib=1, cpus=1, numa_nodes=1, lru_lists=1)
    larger = look(machine(tmp_path, meminfo=MEMINFO.replace("2048 kB", "1048576 kB"), cpus="0\n"))
    assert larger.hugetlb_pages == 0


@pytest.mark.parametrize(
    ("mounts", "disk_mib"),
    [
        ("rootfs / rootfs rw 0 0\ntmpfs /tmp tmpfs rw 0 0\n", 0),
        ("rootfs / rootfs rw 0 0\n/dev/zram0 /var/tmp ext4 rw 0 0\n", 128),
        ("/dev/vda / ext4 rw 0 0\ntmpfs /var tmpfs rw 0 0\n", 0),
        ("/dev/vda / ext4 rw 0 0\ntmpfs /v tmpfs rw 0 0\n", 128),
    ],
)
def test_disk_needs_temporary_files_outside_memory(tmp_path: Path, mounts: str, disk_mib: int) -> None:
    assert look(machine(tmp_path, meminfo=MEMINFO, cpus="0\n", mounts=mounts)).disk_mib == disk_mib


def test_lru_lists_and_eager_khugepaged_are_read_from_settings(tmp_path: Path) -> None:
    thp = {"thp": "always [madvise] never\n", "khugepaged": "50\n", "lru_gen": "0x0000\n"}
    has = look(machine(tmp_path, meminfo=MEMINFO, cpus="0\n", **thp))
    assert (has.lru_lists, has.thp_on_advice) == (1, 1)
    for setting in ({"khugepaged": "10000\n"}, {"thp": "[always] madvise never\n"}):
        assert not look(machine(tmp_path, meminfo=MEMINFO, cpus="0\n", **{**thp, **setting})).thp_on_advice
    needed = Requirements(needs=Needs(lru_lists=1, thp_on_advice=1))
    missing = evaluate(needed, having(), Needs())
    assert [item.what for item in missing] == [
        "active and inactive lists: the machine has none",
        "huge pages on advice, and an eager khugepaged: the machine has none",
    ]
    assert evaluate(needed, having(), of(needed.needs.topology())) == []


def test_pressure_stalls_need_a_boot_parameter(tmp_path: Path) -> None:
    needed = Requirements(needs=Needs(psi=1))
    without = look(machine(tmp_path, meminfo=MEMINFO, cpus="0\n"))
    (missing,) = evaluate(needed, having(), without)
    assert missing.what == "pressure stall information: the machine has none"
    assert "psi=1" in missing.how
    some = "some avg10=0.00 avg60=0.00 avg300=0.00 total=12\n"
    assert look(machine(tmp_path, meminfo=MEMINFO, cpus="0\n", pressure=some)).psi
    topology = needed.needs.topology()
    assert topology.cmdline == ("psi=1",)
    assert needed.needs.topology(topology).cmdline == ("psi=1",)
    assert evaluate(needed, having(), of(topology)) == []
