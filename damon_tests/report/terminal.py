# SPDX-License-Identifier: GPL-2.0
"""A run as text: a summary that fits a terminal of 80 × 24, and the views that say more.

``summary`` is for the end of a run whose failures were printed as they happened; ``lines`` is all there is to
know without opening a file; ``failed``, ``figures`` and ``table`` are parts of it.
"""

from __future__ import annotations

import io
import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.text import Text

from damon_tests.report import wording
from damon_tests.report.matrix import matrix

STYLES = {
    "PASS": "green",
    "FAIL": "bold red",
    "XFAIL": "yellow",
    "XPASS": "bold red",
    "SKIP": "cyan",
    "INCONCLUSIVE": "bold magenta",
    "ERROR": "bold red reverse",
}

DETAILED = ("ERROR", "FAIL", "XPASS", "INCONCLUSIVE")
"""Verdicts that somebody has to look at."""

_MOST_CHECKS = 3
_MOST_TESTS = 20
_MOST_LISTED = 4  # of failures, and of reasons to skip, in the summary
_MOST_LINES = 4  # of a reason
_NARROWEST = 40

Run = Mapping[str, Any]
Test = Mapping[str, Any]


def render(texts: Iterable[Text], *, color: bool = False, width: int = 100) -> list[str]:
    """Return the texts as lines, with ANSI colours if ``color``; paths and names are never cut."""
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
    for text in texts:
        console.print(text, soft_wrap=True)
    return out.getvalue().rstrip("\n").split("\n")


def lines(
    run: Run, directory: Path, *, color: bool = False, width: int = 100, verbose: bool = True
) -> list[str]:
    """Return the whole report; ``verbose``: with the tables that tests made for people to read."""
    return render(_whole(run, directory, verbose), color=color, width=width)


def _whole(run: Run, directory: Path, verbose: bool) -> Iterator[Text]:
    yield headline(run)
    yield _counts(run)
    yield from failed(run, directory)
    yield from _grouped(run, "XFAIL")
    yield from _grouped(run, "SKIP")
    if verbose:
        yield from figures(run, directory)
    yield from _time(run)
    yield from _problems(run)
    yield from _where(run, directory)


def summary(run: Run, directory: Path, width: int = 80) -> Iterator[Text]:
    """Yield counts, failures and where to look, in at most 22 lines of ``width`` columns."""
    width = max(_NARROWEST, width)
    yield headline(run)
    yield _counts(run)
    wrong = [t for v in DETAILED for t in run["tests"] if t["verdict"] == v]
    for test in wrong[:_MOST_LISTED]:
        yield Text(_cut(f"{test['verdict']}  {_short(test['id'])}", width), style=STYLES[test["verdict"]])
        yield Text(_cut(f"  {test['reason']}", width))
    if len(wrong) > _MOST_LISTED:
        yield Text(f"and {len(wrong) - _MOST_LISTED} more: damon-tests report {directory} --failed")
    for verdict, most in (("XFAIL", 1), ("SKIP", 2)):
        yield from _reasons(run, verdict, most, width)
    for text in _time(run, most=4):
        if text.plain:
            yield Text(_cut(text.plain, width), style="dim")
    yield from _problems(run)
    yield from _where(run, directory)


def _reasons(run: Run, verdict: str, most: int, width: int) -> Iterator[Text]:
    """Yield a line for each of the commonest reasons."""
    groups = _by_reason(run, verdict)
    nothing_ran = all(test["verdict"] == "SKIP" for test in run["tests"])
    for reason, ids in groups[:most]:
        text = f"{verdict} {len(ids)}  {reason}"
        # What kept everything from running is all that there is to say.
        lines = (
            textwrap.wrap(text, width, subsequent_indent="  ")[:_MOST_LINES]
            if nothing_ran
            else [_cut(text, width)]
        )
        yield from (Text(line, style=STYLES[verdict]) for line in lines)
    if len(groups) > most:
        yield Text(f"and {wording.plural(len(groups) - most, 'other reason')} for {verdict}", style="dim")


def _cut(text: str, width: int) -> str:
    line = text.replace("\n", " ").rstrip()
    return line if len(line) <= width else f"{line[: width - 1]}…"


def _short(test_id: str) -> str:
    return test_id.removeprefix("suites/")


def headline(run: Run) -> Text:
    """Return which DAMON was tested, as what it was judged, how many tests, and how long it took."""
    text = Text("damon-tests", style="bold")
    text.append(f"  {wording.subject(run)}", style="bold cyan")
    kernel = run["provenance"].get("kernel", {})
    release = kernel.get("release") if isinstance(kernel, Mapping) else None
    if release:
        text.append(f" ({release})")
    if judged := wording.judged_as(run):
        text.append(f", {judged}")
    text.append(f"  {wording.plural(len(run['tests']), 'test')} in {wording.seconds(run['duration_s'])}")
    if run["interrupted"]:
        text.append("  interrupted", style="bold red")
    elif not run["complete"]:
        text.append("  the run was ended before it was finished", style="bold red")
    return text


