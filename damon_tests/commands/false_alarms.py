# SPDX-License-Identifier: GPL-2.0
"""How often the suites accuse a correct DAMON: measured, with fresh seeds each time.

Every round runs the suites' own test bodies as users run them, in a process of its own, with a seed that
no round had before. Each round's verdicts are appended to a file before the next one begins: a measurement
that was interrupted counts, and goes on where it was. A FAIL or an INCONCLUSIVE is a false alarm on the
clean reference; on a real kernel it is one unless DAMON was wrong, which somebody has to look at: results of
such rounds are kept.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from damon_tests.experiment.kernel_request import KernelRequest
from damon_tests.judge.stats import clopper_pearson
from damon_tests.judge.verdict import Verdict
from damon_tests.ports import HarnessError, UsageError
from damon_tests.report import model, wording

ALARMS = (Verdict.FAIL, Verdict.INCONCLUSIVE, Verdict.XPASS)
JUDGED = (*ALARMS, Verdict.PASS, Verdict.XFAIL)
SHARED = 5
"""On the reference so many rounds share the replicas of their bands, as runs share the cache. What one
such set says about its rounds is not independent, so sets are fresh as often as time allows."""

GOAL = 1e-3
"""At most one false alarm in a thousand test executions."""


ROUNDS_FILE = "rounds.jsonl"
"""In the output directory: a line about what is measured, then one for each round."""


@dataclass(frozen=True)
class Limits:
    """When to begin no more rounds: after so many test executions, so many rounds, so many seconds."""

    runs: int | None = None
    rounds: int | None = None
    seconds: float | None = None

    def __post_init__(self) -> None:
        if any(n is not None and n <= 0 for n in (self.runs, self.rounds, self.seconds)):
            raise UsageError("limits of a measurement must be above 0")

    def reached(self, executions: int, rounds: int, seconds: float) -> bool:
        pairs = ((executions, self.runs), (rounds, self.rounds), (seconds, self.seconds))
        return any(limit is not None and value >= limit for value, limit in pairs)


@dataclass
class Tally:
    """``executions``: tests that came to a judgement; ``alarms``: (seed, test id, reason)."""

    executions: int = 0
    errors: list[tuple[int, str, str]] = field(default_factory=list)
    alarms: list[tuple[int, str, str]] = field(default_factory=list)

    def add(self, seed: int, tests: Sequence[Mapping[str, Any]]) -> bool:
        """Count a round's tests of run.json; whether its results are worth keeping."""
        named = [(str(t["verdict"]), (seed, str(t["id"]), str(t["reason"]))) for t in tests]
        alarms = [what for verdict, what in named if verdict in ALARMS]
        errors = [what for verdict, what in named if verdict == Verdict.ERROR]
        self.executions += sum(verdict in JUDGED for verdict, _ in named)
        self.alarms += alarms
        self.errors += errors
        return bool(alarms or errors)

    def line(self) -> str:
        """The numbers so far, with the upper end of the 95 % interval of Clopper and Pearson."""
        n, k = self.executions, len(self.alarms)
        bound = clopper_pearson(k, n)[1] if n else 1.0
        alarms = wording.plural(k, "false alarm")
        errors = f", and {wording.plural(len(self.errors), 'error')}" if self.errors else ""
        return f"{wording.plural(n, 'test execution')}, {alarms}, 95 % upper bound {bound:.2e}{errors}"


def measure(
    kernel: str,
    limits: Limits,
    output: Path,
    *,
    paths: Sequence[str],
    first_seed: int = 1000,
    profile: str = "full",
    say: Callable[[str], None] = print,
) -> Tally:
    """Run rounds of the suites until a limit is reached; report progress after each.

    ``output`` may have earlier rounds of the same measurement: they count, and no seed is used again. As
    many rounds at once as do not disturb each other. Ends when a round judged no test: the next would not
    either. Raises HarnessError when a round comes to no result at all, UsageError when ``output`` is of
    another measurement, or of one that is running.
    """
    request = KernelRequest(kernel)
    request.check()
    virtual, workers = request.is_reference, request.most_workers()
    kept = _Kept(output, {"kernel": kernel, "profile": profile, "paths": list(paths)})
    tally, done = kept.read()
    began, options = time.monotonic(), [f"--kernel={kernel}", f"--profile={profile}"]
    if done:
        say(f"{len(done)} rounds from before: {tally.line()}")

    def run_round(seed: int) -> tuple[int, Path]:
        directory = output / f"seed-{seed}"
        cache = output / f"cache-{seed // SHARED}" if virtual else None
        _round([*options, f"--seed={seed}", f"--output={directory}"], paths, cache)
        return seed, directory

    def more(running: int) -> bool:
        seconds = time.monotonic() - began
        return not limits.reached(tally.executions, len(done) + running, seconds)

    for seed, directory in _rounds(run_round, max([first_seed, *(s + 1 for s in done)]), workers, more):
        tests = model.load(directory)["tests"]
        kept.append(seed, tests)
        done.append(seed)
        before = tally.executions, len(tally.errors)
        of_interest = tally.add(seed, tests)
        say(f"seed {seed}, {time.monotonic() - began:.0f} s: {tally.line()}")
        if not of_interest:
            shutil.rmtree(directory)
        if before == (tally.executions, len(tally.errors)):
            reasons = sorted({str(test["reason"]) for test in tests})
            say(f"no test was judged: {'; '.join(reasons) or 'none was found'}")
            break
    return tally


