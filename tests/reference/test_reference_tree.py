# SPDX-License-Identifier: GPL-2.0
"""The tree's rules: parsing, permissions, counts, the lock, blocking commands."""

from __future__ import annotations

import errno
import os
from dataclasses import replace

import pytest
from reference_support import HEAP, MIB, STAT_ALL, Box, make_system

from damon_tests.damon.client import DamonClient
from damon_tests.damon.params import (
    DamonAttrs,
    DamonCtx,
    DamonIntervalsGoal,
    DamonProbe,
    DamonProbeFilter,
    DamonTarget,
    Damos,
    DamosDest,
    DamosFilter,
    DamosQuota,
    DamosQuotaGoal,
    DamosWatermarks,
    Kdamond,
)
from damon_tests.ports import NSEC_PER_SEC, TimedOut, TreeError, UsageError, page_size

ADMIN = "/sys/kernel/mm/damon/admin"
NR = f"{ADMIN}/kdamonds/nr_kdamonds"
CTX = f"{ADMIN}/kdamonds/0/contexts/0"


@pytest.fixture
def tree():
    tree = make_system().tree
    tree.write(NR, "1")
    tree.write(f"{ADMIN}/kdamonds/0/contexts/nr_contexts", "1")
    for name in ("targets/nr_targets", "schemes/nr_schemes"):
        tree.write(f"{CTX}/{name}", "1")
    return tree


def refusal(tree, path, value):
    with pytest.raises(TreeError) as caught:
        tree.write(path, value)
    assert (caught.value.path, caught.value.value) == (path, value)
    return caught.value.errno_name


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("42", "42"),
        ("42\n", "42"),
        ("+42", "42"),
        ("0x2a", "42"),
        ("0X2A", "42"),
        ("052", "42"),
        ("0", "0"),
        ("18446744073709551615", "18446744073709551615"),
    ],
)
def test_numbers_are_parsed_as_by_the_kernel(tree, text, shown):
    path = f"{CTX}/monitoring_attrs/intervals/sample_us"
    tree.write(path, text)
    assert tree.read(path) == shown + "\n"


@pytest.mark.parametrize(
    ("text", "errno_name"),
    [
        (" 42", "EINVAL"),
        ("42 ", "EINVAL"),
        ("42\n\n", "EINVAL"),
        ("\n", "EINVAL"),
        ("-1", "EINVAL"),
        ("++1", "EINVAL"),
        ("+-1", "EINVAL"),
        ("0x", "EINVAL"),
        ("08", "EINVAL"),
        ("1_000", "EINVAL"),
        ("٤٢", "EINVAL"),
        ("18446744073709551616", "ERANGE"),
        ("99999999999999999999x", "ERANGE"),  # noticed before what follows
        ("0x10000000000000000", "ERANGE"),
    ],
)
def test_bad_numbers_are_refused(tree, text, errno_name):
    path = f"{CTX}/monitoring_attrs/intervals/sample_us"
    assert refusal(tree, path, text) == errno_name
    assert tree.read(path) == "5000\n"


@pytest.mark.parametrize(
    ("path", "text", "errno_name"),
    [
        ("targets/0/pid_target", "99999999999", "EINVAL"),
        ("schemes/0/quotas/bytes", "99999999999999999999", "EINVAL"),
        ("schemes/0/quotas/ms", "99999999999999999999", "EINVAL"),
        ("schemes/0/quotas/reset_interval_ms", "99999999999999999999", "EINVAL"),
        ("schemes/0/quotas/fail_charge_num", "4294967296", "EINVAL"),
        ("schemes/0/quotas/fail_charge_denom", "4294967296", "EINVAL"),
        ("schemes/0/quotas/weights/sz_permil", "4294967296", "ERANGE"),
        ("schemes/0/target_nid", "-2147483649", "ERANGE"),
        ("addr_unit", "0", "EINVAL"),
        ("targets/nr_targets", "-1", "EINVAL"),
        ("monitoring_attrs/probes/nr_probes", "5", "EINVAL"),
        ("operations", "vaddr\n\n", "EINVAL"),
        ("pause", "x", "EINVAL"),
        ("avail_operations", "vaddr", "EACCES"),
        ("schemes/0/stats/nr_tried", "1", "EACCES"),
        ("schemes", "1", "EISDIR"),
        ("nothing", "1", "ENOENT"),
        ("targets/1/pid_target", "1", "ENOENT"),
        ("targets/00/pid_target", "1", "ENOENT"),
    ],
)
def test_bad_values_are_refused_with_their_errno(tree, path, text, errno_name):
    assert refusal(tree, f"{CTX}/{path}", text) == errno_name


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("yes", "Y"),
        ("Nope", "N"),
        ("on", "Y"),
        ("off", "N"),
        ("1x", "Y"),
        ("e", "Y"),
        ("D", "N"),
        ("t\n", "Y"),
    ],
)
def test_booleans_are_parsed_by_their_first_characters(tree, text, shown):
    tree.write(f"{CTX}/pause", text)
    assert tree.read(f"{CTX}/pause") == shown + "\n"