def _counts(run: Run) -> Text:
    shown = wording.counts(run)
    if not shown:
        return Text("No test ran: this is not a success.", style="bold red")
    text = Text()
    for verdict, number in shown:
        text.append(f"{verdict} {number}", style=STYLES[verdict]).append("   ")
    if not any(v in ("PASS", "XFAIL") or v in DETAILED for v, _ in shown):
        text.append("Nothing ran: this is not a success.", style="bold red")
    return text


def _problems(run: Run) -> Iterator[Text]:
    if run["problems"]:
        count = wording.plural(len(run["problems"]), "line")
        yield Text("")
        yield Text(f"Of the events, {count} could not be read: {run['problems'][0]}")


def _where(run: Run, directory: Path) -> Iterator[Text]:
    """Yield where the results are, and how to see more of them."""
    wrong = [t for v in DETAILED for t in run["tests"] if t["verdict"] == v]
    yield Text("")
    yield Text("Results  ", style="dim").append(str(directory))
    yield Text("Again    ", style="dim").append(f"damon-tests report {directory}")
    if wrong:
        yield Text("Rerun    ", style="dim").append(wording.rerun(run, wrong[0]))


# --- failures --------------------------------------------------------------------------------


def failed(run: Run, directory: Path, most: int = _MOST_TESTS) -> Iterator[Text]:
    """Yield what did not hold, worst verdicts first; tests that broke for one reason are listed once."""
    for verdict in DETAILED:
        tests = [t for t in run["tests"] if t["verdict"] == verdict]
        alike = {reason: ids for reason, ids in _by_reason(run, verdict) if len(ids) > 1}
        alone = [t for t in tests if verdict != "ERROR" or t["reason"] not in alike]
        if verdict == "ERROR":
            for reason, ids in alike.items():
                yield Text("")
                yield Text(f"ERROR {len(ids)}", style=STYLES["ERROR"]).append(f"  {reason}", style="default")
                yield Text(f"  {_names(ids)}", style="dim")
        for test in alone[:most]:
            yield Text("")
            yield from failure(test, run, directory)
        if len(alone) > most:
            yield Text(f"and {len(alone) - most} more with verdict {verdict}", style=STYLES[verdict])


def failure(test: Test, run: Run, directory: Path) -> Iterator[Text]:
    """Yield one test that did not hold: measured, expected and why, its files, and how to repeat it."""
    verdict = test["verdict"]
    yield Text(verdict, style=STYLES[verdict]).append(f"  {test['id']}", style="bold")
    wrong = wording.unmet(test)
    for check in wrong[:_MOST_CHECKS]:
        yield from _check(check)
    if len(wrong) > _MOST_CHECKS:
        yield Text(f"  and {len(wrong) - _MOST_CHECKS} more checks")
    if not wrong or not test["reason"].startswith(wrong[0]["measurement"]["name"]):
        # The verdict has another cause: a kernel complaint, an exception, a gone defect.
        yield Text(f"  {test['reason']}")
    if len(test["attempts"]) > 1:
        yield Text(f"  attempts  {len(test['attempts'])}", style="dim")
    yield from _files(test, directory)
    if test["backend"]:
        yield Text("  rerun     ", style="dim").append(wording.rerun(run, test))


def _files(test: Test, directory: Path) -> Iterator[Text]:
    """Yield where to look: of several attempts the last one's files, of pictures the best one."""
    last = test["attempts"][-1]["artifacts"] if test["attempts"] else []
    pictures = [a for a in last if a["kind"] == "picture"]
    best = next((a for a in pictures if not a["path"].endswith(".txt")), None)
    for artifact in (*last, *test["artifacts"]):
        if artifact not in pictures or artifact is (best or pictures[0]):
            yield Text(f"  {artifact['kind']:<9} ", style="dim").append(str(directory / artifact["path"]))


def check(check: Mapping[str, Any]) -> list[str]:
    """Return one check as plain lines."""
    return [text.plain for text in _check(check)]


