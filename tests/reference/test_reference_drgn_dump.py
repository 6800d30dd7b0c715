# SPDX-License-Identifier: GPL-2.0
"""The dump of running kdamonds has what a debugger of the kernel reads."""

from __future__ import annotations

import json
from dataclasses import replace

from reference_support import HEAP, MIB, Box

from damon_tests.damon.params import (
    ANY,
    Damos,
    DamosDest,
    DamosFilter,
    DamosQuota,
    DamosQuotaGoal,
    DamosWatermarks,
)
from damon_tests.reference.sysfs.drgn_dump import dump

SCHEME = Damos(
    action="stat",
    access_pattern=replace(ANY, sz_min=4096, nr_accesses_min=3, age_max=71),
    apply_interval_us=1_000_000,
    target_nid=1,
    quota=DamosQuota(
        ms=100,
        bytes=100 * MIB,
        reset_interval_ms=1500,
        weight_sz_permil=20,
        weight_nr_accesses_permil=200,
        weight_age_permil=1000,
        goals=(DamosQuotaGoal("node_mem_free_bp", 9950, 7, 1),),
        goal_tuner="temporal",
        fail_charge_num=1,
        fail_charge_denom=4096,
    ),
    watermarks=DamosWatermarks("free_mem_rate", 500_000, 1000, 999, 0),
    core_filters=(DamosFilter("addr", matching=True, addr_start=42, addr_end=4242),),
    ops_filters=(DamosFilter("hugepage_size", allow=True, min=1, max=2),),
    dests=(DamosDest(1, 30), DamosDest(0, 70)),
)


def contexts(box: Box) -> dict:
    return json.loads(dump(box.system))


def test_running_context_has_the_kernels_fields():
    box = Box(8 * MIB)
    box.start(box.fvaddr(schemes=(SCHEME,)))
    box.run(0.33)
    (context,) = contexts(box).values()
    assert list(contexts(box)) == [box.read("pid")]
    assert (context["ops"], context["pause"]) == ({"id": 1}, False)
    assert context["attrs"]["sample_interval"] == 5_000
    assert context["attrs"]["max_nr_regions"] == 1000
    (target,) = context["adaptive_targets"]
    assert (target["pid"], target["obsolete"]) == (box.pid, False)
    regions = target["regions_list"]
    assert target["nr_regions"] == len(regions) == len(box.core().regions)
    assert (regions[0]["ar"]["start"], regions[-1]["ar"]["end"]) == (HEAP, HEAP + 8 * MIB)
    assert all(r["ar"]["start"] <= r["sampling_addr"] < r["ar"]["end"] for r in regions)
    assert sum(r["age"] for r in regions) > 0
    (scheme,) = context["schemes"]
    assert scheme["action"] == 10
    assert (scheme["pattern"]["min_sz_region"], scheme["pattern"]["max_age_region"]) == (4096, 71)
    assert scheme["quota"]["goals"] == [
        {"metric": 3, "target_value": 9950, "current_value": 7, "last_psi_total": 0, "nid": 1}
    ]
    assert (scheme["quota"]["goal_tuner"], scheme["quota"]["sz"]) == (1, 100 * MIB)
    assert scheme["wmarks"] == {"metric": 1, "interval": 500_000, "high": 1000, "mid": 999, "low": 0}
    assert scheme["migrate_dests"] == {"nr_dests": 2, "node_id_arr": [1, 0], "weight_arr": [30, 70]}
    assert scheme["core_filters"][0]["type"] == 6
    assert scheme["core_filters"][0]["addr_range"] == {"start": 42, "end": 4242}
    assert (scheme["ops_filters"][0]["type"], scheme["ops_filters"][0]["allow"]) == (4, True)


def test_enumerations_are_those_of_the_series():
    actions = {}
    for level in ("7.3", "6.19"):
        box = Box(8 * MIB, level=level)
        box.start(box.fvaddr(schemes=(Damos(action="stat", access_pattern=ANY),)))
        (context,) = contexts(box).values()
        actions[level] = context["schemes"][0]["action"]
    assert actions == {"7.3": 10, "6.19": 9}, "collapse came in 7.2"


def test_stopped_kdamonds_have_no_context():
    box = Box(8 * MIB)
    box.start(box.fvaddr())
    box.command("off")
    assert contexts(box) == {}
