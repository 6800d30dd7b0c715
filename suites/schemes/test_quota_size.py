# SPDX-License-Identifier: GPL-2.0
"""Size quotas: each window tries all that its quota allows, and continues where the last one stopped."""

from dataclasses import replace

import pytest

from damon_tests.damon.params import ANY, DamonAttrs, DamonCtx, Damos, DamosQuota
from damon_tests.damon.series import Series
from damon_tests.judge.schemes import quotas
from damon_tests.judge.verdict import Measurement
from damon_tests.ports import NSEC_PER_MSEC, page_size
from damon_tests.scenario.quota_run import let_pass, passes_of, quota_run

pytestmark = pytest.mark.needs("ops.fvaddr", "damon_aggregated", "damos_before_apply")

MIB = 1 << 20
PAGE = page_size()
HOUR_MS = 3_600_000
# A hundred aggregations: time for a commit within the window, also when a busy machine takes a second for it.
WINDOW_MS = 5_000
FULL = pytest.mark.profile("full")
RATIOS = [(0, 1), (2, 1), (1, 3)]
# Windows are passes, and a pass is an aggregation: 50 ms make many of them.
ATTRS = DamonAttrs(sample_us=5_000, aggr_us=50_000, min_nr_regions=10, max_nr_regions=60)


def watching(**quota):
    """Return a request whose scheme matches all memory: only the quota limits it."""
    return DamonCtx("fvaddr", attrs=ATTRS, schemes=(Damos("stat", ANY, quota=DamosQuota(**quota)),))


def used_up(quota_bytes, result, expect):
    """Expect that every window tried exactly its quota; one that reaches the end of memory may try less."""
    tried = Measurement("bytes tried in a window", max(result.tried, default=0), "bytes", tuple(result.tried))
    expect.equal(
        tried, quota_bytes, because="a window tries exactly its quota while more memory matches (I44, I47)"
    )


def spent(run):
    """Return whether the last complete pass tried nothing: the window's quota is used up."""
    passes = passes_of(run)
    return bool(passes) and not passes[-1].applied


def started_ns(run):
    return run.session.recording().started_ns


def share(tried):
    """Return the share of passes that tried something."""
    return sum(map(bool, tried)) / max(1, len(tried))


# 12 MiB are less than a fifth of the memory and more than most regions, a page is less than any.
@pytest.mark.parametrize("size", [12 * MIB, PAGE])
def test_each_window_tries_its_quota(live, expect, size):
    """With a reset interval of 0 each pass is a window, and tries exactly the quota."""
    result = quota_run(live, watching(bytes=size), 18)
    expect.add(result.checks())
    used_up(size, result, expect)


@pytest.mark.known_defect("window-skips-a-page")
def test_continuation_covers_all_memory_evenly(live, expect):
    """Windows continue through all memory and start over: none is left out, none is tried more often."""
    result = quota_run(live, watching(bytes=12 * MIB), 25)
    expect.add(result.checks(strict=True))
    # Else a window that began in the last region skipped its rest.
    if result.level.visits_rest_of_split_region:
        expect.add(quotas.fair(result.passes, result.memory))


@FULL
def test_windows_continue_into_the_next_target(live, expect):
    """With two processes, windows go through the memory of the first one, then through that of the second."""
    result = quota_run(live, watching(bytes=24 * MIB), 25, pattern=["idle", "hot_cold"])
    expect.add(result.checks())
    targets = {e.target_idx for p in result.passes for e in p.applied}
    expect.equal(
        Measurement("targets tried", len(targets), "count"),
        2,
        because="windows continue through all targets (§4.6)",
    )


