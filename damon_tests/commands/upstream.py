# SPDX-License-Identifier: GPL-2.0
"""``damon-tests report DIR --mail | --github``: a failed test, printed for DAMON's maintainers."""

from __future__ import annotations

from pathlib import Path

from damon_tests.damon import recording_file
from damon_tests.damon.known_defects import the_table
from damon_tests.ports import UsageError, output_file
from damon_tests.report import mail, model, wording
from damon_tests.report.mail import Addresses, Evidence, Test


def print_mail(directory: Path, test: str, tree: Path | None) -> int:
    """Print the failed test with ``test`` in its id as a mail for ``git send-email``; 0.

    ``tree``: a kernel tree, whose MAINTAINERS has the addresses. Raises UsageError.
    """
    to = Addresses() if tree is None else _addresses(tree)
    run = model.load(directory)
    failed = mail.failed_test(run, test)
    text = mail.mail(run, failed, evidence(failed, directory), the_table(), to)
    output_file.write_text(output_file.STDOUT, text)
    return 0


def print_github(directory: Path, test: str) -> int:
    """Print the same as the Markdown of an issue, its title first; 0. Raises UsageError."""
    run = model.load(directory)
    failed = mail.failed_test(run, test)
    text = mail.markdown(run, failed, evidence(failed, directory), the_table())
    output_file.write_text(output_file.STDOUT, text)
    return 0


def evidence(test: Test, directory: Path) -> Evidence:
    """Return the recording of the last attempt that has one, and all that the kernel said.

    A file that is gone, as of a run whose large files were removed, is left out. Raises UsageError for a
    damaged recording.
    """
    files = wording.artifacts(test)
    recordings = [directory / a["path"] for a in files if a["kind"] == "recording"]
    recording = next((path for path in reversed(recordings) if path.is_file()), None)
    logs = [directory / a["path"] for a in files if a["kind"] == "log"]
    texts = [path.read_text(encoding="utf-8", errors="replace") for path in logs if path.is_file()]
    return Evidence(None if recording is None else recording_file.read(recording), "\n".join(texts))


def _addresses(tree: Path) -> Addresses:
    path = tree / "MAINTAINERS"
    try:
        return mail.addresses(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeError) as error:
        raise UsageError(f"{path}: cannot be read ({error}); give the top of a kernel tree") from None
