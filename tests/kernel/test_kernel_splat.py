# SPDX-License-Identifier: GPL-2.0
"""parse_splats finds every bug report in a log, and none in a clean log."""

from __future__ import annotations

import pytest

from damon_tests.kernel.splat import parse_splats

CLEAN_BOOT = """\
[    0.000000] Linux version 7.3.4-test (builder@example) #1 SMP PREEMPT_DYNAMIC
[    0.000000] Command line: console=ttyS0 panic=-1 oops=panic pti=on damon_stat.enabled=N
[    0.012000] BUG_ON checks enabled for mm/damon
[    0.040000] ACPI BIOS Warning (bug): Incorrect checksum in table [FACP] - 0x12, should be 0x34
[    0.075113] Spectre V2 : WARNING: Unprivileged eBPF is enabled with eIBRS on, data leaks possible
[    0.075200] MDS: Vulnerable: Clear CPU buffers attempted, no microcode
[    0.080000] rcu: Hierarchical RCU implementation.
[    0.081000] rcu: \tRCU restricting CPUs from NR_CPUS=8192 to nr_cpu_ids=2.
[    0.090000] watchdog: Delayed init of the lockup detector failed: -19
[    0.300000] kmemleak: Kernel memory leak detector initialized (mem pool available: 15840)
[    0.400000] systemd[1]: WARNING: something a program wrote about itself
[    1.200000] process 'bin/test' launched '/bin/true' with NULL argv: empty string added
[    1.300000] zram0: detected capacity change from 0 to 524288
[    1.400000] Adding 262140k swap on /dev/zram0.  Priority:-1 extents:1 across:262140k SSDsc
"""

WARNING_OLD = """\
[   12.345678] ------------[ cut here ]------------
[   12.345680] WARNING: CPU: 1 PID: 77 at mm/damon/core.c:1399 damon_merge_two_regions+0x9a/0xb0
[   12.345690] Modules linked in: zram lz4_compress
[   12.345700] CPU: 1 UID: 0 PID: 77 Comm: kdamond.0 Not tainted 6.12.107-test #1
[   12.345720] RIP: 0010:damon_merge_two_regions+0x9a/0xb0
[   12.345730] Code: 48 89 e5 0f 0b c3
[   12.345740] RSP: 0018:ffffc90000a3fd90 EFLAGS: 00010246
[   12.345760] Call Trace:
[   12.345770]  <TASK>
[   12.345780]  ? __warn+0x89/0x130
[   12.345790]  kdamond_fn+0x4f2/0xd30
[   12.345800]  ret_from_fork_asm+0x1a/0x30
[   12.345810]  </TASK>
[   12.345820] ---[ end trace 0000000000000000 ]---
"""

WARNING_NEW = """\
[    5.100000][  T301] ------------[ cut here ]------------
[    5.100001][  T301] r->nr_accesses > max
[    5.100002][  T301] WARNING: mm/damon/core.c:2417 at kdamond_fn+0x8f1/0x1200, CPU#0: kdamond.0/301
[    5.100010][  T301] RIP: 0010:kdamond_fn+0x8f1/0x1200
[    5.100020][  T301] Call Trace:
[    5.100030][  T301]  <TASK>
[    5.100040][  T301]  kthread+0x10a/0x230
[    5.100050][  T301]  </TASK>
[    5.100060][  T301] ---[ end trace 0000000000000000 ]---
"""

NULL_DEREFERENCE = """\
[   40.000001] BUG: kernel NULL pointer dereference, address: 0000000000000028
[   40.000002] #PF: supervisor read access in kernel mode
[   40.000003] #PF: error_code(0x0000) - not-present page
[   40.000004] PGD 0 P4D 0
[   40.000005] Oops: Oops: 0000 [#1] SMP PTI
[   40.000006] CPU: 0 UID: 0 PID: 310 Comm: kdamond.0 Not tainted 7.2.13 #1 PREEMPT(voluntary)
[   40.000007] RIP: 0010:damon_va_target_valid+0x11/0x60
[   40.000008] Call Trace:
[   40.000009]  <TASK>
[   40.000010]  kdamond_need_stop+0x2b/0x90
[   40.000011]  </TASK>
[   40.000012] Modules linked in:
[   40.000013] CR2: 0000000000000028
[   40.000014] ---[ end trace 0000000000000000 ]---
[   40.000015] RIP: 0010:damon_va_target_valid+0x11/0x60
[   40.000016] Kernel panic - not syncing: Fatal exception
[   40.000017] Kernel Offset: disabled
"""

BUG_ON = """\
[   41.000000] ------------[ cut here ]------------
[   41.000001] kernel BUG at mm/damon/vaddr.c:120!
[   41.000002] Oops: invalid opcode: 0000 [#1] SMP PTI
[   41.000003] CPU: 1 UID: 0 PID: 9 Comm: kworker/1:0 Not tainted 6.18.15 #1
[   41.000004] Call Trace:
[   41.000005]  <TASK>
[   41.000006]  __damon_va_three_regions+0x1e0/0x210
[   41.000007]  </TASK>
[   41.000008] ---[ end trace 0000000000000000 ]---
"""

