# SPDX-License-Identifier: GPL-2.0
"""``damon-tests doctor``: the survey of this machine in a terminal, or as JSON."""

from __future__ import annotations

import json
import os
import sys
import textwrap
from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from damon_tests.commands import suite_outlook
from damon_tests.commands.suite_outlook import Outlook, SuiteOutlook
from damon_tests.damon.capability import Capabilities
from damon_tests.damon.features import FEATURES
from damon_tests.experiment import machine_survey
from damon_tests.experiment.machine_survey import Fact, Survey
from damon_tests.report import output
from damon_tests.report.wording import plural

SCHEMA = "damon-tests doctor 1"

_MARKS = {True: ("✓", "green"), False: ("✗", "red"), None: ("·", "dim")}
_NAME_WIDTH = 32
_VALUE_AT = _NAME_WIDTH + 5
_LEAST_ROOM = 30


def show_survey(as_json: bool = False) -> int:
    """Print what this machine can do. Always 0: what is missing is no error of the command."""
    survey = machine_survey.collect()
    tests = suite_outlook.with_cases(suite_outlook.suite_requirements())
    ahead = suite_outlook.forecast(survey, tests)
    if as_json:
        json.dump(as_data(survey, ahead), sys.stdout, indent=2, ensure_ascii=False)
        print()
    else:
        width = None if sys.stdout.isatty() else 110
        console = output.PipeConsole(width=width, highlight=False, soft_wrap=True)
        render(survey, ahead, console, wrapped=sys.stdout.isatty())
    return os.EX_OK


def as_data(survey: Survey, ahead: Sequence[Outlook]) -> dict[str, Any]:
    """The survey as JSON values: ``sections`` (facts by name), ``damon`` (level, users, features with
    "present" true, false or null, reason and first version), ``suites`` by kernel."""
    return {
        "schema": SCHEMA,
        "sections": {
            section.title: {fact.name: _fact_data(fact) for fact in section.facts}
            for section in survey.sections
        },
        "damon": {
            "level": survey.level,
            "levels": list(survey.capabilities.levels()),
            "nr_kdamonds": survey.usage.nr_kdamonds,
            "users": [
                {"kind": use.user.kind, "name": use.user.name, "pid": use.user.pid, "what": use.what}
                for use in survey.uses
            ],
            "features": _feature_data(survey.capabilities),
            "unknown": list(survey.capabilities.unknown),
        },
        "suites": {look.kernel: _outlook_data(look) for look in ahead},
    }


def _fact_data(fact: Fact) -> dict[str, Any]:
    return {"value": fact.value, "ok": fact.ok, "remedy": fact.remedy if fact.ok is False else ""}


def _feature_data(capabilities: Capabilities) -> dict[str, Any]:
    return {
        name: {
            "present": there,
            "since": FEATURES[name].since,
            "reason": "" if there else capabilities.reasons.get(name, ""),
        }
        for name, there in capabilities.present.items()
    }


def _outlook_data(look: Outlook) -> dict[str, Any]:
    return {
        "blocked": look.blocked,
        "suites": {
            s.suite: {
                "would": "skip" if look.blocked else s.would,
                "tests": s.tests,
                "skipped": s.tests if look.blocked else s.skipped,
                "unsure": 0 if look.blocked else s.unsure,
                "reasons": [look.blocked] if look.blocked else [reason for reason, _ in s.skips],
            }
            for s in look.suites
        },
    }


# --- in a terminal ---------------------------------------------------------------------------


def render(survey: Survey, ahead: Sequence[Outlook], console: Console, *, wrapped: bool = False) -> None:
    """Print the survey. ``wrapped``: lines end with the console's, and go on below the value."""
    width = console.width if wrapped else None
    for section in survey.sections:
        console.print(Text(section.title, style="bold"))
        for fact in section.facts:
            console.print(_fact_line(fact, width))
        console.print()
    _features(survey.capabilities, console)
    console.print(Text("suites", style="bold"))
    for look in ahead:
        _outlook(look, console, width)


def _fact_line(fact: Fact, width: int | None) -> Text:
    """Return the line about a fact, wrapped at ``width``; in one line if that is None."""
    mark, style = _MARKS[fact.ok]
    text = Text("  ").append(mark, style=style).append(f" {fact.name:<{_NAME_WIDTH}} ")
    remedy = f"→ {fact.remedy}" if fact.ok is False and fact.remedy else ""
    if width is None:
        return text.append(fact.value).append(f"  {remedy}" if remedy else "", style="yellow")
    indent = "\n" + " " * _VALUE_AT
    room = max(_LEAST_ROOM, width - _VALUE_AT)
    text.append(indent.join(textwrap.wrap(fact.value, room, break_on_hyphens=False)))
    for line in textwrap.wrap(remedy, room, subsequent_indent="  ", break_on_hyphens=False):
        text.append(indent + line, style="yellow")
    return text


def _features(capabilities: Capabilities, console: Console) -> None:
    """Return counts by the kernel series that brought them, and what is known to be absent."""
    console.print(Text("DAMON features by the series that brought them", style="bold"))
    if not any(capabilities.present.values()):
        console.print("  none to be seen\n")
        return
    table = Table(box=None, padding=(0, 2), header_style="dim")
    for title in ("  series", "there", "absent", "not known without staging"):
        table.add_column(title)
    by_series: dict[str, list[str]] = {}
    for name, feature in FEATURES.items():
        by_series.setdefault(feature.since, []).append(name)
    for series in sorted(by_series, key=lambda s: [int(part) for part in s.split(".")]):
        there, absent, unknown = (
            [n for n in by_series[series] if capabilities.present[n] is w] for w in (True, False, None)
        )
        table.add_row(f"  {series}", str(len(there) or ""), ", ".join(absent), str(len(unknown) or ""))
    console.print(table)
    for name in capabilities.unknown:
        console.print(f"  · newer than any known series: {name}")
    console.print()


def _outlook(look: Outlook, console: Console, width: int | None) -> None:
    """One line for the kernel, one for each of its suites that do not simply run."""
    if look.blocked:
        count = sum(s.tests for s in look.suites)
        text = f"{plural(count, 'test')} would skip: {look.blocked}"
        console.print(_fact_line(Fact(f"--kernel {look.kernel}", text, False, look.remedy), width))
        return
    for s in look.suites:
        fact = Fact(f"--kernel {look.kernel}", _suite_words(s), s.would != "skip" or None)
        console.print(_fact_line(fact, width))
        for reason, count in s.skips:
            console.print(f"        {count} × {reason}")


def _suite_words(s: SuiteOutlook) -> str:
    text = f"{s.suite}: {plural(s.tests, 'test')} would {s.would}"
    if s.would == "run in part":
        text += f" ({s.skipped} skip)"
    which = "" if s.unsure == s.tests else f"{s.unsure} of them "
    return f"{text}, {which}if the kernel has what they need" if s.unsure else text
