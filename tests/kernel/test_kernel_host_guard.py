# SPDX-License-Identifier: GPL-2.0
"""A killed run leaves nothing changed: its guard undoes the changes, or else the next run does."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from fake_sysfs import COUNT, KDAMONDS, FakeDamon

from damon_tests.kernel.host.journal import Journal
from damon_tests.kernel.host.journaled import JournaledMachine
from damon_tests.kernel.host.machine import LocalClock, LocalMachine
from damon_tests.kernel.host.owner import start_time
from damon_tests.kernel.host.restore import recover
from damon_tests.ports import NSEC_PER_SEC, HarnessError

CLOCK = LocalClock()
TESTS = Path(__file__).resolve().parents[1]

# A run that changes several things below ROOT, prints its pids, and waits to be killed.
RUN = """
import os, signal, sys
sys.path.insert(0, sys.argv[3])
from fake_sysfs import COUNT, KDAMONDS, FakeDamon
from pathlib import Path
from damon_tests.kernel.host.machine import LocalMachine
from damon_tests.kernel.host.journal import Journal
from damon_tests.kernel.host.journaled import JournaledMachine, JournaledTree
from damon_tests.ports import FileOp, SpawnRequest

root, directory = sys.argv[1:3]
damon = FakeDamon(Path(root))
journal = Journal(directory, root=root)
machine = JournaledMachine(LocalMachine(root=root), journal)
machine.write_file("/swappiness", b"100\\n")
machine.write_file("/thp", b"never\\n")
machine.batch([FileOp("mkdir", "/group"), FileOp("write", "/group/file", b"x", create=True)])
tree = JournaledTree(damon, journal)
tree.write(damon.parameter("damon_stat", "enabled"), "N")
tree.write(damon.parameter("damon_stat", "sample_interval"), "7")
tree.write(COUNT, "1")
tree.write(f"{KDAMONDS}/0/contexts/nr_contexts", "1")
tree.write(f"{KDAMONDS}/0/state", "on")
process = machine.spawn(SpawnRequest([sys.executable, "-S", "-c", "import signal; signal.pause()"]))
if len(sys.argv) > 4:
    exec(sys.argv[4])
print(journal._guard.pid, process.pid, flush=True)
signal.pause()
"""


def eventually(condition: Callable[[], bool], seconds: int = 60) -> bool:
    return CLOCK.wait_until(condition, CLOCK.now_ns() + seconds * NSEC_PER_SEC)


class Run:
    """A child of the test that has changed the tree; ``guard`` and ``target`` are pids."""

    def __init__(self, root: Path, directory: Path, *extra: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", RUN, str(root), str(directory), str(TESTS), *extra],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        self.guard, self.target = map(int, self.process.stdout.readline().split())

    def kill(self, number: int = signal.SIGKILL) -> None:
        self.process.send_signal(number)
        self.process.wait()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    path = tmp_path / "root"
    path.mkdir()
    damon = FakeDamon(path)
    damon.put("/swappiness", "60\n")
    damon.put("/thp", "madvise\n")
    damon.start_module("damon_stat")
    return path


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "journal"


@pytest.fixture
def run(root: Path, directory: Path) -> Iterator[Callable[..., Run]]:
    runs: list[Run] = []

    def start(*extra: str) -> Run:
        runs.append(Run(root, directory, *extra))
        return runs[-1]

    yield start
    for started in runs:
        started.kill()
        assert eventually(lambda started=started: start_time(started.guard) is None)  # type: ignore[misc]


def settings(root: Path) -> dict[str, str]:
    """Return the values that a run changes and must restore, without the fake's kdamond directories."""
    damon = FakeDamon(root)
    names = ["/swappiness", "/thp", COUNT] + [
        damon.parameter(m, name)
        for m in ("damon_stat", "damon_reclaim")
        for name in ("enabled", "sample_interval")
    ]
    return {name: damon.get(name) for name in names} | {"group": str((root / "group").exists())}


BEFORE = {
    "/swappiness": "60",
    "/thp": "madvise",
    COUNT: "0",
    "/sys/module/damon_stat/parameters/enabled": "Y",
    "/sys/module/damon_stat/parameters/sample_interval": "5000",
    "/sys/module/damon_reclaim/parameters/enabled": "N",
    "/sys/module/damon_reclaim/parameters/sample_interval": "5000",
    "group": "False",
}


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGABRT])
def test_the_guard_restores_all_when_the_run_is_killed(
    run: Callable[..., Run], root: Path, directory: Path, number: signal.Signals
) -> None:
    killed = run()
    changed = settings(root)
    assert not [
        name
        for name in BEFORE
        if name.endswith(("ness", "thp", "kdamonds")) and changed[name] == BEFORE[name]
    ]
    assert FakeDamon(root).get(f"{KDAMONDS}/0/state") == "on"
    killed.kill(number)
    assert eventually(lambda: settings(root) == BEFORE), settings(root)
    assert eventually(lambda: start_time(killed.guard) is None)
    assert start_time(killed.target) is None
    assert FakeDamon(root).get(f"{KDAMONDS}/0/state") == "off"
    assert os.listdir(directory) == []
    assert recover(directory) == []


