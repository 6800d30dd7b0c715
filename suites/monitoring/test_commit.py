# SPDX-License-Identifier: GPL-2.0
"""Online commits: DAMON keeps what it has learnt, and the new request holds at once."""

from dataclasses import replace
from itertools import pairwise
from statistics import median

import numpy as np
import pytest

from damon_tests.damon.params import ANY, DamonAttrs, DamonCtx, DamonTarget, Damos
from damon_tests.damon.series import Series
from damon_tests.judge import rule_limits
from damon_tests.judge.monitoring.aggregation_windows import settled
from damon_tests.judge.verdict import Check, Measurement
from damon_tests.ports import NSEC_PER_SEC, NSEC_PER_USEC, TreeError, page_size
from damon_tests.scenario.invariants import invariants

ATTRS = DamonAttrs(min_nr_regions=10, max_nr_regions=100)
FVADDR = DamonCtx("fvaddr", attrs=ATTRS)

pytestmark = pytest.mark.needs("ops.fvaddr", "commands.commit", "damon_aggregated")


def test_unchanged_commit_changes_nothing(live, expect):
    """Committing the running request again changes no count and no age,
    and since 6.18 does not restart the window."""
    with live("hot_cold", FVADDR, cover="regions") as run:
        run.record(1)
        commits = []
        for _ in range(30):
            commits.append(run.commit_unchanged())
            run.record(0.03)
        run.record(0.5)
    expect.add(invariants(run))  # I62: as if nothing had been committed
    if not Series.of(run.level).keeps_window_on_equal_commit:
        return  # these start the window again (specification 8.2)
    least_ns = ATTRS.samples_per_aggr * ATTRS.sample_us * NSEC_PER_USEC
    ends = [snap.time_ns for snap in run.recording().snapshots]
    kept = [
        (end - returned) / NSEC_PER_USEC
        for _, returned in commits
        for end in ends
        if 0 < end - returned < least_ns - NSEC_PER_USEC
    ]
    # A commit that started the window again would put a whole window between itself and the next aggregation.
    m = Measurement("I62 aggregations less than a window after a commit", len(kept), "count", tuple(kept))
    expect.at_least(
        m,
        1,
        because="unless a commit restarts the window, some of 30 are followed by the rest of one only (I62)",
    )


def test_uncommitted_writes_change_nothing(live, expect):
    """A running kdamond ignores what is written to the files until it is committed (I68)."""
    scheme = Damos("stat", ANY)
    with live("idle", replace(FVADDR, schemes=(scheme,)), cover="regions", source="events") as run:
        run.record(1)
        other = replace(ATTRS, sample_us=50_000, aggr_us=500_000, min_nr_regions=40, max_nr_regions=50)
        written = replace(run.ctx, operations="vaddr", attrs=other, targets=(DamonTarget(),), schemes=())
        run.client.restage([replace(run.session.kdamonds[0], ctx=written)])
        written_ns = run.clock.now_ns()
        run.record(1.5, aggregations=5)
        running = run.session.running()
        run.client.restage(run.session.kdamonds)
    expect.equal(
        Measurement("kdamonds that run", float(running), "count"),
        1,
        because="uncommitted writes do not stop it (I68)",
    )
    expect.add(invariants(run))  # ranges, counts and ages are those of the request
    since = [s for s in run.recording().snapshots if s.time_ns > written_ns]
    lengths = [(b.time_ns - a.time_ns) / NSEC_PER_USEC for a, b in pairwise(since)]
    m = Measurement("median aggregation since the write", median(lengths or [0]), "µs", tuple(lengths))
    expect.between(
        m,
        ATTRS.aggr_us - 1,
        other.aggr_us / 2,
        because="the written interval is five times as long, and was not committed (I68)",
    )
    counts = [float(len(s)) for s in since]
    expect.at_most(
        Measurement("most regions since the write", max(counts, default=0), "regions", tuple(counts)),
        39,
        because="idle memory merges into 10 to 20 regions; the written minimum of 40 was not committed (I68)",
    )