def test_negative_pid_is_staged(tree):
    tree.write(f"{CTX}/targets/0/pid_target", "-5")
    assert tree.read(f"{CTX}/targets/0/pid_target") == "-5\n"


def test_empty_write_does_nothing(tree):
    tree.write(f"{CTX}/operations", "")
    tree.write(f"{ADMIN}/kdamonds/0/state", "")
    assert tree.read(f"{CTX}/operations") == "vaddr\n"


def test_paths_keep_the_newline_they_were_given(tree):
    tree.write(f"{CTX}/schemes/0/filters/nr_filters", "1")
    path = f"{CTX}/schemes/0/filters/0/memcg_path"
    assert tree.read(path) == "\n"
    tree.write(path, "/a\n")
    assert tree.read(path) == "/a\n\n"


def test_writing_a_count_resets_the_children(tree):
    tree.write(f"{CTX}/targets/0/pid_target", "7")
    tree.write(f"{CTX}/targets/nr_targets", "1")
    assert tree.read(f"{CTX}/targets/0/pid_target") == "0\n"
    tree.write(f"{CTX}/targets/nr_targets", "3")
    assert [e.path for e in tree.list(f"{CTX}/targets")] == ["0", "1", "2", "nr_targets"]


def test_a_count_too_large_leaves_none(tree):
    assert refusal(tree, NR, "2000000") == "ENOMEM"
    assert tree.read(NR) == "0\n"
    assert not tree.exists(f"{ADMIN}/kdamonds/0")


def test_many_directories_cost_nothing_until_looked_at(tree):
    tree.write(f"{CTX}/schemes/nr_schemes", "500000")
    assert tree.read(f"{CTX}/schemes/499999/action") == "stat\n"


def test_a_batch_reports_errors_and_stops_writing_at_the_first(tree):
    paths = [NR, f"{ADMIN}/nothing"]
    values = tree.read_batch(paths)
    assert values[0] == "1\n"
    assert isinstance(values[1], TreeError)
    with pytest.raises(TreeError):
        tree.write_batch([(f"{CTX}/operations", "paddr"), (f"{CTX}/operations", "x"), (NR, "9")])
    assert (tree.read(f"{CTX}/operations"), tree.read(NR)) == ("paddr\n", "1\n")


def test_an_unknown_level_is_refused():
    with pytest.raises(UsageError, match=r"unknown level '5\.4'; there are 6\.12, "):
        make_system("5.4")


def test_what_is_staged_reads_back():
    """I64, with the client that every backend shares, and a request that uses every directory."""
    everything = Kdamond(
        DamonCtx(
            operations="paddr",
            addr_unit=2,
            pause=True,
            attrs=DamonAttrs(
                sample_us=1,
                intervals_goal=DamonIntervalsGoal(1, 2, 3, 4),
                probes=(DamonProbe(3, (DamonProbeFilter("memcg", True, True, "/a"),)), DamonProbe()),
            ),
            targets=(DamonTarget(-5, ((1, 2), (3, (1 << 64) - 1)), True), DamonTarget()),
            schemes=(
                Damos(
                    action="migrate_hot",
                    quota=DamosQuota(
                        1, 2, 3, 4, 5, 6, (DamosQuotaGoal("active_mem_bp", 7),), "temporal", 8, 9
                    ),
                    watermarks=DamosWatermarks("free_mem_rate", 1, 2, 3, 4),
                    core_filters=(DamosFilter("addr", addr_start=1, addr_end=2),),
                    ops_filters=(DamosFilter("young"),),
                    filters=(DamosFilter("target", damon_target_idx=-1),),
                    dests=(DamosDest(1, 2),),
                    max_nr_snapshots=3,
                ),
                Damos(),
            ),
        ),
        refresh_ms=10,
    )
    system = make_system()
    client = DamonClient(system.tree, system.clock)
    client.stage([everything, Kdamond()])
    assert not client.verify_staged([everything, Kdamond()])
    assert client.staged() == (everything, Kdamond())


