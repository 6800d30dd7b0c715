# SPDX-License-Identifier: GPL-2.0
"""The DAMON under test beside the reference at its level: same request, same accesses, same distributions.

On a kernel this shows that the reference is faithful, or that the kernel differs. On the reference itself it
shows that the comparison raises no false alarms.
"""

from dataclasses import replace

import pytest

from damon_tests.damon.params import (
    ANY,
    U32_MAX,
    DamonAttrs,
    DamonCtx,
    Damos,
    DamosAccessPattern,
    DamosQuota,
)
from damon_tests.scenario.conformance import EVERYTHING, attempt, compare_with_reference
from damon_tests.scenario.invariants import invariants

# Up to eight attempts of seconds each, and with --guest-clock host only on a quiet machine: not for gates.
pytestmark = [
    pytest.mark.accuracy,
    pytest.mark.needs("ops.fvaddr", "damon_aggregated"),
    pytest.mark.profile("full"),
]

ATTRS = DamonAttrs(min_nr_regions=10, max_nr_regions=100)
FVADDR = DamonCtx("fvaddr", attrs=ATTRS)
SETTLED_S = 1.0

HALF = ATTRS.samples_per_aggr // 2
HOT = replace(ANY, nr_accesses_min=HALF)
OLD = DamosAccessPattern(0, ANY.sz_max, 0, 0, 5, U32_MAX)
SMALL = DamosAccessPattern(0, 1 << 20, 0, U32_MAX, 0, U32_MAX)

STATS = (
    EVERYTHING,
    Damos(access_pattern=HOT),
    Damos(access_pattern=OLD),
    Damos(access_pattern=SMALL),
    Damos(access_pattern=replace(HOT, age_min=3)),
    EVERYTHING,
)
# 2.5 aggregations a charge window, so that each has 3 passes on machines that run up to a fifth slow.
LIMITED = DamosQuota(
    bytes=2 << 20, reset_interval_ms=250, weight_nr_accesses_permil=1000, weight_age_permil=1000
)
ACTIONS = (
    EVERYTHING,
    Damos(access_pattern=OLD, action="pageout", quota=LIMITED),
    Damos(access_pattern=OLD, action="cold", quota=LIMITED),
    Damos(access_pattern=SMALL, action="lru_prio"),  # unknown to virtual addresses: tried, never applied
    EVERYTHING,
)


def check(live, expect, pattern, ctx, seconds):
    made = []

    def make():
        made.append(attempt(live, pattern, ctx, seconds, cover="regions"))
        expect.add(invariants(made[-1].seen))
        return made[-1]

    expect.add(compare_with_reference(make, after_s=SETTLED_S))


@pytest.mark.parametrize("pattern", ["hot_cold", "everything_hot", "many_islands", "idle"])
def test_monitoring_matches_the_reference(live, expect, pattern):
    """Numbers and sizes of regions, access rates and ages of hot and
    idle memory, and boundaries match the reference."""
    check(live, expect, pattern, FVADDR, 4)


def test_moving_hot_set_matches_the_reference(live, expect):
    """While the hot set climbs, DAMON follows it as fast as the reference."""
    check(live, expect, "stairs", FVADDR, 6)


def test_scheme_statistics_match_the_reference(live, expect):
    """Schemes that only count, by access rate, age and size, count what the reference counts."""
    check(live, expect, "hot_cold", replace(FVADDR, schemes=STATS), 3)


def test_scheme_statistics_of_a_moving_hot_set_match_the_reference(live, expect):
    """The same schemes count what the reference counts while the hot set climbs."""
    check(live, expect, "stairs", replace(FVADDR, schemes=STATS), 6)


@pytest.mark.known_defect("split-rest-visited-in-same-pass")
def test_quotas_and_actions_match_the_reference(live, expect):
    """Quotas with priorities, and actions that succeed, do nothing or
    are unknown, count what the reference counts."""
    check(live, expect, "hot_cold", replace(FVADDR, schemes=ACTIONS), 3)


@pytest.mark.known_defect("first-window-without-quota")
@pytest.mark.known_defect("split-rest-visited-in-same-pass")
def test_first_window_keeps_its_quota_as_the_reference_does(live, expect):
    """A scheme for all memory that may try only some of it keeps to its quota from the first pass on."""
    schemes = (EVERYTHING, Damos(access_pattern=ANY, quota=LIMITED), EVERYTHING)
    check(live, expect, "hot_cold", replace(FVADDR, schemes=schemes), 3)
