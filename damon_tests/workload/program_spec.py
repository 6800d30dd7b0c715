# SPDX-License-Identifier: GPL-2.0
"""Read real programs as targets from ``workloads/programs/*.yaml``; its README.md describes the format."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import yaml

from damon_tests import bundle
from damon_tests.patterns.units import parse_duration
from damon_tests.patterns.yaml_nodes import Value
from damon_tests.ports import UsageError

Command = tuple[str, ...]

_KEYS = ("reason", "packages", "files", "prepare", "start", "ready", "fill", "load", "warm", "watch")


@dataclass(frozen=True)
class Program:
    """A program to watch. Fields are the keys of its file; ``files``: paths on this machine; times in ns."""

    name: str
    reason: str
    start: Command
    packages: tuple[str, ...] = ()
    files: tuple[Path, ...] = ()
    prepare: tuple[Command, ...] = ()
    ready: str = ""
    fill: tuple[Command, ...] = ()
    load: Command = ()
    warm_ns: int = 0
    watch_ns: int = 4_000_000_000


def directory() -> Path:
    """Return the directory of the programs."""
    return bundle.root() / "workloads" / "programs"


def names() -> tuple[str, ...]:
    """Return the names of all programs, sorted."""
    return tuple(sorted(path.stem for path in directory().glob("*.yaml")))


def load(name: str) -> Program:
    """Return the program of this name, or of a file with this path. Raises UsageError."""
    path = Path(name) if name.endswith((".yaml", ".yml")) else directory() / f"{name}.yaml"
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, ValueError):
        raise UsageError(f"no program {name!r}: there are {', '.join(names())}, or give a file") from None
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.YAMLError as error:
        raise UsageError(f"{path}: not YAML ({str(error).splitlines()[0]})") from None
    if node is None:
        raise UsageError(f"{path}: an empty file")
    return _program(Value(node, str(path), "program"), path)


def _program(value: Value, path: Path) -> Program:
    keys = value.mapping(*_KEYS)
    start = _command(value.required(keys, "start"))
    files = tuple(path.parent / "loads" / v.text() for v in keys["files"].items()) if "files" in keys else ()
    for file in files:
        if not file.is_file():
            raise keys["files"].error(f"there is no file {file}")
    return Program(
        name=path.stem,
        reason=value.required(keys, "reason").text(),
        start=start,
        packages=tuple(v.text() for v in keys["packages"].items()) if "packages" in keys else (),
        files=files,
        prepare=tuple(_command(v) for v in keys["prepare"].items()) if "prepare" in keys else (),
        ready=keys["ready"].text() if "ready" in keys else "",
        fill=tuple(_command(v) for v in keys["fill"].items()) if "fill" in keys else (),
        load=_command(keys["load"]) if "load" in keys else (),
        warm_ns=_duration(keys["warm"]) if "warm" in keys else 0,
        watch_ns=_duration(value.required(keys, "watch")),
    )


def _command(value: Value) -> Command:
    words = tuple(word.text() for word in value.items())
    if not words:
        raise value.error("a command has at least one word")
    return words


def _duration(value: Value) -> int:
    try:
        return parse_duration(value.text())
    except ValueError as error:
        raise value.error(str(error)) from None
