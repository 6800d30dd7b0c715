# SPDX-License-Identifier: GPL-2.0
"""The engine's touches, in every order, agree with its log and with the definitions."""

from __future__ import annotations

import subprocess

import numpy as np
import pytest
from engine_starter import Starter, slices_of_one

from damon_tests.patterns.load import parse
from damon_tests.patterns.masim import parse as parse_masim
from damon_tests.patterns.spec import Access, Pattern
from damon_tests.workload.chase_order import way
from damon_tests.workload.engine import EngineTarget
from damon_tests.workload.layout import plan_layout
from damon_tests.workload.pass_log_truth import RecordedTruth
from damon_tests.workload.pattern_truth import PatternTruth, choose
from damon_tests.workload.weighted_order import buckets_of

PAGE = 4096
MSEC = 1_000_000

REGIONS = "regions: [{name: r, size: 4 MiB}, {name: q, size: 1 MiB, populate: false}]"

ORDERS = {
    "walk": "{region: r, touches: 300, period: 2 ms}",
    "short walk": "{region: r, touches: 7, islands: 3, every: 1 MiB, span: 0 .. 32 KiB, period: 2 ms}",
    "long walk": "{region: r, touches: 3000, stride: 8 KiB, period: 4 ms}",
    "zipf": "{region: r, order: zipf, skew: 0.99, touches: 40, period: 2 ms}",
    "zipf, islands": (
        "{region: r, order: zipf, skew: 1, touches: 9, span: 0 .. 64 KiB, islands: 4, every: 1 MiB}"
    ),
    "gaussian": "{region: r, order: gaussian, center: 3 MiB, sigma: 100 KiB, touches: 40, period: 2 ms}",
    "gaussian, small stride": (
        "{region: r, order: gaussian, center: 3 MiB, sigma: 64 B, stride: 64 B, touches: 40, kind: read}"
    ),
    "chase": "{region: r, order: chase, touches: 50, period: 2 ms}",
    "chase, all": "{region: r, order: chase, stride: 128 B, touches: 40000, period: 5 ms}",
    "chase, islands": (
        "{region: r, order: chase, stride: 16 B, touches: 5, span: 4 KiB .. 8 KiB, islands: 9, "
        "every: 256 KiB}"
    ),
    "drift": "{region: r, span: 0 .. 64 KiB, drift: 64 KiB, period: 2 ms}",
    "slow drift": "{region: r, span: 0 .. 64 KiB, drift: 4 KiB, drift_every: 6 ms, positions: 5}",
    "drifting islands": (
        "{region: r, span: 0 .. 4 KiB, islands: 3, every: 1 MiB, drift: 128 KiB, stride: 512 B}"
    ),
    "drifting walk": "{region: r, span: 0 .. 1 MiB, touches: 17, drift: 512 KiB, drift_every: 4 ms}",
    "drifting zipf": (
        "{region: r, order: zipf, skew: 2, touches: 5, span: 0 .. 1 MiB, drift: 1 MiB, kind: update}"
    ),
    "random, more than a group": "{region: r, order: random, touches: 201, stride: 64 B, period: 2 ms}",
    "random, dense": "{region: q, order: random, touches: 1501, kind: update, period: 4 ms}",
    "random, dense, a part of a page": (
        "{region: r, order: random, span: 4 KiB .. 12300 B, stride: 8 B, touches: 65, kind: read}"
    ),
    "drifting zipf, dense": (
        "{region: r, order: zipf, skew: 1, span: 64 KiB .. 128 KiB, touches: 129, drift: 64 KiB}"
    ),
    "free": "{region: q, rate: max}",
    "turns": (
        "{region: r, touches: 30, weight: 3, period: 1 ms}, "
        "{region: r, order: random, touches: 30, weight: 1, period: 1 ms}, "
        "{region: q, touches: 20, weight: 2, period: 1 ms, kind: update}"
    ),
    "free turns": (
        "{region: r, touches: 3000, weight: 3, rate: max, period: 1 ms}, "
        "{region: q, touches: 20, weight: 2, rate: max, period: 1 ms}"
    ),
}


