# SPDX-License-Identifier: GPL-2.0
"""Destinations of a running migration scheme, changed by commits: pages follow from the next pass on."""

from dataclasses import replace

import pytest

from damon_tests.damon.params import DamonAttrs, DamonCtx, DamosDest
from damon_tests.judge.schemes import effects
from damon_tests.judge.verdict import Check, Measurement
from damon_tests.kernel.guest.topology import Topology
from damon_tests.ports import NSEC_PER_SEC, page_size
from damon_tests.scenario.acting import BEFORE_APPLY, fewest, middle, scheme

pytestmark = pytest.mark.needs("schemes.migrate_hot", "schemes.dests", BEFORE_APPLY, numa_nodes=2)

VADDR = DamonCtx("vaddr", attrs=DamonAttrs(min_nr_regions=10, max_nr_regions=100))
STEPS = {
    # Each pair sends all pages to node 1, then to node 0.
    "nodes": ({"dests": (DamosDest(1, 1),)}, {"dests": (DamosDest(0, 1),)}),
    "weights": (
        {"dests": (DamosDest(0, 0), DamosDest(1, 1))},
        {"dests": (DamosDest(0, 1), DamosDest(1, 0))},
    ),
    "added": ({"target_nid": 1}, {"target_nid": 1, "dests": (DamosDest(0, 1),)}),
    "removed": ({"target_nid": 0, "dests": (DamosDest(1, 1),)}, {"target_nid": 0}),
    "target_nid": ({"target_nid": 1}, {"target_nid": 0}),
}
# Pages that are put back wait in batches of 31 (include/linux/pagevec.h), one for each CPU.
WAITING = 31 * Topology().cpus * page_size()
QUICK = ("weights", "target_nid")
FULL = pytest.mark.profile("full")


def commit_and_wait(run, part, **destinations):
    """Commit the scheme with these destinations; return its pages once it was tried twice on all of them."""
    since_ns = run.clock.now_ns()
    run.commit(replace(run.ctx, schemes=(scheme("migrate_hot", part, **destinations),)))
    since_ns = run.commits[-1].end_ns or since_ns

    def done():
        tried = [e for e in run.session.events(BEFORE_APPLY) if e.time_ns >= since_ns]
        return fewest(tried, [part]) >= 2

    in_time = run.session.record(180 * NSEC_PER_SEC, until=done)
    return run.pages("data"), in_time


@pytest.mark.parametrize("name", [s if s in QUICK else pytest.param(s, marks=FULL) for s in STEPS])
def test_committed_destinations_move_pages_there_and_back(live, expect, name):
    """Pages move to the committed destination, and after the next commit to the other one."""
    there, back = STEPS[name]
    with live(["two_idle_regions"], VADDR, cover="regions", watched=1, extra_events=[BEFORE_APPLY]) as run:
        part = middle(run.target.layout["data"])
        first = run.pages("data")
        second, soon = commit_and_wait(run, part, **there)
        third, later = commit_and_wait(run, part, **back)
    m = Measurement("commits whose scheme was tried", float(soon + later), "count")
    expect.add(Check("invariant", m, "== 2", "else nothing is tested", True if soon and later else None))
    why = "a running scheme moves pages where the last commit says (§4.10, §5.6)"
    for before, after, nid in ((first, second, 1), (second, third, 0)):
        asked = effects.in_ranges(before, [part])
        effect = effects.effect(before, after, asked, lambda pages, nid=nid: pages.node == nid)
        expect.add(effects.takes_effect(f"{name}, node {nid}", effect, why, waiting=WAITING))
