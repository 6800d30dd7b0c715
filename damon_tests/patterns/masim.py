# SPDX-License-Identifier: GPL-2.0
"""Read masim's configuration files, unmodified, as patterns.

The format: paragraphs are separated by an empty line, "#" begins a comment. The first paragraph has the
regions, "name, bytes[, file|none]" a line. Each other paragraph is a phase: a line with its
name, one with its milliseconds, then "region, random(1|0), stride, probability[, ro|wo|rw]" lines.

What masim does, and how a pattern expresses it:

* It has no rates. It draws one of the phase's lines by its share of all probabilities, makes 131,072
accesses for it, and draws again, as fast as it can: accesses with a ``weight`` and ``rate: max``.
  The truth about real targets is their pass log. Simulated targets have no speed; theirs is the
  declared one of ``pace.NOMINAL_ACCESSES_PER_MS``, 100,000 accesses a millisecond.
* A sequential line continues where its last turn ended, and wraps: ``sequential`` with ``touches``.
* A random line draws a byte of the region at a time, from a million numbers made beforehand; here a cache
  line at a time, from a generator: all pages with equal probability. Its stride has no meaning.
* A line without a mode writes ("wo"), unless an option says otherwise. "rw" reads a byte and writes it back,
  one larger: ``update``.
* Its memory comes from malloc(), so a page exists from its first access on: ``populate: false``.
  Unlike in masim, regions that some line reads ("ro") are populated: otherwise it would read the kernel's
  zero page, whose accesses DAMON does not count, so that they could not be judged.
* A region's size need not be whole pages: the mapping is rounded up, accesses stay within the size.
* Options of masim's command line (hints, huge pages, the mode of lines without a mode, repeats) are in
``Options``. Repeats use the same memory; masim frees it and allocates new memory in between.
* Phases begin by plan. If a turn takes longer than its phase, for example because it faults in new pages,
the next phases have less time, or none; masim then ends later.
* Names may have any characters in masim; here all but letters, digits, "_", "-" and "." become "_".
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from damon_tests.patterns.pass_schedule import nominal_period_ns
from damon_tests.patterns.spec import Access, Action, Kind, Pattern, PatternRegion, Phase
from damon_tests.patterns.yaml_nodes import MAX_DIGITS, shortened
from damon_tests.ports import NSEC_PER_MSEC, UsageError, huge_page_size, page_size

ACCESSES_PER_TURN = 131_072
CACHE_LINE_BYTES = 64

# masim's hints are for regions of at least 10 MiB with at least 70 % of a phase's probability.
HINT_BYTES = 10 << 20
HINT_PERCENT = 70

Hints = Literal["none", "madvise", "mlock"]
Mode = Literal["ro", "wo", "rw"]
MAX_TIMES = 1000


@dataclass(frozen=True)
class Options:
    """masim's options: ``hints`` -t, ``hugetlb`` -h, ``mode`` -r (of lines without a mode), ``times`` -c."""

    hints: Hints = "none"
    hugetlb: bool = False
    mode: Mode = "wo"
    times: int = 1


NO_OPTIONS = Options()

_KINDS: dict[str, Kind] = {"ro": "read", "wo": "write", "rw": "update"}
_UNNAMED = re.compile(r"[^A-Za-z0-9_.-]")
_NAME_LENGTH = 63


@dataclass(frozen=True)
class _Line:
    """A line of the file without its comment."""

    path: str
    number: int
    text: str

    def error(self, message: str) -> UsageError:
        return UsageError(f"{self.path}:{self.number}: {shortened(message)}")

    def fields(self, least: int, most: int, format_: str) -> list[str]:
        fields = [field.strip() for field in self.text.split(",")]
        if not least <= len(fields) <= most:
            raise self.error(f"{self.text!r} is not {format_!r}")
        return fields

    def integer(self, text: str, what: str, minimum: int, maximum: int) -> int:
        digits = text.isascii() and text.isdigit() and len(text) <= MAX_DIGITS
        if not (digits and minimum <= int(text) <= maximum):
            raise self.error(f"{what} {text!r} is not a whole number from {minimum} to {maximum}")
        return int(text)


def parse(text: str, path: str = "<masim>", name: str = "masim", options: Options = NO_OPTIONS) -> Pattern:
    """Parse the text of a configuration. ``path`` is for messages, ``name`` is the pattern's name.

    Raises UsageError "file:line: ...".
    """
    if not 1 <= options.times <= MAX_TIMES:
        raise UsageError(f"{options.times} is not how often a configuration can be done: 1 to {MAX_TIMES}")
    paragraphs = _paragraphs(text, path)
    if len(paragraphs) < 2:
        raise UsageError(
            f"{path}:1: not a masim configuration: a paragraph with regions and one for each phase are needed"
        )
    sizes: dict[str, int] = {}
    regions: dict[str, PatternRegion] = {}
    for line in paragraphs[0]:
        region, size = _region(line, options.hugetlb)
        if region.name in regions:
            raise line.error(f"a second region named {region.name!r}; rename one")
        regions[region.name], sizes[region.name] = region, size
    phases: list[Phase] = []
    for lines in paragraphs[1:] * options.times:
        phases.append(_phase(lines, sizes, {phase.name for phase in phases}, options.mode))
    if options.hints != "none":
        phases = _with_hints(phases, regions, options.hints)
    return Pattern(
        name=_plain(name),
        reason=f"imported from masim's configuration {name}",
        regions=tuple(_populated(region, phases) for region in regions.values()),
        phases=tuple(phases),
    )


