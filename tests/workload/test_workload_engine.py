# SPDX-License-Identifier: GPL-2.0
"""The engine, run on this machine with tiny patterns."""

from __future__ import annotations

import os
import signal
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from engine_starter import TIMEOUT_NS, Starter, slices_of_one
from workload_samples import pass_pages, three_regions

from damon_tests.kernel.host.machine import LocalMachine
from damon_tests.patterns.load import parse
from damon_tests.ports import HarnessError, NotSupported, UsageError
from damon_tests.workload import engine
from damon_tests.workload.engine import EngineTarget
from damon_tests.workload.engine_files import parse_status
from damon_tests.workload.engine_program import Files, write_program
from damon_tests.workload.target import RunningTarget

PAGE = 4096
MSEC = 1_000_000

TINY = """
reason: one sequential and one random term, strides, islands, reads
repeat: true
regions:
  - {name: a, size: 1 MiB}
  - {name: b, size: 1 MiB, populate: false}
phases:
  - name: one
    duration: 60 ms
    accesses:
      - {region: a, span: 64 KiB .. 128 KiB, stride: 8 KiB, islands: 3, every: 256 KiB, period: 3 ms}
      - {region: b, span: 256 KiB .. 512 KiB, order: random, touches: 3, period: 2 ms}
  - name: two
    duration: 40 ms
    accesses:
      - {region: a, span: 0 .. 16 KiB, stride: 1 KiB, kind: read, period: 5 ms}
      - {region: b, order: random, touches: 2, islands: 2, every: 512 KiB, span: 0 .. 8 KiB, period: 1 ms}
"""


