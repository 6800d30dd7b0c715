# SPDX-License-Identifier: GPL-2.0
"""Actions on locked memory (mlock): it is neither taken away nor counted as taken."""

import pytest

from damon_tests.damon.params import DamonAttrs, DamonCtx
from damon_tests.judge.schemes import effects
from damon_tests.judge.verdict import Measurement
from damon_tests.patterns.spec import Pattern, PatternRegion, Phase
from damon_tests.ports import NSEC_PER_SEC
from damon_tests.scenario.acting import BEFORE_APPLY, act, scheme

pytestmark = pytest.mark.needs("schemes.pageout", BEFORE_APPLY, swap_mib=256)

MIB = 1 << 20
ATTRS = DamonAttrs(min_nr_regions=10, max_nr_regions=100)
WATCHED = {"cover": "regions", "extra_events": [BEFORE_APPLY]}
# Each in a mapping of its own: a hint about a range fails as a whole where one of its mappings is locked.
MEMORY = Pattern(
    name="locked_and_not",
    reason="locked memory beside memory that is not, left alone",
    regions=(PatternRegion("data", 8 * MIB), PatternRegion("locked", 8 * MIB, lock=True)),
    phases=(Phase("idle", 3600 * NSEC_PER_SEC, ()),),
    repeat=True,
    gap_bytes=2 * MIB,
)


def swapped(pages):
    return pages.swapped


def frames_of(target, *regions):
    physical = target.physical()
    return sorted(r for name in regions for r in physical[name])


@pytest.mark.needs("ops.paddr")
def test_locked_physical_pages_stay(live, expect):
    """pageout of physical memory leaves locked pages where they are, and counts only the others."""
    with live(MEMORY, DamonCtx("paddr", attrs=ATTRS), **WATCHED) as run:
        done = act(run, scheme("pageout"), over=frames_of(run.target, "data", "locked"), passes=3)
    before, after = done.pair("data")
    effect = effects.effect(before, after, before.present, swapped)
    effect += effects.all_spared(done.others("data"))
    expect.add(
        effects.takes_effect("pageout", effect, "evictable pages are reclaimed (§4.10)", least=4 * MIB)
    )
    low = effect.gained - (effect.asked - effect.able)
    why = "sz_applied counts the pages that were reclaimed (§4.10)"
    expect.add(
        effects.applied("pageout", done.stats[0].sz_applied, low, effect.gained, why, effect=effect.gained)
    )


@pytest.mark.profile("full")
@pytest.mark.needs("ops.fvaddr")
@pytest.mark.parametrize("action", ["pageout", "cold"])
def test_madvise_actions_fail_on_locked_memory(live, expect, action):
    """An madvise() action on a locked mapping fails: nothing happens
    to it, and nothing of it counts as applied."""
    with live(MEMORY, DamonCtx("fvaddr", attrs=ATTRS), **WATCHED) as run:
        layout = run.target.layout
        done = act(run, scheme(action), over=list(layout.values()), passes=2)
    expect.add(effects.spares_others(f"{action}, locked", effects.spared(*done.pair("locked"))))
    counted = {
        name: sum(e.end - e.start for e in done.counted[0] if start <= e.start and e.end <= end)
        for name, (start, end) in layout.items()
    }
    m = Measurement("locked bytes tried", counted["locked"], "bytes")
    expect.at_least(m, 8 * MIB, because="the scheme matches locked memory like any other")
    why = "sz_applied is the whole length where the call succeeds, 0 where it fails (§4.10)"
    before, after = done.pair("data")
    wanted = swapped if action == "pageout" else lambda pages: ~pages.active
    effect, whole = effects.effect(before, after, before.present, wanted), counted["data"]
    expect.add(effects.applied(action, done.stats[0].sz_applied, whole, whole, why, effect=effect.gained))
    if action == "pageout":
        expect.add(
            effects.takes_effect(
                action, effect, "madvise(MADV_PAGEOUT) reclaims the unlocked mapping (§4.10)", least=4 * MIB
            )
        )
