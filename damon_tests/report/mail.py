# SPDX-License-Identifier: GPL-2.0
"""A failed test as a report for DAMON's maintainers: a plain text mail, or the same as Markdown.

Everything comes from the run and from the files of the failed test; nothing is sent. The mail has no From:
whoever sends it is its author.
"""

from __future__ import annotations

import re
import shlex
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from email.header import Header
from fnmatch import fnmatchcase
from typing import Any

from damon_tests.damon.known_defects import KnownDefect, Table
from damon_tests.damon.recording_file import Saved
from damon_tests.experiment.kernel_request import KernelRequest
from damon_tests.kernel.splat import Splat, parse_splats, without_time
from damon_tests.ports import UsageError
from damon_tests.report import reproducer, wording
from damon_tests.report.mail_kernels import about_kernel, kernel_release, other_kernels
from damon_tests.report.matrix import capability
from damon_tests.report.reproducer import COLUMNS, Reproducer

Run = Mapping[str, Any]
Test = Mapping[str, Any]

REPORTABLE = ("FAIL", "XFAIL")

_MOST_CHECKS = 5
_MOST_SPLAT_LINES = 40
_SUBJECT = 120
_IDLE_RATE = 0.02
_SIGNS = {"==": "", "<=": "at most ", ">=": "at least ", "<": "less than ", ">": "more than "}
_KNOWN = re.compile(r"known defect ([\w-]+) \(")
_OURS = re.compile(r"^I\d+ ")
_INVARIANT = re.compile(r"\bI\d+\b|§\d")
# Of a splat: registers, code and modules, and frames that the unwinder is not sure of.
_NOISE = re.compile(
    r"Modules linked in|Code: |[RE][A-Z0-9]{1,2}: [0-9a-f]|RSP: |CR\d: |DR\d: |[FGC]S: |PKRU: |\s+\? "
)


@dataclass(frozen=True)
class Addresses:
    """Whom a mail goes to."""

    to: Sequence[str] = ("SJ Park <sj@kernel.org>",)
    cc: Sequence[str] = ("damon@lists.linux.dev", "linux-mm@kvack.org")


@dataclass(frozen=True)
class Evidence:
    """The files of a failed test: the recording of the attempt that is shown, and the kernel's log.

    ``culprits``: the first bad commit ("SHA title") of a bisection, or those that it may be. ``introduced``:
    the commit or range of a regression, for the bot that tracks them; empty: it is not asked.
    """

    saved: Saved | None = None
    kernel_log: str = ""
    culprits: Sequence[str] = ()
    introduced: str = ""


@dataclass(frozen=True)
class _Section:
    """``verbatim`` lines stand as they are, in ``language``; others are paragraphs."""

    title: str
    lines: Sequence[str]
    verbatim: bool = False
    language: str = "text"


@dataclass(frozen=True)
class _Case:
    run: Run
    test: Test
    evidence: Evidence
    defect: KnownDefect | None
    splats: Sequence[Splat] = field(default=())


def failed_test(run: Run, words_of_id: str) -> Test:
    """Return the failed test whose id contains ``words_of_id``, of several kernels the first one.

    Raises UsageError when no test failed, when they are several, or when it did not fail on a kernel.
    """
    matching = [test for test in run["tests"] if words_of_id in test["id"]]
    if not matching:
        raise UsageError(f"no test of this run has {words_of_id!r} in its id")
    failed = [test for test in matching if test["verdict"] in REPORTABLE]
    if not failed:
        verdicts = ", ".join(sorted({test["verdict"] for test in matching}))
        raise UsageError(f"nothing failed that could be reported (verdicts: {verdicts})")
    kernels = [test for test in failed if not KernelRequest(test["backend"]).is_reference]
    if not kernels:
        raise UsageError("this failed on the reference only, which is no kernel: there is nothing to report")
    ids = sorted({test["id"] for test in kernels})
    if len(ids) > 1 and words_of_id not in ids:
        listed = "\n  ".join(ids)
        raise UsageError(f"{len(ids)} tests failed; name the one to report:\n  {listed}")
    chosen = words_of_id if words_of_id in ids else ids[0]
    return next(test for test in kernels if test["id"] == chosen)


def addresses(maintainers: str) -> Addresses:
    """Return the addresses of ``mm/damon/`` in the text of a kernel tree's MAINTAINERS.

    Raises UsageError when no section has it.
    """
    to: list[str] = []
    cc: list[str] = []
    for section in re.split(r"\n\s*\n", maintainers):
        entries = re.findall(r"^([MRLF]):\s*(.+?)\s*$", section, re.MULTILINE)
        if any(key == "F" and fnmatchcase("mm/damon/", value) for key, value in entries):
            to += [value for key, value in entries if key == "M"]
            cc += [value.split(" (")[0] for key, value in entries if key in "RL"]
    if not to:
        raise UsageError("MAINTAINERS has no section with mm/damon/; give the top of a kernel tree")
    return Addresses(list(dict.fromkeys(to)), list(dict.fromkeys(cc)))


