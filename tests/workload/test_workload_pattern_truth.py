# SPDX-License-Identifier: GPL-2.0
"""The truth equals brute force, which enumerates every touch of small patterns."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from workload_samples import pass_pages

from damon_tests.patterns.load import load, names, parse
from damon_tests.patterns.spec import CHOICE_TERM, Access, Action, Pattern, PatternRegion, Phase
from damon_tests.ports import HarnessError, Truth
from damon_tests.workload import access_slots
from damon_tests.workload.chase_order import way
from damon_tests.workload.layout import plan_layout
from damon_tests.workload.pass_log_truth import PASS_RECORD, RecordedTruth
from damon_tests.workload.pattern_truth import FOREVER_NS, PatternTruth
from damon_tests.workload.random_order import draw_bits, draw_passes
from damon_tests.workload.slice_truth import Slices, SliceTruth, SliceWindow
from damon_tests.workload.weighted_order import buckets_of

PAGE = 4096
GO = 1_000
REGIONS = (PatternRegion("a", 12 * PAGE), PatternRegion("b", 9 * PAGE))
LAYOUT = {"a": (0x10000 * PAGE, 0x1000C * PAGE), "b": (0x10020 * PAGE, 0x10029 * PAGE)}


@dataclass(frozen=True)
class Touch:
    """``time`` ns, absolute ``page``."""

    time: int
    page: int


@st.composite
def accesses(draw: st.DrawFn, region: PatternRegion, weight: int, period_ns: int) -> Access:
    pages = region.size_bytes // PAGE
    order = draw(st.sampled_from(["sequential", "random", "zipf", "gaussian", "chase"]))
    islands = draw(st.integers(1, 3)) if order != "gaussian" else 1
    length = draw(st.integers(1, pages // islands))
    every = draw(st.integers(length, (pages - length) // (islands - 1))) if islands > 1 else 0
    room = pages - length - (islands - 1) * every
    start = draw(st.integers(0, room))
    drift = draw(st.integers(0, room - start)) if order != "chase" else 0
    walks = draw(st.booleans())
    return Access(
        region=region.name,
        start_bytes=start * PAGE,
        end_bytes=(start + length) * PAGE,
        order=order,  # type: ignore[arg-type]
        stride_bytes=draw(st.sampled_from([512, 4096, 5000, 8192, 12288])) if length > 2 else 1024,
        period_ns=period_ns,
        touches=draw(st.integers(1, 30)) if order != "sequential" or walks else 0,
        islands=islands,
        every_bytes=every * PAGE,
        skew=draw(st.sampled_from([0.5, 1.0, 1.3])) if order == "zipf" else 0.0,
        center_bytes=(start * 2 + length) * PAGE // 2 if order == "gaussian" else 0,
        sigma_bytes=draw(st.sampled_from([12288, 40000])) if order == "gaussian" else 0,
        weight=weight,
        drift_bytes=PAGE if drift else 0,
        drift_passes=draw(st.integers(1, 3)) if drift else 1,
        drift_positions=drift + 1,
        process=draw(st.sampled_from([0, 0, 0, 1])) if not weight else 0,
    )


@st.composite
def actions(draw: st.DrawFn, duration_ns: int) -> Action:
    region = draw(st.sampled_from(REGIONS))
    start = draw(st.integers(0, region.size_bytes // PAGE - 2))
    end = draw(st.integers(start + 1, region.size_bytes // PAGE))
    do = draw(st.sampled_from(["mmap", "mlock", "dontneed", "fork"]))
    at_ns = draw(st.integers(0, duration_ns - 1))
    if do == "fork":
        return Action("fork", at_ns, children=1, lifetime_ns=5)
    return Action(do, at_ns, region.name, start * PAGE, end * PAGE, populate=draw(st.booleans()))  # type: ignore[arg-type]


@st.composite
def small_patterns(draw: st.DrawFn) -> Pattern:
    phases = []
    for number in range(draw(st.integers(1, 3))):
        chosen = draw(st.lists(st.sampled_from(REGIONS), unique=True, max_size=2))
        turns = draw(st.booleans())
        period = draw(st.integers(1, 40))
        terms = tuple(
            draw(
                accesses(
                    region,
                    draw(st.integers(1, 3)) if turns else 0,
                    period if turns else draw(st.integers(1, 40)),
                )
            )
            for region in chosen
        )
        duration = draw(st.integers(1, 90))
        done = sorted(draw(st.lists(actions(duration), max_size=2)), key=lambda action: action.at_ns)
        phases.append(Phase(f"p{number}", duration, terms, tuple(done)))
    return Pattern("small", "test", REGIONS, tuple(phases), repeat=draw(st.booleans()))


def slot_page(access: Access, slot: int, index: int) -> int:
    island, within = divmod(slot, access.slots_per_island)
    byte = LAYOUT[access.region][0] + access.start_bytes + island * access.every_bytes
    moves = index // access.drift_passes % access.drift_positions
    return (byte + within * access.stride_bytes + moves * access.drift_bytes) // PAGE


def pass_slots(access: Access, seed: int, number: int, term: int, index: int) -> list[int]:
    count = access.touches_per_pass
    if access.order == "sequential":
        return [(index * count + k) % access.slots for k in range(count)]
    if access.order == "chase":
        region = list(LAYOUT).index(access.region)
        steps = np.arange(access.slots)
        order = way(seed, region, access.start_bytes, access.slots, steps).tolist()
        return [order[(index * count + k) % access.slots] for k in range(count)]
    if access.order == "random":
        return pass_pages(seed, number, term, index, touches=count, slots=access.slots).tolist()
    buckets = buckets_of(access)
    bits = draw_bits(seed, number, term, np.array([index]), count)[0].tolist()
    return [weighted_slot(buckets.ends.tolist(), buckets.cumulative.tolist(), draw) for draw in bits]


def weighted_slot(ends: list[int], cumulative: list[int], draw: int) -> int:
    bucket = next(i for i, weight in enumerate(cumulative) if weight > draw >> 32)
    begin = ends[bucket - 1] if bucket else 0
    return begin + ((draw & 0xFFFFFFFF) * (ends[bucket] - begin) >> 32)


def chosen_term(phase: Phase, seed: int, number: int, turn: int) -> int:
    drawn = pass_pages(seed, number, CHOICE_TERM, turn, touches=1, slots=phase.total_weight)[0]
    for term, access in enumerate(phase.accesses):
        drawn -= access.weight
        if drawn < 0:
            return term
    raise AssertionError("weights do not add up")


def planned_passes(phase: Phase, seed: int, number: int) -> list[tuple[int, int, int]]:
    """Return (offset in ns, term, index of its pass) of all passes of a phase."""
    passes = []
    done = [0] * len(phase.accesses)
    weighted = [access for access in phase.accesses if access.weight]
    for turn, offset in enumerate(range(0, phase.duration_ns, weighted[0].period_ns) if weighted else ()):
        term = chosen_term(phase, seed, number, turn)
        passes.append((offset, term, done[term]))
        done[term] += 1
    for term, access in enumerate(phase.accesses):
        if not access.weight:
            times = range(0, phase.duration_ns, access.period_ns)
            passes += [(offset, term, index) for index, offset in enumerate(times)]
    return passes


def action_pages(action: Action) -> range:
    """Return the pages that an action touches."""
    if not action.touches:
        return range(0)
    first = LAYOUT[action.region][0]
    return range((first + action.start_bytes) // PAGE, (first + action.end_bytes) // PAGE)


def plan_touches(pattern: Pattern, seed: int, until: int) -> list[Touch]:
    """Return all touches of process 0 by plan from GO to ``until``."""
    touches = []
    number, start = 0, GO
    while start < until and (pattern.repeat or number < len(pattern.phases)):
        phase = pattern.phases[number % len(pattern.phases)]
        for offset, term, index in planned_passes(phase, seed, number):
            access = phase.accesses[term]
            if start + offset < until and access.process == 0:
                slots = pass_slots(access, seed, number, term, index)
                touches += [Touch(start + offset, slot_page(access, slot, index)) for slot in slots]
        for action in phase.actions:
            if start + action.at_ns < until:
                touches += [Touch(start + action.at_ns, page) for page in action_pages(action)]
        number, start = number + 1, start + phase.duration_ns
    return touches


ALL_PAGES = np.arange(0x10000 - 2, 0x10029 + 2, dtype=np.int64)


def brute(touches: list[Touch], t0: int, t1: int) -> np.ndarray:
    pages = {touch.page for touch in touches if t0 <= touch.time < t1}
    return np.array([int(page) in pages for page in ALL_PAGES])


def check_against(truth: Truth, touches: list[Touch], windows: list[tuple[int, int]]) -> None:
    for t0, t1 in windows:
        np.testing.assert_array_equal(truth.touched(ALL_PAGES, t0, t1), brute(touches, t0, t1))
    rng = np.random.default_rng(len(touches))
    order = rng.integers(0, len(windows), len(ALL_PAGES))
    t0s = np.array([windows[i][0] for i in order])
    t1s = np.array([windows[i][1] for i in order])
    each = [brute(touches, int(a), int(b))[i] for i, (a, b) in enumerate(zip(t0s, t1s, strict=True))]
    np.testing.assert_array_equal(truth.touched_each(ALL_PAGES, t0s, t1s), each)


time_windows = st.lists(
    st.tuples(st.integers(GO - 50, GO + 400), st.integers(0, 120)).map(lambda w: (w[0], w[0] + w[1])),
    min_size=1,
    max_size=6,
)


@pytest.fixture(params=[True, False], ids=["tables", "no tables"])
def _with_or_without_tables(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if not request.param:
        monkeypatch.setattr(access_slots, "MAX_TABLE_PAGES", 0)


@pytest.mark.usefixtures("_with_or_without_tables")
class TestPatternTruth:
    @given(small_patterns(), st.integers(0, 2**64 - 1), st.integers(0, 300), time_windows)
    @settings(max_examples=150, deadline=None)
    def test_truth_equals_brute_force(
        self, pattern: Pattern, seed: int, life: int, windows: list[tuple[int, int]]
    ) -> None:
        truth = PatternTruth(pattern, LAYOUT, seed, GO, GO + life)
        check_against(truth, plan_touches(pattern, seed, GO + life), windows)

    @given(small_patterns(), st.integers(1, 30), st.integers(1, 200))
    @settings(max_examples=50, deadline=None)
    def test_the_rate_is_the_share_of_touched_windows(
        self, pattern: Pattern, window: int, length: int
    ) -> None:
        truth = PatternTruth(pattern, LAYOUT, 3, GO)
        touches = plan_touches(pattern, 3, GO + 300)
        if length < window:
            with pytest.raises(ValueError, match="shorter than one window"):
                truth.rate(ALL_PAGES, GO, GO + length, window)
            return
        count = length // window
        hits = sum(brute(touches, GO + i * window, GO + (i + 1) * window).astype(int) for i in range(count))
        np.testing.assert_allclose(truth.rate(ALL_PAGES, GO, GO + length, window), hits / count)

    @given(small_patterns(), st.data())
    @settings(max_examples=100, deadline=None)
    def test_a_log_of_real_passes_equals_brute_force(self, pattern: Pattern, data: st.DataObject) -> None:
        records, touches = real_passes(pattern, 9, data)
        truth = RecordedTruth(pattern, LAYOUT, 9, records, (GO, GO + 500))
        check_against(truth, touches, data.draw(time_windows))


def real_passes(pattern: Pattern, seed: int, data: st.DataObject) -> tuple[np.ndarray, list[Touch]]:
    """Return a log as the engine writes it, with long and late passes, and all touches."""
    rows, touches = [], []
    now = GO
    for number in range(len(pattern.phases)):
        phase = pattern.phases[number]
        for index in range(data.draw(st.integers(0, 4))):
            for term, access in enumerate(phase.accesses):
                now += data.draw(st.integers(0, 30))
                length = data.draw(st.integers(1, 40))
                rows.append((now, length, index * 2, number, term))
                slots = pass_slots(access, seed, number, term, index * 2)
                for k, slot in enumerate(slots):
                    if access.process == 0:
                        page = slot_page(access, slot, index * 2)
                        touches.append(Touch(now + k * length // len(slots), page))
                now += length
        for term, action in enumerate(phase.actions, start=len(phase.accesses)):
            now += data.draw(st.integers(0, 30))
            length = data.draw(st.integers(1, 40))
            rows.append((now, length, 0, number, term))
            pages = action_pages(action)
            touches += [Touch(now + k * length // len(pages), page) for k, page in enumerate(pages)]
            now += length
    return np.array(rows, dtype=PASS_RECORD), touches


def test_two_passes_do_not_draw_the_same_pages() -> None:
    """Seed, phase, term and pass each change what is drawn."""
    base = pass_pages(1, 2, 3, 4, touches=50, slots=1 << 20)
    for other in ((2, 2, 3, 4), (1, 3, 3, 4), (1, 2, 4, 4), (1, 2, 3, 5)):
        assert not np.array_equal(base, pass_pages(*other, touches=50, slots=1 << 20))


def test_known_draws_of_the_generator() -> None:
    """Compute the draws from the definition with Python's integers."""
    mask = (1 << 64) - 1

    def mix(z: int) -> int:
        z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9 & mask
        z = (z ^ z >> 27) * 0x94D049BB133111EB & mask
        return z ^ z >> 31

    golden = 0x9E3779B97F4A7C15
    key = mix(12345 + golden & mask)
    for value in (7, 1, 4000):
        key = mix((key ^ value) + golden & mask)
    bits = [mix(key + (k + 1) * golden & mask) for k in range(10)]
    expected = [half * 1000 >> 32 for step in bits for half in (step >> 32, step & 0xFFFFFFFF)]
    assert pass_pages(12345, 7, 1, 4000, touches=20, slots=1000).tolist() == expected
    # The first number of splitmix64 with seed 0, as published.
    assert mix(golden) == 0xE220A8397B1DCDAF


