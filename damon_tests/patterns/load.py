# SPDX-License-Identifier: GPL-2.0
"""Read patterns from YAML files, and write them.

The format, by example (``workloads/patterns/README.md`` explains every key)::

    reason: a small hot set in cold memory      # required, one line: what the pattern is for
    repeat: true                                # default false
    gap: 64 MiB                                 # unmapped space after each region, default 64 MiB
    visible: flush                              # or natural
    regions:
      - name: data
        size: 64 MiB
        populate: true                          # default true
        hugepage: no                            # no (default), yes, or default
    phases:
      - name: steady
        duration: 1 h
        accesses:                               # [] for idling
          - region: data
            span: 16 MiB .. 24 MiB              # default: the whole region
            order: sequential                   # or random, then with touches
            stride: 4 KiB
            period: 2 ms                        # or rate: 500 /s
            kind: write                         # or read
            islands: 4                          # default 1; then every: how far apart
            every: 1 MiB

The pattern's name is the file's name without its suffix, unless the key ``name`` is there.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import cast

from damon_tests import bundle
from damon_tests.patterns import nodes
from damon_tests.patterns.access import read_accesses
from damon_tests.patterns.dump import dump
from damon_tests.patterns.nodes import Value
from damon_tests.patterns.spec import Pattern, PatternRegion, Phase, Visible
from damon_tests.patterns.units import parse_duration
from damon_tests.ports import UsageError

__all__ = ["dump", "load", "names", "parse"]

MAX_REGION_BYTES = 1 << 50
MAX_GAP_BYTES = 64 << 30
# A shorter phase would be over before a busy machine has begun it.
MIN_PHASE_NS = 1_000_000

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,62}")
_HUGEPAGE: dict[str, bool | None] = {"no": False, "false": False, "yes": True, "true": True, "default": None}


def names() -> tuple[str, ...]:
    """The patterns of the library, sorted."""
    return tuple(sorted(path.stem for path in bundle.patterns_dir().glob("*.yaml")))


def load(name_or_path: str | Path) -> Pattern:
    """A pattern of the library by name, or from a file by path.

    A path is recognised by a directory separator or the suffix ``.yaml``/``.yml``. Raises UsageError
    with file, line, what is wrong and what to do.
    """
    path = Path(name_or_path)
    if path.suffix not in (".yaml", ".yml") and len(path.parts) == 1:
        path = bundle.patterns_dir() / f"{name_or_path}.yaml"
        if not path.is_file():
            raise UsageError(
                f"no pattern is named {str(name_or_path)!r}; the library has {', '.join(names()) or 'none'}; "
                "for a file of your own give its path, such as ./mine.yaml"
            )
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: cannot be read: {error}") from None
    return parse(text, str(path), default_name=path.stem)


def parse(text: str, path: str = "<pattern>", default_name: str = "pattern") -> Pattern:
    """A pattern from the text of a YAML file; ``path`` is for messages. Raises UsageError."""
    top = nodes.read(text, path)
    keys = top.mapping("name", "reason", "repeat", "gap", "visible", "regions", "phases")
    regions = _regions(top.required(keys, "regions"))
    phases = _phases(top.required(keys, "phases"), regions)
    return Pattern(
        name=_name(keys["name"]) if "name" in keys else default_name,
        reason=_reason(top.required(keys, "reason")),
        regions=tuple(regions.values()),
        phases=phases,
        repeat=keys["repeat"].boolean() if "repeat" in keys else False,
        gap_bytes=_gap(keys["gap"]) if "gap" in keys else Pattern.gap_bytes,
        visible=cast(Visible, keys["visible"].choice("flush", "natural") if "visible" in keys else "flush"),
    )


def _name(value: Value) -> str:
    text = value.text()
    if not _NAME.fullmatch(text):
        raise value.error(f"{text!r} is not a name; use up to 63 letters, digits, '_', '-' and '.'")
    return text


def _reason(value: Value) -> str:
    text = value.text().strip()
    if len(text.splitlines()) != 1:
        raise value.error("write one line that says what the pattern is for")
    return text


def _gap(value: Value) -> int:
    return value.pages(MAX_GAP_BYTES)


def _regions(value: Value) -> dict[str, PatternRegion]:
    regions: dict[str, PatternRegion] = {}
    for item in value.items():
        keys = item.mapping("name", "size", "populate", "hugepage")
        name = _name(item.required(keys, "name"))
        if name in regions:
            raise keys["name"].error(f"two regions are named {name!r}; rename one")
        regions[name] = PatternRegion(
            name=name,
            size_bytes=item.required(keys, "size").pages(MAX_REGION_BYTES),
            populate=keys["populate"].boolean() if "populate" in keys else True,
            hugepage=_HUGEPAGE[keys["hugepage"].choice(*_HUGEPAGE)] if "hugepage" in keys else False,
        )
    if not regions:
        raise value.error("a pattern needs at least one region")
    return regions


def _phases(value: Value, regions: dict[str, PatternRegion]) -> tuple[Phase, ...]:
    phases: list[Phase] = []
    for item in value.items():
        keys = item.mapping("name", "duration", "accesses")
        name = _name(item.required(keys, "name"))
        if any(phase.name == name for phase in phases):
            raise keys["name"].error(f"two phases are named {name!r}; rename one")
        duration_ns = item.required(keys, "duration").period(parse_duration, MIN_PHASE_NS)
        accesses = read_accesses(item.required(keys, "accesses"), regions)
        phases.append(Phase(name, duration_ns, accesses))
    if not phases:
        raise value.error("a pattern needs at least one phase")
    return tuple(phases)
