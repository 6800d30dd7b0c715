# SPDX-License-Identifier: GPL-2.0
"""DAMON_RECLAIM: proactive reclaim of memory that was not accessed for a while."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from damon_tests.damon import trace
from damon_tests.damon.module_params import DamonReclaim
from damon_tests.damon.series import Series
from damon_tests.damon.trace import EszEvent, TuneEvent
from damon_tests.judge.modules import schemes as module_schemes
from damon_tests.judge.schemes import goals, priorities, quota_passes, quotas
from damon_tests.judge.schemes.time_quotas import first_throughput
from damon_tests.judge.verdict import Check, Measurement
from damon_tests.kernel.guest.topology import Topology
from damon_tests.ports import NSEC_PER_SEC, page_size
from damon_tests.scenario.module_attributes import attributes_follow_parameters
from damon_tests.scenario.module_run import TRACED
from damon_tests.workload.pages import bytes_of

pytestmark = pytest.mark.needs(
    "modules.damon_reclaim", "damos_before_apply", "damon_aggregated", swap_mib=512
)

NOT_INERT = pytest.mark.spoiled_by("reclaim-inert")
full = pytest.mark.profile("full")

MIB = 1 << 20

# No time quota, more bytes than there are, and watermarks that always let it work: what a test asks for
# on top is all that holds it back.
FREE = DamonReclaim(
    min_age=1_000_000,
    quota_ms=0,
    quota_sz=4 << 30,
    wmarks_interval=100_000,
    wmarks_high=1000,
    wmarks_mid=999,
    wmarks_low=0,
    min_nr_regions=100,
)
LONG_S = 60
"""What a busy emulated machine may take for what is done in a second or two otherwise."""

WAIT_S = 5
"""The memory is idle for min_age after a second on a quiet machine, and after a few on a busy one."""

MOST = 0.9
"""Of idle memory that is to be reclaimed: regions at its edges may hold something that is used. Tests wait
until as much is gone, and none of it comes back."""


def gone(run, region: str) -> float:
    """Return the share of a region's pages that are not in memory."""
    return 1 - float(run.pages(region).present.mean())


def works(run) -> bool:
    """Return whether it tries anything in its first aggregations; it must, where memory matches."""

    def decided():
        return bool(run.tried()) or len(run.recording().snapshots) > 3 * FREE.min_age // FREE.aggr_interval

    return run.until(decided, LONG_S, 200_000_000) and bool(run.tried())


@pytest.mark.known_defect("reclaim-inert")
def test_enabled_module_applies_its_scheme(module, expect):
    """DAMON_RECLAIM tries idle memory after it is enabled, and after its parameters are committed."""
    with module(replace(FREE, min_age=200_000), "reclaim_me") as run:
        run.enable()
        run.until(lambda: bool(run.tried()), WAIT_S)
        enabled, first = run.tried(), module_schemes.derived(run.session.parameters, (), run.level)
        _, end_ns = run.commit(min_age=300_000)
        run.until(lambda: bool(tried_since(run, end_ns)), WAIT_S)
        committed = tried_since(run, end_ns)
        ctx = module_schemes.derived(run.session.parameters, (), run.level)
        run.disable()
    expect.add(module_schemes.something_tried("enabled", enabled))
    expect.add(module_schemes.something_tried("committed", committed))
    if enabled and committed:
        region = ctx.targets[0].regions[0]
        expect.add(module_schemes.as_asked("enabled", enabled, first.schemes[0], region))
        expect.add(module_schemes.as_asked("committed", committed, ctx.schemes[0], region))


def tried_since(run, time_ns):
    """Return what was tried in passes that began an aggregation after ``time_ns``."""
    return [event for event in run.tried() if event.time_ns > time_ns + FREE.aggr_interval * 1_000]


