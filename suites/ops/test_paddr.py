# SPDX-License-Identifier: GPL-2.0
"""paddr: physical memory, whoever uses it."""

from dataclasses import replace

import pytest

from damon_tests.damon.params import DamonAttrs, DamonCtx
from damon_tests.experiment.physical_view import as_virtual
from damon_tests.judge.monitoring.aggregation_windows import windows
from damon_tests.judge.monitoring.all_invariants import full_counts
from damon_tests.judge.verdict import Measurement
from damon_tests.ports import NSEC_PER_SEC, page_size
from damon_tests.scenario.invariants import invariants
from damon_tests.scenario.reference_bands import like_the_reference

pytestmark = pytest.mark.needs("ops.paddr", "damon_aggregated")

ATTRS = DamonAttrs(min_nr_regions=10, max_nr_regions=100)
PADDR = DamonCtx("paddr", attrs=ATTRS)


def test_all_system_ram_is_monitored(experiment, expect):
    """Given all System RAM, DAMON monitors exactly that, within the limits on regions."""
    expect.add(invariants(experiment("hot_cold", PADDR, seconds=2).observe()))


def test_idle_frames_have_no_accesses(live, expect):
    """Frames of memory that nobody touches have no accesses and grow old."""
    with live("idle", PADDR, cover="regions") as run:
        run.record(2.5)
    expect.add(invariants(run, shows=("I25", "I32")))
    # Half a second for accessed bits from before monitoring began.
    after_ns = run.recording().started_ns + NSEC_PER_SEC // 2
    counts = [
        int(w.snapshot.nr_accesses.max(initial=0)) for w in windows(run.recording()) if w.t0_ns > after_ns
    ]
    m = Measurement(
        "most accesses of an idle frame", max(counts, default=0), "samples", tuple(map(float, counts))
    )
    expect.equal(m, 0, because="nobody touched this memory", kind="closed form")


@pytest.mark.accuracy
@pytest.mark.parametrize(
    "addr_unit", [1, pytest.param(page_size(), marks=pytest.mark.needs("ctx.addr_unit"))]
)
def test_frames_always_in_use_have_full_counts(experiment, expect, addr_unit):
    """Frames of memory in use have full counts, in any address unit."""
    ctx = replace(PADDR, addr_unit=addr_unit)
    trial = experiment("everything_hot", ctx, seconds=2.5, cover="regions")
    observation = trial.observe()
    expect.add(invariants(observation))
    expect.add(full_counts(as_virtual(observation)))
    expect.add(like_the_reference(trial, ["recall", "regions"], after_s=0.7, replicas=40))


@pytest.mark.accuracy
def test_hot_set_is_found_among_frames(experiment, expect):
    """8 MiB of 64 MiB are hot: DAMON reports their frames hot, wherever they are, and no others."""
    trial = experiment("hot_cold", PADDR, seconds=4, cover="regions")
    expect.add(invariants(trial.observe()))
    expect.add(like_the_reference(trial, ["precision", "recall"], after_s=2, replicas=40))


def test_paddr_runs_on_when_processes_exit(live, expect):
    """Physical memory does not exit: the kdamond runs until it is turned off."""
    with live("hot_cold", PADDR) as run:
        run.record(0.5)
        run.target.stop()
        run.record(1)
        running = run.session.running()
    expect.equal(
        Measurement("kdamonds that run", float(running), "count"),
        1,
        because="a kdamond of paddr never ends by itself (I39)",
    )
    expect.add(invariants(run))


@pytest.mark.needs("ctx.addr_unit")
@pytest.mark.parametrize("addr_unit", [2, page_size(), 4 * page_size()])
def test_address_units_cover_the_same_memory(experiment, expect, addr_unit):
    """With other address units DAMON monitors the same memory, and reports it in those units."""
    ctx = DamonCtx("paddr", addr_unit=addr_unit, attrs=ATTRS)
    expect.add(invariants(experiment("hot_cold", ctx, seconds=1).observe()))
