# SPDX-License-Identifier: GPL-2.0
"""DAMON_RECLAIM, DAMON_LRU_SORT and DAMON_STAT: parameters, derived schemes, results."""

from __future__ import annotations

import pytest
from reference_support import MIB, STAT_ALL, Parameters, idle_box, make_system

from damon_tests.ports import TreeError, page_size
from damon_tests.reference.rules.modules import idle_percentiles


def test_reclaim_pages_out_cold_memory_below_the_watermark():
    box = idle_box()
    reclaim = Parameters(box, "reclaim")
    reclaim["min_age"] = 2_000_000
    reclaim["wmarks_high"] = 990
    reclaim["wmarks_mid"] = 980
    reclaim["enabled"] = "Y"
    assert reclaim["enabled"] == "Y"
    assert int(reclaim["kdamond_pid"]) > 0
    assert (reclaim["monitor_region_start"], reclaim["monitor_region_end"]) == (
        str(page_size()),
        str(128 * MIB),
    )
    box.run(60)
    memory = box.system.memory
    memory.settle_all(box.clock.now_ns())
    assert 32 * MIB <= memory.used_pages() * page_size() < 40 * MIB
    assert int(reclaim["bytes_reclaimed_regions"]) >= 24 * MIB
    reclaim["enabled"] = "N"
    assert (reclaim["enabled"], reclaim["kdamond_pid"]) == ("N", "-1")


def test_reclaim_sleeps_while_memory_is_free():
    box = idle_box()
    reclaim = Parameters(box, "reclaim")
    reclaim["min_age"] = 0
    reclaim["wmarks_high"] = 400
    reclaim["enabled"] = "Y"
    box.run(20)
    assert reclaim["nr_reclaim_tried_regions"] == "0"


def test_lru_sort_derives_two_schemes_and_sorts():
    box = idle_box()
    sort = Parameters(box, "lru_sort")
    sort["wmarks_high"] = 990
    sort["wmarks_mid"] = 980
    sort["cold_min_age"] = 1_000_000
    sort["min_nr_regions"] = 100
    sort["quota_ms"] = 1000
    sort["enabled"] = "Y"
    hot, cold = box.tree.modules["damon_lru_sort"].request().schemes
    assert (hot.action, hot.access_pattern.nr_accesses_min, hot.quota.ms) == ("lru_prio", 10, 500)
    assert (cold.action, cold.access_pattern.age_min) == ("lru_deprio", 10)
    box.run(20)
    active = box.system.memory.lru_pages(active=True) * page_size()
    assert 24 * MIB < active < 48 * MIB
    assert int(sort["bytes_lru_sorted_hot_regions"]) > 0
    assert int(sort["bytes_lru_sort_tried_cold_regions"]) > 0


def test_commit_inputs_changes_a_running_module():
    box = idle_box()
    reclaim = Parameters(box, "reclaim")
    reclaim["enabled"] = "Y"
    reclaim["min_nr_regions"] = 50
    reclaim["commit_inputs"] = "Y"
    kdamond = box.tree.modules["damon_reclaim"].kdamond
    assert kdamond is not None
    assert kdamond.ctx.attrs.min_nr_regions == 50
    assert reclaim["commit_inputs"] == "N"
    reclaim["min_nr_regions"] = 2
    with pytest.raises(TreeError, match="EINVAL"):
        reclaim["commit_inputs"] = "Y"
    assert (kdamond.ctx.attrs.min_nr_regions, reclaim["enabled"]) == (50, "Y")


def test_the_region_that_is_found_is_written_back():
    """At enable, even if another kdamond runs, and by commit_inputs; not when the parameters are refused."""
    box = idle_box()
    reclaim, region = Parameters(box, "reclaim"), (page_size(), 128 * MIB)

    def written_back(unit=1):
        return (int(reclaim["monitor_region_start"]) * unit, int(reclaim["monitor_region_end"]) * unit)

    box.start(box.fvaddr(schemes=(STAT_ALL,)))
    reclaim["aggr_interval"] = 0
    with pytest.raises(TreeError, match="EINVAL"):
        reclaim["enabled"] = "Y"
    assert written_back() == (0, 0)
    reclaim["aggr_interval"] = 100_000
    with pytest.raises(TreeError, match="EBUSY"):
        reclaim["enabled"] = "Y"
    assert written_back() == region
    box.command("off")
    reclaim["enabled"] = "Y"
    reclaim["monitor_region_start"] = reclaim["monitor_region_end"] = 0
    reclaim["addr_unit"] = 2
    assert written_back() == (0, 0)
    reclaim["commit_inputs"] = "Y"
    assert written_back(2) == region


