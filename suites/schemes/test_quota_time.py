# SPDX-License-Identifier: GPL-2.0
"""Time quotas: as much memory as the scheme can do in that time, by the throughput measured so far."""

import pytest

from damon_tests.damon.params import ANY, DamonAttrs, DamonCtx, Damos, DamosQuota, DamosQuotaGoal
from damon_tests.judge.schemes import goals, time_quotas
from damon_tests.judge.verdict import Measurement
from damon_tests.patterns.load import load
from damon_tests.ports import page_size
from damon_tests.scenario.invariants import invariants
from damon_tests.scenario.quota_run import quota_run, read_sizes

pytestmark = pytest.mark.needs(
    "ops.fvaddr", "damon_aggregated", "damos_before_apply", "quotas.effective_bytes"
)
TRACED = pytest.mark.needs("damos_esz")

MIB = 1 << 20
PAGE = page_size()
# More than a time quota allows at first, 1024 pages a millisecond.
IDLE = load("many_idle_pages")
SWAP_MIB = max(512, 2 * IDLE.regions[0].size_bytes >> 20)
ATTRS = DamonAttrs(sample_us=5_000, aggr_us=50_000, min_nr_regions=10, max_nr_regions=60)


def timed(action, **quota):
    return DamonCtx("fvaddr", attrs=ATTRS, schemes=(Damos(action, ANY, quota=DamosQuota(**quota)),))


# ``stat`` takes no time at all, ``cold`` visits every page: on slow machines that takes ticks of the clock.
@pytest.mark.parametrize(
    ("action", "ms"),
    [("cold", 3), pytest.param("stat", 7, marks=pytest.mark.known_defect("time-quota-in-32-bits"))],
)
@TRACED
def test_time_quota_size_follows_from_the_throughput(live, expect, action, ms):
    """Each effective size is the quota's time multiplied by a
    throughput that the scheme can have shown so far."""
    ctx = timed(action, ms=ms)
    result = quota_run(live, ctx, 25, pattern=IDLE)
    expect.add(time_quotas.follow(result.passes, ctx.schemes[0].quota, PAGE))
    sizes = goals.traced_sizes(result.passes, time_quotas.first_size(ctx.schemes[0].quota))
    expect.add(result.checks(sizes=sizes, applied_share=int(action == "cold")))


@pytest.mark.parametrize(("action", "ms"), [("cold", 3), ("stat", 7)])
def test_pass_tries_what_the_time_quota_allows(live, expect, action, ms):
    """Each pass tries the quota's time multiplied by a throughput
    that the scheme can have shown so far, whether or not sizes are traced."""
    ctx = timed(action, ms=ms)
    result = quota_run(live, ctx, 25, pattern=IDLE)
    # ``stat`` is soon known to be so fast that memory ends its passes, and not the quota.
    least = 1 if action == "stat" else 2
    expect.add(time_quotas.tries_follow(result.passes, ctx.schemes[0].quota, PAGE, least=least))
    expect.add(invariants(result.run))


@pytest.mark.profile("full")
@pytest.mark.needs(swap_mib=SWAP_MIB)
def test_measured_time_changes_what_a_pass_tries(live, expect):
    """Reclaiming 12 MiB takes measurable time, by which later passes try more or less."""
    ctx = timed("pageout", ms=3)
    result = quota_run(live, ctx, 25, pattern=IDLE)
    expect.add(time_quotas.tries_follow(result.passes, ctx.schemes[0].quota, PAGE, least=2))
    expect.add(time_quotas.tries_were_measured(result.passes, ctx.schemes[0].quota, PAGE))


@pytest.mark.profile("full")
@TRACED
@pytest.mark.needs(swap_mib=SWAP_MIB)
def test_time_quota_measures_the_throughput(live, expect):
    """Reclaiming 8 MiB that come back at once 25 times takes measurable time,
    50,000 compressed pages, and lowers the throughput."""
    ctx = timed("pageout", ms=3)
    result = quota_run(live, ctx, 25, pattern="everything_hot")
    expect.add(time_quotas.follow(result.passes, ctx.schemes[0].quota, PAGE))
    expect.add(time_quotas.throughput_is_measured(result.passes, ctx.schemes[0].quota))


def test_smaller_of_time_and_size_quota_limits(live, expect):
    """With both a time and a size quota the smaller one limits."""
    ctx, read = timed("stat", ms=1000, bytes=6 * MIB), []
    result = quota_run(live, ctx, 1, while_running=lambda run: read_sizes(run, read, 7))
    sizes = [max(value for _, _, value in read)] * len(result.passes)
    if result.traces_sizes:
        sizes = goals.traced_sizes(result.passes, time_quotas.first_size(ctx.schemes[0].quota))
    most = Measurement("largest effective size", max(size or 0 for size in sizes), "bytes")
    expect.equal(
        most,
        6 * MIB,
        because="stat does 6 MiB in far less than a second, so that the size limits (§4.4, I56)",
    )
    expect.add(result.checks(sizes=sizes))


@pytest.mark.profile("full")
@TRACED
def test_goal_never_exceeds_the_time_quota(live, expect):
    """A goal does not raise the quota beyond the time quota: the
    tuner's size grows up to it and stays there."""
    ctx = timed("stat", ms=3, goals=(DamosQuotaGoal("user_input", 10_000, 0),))
    result = quota_run(live, ctx, 28)
    sizes = goals.traced_sizes(result.passes)
    tuners = goals.sizes(ctx.schemes[0].quota, [0] * (len(sizes) + 1))[1:]
    wrong = [
        f"{size} where the tuner wants {wanted}"
        for size, wanted in zip(sizes, tuners, strict=True)
        if size != wanted and (size is None or size > wanted or (size % 3 and size != PAGE))
    ]
    expect.nothing(
        "sizes of neither",
        wrong,
        because="the size is the tuner's or, if less, 3 ms of a throughput or a page (§4.4)",
        judged=len(sizes),
    )
    expect.add(result.checks(sizes=sizes))
