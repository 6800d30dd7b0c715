# SPDX-License-Identifier: GPL-2.0
"""Read patterns from YAML files.

The format, by example (``workloads/patterns/README.md`` explains every key)::

    reason: a small hot set in cold memory      # required, one line: what the pattern is for
    repeat: true                                # default false
    regions:
      - name: data
        size: 64 MiB
    phases:
      - name: steady
        duration: 1 h
        accesses:                               # [] for idling
          - region: data
            span: 16 MiB .. 24 MiB              # default: the whole region
            period: 2 ms                        # or rate: 500 /s

The pattern's name is the file's name without its suffix, unless the file has the key ``name``. Files that are
not YAML are masim's configurations (``damon_tests.patterns.masim``).
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import cast

from damon_tests import bundle
from damon_tests.patterns import masim, yaml_nodes
from damon_tests.patterns.access_terms import MAX_WORKERS, read_accesses
from damon_tests.patterns.dump import dump
from damon_tests.patterns.mapped import problems
from damon_tests.patterns.phase_actions import read_actions
from damon_tests.patterns.spec import SHARED, Memory, Pattern, PatternRegion, Phase, Visible
from damon_tests.patterns.units import format_size, parse_duration
from damon_tests.patterns.yaml_nodes import Value
from damon_tests.ports import NotSupported, UsageError, huge_page_size, page_size
from damon_tests.ports.paging import DEFAULT_PAGE_BYTES

__all__ = ["dump", "load", "names", "parse"]

MAX_REGION_BYTES = 1 << 50
MAX_GAP_BYTES = 64 << 30
# A shorter phase would be over before a busy machine begins it.
MIN_PHASE_NS = 1_000_000
MAX_FILE_NAME = 3000
MAX_NODE = 63
MAX_MEMCG = 63

_YAML = (".yaml", ".yml")
_README = "workloads/patterns/README.md"
_MEMORY = ("anonymous", "file", "shmem", "hugetlb", "heap")

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,62}")
_HUGEPAGE: dict[str, bool | None] = {"no": False, "false": False, "yes": True, "true": True, "default": None}


def names() -> tuple[str, ...]:
    """Return the names of the library's patterns, sorted."""
    return tuple(sorted(path.stem for path in bundle.patterns_dir().glob("*.yaml")))


def load(name_or_path: str | Path, options: masim.Options = masim.NO_OPTIONS) -> Pattern:
    """Load a pattern of the library by name, or from a file by path.

    A path is recognised by a directory separator or the suffix ``.yaml``, ``.yml`` or ``.cfg``; a file
    that is not YAML by its suffix is a masim configuration, which ``options`` are for. Raises UsageError with
    file, line, what is wrong and what to do.
    """
    path = Path(name_or_path)
    if path.suffix not in (*_YAML, ".cfg") and len(path.parts) == 1:
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
    if path.suffix in _YAML:
        if options != masim.NO_OPTIONS:
            raise UsageError(f"{path}: masim's options are for its configurations; see {_README}")
        return parse(text, str(path), default_name=path.stem)
    return masim.parse(text, str(path), path.stem, options)


def parse(text: str, path: str = "<pattern>", default_name: str = "pattern") -> Pattern:
    """Parse the text of a YAML file; ``path`` is for messages. Raises UsageError."""
    top = yaml_nodes.read(text, path)
    keys = top.mapping("name", "reason", "repeat", "gap", "visible", "memcg", "regions", "phases")
    regions = _regions(top.required(keys, "regions"))
    phases = _phases(top.required(keys, "phases"), regions)
    pattern = Pattern(
        name=_name(keys["name"]) if "name" in keys else default_name,
        reason=_reason(top.required(keys, "reason")),
        regions=tuple(regions.values()),
        phases=phases,
        repeat=keys["repeat"].boolean() if "repeat" in keys else False,
        gap_bytes=_gap(keys["gap"]) if "gap" in keys else Pattern.gap_bytes,
        visible=cast(Visible, keys["visible"].choice("flush", "natural") if "visible" in keys else "flush"),
        memcg=_memcg(keys["memcg"]) if "memcg" in keys else "",
    )
    _refuse_whole(keys, pattern)
    return pattern


def _refuse_whole(keys: dict[str, Value], pattern: Pattern) -> None:
    """Refuse what is wrong with all phases together."""
    if len(pattern.workers) > MAX_WORKERS:
        raise keys["phases"].error(
            f"{len(pattern.workers)} threads in all processes are more than {MAX_WORKERS}"
        )
    problem = problems(pattern)
    if problem is not None:
        phase = list(keys["phases"].items())[problem.phase]
        items = list(phase.mapping("name", "duration", "accesses", "actions")[problem.list_name].items())
        # Actions are sorted by time; the bad action is found by its position in that order.
        if problem.list_name == "actions":
            when = [_at_ns(item) for item in items]
            items = [items[i] for i in sorted(range(len(items)), key=lambda i: when[i])]
        raise items[problem.index].error(problem.message)


def _at_ns(action: Value) -> int:
    keys = action.mapping("do", "at", "region", "span", "size", "populate", "count", "lifetime", "exec")
    return keys["at"].quantity(parse_duration) if "at" in keys else 0