KASAN = """\
[   21.900000] ==================================================================
[   21.900001] BUG: KASAN: slab-use-after-free in damon_sysfs_turn_damon_on+0x1d/0x40
[   21.900002] Read of size 8 at addr ffff888103a2c808 by task sysfs.sh/402
[   21.900003] CPU: 0 UID: 0 PID: 402 Comm: sysfs.sh Not tainted 7.3.4 #2
[   21.900004] Call Trace:
[   21.900005]  <TASK>
[   21.900006]  dump_stack_lvl+0x5d/0x80
[   21.900007]  </TASK>

[   21.900009] Allocated by task 402:
[   21.900010]  kasan_save_stack+0x33/0x60
[   21.900011] ==================================================================
[   21.900012] Disabling lock debugging due to kernel taint
"""

LOCKDEP = """\
<4>[   33.000000] ======================================================
<4>[   33.000001] WARNING: possible circular locking dependency detected
<4>[   33.000002] 7.3.4-debug #1 Not tainted
<4>[   33.000003] ------------------------------------------------------
<4>[   33.000004] kdamond.0/55 is trying to acquire lock:
<4>[   33.000005] ffffffff82a1 (damon_sysfs_lock){+.+.}-{4:4}, at: damon_sysfs_cmd_request+0x1c/0x90
<4>[   33.000006] stack backtrace:
<4>[   33.000007] Call Trace:
<4>[   33.000008]  <TASK>
<4>[   33.000009]  check_noncircular+0x12f/0x150
<4>[   33.000010]  </TASK>
"""

OTHERS = {
    "hung task": "[  243.1] INFO: task bash:1010 blocked for more than 120 seconds.\n",
    "soft lockup": "[   56.0] watchdog: BUG: soft lockup - CPU#1 stuck for 26s! [kdamond.0:99]\n",
    "hard lockup": "[   57.0] watchdog: Watchdog detected hard LOCKUP on cpu 0\n",
    "RCU stall": "[   80.2] rcu: INFO: rcu_preempt detected stalls on CPUs/tasks:\n",
    "panic": "[    3.0] Kernel panic - not syncing: sysrq triggered crash\n",
    "oops": "[    4.0] Oops: general protection fault, maybe for address 0xdead: 0000 [#1] SMP\n",
    "BUG": "[    5.0] BUG: Bad rss-counter state mm:00000000aa type:MM_ANONPAGES val:2\n",
    "UBSAN": "[    6.0] UBSAN: array-index-out-of-bounds in mm/damon/sysfs.c:12:3\n",
    "KFENCE": "[    7.0] BUG: KFENCE: use-after-free read in damon_destroy_scheme+0x3/0x10\n",
    "kmemleak": "[  700.0] kmemleak: 3 new suspected memory leaks (see /sys/kernel/debug/kmemleak)\n",
}


def test_clean_boot_has_no_splats() -> None:
    assert parse_splats(CLEAN_BOOT) == []
    assert parse_splats("") == []


@pytest.mark.parametrize("kind", OTHERS)
def test_first_line_gives_the_kind(kind: str) -> None:
    (splat,) = parse_splats(CLEAN_BOOT + OTHERS[kind])
    assert splat.kind == kind
    assert splat.title == OTHERS[kind].split("] ", 1)[1].strip()


def test_warning_is_a_single_complete_splat() -> None:
    (splat,) = parse_splats(CLEAN_BOOT + WARNING_OLD + CLEAN_BOOT)
    assert splat.kind == "WARNING"
    assert splat.title == "WARNING: CPU: 1 PID: 77 at mm/damon/core.c:1399 damon_merge_two_regions+0x9a/0xb0"
    assert splat.text == WARNING_OLD.rstrip()


def test_message_before_the_warning_belongs_to_it() -> None:
    (splat,) = parse_splats(WARNING_NEW)
    assert (splat.kind, splat.title) == ("WARNING", "r->nr_accesses > max")
    assert "mm/damon/core.c:2417" in splat.text
    assert splat.text == WARNING_NEW.rstrip()


def test_oops_belongs_to_its_bug_and_panic_is_separate() -> None:
    bug, panic = parse_splats(NULL_DEREFERENCE)
    assert (bug.kind, bug.title) == ("BUG", "BUG: kernel NULL pointer dereference, address: 0000000000000028")
    assert bug.text.endswith("---[ end trace 0000000000000000 ]---")
    assert (panic.kind, panic.title) == ("panic", "Kernel panic - not syncing: Fatal exception")


def test_bug_on_is_a_complete_splat() -> None:
    (splat,) = parse_splats(BUG_ON)
    assert (splat.kind, splat.title) == ("BUG", "kernel BUG at mm/damon/vaddr.c:120!")
    assert splat.text == BUG_ON.rstrip()


def test_kasan_ends_with_its_rule() -> None:
    (splat,) = parse_splats(KASAN)
    assert splat.kind == "KASAN"
    assert "Allocated by task" in splat.text
    assert "Disabling lock debugging" not in splat.text


def test_lockdep_with_log_levels() -> None:
    (splat,) = parse_splats(LOCKDEP + CLEAN_BOOT)
    assert (splat.kind, splat.title) == ("lockdep", "WARNING: possible circular locking dependency detected")
    assert "zram0" not in splat.text


def test_splats_keep_the_order_of_the_log() -> None:
    log = CLEAN_BOOT + WARNING_OLD + BUG_ON + OTHERS["hung task"] + LOCKDEP + KASAN
    assert [s.kind for s in parse_splats(log)] == ["WARNING", "BUG", "hung task", "lockdep", "KASAN"]


def test_console_line_ends_do_not_matter() -> None:
    assert [s.title for s in parse_splats(BUG_ON.replace("\n", "\r\n"))] == [
        "kernel BUG at mm/damon/vaddr.c:120!"
    ]
