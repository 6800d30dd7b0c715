# SPDX-License-Identifier: GPL-2.0
"""A failed test as a mail to DAMON's maintainers and as Markdown, on made-up runs of kernels."""

from __future__ import annotations

import copy
import email
import email.policy
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import sample_run
from synthetic_recordings import BASE, MIB, phases

from damon_tests.commands import upstream
from damon_tests.damon.known_defects import the_table
from damon_tests.damon.params import DamonAttrs, DamonCtx, DamonTarget
from damon_tests.damon.recording_file import About, Saved
from damon_tests.ports import UsageError
from damon_tests.report import mail, merge, model
from damon_tests.report.mail import Addresses, Evidence

GOLDEN = Path(__file__).resolve().parent.parent / "golden" / "mail" / "accuracy.txt"
LAYOUT = {"heap": (BASE, BASE + 64 * MIB)}
CTX = DamonCtx(
    "fvaddr",
    attrs=DamonAttrs(5000, 100_000, max_nr_regions=100),
    targets=(DamonTarget(124, (LAYOUT["heap"],)),),
)
LOG = """\
[    4.100000] damon: nothing of interest
[    4.200000] ------------[ cut here ]------------
[    4.200001] WARNING: CPU: 1 PID: 90 at mm/damon/core.c:1571 damon_merge_regions_of+0x1/0x2
[    4.200002] Modules linked in: a b c d e f g h i j k l m n o p q r s t u v w x y z aa bb cc dd
[    4.200003] CPU: 1 UID: 0 PID: 90 Comm: kdamond.0 Not tainted 7.3.4-amd64 #1 PREEMPT(lazy) Debian 7.3.4-1
[    4.200004] RIP: 0010:damon_merge_regions_of+0x1/0x2
[    4.200005] RAX: 0000000000000000 RBX: ffff888000000000 RCX: 0000000000000000
[    4.200006] Call Trace:
[    4.200007]  <TASK>
[    4.200008]  ? kdamond_fn+0x1/0x2
[    4.200009]  kthread+0xe3/0x120
[    4.200010]  </TASK>
[    4.200011] ---[ end trace 0000000000000000 ]---
"""

MAINTAINERS = """\
Maintainers List
----------------

DATA ACCESS MONITOR
M:\tSJ Park <sj@kernel.org>
R:\tAnother Reader <reader@example.org>
L:\tdamon@lists.linux.dev
L:\tlinux-mm@kvack.org (moderated for non-subscribers)
S:\tMaintained
F:\tDocumentation/mm/damon/
F:\tmm/damon/

MEMORY MANAGEMENT
M:\tNot Concerned <not@example.org>
F:\tmm/
"""


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("run")
    sample_run.write(directory)
    return directory


@pytest.fixture
def run(run_dir: Path) -> dict[str, Any]:
    return model.load(run_dir)


@pytest.fixture
def evidence() -> Evidence:
    _, _, report = phases()
    return Evidence(Saved(report, None, About("accuracy", "7.3", LAYOUT, ctx=CTX)), LOG)


def mail_of(run: dict[str, Any], evidence: Evidence, test: str = "test_accuracy") -> str:
    return mail.mail(run, mail.failed_test(run, test), evidence, the_table(), Addresses())


def parsed(text: str) -> email.message.EmailMessage:
    message = email.message_from_bytes(text.encode(), policy=email.policy.default)
    assert isinstance(message, email.message.EmailMessage)
    return message


def test_mail_is_as_agreed(run: dict[str, Any], evidence: Evidence) -> None:
    """The whole mail, word for word."""
    assert mail_of(run, evidence) == GOLDEN.read_text(encoding="utf-8")


def test_mail_is_valid(run: dict[str, Any], evidence: Evidence) -> None:
    text = mail_of(run, evidence)
    message = parsed(text)
    assert not message.defects
    assert all(not header.defects for header in message.values())
    assert list(message.keys()) == [
        "Subject",
        "To",
        "Cc",
        "MIME-Version",
        "Content-Type",
        "Content-Transfer-Encoding",
    ]
    assert [a.addr_spec for a in message["To"].addresses] == ["sj@kernel.org"]
    assert [a.addr_spec for a in message["Cc"].addresses] == ["damon@lists.linux.dev", "linux-mm@kvack.org"]
    assert message["Subject"].startswith("[BUG] mm/damon: phases: recall of hot bytes is 0.4")
    assert message.get_content().startswith("Hello,")
    assert max(map(len, text.splitlines())) <= 75


