# SPDX-License-Identifier: GPL-2.0
"""masim's configuration files are read as patterns."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from damon_tests.patterns.load import dump, load, parse
from damon_tests.patterns.masim import ACCESSES_PER_TURN, Hints, Options
from damon_tests.patterns.masim import parse as parse_masim
from damon_tests.patterns.spec import Access, Action, Pattern, PatternRegion, Phase
from damon_tests.ports import UsageError

# Written for this test from the description of the format.
CONFIG = """\
# regions: name, bytes, initial content
small, 300
big one, 100000000, none
filled, 8192, /etc/hostname

# a phase
first phase   # its name
1500
small, 1, 0, 30
big one, 0, 4096, 70, wo


first phase
250
filled, 0, 64, 1, ro
small, 0, 512, 0, ro
big one, 1, 64, 1, rw
"""

TURN_NS = 1_310_720


def turn(**fields: object) -> Access:
    return Access(period_ns=TURN_NS, touches=ACCESSES_PER_TURN, free_running=True, **fields)  # type: ignore[arg-type]


EXPECTED = Pattern(
    name="mine",
    reason="imported from masim's configuration mine",
    regions=(
        PatternRegion("small", 4096, populate=False, hugepage=None),
        PatternRegion("big_one", 100_003_840, populate=False, hugepage=None),
        PatternRegion("filled", 8192, populate=True, hugepage=None, file="/etc/hostname"),
    ),
    phases=(
        Phase(
            "first_phase",
            1_500_000_000,
            (
                turn(
                    region="small", start_bytes=0, end_bytes=300, order="random", stride_bytes=64, weight=30
                ),
                turn(region="big_one", start_bytes=0, end_bytes=100_000_000, stride_bytes=4096, weight=70),
            ),
        ),
        Phase(
            "first_phase_2",
            250_000_000,
            (
                turn(region="filled", start_bytes=0, end_bytes=8192, stride_bytes=64, weight=1, kind="read"),
                turn(
                    region="big_one",
                    start_bytes=0,
                    end_bytes=100_000_000,
                    order="random",
                    stride_bytes=64,
                    weight=1,
                    kind="update",
                ),
            ),
        ),
    ),
)


def test_every_line_is_imported(tmp_path: Path) -> None:
    path = tmp_path / "mine.cfg"
    path.write_text(CONFIG, encoding="utf-8")
    assert load(path) == EXPECTED
    assert parse(dump(load(path)), default_name="mine") == EXPECTED


def test_a_path_without_a_suffix_is_a_configuration(tmp_path: Path) -> None:
    path = tmp_path / "default"
    path.write_text(CONFIG, encoding="utf-8")
    assert load(str(path)).phases[0].accesses == EXPECTED.phases[0].accesses


def test_sequential_pass_covers_the_pages_of_a_masim_turn() -> None:
    """131,072 accesses, a page each, go more than five times around 100 MB."""
    big = EXPECTED.phases[0].accesses[1]
    assert big.slots == 24_415
    assert big.touches_per_pass == ACCESSES_PER_TURN > 5 * big.slots


HOT = """\
a, 20971520
b, 20971520
c, 5242880

one
10
a, 0, 64, 99
b, 0, 64, 1

two
10
b, 0, 64, 70
c, 0, 64, 30

three
10
c, 0, 64, 1
"""


@pytest.mark.parametrize(
    ("hints", "expected"),
    [
        ("none", ((), (), ())),
        (
            "madvise",
            ((Action("willneed", 0, "a", 0, 20 << 20),), (Action("willneed", 0, "b", 0, 20 << 20),), ()),
        ),
        (
            "mlock",
            (
                (Action("mlock", 0, "a", 0, 20 << 20),),
                (Action("munlock", 0, "a", 0, 20 << 20), Action("mlock", 0, "b", 0, 20 << 20)),
                (Action("munlock", 0, "b", 0, 20 << 20),),
            ),
        ),
    ],
)
def test_hints_are_for_large_and_hot_regions(hints: Hints, expected: tuple[tuple[Action, ...], ...]) -> None:
    pattern = parse_masim(HOT, options=Options(hints=hints))
    assert tuple(phase.actions for phase in pattern.phases) == expected
    assert parse(dump(pattern)) == pattern


def test_hugetlb_rounds_up_to_huge_pages() -> None:
    regions = parse_masim(CONFIG, options=Options(hugetlb=True)).regions
    assert [(r.memory, r.size_bytes) for r in regions] == [
        ("hugetlb", 2 << 20),
        ("hugetlb", 96 << 20),
        ("hugetlb", 2 << 20),
    ]


def test_option_sets_the_mode_of_lines_without_mode() -> None:
    pattern = parse_masim(CONFIG, options=Options(mode="rw"))
    assert [[a.kind for a in phase.accesses] for phase in pattern.phases] == [
        ["update", "write"],
        ["read", "update"],
    ]


def test_times_repeats_the_phases() -> None:
    pattern = parse_masim(CONFIG, options=Options(times=3))
    once = parse_masim(CONFIG).phases
    assert [replace(phase, name="") for phase in pattern.phases] == [replace(p, name="") for p in once * 3]
    assert len({phase.name for phase in pattern.phases}) == 6
    for times in (0, -1, 1001):
        with pytest.raises(UsageError, match="is not how often"):
            parse_masim(CONFIG, options=Options(times=times))


def changed(old: str, new: str) -> str:
    assert CONFIG.count(old) == 1, old
    return CONFIG.replace(old, new)


@pytest.mark.parametrize(
    ("text", "line", "says"),
    [
        ("", 1, "not a masim configuration"),
        ("a, 4096\n", 1, "one for each phase"),
        (changed("small, 300\n", "small\n"), 2, "is not 'name, bytes[, file|none]'"),
        (changed("small, 300\n", "small, 0\n"), 2, "size '0' is not a whole number from 1"),
        (changed("small, 300\n", "small, 4 KiB\n"), 2, "size '4 KiB' is not a whole number"),
        (changed("small, 300\n", ", 300\n"), 2, "a name is missing"),
        (changed("filled, 8192", "small, 8192"), 4, "a second region named 'small'"),
        (changed("1500", "fast"), 8, "time 'fast' is not a whole number"),
        (changed("1500", "0"), 8, "time '0'"),
        (changed("filled, 0, 64, 1, ro", "full, 0, 64, 1, ro"), 15, "unknown region 'full'"),
        (changed("filled, 0, 64, 1, ro", "filled, 0, 64"), 15, "is not 'region, random, stride"),
        (changed("filled, 0, 64, 1, ro", "filled, 2, 64, 1, ro"), 15, "randomness '2'"),
        (changed("filled, 0, 64, 1, ro", "filled, 0, 0, 1, ro"), 15, "stride '0'"),
        (changed("filled, 0, 64, 1, ro", "filled, 0, 64, x, ro"), 15, "probability 'x'"),
        (changed("filled, 0, 64, 1, ro", "filled, 0, 64, 1, wr"), 15, "mode 'wr' is not one of ro, wo, rw"),
        (CONFIG + "\nlonely\n5\n", 20, "a phase needs a name, its milliseconds"),
    ],
)
def test_bad_configurations_are_refused_with_file_and_line(text: str, line: int, says: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_masim(text, "dir/bad.cfg")
    assert str(caught.value).startswith(f"dir/bad.cfg:{line}: ")
    assert says in str(caught.value)