def _name(value: Value) -> str:
    text = value.text()
    if not _NAME.fullmatch(text):
        raise value.error(f"{text!r} is not a name; use up to 63 letters, digits, '_', '-' and '.'")
    return text


def _memcg(value: Value) -> str:
    text = value.text()
    if len(text) > MAX_MEMCG or not all(_NAME.fullmatch(part) for part in text.split("/")):
        raise value.error(
            f"{text!r} is not a group's name; use letters, digits, '_', '-' and '.', with '/' between "
            f"groups in each other, {MAX_MEMCG} in all"
        )
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
        keys = item.mapping(*_REGION_KEYS)
        name = _name(item.required(keys, "name"))
        if name in regions:
            raise keys["name"].error(f"two regions are named {name!r}; rename one")
        region = _region(item, keys, name)
        if region.same_as:
            _check_same(region, regions.get(region.same_as), keys["same_as"])
        regions[name] = region
    if not regions:
        raise value.error("a pattern needs at least one region")
    if sum(region.memory == "heap" for region in regions.values()) > 1:
        raise value.error("a process has one heap; only one region can be of 'memory: heap'")
    return regions


def _check_same(region: PatternRegion, other: PatternRegion | None, value: Value) -> None:
    """Raise UsageError unless ``region`` can map the memory of ``other`` once more."""
    if other is None:
        raise value.error(f"no region before this one is named {region.same_as!r}")
    if region.memory not in SHARED or region.memory != other.memory:
        raise value.error("both regions must be of 'memory: file', or of 'memory: shmem'")
    if region.size_bytes > other.size_bytes:
        raise value.error(f"is larger than region {other.name!r}")


_REGION_KEYS = (
    "name",
    "size",
    "populate",
    "hugepage",
    "memory",
    "file",
    "lock",
    "node",
    "mapped",
    "gap",
    "same_as",
)


def _region(item: Value, keys: dict[str, Value], name: str) -> PatternRegion:
    size = item.required(keys, "size").pages(MAX_REGION_BYTES)
    memory = cast(Memory, keys["memory"].choice(*_MEMORY) if "memory" in keys else "anonymous")
    if memory == "hugetlb" and size % huge_page_size():
        _refuse_hugetlb(keys["size"], size)
    if memory in ("hugetlb", "heap") and "hugepage" in keys:
        raise keys["hugepage"].error(f"is not for 'memory: {memory}'")
    mapped = None
    if "mapped" in keys:
        if memory == "hugetlb":
            raise keys["mapped"].error("is not for 'memory: hugetlb'")
        # An empty heap has no mapping that DAMON can find.
        least = page_size() if memory == "heap" else 0
        mapped = keys["mapped"].pages(size, minimum=least)
    return PatternRegion(
        name=name,
        size_bytes=size,
        populate=keys["populate"].boolean() if "populate" in keys else True,
        hugepage=_HUGEPAGE[keys["hugepage"].choice(*_HUGEPAGE)] if "hugepage" in keys else False,
        memory=memory,
        file=_file(keys["file"]) if "file" in keys else "",
        lock=keys["lock"].boolean() if "lock" in keys else False,
        node=keys["node"].integer(0, MAX_NODE) if "node" in keys else None,
        mapped_bytes=mapped if mapped != size else None,
        gap_bytes=keys["gap"].pages(MAX_REGION_BYTES, minimum=0) if "gap" in keys else None,
        same_as=keys["same_as"].text() if "same_as" in keys else "",
    )


def _refuse_hugetlb(size: Value, size_bytes: int) -> None:
    """Raise UsageError for a size of no huge pages, NotSupported where huge pages are larger."""
    huge = format_size(huge_page_size())
    if page_size() != DEFAULT_PAGE_BYTES:
        raise NotSupported(
            f"{format_size(size_bytes)} of hugetlb memory: this machine's huge pages are {huge}",
            remedy="use a kernel with smaller pages for this",
        )
    raise size.error(f"huge pages of hugetlb are {huge}; use a multiple of that")


def _file(value: Value) -> str:
    path = value.text()
    if path == "none":
        return ""
    if len(path) > MAX_FILE_NAME or not path.isprintable():
        raise value.error("is not a path that a line can hold; use a shorter, plain one")
    return path


def _phases(value: Value, regions: dict[str, PatternRegion]) -> tuple[Phase, ...]:
    phases: list[Phase] = []
    for item in value.items():
        keys = item.mapping("name", "duration", "accesses", "actions")
        name = _name(item.required(keys, "name"))
        if any(phase.name == name for phase in phases):
            raise keys["name"].error(f"two phases are named {name!r}; rename one")
        duration_ns = item.required(keys, "duration").period(parse_duration, MIN_PHASE_NS)
        accesses = read_accesses(item.required(keys, "accesses"), regions)
        actions = read_actions(keys["actions"], regions, duration_ns) if "actions" in keys else ()
        phases.append(Phase(name, duration_ns, accesses, actions))
    if not phases:
        raise value.error("a pattern needs at least one phase")
    return tuple(phases)
