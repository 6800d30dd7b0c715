# SPDX-License-Identifier: GPL-2.0
"""Events of trace_pipe and perf script are parsed, and grouped into snapshots despite holes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from damon_tests.damon import trace
from damon_tests.ports import LOST_EVENTS, Event, HarnessError

REGION = "target_id=1 nr_regions=3 4096-8192: 5 17"


def agg(
    start: int, end: int, *, target: int = 0, nr: int = 2, hits: int = 0, age: int = 0, t: int = 0
) -> Event:
    text = f"target_id={target} nr_regions={nr} {start}-{end}: {hits} {age}"
    return Event(t, trace.AGGREGATED, text)


def hole(count: int = 1) -> Event:
    return Event(0, LOST_EVENTS, str(count))


# --- one event -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        (trace.AGGREGATED, REGION, trace.AggregatedEvent(9, 1, 3, 4096, 8192, 5, 17)),
        (
            trace.REGION_AGGREGATED,
            REGION + " probe_hits=0a 00 ff",
            trace.RegionAggregatedEvent(9, 1, 3, 4096, 8192, 5, 17, (10, 0, 255)),
        ),
        (
            trace.BEFORE_APPLY,
            "ctx_idx=0 scheme_idx=2 target_idx=1 nr_regions=3 0-18446744073709551615: 20 4294967295",
            trace.BeforeApplyEvent(9, 0, 2, 1, 3, 0, (1 << 64) - 1, 20, (1 << 32) - 1),
        ),
        (
            trace.ESZ,
            "ctx_idx=0 scheme_idx=1 esz=18446744073709551615",
            trace.EszEvent(9, 0, 1, (1 << 64) - 1),
        ),
        (trace.INTERVALS_TUNE, "sample_us=10000", trace.TuneEvent(9, 10000)),
        (
            trace.STAT_AFTER_APPLY,
            "ctx_idx=0 scheme_idx=1 nr_tried=2 sz_tried=3 nr_applied=4 sz_applied=5"
            " sz_ops_filter_passed=6 qt_exceeds=7 nr_snapshots=8",
            trace.StatEvent(9, 0, 1, 2, 3, 4, 5, 6, 7, 8),
        ),
        (LOST_EVENTS, "12", trace.LostEvent(9, 12)),
    ],
)
def test_each_event_has_its_type(name: str, text: str, value: trace.TypedEvent) -> None:
    assert trace.parse_event(Event(9, name, text)) == value


@pytest.mark.parametrize(
    "text",
    [
        "",
        REGION[:-1].rstrip("1").rstrip(),
        REGION + " ",
        REGION + " 3",
        REGION.replace("1", "-1", 1),
        REGION.replace("target_id", "target_ix"),
        REGION.replace("-", " "),
        "target_id=1 nr_regions=3 4096-8192: 5",
    ],
)
def test_malformed_text_is_an_error_with_the_text(text: str) -> None:
    event = Event(0, trace.AGGREGATED, text)
    with pytest.raises(HarnessError, match="malformed event"):
        trace.parse_event(event)
    with pytest.raises(HarnessError, match="malformed event"):
        trace.snapshots([event])


def test_unknown_event_is_an_error() -> None:
    with pytest.raises(HarnessError, match="unknown event: sched_switch"):
        trace.parse_event(Event(0, "sched_switch", "x"))


# --- lines -----------------------------------------------------------------------------------

PIPE = "       kdamond.0-4452    [001] .....    82.877315: damon_aggregated: " + REGION


@pytest.mark.parametrize(
    ("line", "event"),
    [
        (PIPE, Event(82_877_315_000, trace.AGGREGATED, REGION, 4452)),
        (PIPE.replace(".....", "d..1."), Event(82_877_315_000, trace.AGGREGATED, REGION, 4452)),
        (PIPE.replace("kdamond.0", "<...>"), Event(82_877_315_000, trace.AGGREGATED, REGION, 4452)),
        (PIPE.replace("kdamond.0", "a b-7 [0"), Event(82_877_315_000, trace.AGGREGATED, REGION, 4452)),
        (
            f"kdamond.0  4452 [000] 82877.315633: damon:damon_aggregated: {REGION}",
            Event(82_877_315_633_000, trace.AGGREGATED, REGION, 4452),
        ),
        (
            f"kdamond.0  4452 [000] 82877.315633123: damon:damon_aggregated: {REGION} ",
            Event(82_877_315_633_123, trace.AGGREGATED, REGION, 4452),
        ),
        (
            "           agent-12      [000] .....     1.000001: tracing_mark_write: a: b",
            Event(1_000_001_000, trace.MARK, "a: b", 12),
        ),
        ("CPU:1 [LOST 123 EVENTS]", Event(0, LOST_EVENTS, "123")),
        ("CPU:0 [LOST EVENTS]", Event(0, LOST_EVENTS, "1")),
    ],
)
def test_lines_of_traces_are_parsed(line: str, event: Event) -> None:
    assert trace.parse_line(line) == event


@pytest.mark.parametrize(
    "line",
    ["", "garbage", PIPE[:40], PIPE.replace("4452", "x"), PIPE.replace("82.", "82"), PIPE.replace("]", "")],
)
def test_malformed_lines_are_errors_with_the_line(line: str) -> None:
    with pytest.raises(HarnessError) as caught:
        trace.parse_line(line)
    assert repr(line) in str(caught.value)


# --- snapshots -------------------------------------------------------------------------------


def test_one_snapshot_per_aggregation_and_target() -> None:
    events = [
        agg(0, 10, t=1, hits=3, age=4),
        agg(10, 30, t=2),
        agg(5, 6, target=1, nr=1, t=3),
        agg(0, 30, nr=1, t=11),
        agg(5, 6, target=1, nr=1, t=12),
    ]
    snapshots = trace.snapshots(events)
    assert [(s.target_idx, len(s), s.nr_regions, s.complete, s.time_ns) for s in snapshots] == [
        (0, 2, 2, True, 2),
        (1, 1, 1, True, 3),
        (0, 1, 1, True, 11),
        (1, 1, 1, True, 12),
    ]
    assert snapshots[0].start.tolist() == [0, 10]
    assert snapshots[0].end.tolist() == [10, 30]
    assert snapshots[0].nr_accesses.tolist() == [3, 0]
    assert snapshots[0].age.tolist() == [4, 0]


def test_snapshots_of_one_region_are_cut_by_count() -> None:
    assert len(trace.snapshots([agg(0, 10, nr=1, t=i) for i in range(5)])) == 5


def test_equal_layouts_in_a_row_stay_apart() -> None:
    snapshots = trace.snapshots([agg(0, 10), agg(10, 20), agg(0, 10), agg(10, 20)])
    assert [s.complete for s in snapshots] == [True, True]


def test_snapshot_with_missing_regions_is_incomplete() -> None:
    snapshots = trace.snapshots(
        [agg(0, 10, nr=3), agg(10, 20, nr=3), agg(0, 10, nr=3), agg(10, 20, nr=3), agg(20, 30, nr=3)]
    )
    assert [(len(s), s.complete) for s in snapshots] == [(2, False), (3, True)]


def test_nothing_is_grouped_across_a_hole() -> None:
    """If the middle is lost, the ends of two aggregations look like a complete one."""
    events = [agg(0, 10, nr=4), agg(10, 20, nr=4), hole(4), agg(20, 30, nr=4), agg(30, 40, nr=4)]
    snapshots = trace.snapshots(events)
    assert [(len(s), s.complete) for s in snapshots] == [(2, False), (2, False)]
    whole = trace.snapshots([e for e in events if e.name != LOST_EVENTS])
    assert [s.complete for s in whole] == [True]  # without the hole, they are taken for one


def test_holes_between_aggregations_keep_them_complete() -> None:
    snapshots = trace.snapshots(
        [hole(), agg(0, 10), agg(10, 20), hole(), hole(), agg(0, 10), agg(10, 20), hole()]
    )
    assert [s.complete for s in snapshots] == [True, True]


def test_no_events_make_no_snapshots() -> None:
    assert trace.snapshots([]) == []
    assert trace.snapshots([hole()]) == []


def test_events_of_different_names_are_refused() -> None:
    with pytest.raises(HarnessError, match="several names"):
        trace.snapshots([agg(0, 10), Event(0, trace.ESZ, "ctx_idx=0 scheme_idx=1 esz=1")])


def test_probe_hits_are_read_by_region_and_probe() -> None:
    events = [
        Event(
            0,
            trace.REGION_AGGREGATED,
            f"target_id=0 nr_regions=2 {i * 10}-{i * 10 + 10}: 0 1 probe_hits=0{i} ff",
        )
        for i in range(2)
    ]
    (snapshot,) = trace.snapshots(events)
    assert snapshot.probe_hits is not None
    assert snapshot.probe_hits.tolist() == [[0, 255], [1, 255]]
    broken = [events[0], Event(0, trace.REGION_AGGREGATED, events[1].text[:-3])]
    with pytest.raises(HarnessError, match="number of probes"):
        trace.snapshots(broken)


U64 = st.integers(0, (1 << 64) - 1)


@given(st.lists(st.tuples(U64, U64, st.integers(0, 1 << 31), st.integers(0, (1 << 32) - 1)), max_size=8))
def test_fast_path_agrees_with_single_events(rows: list[tuple[int, int, int, int]]) -> None:
    """Parsing by column gives the same values as parsing single events, to the last of 64 bits."""
    events = [
        agg(min(a, b), max(a, b), nr=len(rows), hits=h, age=g, t=i) for i, (a, b, h, g) in enumerate(rows)
    ]
    table = trace.columns(events)
    for i, event in enumerate(events):
        typed = trace.parse_event(event)
        assert typed == trace.AggregatedEvent(
            int(table.time_ns[i]),
            *(
                int(c[i])
                for c in (
                    table.target_id,
                    table.nr_regions,
                    table.start,
                    table.end,
                    table.nr_accesses,
                    table.age,
                )
            ),
        )


@given(st.lists(st.integers(1, 5), min_size=1, max_size=6), st.data())
def test_complete_snapshots_are_correct_despite_losses(counts: list[int], data: st.DataObject) -> None:
    """If any events are lost and the holes marked, each complete snapshot equals an original."""
    stream, originals = [], set()
    for t, nr in enumerate(counts):
        bounds = [(i * 10, i * 10 + 10) for i in range(nr)]
        originals.add((t, tuple(bounds)))
        stream += [agg(a, b, nr=nr, t=t) for a, b in bounds]
    lost = data.draw(st.lists(st.booleans(), min_size=len(stream), max_size=len(stream)))
    left: list[Event] = []
    for event, gone in zip(stream, lost, strict=True):
        if not gone:
            left.append(event)
        elif not left or left[-1].name != LOST_EVENTS:
            left.append(hole())
    for snapshot in trace.snapshots(left):
        if snapshot.complete:
            bounds_seen = tuple(zip(snapshot.start.tolist(), snapshot.end.tolist(), strict=True))
            assert (snapshot.time_ns, bounds_seen) in originals
