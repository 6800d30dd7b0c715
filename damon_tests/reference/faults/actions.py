# SPDX-License-Identifier: GPL-2.0
"""Wrong effects of actions: on the wrong memory, another effect than asked for, none, or counted wrongly."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from damon_tests.ports import huge_page_size, page_size, pages_per_huge
from damon_tests.ports.arrays import I64, Bools
from damon_tests.ports.ranges import Range
from damon_tests.reference.faults.fault import Fault
from damon_tests.reference.rules import schemes as damos

_COUNTS = "nohugepage"  # does nothing to memory that is there, and counts as applied


def _instead(wrong: str, *actions: str, ops: str = "") -> Callable[[str, str], str]:
    """Another action is done (or, with an unknown name, none) where one of these is asked for."""

    def done(operations: str, action: str) -> str:
        return wrong if action in actions and operations.startswith(ops) else action

    return done


def _equal_weights(index: I64, dests: Sequence[Range]) -> I64:
    return damos.interleaved(index, [(nid, 1) for nid, _ in dests])


def _first_dest(index: I64, dests: Sequence[Range]) -> I64:
    return damos.interleaved(index, dests[:1])


def _reversed_weights(index: I64, dests: Sequence[Range]) -> I64:
    nids = [nid for nid, _ in dests]
    return damos.interleaved(index, list(zip(nids, [weight for _, weight in reversed(dests)], strict=True)))


def _in_order_of_visits(index: I64, dests: Sequence[Range]) -> I64:
    # The right shares, but by when a page is visited: each pass shuffles pages around.
    return damos.interleaved(index - index[:1] + 1, dests)


def _zero_weights_move(index: I64, dests: Sequence[Range]) -> I64:
    return damos.interleaved(index, dests if any(w for _, w in dests) else [(nid, 1) for nid, _ in dests])


def _off_by_one_node(nids: I64) -> I64:
    return np.where(nids > 0, nids - 1, nids)


def _nearest_node(nids: I64) -> I64:
    # An invalid node is corrected instead of refused.
    return np.clip(nids, 0, 1)


def _from_block_to_block(start: int, end: int) -> Range:
    huge = huge_page_size()
    return start // huge * huge, -(-end // huge) * huge


def _a_whole_page_further(frames: I64, in_huge: Bools) -> I64:
    inside = int(frames[0]) % pages_per_huge() if len(frames) and in_huge[0] else 0
    return np.delete(frames, slice(pages_per_huge() - inside, pages_per_huge())) if inside else frames


def _fault(name: str, imitates: str, rule: str, wrong: object) -> Fault:
    return Fault(name, "schemes", imitates, rule, wrong)


def _other(name: str, imitates: str, wrong: Callable[[str, str], str]) -> Fault:
    return _fault(name, imitates, "action_done", wrong)


FAULTS = (
    _other("willneed_does_nothing", "willneed reads nothing back", _instead(_COUNTS, "willneed")),
    _other("cold_does_nothing", "cold leaves pages on the active list", _instead(_COUNTS, "cold")),
    _other("cold_pages_out", "cold takes memory away", _instead("pageout", "cold")),
    _other("pageout_only_cools", "pageout reclaims nothing", _instead("cold", "pageout", ops="vaddr")),
    _other(
        "paddr_pageout_only_cools",
        "pageout of physical memory only deactivates",
        _instead("lru_deprio", "pageout", ops="paddr"),
    ),
    _other("hugepage_does_nothing", "hugepage is accepted and forgotten", _instead(_COUNTS, "hugepage")),
    _other("nohugepage_asks_for_huge_pages", "the advice is inverted", _instead("hugepage", "nohugepage")),
    _other("nohugepage_does_nothing", "huge pages still come", _instead("willneed", "nohugepage")),
    _other("collapse_only_advises", "collapse leaves the work to khugepaged", _instead(_COUNTS, "collapse")),
    _other("lru_prio_deprioritises", "lru_prio deactivates", _instead("lru_deprio", "lru_prio")),
    _other("lru_deprio_does_nothing", "lru_deprio does nothing", _instead("nothing", "lru_deprio")),
    _other("lru_deprio_pages_out", "lru_deprio reclaims", _instead("pageout", "lru_deprio")),
    _other("migrate_does_nothing", "pages stay", _instead("nothing", "migrate_hot", "migrate_cold")),
    _other("migrate_cold_does_nothing", "cold pages stay", _instead("nothing", "migrate_cold")),
    _other("migrate_hot_does_nothing", "hot pages stay", _instead("nothing", "migrate_hot")),
    _other("stat_acts", "watching changes what is watched", _instead("lru_prio", "stat", ops="paddr")),
    _other("stat_pages_out", "stat is taken for pageout", _instead("pageout", "stat")),
    _other("paddr_cold_acts", "an unsupported action is done", _instead("lru_deprio", "cold", ops="paddr")),
    _other(
        "paddr_willneed_acts", "an unsupported action is done", _instead("lru_prio", "willneed", ops="paddr")
    ),
    _other(
        "vaddr_lru_prio_acts", "an unsupported action is done", _instead("willneed", "lru_prio", ops="vaddr")
    ),
    _fault(
        "action_a_page_too_far",
        "an action takes a page behind its region",
        "action_range",
        lambda start, end: (start, end + page_size()),
    ),
    _fault(
        "action_misses_the_first_page",
        "an action begins a page late",
        "action_range",
        lambda start, end: (start + page_size(), end),
    ),
    _fault(
        "action_on_whole_blocks",
        "an action takes all of the huge pages' blocks that its region touches",
        "action_range",
        _from_block_to_block,
    ),
    _fault(
        "action_on_the_neighbour",
        "an action works on the memory behind its region",
        "action_range",
        lambda start, end: (end, end + (end - start)),
    ),
    _fault("pageout_takes_locked_pages", "mlock does not protect from pageout", "locked_stays", False),
    _fault("pageout_takes_dirty_pages", "pages of files go that are not written back", "dirty_stays", False),
    _fault("pageout_takes_young_pages", "memory in use is reclaimed", "pageout_spares_young", False),
    _fault(
        "applied_without_effect",
        "pages count as applied that were neither reclaimed nor moved",
        "pages_applied",
        lambda done, visited: visited,
    ),
    _fault(
        "applied_never", "reclaimed and moved pages are not counted", "pages_applied", lambda done, visited: 0
    ),
    _fault(
        "migrates_to_another_node",
        "pages go to a node that was not named",
        "migration_node",
        _off_by_one_node,
    ),
    _fault("migrates_to_a_node_that_is", "an invalid node is corrected", "migration_node", _nearest_node),
    _fault(
        "migrate_loses_pages",
        "pages that cannot go to an invalid node stay isolated (6.17 to 7.0)",
        "unmovable_is_put_back",
        False,
    ),
    _fault(
        "migrate_within_the_node",
        "what finds no room on a node is copied within its own, and counts as moved (7.2 and older)",
        "full_node_refuses",
        False,
    ),
    _fault(
        "walk_steps_from_the_middle",
        "a walk that begins within a huge page misses pages behind it (7.2 and older)",
        "walked_frames",
        _a_whole_page_further,
    ),
    _fault(
        "walk_skips_every_eighth_page",
        "a walk over physical memory never visits one frame in eight",
        "walked_frames",
        lambda frames, in_huge: frames[frames % 8 != 7],
    ),
    _fault(
        "vaddr_stat_asks_no_filters",
        "stat on vaddr passes no pages (6.17 and older)",
        "vaddr_filters_pages",
        False,
    ),
    _fault("dests_weights_ignored", "destinations get equal shares", "interleaved", _equal_weights),
    _fault("dests_only_first", "all goes to the first destination", "interleaved", _first_dest),
    _fault(
        "dests_weights_reversed", "each destination has another's weight", "interleaved", _reversed_weights
    ),
    _fault("dests_by_visit", "shares depend on where regions begin", "interleaved", _in_order_of_visits),
    _fault("dests_without_weight", "weights of 0 in total move pages", "interleaved", _zero_weights_move),
    _fault("dests_on_paddr", "physical memory follows dests", "dests_need_vaddr", False),
)
