# SPDX-License-Identifier: GPL-2.0
"""A run in the ten seconds that a maintainer has: counts, what failed and why, what was skipped, time."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.text import Text

from damon_tests.report import words

STYLES = {
    "PASS": "green",
    "FAIL": "bold red",
    "XFAIL": "yellow",
    "XPASS": "bold red",
    "SKIP": "cyan",
    "INCONCLUSIVE": "bold magenta",
    "ERROR": "bold red reverse",
}

_DETAILED = ("ERROR", "FAIL", "XPASS", "INCONCLUSIVE")
_MOST_CHECKS = 3
_MOST_TESTS = 20


def lines(run: Mapping[str, Any], directory: Path, *, color: bool = False, width: int = 100) -> list[str]:
    """The summary as lines of text, with ANSI colours if ``color``; never wider than ``width`` where
    that is possible without cutting paths or names."""
    out = io.StringIO()
    console = Console(
        file=out,
        force_terminal=color,
        color_system="standard" if color else None,
        width=width,
        highlight=False,
        legacy_windows=False,
        _environ={},
    )
    for text in _summary(run, directory):
        console.print(text, soft_wrap=True)
    return out.getvalue().rstrip("\n").split("\n")


def _summary(run: Mapping[str, Any], directory: Path) -> Iterator[Text]:
    yield _headline(run)
    yield _counts(run)
    for verdict in _DETAILED:
        yield from _detailed(run, verdict, directory)
    yield from _grouped(run, "XFAIL")
    yield from _grouped(run, "SKIP")
    yield from _figures(run, directory)
    yield from _time(run)
    if run["problems"]:
        yield Text("")
        yield Text(f"Of the events, {words.plural(len(run['problems']), 'line')} could not be read: ").append(
            run["problems"][0]
        )
    yield Text("")
    yield Text("Results  ", style="dim").append(str(directory))
    yield Text("Again    ", style="dim").append(f"damon-tests report {directory}")
    again = [t for v in _DETAILED for t in run["tests"] if t["verdict"] == v]
    if again:
        yield Text("Rerun    ", style="dim").append(words.rerun(run, again[0]))


def _headline(run: Mapping[str, Any]) -> Text:
    text = Text("damon-tests", style="bold")
    text.append(f"  {words.subject(run)}", style="bold cyan")
    release = run["provenance"].get("kernel", {})
    release = release.get("release") if isinstance(release, Mapping) else None
    if release:
        text.append(f" ({release})")
    text.append(f"  {words.plural(len(run['tests']), 'test')} in {words.seconds(run['duration_s'])}")
    if run["interrupted"]:
        text.append("  interrupted", style="bold red")
    elif not run["complete"]:
        text.append("  the run was ended before it was finished", style="bold red")
    return text


def _counts(run: Mapping[str, Any]) -> Text:
    shown = words.counts(run)
    if not shown:
        return Text("No test ran: this is not a success.", style="bold red")
    text = Text()
    for verdict, number in shown:
        text.append(f"{verdict} {number}", style=STYLES[verdict]).append("   ")
    if not any(v in ("PASS", "XFAIL") or v in _DETAILED for v, _ in shown):
        text.append("Nothing ran: this is not a success.", style="bold red")
    return text


def _detailed(run: Mapping[str, Any], verdict: str, directory: Path) -> Iterator[Text]:
    tests = [t for t in run["tests"] if t["verdict"] == verdict]
    for test in tests[:_MOST_TESTS]:
        yield Text("")
        yield Text(verdict, style=STYLES[verdict]).append(f"  {test['id']}", style="bold")
        wrong = [c for c in words.checks(test) if c["holds"] is not True]
        for check in wrong[:_MOST_CHECKS]:
            yield from _check(check)
        if len(wrong) > _MOST_CHECKS:
            yield Text(f"  and {words.plural(len(wrong) - _MOST_CHECKS, 'more check')} not met")
        if not wrong or not test["reason"].startswith(wrong[0]["measurement"]["name"]):
            # The verdict has another cause: a kernel complaint, an exception, a gone defect.
            yield Text(f"  {test['reason']}")
        if len(test["attempts"]) > 1:
            yield Text(f"  attempts  {len(test['attempts'])}", style="dim")
        yield from _files(test, directory)
    if len(tests) > _MOST_TESTS:
        yield Text(f"and {len(tests) - _MOST_TESTS} more with verdict {verdict}", style=STYLES[verdict])


def _figures(run: Mapping[str, Any], directory: Path) -> Iterator[Text]:
    """What tests measured for people to read, whatever their verdict: as the test laid it out."""
    for test in run["tests"]:
        for artifact in words.artifacts(test):
            path = directory / artifact["path"]
            if artifact["kind"] == "figures" and path.suffix == ".txt" and path.is_file():
                yield Text("")
                yield Text(artifact["title"] or artifact["path"], style="bold").append(f"  {test['id']}")
                yield Text(path.read_text(encoding="utf-8", errors="replace").rstrip("\n"))


def _files(test: Mapping[str, Any], directory: Path) -> Iterator[Text]:
    """Where to look: of several attempts the last one's files, of pictures the best one."""
    last = test["attempts"][-1]["artifacts"] if test["attempts"] else []
    pictures = [a for a in last if a["kind"] == "picture"]
    best = next((a for a in pictures if not a["path"].endswith(".txt")), None)
    for artifact in (*last, *test["artifacts"]):
        if artifact not in pictures or artifact is (best or pictures[0]):
            path = directory / artifact["path"]
            yield Text(f"  {artifact['kind']:<9} ", style="dim").append(str(path))


