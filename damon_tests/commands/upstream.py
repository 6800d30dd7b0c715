# SPDX-License-Identifier: GPL-2.0
"""``damon-tests report DIR --mail | --github``: a failed test, printed for DAMON's maintainers."""

from __future__ import annotations

from pathlib import Path

from damon_tests.damon import recording_file
from damon_tests.damon.known_defects import the_table
from damon_tests.kernel.images.debug_symbols import debian_vmlinux
from damon_tests.kernel.symbolize import symbolize
from damon_tests.ports import UsageError, output_file
from damon_tests.report import mail, model, wording
from damon_tests.report.mail import Addresses, Evidence, Test


def print_mail(directory: Path, test: str, tree: Path | None, *, symbols: bool = False) -> int:
    """Print the failed test with ``test`` in its id as a mail for ``git send-email``; 0.

    ``tree``: a kernel tree, whose MAINTAINERS has the addresses. ``symbols``: call traces with files and
    lines, see ``symbols_of``. Raises UsageError.
    """
    to = Addresses() if tree is None else _addresses(tree)
    run = model.load(directory)
    failed = mail.failed_test(run, test)
    vmlinux = symbols_of(run, failed) if symbols else None
    text = mail.mail(run, failed, evidence(failed, directory, vmlinux), the_table(), to)
    output_file.write_text(output_file.STDOUT, text)
    return 0


def print_github(directory: Path, test: str, *, symbols: bool = False) -> int:
    """Print the same as the Markdown of an issue, its title first; 0. Raises UsageError."""
    run = model.load(directory)
    failed = mail.failed_test(run, test)
    vmlinux = symbols_of(run, failed) if symbols else None
    text = mail.markdown(run, failed, evidence(failed, directory, vmlinux), the_table())
    output_file.write_text(output_file.STDOUT, text)
    return 0


def symbols_of(run: model.Json, test: Test) -> Path:
    """Return the vmlinux of the Debian kernel that a test ran on. Raises as ``debian_vmlinux`` does."""
    release = mail.provenance_of(run, test["backend"]).get("kernel", {}).get("release")
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
