# SPDX-License-Identifier: GPL-2.0
"""The files of real programs: the library is readable, and mistakes are named with file and line."""

from __future__ import annotations

from pathlib import Path

import pytest

from damon_tests.ports import UsageError
from damon_tests.workload import program_spec

NAMES = program_spec.names()


@pytest.mark.parametrize("name", NAMES)
def test_library_is_readable(name: str) -> None:
    program = program_spec.load(name)
    assert program.name == name
    assert program.start[0].startswith("/usr/bin/")
    assert 10**9 <= program.watch_ns <= 10**10
    words = [word for command in (*program.prepare, *program.fill, program.load) for word in command]
    for word in (*words, *program.start):
        copied = word.startswith("/tmp/") and word.endswith((".py", ".js", ".sql"))
        assert not copied or Path(word).name in {file.name for file in program.files}


def test_readme_lists_all() -> None:
    text = (program_spec.directory() / "README.md").read_text()
    assert [name for name in NAMES if f"| `{name}` |" not in text] == []


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "empty file"),
        ("reason: x\nwatch: 1 s\n", "'start' is missing"),
        ("reason: x\nstart: []\nwatch: 1 s\n", "at least one word"),
        ("reason: x\nstart: [a]\nwatch: 1\n", "a unit is missing"),
        ("reason: x\nstart: [a]\nwatch: 1 s\nbinary: b\n", "unknown key 'binary'"),
        ("reason: x\nstart: [a]\nwatch: 1 s\nfiles: [none.py]\n", "there is no file"),
        ("reason: [\n", "not YAML"),
    ],
)
def test_mistakes_are_named(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    with pytest.raises(UsageError, match=words) as error:
        program_spec.load(str(path))
    assert str(path) in str(error.value)


def test_unknown_program() -> None:
    with pytest.raises(UsageError, match="no program 'redit': there are memcached"):
        program_spec.load("redit")
