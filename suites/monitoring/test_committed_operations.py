# SPDX-License-Identifier: GPL-2.0
"""Operations of a running context, changed by commits."""

from dataclasses import replace

import pytest

from damon_tests.damon.params import DamonAttrs, DamonCtx
from damon_tests.judge import rule_limits
from damon_tests.ports import NSEC_PER_SEC

ATTRS = DamonAttrs(aggr_us=50_000, update_us=100_000, min_nr_regions=10, max_nr_regions=100)


@pytest.mark.needs("ops.vaddr", "ops.fvaddr", "damon_aggregated", "commands.commit")
def test_committed_operations_follow_mappings_or_keep_ranges(live, expect):
    """fvaddr keeps its ranges; once vaddr is committed the mappings are monitored instead, and once fvaddr is
    committed again its ranges."""
    with live("idle", DamonCtx("fvaddr", attrs=ATTRS), cover="regions") as run:
        ranges = [list(r) for r in sorted(run.target.layout.values())]
        vmas = [vma for vma in run.subject.vmas(run.target) if vma[0] < 1 << 63]
        mapped = [list(r) for r in rule_limits.three_ranges(vmas)]
        reached = []
        for operations, wanted in (("fvaddr", ranges), ("vaddr", mapped), ("fvaddr", ranges)):
            if run.ctx.operations != operations:
                run.commit(replace(run.ctx, operations=operations))
            run.record(0.3, aggregations=4)  # an update interval is two aggregations
            last = [list(r) for r in rule_limits.covered(run.recording().snapshots[-1])]
            reached += [] if last == wanted else [f"{operations}: {last} instead of {wanted}"]
        alive = run.session.running()
        run.session.record(NSEC_PER_SEC // 10)
    expect.nothing(
        "coverage after a commit of other operations",
        [*reached, *([] if alive else ["the kdamond ended"])],
        because="a commit changes the operations, which say what is monitored (§3.1, §5.6)",
    )
