# SPDX-License-Identifier: GPL-2.0
"""Every filter type: what it matches, and what checking it does."""

from dataclasses import replace
from itertools import permutations

import pytest

from damon_tests.damon.params import ANY, U64_MAX, DamonCtx, DamonTarget, Damos, DamosFilter, Kdamond
from damon_tests.judge.verdict import Check, Measurement
from damon_tests.patterns import load
from damon_tests.patterns.spec import Action, Pattern, PatternRegion, Phase
from damon_tests.ports import NSEC_PER_SEC, huge_page_size, page_size
from damon_tests.scenario.filtered_run import STILL, WatchedMemory, pass_once, table_holds
from damon_tests.workload.pages import bytes_of

KINDS = "kinds_of_memory"
PATIENCE_NS = 20 * NSEC_PER_SEC
HUGE = huge_page_size()
PADDR = pytest.param("paddr", marks=pytest.mark.needs("ops.paddr"))
# stat asks page filters about virtual memory since 6.18, as does everything else that is new in it.
NEEDS_6_18 = pytest.mark.needs("ops.fvaddr", "ctx.addr_unit")
FVADDR = pytest.param("fvaddr", marks=[NEEDS_6_18, pytest.mark.profile("full")])
EITHER = pytest.mark.parametrize("operations", [PADDR, FVADDR])
NOWHERE = (DamonTarget(),)

SIZES = (
    (0, U64_MAX),
    (0, page_size() - 1),
    (page_size(), page_size()),
    (page_size() + 1, U64_MAX),
    (2 * page_size(), HUGE - 1),
    (HUGE, HUGE),
    (HUGE + 1, U64_MAX),
)


def alone(kinds):
    """Return a table with each filter alone, with either value of matching and allow."""
    table = {"no filter": Damos("stat", ANY)}
    for kind in kinds:
        for matching in (False, True):
            for allow in (False, True):
                item = replace(kind, matching=matching, allow=allow)
                table[words(item)] = Damos("stat", ANY, ops_filters=(item,))
    return table


def _in_filters(scheme):
    """Return the scheme with its page filters in filters/."""
    return replace(scheme, filters=scheme.ops_filters, ops_filters=())


def pairs(kinds):
    """Return a table with one filter that allows and another that rejects, in all orders."""
    table = {}
    for first, second in permutations(kinds, 2):
        items = (replace(first, matching=True, allow=True), replace(second, matching=True))
        table[", ".join(words(f) for f in items)] = Damos("stat", ANY, ops_filters=items)
    return table


def words(item):
    size = f" {item.min}..{item.max}" if item.type == "hugepage_size" else ""
    return f"{'allow' if item.allow else 'reject'} {'' if item.matching else 'not '}{item.type}{size}"


@EITHER
@pytest.mark.needs("ops_filters.hugepage_size", "ops_filters.unmapped", "stats.sz_ops_filter_passed")
def test_filters_match_pages_by_kind(live, expect, operations):
    """anon, hugepage_size (bounds included) and unmapped match exactly the pages of their kind."""
    kinds = [DamosFilter("anon"), DamosFilter("unmapped")]
    kinds += [DamosFilter("hugepage_size", min=low, max=high) for low, high in SIZES]
    with live(KINDS, DamonCtx(operations, attrs=STILL), cover="regions", source="none") as run:
        memory = WatchedMemory(run, operations)
        in_filters = {f"filters/: {n}": _in_filters(s) for n, s in alone(kinds[1:2]).items()}
        table = {**alone(kinds), **pairs((kinds[0], kinds[1], kinds[-2])), **in_filters}
        table = pass_once(run, memory, table)
    expect.add(table_holds(table))


