# SPDX-License-Identifier: GPL-2.0
"""The private tracefs instance is set up, read completely, and always removed; losses are counted."""

from __future__ import annotations

import errno
from collections.abc import Sequence

import pytest
from fake_tracefs import ROOT, FakeTracefs

from damon_tests.damon import trace
from damon_tests.damon.tracefs import PREFIX, TracefsEvents, remove_left_over
from damon_tests.ports import LOST_EVENTS, Entry, FileOp, HarnessError, MachineLost, NotSupported

AGG = "damon_aggregated"


def line(us: int, start: int = 0, nr: int = 1, cpu: int = 0, pid: int = 99) -> str:
    return (
        f"       kdamond.0-{pid}      [{cpu:03}] ..... {us // 10**6:5}.{us % 10**6:06}: damon_aggregated:"
        f" target_id=0 nr_regions={nr} {start}-{start + 10}: 0 1"
    )


def writes(machine: FakeTracefs) -> dict[str, str]:
    return {
        path.split("/instances/")[-1].split("/", 1)[-1]: text
        for kind, path, text in machine.log
        if kind == "write"
    }


def test_private_instance_is_set_up() -> None:
    machine = FakeTracefs()
    TracefsEvents(machine).open([AGG])
    assert machine.instances() == [f"{PREFIX}77-1234-0"]
    done = writes(machine)
    assert done["trace_clock"] == "mono"
    assert done[f"events/damon/{AGG}/enable"] == "1"
    assert done["tracing_on"] == "1"
    assert int(done["buffer_size_kb"]) >= 1024
    assert "events/damon/damos_before_apply/enable" not in done
    assert all(
        "/instances/" in path
        for kind, path, _ in machine.log
        if kind in ("write", "mkdir", "rmdir", "follow")
    )
    assert machine.pipes[0].path == f"{ROOT}/instances/{PREFIX}77-1234-0/trace_pipe"


def test_events_are_typed_by_name_time_and_thread() -> None:
    machine = FakeTracefs()
    stream = TracefsEvents(machine).open([AGG])
    machine.put(line(1_000_001), line(1_000_002, 10))
    events = stream.read()
    assert [(e.time_ns, e.name, e.pid) for e in events] == [
        (1_000_001_000, AGG, 99),
        (1_000_002_000, AGG, 99),
    ]
    assert stream.read() == []
    assert stream.lost() == 0
    stream.close()
    assert machine.instances() == []
    assert machine.pipes[0].closed
    assert writes(machine)[f"events/damon/{AGG}/enable"] == "0"


@pytest.mark.parametrize("limit", [1, 7, 64, 101])
def test_lines_may_be_cut_anywhere(limit: int) -> None:
    machine = FakeTracefs()
    machine.pipe_limit = limit
    stream = TracefsEvents(machine).open([AGG])
    machine.put(*(line(us, us) for us in range(1, 21)))
    stream.close()
    assert [e.time_ns for e in stream.read()] == [us * 1000 for us in range(1, 21)]


def test_cpus_are_merged_by_time() -> None:
    machine = FakeTracefs()
    stream = TracefsEvents(machine).open([AGG])
    machine.put(line(5, cpu=0), line(7, cpu=0), line(3, cpu=1), line(6, cpu=1))
    assert [e.time_ns for e in stream.read()] == [3000, 5000, 6000, 7000]


def test_close_waits_for_a_late_mark() -> None:
    """Events before the mark are read, however late the mark comes."""
    machine = FakeTracefs()
    stream = TracefsEvents(machine).open([AGG])
    asked: list[str] = []
    machine.marks = asked.append
    began = machine.clock.now_ns()

    def later() -> None:
        if asked and machine.clock.ns > began + 1_500_000_000:
            machine.put(line(11), line(12, 10))
            machine.put_mark(asked[0])
            machine.clock.hooks.clear()

    machine.clock.hooks.append(later)
    stream.close()
    assert len(stream.read()) == 2
    assert machine.instances() == []


