# SPDX-License-Identifier: GPL-2.0
"""Numbers, times and tests in the words that people read."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from damon_tests import bundle
from damon_tests.judge import features
from damon_tests.judge.verdict import UNITLESS
from damon_tests.ports.numbers import number

# Worst first; the order of every table and list.
VERDICTS = ("ERROR", "FAIL", "XPASS", "INCONCLUSIVE", "XFAIL", "SKIP", "PASS")

MEANING = {
    "PASS": "shown to hold",
    "FAIL": "shown not to hold",
    "XFAIL": "fails as the named, still open defect predicts",
    "XPASS": "the named defect is gone: remove the marker",
    "SKIP": "does not apply here",
    "INCONCLUSIVE": "measured again up to the limit, still undecidable",
    "ERROR": "the harness, guest or workload broke; nothing is said about DAMON",
}

_SIZES = ("bytes", "KiB", "MiB", "GiB", "TiB", "PiB")


def because(check: Mapping[str, Any]) -> str:
    """Return why a check's limit holds, with the invariant: "regions do not overlap (I1)"."""
    return f"{check['reason']} ({check['invariant']})" if check["invariant"] else str(check["reason"])


def size(count: float) -> str:
    """Return bytes with a binary unit: "8 MiB", "1.5 GiB"."""
    value = float(count)
    for unit in _SIZES:
        if abs(value) < 1024 or unit == _SIZES[-1]:
            break
        value /= 1024
    return f"{value:.5g} {unit}"


def offset(count: int) -> str:
    """Return bytes in one unit or, where that takes too many digits, in two: "1.5 MiB", "40 GiB 1.5 MiB"."""
    power = max(0, min((count.bit_length() - 1) // 10, len(_SIZES) - 1))
    whole, rest = divmod(count, 1024**power)
    number = f"{count / 1024**power:.5g}"
    if not rest or float(number) * 1024**power == count:
        return size(count)
    return f"{whole} {_SIZES[power]} {size(rest)}"


def seconds(value: float) -> str:
    """A duration: "3 ms", "2.4 s", "3 min 20 s"."""
    if value < 1:
        return f"{value * 1000:.0f} ms"
    if value < 60:
        return f"{value:.1f} s"
    minutes, rest = divmod(round(value), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60} h {minutes % 60} min"


def quantity(value: object, unit: str) -> str:
    """Return a measured value with its unit: "1,405,501,440 bytes"; counts and fractions have none."""
    shown = number(value) if isinstance(value, int | float) else str(value)  # nan, inf, -inf
    return shown if unit in UNITLESS else f"{shown} {unit}"


def plural(number: int, word: str) -> str:
    return f"{number} {word}" if number == 1 else f"{number} {word}s"


def counts(run: Mapping[str, Any]) -> list[tuple[str, int]]:
    """Return the verdicts that occurred, worst first, with how many tests have them."""
    return [(v, run["counts"][v]) for v in VERDICTS if run["counts"].get(v)]


def checks(test: Mapping[str, Any]) -> list[dict[str, Any]]:
    """All checks of a test, those of its attempts first."""
    return [c for place in (*test["attempts"], test) for c in place["checks"]]


def artifacts(test: Mapping[str, Any]) -> list[dict[str, Any]]:
    """All files of a test, those of its attempts first."""
    return [a for place in (*test["attempts"], test) for a in place["artifacts"]]


def unmet(test: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the checks that do not hold, or are undecided; one that several attempts repeat only once."""
    groups: dict[tuple[object, ...], dict[str, Any]] = {}
    for check in checks(test):
        if check["holds"] is not True:
            what = (check["measurement"]["name"], check["limit"], check["reason"], check["holds"])
            groups.setdefault(what, check)
    return list(groups.values())


def check_line(check: Mapping[str, Any]) -> str:
    """A check in one line: measured and expected."""
    m = check["measurement"]
    return f"{m['name']} = {quantity(m['value'], m['unit'])}, expected {check['limit']}"


def judged_as(run: Mapping[str, Any]) -> str:
    """The kernel series whose rules judged the run: "judged as 6.12"; empty when none did."""
    levels = sorted({t["level"] for t in run["tests"] if t["level"]})
    return f"judged as {', '.join(levels)}" if levels else ""


def rerun(run: Mapping[str, Any], test: Mapping[str, Any]) -> str:
    """Return the command that repeats a verdict: one test, with the same seed and options."""
    provenance = run["provenance"]
    group, _, name = str(test["id"]).partition("::")
    if group.startswith("kselftest/"):
        return shlex.join(["damon-tests", "kselftest", f"--kernel={test['backend']}", name])
    if group.partition("/")[0] == "kunit":
        return shlex.join(["damon-tests", "kunit", f"--kernel={test['backend']}"])
    command = ["damon-tests", "run", f"--kernel={test['backend']}"]
    if "seed" in provenance:
        command.append(f"--seed={provenance['seed']}")
    command += [str(option) for option in provenance.get("options", ())]
    return shlex.join([*command, _from_here(_repeatable(run, test), str(provenance.get("root", "")))])


def _repeatable(run: Mapping[str, Any], test: Mapping[str, Any]) -> str:
    """Return the id of a test that makes the verdict again: every run judges the features, whatever it runs.

    While a run goes on, ``run`` has no tests yet.
    """
    if test["id"] != features.ROW:
        return str(test["id"])
    others = [t for t in run.get("tests", ()) if t["id"] != features.ROW]
    return str(min(others, key=lambda t: (t["duration_s"], t["id"]))["id"]) if others else features.ROW


def _from_here(test_id: str, root: str) -> str:
    """The id as the command line finds it: as it is, or with the path of the file in front."""
    file = test_id.partition("::")[0]
    known = Path(file).exists() or (bundle.root() / file).exists()
    if known or not root or not (Path(root) / file).exists():
        return test_id
    return str(Path(root) / test_id)


def subject(run: Mapping[str, Any]) -> str:
    """Return which DAMON was tested: the backends of its tests."""
    return ", ".join(sorted({t["backend"] for t in run["tests"]})) or "nothing"