def test_the_next_run_restores_when_the_guard_was_killed_too(
    run: Callable[..., Run], root: Path, directory: Path
) -> None:
    killed = run()
    os.kill(killed.guard, signal.SIGKILL)
    killed.kill()
    assert settings(root)["/swappiness"] == "100"
    (leftover,) = recover(directory)
    assert leftover.owner.pid == killed.process.pid
    assert leftover.cmdline.startswith(sys.executable)
    assert {o.result for o in leftover.outcomes} <= {"restored", "nothing"}
    assert settings(root) == BEFORE
    assert start_time(killed.target) is None
    assert recover(directory) == []


def test_the_next_run_leaves_a_kdamond_that_is_not_the_leftover(
    run: Callable[..., Run], root: Path, directory: Path
) -> None:
    killed = run()
    os.kill(killed.guard, signal.SIGKILL)
    killed.kill()
    damon = FakeDamon(root)
    pid = damon.start()  # another user turned it off and on again meanwhile
    (leftover,) = recover(directory)
    (kdamond,) = [o for o in leftover.outcomes if o.kind == "kdamonds"]
    assert kdamond.result == "left"
    assert str(pid) in kdamond.detail
    assert (damon.get(COUNT), damon.get(f"{KDAMONDS}/0/state")) == ("1", "on")


def test_child_of_the_run_does_not_delay_the_guard(run: Callable[..., Run], root: Path) -> None:
    """A fork holds a copy of the pipe's end, so the pipe stays open when the run dies."""
    killed = run("if os.fork() == 0: os.close(1); signal.pause(); os._exit(0)")
    children = Path(f"/proc/{killed.process.pid}/task/{killed.process.pid}/children").read_text().split()
    (fork,) = [int(c) for c in children if int(c) not in (killed.guard, killed.target)]
    try:
        killed.kill()
        assert eventually(lambda: settings(root) == BEFORE)
        assert start_time(fork) is not None
    finally:
        os.kill(fork, signal.SIGKILL)


def test_signals_to_the_runs_group_do_not_reach_the_guard(run: Callable[..., Run], root: Path) -> None:
    killed = run()
    assert os.getsid(killed.guard) == killed.guard
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        os.kill(killed.guard, number)
    killed.kill()
    assert eventually(lambda: settings(root) == BEFORE)


def test_clean_end_restores_and_ends_the_guard(root: Path, directory: Path) -> None:
    with Journal(directory, root=root) as journal:
        JournaledMachine(LocalMachine(root=root), journal).write_file("/swappiness", b"100\n")
        assert journal._guard is not None
        guard = journal._guard.pid
        assert start_time(guard) is not None
    assert start_time(guard) is None
    assert settings(root) == BEFORE
    assert os.listdir(directory) == []


def test_a_run_that_ends_without_closing_its_journal_is_cleaned_up(
    run: Callable[..., Run], root: Path
) -> None:
    """The guard handles an unhandled exception, sys.exit in a thread and os._exit alike."""
    ended = run("print(journal._guard.pid, process.pid, flush=True); os._exit(0)")
    assert ended.process.wait() == 0
    assert eventually(lambda: settings(root) == BEFORE)


def test_a_dead_guard_is_replaced_before_the_next_change(root: Path, directory: Path) -> None:
    with Journal(directory, root=root) as journal:
        machine = JournaledMachine(LocalMachine(root=root), journal)
        machine.write_file("/swappiness", b"100\n")
        assert journal._guard is not None
        first = journal._guard
        os.kill(first.pid, signal.SIGKILL)
        assert eventually(lambda: not first.alive())
        machine.write_file("/thp", b"never\n")
        assert journal._guard is not first
        assert journal._guard.alive()


def test_nothing_is_changed_when_the_guard_does_not_start(
    root: Path, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    machine = JournaledMachine(LocalMachine(root=root), Journal(directory, root=root))
    with pytest.raises(HarnessError, match="guard process did not start"):
        machine.write_file("/swappiness", b"100\n")
    assert settings(root) == BEFORE


def test_guard_imports_no_large_modules(root: Path) -> None:
    """numpy and the rest of the harness stay out, so that the guard is small and starts fast."""
    code = "import sys, damon_tests.kernel.host.guard; print(*sorted(m for m in sys.modules if '.' not in m))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"numpy", "pytest", "yaml", "rich", "psutil", "subprocess"} & set(done.stdout.split())
