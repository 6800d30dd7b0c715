# SPDX-License-Identifier: GPL-2.0
"""Commits of single parameters of schemes, in both directions: a change shows in the next pass.

Each case is a scheme with one parameter that a commit changes and a later one changes back. All schemes of a
test run side by side behind a watcher, whose regions say what must be tried.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import pairwise

import pytest

from damon_tests.damon.params import (
    ANY,
    DamonAttrs,
    DamonCtx,
    Damos,
    DamosFilter,
    DamosQuota,
    DamosWatermarks,
)
from damon_tests.judge.schemes.watched_passes import Try, spell
from damon_tests.judge.verdict import Check, Measurement
from damon_tests.ports import page_size
from damon_tests.scenario.quota_run import let_pass
from damon_tests.scenario.watched_run import passes_of, watched

pytestmark = pytest.mark.needs("ops.fvaddr", "commands.commit", "damon_aggregated", "damos_before_apply")

MIB = 1 << 20
BEYOND = 1 << 62
"""Higher than any address of a process, whatever the processor."""
HOUR_MS = 3_600_000
ATTRS = DamonAttrs(sample_us=5_000, aggr_us=50_000, min_nr_regions=10, max_nr_regions=40)
WATCHER = Damos("stat", ANY)

FIRST, NEXT = 14, 9
"""Aggregations before the first commit, and after each commit."""
OLD = FIRST + 4
"""An age that memory reaches after the first commit, and before the second."""

Wanted = Callable[[Try], bool]


def all_of(region):
    return True


def none_of(region):
    return False


@dataclass(frozen=True)
class Case:
    """A parameter, two schemes that differ in it alone, and which regions each of them tries."""

    parameter: str
    first: Damos
    second: Damos
    first_tries: Wanted
    second_tries: Wanted


def bound(name, value, tries):
    """Return the case of a bound of the access pattern, which first includes everything."""
    second = replace(WATCHER, access_pattern=replace(ANY, **{name: value}))
    return Case(f"access_pattern.{name}", WATCHER, second, all_of, tries)


PATTERNS = (
    bound("sz_min", 1 << 40, none_of),
    bound("sz_max", MIB, lambda r: r.end - r.start <= MIB),
    bound("nr_accesses_min", 1, lambda r: r.nr_accesses >= 1),
    bound("nr_accesses_max", 0, lambda r: r.nr_accesses == 0),
    bound("age_min", OLD, lambda r: r.age >= OLD),
    bound("age_max", OLD - 1, lambda r: r.age < OLD),
)

EVERYWHERE = DamosFilter("addr", matching=True, addr_end=2 * BEYOND)
"""Rejects all memory of the process."""
THIS_TARGET = DamosFilter("target", matching=True, damon_target_idx=0)


def filter_cases(directory):
    """Return the cases of address and target filters in one of the directories for filters."""

    def case(name, first, second):
        schemes = [replace(WATCHER, **{directory: tuple(items)}) for items in (first, second)]
        return Case(f"{directory}.{name}", *schemes, none_of, all_of)

    return (
        case("nr_filters", [EVERYWHERE], []),
        case("type", [EVERYWHERE], [replace(EVERYWHERE, type="target", damon_target_idx=1)]),
        case("matching", [EVERYWHERE], [replace(EVERYWHERE, matching=False)]),
        case("allow", [EVERYWHERE], [replace(EVERYWHERE, allow=True)]),
        case("addr_start", [EVERYWHERE], [replace(EVERYWHERE, addr_start=BEYOND)]),
        case("addr_end", [EVERYWHERE], [replace(EVERYWHERE, addr_end=page_size())]),
        case("damon_target_idx", [THIS_TARGET], [replace(THIS_TARGET, damon_target_idx=1)]),
    )


def marks(name, first, second):
    """Return the case of a watermark: active at first, not after the commit. 1 to 999 permil are free."""
    schemes = [replace(WATCHER, watermarks=DamosWatermarks(**fields)) for fields in (first, second)]
    return Case(f"watermarks.{name}", *schemes, all_of, none_of)


ALWAYS = {"metric": "free_mem_rate", "interval_us": 20_000, "high": 1000, "mid": 1000, "low": 0}
WATERMARKS = (
    marks("metric", {**ALWAYS, "metric": "none", "low": 1000}, {**ALWAYS, "low": 1000}),
    marks("high", ALWAYS, {**ALWAYS, "high": 0}),
    marks("low", ALWAYS, {**ALWAYS, "low": 1000}),
)
SNAPSHOTS = Case("max_nr_snapshots", WATCHER, replace(WATCHER, max_nr_snapshots=1), all_of, none_of)
CASES = (*PATTERNS, *filter_cases("core_filters"), *filter_cases("filters"), *WATERMARKS, SNAPSHOTS)


def feature(parameter):
    """Return the name in ``damon.features`` of the file that the parameter is."""
    directory, _, name = parameter.rpartition(".")
    if name == "nr_filters":
        return f"schemes.{directory}"
    return parameter if directory else f"schemes.{name}"


def supported(live):
    """Return the cases whose files this kernel has."""
    capabilities = live.backend().capabilities()
    return [case for case in CASES if capabilities.has(feature(case.parameter))]


def stage(run, schemes, count=NEXT):
    """Commit the schemes behind the watcher (None: leave them), wait for this many aggregations, and return
    when they began and ended.

    Each commit changes an attribute as well: that makes all schemes, new ones too, due at the same samples.
    """
    if schemes is not None:
        limit = ATTRS.max_nr_regions + len(run.commits) % 2
        attrs = replace(ATTRS, max_nr_regions=limit)
        run.commit(replace(run.ctx, attrs=attrs, schemes=(WATCHER, *schemes)))
    begin = run.clock.now_ns()
    let_pass(run, count)
    return begin, run.clock.now_ns()


def staged(run, *times):
    """Return the passes of each stage."""
    passes = passes_of(run)
    return [[p for p in passes if begin < p.time_ns < end] for begin, end in times]


def wrong_tries(passes, scheme_idx, wanted):
    """Return where a scheme did not try exactly the watcher's regions that it should."""
    wrong = []
    for p in passes:
        should = [(v.region.start, v.region.end) for v in p.visits if wanted(v.region)]
        did = [(t.start, t.end) for t in p.tries if t.scheme_idx == scheme_idx]
        if did != should:
            region = p.visits[0].region
            wrong.append(f"{len(did)} of {len(should)} regions tried, the first region is {spell(region)}")
    return wrong


