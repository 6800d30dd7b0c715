# SPDX-License-Identifier: GPL-2.0
"""Live sources find what was touched and nothing else, and leave the process intact."""

from __future__ import annotations

import mmap
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import numpy as np
import psutil
import pytest
from serving import environment, until

from damon_tests.damon import trace
from damon_tests.damon.client import DamonClient
from damon_tests.damon.params import ANY, DamonCtx, DamonTarget, Damos, Kdamond
from damon_tests.damon.recording_file import load
from damon_tests.ports import NSEC_PER_SEC, NotSupported, UsageError, page_size
from damon_tests.reference.live import live_truth
from damon_tests.reference.live.page_idle import PageIdle
from damon_tests.reference.live.periodic_truth import PeriodicAccess, PeriodicTruth
from damon_tests.reference.live.realtime_clock import late_sleep_ns
from damon_tests.reference.live.write_tracking import SINGLY, WriteTracker

PAGES = 512

CHILD = f"""
import ctypes, mmap, sys
m = mmap.mmap(-1, {PAGES * page_size()})
m.write(bytes({PAGES * page_size()}))
print(ctypes.addressof(ctypes.c_char.from_buffer(m)), flush=True)
for line in sys.stdin:
    verb, *pages = line.split()
    total = 0
    for page in map(int, pages):
        if verb == "write": m[page * {page_size()}] = 7
        else: total += m[page * {page_size()}]
    print("done", flush=True)
print("good bye", flush=True)
"""


class Child:
    """A process that touches pages on request."""

    def __init__(self) -> None:
        pipe = subprocess.PIPE
        self.process = subprocess.Popen([sys.executable, "-c", CHILD], stdin=pipe, stdout=pipe, text=True)
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self._stdin: IO[str] = self.process.stdin
        self._stdout: IO[str] = self.process.stdout
        self.pid = self.process.pid
        self.first = int(self._stdout.readline()) // page_size()

    def touch(self, verb: str, pages: list[int]) -> None:
        self._stdin.write(f"{verb} {' '.join(map(str, pages))}\n")
        self._stdin.flush()
        assert self._stdout.readline() == "done\n"

    def end(self) -> str:
        self._stdin.close()
        last = self._stdout.read()
        assert self.process.wait(timeout=30) == 0
        return last


@pytest.fixture
def child() -> Iterator[Child]:
    started = Child()
    yield started
    started.process.kill()
    started.process.wait()


def tracker(pid: int) -> WriteTracker:
    try:
        made = WriteTracker(pid)
    except NotSupported as error:
        pytest.skip(str(error))
    made.arm()
    return made


@pytest.mark.parametrize("count", [5, SINGLY + 100])
def test_written_pages_and_only_those_are_found(child: Child, count: int) -> None:
    source = tracker(child.pid)
    rng = np.random.default_rng(1)
    for _ in range(5):
        asked = np.sort(rng.choice(PAGES, count, replace=False))
        written = rng.choice(PAGES, 40, replace=False)
        source.prepare(child.first + asked)
        child.touch("read", asked.tolist())
        child.touch("write", written.tolist())
        touched = source.touched(child.first + asked, 0, 1)
        assert touched.tolist() == np.isin(asked, written).tolist()
    source.close()


def test_the_process_goes_on_as_if_nothing_had_been(child: Child) -> None:
    fds = len(os.listdir(f"/proc/{child.pid}/fd"))
    source = tracker(child.pid)
    source.prepare(child.first + np.arange(10))
    assert len(os.listdir(f"/proc/{child.pid}/fd")) == fds
    assert "TracerPid:\t0\n" in Path(f"/proc/{child.pid}/status").read_text()
    source.close()
    child.touch("write", list(range(20)))
    assert child.end() == "good bye\n"


def test_a_sleeping_system_call_is_continued() -> None:
    started = time.monotonic()
    with subprocess.Popen(["sleep", "1"]) as sleeper:
        until(lambda: "[vdso]" in Path(f"/proc/{sleeper.pid}/maps").read_text(), "it runs")
        source = tracker(sleeper.pid)
        assert sleeper.wait(timeout=30) == 0
        assert time.monotonic() - started >= 1
        source.close()


def test_a_process_that_ended_touches_nothing_and_raises_nothing(child: Child) -> None:
    truth = live_truth.LiveTruth(child.pid, live_truth.KINDS["writes"], tracker(child.pid), 0)
    assert child.end() == "good bye\n"
    pages = child.first + np.arange(4)
    truth.prepare(pages, 0)
    truth.arm()
    assert not truth.touched(pages, 0, 1).any()
    assert not truth.alive
    truth.close()


BUSY = """
import sys
print("ready", flush=True)
sys.stdin.readline()
while True: pass
"""