@EITHER
@pytest.mark.needs("ops_filters.active", "stats.sz_ops_filter_passed", "ops.paddr", lru_lists=1)
def test_active_filter_matches_the_active_list(live, expect, operations):
    """active matches exactly the pages on an active list, where lru_prio has put half of them."""
    prio = Damos("lru_prio", ANY)
    idle = Kdamond(DamonCtx("paddr", attrs=STILL, targets=NOWHERE))
    kdamonds = [Kdamond(DamonCtx(operations, attrs=STILL)), idle]
    with live(KINDS, kdamonds, cover="regions", source="none") as run:
        physical, memory = WatchedMemory(run, "paddr"), WatchedMemory(run, operations)
        half = DamonTarget(regions=physical.ranges[0][::2])
        first, second = run.session.kdamonds
        helper = replace(second, ctx=replace(second.ctx, targets=(half,), schemes=(prio,)))
        run.session.commit((first, helper))
        # 6.19 and older need two passes; pages in a processor's batch are on no list for a while.
        run.session.record(until=lambda: run.client.stats(1, 0).nr_tried > 2 * len(half.regions))
        active = bytes_of(memory.pages().active)
        run.session.commit((first, replace(helper, ctx=replace(helper.ctx, schemes=()))))
        in_filters = {f"filters/: {n}": _in_filters(s) for n, s in alone([DamosFilter("active")]).items()}
        kinds = [DamosFilter("active"), DamosFilter("anon")]
        table = pass_once(run, memory, {**alone(kinds), **in_filters})
    m = Measurement("memory made active", active, "bytes")
    expect.at_least(m, page_size(), because="lru_prio activated some; else the filter is not tested")
    expect.add(table_holds(table))


@EITHER
@pytest.mark.needs("ops_filters.memcg", "stats.sz_ops_filter_passed")
def test_memcg_filter_matches_exactly_its_group(live, expect, operations):
    """memcg matches the memory of exactly its control group, not of its parent or another group."""
    patterns = [*(replace(load.load(KINDS), memcg=name) for name in ("one", "outer/inner")), KINDS]
    with live(patterns, DamonCtx(operations, attrs=STILL), watched=1, cover="regions", source="none") as run:
        memory = WatchedMemory(run, operations)
        paths = [memory.memcg(i) for i in range(len(patterns))]
        paths.append(paths[1].rpartition("/")[0])  # outer
        kinds = [DamosFilter("memcg", memcg_path=path) for path in paths]
        schemes = {}
        for path, kind in zip(paths, kinds, strict=True):
            schemes |= {f"{name} {path}": s for name, s in alone([kind]).items()}
        allowed = tuple(replace(k, matching=True, allow=True) for k in kinds[:2])
        schemes["either of two"] = Damos("stat", ANY, ops_filters=allowed)
        table = pass_once(run, memory, schemes)
    expect.add(table_holds(table))


@pytest.mark.profile("full")
@pytest.mark.needs("ops_filters.unmapped", "stats.sz_ops_filter_passed", "ops.paddr")
def test_unmapped_filter_matches_files_after_munmap(live, expect):
    """unmapped matches page cache pages of a file that no process maps any more."""
    with live(dropped_file(), DamonCtx("paddr", attrs=STILL), cover="regions", source="none") as run:
        memory = WatchedMemory(run, "paddr", most_pages=16)
        pages = memory.pages()
        gone = run.session.record(until=lambda: not run.pages("file").present.any(), timeout_ns=PATIENCE_NS)
        known = replace(pages, unmapped=~pages.anon)
        kinds = (DamosFilter("unmapped"), DamosFilter("anon"))
        table = pass_once(run, memory, {**alone(kinds), **pairs(kinds)}, known)
    expect.add(
        Check(
            "invariant",
            Measurement("mappings of the file gone", gone, "count"),
            "== 1",
            "the workload unmapped the file (munmap)",
            gone or None,
        )
    )
    expect.add(table_holds(table))


def dropped_file():
    """Return a pattern with a file that is mapped for two seconds, beside memory that stays."""
    size = 128 * page_size()
    regions = (PatternRegion("small", size), PatternRegion("file", size, memory="file"))
    phases = (
        Phase("mapped", 2 * NSEC_PER_SEC, ()),
        Phase("unmapped", 3600 * NSEC_PER_SEC, (), (Action("munmap", 0, "file", 0, size),)),
    )
    return Pattern("dropped_file", "pages of a file that is not mapped any more", regions, phases)
