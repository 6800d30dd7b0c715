# SPDX-License-Identifier: GPL-2.0
"""The accesses that the QEMU plugin records: parsing them, and what they are in a real guest."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import pytest

from damon_tests import bundle
from damon_tests.experiment.kernel_request import KernelRequest
from damon_tests.experiment.open_backend import open_backend
from damon_tests.kernel.guest.access_report import parse_runs, require_pids, to_monotonic
from damon_tests.kernel.guest.guest import Guests
from damon_tests.kernel.guest.topology import Topology
from damon_tests.kernel.images import image
from damon_tests.patterns.load import load
from damon_tests.ports import NSEC_PER_MSEC, HarnessError, NotSupported, page_size
from damon_tests.ports.accesses import AccessRuns
from damon_tests.workload import engine
from damon_tests.workload.access_truth import of_frames, of_pages

REPORT = """\
instructions 10000 lost_frames 0
accesses 500 unknown 3 runs 2
clock 40 exact 30 idle 2 behind 9
pid_offset 2496
space 1 1000 1 init
space 2 2000 102 redis-server
end
"""
LIBRARY = sorted(path.stem for path in bundle.patterns_dir().glob("*.yaml"))
KINDS = ("exec", "gaussian", "idle", "two_threads")
"""One pattern of each kind of accesses; the others take minutes."""


def written(tmp_path: Path, rows: int = 2) -> Path:
    fields = [("t0", "<u8"), ("t1", "<u8"), ("p", "<u8"), ("f", "<u4"), ("s", "<u2"), ("k", "<u2")]
    runs = np.zeros(rows, np.dtype(fields))
    runs[0] = (1000, 1500, 0x400, 77, 2, 1)
    runs[1] = (3000, 3000, 0x401, 0xFFFFFFFF, 2, 0)
    path = tmp_path / "accesses"
    runs.tofile(path)
    return path


def parsed(path: Path, report: str = REPORT) -> AccessRuns:
    return parse_runs(path, report, (0, 9000), 1000, to_monotonic((0, 100), (1000, 2100)), 1.5)


def test_runs_are_parsed(tmp_path: Path) -> None:
    """Times are converted from the time stamp counter; here a tick is 2 ns."""
    runs = parsed(written(tmp_path))
    assert runs.first_ns.tolist() == [2100, 6100]
    assert runs.last_ns.tolist() == [3100, 6100]
    assert runs.frame.tolist() == [77, -1]
    assert [(space.pid, space.comm) for space in runs.spaces] == [(1, "init"), (102, "redis-server")]
    assert (runs.recorded.accesses, runs.recorded.unknown, runs.recorded.clock_behind_ns) == (500, 3, 9)


@pytest.mark.parametrize(
    ("span_ns", "pages"), [((0, 9000), 2), ((3100, 6100), 1), ((3101, 9000), 1), ((7000, 9000), 0)]
)
def test_runs_outside_of_the_span_are_left_out(tmp_path: Path, span_ns: tuple[int, int], pages: int) -> None:
    """The plugin begins a moment before the window, and ends a moment after it. The runs are from 2100 ns to
    3100 ns and at 6100 ns."""
    runs = parse_runs(written(tmp_path), REPORT, span_ns, 1000, to_monotonic((0, 100), (1000, 2100)), 1.5)
    assert len(runs) == pages


@pytest.mark.parametrize("report", [REPORT.removesuffix("end\n"), REPORT.replace("runs 2", "runs 3"), ""])
def test_incomplete_report_is_refused(tmp_path: Path, report: str) -> None:
    with pytest.raises(HarnessError, match=r"cut off|other accesses"):
        parsed(written(tmp_path), report)


def test_window_without_pids_is_refused() -> None:
    """Otherwise a process's accesses would look like none."""
    require_pids(REPORT)
    with pytest.raises(HarnessError, match="pids"):
        require_pids(REPORT.replace("pid_offset 2496", "pid_offset 0"))


@pytest.mark.vm
@pytest.mark.parametrize(
    "name", [name if name in KINDS else pytest.param(name, marks=pytest.mark.long) for name in LIBRARY]
)
def test_accesses_equal_those_of_the_engine(tmp_path: Path, name: str) -> None:
    """In every slice, on two CPUs, the recorded pages are those that the engine marked; their frames are
    those of pagemap; and nothing else than mapped memory was accessed, as walks of page tables would show.
    """
    with open_backend(KernelRequest("debian:7.3"), tmp_path) as backend:
        subject = backend.subject(1, Topology(instructions=True))
        probe = subject.access_probe()
        probe.prepare()
        machine = subject.machine  # type: ignore[attr-defined]
        pattern = load(name)
        try:
            target = engine.start(
                machine, pattern, 1, "/bin/damon-tests-engine", "/tmp", slices_ns=5 * NSEC_PER_MSEC
            )
        except NotSupported as error:
            pytest.skip(str(error))
        target.go()
        machine.clock.run_for(300 * NSEC_PER_MSEC)
        with probe.window() as window:
            machine.clock.run_for(20 * NSEC_PER_MSEC)
            began_ns = machine.clock.now_ns()
            machine.clock.run_for(300 * NSEC_PER_MSEC)
            ended_ns = machine.clock.now_ns()
        frames = {r: subject.pages(target, *span).frame for r, span in target.layout.items()}
        mapped = subject.vmas(target)
        slices, layout, pids = target.slices(), dict(target.layout), set(target.pids.values())
        target.stop()
        subject.close()
    runs = window.result
    mine = runs.of_process(target.pid)
    truth = of_pages(mine)
    pages = np.concatenate([np.arange(a // page_size(), b // page_size()) for a, b in layout.values()])
    judged = 0
    for worker in slices.workers:
        own = copy.copy(slices)
        own.workers = (worker,)
        for start, end in zip(worker.starts_ns.tolist(), worker.ends_ns.tolist(), strict=True):
            if began_ns <= start and end <= ended_ns:
                judged += 1
                recorded = truth.touched(pages, start, end)
                missed = own.touched(pages, start, end) & ~recorded
                assert not missed.any(), f"slice {start}..{end}: not recorded {pages[missed][:5]}"
                # Slices of other workers overlap this one.
                wrong = recorded & ~slices.touched(pages, start, end)
                assert not wrong.any(), f"slice {start}..{end}: not accessed {pages[wrong][:5]}"
    assert judged > 40
    if pattern.phases[0].actions or len(pids) > 1:
        return
    for region, (start, _) in layout.items():
        inside = (mine.page >= start // page_size()) & (
            mine.page < start // page_size() + len(frames[region])
        )
        assert (mine.frame[inside] == frames[region][mine.page[inside] - start // page_size()]).all()
    known = np.zeros(len(mine), bool)
    for start, end in mapped:
        known |= (mine.page >= start // page_size()) & (mine.page < end // page_size())
    assert known.all(), f"accesses outside of all mappings: {mine.chosen(~known).page[:5]}"
    assert of_frames(runs).touched(np.unique(mine.frame[mine.frame >= 0]), *runs.span_ns).all()


@pytest.mark.vm
def test_guest_without_plugin_has_no_accesses(tmp_path: Path) -> None:
    """Off, recording costs nothing: QEMU runs without the plugin."""
    found = image.resolve("debian:7.3")
    with Guests(tmp_path, clock="instructions") as guests, guests.fresh(found, Topology(), 1) as guest:
        assert guest.accesses is None