# The lock and blocking commands


def test_a_waiting_walk_holds_the_lock():
    box = Box(8 * MIB)
    box.start(box.fvaddr(schemes=(replace(STAT_ALL, apply_interval_us=6_000_000),)))
    box.run(0.1)
    pending = box.tree.begin_write(box.path("state"), "update_schemes_tried_regions")
    assert not pending.done()
    for name, value in (
        ("state", "update_schemes_stats"),
        ("contexts/nr_contexts", "1"),
        ("contexts/0/targets/nr_targets", "1"),
    ):
        assert refusal(box.tree, box.path(name), value) == "EBUSY"
    # What no lock would help is refused before the lock is tried for (seen on 7.3.4); a command after it.
    for name, value, errno_name in (
        ("contexts/nr_contexts", "5", "EINVAL"),
        ("contexts/0/schemes/nr_schemes", "x", "EINVAL"),
        ("contexts/0/monitoring_attrs/probes/nr_probes", "9", "EINVAL"),
        ("../nr_kdamonds", "-1", "EINVAL"),
        ("../nr_kdamonds", "99999999999", "ERANGE"),
        ("../nr_kdamonds", "2", "EBUSY"),
        ("state", "nonsense", "EBUSY"),
    ):
        path = os.path.normpath(box.path(name))
        assert refusal(box.tree, path, value) == errno_name
    for name in ("state", "pid"):
        with pytest.raises(TreeError, match="EBUSY"):
            box.read(name)
    box.tree.write(box.ctx_path("monitoring_attrs/intervals/sample_us"), "7000")
    with pytest.raises(TimedOut):
        pending.result(NSEC_PER_SEC)
    pending.result(6 * NSEC_PER_SEC)
    assert pending.done()
    assert box.read("state") == "on"
    assert 6.0 <= (box.clock.now_ns() - 1_000_000_000) / NSEC_PER_SEC < 6.2


def test_bad_staging_is_refused_before_a_running_kdamond_is_looked_for():
    """Seen on 7.3.4 with DAMON_STAT on: the start itself comes last."""
    box = Box()
    box.stage(DamonCtx(targets=(DamonTarget(0),)))
    box.tree.write("/sys/module/damon_stat/parameters/enabled", "Y")
    assert refusal(box.tree, box.path("state"), "on") == "EINVAL"
    box.tree.write(box.ctx_path("operations"), "paddr")
    assert refusal(box.tree, box.path("state"), "on") == "EBUSY"


def test_a_pending_write_raises_its_failure_when_asked():
    box = Box()
    pending = box.tree.begin_write(box.path("state"), "on")
    assert pending.done()
    with pytest.raises(TreeError, match="ENOENT"):
        pending.result(0)


def test_commands_waiting_when_the_target_exits_are_cancelled():
    box = Box()
    box.start(box.ctx(schemes=(replace(STAT_ALL, apply_interval_us=6_000_000),)))
    pending = box.tree.begin_write(box.path("state"), "update_schemes_tried_regions")
    box.system.remove_process(box.pid)
    with pytest.raises(TreeError, match="ECANCELED"):
        pending.result(NSEC_PER_SEC)
    assert box.read("state") == "off"


def test_off_waits_for_a_short_sleep_and_ends_a_long_one():
    """Shown on 7.3.4 and 6.12.107: with a sampling interval of 3 s, `off` takes 10 ms."""
    for sample_us, waits_ns in ((10_000, 10_000_000), (50_000, 0), (3_000_000, 0)):
        box = Box()
        box.start(box.fvaddr(sample_us=sample_us, aggr_us=10 * sample_us))
        began = box.clock.now_ns()
        box.command("off")
        assert box.clock.now_ns() - began == waits_ns
        assert box.clock.next_wake_ns() is None, "the thread is gone"
        box.command("on")
        assert box.read("state") == "on"


def test_off_ends_the_sleep_of_inactive_schemes():
    box = Box()
    never = DamosWatermarks("free_mem_rate", 60_000_000, 3, 2, 1)
    box.start(box.fvaddr(schemes=(replace(STAT_ALL, watermarks=never),)))
    box.run(1)
    began = box.clock.now_ns()
    box.command("off")
    assert box.clock.now_ns() == began


def test_results_survive_off_and_go_with_on():
    box = Box(8 * MIB)
    box.start(box.fvaddr(schemes=(STAT_ALL,)))
    box.run(1)
    first = box.client.stats(0, 0)
    box.command("off")
    assert box.client.stats(0, 0, update=False) == first
    box.command("on")
    box.run(0.101)
    assert box.client.stats(0, 0).nr_snapshots == 1


