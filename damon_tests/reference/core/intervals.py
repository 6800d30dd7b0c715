# SPDX-License-Identifier: GPL-2.0
"""Change intervals while monitoring: by a commit, or by automatic tuning (specification §2.12, §2.8)."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from damon_tests.damon.params import U32_MAX, DamonAttrs
from damon_tests.reference.core.context import Context, check_attrs, check_weights
from damon_tests.reference.rules.monitoring import tuning_score


def commit_attrs(ctx: Context, attrs: DamonAttrs) -> None:
    """Commit attributes; equal ones leave the running window alone (6.18+)."""
    same = replace(ctx.attrs, probes=()) == replace(attrs, probes=())
    if same and ctx.rules.equal_attrs_keep_window:
        ctx.attrs = attrs  # probes are not among the compared fields
        return
    check_attrs(attrs)
    check_weights(attrs, ctx.rules)
    # The ratio is the user's: a commit sets it anew, tuning keeps it.
    ctx.aggr_samples = ctx.rules.samples_in(attrs.aggr_us, attrs.sample_us)
    set_attrs(ctx, attrs)


def set_attrs(ctx: Context, attrs: DamonAttrs) -> None:
    """Install attributes: reschedule everything from now and express all counters in the new intervals."""
    rules, old = ctx.rules, ctx.attrs
    in_window = ctx.passed < ctx.next_aggr and rules.rescale_restarts_window
    ctx.next_aggr = ctx.passed + rules.samples_in(attrs.aggr_us, attrs.sample_us)
    ctx.next_update = ctx.passed + rules.samples_in(attrs.update_us, attrs.sample_us)
    if old.sample_us and old.aggr_us and attrs.sample_us and attrs.aggr_us:
        _rescale(ctx, old, attrs, in_window)
    ctx.attrs = attrs
    for scheme in ctx.schemes:
        scheme.schedule(ctx.passed, ctx.samples, attrs.aggr_us)


def _rescale(ctx: Context, old: DamonAttrs, new: DamonAttrs, in_window: bool) -> None:
    rules, regions = ctx.rules, ctx.regions
    windows = [max(min(rules.samples_in(a.aggr_us, a.sample_us), U32_MAX), 1) for a in (old, new)]
    convert = rules.rescale_accesses
    if in_window or rules.rescale_last_between_windows:
        regions.last_nr_accesses = convert(regions.last_nr_accesses, *windows)
        regions.last_probe_hits = convert(regions.last_probe_hits, *windows) & 0xFF
    if in_window:
        regions.nr_accesses = np.zeros_like(regions.nr_accesses)
        regions.probe_hits = np.zeros_like(regions.probe_hits)
        regions.nr_accesses_bp = regions.last_nr_accesses * 10_000
    else:
        regions.nr_accesses = convert(regions.nr_accesses, *windows)
        regions.probe_hits = convert(regions.probe_hits, *windows) & 0xFF
        regions.nr_accesses_bp = regions.nr_accesses * 10_000
    regions.age = rules.rescale_age(regions.age, old.aggr_us, new.aggr_us)


def tune(ctx: Context) -> int | None:
    """Adapt the intervals to the goal. Returns the new sample_us, None when the goal was met exactly."""
    rules, attrs, goal = ctx.rules, ctx.attrs, ctx.attrs.intervals_goal
    sizes = ctx.regions.sizes.tolist()
    events = sum(s * nr for s, nr in zip(sizes, ctx.regions.nr_accesses.tolist(), strict=True))
    score = tuning_score(sum(sizes) * ctx.aggr_samples, events, goal.access_bp)
    adaptation = rules.tuning_adaptation(score)
    if adaptation == 10_000:
        return None
    sample_us = rules.tuned_sample_us(attrs.sample_us, adaptation, goal.min_sample_us, goal.max_sample_us)
    left = [max(0, scheme.next_apply - ctx.passed) for scheme in ctx.schemes]
    update_left = max(0, ctx.next_update - ctx.passed)
    set_attrs(ctx, replace(attrs, sample_us=sample_us, aggr_us=sample_us * ctx.aggr_samples))
    _keep_due_times(ctx, attrs.sample_us, left, update_left)
    return sample_us


def _keep_due_times(ctx: Context, old_sample_us: int, apply_left: list[int], update_left: int) -> None:
    """Let what has an interval of its own come due when it would have without tuning.

    ``apply_left`` and ``update_left`` are the samples of the old length that were left. A scheme without an
    apply interval follows the aggregations, which tuning does change.
    """
    rules, new_us = ctx.rules, ctx.attrs.sample_us
    for scheme, left in zip(ctx.schemes, apply_left, strict=True):
        if interval_us := scheme.params.apply_interval_us:
            interval = ctx.samples(interval_us)
            scheme.next_apply = ctx.passed + rules.tuned_apply_left(left, interval, old_sample_us, new_us)
    interval = ctx.samples(ctx.attrs.update_us)
    ctx.next_update = ctx.passed + rules.tuned_update_left(update_left, interval, old_sample_us, new_us)