def mail(run: Run, test: Test, evidence: Evidence, table: Table, to: Addresses) -> str:
    """Return the mail, headers first, in lines of at most 75 columns."""
    case = _case(run, test, evidence, table)
    headers = [
        _header("Subject", _subject(case)),
        *_address_header("To", to.to),
        *_address_header("Cc", to.cc),
        "MIME-Version: 1.0",
        "Content-Type: text/plain; charset=UTF-8",
        "Content-Transfer-Encoding: 8bit",
    ]
    body: list[str] = []
    for section in _sections(case):
        body += ["", f"{section.title}:"] if section.title else [""]
        if section.verbatim:
            body += ["", *section.lines] if section.title else section.lines
        else:
            for paragraph in section.lines:
                body += _wrapped(paragraph)
    return "\n".join([*headers, *body]) + "\n"


def markdown(run: Run, test: Test, evidence: Evidence, table: Table) -> str:
    """Return the text of an issue, its title first."""
    case = _case(run, test, evidence, table)
    lines = [f"# {_escaped(_subject(case))}"]
    for section in _sections(case):
        lines += ["", f"## {section.title}"] if section.title else []
        if section.verbatim:
            lines += ["", f"```{section.language}", *section.lines, "```"]
        else:
            for paragraph in filter(None, section.lines):
                lines += ["", _escaped(paragraph)]
    return "\n".join(lines) + "\n"


# --- what is said ----------------------------------------------------------------------------


def _case(run: Run, test: Test, evidence: Evidence, table: Table) -> _Case:
    match = _KNOWN.match(test["reason"])
    defect = table.get(match[1]) if match else None
    return _Case(run, test, evidence, defect, parse_splats(evidence.kernel_log))


def _subject(case: _Case) -> str:
    subject = f"[BUG] mm/damon: {capability(case.test['id'])}: {_headline(case)}"
    return textwrap.shorten(subject, _SUBJECT, placeholder=" ...")


def _headline(case: _Case) -> str:
    """Return what is wrong, in a few words."""
    if case.defect is not None:
        return case.defect.title
    unmet = _unmet(case.test)
    if unmet:
        return f"{_measured(unmet[0])}, expected {_expected(unmet[0])}"
    return case.splats[0].title if case.splats else str(case.test["reason"])


def _unmet(test: Test) -> list[dict[str, Any]]:
    return [check for check in wording.unmet(test) if check["holds"] is False]


def _measured(check: Mapping[str, Any]) -> str:
    m = check["measurement"]
    name = _OURS.sub("", m["name"])
    # "most regions is 253", not "most regions is 253 regions".
    unit = "" if m["unit"] in ("count", "fraction") or name.endswith(m["unit"]) else m["unit"]
    return f"{name} is {wording.quantity(m['value'], unit)}".rstrip()


def _expected(check: Mapping[str, Any]) -> str:
    """Return the limit of a check in words: "at most 50"."""
    sign, _, value = str(check["limit"]).partition(" ")
    return f"{_SIGNS[sign]}{value}" if sign in _SIGNS and value else str(check["limit"])


def _sections(case: _Case) -> Iterator[_Section]:
    file, _, name = case.test["id"].partition("::")
    release = kernel_release(case.run, case.test["backend"])
    intro = f"On Linux {release}, DAMON does not do what this test of damon-tests expects."
    yield _Section("", ["Hello,", "", intro, "", f"* Test: {name or file}", f"* File: {file}"])
    yield _Section("Expected and measured", list(_findings(case)))
    if case.defect is not None:
        yield _Section("Known defect", list(_known(case.defect)))
    yield _Section("Kernel", list(about_kernel(case.run, case.test)))
    versions = list(other_kernels(case.run, case.test))
    if len(versions) > 1:
        yield _Section("The same test on other kernels", versions)
    if case.evidence.culprits:
        yield _Section("Bisection", list(_bisection(case.evidence.culprits)))
    if case.splats:
        yield _Section("The kernel complained", list(_trimmed(case.splats[0])), verbatim=True)
    saved = case.evidence.saved
    if saved is not None and saved.about.ctx is not None:
        yield _Section("Reproducer", list(_about_script()))
        yield _Section("", _script(case, saved).splitlines(), verbatim=True, language="sh")
    yield _Section("To repeat the test", list(_command(wording.rerun(case.run, case.test))), True, "sh")
    if any(_INVARIANT.search(line) for line in _findings(case)):
        yield _Section("", ["I and § numbers are of damon_tests/reference/SPECIFICATION.md in damon-tests."])
    if case.evidence.introduced:
        yield _Section("", [f"#regzbot introduced: {case.evidence.introduced}"], verbatim=True)


def _findings(case: _Case) -> Iterator[str]:
    """Yield each check that does not hold: measured, expected, and why."""
    unmet = _unmet(case.test)
    if not unmet:
        yield str(case.test["reason"])
    for check in unmet[:_MOST_CHECKS]:
        because = wording.because(check)
        yield f"* {_measured(check)}. Expected: {_expected(check)}, because {because}."
        if check["detail"]:
            yield f"  Evidence: {check['detail']}."
    if len(unmet) > _MOST_CHECKS:
        yield f"* and {wording.plural(len(unmet) - _MOST_CHECKS, 'more check')} of this test."
    attempts = len(case.test["attempts"])
    if attempts > 1:
        yield f"Measured in {attempts} independent attempts, all of which count."