@NOT_INERT
@pytest.mark.accuracy
def test_reclaims_idle_memory_and_spares_hot_memory(module, expect):
    """Memory idle for min_age is reclaimed, memory in use is not, and the counters agree."""
    with module(FREE, "reclaim_me") as run:
        before = run.memory_info()
        started_ns = run.clock.now_ns()
        run.enable()
        pid = run.module.kdamond_pid()
        if works(run):
            run.until(lambda: gone(run, "cold") >= MOST, LONG_S, 200_000_000)
            run.run_for(1.5)  # until what is in use has been so for min_age, too
        timed = run.timed_stats()
        run.disable()
        cold, hot, after = run.pages("cold"), run.pages("hot"), run.memory_info()
        counted, ended_ns = run.timed_stats()
    ctx = module_schemes.derived(run.session.parameters, (), run.level)
    tried = run.tried()
    expect.add(module_schemes.something_tried("reclaim", tried))
    expect.add(module_schemes.as_asked("reclaim", tried, ctx.schemes[0], ctx.targets[0].regions[0]))
    expect.add(module_schemes.not_before("reclaim", tried, started_ns, ctx))
    expect.add(module_schemes.counted("reclaim", *timed, module_schemes.passes(run.raw)))
    expect.add(
        module_schemes.counted("reclaim, after the end", counted, ended_ns, module_schemes.passes(run.raw))
    )
    m = Measurement("share of cold memory reclaimed", 1 - float(cold.present.mean()), "fraction")
    expect.at_least(m, MOST, because="nobody used this memory for min_age")
    out = (after.counters["pswpout"] - before.counters["pswpout"]) * page_size()
    m = Measurement("bytes reclaimed as counted", float(counted.sz_applied), "bytes")
    last = module_schemes.passes(run.raw)[-1:]
    # What the last pass did may not be counted yet.
    uncounted = sum(e.end - e.start for events in last for e in events)
    expect.at_least(
        m,
        bytes_of(cold.swapped) - uncounted,
        because="memory in swap was reclaimed by the module, and its counters say so",
    )
    # Clean pages of files are reclaimed without being written.
    expect.at_most(m, out + 2 * MIB, because="reclaimed anonymous memory is written to swap")
    wrong = [] if pid is None else [f"pid {p}, not {pid}" for p in sorted({e.pid for e in run.raw} - {pid})]
    expect.nothing(
        "events of other threads",
        wrong,
        because="kdamond_pid is the pid of the thread that traces",
        judged=len(run.raw),
    )
    expect.add(run.kept_schedule(FREE.min_age // 2))
    if run.kept_touching(FREE.min_age // 2):
        back = (after.counters["pswpin"] - before.counters["pswpin"]) * page_size()
        m = Measurement("bytes of hot memory reclaimed", float(bytes_of(~hot.present) + back), "bytes")
        # A region of which a hundredth is hot looks idle for W * age samples in 13 of 100 cases; and the
        # agent's and the machine's own pages come back, too.
        expect.at_most(
            m, MIB, because="hot memory is touched every 2 ms: never idle for min_age, always young"
        )


@NOT_INERT
def test_quota_limits_each_window_and_changes_online(module, expect):
    """Bytes tried stay within quota_sz in each reset interval; commit_inputs changes both online."""
    small, large = 4 * MIB, 24 * MIB
    asked = replace(FREE, min_age=0, quota_sz=small, quota_reset_interval_ms=500)
    with module(asked, "idle") as run:
        run.enable()
        if works(run):
            run.until(lambda: len(module_schemes.passes(run.raw)) >= 4, LONG_S)
        stats = run.stats()
        early = module_schemes.passes(run.raw)
        _, end_ns = run.commit(quota_sz=large, quota_reset_interval_ms=300)

        def later():
            return [p for p in module_schemes.passes(run.raw) if p[0].time_ns > end_ns]

        if early:
            run.until(lambda: len(module_schemes.bytes_of_windows(later(), 300)) >= 4, LONG_S)
        run.disable()
        out = bytes_of(~run.pages("data").present)
    windows = module_schemes.bytes_of_windows(late := later(), 300)
    expect.add(module_schemes.something_tried("quota", [e for events in early for e in events]))
    expect.add(module_schemes.within_quota("quota", early, small, 500))
    expect.add(module_schemes.within_quota("quota given online", late, large, 300))
    least = float(min(windows[1:-1], default=0))
    m = Measurement("fewest bytes in a later window", least, "bytes", tuple(map(float, windows)))
    expect.equal(m, large, because="everything matches, so that each window uses up its quota (I47)")
    # The window in use is not over yet, the last one may not be counted yet.
    m = Measurement("nr_quota_exceeds", float(stats.qt_exceeds), "count")
    expect.between(m, len(early) - 2, len(early), because="each window used up its quota")
    m = Measurement("bytes not in memory", float(out), "bytes")
    tried = sum(e.end - e.start for events in module_schemes.passes(run.raw) for e in events)
    expect.at_most(m, tried, because="only what was tried is reclaimed")


@NOT_INERT
def test_reclaim_works_only_between_its_watermarks(module, expect):
    """DAMON_RECLAIM sleeps while more memory is free than wmarks_high, or less than wmarks_low."""
    with module(replace(FREE, min_age=0, quota_sz=4 * MIB, quota_reset_interval_ms=0), "idle") as run:
        free = run.memory_info().free_permil
        asked = replace(run.session.parameters, wmarks_high=free - 100, wmarks_mid=free - 200)
        run.session.stage(asked)
        run.enable()
        run.run_for(0.6)
        above = len(run.tried())
        run.commit(wmarks_high=1000, wmarks_mid=min(free + 60, 999))
        between = works(run)
        run.commit(wmarks_low=min(free + 50, 998), wmarks_mid=min(free + 60, 999))
        # A commit activates it for one evaluation (Q20), so that one more pass may be under way.
        run.run_for(0.3)
        settled = len(run.tried())
        run.run_for(0.8)
        below = len(run.tried()) - settled
    because = f"it works from wmarks_low to wmarks_high; {free}/1000 of memory are free (I59)"
    expect.equal(Measurement("regions tried above high", float(above), "regions"), 0, because=because)
    expect.equal(Measurement("tried between mid and low", float(between), "count"), 1, because=because)
    expect.equal(Measurement("regions tried below low", float(below), "regions"), 0, because=because)


@NOT_INERT
@full
def test_skip_anon_spares_exactly_anonymous_memory(module, expect):
    """skip_anon spares anonymous memory and nothing else, and changes online."""
    with module(replace(FREE, min_age=300_000, skip_anon=True), "anon_and_shmem") as run:
        run.enable()
        if works(run):
            run.until(lambda: gone(run, "shared") >= MOST, LONG_S, 200_000_000)
        spared, taken = gone(run, "anonymous"), gone(run, "shared")
        run.commit(skip_anon=False)
        if taken:
            run.until(lambda: gone(run, "anonymous") >= MOST, LONG_S, 200_000_000)
        later = gone(run, "anonymous")
    m = Measurement("share of anonymous memory reclaimed", spared, "fraction")
    expect.equal(m, 0, because="skip_anon is Y, so that anonymous memory is spared")
    m = Measurement("share of shmem reclaimed", taken, "fraction")
    expect.at_least(m, MOST, because="shmem is not anonymous for the filter")
    m = Measurement("share of anonymous memory reclaimed later", later, "fraction")
    expect.at_least(m, MOST, because="skip_anon is N since the commit")


IDLE_FOR_S = 9.3
"""From when on all memory of the pattern is at rest: for more than a second, and less than two."""
PASSES = 8
SMALL = Topology(memory_mib=256, swap_zram_mib=160)


@NOT_INERT
@full
@pytest.mark.accuracy
def test_oldest_memory_is_reclaimed_first(module, expect):
    """The quota goes to the memory that was idle for the longest."""
    asked = replace(FREE, min_age=3_600_000_000, min_nr_regions=200)
    # On a small machine, where the memory of a process is not far apart.
    with module(asked, "rested_unequally", topology=SMALL, events=(*TRACED, trace.STAT_AFTER_APPLY)) as run:
        frames = {name: run.pages(name).frame for name in run.target.layout}
        started_ns = run.clock.now_ns()
        run.enable()
        run.run_for(IDLE_FOR_S)
        first = run.session.parameters
        # The memory between the regions is as old as the oldest.
        size = (first.monitor_region_end - first.monitor_region_start) // PASSES // MIB * MIB
        later = run.commit(min_age=300_000, quota_sz=size, quota_reset_interval_ms=0)
        # The first visit finds pages young that nobody looked at since they were filled.
        run.until(lambda: gone(run, "old") >= MOST, LONG_S, 200_000_000)
        run.disable()
        left = gone(run, "old")
    ctx, then = (module_schemes.derived(p, (), run.level) for p in (first, run.session.parameters))
    region = ctx.targets[0].regions[0]
    tried = run.tried()
    expect.add(module_schemes.something_tried("reclaim", tried))
    expect.add(module_schemes.as_asked("reclaim", tried, then.schemes[0], region))
    windows = quota_passes.of_events(sorted_events(run))
    replay = quotas.QuotaReplay(ctx.schemes[0], ctx, Series.of(run.level), later=[(*later, then.schemes[0])])
    expect.add(quotas.follow(replay, windows))
    pieces = [window.pieces() for window in windows if window.begin_ns > later[1]]
    expect.add(priorities.selective(pieces, then.schemes[0], then, Series.of(run.level), size))
    half = module_schemes.tried_when_half(tried, frames["old"], frames["young"])
    rested = [phase.start_ns for phase in run.target.phases()[2:3]]
    apart = bool(rested) and run.kept_touching(100_000)
    apart = apart and tells_apart(later[0] - started_ns, half.time_ns - rested[0])
    m = Measurement("old and young memory have different priorities", float(apart), "count")
    why = "on a machine that is too slow both are as old, and the order shows nothing (§4.3)"
    expect.add(Check("invariant", m, "== 1", why, apart or None))
    if apart:
        m = Measurement("share of the youngest tried when half of the oldest was", half.other, "fraction")
        # Where one borders on the other, regions blend their ages.
        expect.at_most(
            m, 0.2, because="only the age has weight, and one was idle for 9 s, the other for 1 s (§6.1)"
        )
    m = Measurement("share of the oldest reclaimed", left, "fraction")
    expect.at_least(m, MOST, because="the oldest memory is idle and matches")


def tells_apart(old_ns, young_ns):
    """Return whether memory idle for these times gets different priorities (§4.3: powers of two of seconds).

    An aggregation passes until memory is known to be idle.
    """
    old_s, young_s = (old_ns - NSEC_PER_SEC // 2) // NSEC_PER_SEC, young_ns // NSEC_PER_SEC
    return old_s.bit_length() > young_s.bit_length()


def sorted_events(run):
    """Return all traced events of aggregations and schemes."""
    names = (trace.AGGREGATED, trace.BEFORE_APPLY, trace.ESZ, trace.STAT_AFTER_APPLY)
    return trace.parse_events(e for e in run.raw if e.name in names)


UNIT_16 = (
    pytest.mark.needs("modules.damon_reclaim.addr_unit"),
    pytest.mark.known_defect("module-region-aligned-to-4096-units"),
)


@NOT_INERT
@full
@pytest.mark.parametrize("unit", [1, pytest.param(16, marks=UNIT_16)])
def test_memory_outside_the_monitored_region_is_left_alone(module, expect, unit):
    """Memory outside monitor_region_start and _end is left alone, in any address unit."""
    with module(replace(FREE, min_age=300_000, addr_unit=unit), "many_idle_pages") as run:
        frames = run.pages("data").frame
        # Not a multiple of 16 pages: that is where alignment to other sizes would show.
        middle = (int(np.median(frames)) // 16 * 16 + 5) * page_size()
        run.session.stage(replace(run.session.parameters, monitor_region_start=middle // unit))
        run.enable()
        inside = frames * page_size() >= middle
        if works(run):
            run.until(lambda: (~run.pages("data").present[inside]).mean() >= MOST, LONG_S, 200_000_000)
        run.disable()
        out = ~run.pages("data").present
        pending = run.stats()
    expect.add(module_schemes.something_tried("region", run.tried()))
    m = Measurement("pages reclaimed outside of the region", float(out[~inside].sum()), "pages")
    expect.equal(m, 0, because="memory outside the region is not monitored")
    m = Measurement("share reclaimed inside", float(out[inside].mean()), "fraction")
    expect.at_least(m, MOST, because=f"memory inside the region is idle; counters {pending}")
    ctx = module_schemes.derived(run.session.parameters, (), run.level)
    expect.add(module_schemes.as_asked("region", run.tried(), ctx.schemes[0], ctx.targets[0].regions[0]))


@NOT_INERT
def test_monitoring_follows_the_interval_and_region_parameters(module, expect):
    """sample_interval, aggr_interval, min_nr_regions and max_nr_regions set the monitoring attributes."""
    attributes_follow_parameters(module, replace(FREE, min_age=1_000_000_000), expect)


@pytest.mark.needs("modules.damon_reclaim.autotune_monitoring_intervals", "damon_monitor_intervals_tune")
def test_autotuning_starts_at_5_ms_and_slows_down(module, expect):
    """With autotune_monitoring_intervals sampling starts at 5 ms,
    whatever sample_interval says, and slows down."""
    asked = replace(FREE, sample_interval=50_000, aggr_interval=500_000, autotune_monitoring_intervals=True)
    with module(asked, "idle") as run:
        run.enable()
        tuned = run.until(lambda: len(run.events(TuneEvent)) >= 2, LONG_S)
    tuned_us = [e.sample_us for e in run.events(TuneEvent)]
    m = Measurement("tunings", float(len(tuned_us)), "count", tuple(map(float, tuned_us)))
    expect.at_least(
        m,
        2,
        because="it tunes after 3 aggregations of 100 ms, then after longer ones",
        detail=f"in time: {tuned}",
    )
    m = Measurement("first tuned sampling interval", float(tuned_us[0] if tuned_us else 0), "µs")
    expect.between(
        m, 5_000, 10_000, because="the first step at most doubles 5 ms, and never goes below (§2.8)"
    )


@full
@pytest.mark.needs("damos_esz", "modules.damon_reclaim.quota_autotune_feedback")
def test_quota_follows_autotune_feedback_exactly(module, expect):
    """quota_autotune_feedback is the current value of a goal of 10000: the quota follows it exactly."""
    asked = replace(
        FREE, min_age=0, quota_sz=16 * MIB, quota_reset_interval_ms=10, quota_autotune_feedback=4_000
    )
    with module(asked, "idle") as run:
        run.enable()
        run.until(lambda: bool(events := run.events(EszEvent)) and events[-1].esz >= 16 * MIB, LONG_S)
        grown = [e.esz for e in run.events(EszEvent)]
        run.commit(quota_autotune_feedback=15_000)
        run.until(lambda: run.events(EszEvent)[-1].esz < 8 * MIB, LONG_S)
        shrunk = [e.esz for e in run.events(EszEvent)][len(grown) :]
    quota = module_schemes.derived(asked, ((0, 1 << 30),), run.level).schemes[0].quota
    exact = list(dict.fromkeys(goals.sizes(quota, [4_000] * 60)))
    m = Measurement("steps of the quota", float(len(grown)), "count", tuple(map(float, grown)))
    traced = (exact,) if Series.of(run.level).traces_first_tuned_size else (exact, exact[1:])
    same = grown in traced
    why = f"the quota grows by 1.6 in each window up to quota_sz: {exact[:4]} ... {exact[-2:]} (§4.4)"
    expect.equal(m, len(grown) if same else -1, because=why, detail=str(grown))
    # The tuner's own value was not cut to quota_sz, so the sizes need a while to come back below it.
    m = Measurement("last size after too much", float(shrunk[-1] if shrunk else -1), "bytes")
    expect.between(
        m,
        1,
        8 * MIB,
        because="the goal is overachieved by half, which halves the quota in each window (§4.4)",
        detail=str(shrunk),
    )


@full
@pytest.mark.needs("damos_esz", "modules.damon_reclaim.quota_mem_pressure_us")
def test_quota_grows_without_memory_pressure(module, expect):
    """quota_mem_pressure_us is a goal of stall time: far below it
    the quota at most doubles in each window."""
    # A thousand seconds of stalls within ten milliseconds are never seen.
    asked = replace(
        FREE, min_age=0, quota_sz=16 * MIB, quota_reset_interval_ms=10, quota_mem_pressure_us=1_000_000_000
    )
    with module(asked, "idle") as run:
        run.enable()
        run.until(lambda: bool(events := run.events(EszEvent)) and events[-1].esz >= 16 * MIB, LONG_S)
    sizes = [e.esz for e in run.events(EszEvent)]
    m = Measurement(
        "last effective quota", float(sizes[-1] if sizes else 0), "bytes", tuple(map(float, sizes))
    )
    expect.equal(m, 16 * MIB, because="the quota grows up to quota_sz")
    # Half bytes are kept, but not shown; the first reading counts as achieved since 7.3.
    wrong = [f"{a} to {b}" for a, b in pairwise(sizes) if not a < b <= 2 * a + 1]
    expect.nothing(
        "steps of another size",
        wrong,
        because="the quota at most doubles in a window, from one byte (§4.4)",
        judged=len(sizes) - 1,
    )
    m = Measurement("first effective quota", float(sizes[0] if sizes else -1), "bytes")
    expect.between(
        m, 1, 4, because="the tuner starts at 1 byte, and 6.18 and older do not trace the first size"
    )


@NOT_INERT
@full
def test_first_window_of_a_time_quota_assumes_4_mib_per_ms(module, expect):
    """Before the first measurement quota_ms counts 4 MiB as one millisecond."""
    with module(
        replace(FREE, min_age=0, quota_ms=3, quota_reset_interval_ms=10_000), "many_idle_pages"
    ) as run:
        run.enable()
        works(run)
        run.run_for(0.3)
    first = sum(e.end - e.start for events in module_schemes.passes(run.raw)[:1] for e in events)
    m = Measurement("bytes tried in the first window", float(first), "bytes")
    expect.equal(m, 3 * first_throughput(), because="the first window is 3 ms at 1024 pages/ms (§4.4)")


@pytest.mark.known_defect("module-region-one-byte-short")
def test_default_region_is_system_ram(module, expect):
    """Without a given region System RAM is monitored, and the parameters report the range that was found."""
    with module(replace(FREE, wmarks_high=0, wmarks_mid=0), watch="ram") as run:
        run.enable()
        region = tuple(run.module.number(f"monitor_region_{edge}") for edge in ("start", "end"))
        (expected,) = module_schemes.derived(FREE, run.subject.ram_ranges(), run.level).targets[0].regions
    wrong = [] if region == expected else [f"{region} instead of {expected}"]
    expect.nothing(
        "other ranges", wrong, because=f"the default region is System RAM as {run.level} finds it (§3.6)"
    )