@pytest.mark.parametrize(("level", "read_at", "shown_at"), [("6.16", 20, 60), ("6.17", 11, 32)])
def test_modules_looked_at_parameters_after_aggregations(level, read_at, shown_at):
    """6.16 and older; later after samples. A commit starts a window of 20 samples, and schemes are applied
    at its end, after parameters were read. Bad ones ended the module in 6.16, while the write succeeded."""
    box = idle_box(level=level)
    sort = Parameters(box, "lru_sort")
    for name, value in {"hot_thres_access_freq": 0, "wmarks_high": 990, "wmarks_mid": 980}.items():
        sort[name] = value
    sort["enabled"] = "Y"
    readings = {}
    for sample in range(1, 65):
        box.run(0.005)
        readings[sample] = (sort["commit_inputs"], sort["nr_lru_sort_tried_hot_regions"] != "0")
        if sample == 10:
            sort["commit_inputs"] = "Y"
    assert min(sample for sample, (flag, _) in readings.items() if sample > 10 and flag == "N") == read_at
    assert min(sample for sample, (_, shown) in readings.items() if shown) == shown_at
    sort["aggr_interval"] = 0
    sort["commit_inputs"] = "Y"
    box.run(0.2)
    assert (sort["enabled"], sort["commit_inputs"]) == ("N" if level == "6.16" else "Y", "N")


def test_the_default_region_is_all_ram_or_its_biggest_part():
    ends = {}
    for level in ("7.1", "7.2"):
        box = idle_box(level=level)
        reclaim = Parameters(box, "reclaim")
        reclaim["enabled"] = "Y"
        ends[level] = (int(reclaim["monitor_region_start"]), int(reclaim["monitor_region_end"]))
    assert ends == {"7.1": (MIB, 128 * MIB), "7.2": (page_size(), 128 * MIB)}


def test_stat_reports_bandwidth_and_idleness():
    box = idle_box()
    stat = Parameters(box, "stat")
    stat["enabled"] = "Y"
    box.run(4)
    assert stat["estimated_memory_bandwidth"] == "0"
    box.run(116)
    assert int(stat["estimated_memory_bandwidth"]) > 0
    idle = [int(value) for value in stat["memory_idle_ms_percentiles"].split(",")]
    assert len(idle) == 101
    assert idle == sorted(idle)
    assert idle[0] < 0 < idle[-1] <= 121_000
    assert int(stat["aggr_interval_us"]) >= 100_000
    stat["enabled"] = "N"
    assert [int(value) for value in stat["memory_idle_ms_percentiles"].split(",")] == idle


def test_stat_runs_from_boot():
    system = make_system(damon_stat=True)
    assert system.tree.read("/sys/module/damon_stat/parameters/enabled") == "Y\n"
    assert not make_system("6.16", damon_stat=True).tree.exists("/sys/module/damon_stat")


def test_idle_percentiles_are_weighted_by_bytes():
    assert idle_percentiles([10, 90], [5, -7], 5) == [-7] * 5
    values = idle_percentiles([50, 50], [100, 200], 101)
    assert values[:51] == [100] * 51
    assert values[51:] == [200] * 50
    assert idle_percentiles([], [], 3) == [0, 0, 0]