def _check(check: Mapping[str, Any]) -> Iterator[Text]:
    m = check["measurement"]
    text = Text("  ").append(m["name"], style="bold").append(" = ")
    text.append(wording.quantity(m["value"], m["unit"]), style="bold")
    if check["holds"] is None:
        text.append("  undecided", style="magenta")
    yield text
    yield Text("  expected  ", style="dim").append(check["limit"])
    kind = check["kind"] if not check["alpha"] else f"{check['kind']}, α = {check['alpha']:g}"
    yield Text("  because   ", style="dim").append(wording.because(check)).append(f"  [{kind}]", style="dim")
    if check["detail"]:
        yield Text("  detail    ", style="dim").append(check["detail"])
    if check["modelled"]:
        yield Text("  modelled  ", style="dim").append("; ".join(check["modelled"]))


# --- the other views -------------------------------------------------------------------------


def figures(run: Run, directory: Path) -> Iterator[Text]:
    """Yield what tests measured for people to read, whatever their verdict: as the test laid it out."""
    for test in run["tests"]:
        for artifact in wording.artifacts(test):
            path = directory / artifact["path"]
            if artifact["kind"] == "figures" and path.suffix == ".txt" and path.is_file():
                yield Text("")
                yield Text(artifact["title"] or artifact["path"], style="bold").append(f"  {test['id']}")
                yield Text(path.read_text(encoding="utf-8", errors="replace").rstrip("\n"))


def table(run: Run) -> Iterator[Text]:
    """Yield capabilities by area against the DAMONs that were tested: worst verdict, tests, time."""
    rows = matrix(run)
    names = max((len(row.capability) for row in rows.rows), default=0) + 2
    columns = [max(len(backend), 22) for backend in rows.backends]
    heads = "  ".join(f"{b:<{w}}" for b, w in zip(rows.backends, columns, strict=True))
    yield Text(f"{'':<{names}}  {heads}".rstrip(), style="bold")
    area = ""
    for row in rows.rows:
        if row.area != area:
            area = row.area
            yield Text(area, style="bold")
        line = Text(f"  {row.capability:<{names}}")
        for backend, width in zip(rows.backends, columns, strict=True):
            cell = row.cells.get(backend)
            shown = f"{cell.verdict} {_of(cell.counts)}, {wording.seconds(cell.seconds)}" if cell else "-"
            line.append(f"{shown:<{width}}  ", style=STYLES[cell.verdict] if cell else "dim")
        line.rstrip()
        yield line


def _of(counts: Mapping[str, int]) -> str:
    worst, total = next(iter(counts.values())), sum(counts.values())
    return str(total) if worst == total else f"{worst} of {total}"


def test_details(run: Run, directory: Path, words_of_id: str) -> Iterator[Text]:
    """Yield everything known of the tests whose id contains ``words_of_id``, checks that hold included."""
    for test in run["tests"]:
        if words_of_id not in test["id"]:
            continue
        yield Text("")
        yield from failure(test, run, directory)
        for place in (*test["attempts"], test):
            for check in place["checks"]:
                if check["holds"] is True:
                    yield Text("  holds     ", style="dim").append(wording.check_line(check))
        for attempt in test["attempts"]:
            yield Text(f"  attempt {attempt['attempt']}, seed {attempt['seed']}", style="dim")


def _by_reason(run: Run, verdict: str) -> list[tuple[str, list[str]]]:
    """Return reasons with the ids of their tests, the commonest first."""
    groups: dict[str, list[str]] = {}
    for test in run["tests"]:
        if test["verdict"] == verdict:
            groups.setdefault(test["reason"], []).append(test["id"])
    return sorted(groups.items(), key=lambda item: -len(item[1]))


def _grouped(run: Run, verdict: str) -> Iterator[Text]:
    """Yield each reason once, with the tests that have it."""
    groups = _by_reason(run, verdict)
    if groups:
        yield Text("")
    for reason, ids in groups:
        yield Text(f"{verdict} {len(ids)}", style=STYLES[verdict]).append(f"  {reason}", style="default")
        yield Text(f"  {_names(ids)}", style="dim")


def _names(ids: Sequence[str], most: int = 3) -> str:
    shown = ", ".join(i.rsplit("/", 1)[-1] for i in ids[:most])
    return shown if len(ids) <= most else f"{shown} and {len(ids) - most} more"


def _time(run: Run, most: int = 6) -> Iterator[Text]:
    timings = sorted(run["timings"].items(), key=lambda item: -item[1])
    slowest = sorted(run["tests"], key=lambda t: -t["duration_s"])[:3]
    if not timings and not slowest:
        return
    yield Text("")
    if timings:
        parts = ", ".join(f"{name} {wording.seconds(s)}" for name, s in timings[:most])
        yield Text("Time     ", style="dim").append(parts)
    if slowest:
        parts = ", ".join(f"{_names([t['id']])} {wording.seconds(t['duration_s'])}" for t in slowest)
        yield Text("Slowest  ", style="dim").append(parts)