class _Kept:
    """The file of rounds, for one measurement at a time: two would use the same seeds."""

    def __init__(self, output: Path, about: Mapping[str, Any]) -> None:
        self._path = output / ROUNDS_FILE
        self._about = dict(about)
        try:
            output.mkdir(parents=True, exist_ok=True)
            self._file = self._path.open("a+", encoding="utf-8")
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UsageError(f"{self._path}: its measurement is running; give another --output") from None
        except OSError as error:
            raise UsageError(f"{self._path}: cannot be written ({error.strerror})") from None

    def read(self) -> tuple[Tally, list[int]]:
        """What earlier rounds counted, and their seeds. Raises UsageError for another measurement's file."""
        tally, seeds = Tally(), list[int]()
        self._file.seek(0)
        text = self._file.read()
        if text and not text.endswith("\n"):
            # It was killed while it wrote: that round is made again.
            text = text[: text.rfind("\n") + 1]
            self._file.truncate(len(text.encode()))
        if not text:
            self._write(self._about)
            return tally, seeds
        first, *rounds = text.splitlines()
        try:
            about = json.loads(first)
            known = [json.loads(line) for line in rounds]
        except ValueError as error:
            raise UsageError(f"{self._path}: not a file of rounds ({error})") from None
        if about != self._about:
            raise UsageError(f"{self._path} is of another measurement: {first}; give another --output")
        for round_ in known:
            tally.add(round_["seed"], round_["tests"])
            seeds.append(round_["seed"])
        return tally, seeds

    def append(self, seed: int, tests: Sequence[Mapping[str, Any]]) -> None:
        reasons_by_test = [{key: str(test[key]) for key in ("id", "verdict", "reason")} for test in tests]
        self._write({"seed": seed, "tests": reasons_by_test})

    def _write(self, value: Mapping[str, Any]) -> None:
        self._file.write(json.dumps(value) + "\n")
        self._file.flush()


def show_false_alarms(
    kernel: str, limits: Limits, output: Path, paths: Sequence[str], first_seed: int, profile: str
) -> int:
    """Print what ``measure`` reports. 1 when the goal is missed, 5 when no test was judged, 6 when tests
    broke."""

    def say(line: str) -> None:
        print(line, flush=True)

    tally = measure(kernel, limits, output, paths=paths, first_seed=first_seed, profile=profile, say=say)
    for seed, test, reason in (*tally.alarms, *tally.errors):
        print(f"seed {seed}: {test}: {reason}")
    print(f"\n{kernel}: {tally.line()}; goal: at most {GOAL:g}")
    print(f"rounds are kept in {output / ROUNDS_FILE}; the same command with --output goes on from there")
    if tally.errors:
        return 6
    if not tally.executions:
        return 5
    return 1 if len(tally.alarms) / tally.executions > GOAL else 0


def _rounds(
    run_round: Callable[[int], tuple[int, Path]], first_seed: int, workers: int, more: Callable[[int], bool]
) -> Iterator[tuple[int, Path]]:
    """Rounds as they end, ``workers`` at a time; none is left out, and none is begun once ``more``, given how
    many are running, says no."""
    seed, running = first_seed, set[Future[tuple[int, Path]]]()
    with ThreadPoolExecutor(workers) as pool:
        while True:
            while len(running) < workers and more(len(running)):
                running.add(pool.submit(run_round, seed))
                seed += 1
            if not running:
                return
            done, running = wait(running, return_when=FIRST_COMPLETED)
            for future in done:
                yield future.result()


def _round(options: Sequence[str], paths: Sequence[str], cache: Path | None) -> None:
    command = [sys.executable, "-m", "damon_tests.cli", "run", *options, *paths]
    environment = dict(os.environ)
    if cache is not None:
        environment["DAMON_TESTS_CACHE"] = str(cache)
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    if done.returncode not in (0, 1, 5, 6, 7):
        tail = (done.stdout + done.stderr)[-2000:]
        raise HarnessError(f"a round ended with {done.returncode}: {' '.join(command)}\n{tail}")