def check(check: Mapping[str, Any]) -> list[str]:
    """One check as plain lines."""
    return [text.plain for text in _check(check)]


def _check(check: Mapping[str, Any]) -> Iterator[Text]:
    m = check["measurement"]
    text = Text("  ").append(m["name"], style="bold").append(" = ")
    text.append(words.quantity(m["value"], m["unit"]), style="bold")
    if check["holds"] is None:
        text.append("  undecided", style="magenta")
    yield text
    yield Text("  expected  ", style="dim").append(check["limit"])
    kind = check["kind"] if not check["alpha"] else f"{check['kind']}, α = {check['alpha']:g}"
    yield Text("  because   ", style="dim").append(words.because(check)).append(f"  [{kind}]", style="dim")
    if check["detail"]:
        yield Text("  detail    ", style="dim").append(check["detail"])
    if check["modelled"]:
        yield Text("  modelled  ", style="dim").append("; ".join(check["modelled"]))


def _grouped(run: Mapping[str, Any], verdict: str) -> Iterator[Text]:
    """Tests with the same reason in one place: it is told once."""
    groups: dict[str, list[str]] = {}
    for test in run["tests"]:
        if test["verdict"] == verdict:
            groups.setdefault(test["reason"], []).append(test["id"])
    if not groups:
        return
    yield Text("")
    for reason, ids in sorted(groups.items(), key=lambda item: -len(item[1])):
        yield Text(f"{verdict} {len(ids)}", style=STYLES[verdict]).append(f"  {reason}")
        yield Text(f"  {_names(ids)}", style="dim")


def _names(ids: Sequence[str], most: int = 3) -> str:
    shown = ", ".join(i.rsplit("/", 1)[-1] for i in ids[:most])
    return shown if len(ids) <= most else f"{shown} and {len(ids) - most} more"


def _time(run: Mapping[str, Any]) -> Iterator[Text]:
    timings = sorted(run["timings"].items(), key=lambda item: -item[1])
    slowest = sorted(run["tests"], key=lambda t: -t["duration_s"])[:3]
    if not timings and not slowest:
        return
    yield Text("")
    if timings:
        parts = ", ".join(f"{name} {words.seconds(s)}" for name, s in timings[:6])
        yield Text("Time     ", style="dim").append(parts)
    if slowest:
        parts = ", ".join(f"{_names([t['id']])} {words.seconds(t['duration_s'])}" for t in slowest)
        yield Text("Slowest  ", style="dim").append(parts)