@pytest.mark.parametrize("bad", ["§ and ü", "x" * 300, "two\nlines\r\nInjected: header"])
def test_no_reason_breaks_the_mail(run: dict[str, Any], evidence: Evidence, bad: str) -> None:
    test = mail.failed_test(run, "test_accuracy")
    for check in test["checks"]:
        check["measurement"]["name"] = check["reason"] = check["detail"] = bad
    text = mail_of(run, evidence)
    message = parsed(text)
    assert not message.defects
    assert "Injected" not in message
    assert max(map(len, text.splitlines())) <= 75
    assert message.get_content().startswith("Hello,")


def test_splat_is_trimmed(run: dict[str, Any], evidence: Evidence) -> None:
    body = mail_of(run, evidence)
    assert "\nWARNING: CPU: 1 PID: 90 at mm/damon/core.c:1571" in body
    assert "\n kthread+0xe3/0x120\n" in body
    for noise in ("Modules linked", "RAX:", "? kdamond_fn", "nothing of interest", "[    4.2"):
        assert noise not in body
    assert "complained" not in mail_of(run, Evidence(evidence.saved))


def test_script_of_a_mail_runs(run: dict[str, Any], evidence: Evidence) -> None:
    """What somebody copies out of the mail is a script."""
    body = parsed(mail_of(run, evidence)).get_content()
    script = body[body.index("#!/bin/sh") : body.index("To repeat the test:")]
    subprocess.run(["sh", "-n"], input=script, text=True, check=True)
    assert "put $c/monitoring_attrs/nr_regions/max 100\n" in script
    assert "Reproducer" not in mail_of(run, Evidence()), "without a recording there is no request"


def test_known_defect_is_named(run: dict[str, Any], evidence: Evidence) -> None:
    defect = next(iter(the_table().values()))
    test = next(t for t in run["tests"] if t["verdict"] == "XFAIL")
    test["reason"] = f"known defect {defect}: it fails"
    message = parsed(mail_of(run, evidence, test["id"]))
    assert defect.title in message["Subject"]
    text = " ".join(message.get_content().split())
    assert " ".join(defect.does.split()) in text
    assert str(defect.releases[-1]) in text


def test_kernels_with_and_without_it_are_listed(run: dict[str, Any], evidence: Evidence) -> None:
    other = copy.deepcopy(run)
    run["provenance"]["kernel_option"] = "debian:7.3"
    other["provenance"] |= {"kernel_option": "debian:6.12", "kernel": {"release": "6.12.117"}}
    for test in other["tests"]:
        test["backend"], test["verdict"] = "debian:6.12", "PASS"
    merged = merge.merged([(Path("a"), run), (Path("b"), other)], Path("c"))
    body = mail_of(merged, evidence)
    assert "* 7.3.4-amd64 (debian:7.3): FAIL\n" in body
    assert "* 6.12.117 (debian:6.12): PASS\n" in body
    assert "On Linux 7.3.4-amd64," in body
    assert "other kernels" not in mail_of(run, evidence)


def test_config_differences_are_listed(run: dict[str, Any], evidence: Evidence) -> None:
    """Of a kernel that passes, options that matter and that are set otherwise."""
    other = copy.deepcopy(run)
    run["provenance"]["kernel_option"] = "debian:7.3"
    run["provenance"]["kernel"]["config_options"] = {"HZ": "250", "LRU_GEN": "y"}
    other["provenance"] |= {
        "kernel_option": "debian:6.12",
        "kernel": {"release": "6.12.117", "config_options": {"HZ": "250", "KSM": "y"}},
    }
    for test in other["tests"]:
        test["backend"], test["verdict"] = "debian:6.12", "PASS"
    body = mail_of(merge.merged([(Path("a"), run), (Path("b"), other)], Path("c")), evidence)
    assert "* Options that matter: HZ=250, LRU_GEN=y\n" in body
    assert "  Configured otherwise: KSM y (failing: n), LRU_GEN n (failing: y).\n" in body