def test_tried_regions_are_complete_and_cleared():
    box = Box(8 * MIB)
    box.start(box.fvaddr(schemes=(STAT_ALL, STAT_ALL)))
    for index in range(2):
        tried = box.client.tried_regions(0, index)
        assert tried.total_bytes == 8 * MIB
        assert (tried.regions.start[1:] == tried.regions.end[:-1]).all()
    box.command("clear_schemes_tried_regions")
    tried = box.tree.list(box.ctx_path("schemes/0/tried_regions"))
    assert [e.path for e in tried] == ["total_bytes"]
    box.command("update_schemes_tried_bytes")
    assert box.tree.read(box.ctx_path("schemes/0/tried_regions/total_bytes")) == f"{8 * MIB}\n"
    assert len(box.tree.list(box.ctx_path("schemes/0/tried_regions"))) == 1


def test_walk_returns_when_no_region_matches():
    box = Box(8 * MIB)
    box.start(box.fvaddr(schemes=(Damos(),)))
    assert box.client.tried_regions(0, 0).total_bytes == 0


def test_removed_scheme_directories_do_no_harm():
    box = Box(8 * MIB)
    box.start(box.fvaddr(schemes=(STAT_ALL,)))
    box.tree.write(box.ctx_path("schemes/nr_schemes"), "0")
    box.command("update_schemes_stats")
    box.command("update_schemes_tried_regions")
    box.run(1)
    assert box.read("state") == "on"


def test_nr_contexts_zero_leaves_only_off():
    box = Box()
    box.start(box.fvaddr())
    box.tree.write(box.path("contexts/nr_contexts"), "0")
    assert refusal(box.tree, box.path("state"), "commit") == "EINVAL"
    box.command("off")


def test_refresh_updates_without_a_command():
    box = Box(8 * MIB)
    box.start(box.fvaddr(schemes=(STAT_ALL,)))
    path = box.ctx_path("schemes/0/stats/nr_snapshots")
    box.run(1)
    assert box.tree.read(path) == "0\n"
    box.tree.write(box.path("refresh_ms"), "300")
    box.run(0.4)
    assert int(box.tree.read(path)) >= 10


def test_address_filters_cut_regions():
    """I53: an allow range bounds what is tried, a reject range is kept out."""
    inside = (HEAP + 2 * MIB + page_size(), HEAP + 5 * MIB)
    allow = DamosFilter("addr", True, True, addr_start=inside[0], addr_end=inside[1])
    for item, total in ((allow, inside[1] - inside[0]), (replace(allow, allow=False), None)):
        box = Box(8 * MIB)
        box.start(box.fvaddr(schemes=(replace(STAT_ALL, core_filters=(item,)),)))
        box.run(1)
        tried = box.client.tried_regions(0, 0)
        expected = total or 8 * MIB - (inside[1] - inside[0])
        assert tried.total_bytes == expected
        overlap = (tried.regions.start < inside[1]) & (tried.regions.end > inside[0])
        assert overlap.all() if total else not overlap.any()


def test_a_target_filter_keeps_to_its_target():
    box = Box(8 * MIB)
    other = box.system.add_process([(HEAP, HEAP + MIB)], box.truth)
    targets = (DamonTarget(box.pid, ((HEAP, HEAP + 8 * MIB),)), DamonTarget(other, ((HEAP, HEAP + MIB),)))
    item = DamosFilter("target", True, True, damon_target_idx=1)
    scheme = replace(STAT_ALL, core_filters=(item,))
    box.start(replace(box.fvaddr(schemes=(scheme,)), targets=targets))
    assert box.client.tried_regions(0, 0).total_bytes == MIB


def test_physical_monitoring_needs_memory_for_all_pages():
    box = Box(64 * MIB, ram_bytes=32 * MIB)
    box.stage(box.ctx(operations="paddr", targets=(DamonTarget(),)))
    with pytest.raises(UsageError, match="larger ram_bytes"):
        box.command("on")
    assert box.read("state") == "off"


def test_paths_outside_the_tree_do_not_exist():
    tree = make_system("6.16").tree
    for path in ("/sys/module/damon_stat/parameters/enabled", "/proc/version", "/sys/kernel/mm/damonx"):
        assert not tree.exists(path)
        with pytest.raises(TreeError) as caught:
            tree.read(path)
        assert caught.value.errno == errno.ENOENT
