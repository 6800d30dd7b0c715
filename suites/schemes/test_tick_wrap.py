# SPDX-License-Identifier: GPL-2.0
"""Quota windows and watermark checks while the kernel's count of ticks passes 2^32.

Kernels begin to count ticks five minutes before 2^32. On 32-bit machines that is where jiffies start again
from 0; on others, a difference of ticks that is kept in too few bits is wrong from there on.
"""

import pytest

from damon_tests.damon.params import ANY, DamonAttrs, DamonCtx, Damos, DamosQuota, DamosWatermarks, Kdamond
from damon_tests.judge.schemes.quotas import EXACT_TICKS_NS
from damon_tests.judge.schemes.watermarks import checked_once_per_interval
from damon_tests.judge.verdict import Measurement
from damon_tests.ports import NSEC_PER_MSEC, NSEC_PER_SEC, NSEC_PER_USEC, NotSupported
from damon_tests.scenario.quota_run import of_run, quota_events, read_stats

pytestmark = [
    pytest.mark.profile("full"),
    pytest.mark.needs("ops.fvaddr", "damon_aggregated", "damos_before_apply", "watermarks.free_mem_rate"),
]

MIB = 1 << 20
SLOW = DamonAttrs(sample_us=100_000, aggr_us=1_000_000, min_nr_regions=10, max_nr_regions=20)
RESET_MS = 5_000
QUOTA = DamosQuota(bytes=MIB, reset_interval_ms=RESET_MS)
LIMITED = DamonCtx("fvaddr", attrs=SLOW, schemes=(Damos("stat", ANY, quota=QUOTA),))
# All but a thousandth of memory would have to be in use for this scheme to work.
NEVER = DamosWatermarks("free_mem_rate", interval_us=500_000, high=1, mid=1, low=0)
ASLEEP = DamonCtx("fvaddr", attrs=SLOW, schemes=(Damos("stat", ANY, watermarks=NEVER),))

WRAP_NS = 300 * NSEC_PER_SEC
BEFORE_NS, AFTER_NS = 20 * NSEC_PER_SEC, 30 * NSEC_PER_SEC


def answers_across(run):
    """Return when the second kdamond answered commands given one after the other, from before the wrap on."""
    while run.clock.now_ns() < WRAP_NS - 4 * NSEC_PER_SEC:
        run.record(5)
    answers = [run.clock.now_ns()]
    while answers[-1] < WRAP_NS + 4 * NSEC_PER_SEC:
        run.client.command(1, "update_schemes_stats")
        answers.append(run.clock.now_ns())
    run.record(AFTER_NS / NSEC_PER_SEC)
    return answers


def test_windows_and_watermarks_go_on_when_ticks_wrap(live, expect):
    """Each window of 5 s ends in time and has its quota, and an inactive kdamond
    checks its watermarks twice a second, before and after the wrap."""
    kdamonds = [Kdamond(LIMITED), Kdamond(ASLEEP)]
    with live(["idle", "idle"], kdamonds, cover="regions", extra_events=quota_events(live)) as run:
        began_ns = run.clock.now_ns()
        if began_ns > WRAP_NS - BEFORE_NS:
            raise NotSupported(
                "a machine that was booted less than five minutes ago",
                remedy="test in a VM (--kernel debian:newest)",
            )
        answers = answers_across(run)
        read = read_stats(run)
    result = of_run(live, run, read)
    recorded_ms = (result.passes[-1].end_ns - result.passes[0].begin_ns) // NSEC_PER_MSEC
    # On a busy machine it is not certain of each window when it began.
    expect.add(result.checks(windows=recorded_ms // RESET_MS // 2))
    m = Measurement("time recorded after the wrap", float(answers[-1] - WRAP_NS), "ns")
    expect.at_least(m, NSEC_PER_SEC, because="there is a wrap in this run")
    # The sleeps that are traced are those of the first kdamond.
    late_us = (result.ticks_ns - EXACT_TICKS_NS) // NSEC_PER_USEC
    expect.add(checked_once_per_interval(NEVER.interval_us, answers, sleeps=(), late_us=late_us))
