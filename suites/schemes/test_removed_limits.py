# SPDX-License-Identifier: GPL-2.0
"""Limits of a scheme that a commit takes back: from then on nothing limits it."""

from dataclasses import replace

import pytest

from damon_tests.damon.params import ANY, DamonAttrs, DamonCtx, Damos, DamosQuota, DamosQuotaGoal
from damon_tests.judge.verdict import Check, Measurement
from damon_tests.ports.numbers import number
from damon_tests.scenario.quota_run import let_pass, passes_of, quota_events

pytestmark = [
    pytest.mark.needs("ops.fvaddr", "commands.commit", "damon_aggregated", "damos_before_apply"),
    pytest.mark.known_defect("removed-quota-stays"),
]

MIB = 1 << 20
ATTRS = DamonAttrs(sample_us=5_000, aggr_us=50_000, min_nr_regions=10, max_nr_regions=60)
NOT_ACHIEVED = DamosQuotaGoal("user_input", target_value=10_000, current_value=1)
SIZE = DamosQuota(bytes=4 * MIB, reset_interval_ms=200)


def request(quota):
    return DamonCtx("fvaddr", attrs=ATTRS, schemes=(Damos("stat", ANY, quota=quota),))


@pytest.mark.parametrize(
    "quota",
    [
        SIZE,
        pytest.param(replace(SIZE, bytes=0, ms=1), marks=pytest.mark.profile("full")),
        pytest.param(replace(SIZE, bytes=0, goals=(NOT_ACHIEVED,)), marks=pytest.mark.needs("quotas.goals")),
    ],
    ids=["size", "time", "goal"],
)
def test_removed_quota_is_no_limit(live, expect, quota):
    """After a commit without the quota, from the next window on, each pass tries all memory that matches."""
    no_quota = DamosQuota(reset_interval_ms=quota.reset_interval_ms)
    with live("idle", request(quota), cover="regions", extra_events=quota_events(live)) as run:
        let_pass(run, 10)
        run.commit(replace(run.ctx, schemes=(replace(run.ctx.schemes[0], quota=no_quota),)))
        let_pass(run, 6)  # 200 ms and the pass that ends the last window
        settled_ns = run.clock.now_ns()
        let_pass(run, 10)
        effective = run.client.effective_bytes(0, 0)
    memory = sum(end - start for start, end in run.target.layout.values())
    tried = [sum(e.end - e.start for e in p.applied) for p in passes_of(run) if p.begin_ns > settled_ns]
    least = Measurement("fewest bytes tried in a pass", min(tried, default=0), "bytes", tuple(tried))
    why = "a quota that is no longer requested limits nothing from the next window on (§4.4)"
    expect.add(
        Check("invariant", least, f">= {number(memory)}", why, least.value >= memory if tried else None)
    )
    expect.equal(Measurement("effective_bytes", effective, "bytes"), 0, because=why)
