# SPDX-License-Identifier: GPL-2.0
"""A quota goes to the memory of the highest priority: cold or hot first, as the weights say."""

from dataclasses import replace

import numpy as np
import pytest

from damon_tests.damon.params import ANY, DamonAttrs, DamonCtx, Damos, DamosFilter, DamosQuota
from damon_tests.damon.series import Series
from damon_tests.judge.schemes import priorities
from damon_tests.judge.verdict import Measurement
from damon_tests.scenario.quota_run import let_pass, passes_of, quota_events, quota_run

pytestmark = pytest.mark.needs("damon_aggregated", "damos_before_apply")

MIB = 1 << 20
# 1 MiB of 64 MiB each 50 ms: what was acted on stays untried for longer than a second, so that ages differ.
QUOTA = DamosQuota(bytes=MIB, weight_nr_accesses_permil=0, weight_age_permil=1000)
ATTRS = DamonAttrs(sample_us=5_000, aggr_us=50_000, min_nr_regions=10, max_nr_regions=100)
# (of the access rate, of the age): the rate alone, one as much as the other, hardly the age, nothing.
WEIGHTS = [(1000, 0), (500, 500), (999, 1), (0, 0)]

SCHEMES = [
    pytest.param("fvaddr", "pageout", marks=pytest.mark.needs("ops.fvaddr")),
    pytest.param("paddr", "lru_prio", marks=pytest.mark.needs("ops.paddr", "schemes.lru_prio")),
    pytest.param(
        "fvaddr",
        "migrate_hot",
        marks=[pytest.mark.needs("ops.fvaddr", "schemes.dests"), pytest.mark.profile("full")],
    ),
    pytest.param(
        "paddr",
        "migrate_cold",
        marks=[pytest.mark.needs("ops.paddr", "schemes.migrate_cold"), pytest.mark.profile("full")],
    ),
    pytest.param(
        "paddr",
        "lru_deprio",
        marks=[pytest.mark.needs("ops.paddr", "schemes.lru_deprio"), pytest.mark.profile("full")],
    ),
]


@pytest.mark.known_defect("commit-begins-charge-window")
@pytest.mark.parametrize(("operations", "action"), SCHEMES)
def test_quota_goes_to_the_highest_scores(live, expect, operations, action):
    """In every window the tried memory is that of the highest scores, recomputed from the reports."""

    def reweigh(run):
        scheme = run.ctx.schemes[0]
        for rate, age in WEIGHTS:
            quota = replace(QUOTA, weight_nr_accesses_permil=rate, weight_age_permil=age)
            run.commit(replace(run.ctx, schemes=(replace(scheme, quota=quota),)))
            let_pass(run, 8)
        # More than the memory of the highest score has: the next lower one gets the rest.
        large = replace(QUOTA, bytes=40 * MIB, weight_nr_accesses_permil=1000)
        run.commit(replace(run.ctx, schemes=(replace(scheme, quota=large),)))
        let_pass(run, 6)

    ctx = DamonCtx(operations, attrs=ATTRS, schemes=(Damos(action, ANY, quota=QUOTA),))
    result = quota_run(live, ctx, 40, pattern="hot_cold", while_running=reweigh)
    expect.add(result.checks())
    pieces = [p.pieces() for p in result.passes]
    expect.add(priorities.selective(pieces, ctx.schemes[0], result.ctx, result.level, MIB))


@pytest.mark.needs("ops.fvaddr")
def test_weight_of_the_size_changes_nothing(live, expect):
    """The weight of the size changes nothing, also for actions that take memory in address order."""
    quota = DamosQuota(bytes=4 * MIB, weight_sz_permil=1000, weight_nr_accesses_permil=1000)
    ctx = DamonCtx("fvaddr", attrs=ATTRS, schemes=(Damos("stat", ANY, quota=quota),))
    result = quota_run(live, ctx, 10, pattern="hot_cold")
    expect.add(result.checks())


@pytest.mark.needs("ops.fvaddr", "filters.addr")
def test_memory_that_core_filters_reject_takes_no_quota(live, expect):
    """The quota of a scheme for cold memory goes to memory in use when an address filter rejects all other;
    before 7.1 the priorities counted rejected memory, which left memory in use without quota."""
    quota = replace(QUOTA, weight_nr_accesses_permil=1000, weight_age_permil=0)
    with live(
        "hot_cold", DamonCtx("fvaddr", attrs=ATTRS), cover="regions", extra_events=quota_events(live)
    ) as run:
        let_pass(run, 10)
        start = run.target.layout["data"][0]
        in_use = DamosFilter("addr", matching=False, addr_start=start + 17 * MIB, addr_end=start + 23 * MIB)
        run.commit(replace(run.ctx, schemes=(Damos("pageout", ANY, quota=quota, filters=(in_use,)),)))
        let_pass(run, 20)
    passes = [p for p in passes_of(run) if p.begin_ns > run.commits[-1].end_ns]
    tried = [float(sum(e.end - e.start for e in p.applied)) for p in passes]
    m = Measurement("median of bytes tried in a pass", float(np.median(tried or [-1])), "bytes", tuple(tried))
    if Series.of(run.level).weighs_only_allowed_memory:
        expect.equal(m, MIB, because="the highest priorities are those of allowed memory (§4.5)")
    else:
        expect.equal(m, 0, because="rejected memory has higher priorities than all allowed memory (§4.5)")
