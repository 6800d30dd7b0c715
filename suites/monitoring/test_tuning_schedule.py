# SPDX-License-Identifier: GPL-2.0
"""Interval auto-tuning beside what has an interval of its own: schemes and mapping updates stay on time."""

from dataclasses import replace

import pytest

from damon_tests.damon import trace
from damon_tests.damon.params import ANY, DamonAttrs, DamonCtx, DamonIntervalsGoal, Damos
from damon_tests.damon.trace import AggregatedEvent, BeforeApplyEvent
from damon_tests.judge import rule_limits
from damon_tests.judge.verdict import Check, Measurement
from damon_tests.ports import NSEC_PER_SEC, TimedOut, TreeError
from damon_tests.ports.numbers import number
from damon_tests.scenario.invariants import invariants

pytestmark = [
    pytest.mark.needs("attrs.intervals_goal", "damon_aggregated", "damos_before_apply"),
    pytest.mark.known_defect("tuning-restarts-intervals"),
]

AGGRS = 2
FIXED = DamonIntervalsGoal(access_bp=400, aggrs=AGGRS, min_sample_us=5_000, max_sample_us=5_000)
"""Tuned every other aggregation, within bounds that leave one value: intervals that never change."""
GROWING = replace(FIXED, max_sample_us=20_000)
ATTRS = DamonAttrs(sample_us=5_000, aggr_us=50_000, min_nr_regions=10, max_nr_regions=50)
EVENTS = ("damos_before_apply", "damon_monitor_intervals_tune")


def scheme_every(interval_us):
    return Damos("stat", ANY, apply_interval_us=interval_us)


def tuned(goal, **fields):
    return DamonCtx(attrs=replace(ATTRS, intervals_goal=goal), **fields)


def aggregated_between_passes(run):
    """Return the length in µs of all aggregations that ended between passes of the only scheme, by gap.

    The first gap begins with the kdamond; the last one ends with the recording, in the middle of an interval.
    """
    first_address = run.target.layout["data"][0]
    names = [trace.AGGREGATED, *EVENTS]
    gaps, current_us, next_us = [0], ATTRS.aggr_us, ATTRS.aggr_us
    for event in run.session.events(names):
        if isinstance(event, BeforeApplyEvent):
            if event.start == first_address:
                gaps.append(0)
        elif isinstance(event, AggregatedEvent):
            if event.start == first_address:
                gaps[-1] += current_us
                current_us = next_us
        else:
            next_us = event.sample_us * ATTRS.samples_per_aggr
    return gaps


@pytest.mark.needs("ops.fvaddr", "schemes.apply_interval_us")
@pytest.mark.parametrize(
    ("goal", "apply_us", "seconds"),
    [
        pytest.param(FIXED, 250_000, 2, id="fixed"),
        pytest.param(
            GROWING, 1_000_000, 4, id="growing", marks=pytest.mark.needs("damon_monitor_intervals_tune")
        ),
    ],
)
def test_tuning_keeps_apply_intervals(live, expect, goal, apply_us, seconds):
    """A scheme is applied once per apply interval, however often its intervals are tuned meanwhile."""
    ctx = tuned(goal, operations="fvaddr", schemes=(scheme_every(apply_us),))
    extra = [name for name in EVENTS if live.backend().capabilities().has(name)]
    with live("idle", ctx, cover="regions", source="events", extra_events=extra) as run:
        run.record(seconds)
    gaps = aggregated_between_passes(run)
    longest_aggr_us = goal.max_sample_us * ATTRS.samples_per_aggr
    longest = Measurement("longest time between passes", max(gaps), "µs", tuple(gaps))
    # An aggregation that was under way at the first of two passes counts whole.
    why = "tuning changes how often memory is sampled, not when schemes are applied (§2.8)"
    most, whole = apply_us + longest_aggr_us, gaps[:-1]
    # Without a pass the longest time is that of the recording: too long, or too short to judge.
    holds = False if max(gaps) > most else True if whole else None
    expect.add(Check("invariant", longest, f"<= {number(most)}", why, holds))
    if not whole:
        return
    shortest = Measurement("shortest time between passes", min(whole), "µs", tuple(whole))
    # One that was under way at the last of them counts not at all, and each of up to four tunings in an
    # interval rounds what is left of it down to whole samples.
    least = apply_us - longest_aggr_us - 4 * goal.max_sample_us
    expect.at_least(shortest, least, because=why)


@pytest.mark.needs("ops.vaddr")
def test_tuning_keeps_mapping_updates(live, expect):
    """Given ranges of vaddr hold until the mappings are read, one update interval later, tuned or not."""
    ctx = tuned(FIXED, operations="vaddr")
    ctx = replace(ctx, attrs=replace(ctx.attrs, update_us=300_000))
    with live("idle", ctx, cover="regions") as run:
        run.record(1.5, aggregations=10)
        vmas = run.subject.vmas(run.target)
    expect.add(invariants(run))
    mapped, last = rule_limits.three_ranges(vmas), rule_limits.covered(run.recording().snapshots[-1])
    expect.nothing(
        "other coverage in the last aggregation",
        [] if last == mapped else [f"{last} instead of {mapped}"],
        because="mappings are read every 300 ms, whatever tuning does to the sampling interval (§2.8)",
    )


@pytest.mark.needs("ops.fvaddr", "schemes.apply_interval_us", "commands.update_schemes_tried_regions")
def test_tried_regions_return_while_intervals_are_tuned(live, expect):
    """update_schemes_tried_regions returns after the scheme's next pass although intervals are tuned."""
    ctx = tuned(FIXED, operations="fvaddr", schemes=(scheme_every(250_000),))
    with live("idle", ctx, cover="regions", source="none") as run:
        run.record(0.5)
        pending = run.client.begin_command(0, "update_schemes_tried_regions")
        answer = answer_of(pending, 10)
        if answer == "no answer":
            # The command holds the lock of the tree for ever; a kdamond without targets cancels it.
            run.target.stop()
            answer_of(pending, 60)
    expect.nothing(
        "wrong answers",
        [answer] if answer != "0" else [],
        because="the scheme is applied every 250 ms, and 10 s were waited for one pass (§2.8, §4.11)",
    )


def answer_of(pending, seconds):
    """Return "0", the errno's name, or "no answer" of a command after that long."""
    try:
        pending.result(seconds * NSEC_PER_SEC)
    except TreeError as error:
        return error.errno_name
    except TimedOut:
        return "no answer"
    return "0"