def all_pages(target: EngineTarget) -> np.ndarray:
    return np.concatenate([np.arange(a // PAGE - 1, b // PAGE + 1) for a, b in target.layout.values()])


@pytest.mark.parametrize(
    "arguments", [(0, 0, 0, 0, 20, 1), (1, 2, 3, 4, 50, 1000), (2**64 - 1, 9, 8, 10**12, 40, 2**32 - 1)]
)
def test_c_and_python_draw_the_same_pages(engine_path: str, arguments: tuple[int, ...]) -> None:
    done = subprocess.run(
        [engine_path, "--draw", *map(str, arguments)], capture_output=True, text=True, check=True, timeout=30
    )
    seed, phase, term, index, touches, slots = arguments
    expected = pass_pages(seed, phase, term, index, touches=touches, slots=slots)
    assert [int(line) for line in done.stdout.split()] == expected.tolist()


def test_engine_implements_running_target(start: Starter) -> None:
    target: RunningTarget = start(TINY)
    assert target.pid > 0
    assert target.phases() == ()
    assert set(target.accesses().values()) == {0}


def test_regions_are_laid_out_in_order_with_gaps(start: Starter, machine: LocalMachine) -> None:
    """Check list order, gaps, and the ranges of DAMON's three-regions rule on the real mappings."""
    target = start(TINY)
    (a_start, a_end), (b_start, b_end) = target.layout["a"], target.layout["b"]
    assert a_end - a_start == b_end - b_start == 1 << 20
    assert b_start - a_end >= target.pattern.gap_bytes
    maps = machine.read_file(f"/proc/{target.pid}/maps").decode().splitlines()
    vmas = [tuple(int(word, 16) for word in line.split()[0].split("-")) for line in maps]
    vmas = [vma for vma in vmas if vma[0] < 1 << 63]
    assert {(a_start, a_end), (b_start, b_end)} <= set(vmas)
    assert three_regions(vmas) == target.vaddr  # type: ignore[arg-type]
    middle = target.vaddr[1]
    assert middle[0] == a_start
    assert b_end <= middle[1]


def test_slices_and_pass_log_agree(start: Starter) -> None:
    """The bitmap in which each touch was marked equals the pages computed from log and generator."""
    target = start(TINY, slices_ns=4 * MSEC)
    target.go()
    start.run_until_phase(target, 3)
    target.stop()
    log, slices = target.truth(), target.slices()
    pages = all_pages(target)
    compared = 0
    for begin, end in slices_of_one(slices):
        np.testing.assert_array_equal(log.touched(pages, begin, end), slices.touched(pages, begin, end))
        compared += int(slices.touched(pages, begin, end).any())
    assert compared >= 10
    status = target.status()
    assert status.slices_dropped == status.passes_dropped == 0
    assert slices.span_ns() == log.span_ns()


def test_logged_passes_follow_the_plan(start: Starter) -> None:
    """Each logged pass is planned and not early; passes done and missed add up to the plan."""
    target = start(TINY)
    target.go()
    start.run_until_phase(target, 2)
    target.stop()
    truth, status, pattern = target.truth(), target.status(), target.pattern
    go = truth.span_ns()[0]
    assert len(truth._all) >= 2
    for run in truth._all:
        planned = go + pattern.phase_start_ns(run.number)
        for track, access in zip(run.tracks, run.geometry.terms, strict=True):
            for position in range(len(track._starts)):  # type: ignore[attr-defined]
                due = planned + track.pass_index(position) * access.access.period_ns
                assert track._starts[position] >= due  # type: ignore[attr-defined]
    # Phase 0 ran to its end once (its repetition, phase 2, has just begun).
    for term in (0, 1):
        access = pattern.phases[0].accesses[term]
        count = status.terms[0, term]
        planned_passes = -(-pattern.phases[0].duration_ns // access.period_ns)
        assert count.passes + count.missed >= planned_passes
        assert count.accesses == count.passes * access.touches_per_pass
    passes = sum(count.passes for count in status.terms.values())
    assert passes == status.passes_logged
    assert 0 < status.flushes <= passes
    assert "mprotect" in target.visibility


def test_every_planned_pass_is_done_or_missed(start: Starter) -> None:
    """With a period that no machine can keep, every pass that is not done is counted as missed."""
    text = """
reason: too fast
regions: [{name: r, size: 1 MiB}]
phases: [{name: p, duration: 20 ms, accesses: [{region: r, stride: 64 B, period: 500 ns}]}]
"""
    target = start(text)
    target.go()
    clock = start.machine.clock
    assert clock.wait_until(
        lambda: len(target.phases()) == 1 and target.phases()[0].end_ns is not None,
        clock.now_ns() + TIMEOUT_NS,
    )
    count = target.status().terms[0, 0]
    assert count.missed > 0
    assert count.passes + count.missed == 40_000


def test_random_pages_come_from_the_seed(start: Starter) -> None:
    """A slice has the pages that pass_pages draws for its passes."""
    text = """
reason: random only
regions: [{name: r, size: 4 MiB}]
phases: [{name: p, duration: 30 ms, accesses: [{region: r, order: random, touches: 4, period: 3 ms}]}]
"""
    target = start(text, seed=99, slices_ns=MSEC)
    target.go()
    start.run_until_phase(target, 0)
    clock = start.machine.clock
    assert clock.wait_until(lambda: target.phases()[0].end_ns is not None, clock.now_ns() + TIMEOUT_NS)
    target.stop()
    truth = target.truth()
    done = [truth._all[0].tracks[0].pass_index(i) for i in range(target.status().passes_logged)]
    assert done
    expected = {
        target.layout["r"][0] // PAGE + int(slot)
        for index in done
        for slot in pass_pages(99, 0, 0, index, touches=4, slots=1024)
    }
    pages = all_pages(target)
    assert set(pages[target.slices().touched(pages, *truth.span_ns())].tolist()) == expected


def test_phases_are_in_order_and_end(start: Starter) -> None:
    target = start(TINY.replace("repeat: true", "repeat: false"))
    target.go()
    clock = start.machine.clock
    over = clock.wait_until(
        lambda: [phase.end_ns is not None for phase in target.phases()] == [True, True],
        clock.now_ns() + TIMEOUT_NS,
    )
    assert over
    first, two = target.phases()
    assert (first.name, two.name) == ("one", "two")
    assert first.end_ns is not None
    assert two.end_ns is not None
    assert first.end_ns - first.start_ns >= 60 * MSEC
    assert first.end_ns == two.start_ns
    assert two.end_ns - first.start_ns >= 100 * MSEC
    before = target.accesses()
    target.stop()
    assert target.accesses() == before, "it idles after the last phase"
    assert target.phases() == (first, two)
    go = target.truth().span_ns()[0]
    assert first.start_ns == go


def test_physical_ranges_cover_populated_regions(start: Starter) -> None:
    target = start(TINY)
    if os.geteuid() != 0:
        with pytest.raises(NotSupported):
            target.physical()
        return
    physical = target.physical()
    assert sum(end - begin for begin, end in physical["a"]) == 1 << 20
    assert physical["b"] == (), "not populated"
    for (_, end), (begin, _) in zip(physical["a"], physical["a"][1:], strict=False):
        assert end < begin


def test_stop_is_idempotent_and_leaves_nothing(start: Starter, tmp_path: Path) -> None:
    target = start(TINY)
    target.go()
    start.run_until_phase(target, 0)
    assert list(tmp_path.iterdir())
    target.stop()
    target.stop()
    assert list(tmp_path.iterdir()) == []
    assert not os.path.exists(f"/proc/{target.pid}") or "Z" in Path(f"/proc/{target.pid}/stat").read_text()
    assert target.status().state == "stopped"
    assert target.phases()[-1].end_ns == target.status().stopped_ns
    with pytest.raises(HarnessError, match="go was called"):
        target.go()


def test_target_stopped_before_go_has_no_truth(start: Starter) -> None:
    target = start(TINY)
    target.stop()
    assert target.phases() == ()
    with pytest.raises(HarnessError, match="before go"):
        target.truth()


def test_slices_need_slices_ns(start: Starter) -> None:
    target = start(TINY)
    target.go()
    target.stop()
    with pytest.raises(NotSupported, match="no slices"):
        target.slices()


def test_truth_needs_the_pass_log(start: Starter, machine: LocalMachine, tmp_path: Path) -> None:
    target = engine.start(machine, parse(TINY), 1, start.engine_path, str(tmp_path), pass_log=False)
    start.started.append(target)
    target.go()
    start.run_until_phase(target, 1)
    target.stop()
    assert target.accesses()[0, "a"] > 0
    with pytest.raises(NotSupported, match="no passes were logged"):
        target.truth()


def test_end_of_stdin_and_signals_end_the_engine(start: Starter) -> None:
    for end in ("stdin", "signal"):
        target = start(TINY)
        target.go()
        if end == "stdin":
            target._dialogue._process.close_stdin()
        else:
            target._dialogue._process.kill(signal.SIGTERM)
        assert target._dialogue._process.wait(TIMEOUT_NS).code == 0
        target.stop()
        assert target.truth().span_ns()[1] == target.status().stopped_ns


def test_early_death_is_reported(start: Starter) -> None:
    target = start(TINY)
    target.go()
    target._dialogue._process.kill(signal.SIGKILL)
    target._dialogue._process.wait(TIMEOUT_NS)
    with pytest.raises(HarnessError, match="killed by signal 9"):
        target.accesses()
    target.stop()
    with pytest.raises(HarnessError, match=r"ended \(killed by SIGKILL\)"):
        target.truth()


def test_missing_engine_is_a_harness_error(start: Starter, tmp_path: Path) -> None:
    start.engine_path = str(tmp_path / "missing")
    with pytest.raises(HarnessError, match="cannot be started"):
        start(TINY)
    assert list(tmp_path.iterdir()) == []


def test_foreign_program_is_a_harness_error(start: Starter, tmp_path: Path) -> None:
    script = tmp_path / "script"
    script.write_text("#!/bin/sh\necho 'I am no engine' >&2\nexit 4\n", encoding="utf-8")
    script.chmod(0o755)
    start.engine_path = str(script)
    with pytest.raises(HarnessError, match=r"exit code 4 before it said 'ready': I am no engine"):
        start(TINY)


def test_unusable_directory_is_a_harness_error(start: Starter, tmp_path: Path) -> None:
    start.work_dir = tmp_path / "missing" / "deeper"
    with pytest.raises(HarnessError, match="directory cannot be made"):
        start(TINY)


def test_too_much_memory_is_not_supported(start: Starter, tmp_path: Path) -> None:
    text = """
reason: far too much
regions: [{name: r, size: 16 TiB}]
phases: [{name: p, duration: 1 s, accesses: []}]
"""
    with pytest.raises(NotSupported, match=r"needs 16777216 MiB of memory, and \d+ MiB are available"):
        start(text)
    with pytest.raises(NotSupported, match="does not fit into the address space"):
        start(text.replace("16 TiB", "1024 TiB, populate: false"))
    assert list(tmp_path.iterdir()) == []


GOOD_PROGRAM = write_program(parse(TINY), 1, Files("/proc/no-such"), None).decode()

REGIONS = "".join(line for line in GOOD_PROGRAM.splitlines(keepends=True) if line.startswith("region "))


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        (
            "damon-tests-engine 2",
            "damon-tests-engine 1",
            'line 1 of the program: expected "damon-tests-engine 2"',
        ),
        ("seed 1", "seed x", "line 2 of the program: seed is not a number"),
        ("seed 1", "seed -1", "seed is not a number"),
        ("seed 1", "seed 18446744073709551616", "seed is not a number"),
        ("seed 1", "sead 1", "an unknown statement"),
        ("visible flush", "visible maybe", "an unknown word"),
        ("region a 1048576 1 no", "region a 1048576 1", "too few words"),
        ("region a 1048576 1 no", "region a 1000 1 no", "size is not a number from 4096"),
        ("region a 1048576", "region a 1048577", "not a multiple of the page size"),
        ("region a 1048576 1 no", f"region {'a' * 70} 1048576 1 no", "a name is too long"),
        ("phase one 60000000", "region_gap 5000\nphase one 60000000", "a gap that is not a multiple"),
        ("phase one 60000000", "region_same_as 0\nphase one 60000000", "private memory that is to be mapped"),
        ("phase one 60000000", "region_same_as 1\nphase one 60000000", "the same as itself"),
        ("phase two 40000000", "region_gap 4096\nphase two 40000000", "a region_gap that follows no region"),
        ("phase one 60000000", "phase one 0", "duration is not a number"),
        ("access 0 65536 131072", "access 2 65536 131072", "region is not a number from 0 to 1"),
        ("access 0 65536 131072", "access 0 131072 65536", "outside its region, or empty"),
        ("sequential 8192 3000000 0", "random 8192 3000000 0", "touches are missing"),
        ("sequential 8192 3000000 0", "backwards 8192 3000000 0", "an unknown word where there is a choice"),
        ("access 0 65536 131072 sequential", "action mmap 0 0 4096 0 0 0 0 0", "end is not a number"),
        ("262144 0 0 0 1 1 0 0", "262144 0 0 4097 1 1 0 0", "a drift that is not a multiple"),
        ("262144 0 0 0 1 1 0 0", "262144 0 0 4096 1 500 0 0", "a drift out of the region"),
        ("262144 0 0 0 1 1 0 0", "262144 0 0 0 1 1 8 0", "process is not a number from 0 to 7"),
        ("phase two 40000000", "bucket 5 5\nphase two 40000000", "a bucket of an access that has none"),
        ("524288 random 4096", "524288 weighted 4096", "an access without its buckets"),
        ("write 3 262144", "write 3 4096", "islands that overlap"),
        ("write 3 262144", "write 5 262144", "islands beyond their region"),
        ("phase one 60000000\n", "", "an access before the first phase"),
        (
            "524288 random 4096 2000000 3 write 1 0 0 0 0 1 1 0 0",
            "524288 weighted 4096 2000000 3 write 1 0 0 0 0 1 1 0 0\nbucket 9 7\nbucket 9 8",
            "end is not a number from 10 to 64",
        ),
        (REGIONS, "", "a phase before the first region"),
        ("\nend\n", "\n", 'stdin ended before "end"'),
        ("status /proc/no-such/status\n", "", "status and phases are needed"),
    ],
)
def test_bad_programs_are_refused(engine_path: str, old: str, new: str, says: str) -> None:
    assert GOOD_PROGRAM.count(old) == 1, old
    bad = GOOD_PROGRAM.replace(old, new)
    done = subprocess.run([engine_path], input=bad, capture_output=True, text=True, check=False, timeout=30)
    assert done.returncode == 2
    assert says in done.stderr
    assert done.stderr.count("\n") == 1


def test_bad_files_and_arguments_are_refused(engine_path: str) -> None:
    done = subprocess.run(
        [engine_path], input=GOOD_PROGRAM, capture_output=True, text=True, check=False, timeout=30
    )
    assert (done.returncode, "cannot be created" in done.stderr) == (1, True)
    done = subprocess.run([engine_path, "--help"], capture_output=True, text=True, check=False, timeout=30)
    assert (done.returncode, "takes its program on stdin" in done.stderr) == (2, True)


def test_unknown_command_is_refused(engine_path: str, tmp_path: Path) -> None:
    text = write_program(parse(TINY), 1, Files(str(tmp_path)), None).decode() + "walk\n"
    done = subprocess.run([engine_path], input=text, capture_output=True, text=True, check=False, timeout=30)
    assert (done.returncode, 'unknown command "walk"' in done.stderr) == (2, True)


def test_full_log_ends_the_truth(start: Starter, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lost passes are counted, and the truth's span ends with the log."""
    monkeypatch.setattr("damon_tests.workload.engine_program.MAX_PASSES", 5)
    monkeypatch.setattr("damon_tests.workload.engine_program.MAX_SLICES_BYTES", 800)
    target = start(TINY, slices_ns=MSEC)
    target.go()
    start.run_until_phase(target, 1)
    target.stop()
    status = target.status()
    assert status.passes_logged <= 5
    assert status.passes_logged + status.passes_dropped == sum(c.passes for c in status.terms.values())
    assert status.slices_dropped > 0
    assert target.truth().span_ns()[1] == status.first_dropped_ns < status.stopped_ns
    assert target.slices().span_ns()[1] < status.stopped_ns


def test_truth_of_a_running_target_covers_the_past(start: Starter) -> None:
    target = start(TINY)
    target.go()
    start.run_until_phase(target, 1)
    early = target.truth()
    start.run_until_phase(target, 2)
    assert early.span_ns()[1] < target.truth().span_ns()[1]
    pages = all_pages(target)
    assert early.touched(pages, *early.span_ns()).any()


def test_overloaded_engine_still_stops(start: Starter) -> None:
    """Phases of a microsecond end before they begin: passes are missed, and the engine still stops."""
    pattern = parse(TINY)
    phases = tuple(replace(phase, duration_ns=1000) for phase in pattern.phases)
    target = start(replace(pattern, phases=phases))
    target.go()
    start.run_until_phase(target, 100)
    target.stop()
    status = target.status()
    assert target._failure is None
    assert status.terms[0, 0].missed > 0
    assert status.phases == len(target.phases())


@pytest.mark.parametrize("data", [b"", b"state running\n", b"state running\nworker 1\n"])
def test_malformed_status_is_a_harness_error(data: bytes) -> None:
    with pytest.raises(HarnessError, match="not understood"):
        parse_status(data)


def test_a_directory_with_a_newline_is_refused() -> None:
    with pytest.raises(UsageError, match="shorter, plain path"):
        write_program(parse(TINY), 1, Files("/a\nb"), None)
