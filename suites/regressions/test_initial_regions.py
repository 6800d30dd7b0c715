# SPDX-License-Identifier: GPL-2.0
"""The first layout of vaddr: ranges that do not divide evenly are cut evenly all the same (§8.3, 12)."""

import pytest

from damon_tests.damon.params import DamonAttrs, DamonCtx
from damon_tests.damon.series import Series
from damon_tests.judge.verdict import Measurement
from damon_tests.patterns.spec import Pattern, PatternRegion, Phase
from damon_tests.ports import page_size

MIB = 1 << 20
PAGE = page_size()
MIN_NR_REGIONS = 10
ATTRS = DamonAttrs(min_nr_regions=MIN_NR_REGIONS, max_nr_regions=100)
# A prime number of pages.
ODD = Pattern(
    "odd",
    "idle, of 12289 pages",
    (PatternRegion("data", 12_289 * PAGE, hugepage=False),),
    (Phase("steady", 3600 * 10**9, ()),),
)


def uneven(snapshot):
    """Return the regions whose size is not that of the first one in their range; a last one may be larger."""
    spans = [tuple(span) for span in zip(snapshot.start.tolist(), snapshot.end.tolist(), strict=True)]
    wrong, first = [], spans[0]
    for span, following in zip(spans, [*spans[1:], (0, 0)], strict=True):
        size, wanted = span[1] - span[0], first[1] - first[0]
        is_last = following[0] != span[1]
        if (not is_last and size != wanted) or (is_last and not wanted <= size < 2 * wanted):
            wrong.append(f"{span[0]:#x}-{span[1]:#x}: {size} bytes beside {wanted}")
        if is_last:
            first = following
    return wrong


@pytest.mark.needs("ops.vaddr", "damon_aggregated")
def test_initial_regions_of_a_range_are_equal_but_the_last(live, expect):
    """Until 7.0 a range is first cut into equal regions, the last of which takes the rest; later
    series cut at random until there are min_nr_regions."""
    with live(ODD, DamonCtx("vaddr", attrs=ATTRS), cover="process") as run:
        run.record(0.4, aggregations=1)
    first = run.recording().snapshots[0]
    if Series.of(run.level).enforces_min_nr_regions:
        count = Measurement("regions of the first layout", len(first.start), "regions")
        expect.at_least(count, MIN_NR_REGIONS, because="the first layout has min_nr_regions regions (§2.6)")
    else:
        expect.nothing(
            "uneven regions of the first layout",
            uneven(first),
            because="a range is cut into equal pieces, and the last takes the rest (§3.1)",
        )