def test_rerun_line_is_one_command(run: dict[str, Any], evidence: Evidence) -> None:
    test = mail.failed_test(run, "test_accuracy")
    test["id"] = f"suites/monitoring/test_phases.py::test_{'long_' * 11}name[1 GiB]"
    body = mail_of(run, evidence, test["id"])
    command = (
        body[body.index("damon-tests run ") :].split("\n\n")[0].replace("damon-tests", "printf '%s\\n'", 1)
    )
    done = subprocess.run(["sh", "-eu"], input=command, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["run", "--kernel=debian:7.3", "--seed=1", test["id"]]


def test_addresses_are_of_the_sections_for_damon() -> None:
    addresses = mail.addresses(MAINTAINERS)
    assert addresses.to == ["SJ Park <sj@kernel.org>"]
    assert addresses.cc == [
        "Another Reader <reader@example.org>",
        "damon@lists.linux.dev",
        "linux-mm@kvack.org",
    ]
    with pytest.raises(UsageError, match="no section with mm/damon/"):
        mail.addresses("MEMORY MANAGEMENT\nM:\tx <x@y>\nF:\tmm/\n")


@pytest.mark.parametrize(
    ("words_of_id", "complaint"),
    [
        ("no_such", "no test of this run"),
        ("test_invariants", "nothing failed that could be reported"),
        ("test_commit", "verdicts: ERROR"),
        ("", "2 tests failed; name the one"),
    ],
)
def test_only_a_failed_test_is_reported(run: dict[str, Any], words_of_id: str, complaint: str) -> None:
    with pytest.raises(UsageError, match=complaint):
        mail.failed_test(run, words_of_id)


def test_failure_of_the_reference_is_not_reported(run: dict[str, Any]) -> None:
    for test in run["tests"]:
        test["backend"] = "reference:7.3"
    with pytest.raises(UsageError, match="reference only"):
        mail.failed_test(run, "test_accuracy")


def test_markdown_says_the_same(run: dict[str, Any], evidence: Evidence) -> None:
    text = mail.markdown(run, mail.failed_test(run, "test_accuracy"), evidence, the_table())
    assert text.startswith("# [BUG] mm/damon: phases: recall of hot bytes is 0.4")
    assert text.count("```") == 6, "the splat, the script and the command"
    prose = re.sub(r"```.*?```", "", text, flags=re.DOTALL)
    assert "## Expected and measured\n" in prose
    assert "not below the reference's 0.93 to 0.99" in prose
    assert not re.search(r"(?<!\\)<\w", prose)


# --- the command -----------------------------------------------------------------------------


def command(directory: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, "-m", "damon_tests.cli", "report", str(directory), *arguments]
    return subprocess.run(argv, capture_output=True, text=True, check=False)


def test_command_prints_a_mail(run_dir: Path, tmp_path: Path) -> None:
    (tmp_path / "MAINTAINERS").write_text(MAINTAINERS)
    done = command(run_dir, "--mail", "test_accuracy", "--tree", str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert "reader@example.org" in done.stdout
    assert parsed(done.stdout)["Subject"].startswith("[BUG] mm/damon: phases:")
    done = command(run_dir, "test_accuracy", "--github")
    assert (done.returncode, done.stdout[:7]) == (0, "# [BUG]")


def test_git_send_email_accepts_the_mail(run: dict[str, Any], evidence: Evidence, tmp_path: Path) -> None:
    """With ``--dry-run``, which sends nothing: it finds whom to write to, and has nothing to ask."""
    core = subprocess.run(["git", "--exec-path"], capture_output=True, text=True, check=True).stdout.strip()
    if not (Path(core) / "git-send-email").exists():
        pytest.skip("needs git send-email (on Debian: apt-get install git-email)")
    (tmp_path / "mail.txt").write_text(mail_of(run, evidence))
    subprocess.run(["git", "init", "-q"], cwd=tmp_path, check=True)
    command = ["git", "send-email", "--dry-run", "--confirm=never", "--from", "A Tester <t@example.org>"]
    done = subprocess.run([*command, "mail.txt"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "RCPT TO:<sj@kernel.org>" in done.stdout
    assert "Result: OK" in done.stdout


def test_command_says_what_is_wrong(run_dir: Path, tmp_path: Path) -> None:
    done = command(run_dir, "--mail", "test_accuracy", "--tree", str(tmp_path))
    assert done.returncode == 2
    assert "give the top of a kernel tree" in done.stderr
    for wrong in (["--tree", "x"], ["--github", "--tree", "x"], ["--mail", "x", "--json", "y"]):
        done = command(run_dir, *wrong)
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr.startswith("damon-tests: --")
    done = command(run_dir, "--mail")
    assert done.returncode == 2
    assert "test_age.py::test_passes" in done.stderr


def test_evidence_is_of_the_last_attempt(run_dir: Path, run: dict[str, Any]) -> None:
    test = mail.failed_test(run, "test_accuracy")
    evidence = upstream.evidence(test, run_dir)
    assert evidence.saved is not None
    assert evidence.saved.recording.snapshots
    assert "something <b>odd</b>" in evidence.kernel_log
    assert upstream.evidence(test, Path("elsewhere")) == Evidence()


def test_symbols_of_a_debian_kernel_are_asked_for_and_used(
    run_dir: Path, run: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """``--symbols``: the kernel that the test ran on decides which; without a release there are none."""
    asked: list[tuple[str, str]] = []

    def vmlinux(spec: str, release: str) -> Path:
        asked.append((spec, release))
        return Path("vmlinux")

    monkeypatch.setattr(upstream, "debian_vmlinux", vmlinux)
    monkeypatch.setattr(upstream, "symbolize", lambda text, path: f"{path}: {text}")
    made = copy.deepcopy(run)
    made["provenance"]["kernel"] = {"release": "7.3.4-cloud-amd64"}
    test = mail.failed_test(made, "test_accuracy")
    evidence = upstream.evidence(test, run_dir, upstream.symbols_of(made, test))
    assert evidence.kernel_log.startswith("vmlinux: ")
    assert asked == [(test["backend"], "7.3.4-cloud-amd64")]
    made["provenance"]["kernel"] = {}
    with pytest.raises(UsageError, match="its release is not known"):
        upstream.symbols_of(made, test)


def test_bisection_and_regression_tracker_are_named_on_request(run_dir: Path, tmp_path: Path) -> None:
    """The first bad commit is in words, and for regzbot in a line of its own."""
    state = {"culprits": ["0123456789ab mm/damon/core: break it"]}
    (tmp_path / "bisect.json").write_text(json.dumps(state))
    mail_of_it = ["--mail", "test_accuracy", "--bisection", str(tmp_path)]
    text = command(run_dir, *mail_of_it, "--regzbot").stdout
    assert "git bisect ends at 0123456789ab\nmm/damon/core: break it." in text.replace("\n  ", "\n")
    assert text.endswith("\n#regzbot introduced: 0123456789ab\n")
    assert max(map(len, text.splitlines())) <= 75
    assert "#regzbot" not in command(run_dir, *mail_of_it).stdout
    named = command(run_dir, "--github", "test_accuracy", "--regzbot", "v7.2..v7.3").stdout
    assert "#regzbot introduced: v7.2..v7.3" in named.splitlines()


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["--mail", "test_accuracy", "--regzbot"], "--regzbot needs a commit or A..B"),
        (["--mail", "test_accuracy", "--regzbot", "v7.2 to v7.3"], "is no commit and no range"),
        (["--mail", "test_accuracy", "--bisection", "nothing"], "no bisection"),
        (["--regzbot", "v7.2"], "--regzbot goes with --mail or --github"),
        (["--symbols"], "--symbols goes with --mail or --github"),
    ],
)
def test_what_a_mail_cannot_add_is_refused(run_dir: Path, words: list[str], complaint: str) -> None:
    done = command(run_dir, *words)
    assert (done.returncode, done.stdout) == (2, "")
    assert complaint in done.stderr
