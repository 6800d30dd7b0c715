# SPDX-License-Identifier: GPL-2.0
"""DAMON_STAT: how long memory was idle and how much of it is accessed, for the whole machine."""

from __future__ import annotations

import numpy as np
import pytest

from damon_tests.damon.module_params import DamonStat
from damon_tests.damon.series import Series
from damon_tests.damon.trace import TuneEvent
from damon_tests.experiment.experiment import derive_seed
from damon_tests.judge.modules import schemes as module_schemes
from damon_tests.judge.modules import stat as idleness
from damon_tests.judge.modules.stat import Refresh
from damon_tests.judge.verdict import Measurement
from damon_tests.kernel.guest.topology import Topology
from damon_tests.patterns import load
from damon_tests.ports import NSEC_PER_MSEC, NSEC_PER_SEC, TreeError, huge_page_size, page_size
from damon_tests.scenario.module_run import module_run
from damon_tests.scenario.visibility import LEAST

pytestmark = pytest.mark.needs("modules.damon_stat", "damon_monitor_intervals_tune", "damon_aggregated")

MIB = 1 << 20
# Kernels keep some blocks of the size of a huge page free, and kill processes before they use them.
SMALL = Topology(memory_mib=max(256, 12 * huge_page_size() >> 20))
POLL_NS = 50 * NSEC_PER_MSEC
NEAR_NS = 5 * NSEC_PER_MSEC
"""Between two looks when results are due: their place in an aggregation is known that well."""
MOST_RESULTS = 6
FIRST_AGGR_US = 100_000
"""Before the first tuning (§6.3)."""
FEW_SAMPLES = 12
"""Of all looked at results together, how many samples they must be computed of: those of one result may be
none, as it is computed at any moment of an aggregation."""


@pytest.fixture
def stat(backend, request):
    """Return a function that runs DAMON_STAT, not yet enabled, on a small machine beside a target."""
    seed = derive_seed(request.config.option.seed, request.node.nodeid, 1, "target")

    def run(pattern):
        subject = backend.subject(seed, SMALL)
        request.addfinalizer(subject.close)
        return module_run(subject, DamonStat(), [load.load(pattern)], seed)

    return run


def refreshed(run, last_ns, timeout_s=30):
    """Wait for the next results; return None if none came in time.

    ``last_ns``: between which times the last results were computed, or the module was enabled.
    """
    module = run.module
    names = ("memory_idle_ms_percentiles", "estimated_memory_bandwidth", "aggr_interval_us")
    paths = [module.path(name) for name in names]

    def look():
        return run.clock.now_ns(), module.tree.read_batch(paths)

    after_ns, first = look()
    deadline = after_ns + timeout_s * NSEC_PER_SEC
    while (now_ns := run.clock.now_ns()) < deadline:
        due_ns = last_ns[0] + idleness.REFRESH_NS
        run.clock.run_for(NEAR_NS if now_ns >= due_ns else min(POLL_NS, due_ns - now_ns))
        began_ns, texts = look()
        if texts[0] != first[0]:
            # Once more: this reading may have been in the middle of it. The next results are seconds away.
            texts = module.tree.read_batch(paths)
            run.collect()
            values = tuple(int(word) for word in texts[0].split(","))
            refresh = Refresh(
                after_ns,
                run.clock.now_ns(),
                values,
                int(texts[1]),
                aggr_us(run, texts[2]),
                Series.of(run.level).signs_idle_times,
            )
            return idleness.narrowed(refresh, last_ns)
        after_ns = began_ns
        if now_ns % (5 * POLL_NS) < POLL_NS:
            run.collect()
    return None


def aggr_us(run, text):
    """Return the aggregation interval as the module reports it; before 6.18 it does not, and it is that
    after the last traced tuning."""
    if not isinstance(text, TreeError):
        return int(text)
    tunings = run.events(TuneEvent)
    return tunings[-1].sample_us * idleness.SAMPLES if tunings else FIRST_AGGR_US


def enabled(run):
    """Enable it; return between which times that was, in ns."""
    began_ns = run.clock.now_ns()
    run.enable()
    return began_ns, run.clock.now_ns()