def expect_tries(expect, passes, cases, second, when):
    for number, case in enumerate(cases, 1):
        wanted = case.second_tries if second else case.first_tries
        wrong = wrong_tries(passes, number, wanted)
        m = Measurement(f"{case.parameter}, {when}: wrong passes", len(wrong), "count")
        why = "what a commit changes holds from the first pass after it (§5.6)"
        holds = not wrong if passes else None
        expect.add(Check("invariant", m, "== 0", why, holds, "; ".join(wrong[:2])))


def expect_difference(expect, passes, cases):
    """Leave the test undecided unless the regions differ between the two values of each parameter."""
    regions = [v.region for p in passes for v in p.visits]
    for case in cases:
        differing = sum(case.first_tries(r) != case.second_tries(r) for r in regions)
        m = Measurement(f"{case.parameter}: regions that tell its values apart", differing, "count")
        why = "the two values must lead to different tries; else nothing is tested"
        expect.add(Check("invariant", m, ">= 1", why, True if differing else None))


@pytest.mark.accuracy
def test_commit_changes_each_parameter_there_and_back(live, expect):
    """Each bound, filter, watermark and limit of schemes holds from the pass after its commit, and so does
    its old value after another one."""
    cases = supported(live)
    ctx = DamonCtx("fvaddr", attrs=ATTRS, schemes=(WATCHER, *(case.first for case in cases)))
    with watched(live, "hot_cold", ctx) as run:
        times = [
            stage(run, None, FIRST),
            stage(run, [case.second for case in cases]),
            stage(run, [case.first for case in cases]),
        ]
    before, changed, back = staged(run, *times)
    expect_difference(expect, changed, cases)
    expect_tries(expect, before, cases, False, "before the commit")
    expect_tries(expect, changed, cases, True, "changed")
    expect_tries(expect, back, cases, False, "changed back")


@pytest.mark.accuracy
def test_new_schemes_have_all_their_parameters(live, expect):
    """Schemes that a commit adds try what their parameters say from the first pass on, and removed ones
    nothing more."""
    cases = supported(live)
    with watched(live, "hot_cold", DamonCtx("fvaddr", attrs=ATTRS, schemes=(WATCHER,))) as run:
        let_pass(run, FIRST)
        # A limit of one pass is not reached yet: its scheme is new.
        fresh = [c for c in cases if c is not SNAPSHOTS]
        added = stage(run, [case.second for case in fresh])
        removed = stage(run, [])
        again = stage(run, [case.first for case in fresh])
    first, without, second = staged(run, added, removed, again)
    expect_difference(expect, first, fresh)
    expect_tries(expect, first, fresh, True, "added")
    expect_tries(expect, second, fresh, False, "added again")
    late = [t for p in without for t in p.tries if t.scheme_idx]
    m = Measurement("tries of removed schemes", len(late), "count")
    expect.equal(m, 0, because="a commit of fewer schemes removes the rest (§5.6)")