def test_a_quota_goes_on_after_commit_inputs():
    """The target stays the same one, so the next window continues where the last one stopped."""
    box = idle_box()
    reclaim = Parameters(box, "reclaim")
    for name, value in {"min_age": 0, "quota_sz": 4 * MIB, "wmarks_high": 990, "wmarks_mid": 980}.items():
        reclaim[name] = value
    reclaim["enabled"] = "Y"
    box.run(3)
    before = int(reclaim["bytes_reclaim_tried_regions"])
    assert before == 4 * MIB * 3
    reclaim["quota_sz"] = 8 * MIB
    reclaim["commit_inputs"] = "Y"
    box.run(3)
    assert int(reclaim["bytes_reclaim_tried_regions"]) == before + 8 * MIB * 3


def test_counters_live_on_when_a_module_is_turned_off():
    box = idle_box()
    reclaim = Parameters(box, "reclaim")
    for name, value in {"min_age": 0, "quota_sz": 4 * MIB, "wmarks_high": 990, "wmarks_mid": 980}.items():
        reclaim[name] = value
    reclaim["enabled"] = "Y"
    box.run(2)
    reclaim["enabled"] = "N"
    before = int(reclaim["bytes_reclaim_tried_regions"])
    assert before > 0
    reclaim["min_age"] = 1_000_000_000
    reclaim["enabled"] = "Y"
    box.run(2)
    assert int(reclaim["bytes_reclaim_tried_regions"]) == before


def test_intervals_are_those_that_were_asked_for():
    """min_age 1.2 s is 6 aggregations of 200 ms; half of W = 200 ms / 10 ms is 10 accesses."""
    box = idle_box()
    for name, age in (("reclaim", "min_age"), ("lru_sort", "cold_min_age")):
        module = Parameters(box, name)
        module["sample_interval"] = 10_000
        module["aggr_interval"] = 200_000
        module[age] = 1_200_000
        module["enabled"] = "Y"
        kdamond = box.tree.modules[f"damon_{name}"].kdamond
        assert kdamond is not None
        ctx = kdamond.ctx
        assert (ctx.attrs.sample_us, ctx.attrs.aggr_us, ctx.window) == (10_000, 200_000, 20)
        assert ctx.schemes[-1].params.access_pattern.age_min == 6
        module["enabled"] = "N"


def test_writing_the_present_state_does_nothing():
    box = idle_box()
    reclaim = Parameters(box, "reclaim")
    reclaim["enabled"] = "N"
    reclaim["enabled"] = "Y"
    pid = reclaim["kdamond_pid"]
    reclaim["enabled"] = "Y"
    assert (reclaim["enabled"], reclaim["kdamond_pid"]) == ("Y", pid)


def test_a_module_runs_alone():
    """It does not start beside any kdamond, and no kdamond starts beside it."""
    box = idle_box()
    reclaim, sort = Parameters(box, "reclaim"), Parameters(box, "lru_sort")
    box.start(box.fvaddr(schemes=(STAT_ALL,)))
    with pytest.raises(TreeError, match="EBUSY"):
        reclaim["enabled"] = "Y"
    assert (reclaim["enabled"], box.read("state")) == ("N", "on")
    box.command("off")
    reclaim["enabled"] = "Y"
    with pytest.raises(TreeError, match="EBUSY"):
        sort["enabled"] = "Y"
    with pytest.raises(TreeError, match="EBUSY"):
        box.command("on")
    assert (reclaim["enabled"], sort["enabled"], box.read("state")) == ("Y", "N", "off")
    reclaim["enabled"] = "N"
    box.command("on")
    assert box.read("state") == "on"


def test_statistics_count_what_was_tried():
    """Each region that a scheme tries is an event; parameters show it after the next sample."""
    box = idle_box()
    reclaim = Parameters(box, "reclaim")
    for name, value in {"min_age": 0, "wmarks_high": 990, "wmarks_mid": 980, "quota_ms": 0}.items():
        reclaim[name] = value
    reclaim["quota_sz"] = 0
    stream = box.events.open(["damos_before_apply"])
    reclaim["enabled"] = "Y"
    box.run(0.308)
    stream.close()
    spans = [event.text.split()[4].rstrip(":").split("-") for event in stream.read()]
    assert len(spans) > 3, "more than passes"
    assert int(reclaim["nr_reclaim_tried_regions"]) == len(spans)
    assert int(reclaim["bytes_reclaim_tried_regions"]) == sum(int(end) - int(start) for start, end in spans)