def _known(defect: KnownDefect) -> Iterator[str]:
    yield f"{defect.title} ({defect.key}). {defect.does}"
    yield f"Known in: {', '.join(defect.kernels())}."
    if defect.upstream:
        yield f"Upstream: {defect.upstream}"


def _bisection(culprits: Sequence[str]) -> Iterator[str]:
    """Yield the answer of git bisect, which ran this test on each commit."""
    if len(culprits) == 1:
        yield f"With this test on each commit, git bisect ends at {culprits[0]}."
        return
    yield "With this test on each commit, git bisect ends at one of these; others did not build or boot:"
    yield from (f"* {culprit}" for culprit in culprits)


def _about_script() -> Iterator[str]:
    yield (
        "The script below stages the request that the test began with and prints what DAMON makes of it. It"
        " needs nothing of damon-tests, refuses to run while DAMON is in use, and leaves nr_kdamonds at 0."
        " What the test changes later (commits, phases of its workload) is not in it."
    )


def _script(case: _Case, saved: Saved) -> str:
    ctx, recording = saved.about.ctx, saved.recording
    assert ctx is not None  # the caller looked
    expected = [_OURS.sub("", line.removeprefix("* ")) for line in _findings(case) if line.startswith("* ")]
    title = f"mm/damon: {capability(case.test['id'])}"
    return reproducer.script(
        Reproducer(
            ctx,
            f"{title}: {case.defect.title}" if case.defect is not None else title,
            expected or [str(case.test["reason"])],
            saved.about.layout,
            (recording.stopped_ns - recording.started_ns) / 1e9,
            _idle(saved),
        )
    )


def _idle(saved: Saved) -> bool:
    """Return whether the workload hardly touched its memory: below 2 % of it, on average over windows."""
    truth = saved.truth
    if truth is None or not len(truth):
        return False
    total = sum(end - start for start, end in saved.about.layout.values())
    touched = float(((truth.end - truth.start) * truth.rate).sum()) / len(truth)
    return total > 0 and touched < _IDLE_RATE * total


def _trimmed(splat: Splat) -> Iterator[str]:
    """Yield a splat without times, registers and modules, cut to 75 columns."""
    lines = [without_time(line).rstrip() for line in splat.text.splitlines()]
    kept = [line for line in lines if not _NOISE.match(line)]
    for line in kept[:_MOST_SPLAT_LINES]:
        yield line if len(line) <= COLUMNS else f"{line[: COLUMNS - 3]}..."
    if len(kept) > _MOST_SPLAT_LINES:
        yield f"[{wording.plural(len(kept) - _MOST_SPLAT_LINES, 'more line')}]"


# --- how it is laid out ----------------------------------------------------------------------


def _wrapped(paragraph: str) -> list[str]:
    indent = "  " if paragraph.startswith(("* ", "  ")) else ""
    first = "" if paragraph.startswith("* ") else indent
    text = paragraph.strip()
    lines = textwrap.wrap(
        text, COLUMNS, initial_indent=first, subsequent_indent=indent, break_on_hyphens=False
    )
    return lines or [""]


def _command(line: str) -> Iterator[str]:
    """Yield a shell command in lines of at most 75 columns, as far as its words allow."""
    pieces: list[str] = []
    for word in shlex.split(line):
        file, colons, name = word.partition("::")
        quoted = shlex.quote(word)
        if len(quoted) > COLUMNS - 4 and colons:
            # A backslash at the end of a line joins what is before it with the next line.
            pieces.append(f"{shlex.quote(file)}::\\\n{shlex.quote(name)}")
        else:
            pieces.append(quoted)
    shown = pieces[0]
    for piece in pieces[1:]:
        last = shown.rpartition("\n")[2]
        fits = len(last) + 1 + len(piece.partition("\n")[0]) <= COLUMNS - 2
        shown += f" {piece}" if fits else f" \\\n    {piece}"
    yield from shown.split("\n")


def _header(name: str, text: str) -> str:
    charset = "us-ascii" if text.isascii() else "utf-8"
    return f"{name}: {Header(text, charset, maxlinelen=COLUMNS, header_name=name).encode()}"


def _address_header(name: str, people: Sequence[str]) -> list[str]:
    """Return an address list, one address a line."""
    if not people:
        return []
    folded = [f"{name}: {people[0]}", *(f"\t{person}" for person in people[1:])]
    return [*(f"{line}," for line in folded[:-1]), folded[-1]]


def _escaped(text: str) -> str:
    """Return Markdown in which no word is taken for a tag or for emphasis."""
    bullet, rest = ("* ", text[2:]) if text.startswith("* ") else ("", text)
    return bullet + re.sub(r"([<*`])", r"\\\1", rest)