@FULL
@pytest.mark.known_defect("continuation-in-removed-target")
def test_continuation_survives_removal_of_its_target(live, expect):
    """When a commit removes the target in which the last window
    stopped, the remaining target is tried in turn."""
    size, first = 12 * MIB, 64 * MIB
    ctx = watching(bytes=first + size, reset_interval_ms=WINDOW_MS)

    def remove(run):
        # Where the first window has no quota, by a known defect, this is in the second one.
        while not spent(run) and run.clock.now_ns() < started_ns(run) + 3 * WINDOW_MS * NSEC_PER_MSEC:
            let_pass(run, 5)
        ending = Damos("stat", ANY, quota=DamosQuota(bytes=size))
        run.commit(replace(run.ctx, targets=run.ctx.targets[:1], schemes=(ending,)))
        let_pass(run, 14)

    result = quota_run(live, ctx, 4, pattern=["idle", "hot_cold"], while_running=remove)
    commit = result.run.commits[1]
    stopped = [p.applied[-1].target_idx for p in result.passes if p.applied and p.end_ns < commit.begin_ns]
    m = Measurement("target where the last window stopped", stopped[-1] if stopped else -1, "index")
    expect.equal(m, 1, because="the quota is the 64 MiB of the first target and 12 MiB of the second")
    later = [p for p in result.passes if p.begin_ns > commit.end_ns]
    idle = [p for p in later if not p.applied]
    m = Measurement("windows that tried nothing", len(idle), "count")
    # Before 7.2 a window that goes on in the last region skips the rest of it: once in a round, at most.
    most = 0 if result.level.visits_rest_of_split_region else len(later) // 4
    expect.at_most(m, most, because="continuation does not wait for a removed target (§8.3, 15)")
    expect.add(quotas.enough_passes(later, 10))
    if len(idle) == len(later):
        return  # nothing was tried, which is judged above
    targets = {e.target_idx for p in later for e in p.applied}
    expect.nothing(
        "other targets tried",
        map(str, targets - {0}),
        because="only the first target is left (§5.6)",
        judged=len(targets),
    )
    # Else a window that began in the last region skipped its rest.
    if result.level.visits_rest_of_split_region:
        expect.add(quotas.fair(later, result.memory))