def test_lost_mark_is_repeated() -> None:
    machine = FakeTracefs()
    stream = TracefsEvents(machine).open([AGG])
    asked: list[str] = []

    def second_only(text: str) -> None:
        asked.append(text)
        if len(asked) == 2:
            machine.put_mark(text)

    machine.marks = second_only
    stream.close()
    assert len(asked) == 2


def test_missing_mark_is_a_harness_error() -> None:
    machine = FakeTracefs()
    stream = TracefsEvents(machine).open([AGG])
    machine.marks = lambda text: None
    machine.put(line(1))
    with pytest.raises(HarnessError, match="did not come out"):
        stream.close()
    assert len(stream.read()) == 1
    assert machine.instances() == []
    stream.close()  # the second call does nothing


def test_marks_of_other_readers_are_ignored() -> None:
    machine = FakeTracefs()
    stream = TracefsEvents(machine).open([AGG])
    machine.marks = lambda text: machine.put_mark(f"{PREFIX}end-1")
    with pytest.raises(HarnessError, match="did not come out"):
        stream.close()


# --- losses ----------------------------------------------------------------------------------


def test_lost_lines_are_counted_and_stand_in_their_place() -> None:
    machine = FakeTracefs()
    stream = TracefsEvents(machine).open([AGG])
    machine.put(line(1), "CPU:0 [LOST 12 EVENTS]", line(5), "CPU:1 [LOST 3 EVENTS]")
    assert [e.name for e in stream.read()] == [AGG, LOST_EVENTS, AGG, LOST_EVENTS]
    assert stream.lost() == 15


@pytest.mark.parametrize(
    ("stats", "lost"),
    [
        ("overrun: 0\ncommit overrun: 0\ndropped events: 0\n", 15),
        ("overrun: 20\ncommit overrun: 1\ndropped events: 2\n", 46),  # two CPUs
    ],
)
def test_losses_include_those_of_the_buffer_statistics(stats: str, lost: int) -> None:
    machine = FakeTracefs()
    machine.stats = stats
    stream = TracefsEvents(machine).open([AGG])
    machine.put(line(1), "CPU:0 [LOST 15 EVENTS]")
    stream.close()
    assert stream.lost() == lost


def test_unreadable_statistics_are_an_error() -> None:
    machine = FakeTracefs()
    stream = TracefsEvents(machine).open([AGG])
    machine.refuse.add(f"{ROOT}/instances/{PREFIX}77-1234-0/per_cpu/cpu1/stats")
    with pytest.raises(HarnessError, match="cannot read how many events were lost"):
        stream.close()
    assert machine.instances() == []


def test_bytes_lost_by_the_transport_are_a_hole() -> None:
    """The rest of a cut line is not joined with the bytes after the gap."""
    machine = FakeTracefs()
    stream = TracefsEvents(machine).open([AGG])
    whole = "".join(line(us, us * 10, nr=4) + "\n" for us in (1, 2, 3, 4)).encode()
    third = whole.index(b"30-40")
    machine.pipes[0].data = whole[: third + 1]
    machine.pipes[0].lost_bytes = 5000
    first = stream.read()
    machine.pipes[0].data = whole[third + 3 :]
    events = [*first, *stream.read()]
    assert [e.name for e in events] == [AGG, AGG, LOST_EVENTS, AGG]
    assert events[-1].time_ns == 4000
    assert stream.lost() == 50
    assert [s.complete for s in trace.snapshots(events)] == [False, False]


def test_garbage_is_an_error_not_skipped() -> None:
    machine = FakeTracefs()
    stream = TracefsEvents(machine).open([AGG])
    machine.put("hello")
    with pytest.raises(HarnessError, match="'hello'"):
        stream.read()


# --- what is missing, and what is left over --------------------------------------------------


def test_missing_events_are_named() -> None:
    with pytest.raises(NotSupported, match=r"tracepoint damos_esz; tracepoint nothing"):
        TracefsEvents(FakeTracefs()).open([AGG, "damos_esz", "nothing"])


