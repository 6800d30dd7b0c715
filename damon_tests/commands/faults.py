# SPDX-License-Identifier: GPL-2.0
"""``damon-tests faults``: the catalogue of wrong DAMONs, and which tests notice which.

A test *kills* a fault when its verdict on the wrong DAMON is FAIL though it passes on the correct one. ERROR
and INCONCLUSIVE do not count: a gate would stop, but nobody would know that DAMON is wrong.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from damon_tests.commands.killers import described, killers
from damon_tests.ports import HarnessError, UsageError, output_file
from damon_tests.reference.faults.catalogue import catalogue
from damon_tests.reference.faults.fault import Fault

_LIMIT_S = 1800


@dataclass(frozen=True)
class Kill:
    """``killers``: tests that failed (only the first, where a fault's run ended with it); ``others``:
    verdicts other than PASS, FAIL and SKIP, by test."""

    fault: str
    area: str
    killers: tuple[str, ...]
    others: tuple[tuple[str, str], ...] = ()


def select(names: Sequence[str], areas: Sequence[str]) -> list[Fault]:
    """Return the faults of these names and areas, all faults without either. Raises UsageError."""
    known = catalogue()
    unknown = [n for n in names if n not in known]
    unknown += [a for a in areas if a not in {f.area for f in known.values()}]
    if unknown:
        raise UsageError(f"no such fault or area: {', '.join(unknown)}; `damon-tests faults` lists them")
    if not names and not areas:
        return list(known.values())
    return [f for f in known.values() if f.name in names or f.area in areas]


def show_catalogue(names: Sequence[str], areas: Sequence[str], *, as_json: bool = False) -> int:
    """Print the catalogue, of named faults also which test notices them; 0."""
    chosen = select(names, areas)
    noticed_by = killers()
    if as_json:
        rows = [
            {
                "name": f.name,
                "area": f.area,
                "rule": f.rule,
                "imitates": f.imitates,
                "killer": noticed_by.get(f.name),
            }
            for f in chosen
        ]
        print(json.dumps(rows, indent=1))
        return 0
    if names:
        for f in chosen:
            print("\n".join(described(f, noticed_by.get(f.name))))
        return 0
    width = max(len(f.name) for f in chosen)
    for area in dict.fromkeys(f.area for f in chosen):
        mine = [f for f in chosen if f.area == area]
        print(f"{area}: {len(mine)}")
        for f in mine:
            print(f"  {f.name:<{width}}  {f.imitates}")
    return 0


def run_kill_matrix(
    names: Sequence[str],
    areas: Sequence[str],
    paths: Sequence[str],
    *,
    output: Path,
    workers: int = 1,
    first_killer: bool = False,
    pytest_options: Sequence[str] = (),
) -> int:
    """Run the suites on every chosen fault and print the kill matrix, also as ``output/kill.json``.

    ``first_killer``: a fault's run ends with the first test that notices it, and those that noticed most
    faults so far come first: says that each is noticed, not by how many. 0 when every fault is
    killed, 1 when some survive. Raises HarnessError when the correct DAMON does not pass: then nothing a test
    says about a wrong one means anything.
    """
    chosen = select(names, areas)
    output.mkdir(parents=True, exist_ok=True)
    matrix = _Matrix(paths, output, pytest_options, first_killer)
    tests = matrix.run_correct()
    kills: list[Kill] = []
    with ThreadPoolExecutor(max_workers=workers) as pool:
        for number, kill in enumerate(pool.map(matrix.run_fault, chosen), 1):
            kills.append(kill)
            print(f"[{number}/{len(chosen)}] {_line(kill)}", flush=True)
            _save(output / "kill.json", kills, tests)
    for line in summary(kills):
        print(line)
    print(f"Results  {output}")
    return 0 if all(k.killers for k in kills) else 1


class _Matrix:
    """Runs of the suites, one a fault. What killed others before is tried first."""

    def __init__(
        self, paths: Sequence[str], output: Path, options: Sequence[str], first_killer: bool
    ) -> None:
        self._paths, self._output, self._options = paths, output, options
        self._first_killer = first_killer
        self._seconds: dict[str, float] = {}
        self._killed: Counter[str] = Counter()

    def run_correct(self) -> int:
        """How many tests there are. Raises HarnessError unless they pass on the correct DAMON."""
        tests = _tests(None, self._paths, self._output, self._options)
        verdicts = [t["verdict"] for t in tests]
        failing = sorted(t["id"] for t in tests if t["verdict"] not in ("PASS", "SKIP"))
        if failing or "PASS" not in verdicts:
            what = ", ".join(failing) or "nothing ran"
            raise HarnessError(f"the correct reference does not pass: {what}")
        self._seconds = {t["id"]: float(t["duration_s"]) for t in tests}
        return len(tests)

    def run_fault(self, fault: Fault) -> Kill:
        options = list(self._options)
        if self._first_killer:
            first = self._output / f"{fault.name}.first"
            first.write_text("\n".join(self._order()), encoding="utf-8")
            options += ["--until-fail", f"--first={first.absolute()}"]
        tests = _tests(fault.name, self._paths, self._output, options)
        verdicts = {t["id"]: str(t["verdict"]) for t in tests}
        killers = tuple(sorted(t for t, v in verdicts.items() if v == "FAIL"))
        self._killed.update(killers)
        others = tuple(sorted((t, v) for t, v in verdicts.items() if v not in ("PASS", "FAIL", "SKIP")))
        return Kill(fault.name, fault.area, killers, others)

    def _order(self) -> list[str]:
        """Return the tests, most kills a second of running time first; those without any by their time."""
        return sorted(
            self._seconds,
            key=lambda test: (-self._killed[test] / (0.2 + self._seconds[test]), self._seconds[test]),
        )


def summary(kills: Sequence[Kill]) -> Iterator[str]:
    """Return per area how many were killed, the tests that kill most, and the survivors."""
    yield ""
    for area in dict.fromkeys(k.area for k in kills):
        mine = [k for k in kills if k.area == area]
        dead = sum(bool(k.killers) for k in mine)
        yield f"{area:<12} {dead} of {len(mine)} killed ({dead / len(mine):.0%})"
    dead = sum(bool(k.killers) for k in kills)
    yield f"{'all':<12} {dead} of {len(kills)} killed ({dead / max(1, len(kills)):.0%})"
    by_test: dict[str, int] = {}
    for k in kills:
        for test in k.killers:
            by_test[test] = by_test.get(test, 0) + 1
    for test, count in sorted(by_test.items(), key=lambda item: -item[1]):
        yield f"  {count:4d}  {test}"
    survivors = [k.fault for k in kills if not k.killers]
    if survivors:
        yield f"survive: {', '.join(survivors)}"


def _tests(
    fault: str | None, paths: Sequence[str], output: Path, options: Sequence[str]
) -> list[dict[str, Any]]:
    """Return every test as ``report.model`` has it. They run in a process of their own: a wrong DAMON may
    also hang or crash it."""
    with tempfile.TemporaryDirectory(prefix="damon-tests-fault-") as scratch:
        directory = Path(scratch) / "run"
        command = [sys.executable, "-m", "damon_tests.cli", "run", "--output", str(directory)]
        command += ["--fault", fault] if fault else []
        command += [f"--pytest={o}" for o in options]
        log = output / f"{fault or 'correct'}.log"
        with log.open("w") as out:
            try:
                subprocess.run(
                    [*command, *paths],
                    stdout=out,
                    stderr=out,
                    check=False,
                    timeout=_LIMIT_S,
                    env=dict(os.environ),
                )
            except subprocess.TimeoutExpired:
                out.write(f"\nended after {_LIMIT_S} s\n")
        if not (directory / "events.jsonl").exists():
            raise HarnessError(f"no test ran; see {log}")
        from damon_tests.report import model

        tests: list[dict[str, Any]] = model.derive(directory)["tests"]
        return tests


def _line(kill: Kill) -> str:
    if kill.killers:
        more = f" and {len(kill.killers) - 1} more" if len(kill.killers) > 1 else ""
        return f"{kill.fault}: killed by {kill.killers[0]}{more}"
    broke = f" (not decided: {kill.others[0][1]} of {kill.others[0][0]})" if kill.others else ""
    return f"{kill.fault}: SURVIVES{broke}"


def _save(path: Path, kills: Sequence[Kill], tests: int) -> None:
    rows = [
        {"fault": k.fault, "area": k.area, "killers": list(k.killers), "others": [list(o) for o in k.others]}
        for k in kills
    ]
    output_file.write_text(path, json.dumps({"schema": 1, "tests": tests, "faults": rows}, indent=1) + "\n")
