# SPDX-License-Identifier: GPL-2.0
"""``damon-tests report DIR --mail | --github``: a failed test, printed for DAMON's maintainers."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from damon_tests.commands.bisect import culprits_of
from damon_tests.damon import recording_file
from damon_tests.damon.known_defects import the_table
from damon_tests.kernel.images.debug_symbols import debian_vmlinux
from damon_tests.kernel.symbolize import symbolize
from damon_tests.ports import UsageError, output_file
from damon_tests.report import mail, model, wording
from damon_tests.report.mail import Addresses, Evidence, Test
from damon_tests.report.mail_kernels import provenance_of


@dataclass(frozen=True)
class UpstreamRequest:
    """``directory``: of the run. ``test``: words of the failed test's id.

    ``symbols``: call traces with files and lines, see ``symbols_of``. ``bisection``: the output of a
    ``damon-tests bisect``, whose answer is in the mail. ``regzbot``: the commit or range for the regression
    tracker; "": the answer of the bisection; None: nothing.
    """

    directory: Path
    test: str = ""
    symbols: bool = False
    bisection: Path | None = None
    regzbot: str | None = None


def print_mail(request: UpstreamRequest, tree: Path | None) -> int:
    """Print the failed test as a mail for ``git send-email``; 0.

    ``tree``: a kernel tree, whose MAINTAINERS has the addresses. Raises UsageError.
    """
    to = Addresses() if tree is None else _addresses(tree)
    run, test, shown = _failure(request)
    output_file.write_text(output_file.STDOUT, mail.mail(run, test, shown, the_table(), to))
    return 0


def print_github(request: UpstreamRequest) -> int:
    """Print the same as the Markdown of an issue, its title first; 0. Raises UsageError."""
    run, test, shown = _failure(request)
    output_file.write_text(output_file.STDOUT, mail.markdown(run, test, shown, the_table()))
    return 0


def _failure(request: UpstreamRequest) -> tuple[model.Json, Test, Evidence]:
    """Return the run, its failed test, and everything that is shown of it."""
    run = model.load(request.directory)
    test = mail.failed_test(run, request.test)
    vmlinux = symbols_of(run, test) if request.symbols else None
    culprits = [] if request.bisection is None else culprits_of(request.bisection)
    shown = evidence(test, request.directory, vmlinux)
    return run, test, replace(shown, culprits=culprits, introduced=_introduced(request.regzbot, culprits))


def _introduced(regzbot: str | None, culprits: Sequence[str]) -> str:
    """Return what "#regzbot introduced" names; empty if it is not asked for. Raises UsageError."""
    if regzbot is None:
        return ""
    if regzbot:
        if re.fullmatch(r"[\w.^~/-]{1,50}", regzbot) is None:
            raise UsageError(f"--regzbot {regzbot[:50]!r}: is no commit and no range A..B")
        return regzbot
    if len(culprits) != 1:
        raise UsageError("--regzbot needs a commit or A..B, or --bisection DIR with one first bad commit")
    return culprits[0].partition(" ")[0]


def symbols_of(run: model.Json, test: Test) -> Path:
    """Return the vmlinux of the Debian kernel that a test ran on. Raises as ``debian_vmlinux`` does."""
    release = provenance_of(run, test["backend"]).get("kernel", {}).get("release")
    if not release:
        raise UsageError(f"{test['backend']}: its release is not known, and so not its symbols")
    return debian_vmlinux(test["backend"], release)


def evidence(test: Test, directory: Path, vmlinux: Path | None = None) -> Evidence:
    """Return the recording of the last attempt that has one, and all that the kernel said.

    Call traces get files and lines where ``vmlinux`` is given. A file that is gone, as of a run whose large
    files were removed, is left out. Raises UsageError for a damaged recording.
    """
    files = wording.artifacts(test)
    recordings = [directory / a["path"] for a in files if a["kind"] == "recording"]
    recording = next((path for path in reversed(recordings) if path.is_file()), None)
    logs = [directory / a["path"] for a in files if a["kind"] == "log"]
    texts = [path.read_text(encoding="utf-8", errors="replace") for path in logs if path.is_file()]
    said = "\n".join(texts if vmlinux is None else [symbolize(text, vmlinux) for text in texts])
    return Evidence(None if recording is None else recording_file.read(recording), said)


def _addresses(tree: Path) -> Addresses:
    path = tree / "MAINTAINERS"
    try:
        return mail.addresses(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeError) as error:
        raise UsageError(f"{path}: cannot be read ({error}); give the top of a kernel tree") from None