def test_a_process_that_is_kept_from_running_is_starved_and_a_sleeping_one_is_not() -> None:
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, "-c", BUSY], stdin=pipe, stdout=pipe, text=True) as busy:
        try:
            assert busy.stdin is not None
            assert busy.stdout is not None
            assert busy.stdout.readline() == "ready\n"  # starting up it also sleeps now and then
            until(lambda: not live_truth.wants_to_run(busy.pid), "it waits for input")
            truth = live_truth.LiveTruth(busy.pid, live_truth.KINDS["writes"], NoSource(), 0)
            truth.prepare(np.zeros(0, np.int64), 0)
            assert not truth.was_starved(5_000)
            busy.stdin.write("go\n")
            busy.stdin.flush()
            until(lambda: live_truth.wants_to_run(busy.pid), "it runs")
            truth.prepare(np.zeros(0, np.int64), 0)
            assert truth.was_starved(3_600_000_000), "an hour is more than it had"
            until(lambda: not truth.was_starved(5_000), "it ran for 5 ms")
        finally:
            busy.kill()
    assert not truth.was_starved(5_000)
    assert not truth.alive


class NoSource:
    """A source that sees nothing."""

    def prepare(self, pages: np.ndarray) -> None: ...

    def touched(self, pages: np.ndarray, t0_ns: int, t1_ns: int) -> np.ndarray:
        return np.zeros(len(pages), np.bool_)

    def arm(self) -> None: ...

    def close(self) -> None: ...


class Half:
    """A source for which the lower half of what is watched was touched since it was prepared."""

    prepared: tuple[int, ...] = ()

    def prepare(self, pages: np.ndarray) -> None:
        self.prepared = tuple(pages.tolist())

    def touched(self, pages: np.ndarray, t0_ns: int, t1_ns: int) -> np.ndarray:
        assert tuple(pages.tolist()) == self.prepared, "asked for what was prepared"
        return pages < (HEAP + HALF) // page_size()

    def arm(self) -> None: ...

    def close(self) -> None: ...


HEAP, HALF = 1 << 32, 16 << 20


EVERY_TWO_SAMPLES = Damos(access_pattern=ANY, apply_interval_us=10_000)


@pytest.mark.parametrize("schemes", [(), (EVERY_TWO_SAMPLES,)], ids=["no scheme", "schemes in between"])
@pytest.mark.parametrize(("starved", "rate"), [(0, 20), (1, 20), (2, 20), (19, 20), (20, 0)])
def test_samples_of_a_starved_process_are_taken_when_it_runs(
    monkeypatch: pytest.MonkeyPatch, starved: int, rate: int, schemes: tuple[Damos, ...]
) -> None:
    """Of every 20 samples some cannot be taken; the counters are as if all had been. With none, as before."""
    asked = 0

    def was_starved(truth: live_truth.LiveTruth, sample_us: int) -> bool:
        nonlocal asked
        asked += 1
        return asked % 20 < starved if starved < 20 else True

    monkeypatch.setattr(live_truth.LiveTruth, "was_starved", was_starved)
    system = live_truth.LiveSystem("7.3", 1)
    truth = live_truth.LiveTruth(os.getpid(), live_truth.KINDS["writes"], Half(), 0)
    whole = (HEAP, HEAP + 2 * HALF)
    system.add_process([whole], truth, os.getpid())
    client = DamonClient(system.tree, system.clock)
    target = DamonTarget(os.getpid(), (whole,))
    client.stage([Kdamond(DamonCtx("fvaddr", targets=(target,), schemes=schemes))])
    client.command(0, "on")
    stream = system.events.open(["damon_aggregated"])
    system.clock.run_for(3 * NSEC_PER_SEC)
    last = trace.snapshots(stream.read())[-1]
    hot = last.nr_accesses >= 18
    if rate:
        assert int(last.sizes[hot].sum()) == pytest.approx(HALF, rel=0.15)
        assert last.age[hot].max() > 10
    else:
        assert not last.nr_accesses.any()


def test_a_process_that_may_not_be_traced_is_refused() -> None:
    with pytest.raises(NotSupported, match=r"may not be traced|cannot write-protect"):
        WriteTracker(1 << 22)


def test_what_cannot_be_watched_is_refused_with_reasons(child: Child) -> None:
    with pytest.raises(UsageError, match="there are auto, cooperative, writes, page_idle"):
        live_truth.watch(child.pid, 0, "telepathy")
    with pytest.raises(UsageError, match="no process has pid"):
        live_truth.watch(1 << 22, 0)
    with pytest.raises(NotSupported, match="cooperative: it publishes no touched-page slices"):
        live_truth.watch(child.pid, 0, "cooperative")


