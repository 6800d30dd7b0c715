# SPDX-License-Identifier: GPL-2.0
"""From the events of a run to ``run.json``, and from that to an exit code.

``run.json`` is derived and can always be made again. Its shape is ``run.schema.json`` beside this file
(schema 1); that schema's descriptions are the documentation of the format. A reader that meets
a newer ``schema`` refuses it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

from damon_tests.judge.verdict import Verdict
from damon_tests.ports import output_file
from damon_tests.ports.errors import UsageError
from damon_tests.report.events import EVENTS, MAIN, RunLog
from damon_tests.report.run_directory import RUN_JSON

__all__ = ["RUN_JSON", "SCHEMA", "RunLog", "RunState", "derive", "exit_code", "load", "save", "schema"]

SCHEMA = 1
Json = dict[str, Any]

CUT_SHORT = "the run ended during this test"


def derive(directory: Path) -> Json:
    """Return the run that the events in ``directory`` describe.

    Never fails for a run that was killed: a line cut short is left out and named in ``problems``, and a
    test that was started but never finished is an ERROR. Raises UsageError without any events.
    """
    return read_events(directory).run()


def read_events(directory: Path) -> RunState:
    """Return what the events in ``directory`` say. Raises UsageError without any."""
    state = RunState()
    try:
        data = (directory / EVENTS).read_bytes()
    except OSError as error:
        raise UsageError(f"{directory / EVENTS}: no events of a run ({error.strerror})") from None
    state.take_lines(data)
    return state


def save(directory: Path) -> Json:
    """Derive and write ``run.json`` (at once, complete); returns it."""
    run = derive(directory)
    output_file.write_text(directory / RUN_JSON, as_text(run))
    return run


def as_text(run: Mapping[str, Any]) -> str:
    """The run as the text of ``run.json``."""
    return json.dumps(run, indent=1, allow_nan=False) + "\n"


def load(directory: Path) -> Json:
    """The run in ``directory``: from its events when they are there (they are never older than
    ``run.json``), else from ``run.json``. Raises UsageError when there is neither."""
    if directory.exists() and not directory.is_dir():
        raise UsageError(f"{directory}: not a run's directory; give the directory that {RUN_JSON} is in")
    if (directory / EVENTS).is_file():
        return derive(directory)
    path = directory / RUN_JSON
    try:
        run = json.loads(path.read_text())
    except FileNotFoundError:
        raise UsageError(f"{directory}: not a run's directory (neither {EVENTS} nor {RUN_JSON})") from None
    except (OSError, ValueError) as error:
        raise UsageError(f"{path}: cannot be read ({error})") from None
    version = run.get("schema") if isinstance(run, dict) else None
    if version != SCHEMA:
        raise UsageError(f"{path}: run.json of schema {version}, this program reads {SCHEMA}")
    # Each process of a run imports this module, few come here: jsonschema takes a while to import.
    from jsonschema import Draft202012Validator
    from jsonschema.exceptions import best_match

    wrong = best_match(Draft202012Validator(schema()).iter_errors(run))
    if wrong is not None:
        raise UsageError(f"{path}: damaged; {wrong.json_path[2:] or 'it'}: {wrong.message[:200]}")
    result: Json = run
    return result


def schema() -> Json:
    """The JSON schema of run.json."""
    loaded: Json = json.loads(resources.files("damon_tests.report").joinpath("run.schema.json").read_text())
    return loaded


def exit_code(run: Mapping[str, Any]) -> int:
    """Return what every command and pytest run ends with.

    0 good · 1 FAIL or XPASS, or SKIP when skips fail · 2 interrupted · 5 nothing ran · 6 ERROR ·
    7 INCONCLUSIVE. Interrupted by the user wins; then the worst of 6, 1, 7 in this order. A run that ended
    before it was finished, with no test under way, also counts as interrupted.
    """
    counts: Mapping[str, int] = run["counts"]
    if run["interrupted"]:
        return 2
    failed = counts.get("FAIL", 0) + counts.get("XPASS", 0) + (counts.get("SKIP", 0) if run["require"] else 0)
    for code, number in ((6, counts.get("ERROR", 0)), (1, failed), (7, counts.get("INCONCLUSIVE", 0))):
        if number:
            return code
    if not run["complete"]:
        return 2
    return 0 if counts.get("PASS", 0) + counts.get("XFAIL", 0) else 5


# --- deriving --------------------------------------------------------------------------------


@dataclass
class RunState:
    """Everything known after some events. ``finished_tests``: as they ended.

    ``last_of``: when each process wrote its last event, seconds since the epoch.
    """

    provenance: Json = field(default_factory=dict)
    require: bool = False
    started: float | None = None
    finished: float | None = None
    interrupted: bool = False
    tests: list[Json] = field(default_factory=list)
    open: dict[tuple[str, str], Json] = field(default_factory=dict)
    by_id: dict[str, Json] = field(default_factory=dict)
    artifacts: list[Json] = field(default_factory=list)
    timings: dict[str, float] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    finished_tests: list[Json] = field(default_factory=list)
    lines_read: int = 0
    last_time: float | None = None
    last_of: dict[str, float] = field(default_factory=dict)

    def take_lines(self, data: bytes) -> None:
        """Take the events of some lines of the file; those that cannot be read are named in ``problems``."""
        lines = data.split(b"\n")
        for number, line in enumerate(lines, self.lines_read + 1):
            if not line.strip():
                continue
            try:
                event = json.loads(line)
            except ValueError:
                self.problems.append(f"{EVENTS} line {number} is cut short, left out")
                continue
            if isinstance(event, dict) and isinstance(event.get("event"), str):
                self.take(event)
            else:
                self.problems.append(f"{EVENTS} line {number} is no event, left out")
        self.lines_read += len(lines) - 1

    def take(self, event: Json) -> None:
        self.last_time = event.get("time", self.last_time)
        if self.last_time is not None:
            self.last_of[str(event.get("worker", MAIN))] = self.last_time
        handler = getattr(self, f"_{event['event']}", None)
        if handler is None:
            self.problems.append(f"unknown event {event['event']!r} left out")
            return
        try:
            handler(event)
        except (AttributeError, KeyError, OverflowError, TypeError, ValueError) as error:
            self.problems.append(f"bad {event['event']} event left out: {error!r}")

    def _run_started(self, e: Json) -> None:
        self.provenance = {**self.provenance, **e["provenance"]}
        self.require = self.require or bool(e["require"])
        began: float = e.get("began") or e["time"]
        self.started = began if self.started is None else min(self.started, began)

    def _run_finished(self, e: Json) -> None:
        self.finished = e["time"]
        self.interrupted = self.interrupted or bool(e["interrupted"])

    def _test_started(self, e: Json) -> None:
        test = _new_test(e)
        test["started"] = e["time"]
        self.tests.append(test)
        self.open[e["worker"], e["id"]] = test
        self.by_id[e["id"]] = test

    def _test_finished(self, e: Json) -> None:
        test = self.open.pop((e["worker"], e["id"]), None)
        if test is None:
            # A test that never got as far as starting (skipped while being collected).
            test = _new_test(e)
            test["started"] = e["time"] - e["duration_s"]
            self.tests.append(test)
            self.by_id[e["id"]] = test
        test.update(
            verdict=Verdict(e["verdict"]).value,
            reason=e["reason"],
            duration_s=e["duration_s"],
            backend=e["backend"],
            level=e["level"],
        )
        self.finished_tests.append(test)

    def _attempt(self, e: Json) -> None:
        attempt = self._attempt_of(e)
        attempt["seed"] = e["seed"]
        attempt["timings"] = e["timings"]
        for name, seconds in e["timings"].items():
            self._add_time(name, seconds)

    def _measurement(self, e: Json) -> None:
        self._place(e)["measurements"].append(e["measurement"])

    def _check(self, e: Json) -> None:
        self._place(e)["checks"].append({"attempts": 1, "modelled": [], "invariant": "", **e["check"]})

    def _artifact(self, e: Json) -> None:
        artifact = {"kind": e["kind"], "path": e["path"], "title": e["title"]}
        (self.artifacts if e["id"] is None else self._place(e)["artifacts"]).append(artifact)

    def _timing(self, e: Json) -> None:
        self._add_time(e["name"], e["seconds"])

    def _add_time(self, name: str, seconds: float) -> None:
        self.timings[name] = self.timings.get(name, 0.0) + seconds

    def _test_of(self, e: Json) -> Json:
        return self.open.get((e["worker"], e["id"])) or self.by_id[e["id"]]

    def _place(self, e: Json) -> Json:
        """The attempt an event belongs to, or its test when it belongs to all attempts."""
        return self._test_of(e) if e["attempt"] is None else self._attempt_of(e)

    def _attempt_of(self, e: Json) -> Json:
        attempts: list[Json] = self._test_of(e)["attempts"]
        for attempt in attempts:
            if attempt["attempt"] == e["attempt"]:
                return attempt
        new: Json = {"attempt": int(e["attempt"]), "seed": None, "timings": {}}
        new |= {"measurements": [], "checks": [], "artifacts": []}
        attempts.append(new)
        return new

    def run(self) -> Json:
        for test in self.open.values():
            test.update(verdict=Verdict.ERROR.value, reason=CUT_SHORT)
            test["duration_s"] = max(0.0, (self.last_time or test["started"]) - test["started"])
        counts = {v.value: 0 for v in Verdict}
        for test in self.tests:
            counts[test["verdict"]] += 1
        end = self.finished if self.finished is not None else self.last_time
        return {
            "schema": SCHEMA,
            "provenance": self.provenance,
            "started": self.started,
            "duration_s": max(0.0, end - self.started)
            if end is not None and self.started is not None
            else 0.0,
            "complete": self.finished is not None,
            "interrupted": self.interrupted,
            "require": self.require,
            "counts": counts,
            "tests": self.tests,
            "artifacts": self.artifacts,
            "timings": self.timings,
            "problems": self.problems,
        }


def _new_test(e: Json) -> Json:
    return {
        "id": e["id"],
        "backend": e["backend"],
        "level": e["level"],
        "verdict": Verdict.ERROR.value,
        "reason": CUT_SHORT,
        "duration_s": 0.0,
        "attempts": [],
        "measurements": [],
        "checks": [],
        "artifacts": [],
    }