def test_splitting_a_range_keeps_its_ages(live, expect):
    """Committing adjacent ranges in place of the one range that they make up loses no age (§8.3, 33)."""
    with live("idle", FVADDR, cover="regions") as run:
        start, end = run.target.layout["data"]
        run.record(1.5)
        seams = [
            start,
            *(start + (end - start) * i // 7 // page_size() * page_size() for i in range(1, 7)),
            end,
        ]
        run.commit(_watching(run, *pairwise(seams)))
        run.record(0.7, aggregations=3)
    expect.add(invariants(run))
    (commit,) = run.commits[1:]
    snaps = run.recording().snapshots
    before = [s for s in snaps if s.time_ns < commit.begin_ns][-1]
    after = next(s for s in snaps if s.time_ns > commit.end_ns)
    # Pieces of a forgotten region begin at 0; nobody touches this memory, so all of it is of one age.
    m = Measurement("youngest region after the commit", float(after.age.min()), "aggregations")
    why = "the monitored memory stays the same, so that regions keep their ages (I63)"
    expect.at_least(m, float(before.age.min()) + 1, because=why, kind="closed form")


@pytest.mark.parametrize(("before_us", "after_us"), [(100_000, 200_000), (200_000, 100_000)])
def test_new_aggregation_interval_rescales_ages(live, expect, before_us, after_us):
    """A commit of another aggregation interval expresses ages in
    the new one, once; they grow on from there."""
    attrs = replace(ATTRS, aggr_us=before_us)
    with live("idle", replace(FVADDR, attrs=attrs), cover="regions") as run:
        run.record(2, aggregations=8)
        run.commit_attrs(replace(attrs, aggr_us=after_us))
        run.record(1, aggregations=3)
    expect.add(invariants(run))
    (commit,) = run.commits[1:]
    # Before, accessed bits that were set before monitoring began may cost ages.
    after_ns = run.recording().started_ns + NSEC_PER_SEC // 2
    snaps = [w.snapshot for w in settled(run.recording(), after_ns)]
    ages = [(s.time_ns, int(s.age.min()), int(s.age.max())) for s in snaps]
    wrong, rescaled = [], 0
    for (_, low, high), (time_ns, now_low, now_high) in pairwise(ages):
        # Either one aggregation more, or rescaled (before or after this aggregation's growth).
        admissible = [(low + 1, high + 1)]
        if rescaled == 0 and time_ns >= commit.begin_ns:
            scaled = [(a * before_us // after_us) for a in (low, high, low + 1, high + 1)]
            admissible += [(scaled[0] + 1, scaled[1] + 1), (scaled[2], scaled[3])]
        if not any(a <= now_low and now_high <= b for a, b in admissible):
            wrong.append(f"{low}..{high} became {now_low}..{now_high}")
        rescaled += now_low != low + 1
    why = f"a commit sets age to age * {before_us} div {after_us}, once (§2.12)"
    expect.nothing(
        "ages that are neither one more nor rescaled",
        wrong,
        because=why,
        kind="closed form",
        judged=len(ages) - 1,
    )
    m = Measurement("times that ages were rescaled", rescaled, "count")
    expect.equal(m, 1, because=why, kind="closed form")


@pytest.mark.parametrize("sample_us", [2_500, 10_000])
def test_new_sampling_interval_rescales_counts_and_keeps_ages(live, expect, sample_us):
    """After a commit of another sampling interval counts are of the
    new window, and memory in use keeps its age."""
    with live("everything_hot", FVADDR, cover="regions") as run:
        run.record(1.5, aggregations=2)
        run.commit_attrs(replace(ATTRS, sample_us=sample_us))
        run.record(1, aggregations=3)
    expect.add(invariants(run))
    (commit,) = run.commits[1:]
    snaps = run.recording().snapshots
    before = [s for s in snaps if s.time_ns < commit.begin_ns][-1]
    since = [s for s in snaps if s.time_ns >= commit.begin_ns]
    young, judged = _forgotten(before, since[: 3 + (since[0].time_ns <= commit.end_ns)], sample_us)
    why = "the last count is rescaled, too, so that an unchanged rate does not reset the age (§2.12)"
    expect.nothing("ages lost", young, because=why, kind="closed form")
    m = Measurement("regions that had every hit throughout", judged, "count")
    expect.add(
        Check(
            "closed form",
            m,
            ">= 1",
            "some memory was hit in every sample; else nothing is tested",
            True if judged else None,
        )
    )


def _forgotten(before, since, sample_us):
    """Return the last aggregation's regions that lost age, among those accessed in every sample, and how many
    those are.

    Before the commit all accesses are of the old window, in the last aggregation of the new one; the
    aggregation of the commit may be either.
    """
    old_w, new_w = ATTRS.samples_per_aggr, ATTRS.aggr_us // sample_us
    needed = [(before, old_w), *((s, min(old_w, new_w)) for s in since[:-1]), (since[-1], new_w)]
    last, young, judged = since[-1], [], 0
    for start, end, age in zip(last.start, last.end, last.age, strict=True):
        over = [(s, (s.start < end) & (s.end > start), least) for s, least in needed]
        if all((s.nr_accesses[inside] >= least).all() for s, inside, least in over):
            judged += 1
            was = int(before.age[over[0][1]].min())
            if age < was + len(since):
                young.append(f"{start}-{end}: {age}, {len(since)} aggregations after {was}")
    return young, judged


def test_lower_max_nr_regions_holds_after_one_aggregation(live, expect):
    """A lower max_nr_regions holds within one aggregation of its commit."""
    attrs, limit = replace(ATTRS, max_nr_regions=400), 25
    with live("many_islands", replace(FVADDR, attrs=attrs), cover="regions") as run:
        many = run.session.record(30 * NSEC_PER_SEC, until=lambda: _regions_now(run) > limit)
        run.commit_attrs(replace(attrs, max_nr_regions=limit))
        run.record(1, aggregations=3)
    expect.add(invariants(run))
    m = Measurement("regions before the commit", float(many), f"more than {limit}")
    expect.at_least(m, 1, because="96 islands need more regions than that; else nothing was tested")


def _regions_now(run):
    snapshots = run.session.recording().snapshots
    return len(snapshots[-1]) if snapshots else 0


def test_higher_max_nr_regions_allows_more_splits(live, expect):
    """A higher max_nr_regions lets DAMON split regions that it could not split before."""
    attrs, limit = replace(ATTRS, max_nr_regions=20), 20
    with live("many_islands", replace(FVADDR, attrs=attrs), cover="regions") as run:
        run.record(1)
        run.commit_attrs(replace(attrs, max_nr_regions=400))
        more = run.session.record(60 * NSEC_PER_SEC, until=lambda: _regions_now(run) > limit)
    expect.add(invariants(run))
    m = Measurement("more regions than were allowed before", float(more), "count")
    # Islands are found by chance: about half of the aggregations have that many, 600 are waited for.
    expect.equal(
        m,
        1,
        because="up to half of max_nr_regions every split doubles the regions, and islands' rates differ",
    )


def test_higher_min_nr_regions_holds_from_the_next_aggregation(live, expect):
    """A higher min_nr_regions holds from the aggregation after its commit (since 7.1)."""
    with live("idle", FVADDR, cover="regions") as run:
        run.record(0.5)
        run.commit_attrs(replace(ATTRS, min_nr_regions=40))
        run.record(1, aggregations=3)
    expect.add(invariants(run))


def test_committed_ranges_keep_ages_of_remaining_memory(live, expect):
    """After a commit of other ranges exactly these are monitored; memory
    that remains keeps its age, new memory starts at 0."""
    with live("idle", FVADDR, cover="regions") as run:
        start, end = run.target.layout["data"]
        quarter = (end - start) // 4
        first, fourth = (start, start + quarter), (end - quarter, end)
        run.record(1.5)
        run.commit(_watching(run, first, fourth))
        run.record(0.7)
        run.commit(_watching(run, (start, start + 2 * quarter), fourth))
        run.record(0.7)
    expect.add(invariants(run))
    expect.nothing(
        "ages lost or made up",
        _age_faults(run, first),
        because="memory that stays monitored keeps its age (I63, §3.3)",
        kind="closed form",
    )


@pytest.mark.needs("ops.vaddr")
def test_shorter_update_interval_holds_from_its_commit(live, expect):
    """Given ranges of vaddr hold until the mappings are read, which a
    commit of a shorter update interval brings about."""
    attrs = replace(ATTRS, update_us=3_600_000_000)
    with live("idle", DamonCtx(attrs=attrs), cover="regions") as run:
        run.record(1)
        run.commit_attrs(replace(attrs, update_us=200_000))
        run.record(1, aggregations=5)
        vmas = run.subject.vmas(run.target)
    expect.add(invariants(run))
    given, mapped = run.target.layout["data"], rule_limits.three_ranges(vmas)
    (commit,) = run.commits[1:]
    early = [rule_limits.covered(s) for s in run.recording().snapshots if s.time_ns < commit.begin_ns]
    wrong = [str(c) for c in early if c != (given,)]
    expect.nothing(
        "other coverage before the commit",
        wrong,
        because="mappings are not read before the update interval of an hour (§3.2)",
    )
    last = rule_limits.covered(run.recording().snapshots[-1])
    wrong = [] if last == mapped else [f"{last} instead of {mapped}"]
    expect.nothing(
        "other coverage in the last aggregation",
        wrong,
        because="the new update interval counts from the commit (§2.12)",
    )


def _watching(run, *ranges):
    return replace(run.ctx, targets=(DamonTarget(run.target.pid, ranges),))


def _age_faults(run, kept):
    """Return violations of: idle memory inside ``kept`` ages by one
    in every aggregation, through all commits."""
    faults, previous = [], None
    # Before, accessed bits that were set before monitoring began may cost ages.
    after_ns = run.recording().started_ns + NSEC_PER_SEC // 2
    for window in settled(run.recording(), after_ns):
        snap = window.snapshot
        inside = (snap.start >= kept[0]) & (snap.end <= kept[1])
        if not inside.any():
            continue
        oldest = int(snap.age[inside].max())
        if previous is not None and oldest != previous + 1:
            faults.append(f"oldest {previous} became {oldest}")
        previous = oldest
    return faults


def test_refused_commit_changes_nothing(live, expect):
    """An invalid request is refused with EINVAL, and the kdamond goes on with the request it has."""
    scheme = Damos("stat", ANY)
    with live("idle", replace(FVADDR, schemes=(scheme,)), cover="regions", source="events") as run:
        if not Series.of(run.level).survives_refused_commit:
            pytest.skip("a refused commit ends the kdamond before 6.15")
        run.record(1)
        before = run.client.stats(0, 0).nr_tried
        refused = []
        for wrong in (
            replace(ATTRS, min_nr_regions=2),
            replace(ATTRS, max_nr_regions=5),
            replace(ATTRS, sample_us=200_000),
        ):
            run.client.restage(
                [replace(run.session.kdamonds[0], ctx=replace(run.ctx, attrs=wrong, schemes=(Damos(),)))]
            )
            try:
                run.client.command(0, "commit")
            except TreeError as error:
                refused.append(error.errno_name)
            else:
                refused.append("accepted")
            run.record(0.3)
        run.client.restage(run.session.kdamonds)
        still = run.session.running()
        tried = run.client.stats(0, 0).nr_tried - before
    m = Measurement("regions tried since", tried, "regions")
    # Three times 300 ms, 10 regions at least in each aggregation since 7.1, 1 before.
    expect.at_least(
        m,
        5,
        because="the refused request's scheme matches nothing, and does not replace the running one (§5.6)",
    )
    expect.nothing(
        "not refused",
        [r for r in refused if r != "EINVAL"],
        because="a commit checks the limits of attributes, too (§1.5)",
    )
    expect.equal(
        Measurement("kdamonds that run on", float(still), "count"),
        1,
        because="a refused commit does not end the kdamond since 6.15 (§5.6)",
    )
    expect.add(invariants(run))


def test_added_and_removed_targets_leave_others_alone(live, expect):
    """A target added online is monitored, a removed one no longer; the first one is not disturbed."""
    with live(["idle", "hot_cold"], FVADDR, cover="regions", watched=1) as run:
        first, both = run.covering(run.targets[0]), run.covering(*run.targets)
        run.record(1, aggregations=3)
        run.commit(replace(run.ctx, targets=both))
        run.record(1, aggregations=3)
        run.commit(replace(run.ctx, targets=first))
        run.record(1, aggregations=3)
    expect.add(invariants(run))
    targets = [sorted({s.target_idx for s in part.recording.snapshots}) for part in run.parts()]
    wanted = [[0], [0, 1], [0]]
    wrong = [
        f"part {i}: {a} instead of {b}"
        for i, (a, b) in enumerate(zip(targets, wanted, strict=True))
        if a != b
    ]
    expect.nothing("wrong targets reported", wrong, because="a commit matches targets by their index (§5.6)")
    kept = run.targets[0].layout["data"]
    expect.nothing(
        "ages lost or made up",
        _age_faults(run, kept),
        because="the first target's memory keeps its age (I63)",
        kind="closed form",
    )


@pytest.mark.needs("targets.obsolete_target")
def test_obsolete_target_is_removed(live, expect):
    """Committing the first of two targets as obsolete removes it;
    the other one keeps its regions and ages."""
    with live(["hot_cold", "idle"], FVADDR, cover="regions") as run:
        first, second = run.covering(*run.targets)
        run.record(1, aggregations=3)
        # Without ranges the regions of a running target stay as they are.
        gone, stays = replace(first, obsolete_target=True, regions=()), replace(second, regions=())
        run.commit(replace(run.ctx, targets=(gone, stays)))
        run.record(1, aggregations=3)
    snaps = run.parts()[1].recording.snapshots
    expect.nothing(
        "targets still reported",
        [str(s.target_idx) for s in snaps if s.target_idx],
        because="one target is left, with index 0 (§5.6)",
    )
    before = [s for s in run.recording().of_target(1) if s.time_ns < run.commits[1].begin_ns][-1]
    ranges = sorted(run.targets[1].layout.values())
    outside = [s for s in snaps if s.start[0] != ranges[0][0] or s.end[-1] != ranges[-1][1]]
    expect.nothing(
        "reports of other memory",
        [str(s.time_ns) for s in outside],
        because="only the other target's ranges are monitored",
    )
    m = Measurement("oldest region after the commit", float(np.max(snaps[0].age)), "aggregations")
    expect.at_least(
        m,
        float(np.max(before.age)) + 1,
        because="idle memory only grows older, and its target stays",
        kind="closed form",
    )