def test_idle_page_tracking_finds_touched_pages(tmp_path: Path) -> None:
    """With a bitmap file of ours in the kernel's place, for pages of this very process."""
    memory = mmap.mmap(-1, 4 * page_size())
    memory.write(bytes(4 * page_size()))
    first = np.frombuffer(memory, np.uint8).ctypes.data // page_size()
    pages = first + np.arange(4)
    bitmap = tmp_path / "bitmap"
    bitmap.touch()
    os.truncate(bitmap, 1 << 31)
    source = PageIdle(os.getpid(), str(bitmap))

    def attempt() -> bool:
        """Whether the kernel left the pages where they are meanwhile: only then something is shown."""
        before = frames(first)
        source.prepare(pages)
        idle = source.touched(pages, 0, 1)
        clear_bit(bitmap, before[0])
        accessed = source.touched(pages, 0, 1)
        if frames(first) != before:
            return False
        assert not idle.any()
        assert accessed.tolist() == [True, False, False, False]
        return True

    until(attempt, "pages stay in their frames")
    source.close()


def frames(first: int) -> list[int]:
    with open("/proc/self/pagemap", "rb", buffering=0) as file:
        file.seek(first * 8)
        frames = [int(entry) & ((1 << 55) - 1) for entry in np.frombuffer(file.read(32), np.uint64)]
    if not all(frames):
        pytest.skip("the kernel hides frame numbers")
    return frames


def clear_bit(bitmap: Path, frame: int) -> None:
    """What the kernel does when the page is accessed."""
    with bitmap.open("r+b") as file:
        file.seek(frame // 64 * 8)
        word = int.from_bytes(file.read(8), "little") & ~(1 << frame % 64)
        file.seek(frame // 64 * 8)
        file.write(word.to_bytes(8, "little"))


def test_periodic_truth_in_closed_form() -> None:
    truth = PeriodicTruth(
        [(0, 8 * page_size())],
        [PeriodicAccess(0, 2 * page_size(), 10), PeriodicAccess(4 * page_size(), 5 * page_size(), 3)],
    )
    pages = np.arange(8)
    assert np.flatnonzero(truth.touched(pages, 1, 3)).tolist() == []
    assert np.flatnonzero(truth.touched(pages, 1, 4)).tolist() == [4]
    assert np.flatnonzero(truth.touched(pages, 10, 11)).tolist() == [0, 1]
    assert truth.rate(pages, 0, 100, 5)[[0, 2]].tolist() == [0.5, 0.0]


def test_late_sleeps_are_made_good_once() -> None:
    now = time.monotonic_ns()
    assert late_sleep_ns(now + 10**9, 5000) == 5_000_000
    assert late_sleep_ns(now - 10**9, 5000) >= 10**9


def test_monitor_records_a_workload(tmp_path: Path) -> None:
    """A pattern of the library through its own slices: the hot part is found, the source named."""
    file = tmp_path / "seen.damon.npz"
    command = [sys.executable, "-m", "damon_tests.cli", "monitor", "--reference", "hot_cold"]
    done = subprocess.run(
        [*command, "--seconds", "4", "--record", str(file)],
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    if "not built" in done.stderr or "compiler" in done.stderr:
        pytest.skip(done.stderr)
    assert done.returncode == 0, done.stderr
    assert "watched by cooperative" in done.stdout
    recording, _ = load(file)
    assert recording.operations == "live:cooperative"
    assert len(recording.snapshots) > 5
    last = recording.snapshots[-1]
    assert last.sizes[last.nr_accesses > 10].sum() > 1 << 20


OUTSIDE_OF_CONTAINERS = pytest.mark.skipif(
    not Path("/proc/2/comm").exists() or Path("/proc/2/comm").read_text() != "kthreadd\n",
    reason="kernel threads are not seen here",
)


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["4194304"], 2, "no process has pid 4194304"),
        (["nope"], 2, "no pattern is named 'nope'"),
        pytest.param(["2"], 5, "process 2 has no memory of its own", marks=OUTSIDE_OF_CONTAINERS),
        (["1", "--operations", "nope"], 2, "unknown operations set 'nope'"),
        (["1", "--level", "9.9"], 2, "unknown level '9.9'"),
        (["1", "--seconds", "0"], 2, "0 is no time"),
        (["1", "--seconds", "nan"], 2, "nan is no time"),
        (["1", "--record", "/"], 2, "/ cannot be written: Is a directory"),
        (["1", "--record", "/none/x"], 2, "there is no directory /none"),
        (["1", "--record", "/proc/x"], 2, "/proc/x cannot be written"),
    ],
)
def test_monitor_refuses_bad_input(arguments: list[str], code: int, says: str) -> None:
    command = [sys.executable, "-m", "damon_tests.cli", "monitor", "--reference", *arguments]
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, check=False)
    assert done.returncode == code
    assert says in done.stderr
    assert "Traceback" not in done.stderr


def test_monitor_ends_with_the_process(child: Child) -> None:
    command = [sys.executable, "-m", "damon_tests.cli", "monitor", "--reference", str(child.pid)]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, env=environment(), stdout=pipe, stderr=pipe, text=True) as monitor:
        # Watched or not yet: it has to notice the end either way.
        until(lambda: bool(psutil.Process(monitor.pid).cpu_times().user > 0.5), "it has begun")
        child.end()
        out, err = monitor.communicate(timeout=60)
    assert "has ended" in out + err or "no process has pid" in err or "traced" in err, (out, err)
