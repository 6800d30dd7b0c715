# SPDX-License-Identifier: GPL-2.0
"""The README's worked example is real: it runs as printed."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

README = Path(__file__).parent.parent / "README.md"
PAGES = ("README.md", "ci/README.md", *(f"suites/{name}README.md" for name in ("", "overhead/", "programs/")))


def block(language: str) -> str:
    """The only code block in that language."""
    (block,) = re.findall(rf"^```{language}\n(.*?)^```$", README.read_text(), re.MULTILINE | re.DOTALL)
    return str(block)


@pytest.fixture
def example(tmp_path: Path) -> Path:
    (tmp_path / "checkerboard.yaml").write_text(block("yaml"))
    path = tmp_path / "test_checkerboard.py"
    path.write_text(block("python"))
    return path


def test_worked_example_passes_on_the_reference(example: Path) -> None:
    command = [sys.executable, "-m", "damon_tests.cli", "run", "--output", "run", str(example)]
    done = subprocess.run(
        command, cwd=example.parent, capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == 0, done.stdout + done.stderr
    (test,) = json.loads((example.parent / "run" / "run.json").read_text())["tests"]
    assert test["verdict"] == "PASS"
    assert {c["kind"] for a in [test, *test["attempts"]] for c in a["checks"]} >= {"invariant", "oracle band"}


def commands_of(page: str) -> set[str]:
    """Return the damon-tests commands that a page names."""
    text = (README.parent / page).read_text()
    return set(re.findall(r"(?:`|\$ |^)damon-tests ([a-z-]+)", text, re.MULTILINE))


def test_commands_of_the_readme_and_its_pages_exist() -> None:
    """Every damon-tests command that they name is one of the command line's."""
    named = set().union(*map(commands_of, PAGES))
    done = subprocess.run(
        [sys.executable, "-m", "damon_tests.cli", "--help"], capture_output=True, text=True, check=True
    )
    assert {"run", "vm", "doctor", "report"} <= commands_of("README.md")
    assert named <= set(re.findall(r"^    ([a-z-]+)(?: |$)", done.stdout, re.MULTILINE))