def test_without_tracefs_no_events_are_available() -> None:
    events = TracefsEvents(FakeTracefs(root="/elsewhere"))
    assert events.available() == frozenset()
    with pytest.raises(NotSupported, match="mount tracefs"):
        events.open([AGG])
    with pytest.raises(NotSupported, match="mount tracefs"):
        events.open([])


def test_old_mount_point_is_used() -> None:
    machine = FakeTracefs(root="/sys/kernel/debug/tracing")
    TracefsEvents(machine).open([AGG]).close()
    assert any(path.startswith("/sys/kernel/debug/tracing/instances/") for _, path, _ in machine.log)


def test_missing_privilege_is_reported() -> None:
    machine = FakeTracefs()
    machine.refuse.add(f"{ROOT}/instances/{PREFIX}77-1234-0")
    with pytest.raises(NotSupported, match=r"Permission denied.*run as root"):
        TracefsEvents(machine).open([AGG])


def test_a_failing_set_up_leaves_no_instance() -> None:
    machine = FakeTracefs()
    machine.refuse.add(f"{ROOT}/instances/{PREFIX}77-1234-0/trace_clock")
    with pytest.raises(HarnessError, match="trace_clock := 'mono'"):
        TracefsEvents(machine).open([AGG])
    assert machine.instances() == []


def test_buffers_are_smaller_when_memory_is_short() -> None:
    class Short(FakeTracefs):
        def _do(self, op: FileOp) -> bytes | Sequence[Entry]:
            if op.path.endswith("buffer_size_kb"):
                sizes.append(op.data.decode())
                if int(op.data) > 600:
                    raise OSError(errno.ENOMEM, "no memory", op.path)
            return super()._do(op)

    sizes: list[str] = []
    TracefsEvents(Short(), buffer_kb=(8192, 512, 64)).open([AGG]).close()
    assert sizes == ["8192", "512"]


def test_instances_of_dead_owners_are_removed_and_no_others() -> None:
    machine = FakeTracefs()
    machine.process(500, 42)
    mine, dead, reused = f"{PREFIX}500-42-0", f"{PREFIX}501-42-0", f"{PREFIX}500-41-3"
    for name in (mine, dead, reused, "somebody", f"{PREFIX}notes"):
        machine.directories.add(f"{ROOT}/instances/{name}")
    assert remove_left_over(machine, ROOT) == sorted([dead, reused])
    assert machine.instances() == sorted([mine, "somebody", f"{PREFIX}notes"])


def test_opening_removes_leftover_instances() -> None:
    machine = FakeTracefs()
    machine.directories.add(f"{ROOT}/instances/{PREFIX}501-42-0")
    TracefsEvents(machine).open([AGG]).close()
    assert machine.instances() == []


def test_a_single_lost_byte_is_a_loss() -> None:
    machine = FakeTracefs()
    stream = TracefsEvents(machine).open([AGG])
    machine.put(line(1), "")
    machine.pipes[0].lost_bytes = 1
    assert [e.name for e in stream.read()] == [AGG, LOST_EVENTS]
    assert stream.lost() == 1
    assert stream.read() == []
    assert stream.lost() == 1


def test_removal_waits_for_the_reader_to_be_gone() -> None:
    machine = FakeTracefs()
    stream = TracefsEvents(machine).open([AGG])
    machine.busy_rmdirs = 3
    stream.close()
    assert machine.instances() == []


def test_instance_that_stays_busy_is_an_error() -> None:
    machine = FakeTracefs()
    stream = TracefsEvents(machine).open([AGG])
    machine.busy_rmdirs = 10**9
    with pytest.raises(HarnessError, match=r"could not be removed.*busy"):
        stream.close()


def test_two_streams_do_not_share_an_instance() -> None:
    machine = FakeTracefs()
    events = TracefsEvents(machine)
    events.open([AGG])
    events.open([AGG])
    assert len(machine.instances()) == 2


def test_lost_machine_raises_machine_lost() -> None:
    machine = FakeTracefs()
    stream = TracefsEvents(machine).open([AGG])
    machine.dead = True
    with pytest.raises(MachineLost):
        stream.close()
    assert machine.pipes[0].closed