# --- one scheme alone ------------------------------------------------------------------------------

SMALL = DamosQuota(bytes=4 * MIB)
WHENS = ("before the commit", "changed", "changed back")


def bytes_by_pass(passes):
    return [sum(t.end - t.start for t in p.tries if t.scheme_idx == 1) for p in passes]


@pytest.mark.parametrize(
    ("second", "tried_bytes"),
    [
        pytest.param(replace(SMALL, bytes=12 * MIB), (12 * MIB, 12 * MIB), id="bytes"),
        pytest.param(replace(SMALL, reset_interval_ms=HOUR_MS), (0, 0), id="reset_interval_ms"),
        # stat applies to nothing: all it tries is charged half, until less than a page of the quota is left.
        pytest.param(
            replace(SMALL, fail_charge_num=1, fail_charge_denom=2),
            (8 * MIB - 2 * page_size(), 8 * MIB),
            id="fail_charge",
            marks=pytest.mark.needs("quotas.fail_charge_denom"),
        ),
    ],
)
def test_commit_changes_the_quota_there_and_back(live, expect, second, tried_bytes):
    """A committed size, reset interval or charge of failures holds from the next window on, and the old one
    after another commit."""
    first = Damos("stat", ANY, quota=SMALL)
    ctx = DamonCtx("fvaddr", attrs=ATTRS, schemes=(WATCHER, first))
    with watched(live, "idle", ctx) as run:
        times = [
            stage(run, None),
            stage(run, [replace(first, quota=second)]),
            stage(run, [first]),
        ]
    usual = (SMALL.bytes, SMALL.bytes)
    limits = (usual, tried_bytes, usual)
    for when, passes, (least, most) in zip(WHENS, staged(run, *times), limits, strict=True):
        # Before 6.18 the first window has no quota. The window of the commit may be either, and one that
        # reaches the end of memory tries less.
        tried = bytes_by_pass(passes)[1:]
        m = Measurement(f"most bytes tried in a pass, {when}", max(tried, default=0), "bytes", tuple(tried))
        why = "a pass tries what its window has left (I44)"
        holds = least <= m.value <= most if tried else None
        expect.add(Check("invariant", m, f"{least} to {most}", why, holds))


def oldest_at_end(passes):
    return max((v.region.age for v in passes[-1].visits), default=0) if passes else None


def test_commit_changes_the_action_there_and_back(live, expect):
    """A committed action resets ages from the next pass on; with ``stat`` again they grow."""
    first, second = Damos("stat", ANY), Damos("cold", ANY)
    ctx = DamonCtx("fvaddr", attrs=ATTRS, schemes=(WATCHER, first))
    with watched(live, "idle", ctx) as run:
        times = [stage(run, None), stage(run, [second]), stage(run, [first])]
    ages = [oldest_at_end(passes) for passes in staged(run, *times)]
    for when, age, acts in zip(WHENS, ages, (False, True, False), strict=True):
        m = Measurement(f"oldest region, {when}", float("nan") if age is None else age, "aggregations")
        if acts:
            expect.between(m, 0, 1, because="an action makes the age of what it was applied to 0 (I31)")
        else:
            expect.at_least(m, 3, because="stat never changes ages: six aggregations were recorded (I31)")


def test_commit_changes_the_apply_interval_there_and_back(live, expect):
    """A committed apply interval holds from the pass after the commit, and the old one after another."""
    first = Damos("stat", ANY)
    second = replace(first, apply_interval_us=200_000)
    ctx = DamonCtx("fvaddr", attrs=ATTRS, schemes=(WATCHER, first))
    with watched(live, "idle", ctx) as run:
        times = [stage(run, None), stage(run, [second], 4 * 4), stage(run, [first])]
    for when, passes, every in zip(WHENS, staged(run, *times), (1, 4, 1), strict=True):
        applied = [i for i, p in enumerate(passes) if any(t.scheme_idx == 1 for t in p.tries)]
        gaps = [b - a for a, b in pairwise(applied)]
        m = Measurement(
            f"wrong numbers of aggregations between passes, {when}", sum(g != every for g in gaps), "count"
        )
        why = f"the apply interval is {every} aggregations (I35)"
        expect.add(Check("invariant", m, "== 0", why, m.value == 0 if gaps else None, str(gaps)))