def test_quota_is_granted_once_per_reset_interval(live, expect):
    """A scheme gets its quota once in each reset interval."""
    result = quota_run(
        live, watching(bytes=6 * MIB, reset_interval_ms=400), 40, while_running=lambda run: run.record(1)
    )
    expect.add(result.checks(windows=3))
    windows = sum(1 for tried in result.tried if tried)
    m = Measurement("passes that tried something", windows, "count", tuple(result.tried))
    # A window is spent by its first pass, unless memory ended there: then by two or three.
    least = min(4, len(result.passes) // 4)
    expect.at_least(
        m, least, because="each pass after 400 ms begins a new window, and more than 2 s were recorded (I45)"
    )


@pytest.mark.known_defect("first-long-window-without-quota")
def test_spent_quota_stays_spent_within_its_window(live, expect):
    """A window that has spent its quota tries nothing more until its reset interval is over."""
    result = quota_run(live, watching(bytes=20 * MIB, reset_interval_ms=HOUR_MS), 8)
    expect.add(result.checks(strict=True))
    first, *later = result.tried or [0]
    m = Measurement("bytes tried in the first pass", first, "bytes", tuple(result.tried))
    expect.equal(m, 20 * MIB, because="a window tries exactly its quota while more memory matches (I44)")
    m = Measurement("share of later passes that tried memory", share(later), "fraction")
    expect.equal(m, 0, because="a window may try no more than its quota, and there was one window (I44, I46)")


@pytest.mark.known_defect("commit-begins-charge-window")
def test_commit_does_not_grant_new_quota(live, expect):
    """A spent quota stays spent when the same or another request is committed."""

    def commit(run):
        if Series.of(run.level).keeps_window_on_equal_commit:  # else it starts the apply interval again
            run.commit_unchanged()
            let_pass(run, 6)
        scheme = run.ctx.schemes[0]
        more = replace(scheme, quota=replace(scheme.quota, weight_age_permil=7))
        run.commit(replace(run.ctx, schemes=(more,)))
        let_pass(run, 6)

    # Some releases before 6.18 have no quota at all in the first window.
    result = quota_run(live, watching(bytes=20 * MIB, reset_interval_ms=HOUR_MS), 6, while_running=commit)
    expect.add(result.checks())
    after = sum(result.tried[1:])
    m = Measurement("bytes tried after the first pass", after, "bytes", tuple(result.tried))
    if result.level.limits_first_window:
        expect.equal(
            m,
            0,
            because="the first pass has spent the window's quota, and a commit does not reset it (I44, I62)",
        )


@FULL
def test_quota_larger_than_memory_never_limits(live, expect):
    """A quota larger than all memory limits nothing, continues nowhere and is never exceeded."""
    result = quota_run(live, watching(bytes=1024 * MIB), 10)
    expect.add(result.checks())
    size = sum(end - start for start, end in result.memory)
    wrong = [str(tried) for tried in result.tried if tried != size]
    expect.nothing(
        "passes that did not try all memory",
        wrong,
        because="all memory fits into the quota (I44)",
        judged=len(result.tried),
    )


def test_zero_size_means_no_quota(live, expect):
    """A size of 0 means no quota: a reset interval and weights alone limit nothing."""
    result = quota_run(live, watching(reset_interval_ms=HOUR_MS, weight_age_permil=5), 10)
    size = sum(end - start for start, end in result.memory)
    wrong = [str(tried) for tried in result.tried if tried != size]
    expect.add(quotas.enough_passes(result.passes, 5))
    expect.nothing(
        "passes that did not try all memory",
        wrong,
        because="without time, size and goal there is no quota (§4.5)",
    )
    m = Measurement("qt_exceeds", result.read.stats.qt_exceeds, "count")
    expect.equal(m, 0, because="without time, size and goal there is no quota (§4.5)")


def test_quota_below_a_page_tries_nothing(live, expect):
    """A quota of less than a page tries no memory, and since 7.2 each window counts as exceeded."""
    result = quota_run(live, watching(bytes=PAGE // 2), 10)
    expect.add(result.checks())
    m = Measurement("bytes tried", sum(result.tried), "bytes")
    expect.equal(m, 0, because="regions are cut to whole pages, and none fits (§4.7)")


@pytest.mark.known_defect("quota-rest-keeps-window")
def test_partial_page_left_of_a_quota_does_not_stall_continuation(live, expect):
    """When less than a page is left of a quota, the next window continues where this one stopped."""
    size = 12 * MIB + PAGE // 2
    result = quota_run(live, watching(bytes=size), 20)
    expect.add(result.checks())
    expect.add(quotas.fair(result.passes, result.memory))


@FULL
@pytest.mark.needs("quotas.effective_bytes")
def test_effective_size_is_the_requested_size(live, expect):
    """Without goals and time quota the effective quota is the requested size."""
    read = []
    result = quota_run(
        live,
        watching(bytes=5 * MIB + 3),
        6,
        while_running=lambda run: read.append(run.client.effective_bytes(0, 0)),
    )
    m = Measurement("effective_bytes", read[0], "bytes")
    expect.equal(m, 5 * MIB + 3, because="without goals and time the size is in force as it is (I56)")
    traced = sorted({e.esz for p in result.passes for e in p.esz} - {5 * MIB + 3})
    expect.nothing("other sizes in damos_esz", map(str, traced), because="the size never changes (§4.4)")


@pytest.mark.needs("quotas.fail_charge_denom")
@pytest.mark.parametrize(("num", "denom"), [(1, 4), *(pytest.param(*r, marks=FULL) for r in RATIOS)])
def test_failures_are_charged_by_the_requested_fraction(live, expect, num, denom):
    """Memory on which the action failed is charged by the requested fraction; ``stat`` always fails."""
    result = quota_run(live, watching(bytes=6 * MIB, fail_charge_num=num, fail_charge_denom=denom), 12)
    expect.add(result.checks())


@pytest.mark.needs("quotas.fail_charge_denom")
def test_success_is_charged_in_full(live, expect):
    """Memory on which the action succeeded is charged in full, whatever failures are charged."""
    quota = DamosQuota(bytes=6 * MIB, fail_charge_num=1, fail_charge_denom=1000)
    ctx = replace(watching(), schemes=(Damos("cold", ANY, quota=quota),))
    result = quota_run(live, ctx, 12)
    expect.add(result.checks(applied_share=1))
    used_up(6 * MIB, result, expect)