def pattern_of(accesses: str) -> Pattern:
    phase = f"{{name: p, duration: 40 ms, accesses: [{accesses}]}}"
    text = f"reason: r\nrepeat: true\n{REGIONS}\nphases: [{phase}]\n"
    return parse(text, default_name="order")


def all_pages(target: EngineTarget) -> np.ndarray:
    return np.concatenate([np.arange(a // PAGE - 1, b // PAGE + 1) for a, b in target.layout.values()])


@pytest.mark.parametrize("name", ORDERS)
def test_marked_pages_are_those_of_the_log(start: Starter, name: str) -> None:
    """The bitmap in which the engine marks each touch agrees with the truth computed from the log."""
    target = start(pattern_of(ORDERS[name]), slices_ns=3 * MSEC)
    target.go()
    start.run_until_phase(target, 2)
    start.run_until_slice(target, 25)  # a busy machine has fewer and longer ones
    target.stop()
    log, slices = target.truth(), target.slices()
    pages = all_pages(target)
    begins, ends = zip(*slices_of_one(slices), strict=True)
    agreed = 0
    for begin, end in zip(begins, ends, strict=True):
        marked = slices.touched(pages, begin, end)
        np.testing.assert_array_equal(log.touched(pages, begin, end), marked)
        each = log.touched_each(pages, np.full(len(pages), begin), np.full(len(pages), end))
        np.testing.assert_array_equal(each, marked)
        agreed += int(marked.any())
    assert agreed >= 5


@pytest.mark.parametrize("name", ["walk", "zipf", "gaussian", "chase", "slow drift", "turns"])
def test_passes_on_time_touch_what_the_plan_says(start: Starter, name: str) -> None:
    """Log and closed form agree about all passes on time: both kinds of target have the same truth."""
    for _ in range(10):
        target = start(pattern_of(ORDERS[name]))
        target.go()
        start.run_until_phase(target, 2)
        target.stop()
        if not any(count.missed for count in target.status().terms.values()):
            break
    else:
        pytest.skip("this machine was too busy for the plan")
    truth = target.truth()
    go = truth.span_ns()[0]
    plan = PatternTruth(target.pattern, target.layout, target.seed, go)
    pages = all_pages(target)
    phases = target.phases()
    for number in range(2):
        begin, end = phases[number].start_ns, phases[number].end_ns
        assert end is not None
        planned = go + number * 40 * MSEC
        want = plan.touched(pages, planned, planned + 40 * MSEC)
        np.testing.assert_array_equal(truth.touched(pages, begin, end), want)


@pytest.mark.parametrize(("slots", "region"), [(1, 0), (2, 1), (3, 0), (16, 0), (1000, 2), (65537, 0)])
def test_c_and_python_chase_through_the_same_slots(engine_path: str, slots: int, region: int) -> None:
    done = subprocess.run(
        [engine_path, "--way", "5", str(region), "8192", str(slots)],
        capture_output=True,
        text=True,
        check=True,
        timeout=30,
    )
    order = way(5, region, 8192, slots, np.arange(slots))
    assert [int(line) for line in done.stdout.split()] == order.tolist()
    assert sorted(order.tolist()) == list(range(slots))


def draws(access: Access, count: int) -> np.ndarray:
    rng = np.random.default_rng(3)
    return buckets_of(access).slots_of(rng.integers(0, 1 << 64, count, dtype=np.uint64, endpoint=False))


@pytest.mark.parametrize("skew", [0.5, 1.0, 2.0])
def test_zipf_draws_follow_their_weights(skew: float) -> None:
    slots = 100_000
    access = Access("r", 0, slots * PAGE, "zipf", touches=1, skew=skew)
    drawn = draws(access, 400_000)
    ranks = np.arange(1, slots + 1, dtype=float)
    shares = ranks**-skew / (ranks**-skew).sum()
    for first, last in ((0, 1), (1, 10), (10, 100), (100, 10_000), (10_000, slots)):
        share = shares[first:last].sum()
        drawn_share = ((drawn >= first) & (drawn < last)).mean()
        # Five standard deviations of a binomial share.
        assert abs(drawn_share - share) < 5 * (share * (1 - share) / len(drawn)) ** 0.5 + 0.001 * share


def test_gaussian_draws_follow_the_normal_distribution() -> None:
    access = Access(
        "r", 0, 4096 * PAGE, "gaussian", touches=1, center_bytes=1000 * PAGE, sigma_bytes=100 * PAGE
    )
    drawn = draws(access, 100_000)
    assert abs(drawn.mean() - 1000) < 2
    assert abs(drawn.std() - 100) < 2
    assert drawn.min() >= 600
    assert drawn.max() <= 1400
    assert abs((np.abs(drawn - 1000) < 100).mean() - 0.6827) < 0.01


def test_a_hot_spot_at_the_edge_stays_inside() -> None:
    access = Access("r", 0, 50 * PAGE, "gaussian", touches=1, center_bytes=0, sigma_bytes=100 * PAGE)
    drawn = draws(access, 10_000)
    assert (drawn.min(), drawn.max()) == (0, 49)


def test_turns_are_drawn_by_weight() -> None:
    chosen = choose(11, 0, np.arange(60_000), [1, 0, 3, 2])
    counts = np.bincount(chosen, minlength=4)
    assert counts[1] == 0
    np.testing.assert_allclose(counts[[0, 2, 3]] / 60_000, [1 / 6, 3 / 6, 2 / 6], atol=0.01)


MASIM = """\
# two regions, two phases
a, 10000000
b, 2000000, none

first
60
a, 0, 4096, 70, wo
b, 1, 64, 30, rw

second
60
b, 0, 64, 1, ro
"""


def test_masim_configuration_runs_unmodified(start: Starter) -> None:
    target = start(parse_masim(MASIM), slices_ns=10 * MSEC)
    start.run_to_the_end(target)
    log, slices = target.truth(), target.slices()
    pages = all_pages(target)
    first, second = target.phases()
    assert first.end_ns is not None
    assert second.end_ns is not None
    for begin, end in slices_of_one(slices):
        np.testing.assert_array_equal(log.touched(pages, begin, end), slices.touched(pages, begin, end))
    touched = log.touched(pages, first.start_ns, first.end_ns)
    a = np.arange(target.layout["a"][0] // PAGE, target.layout["a"][0] // PAGE + 10_000_000 // PAGE)
    assert touched[np.isin(pages, a)].all(), "a turn goes more than ten times around it"
    only_b = pages[log.touched(pages, second.start_ns + MSEC, second.end_ns)]
    start_b = target.layout["b"][0] // PAGE
    assert only_b.tolist() == list(range(start_b, start_b + 2_000_000 // PAGE + 1))
    counts = target.status().terms
    assert all(count.passes > 0 and count.missed == 0 for count in counts.values())
    assert {count.accesses % 131_072 for count in counts.values()} == {0}
    assert isinstance(log, RecordedTruth)


def test_simulated_target_runs_masim_at_the_nominal_speed() -> None:
    pattern = parse_masim(MASIM)
    truth = PatternTruth(pattern, plan_layout(pattern), 1, 0)
    done = sum(truth.passes(0, term, 0, 60 * MSEC) for term in range(2))
    assert done == 46, "a turn of 131,072 accesses takes 1.31072 ms by declaration"


def test_stalls_of_free_running_passes_are_found() -> None:
    pattern = pattern_of(ORDERS["free turns"])
    rows = [(i * 1000, 900, i, 0, i % 2) for i in range(10)]
    rows += [(20_000, 900, 10, 0, 0), (21_000, 9000, 11, 0, 1)]
    dtype = [
        ("start_ns", "<u8"),
        ("length_ns", "<u8"),
        ("pass_index", "<u8"),
        ("phase", "<u4"),
        ("term", "<u4"),
    ]
    truth = RecordedTruth(pattern, plan_layout(pattern), 1, np.array(rows, dtype=dtype), (0, 40_000))
    assert truth.disturbances(2000) == ((9900, 20_000), (21_000, 30_000))
