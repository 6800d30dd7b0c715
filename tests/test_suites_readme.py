# SPDX-License-Identifier: GPL-2.0
"""The examples of suites/README.md pass on the reference, as printed."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

README = Path(__file__).parent.parent / "suites" / "README.md"


def examples() -> list[str]:
    """Every Python block of the page."""
    return re.findall(r"^```python\n(.*?)^```$", README.read_text(), re.MULTILINE | re.DOTALL)


def test_every_example_passes_on_the_reference(tmp_path: Path) -> None:
    for number, text in enumerate(examples()):
        (tmp_path / f"test_example_{number}.py").write_text(text)
    command = [sys.executable, "-m", "damon_tests.cli", "run", "--output", "run", str(tmp_path)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    tests = json.loads((tmp_path / "run" / "run.json").read_text())["tests"]
    assert [test["verdict"] for test in tests] == ["PASS"] * len(examples())


def test_examples_show_every_way_to_run_and_every_kind_of_expectation() -> None:
    text = "".join(examples())
    for word in ("experiment", "live", "module", "quota_run", "needs", "known_defect", "like_the_reference"):
        assert word in text, word


@pytest.mark.parametrize(
    "line", [line for text in examples() for line in text.splitlines() if "because=" in line]
)
def test_reasons_begin_with_words(line: str) -> None:
    assert re.search(r'because="[a-z]', line), line
