# SPDX-License-Identifier: GPL-2.0
"""The doctor's two outputs, on a made-up survey and on this machine."""

from __future__ import annotations

import io
import json
from dataclasses import replace

import pytest
from rich.console import Console

from damon_tests.commands import doctor
from damon_tests.commands.suite_outlook import Outlook, SuiteOutlook
from damon_tests.damon.capability import Capabilities
from damon_tests.damon.features import FEATURES
from damon_tests.damon.users import Usage, User
from damon_tests.experiment.machine_survey import DamonUse, Fact, Section, Survey

USER = User("kdamond", "kdamonds/0", 77)
PRESENT: dict[str, bool | None] = {
    **dict.fromkeys(FEATURES, True),
    "ctx.pause": False,
    "schemes.collapse": None,
}
FOUND = Survey(
    sections=(
        Section("kernel", (Fact("release", "7.2"), Fact("CONFIG_DAMON", "not set", False, "build it"))),
    ),
    capabilities=Capabilities(PRESENT, {"ctx.pause": "no file"}, ("file x",), staged=False),
    level="7.2",
    uses=(DamonUse(USER, "thread kdamond.0"),),
    usage=Usage(1, (USER,)),
)
AHEAD = (
    Outlook("reference", (SuiteOutlook("suites/a", 3, 0, ()),)),
    Outlook("debian:newest", (SuiteOutlook("suites/a", 3, 1, (("ctx.pause: no file", 1),), unsure=2),)),
    Outlook("host", (SuiteOutlook("suites/a", 3, 0, ()),), blocked="DAMON is in use"),
)


def test_json_has_everything() -> None:
    data = json.loads(json.dumps(doctor.as_data(FOUND, AHEAD)))
    assert data["schema"] == "damon-tests doctor 1"
    assert data["sections"]["kernel"]["CONFIG_DAMON"] == {
        "value": "not set",
        "ok": False,
        "remedy": "build it",
    }
    assert data["damon"]["users"] == [
        {"kind": "kdamond", "name": "kdamonds/0", "pid": 77, "what": "thread kdamond.0"}
    ]
    assert data["damon"]["features"]["ctx.pause"] == {"present": False, "since": "7.2", "reason": "no file"}
    assert data["damon"]["features"]["schemes.collapse"]["present"] is None
    assert data["damon"]["unknown"] == ["file x"]
    assert data["suites"]["reference"]["suites"]["suites/a"]["would"] == "run"
    assert data["suites"]["debian:newest"]["suites"]["suites/a"]["reasons"] == ["ctx.pause: no file"]
    host = data["suites"]["host"]["suites"]["suites/a"]
    assert (host["would"], host["skipped"], host["reasons"]) == ("skip", 3, ["DAMON is in use"])


def test_the_terminal_shows_what_is_wrong_and_how_to_get_it() -> None:
    out = io.StringIO()
    doctor.render(FOUND, AHEAD, Console(file=out, width=120, highlight=False, soft_wrap=True))
    text = out.getvalue()
    for part in (
        "✗ CONFIG_DAMON",
        "→ build it",
        "ctx.pause",
        "newer than any known series: file x",
        "suites/a: 3 tests would run\n",
        "run in part (1 skip), 2 of them if the kernel has what they need",
        "1 × ctx.pause: no file",
        "3 tests would skip: DAMON is in use",
    ):
        assert part in text, part


def test_no_line_is_wider_than_the_terminal() -> None:
    long = Section(
        "tracing", (Fact("DAMON tracepoints", "none to be seen", False, "mount tracefs and look " * 5),)
    )
    out = io.StringIO()
    console = Console(file=out, width=80, highlight=False, soft_wrap=True)
    doctor.render(replace(FOUND, sections=(long,)), AHEAD, console, wrapped=True)
    text = out.getvalue()
    assert max(map(len, text.splitlines())) <= 80
    assert "\n" + " " * 37 + "→ mount tracefs and look mount" in text


def test_survey_of_this_machine_is_valid_json(capsys: pytest.CaptureFixture[str]) -> None:
    """Whatever it is: valid JSON, and no error."""
    assert doctor.show_survey(as_json=True) == 0
    data = json.loads(capsys.readouterr().out)
    assert set(data) == {"schema", "sections", "damon", "suites"}
    assert data["suites"]["reference"]["blocked"] == ""
    assert doctor.show_survey() == 0
    assert "privileges" in capsys.readouterr().out
