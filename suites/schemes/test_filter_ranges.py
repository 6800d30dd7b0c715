# SPDX-License-Identifier: GPL-2.0
"""Address filters that cut regions, filters changed online, and results by region."""

from dataclasses import replace

import numpy as np
import pytest

from damon_tests.damon.params import ANY, DamonAttrs, DamonCtx, Damos, DamosFilter
from damon_tests.damon.series import Series
from damon_tests.judge.schemes.filters import verdicts
from damon_tests.judge.verdict import Check, Measurement
from damon_tests.ports import huge_page_size, page_size
from damon_tests.scenario.filtered_run import STILL, WatchedMemory
from damon_tests.scenario.invariants import invariants
from damon_tests.workload.pages import bytes_of

pytestmark = pytest.mark.needs("ops.fvaddr", "filters.addr", "tried_regions.total_bytes")

FVADDR = DamonCtx("fvaddr", attrs=DamonAttrs(min_nr_regions=10, max_nr_regions=100))
MIB = 1 << 20


def reject(start, end, *, inside):
    return DamosFilter("addr", matching=inside, addr_start=start, addr_end=end)


def pages_of(ranges):
    """Return the page numbers of byte ranges, each as often as it is in one."""
    each = [np.arange(a // page_size(), b // page_size()) for a, b in ranges]
    return np.concatenate([np.zeros(0, np.int64), *each])


def tried_ranges(run, scheme, update=False):
    regions = run.client.tried_regions(0, scheme, update=update)
    return regions, list(zip(regions.regions.start.tolist(), regions.regions.end.tolist(), strict=True))


def test_address_filters_cut_regions_at_their_bounds(live, expect):
    """Regions are cut at a filter's bounds, aligned down to pages: exactly what it lets through is tried."""
    with live("idle", FVADDR, cover="regions", source="events") as run:
        start, end = run.target.layout["data"]
        low, high = start + 5 * MIB + 7 * page_size() + 123, start + 23 * MIB + 4 * page_size() - 1
        first, second = (low, high), (high - 2 * MIB, end)
        cuts = {
            "rejects the rest": (reject(*first, inside=False),),
            "rejects it": (reject(*first, inside=True),),
            "rejects the rest of two": (reject(*first, inside=False), reject(*second, inside=False)),
            "rejects both": (reject(*first, inside=True), reject(*second, inside=True)),
        }
        schemes = (Damos("stat", ANY), *(Damos("stat", ANY, filters=items) for items in cuts.values()))
        run.commit(replace(run.ctx, schemes=schemes))
        aligned = [tuple(b // page_size() * page_size() for b in r) for r in (first, second)]
        every, (a, b) = pages_of([(start, end)]), (pages_of([r]) for r in aligned)
        wanted = [
            every,
            a,
            np.setdiff1d(every, a),
            np.intersect1d(a, b),
            np.setdiff1d(np.setdiff1d(every, a), b),
        ]
        outside, left, wrong_sums = [], [], []
        # Else what is right of a cut waits for the next pass.
        complete = Series.of(run.level).visits_rest_of_split_region
        for round_ in range(3):
            run.client.command(0, "update_schemes_tried_regions")
            for i, name in enumerate(("is without filter", *cuts)):
                result, ranges = tried_ranges(run, i)
                pages = pages_of(ranges)
                outside += [
                    f"round {round_}, one that {name}: page {p:#x}" for p in np.setdiff1d(pages, wanted[i])
                ]
                if complete:
                    left += [
                        f"round {round_}, one that {name}: page {p:#x}"
                        for p in np.setdiff1d(wanted[i], pages)
                    ]
                if result.total_bytes != len(pages) * page_size():
                    wrong_sums.append(f"one that {name}: {result.total_bytes} for {len(pages)} pages")
            run.record(0.3)
    expect.nothing(
        "pages tried beyond a filter's borders",
        outside,
        because="nothing beyond a filter's bounds is tried (I53)",
    )
    expect.nothing(
        "pages not tried within them",
        left,
        because="the parts of a cut region are visited as regions of their own (§4.2)",
    )
    expect.nothing(
        "total_bytes that are no sum", wrong_sums, because="total_bytes is the sum of the tried regions (I7)"
    )
    expect.add(invariants(run))


@pytest.mark.known_defect("tried-counts-uncut-regions")
@pytest.mark.profile("full")
@pytest.mark.needs("damos_before_apply")
def test_sz_tried_counts_regions_after_the_cut(live, expect):
    """sz_tried counts what is left of a region after its filters cut it."""
    with live("idle", FVADDR, cover="regions", source="events", extra_events=["damos_before_apply"]) as run:
        start, _ = run.target.layout["data"]
        part = reject(start + 5 * MIB + page_size(), start + 23 * MIB, inside=False)
        run.commit(replace(run.ctx, schemes=(Damos("stat", ANY, filters=(part,)),)))
        run.record(1)
        stats = run.client.stats(0, 0)
    events = run.session.events("damos_before_apply")
    outside = [e for e in events if e.start < start + 5 * MIB + page_size() or e.end > start + 23 * MIB]
    why = "a filter cuts regions at its bounds (§4.8)"
    expect.nothing("regions tried outside", map(str, outside[:1]), because=why, judged=len(events))
    sizes = [event.end - event.start for event in events][: stats.nr_tried]
    m = Measurement("bytes tried, beyond those of the traced regions", stats.sz_tried - sum(sizes), "bytes")
    expect.equal(
        m, 0, because=f"sz_tried is the sum of {len(sizes)} tried regions, cut at the filter's bounds (I54)"
    )


PADDR = pytest.param("paddr", marks=pytest.mark.needs("ops.paddr"))
FVADDR_FULL = pytest.param("fvaddr", marks=[pytest.mark.needs("ctx.addr_unit"), pytest.mark.profile("full")])
EITHER = pytest.mark.parametrize("operations", [PADDR, FVADDR_FULL])


@EITHER
@pytest.mark.needs("ops_filters.anon", "tried_regions.sz_filter_passed")
def test_huge_page_across_regions_is_counted_once(live, expect, operations):
    """A huge page across regions is counted once, and no small page is left out."""
    scheme = Damos("stat", ANY, ops_filters=(DamosFilter("anon", matching=True, allow=True),))
    ctx = replace(FVADDR, operations=operations, schemes=(scheme,))
    wrong, inside = [], 0
    with live("kinds_of_memory", ctx, cover="regions", source="none") as run:
        run.record(0.5)
        for _ in range(3):
            states = {name: run.pages(name) for name in ("small", "huge")}
            result, ranges = tried_ranges(run, 0, update=True)
            heads = states["huge"].frame if operations == "paddr" else pages_of([run.target.layout["huge"]])
            inside += int(np.isin([a // page_size() for a, _ in ranges if a % huge_page_size()], heads).sum())
            met = [s.present & (s.lru if operations == "paddr" else True) for s in states.values()]
            wanted, total = sum(map(bytes_of, met)), int(result.regions.sz_filter_passed.sum())
            wrong += (
                [] if total == wanted else [f"{total} instead of {wanted} bytes in {len(ranges)} regions"]
            )
            run.record(0.2)
    m = Measurement("regions that begin inside a huge page", inside, "count")
    expect.add(
        Check(
            "invariant", m, ">= 1", "a region begins inside one; else nothing is tested", inside >= 1 or None
        )
    )
    expect.nothing(
        "passes with other sizes", wrong, because="each folio counts once, and none is left out (§4.10)"
    )


@EITHER
@pytest.mark.needs("ops_filters.anon", "tried_regions.sz_filter_passed")
def test_committed_filters_hold_from_the_next_pass(live, expect, operations):
    """Committed filters, defaults included, hold from the next pass
    on; regions report what passed in each."""
    anon = DamosFilter("anon", matching=True)
    wrong = []
    with live("kinds_of_memory", DamonCtx(operations, attrs=STILL), cover="regions", source="none") as run:
        memory = WatchedMemory(run, operations)
        half = memory.ranges[0][: len(memory.ranges[0]) // 2]
        range_ = DamosFilter("addr", matching=True, allow=True, addr_start=half[0][0], addr_end=half[-1][1])
        for name, filters in {
            "allow anon": {"ops_filters": (replace(anon, allow=True),)},
            "reject anon": {"ops_filters": (anon,)},
            "reject not anon, reject anon": {"ops_filters": (replace(anon, matching=False), anon)},
            "allow range": {"core_filters": (range_,)},
            "allow range, reject anon": {"core_filters": (range_,), "ops_filters": (anon,)},
            "no filter": {},
        }.items():
            scheme = Damos("stat", ANY, **filters)
            run.commit(replace(run.ctx, targets=memory.targets(), schemes=(scheme,)))
            before = memory.pages()
            result, ranges = tried_ranges(run, 0, update=True)
            moments = (before, memory.pages())
            wrong += [f"{name}: {what}" for what in differences(scheme, moments, result, ranges, operations)]
    expect.nothing(
        "regions reported wrongly after a commit",
        wrong,
        because="a committed filter decides from the next pass on (§5.6, §4.8)",
    )


def differences(scheme, moments, result, ranges, operations):
    """Return every way in which pages contradict a scheme's tried regions."""
    wrong, before = [], moments[0]
    tried = verdicts(scheme, before, operations).tried
    wanted = np.unique(before.address[tried])
    addresses = pages_of(ranges) * page_size()
    if not np.array_equal(np.unique(addresses), wanted):
        wrong.append(f"tried {len(np.unique(addresses))} pages instead of {len(wanted)}")
    for (start, end), passed in zip(ranges, result.regions.sz_filter_passed.tolist(), strict=True):
        sizes = [verdicts(scheme, m.within([(start, end)]), operations).passed_bytes for m in moments]
        if not min(sizes) <= passed <= max(sizes):
            wrong.append(
                f"[{start:#x}, {end:#x}): {passed} bytes passed instead of {min(sizes)} to {max(sizes)}"
            )
    return wrong


@pytest.mark.needs("ops.paddr", "ctx.addr_unit", "core_filters.addr", "ops_filters.anon")
@pytest.mark.parametrize("addr_unit", [page_size(), pytest.param(512, marks=pytest.mark.profile("full"))])
def test_filters_are_in_address_units(live, expect, addr_unit):
    """Addresses of filters and passed bytes are in the context's address units."""
    anon = DamosFilter("anon", matching=True, allow=True)
    with live("kinds_of_memory", DamonCtx("paddr", attrs=STILL), cover="regions", source="none") as run:
        memory = WatchedMemory(run, "paddr")
        ranges = memory.ranges[0]
        half = (ranges[0][0], ranges[len(ranges) // 2 - 1][1])
        in_bytes = Damos("stat", ANY, core_filters=(reject(*half, inside=True),), ops_filters=(anon,))
        item = replace(
            in_bytes.core_filters[0], addr_start=half[0] // addr_unit, addr_end=half[1] // addr_unit
        )
        target = replace(
            memory.targets()[0], regions=tuple((a // addr_unit, b // addr_unit) for a, b in ranges)
        )
        before = memory.pages()
        scheme = replace(in_bytes, core_filters=(item,))
        run.commit(replace(run.ctx, addr_unit=addr_unit, targets=(target,), schemes=(scheme,)))
        result, units = tried_ranges(run, 0, update=True)
        after = memory.pages()
    passed_units = result.regions.sz_filter_passed
    result = replace(
        result,
        regions=replace(result.regions, sz_filter_passed=passed_units * np.uint64(addr_unit)),
    )
    in_bytes_ranges = [(a * addr_unit, b * addr_unit) for a, b in units]
    wrong = differences(in_bytes, (before, after), result, in_bytes_ranges, "paddr")
    expect.nothing("regions reported wrongly", wrong, because="core addresses are in address units (§3.7)")