def test_draws_are_uniform() -> None:
    slots = draw_passes(5, 0, 0, np.arange(1000), touches=64, slots=16).ravel()
    counts = np.bincount(slots, minlength=16)
    # 15 degrees of freedom: above 44.3 with probability 1e-4 if the draws were uniform.
    assert ((counts - 4000.0) ** 2 / 4000).sum() < 44.3


def test_half_rate_is_touched_in_half_of_the_sampling_intervals() -> None:
    pattern = load("half_rate")
    layout = plan_layout(pattern)
    truth = PatternTruth(pattern, layout, 1, GO)
    pages = np.arange(layout["warm"][0] // PAGE, layout["warm"][1] // PAGE)
    rate = truth.rate(pages, GO, GO + 2_000_000_000, 5_000_000)
    assert rate.mean() == pytest.approx(0.5, abs=0.01)
    assert (np.abs(rate - 0.5) < 0.15).all()  # 400 windows: standard deviation 0.025


def test_nothing_is_touched_before_begin_and_after_end() -> None:
    pattern = load("hot_cold")
    layout = plan_layout(pattern)
    truth = PatternTruth(pattern, layout, 1, None)
    page = np.array([(layout["data"][0] + (20 << 20)) // PAGE])
    assert truth.span_ns()[0] == FOREVER_NS
    assert not truth.touched(page, 0, 10**12)[0]
    truth.begin(10**9)
    assert truth.touched(page, 0, 10**12)[0]
    assert truth.touched(page, 3 * 10**9, 3 * 10**9 + 2_000_000)[0]
    truth.end(2 * 10**9)
    assert not truth.touched(page, 3 * 10**9, 3 * 10**9 + 2_000_000)[0]
    assert truth.span_ns() == (10**9, 2 * 10**9)


def test_petabyte_is_answered_without_allocating_it() -> None:
    """A region of a petabyte costs no more than a page, and no memory of its size is allocated."""
    text = """
reason: huge
repeat: true
regions: [{name: r, size: 1024 TiB, populate: false}]
phases:
  - name: p
    duration: 1 s
    accesses:
      - {region: r, span: 512 TiB .. 520 TiB}
      - {region: r, span: 0 .. 1 MiB, order: random, touches: 8}
"""
    pattern = parse(text)
    layout = plan_layout(pattern)
    truth = PatternTruth(pattern, layout, 1, 0)
    start = layout["r"][0]
    pages = (
        np.array([start + (511 << 40), start + (512 << 40), start + (520 << 40) - 1, start + (520 << 40)])
        // PAGE
    )
    assert truth.touched(pages, 0, 5_000_000).tolist() == [False, True, True, False]


@pytest.mark.parametrize("name", names())
def test_the_library_is_answered_within_its_regions(name: str) -> None:
    pattern = load(name)
    layout = plan_layout(pattern)
    truth = PatternTruth(pattern, layout, 1, 0)
    edges = [page for start, end in layout.values() for page in (start // PAGE, end // PAGE)]
    spans = [
        (layout[a.region][0] // PAGE + start // PAGE, layout[a.region][0] // PAGE + end // PAGE)
        for a in pattern.phases[0].accesses
        for start, end in a.spans()[:100]
    ]
    pages = np.unique(
        np.concatenate(
            [*(np.arange(e - 10, e + 10) for e in edges), *(np.arange(a, b + 1) for a, b in spans)]
        )
    )
    hot = truth.touched(pages, 0, 5_000_000)
    inside = np.zeros(len(pages), dtype=bool)
    for start, end in truth.ranges():
        inside |= (pages >= start // PAGE) & (pages < end // PAGE)
    assert not hot[~inside].any()
    assert hot.any() == bool(pattern.phases[0].accesses)


@pytest.mark.parametrize("name", names())
def test_the_library_fits_a_small_emulated_guest(name: str) -> None:
    """The budget of vm.md: populated memory, and touches a second."""
    pattern = load(name)
    assert sum(region.initially_mapped for region in pattern.regions if region.populate) <= 128 << 20
    for phase in pattern.phases:
        touches = sum(a.touches_per_pass / a.period_ns for a in phase.accesses if not a.weight)
        for access in phase.accesses:
            share = access.weight / max(1, phase.total_weight)
            touches += share * access.touches_per_pass / access.period_ns
        assert touches * 1e9 <= 1.7e6


def test_a_log_out_of_order_is_refused() -> None:
    rows = np.array([(10, 1, 0, 1, 0), (20, 1, 0, 0, 0)], dtype=PASS_RECORD)
    with pytest.raises(HarnessError, match="out of order"):
        RecordedTruth(load("hot_cold"), plan_layout(load("hot_cold")), 1, rows, (0, 100))


def test_slices_of_a_target_without_accesses_have_no_bits() -> None:
    slices = Slices(np.array([10, 20]), np.array([20, 30]), np.zeros((2, 0), dtype=np.uint8))
    truth = SliceTruth([(100 * PAGE, 110 * PAGE)], [], [slices])
    pages, starts = np.array([100, 109]), np.array([10, 20])
    assert not truth.touched(pages, 10, 30).any()
    assert not truth.touched_each(pages, starts, starts + 10).any()
    assert truth.rate(pages, 10, 30, 10).tolist() == [0, 0]


def test_slices_answer_by_overlap() -> None:
    windows = [SliceWindow(100, 10, 0), SliceWindow(200, 8, 64)]
    bitmaps = np.zeros((3, 16), dtype=np.uint8)
    bitmaps[0, 0] = 0b10  # page 101
    bitmaps[1, 8] = 0b1  # page 200
    bitmaps[2, 1] = 0b10  # page 109
    slices = Slices(np.array([10, 20, 30]), np.array([20, 30, 40]), bitmaps)
    truth = SliceTruth([(100 * PAGE, 300 * PAGE)], windows, [slices])
    pages = np.array([99, 100, 101, 109, 110, 200, 207])
    assert pages[truth.touched(pages, 10, 20)].tolist() == [101]
    assert pages[truth.touched(pages, 19, 21)].tolist() == [101, 200]
    assert pages[truth.touched(pages, 20, 31)].tolist() == [109, 200]
    assert pages[truth.touched(pages, 40, 99)].tolist() == []
    assert truth.span_ns() == (10, 40)
    starts = np.array([10, 10, 20, 30, 30, 20, 20])
    each = truth.touched_each(pages, starts, starts + 10)
    assert pages[each].tolist() == [109, 200]
    np.testing.assert_allclose(truth.rate(pages, 10, 40, 10), [0, 0, 1 / 3, 1 / 3, 0, 1 / 3, 0])