def _paragraphs(text: str, path: str) -> list[list[_Line]]:
    """Split the text at empty lines; drop lines that are only a comment."""
    paragraphs: list[list[_Line]] = [[]]
    for number, raw in enumerate(text.splitlines(), start=1):
        content = raw.split("#", 1)[0].strip()
        if content:
            paragraphs[-1].append(_Line(path, number, content))
        elif not raw.strip():
            paragraphs.append([])
    return [lines for lines in paragraphs if lines]


def _region(line: _Line, hugetlb: bool) -> tuple[PatternRegion, int]:
    fields = line.fields(2, 3, "name, bytes[, file|none]")
    size = line.integer(fields[1], "size", 1, 1 << 50)
    file = fields[2] if len(fields) == 3 and fields[2] != "none" else ""
    unit = huge_page_size() if hugetlb else page_size()
    region = PatternRegion(
        name=_named(line, fields[0]),
        size_bytes=-(-size // unit) * unit,
        populate=False,
        hugepage=False if hugetlb else None,
        memory="hugetlb" if hugetlb else "anonymous",
        file=file,
    )
    return region, size


def _named(line: _Line, name: str) -> str:
    if not name:
        raise line.error("a name is missing")
    return _plain(name)


def _plain(name: str) -> str:
    return _UNNAMED.sub("_", name)[:_NAME_LENGTH]


def _phase(lines: list[_Line], sizes: dict[str, int], taken: set[str], usual: Mode) -> Phase:
    if len(lines) < 3:
        raise lines[-1].error("a phase needs a name, its milliseconds, and at least one line of accesses")
    duration_ns = lines[1].integer(lines[1].text, "time", 1, 1 << 40) * NSEC_PER_MSEC
    accesses = tuple(a for line in lines[2:] if (a := _access(line, sizes, usual)) is not None)
    name = base = _named(lines[0], lines[0].text)
    number = 2
    while name in taken:
        suffix = f"_{number}"
        name, number = base[: _NAME_LENGTH - len(suffix)] + suffix, number + 1
    return Phase(name, duration_ns, accesses)


def _access(line: _Line, sizes: dict[str, int], usual: Mode) -> Access | None:
    """Read a line of accesses; None for probability 0, which is never drawn."""
    fields = line.fields(4, 5, "region, random, stride, probability[, ro|wo|rw]")
    name = _named(line, fields[0])
    if name not in sizes:
        raise line.error(f"unknown region {fields[0]!r}; the regions are {', '.join(sizes)}")
    random = line.integer(fields[1], "randomness", 0, 1)
    stride = line.integer(fields[2], "stride", 0 if random else 1, 1 << 50)
    weight = line.integer(fields[3], "probability", 0, 1 << 24)
    mode = fields[4] if len(fields) == 5 else usual
    if mode not in _KINDS:
        raise line.error(f"mode {mode!r} is not one of {', '.join(_KINDS)}")
    if not weight:
        return None
    size = sizes[name]
    return Access(
        region=name,
        start_bytes=0,
        end_bytes=size,
        order="random" if random else "sequential",
        stride_bytes=min(CACHE_LINE_BYTES if random else stride, size),
        period_ns=nominal_period_ns(ACCESSES_PER_TURN),
        touches=ACCESSES_PER_TURN,
        kind=_KINDS[mode],
        free_running=True,
        weight=weight,
    )


def _populated(region: PatternRegion, phases: list[Phase]) -> PatternRegion:
    kinds = {a.kind for phase in phases for a in phase.accesses if a.region == region.name}
    if "read" not in kinds:
        return region
    return PatternRegion(**{**region.__dict__, "populate": True})


def _with_hints(phases: list[Phase], regions: dict[str, PatternRegion], hints: Hints) -> list[Phase]:
    """Before each phase, advise or lock hot regions, and unlock those that were locked before."""
    locked: list[str] = []
    hinted = []
    for phase in phases:
        least = phase.total_weight * HINT_PERCENT // 100
        hot = {a.region for a in phase.accesses if a.weight >= least and a.end_bytes >= HINT_BYTES}
        actions = [Action("munlock", 0, name, 0, regions[name].size_bytes) for name in locked]
        do: Literal["mlock", "willneed"] = "mlock" if hints == "mlock" else "willneed"
        actions += [Action(do, 0, name, 0, regions[name].size_bytes) for name in sorted(hot)]
        locked = sorted(hot) if hints == "mlock" else []
        hinted.append(Phase(phase.name, phase.duration_ns, phase.accesses, tuple(actions)))
    return hinted