def traced_until(run):
    """Return when the last traced aggregation ended, in ns."""
    return max((s.time_ns for s in run.recording().snapshots[-1:]), default=0)


@pytest.mark.accuracy
def test_percentiles_and_bandwidth_follow_from_regions_and_accesses(stat, expect):
    """The percentiles of idle time and the bandwidth are those of
    the traced regions and the real accesses."""
    with stat("eighth_hot") as run:
        frames = run.target.physical()
        enabled_ns = enabled(run)
        first = result = refreshed(run, enabled_ns)
        results, samples, looked = [], 0, 1
        while result:
            run.until(lambda seen_ns=result.before_ns: traced_until(run) > seen_ns, 5)
            part = idleness.partial(result, run.recording().of_target(0), 20)
            if part is not None:
                results.append((result, part))
                samples += part.low
            if samples >= FEW_SAMPLES or looked >= MOST_RESULTS:
                break
            result, looked = refreshed(run, (result.after_ns, result.before_ns)), looked + 1
        run.disable()
        run.target.stop()
        truth = run.target.truth()
    m = Measurement("results", float(len(results)), "count")
    expect.at_least(m, 1, because="results are computed every five seconds (§6.3)")
    page = np.array([run.target.layout["hot"][0] // page_size()])
    estimates = []
    for result, part in results:
        expect.add(idleness.percentiles(result, run.recording().of_target(0)))
        rate = float(truth.rate(page, part.t0_ns, part.t1_ns, 5 * NSEC_PER_MSEC)[0])
        estimates.append(idleness.estimate(part, frames["hot"], rate))
    # What kernel and agent do themselves, a few MiB, in each sample.
    others = 4.0 * MIB * sum(part.high for _, part in results)
    expect.add(idleness.bandwidth([result for result, _ in results], estimates, least=LEAST, others=others))
    if first:
        elapsed_ms = (first.before_ns - enabled_ns[0]) / 1e6
        m = Measurement("longest idle time", float(first.percentiles[-1]), "ms")
        expect.between(
            m,
            0,
            elapsed_ms + first.aggr_us / 1000,
            because="memory counts as idle since the module was enabled at most",
        )
        m = Measurement("time to the first results", elapsed_ms, "ms")
        expect.at_least(
            m, 5_000, because="the first results come more than five seconds after the start (§6.3)"
        )


def test_stat_monitors_system_ram_and_slows_down_when_idle(stat, expect):
    """DAMON_STAT monitors System RAM; on an idle machine it lengthens aggregations, and reports so."""
    with stat("idle") as run:
        last_ns, part = enabled(run), None
        for _ in range(MOST_RESULTS):
            result = refreshed(run, last_ns)
            if not result:
                break
            run.until(lambda seen_ns=result.before_ns: traced_until(run) > seen_ns, 20)
            part = idleness.partial(result, run.recording().of_target(0), 20)
            if part:  # else it may be of either aggregation, with intervals tuned in between
                break
            last_ns = (result.after_ns, result.before_ns)
        snapshots = run.recording().of_target(0)
        pid = run.module.kdamond_pid()
        ((start, end),) = (
            module_schemes.derived(DamonStat(), run.subject.ram_ranges(), run.level).targets[0].regions
        )
    monitored = (int(snapshots[0].start[0]), int(snapshots[0].end[-1])) if snapshots else ()
    wrong = [] if monitored == (start, end) else [f"{monitored} instead of {(start, end)}"]
    expect.nothing(
        "other ranges", wrong, because=f"DAMON_STAT monitors System RAM as {run.level} finds it (§3.6)"
    )
    m = Measurement("reported aggregation interval", float(result.aggr_us if result else 0), "µs")
    expect.at_least(m, 200_000, because="far less is accessed than the tuning goal of 4 % (§6.3)")
    expect.at_least(
        Measurement("results within one aggregation", float(part is not None), "count"),
        1,
        because="most results fall within one aggregation",
    )
    if part:
        expect.add(idleness.percentiles(result, snapshots))
    wrong = [] if pid is None else [f"pid {p}, not {pid}" for p in sorted({e.pid for e in run.raw} - {pid})]
    expect.nothing(
        "events of other threads",
        wrong,
        because="kdamond_pid is the pid of the thread that traces",
        judged=len(run.raw),
    )
