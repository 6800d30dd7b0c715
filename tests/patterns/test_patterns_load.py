# SPDX-License-Identifier: GPL-2.0
"""Patterns are read and written, and bad patterns are refused with file and line."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from damon_tests import bundle
from damon_tests.patterns.load import dump, load, names, parse
from damon_tests.patterns.mapped import problems
from damon_tests.patterns.spec import Access, Action, Pattern, PatternRegion, Phase
from damon_tests.patterns.units import format_duration, format_size, parse_duration, parse_rate, parse_size
from damon_tests.ports import UsageError
from damon_tests.ports.paging import PAGE_SIZES, using_page_size

LIBRARY = {
    "everything_hot",
    "half_rate",
    "hot_cold",
    "idle",
    "many_islands",
    "phase_switch",
    "small_hot_in_large_cold",
    "stairs",
    "zigzag",
}

GOOD = """\
reason: a pattern with everything
repeat: true
gap: 128 MiB
visible: natural
regions:
  - name: data
    size: 64 MiB
  - {name: lazy, size: 1.5 GiB, populate: false, hugepage: yes}
phases:
  - name: busy
    duration: 1.5 s
    accesses:
      - region: data
        span: 1 MiB .. 2 MiB
        order: random
        touches: 10
        rate: 500 /s
        kind: read
      - {region: lazy, span: 0 .. 8 KiB, stride: 64 B, islands: 3, every: 1 MiB}
  - name: rest
    duration: 1 min
    accesses: []
"""


def test_every_key_is_read() -> None:
    assert parse(GOOD, default_name="good") == Pattern(
        name="good",
        reason="a pattern with everything",
        regions=(
            PatternRegion("data", 64 << 20),
            PatternRegion("lazy", 1536 << 20, populate=False, hugepage=True),
        ),
        phases=(
            Phase(
                "busy",
                1_500_000_000,
                (
                    Access("data", 1 << 20, 2 << 20, "random", period_ns=2_000_000, touches=10, kind="read"),
                    Access("lazy", 0, 8192, stride_bytes=64, islands=3, every_bytes=1 << 20),
                ),
            ),
            Phase("rest", 60_000_000_000, ()),
        ),
        repeat=True,
        gap_bytes=128 << 20,
        visible="natural",
    )


def changed(old: str, new: str) -> str:
    assert GOOD.count(old) == 1, old
    return GOOD.replace(old, new)


@pytest.mark.parametrize(
    ("text", "line", "says"),
    [
        ("", 1, "the file is empty"),
        ("reason: [", 1, "not valid YAML"),
        ("a\tb: - x\n - y", 1, "not valid YAML"),
        ("just words", 1, "expected keys and values"),
        (changed("reason: a pattern with everything\n", ""), 1, "'reason' is missing"),
        (changed("reason: a pattern with everything", "reason: ''"), 1, "write one line"),
        (changed("repeat: true", "repeat: often"), 2, "'often' is neither true nor false"),
        (changed("repeat: true", "repeat:"), 2, "write a value"),
        (changed("repeat: true", "reason: twice"), 2, "'reason' is there twice"),
        (changed("gap: 128 MiB", "gap: 128 GiB"), 3, "out of range; use 4 KiB to 64 GiB"),
        (changed("gap: 128 MiB", "gap: 5000 B"), 3, "not a multiple of the page size"),
        (changed("visible: natural", "visible: yes"), 4, "'yes' is not one of flush, natural"),
        (
            changed("visible: natural", "visibility: natural"),
            4,
            "unknown key 'visibility'; the keys are name",
        ),
        (changed("name: data", "name: 'da ta'"), 6, "'da ta' is not a name"),
        (changed("name: lazy", "name: data"), 8, "two regions are named 'data'"),
        (changed("size: 64 MiB", "size: 64"), 7, "a unit is missing; the units are B, KiB"),
        (changed("size: 64 MiB", "size: 64 MB"), 7, "unknown unit 'MB'"),
        (changed("size: 64 MiB", "size: -1 MiB"), 7, "is not a size"),
        (changed("size: 64 MiB", "size: 0"), 7, "out of range"),
        (changed("size: 64 MiB", "size: [1, 2]"), 7, "expected one value"),
        (changed("hugepage: yes", "hugepage: 2 MiB"), 8, "not one of no, false, yes, true, default"),
        (changed("name: rest", "name: busy"), 20, "two phases are named 'busy'"),
        (changed("duration: 1.5 s", "duration: 999 us"), 11, "must be at least 1 ms"),
        (changed("duration: 1.5 s", "duration: 1.5 ns"), 11, "not a whole number of ns"),
        (changed("duration: 1.5 s", "duration: 1 week"), 11, "unknown unit 'week'"),
        (changed("duration: 1.5 s", "duration: 99999999 h"), 11, "is too large"),
        (changed("    duration: 1 min\n", ""), 20, "'duration' is missing"),
        (changed("accesses: []", "accesses: none"), 22, "expected a list"),
        (
            changed("- region: data", "- region: date"),
            13,
            "unknown region 'date'; the regions are data, lazy",
        ),
        (changed("span: 1 MiB .. 2 MiB", "span: 1 MiB - 2 MiB"), 14, "write START .. END"),
        (changed("span: 1 MiB .. 2 MiB", "span: 2 MiB .. 1 MiB"), 14, "is empty"),
        (
            changed("span: 1 MiB .. 2 MiB", "span: 1 MiB .. 65 MiB"),
            14,
            "beyond region 'data', which has 64 MiB",
        ),
        (changed("span: 1 MiB .. 2 MiB", "span: 100 B .. 2 MiB"), 14, "multiples of the page size"),
        (changed("span: 1 MiB .. 2 MiB", "span: 1 MiB .. 2"), 14, "a unit is missing"),
        (
            changed("order: random", "order: backwards"),
            15,
            "not one of sequential, random, zipf, gaussian, chase",
        ),
        (changed("order: random\n", "order: zipf\n"), 13, "'skew' is missing"),
        (changed("        touches: 10\n", ""), 13, "'touches' is missing"),
        (changed("touches: 10", "touches: 1e3"), 16, "not a whole number"),
        (changed("touches: 10", "touches: 0"), 16, "out of range"),
        (changed("rate: 500 /s", "rate: 0 /s"), 17, "a rate of zero"),
        (changed("rate: 500 /s", "rate: 500"), 17, "a unit is missing"),
        (changed("rate: 500 /s", "period: 0"), 17, "must be more than zero"),
        (changed("rate: 500 /s", "rate: 500 /s\n        period: 2 ms"), 17, "keep one of them"),
        (changed("kind: read", "kind: execute"), 18, "not one of read, write"),
        (changed("stride: 64 B", "stride: 0"), 19, "out of range; use 1 B to"),
        (changed("stride: 64 B", "stride: 1 MiB"), 19, "the length of the span, 8 KiB"),
        (changed("islands: 3", "islands: 0"), 19, "out of range"),
        (changed("islands: 3", "islands: 1"), 19, "there is one island only"),
        (changed("islands: 3", "islands: 5000"), 19, "beyond region 'lazy'"),
        (changed(", every: 1 MiB", ""), 19, "'every' is missing"),
        (changed("every: 1 MiB", "every: 4 KiB"), 19, "out of range; use 8 KiB"),
        (changed("every: 1 MiB", "every: 1 MiB, kind: read"), 19, "zero page"),
        (
            changed("{region: lazy, span: 0 .. 8 KiB,", "{region: data, span: 0 .. 8 KiB,"),
            19,
            "overlaps accesses[0] at 1 MiB of region 'data'",
        ),
        (changed("regions:\n", "regions: []\nx:\n"), 6, "unknown key 'x'"),
        (
            "reason: r\nregions: [{name: a, size: 5 GiB}]\nphases:\n"
            "- {name: p, duration: 1 s, accesses: [{region: a, stride: 1 B}]}",
            4,
            "more than 4294967295; use a larger stride",
        ),
        ("reason: r\nregions: []\nphases: []\n", 2, "at least one region"),
        (changed("size: 64 MiB", "size: 64 MiB\n    gap: 5 KiB"), 8, "not a multiple of the page size"),
        (changed("size: 64 MiB", "size: 64 MiB\n    same_as: lazy"), 8, "no region before this one is named"),
        (
            "reason: r\nregions:\n- {name: a, size: 8 KiB}\n"
            "- {name: b, size: 8 KiB, same_as: a}\nphases: []\n",
            4,
            "both regions must be of 'memory: file', or of 'memory: shmem'",
        ),
        (
            "reason: r\nregions:\n- {name: a, size: 4 KiB, memory: shmem}\n"
            "- {name: b, size: 8 KiB, memory: shmem, same_as: a}\nphases: []\n",
            4,
            "is larger than region 'a'",
        ),
        ("reason: r\nregions: [{name: a, size: 4 KiB}]\nphases: []\n", 3, "at least one phase"),
    ],
)
def test_bad_patterns_are_refused_with_file_and_line(text: str, line: int, says: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse(text, "dir/bad.yaml")
    assert str(caught.value).startswith(f"dir/bad.yaml:{line}: ")
    assert says in str(caught.value)


def test_the_library_is_complete_and_round_trips() -> None:
    assert set(names()) >= LIBRARY
    assert len(names()) >= 25
    readme = (bundle.patterns_dir() / "README.md").read_text(encoding="utf-8")
    for name in names():
        pattern = load(name)
        assert pattern.name == name
        assert parse(dump(pattern)) == pattern
        assert f"| `{name}` |" in readme


def test_the_readme_example_is_a_pattern(tmp_path: Path) -> None:
    readme = (bundle.patterns_dir() / "README.md").read_text(encoding="utf-8")
    path = tmp_path / "example.yaml"
    path.write_text(readme.split("```yaml\n")[1].split("```")[0], encoding="utf-8")
    assert load(path).phases[0].accesses[0].islands == 4


def test_a_file_is_loaded_by_path(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(GOOD, encoding="utf-8")
    assert load(path).name == "mine"
    assert load(str(path)) == load(path)


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("no_such", "no pattern is named 'no_such'; the library has aliasing, "),
        ("./no_such.yaml", "cannot be read"),
    ],
)
def test_unknown_patterns_are_refused(name: str, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        load(name)


def test_binary_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "binary.yaml"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UsageError, match="cannot be read"):
        load(path)


def test_regions_with_gaps_and_second_mappings_are_read_and_dumped() -> None:
    text = """
reason: r
regions:
  - {name: a, size: 8 KiB, memory: shmem, gap: 1 TiB}
  - {name: b, size: 4 KiB, memory: shmem, gap: 0, same_as: a}
phases: [{name: p, duration: 1 s, accesses: []}]
"""
    pattern = parse(text)
    assert [r.gap_bytes for r in pattern.regions] == [1 << 40, 0]
    assert [r.same_as for r in pattern.regions] == ["", "a"]
    assert parse(dump(pattern)) == pattern


NAMES = st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,8}", fullmatch=True)


@st.composite
def any_access(draw: st.DrawFn, region: PatternRegion, low: int, high: int, **fields: object) -> Access:
    """Return an access within pages [low, high) of the region."""
    order = draw(st.sampled_from(["sequential", "random", "zipf", "gaussian", "chase"]))
    if order == "chase" and not region.populate:
        order = "random"
    islands = draw(st.integers(1, min(4, high - low))) if order != "gaussian" else 1
    length = draw(st.integers(1, (high - low) // islands))
    start = low + draw(st.integers(0, high - low - length * islands))
    room = high - start - length * islands
    period = draw(st.integers(1, 10**12))
    drift = draw(st.booleans()) and room > 0 and order != "chase"
    stride = draw(st.integers(1, length * 512)) * 8
    readable = region.populate or region.memory in ("file", "shmem")
    kinds = ["write", "update", *(["read"] if readable else [])]
    values = {
        "region": region.name,
        "start_bytes": start * 4096,
        "end_bytes": (start + length) * 4096 - draw(st.integers(0, 4095)) * (islands == 1),
        "order": order,
        "stride_bytes": min(stride, length * 4096 - 4095),
        "period_ns": period,
        "touches": draw(st.integers(1, 10**6)) if order != "sequential" or draw(st.booleans()) else 0,
        "kind": "read" if order == "chase" else draw(st.sampled_from(kinds)),
        "islands": islands,
        "every_bytes": length * 4096 if islands > 1 else 0,
        "skew": draw(st.floats(0.01, 9.99)) if order == "zipf" else 0.0,
        "center_bytes": start * 4096 if order == "gaussian" else 0,
        "sigma_bytes": draw(st.integers(length * 4096, 1 << 40)) if order == "gaussian" else 0,
        "free_running": draw(st.booleans()),
        "drift_bytes": 4096 if drift else 0,
        "drift_passes": draw(st.integers(1, 1000)) if drift else 1,
        "drift_positions": draw(st.integers(2, room + 1)) if drift else 1,
        "thread": draw(st.integers(0, 2)),
    }
    if order == "chase":
        values.update(stride_bytes=8 * draw(st.integers(64, 512)), end_bytes=(start + length) * 4096)
    return Access(**{**values, **fields})  # type: ignore[arg-type]


@st.composite
def any_region(draw: st.DrawFn, name: str) -> PatternRegion:
    memory = draw(st.sampled_from(["anonymous", "file", "shmem", "hugetlb"]))
    size = (
        draw(st.integers(1, 512)) * (2 << 20) if memory == "hugetlb" else draw(st.integers(4, 1 << 18)) * 4096
    )
    return PatternRegion(
        name,
        size,
        draw(st.booleans()),
        draw(st.sampled_from([None, True, False])) if memory != "hugetlb" else False,
        memory,  # type: ignore[arg-type]
        draw(st.sampled_from(["", "/some/file with: odd #letters"])),
        draw(st.booleans()),
        draw(st.sampled_from([None, 0, 63])),
        gap_bytes=draw(st.none() | st.integers(0, 1 << 38).map(lambda pages: pages * 4096)),
    )


@st.composite
def any_actions(draw: st.DrawFn, duration_ns: int, region: PatternRegion) -> tuple[Action, ...]:
    """Return actions that keep mappings and contents."""
    problems = [
        Action(do, draw(st.integers(0, duration_ns - 1)), region.name, 4096, draw(st.integers(2, 4)) * 4096)  # type: ignore[arg-type]
        for do in draw(st.lists(st.sampled_from(["mlock", "munlock", "willneed"]), max_size=2))
        if region.memory != "hugetlb"
    ]
    if draw(st.booleans()):
        lifetime, exec_ = draw(st.integers(1, 10**12)), draw(st.booleans())
        problems.append(Action("fork", 0, children=3, lifetime_ns=lifetime, exec_children=exec_))
    return tuple(sorted(problems, key=lambda action: action.at_ns))


@st.composite
def any_pattern(draw: st.DrawFn) -> Pattern:
    names_ = draw(st.lists(NAMES, min_size=1, max_size=3, unique=True))
    regions = tuple(draw(any_region(name)) for name in names_)
    phases = []
    for name in draw(st.lists(NAMES, min_size=1, max_size=3, unique=True)):
        terms = []
        turns = draw(st.booleans())
        for region in draw(st.lists(st.sampled_from(regions), unique=True)):
            half = region.size_bytes // 4096 // 2
            for low, high in ((0, half), (half, 2 * half)):
                alike = {
                    "weight": draw(st.integers(1, 99)),
                    "period_ns": 5000,
                    "free_running": True,
                    "thread": 1,
                }
                terms.append(draw(any_access(region, low, high, **(alike if turns else {}))))
        duration = draw(st.integers(10**6, 10**15))
        done = draw(any_actions(duration, draw(st.sampled_from(regions))))
        phases.append(Phase(name, duration, tuple(terms), done))
    return Pattern(
        name=draw(NAMES),
        reason=draw(
            st.text(min_size=1).map(str.strip).filter(lambda t: len(t.splitlines()) == 1 and t.isprintable())
        ),
        regions=regions,
        phases=tuple(phases),
        repeat=draw(st.booleans()),
        gap_bytes=draw(st.integers(1, 1 << 20)) * 4096,
        visible=draw(st.sampled_from(["flush", "natural"])),
        memcg=draw(st.sampled_from(["", "group", "outer/inner"])),
    )


def fits(pattern: Pattern) -> bool:
    """Return whether chases keep their pointers: only valid patterns are dumped."""
    return problems(pattern) is None


@given(any_pattern().filter(fits))
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.filter_too_much])
def test_what_is_dumped_is_loaded_again(pattern: Pattern) -> None:
    assert parse(dump(pattern)) == pattern


@given(st.integers(0, 2**60))
def test_units_round_trip(value: int) -> None:
    assert parse_size(format_size(value)) == value
    assert parse_duration(format_duration(value)) == value


def test_units_are_parsed_and_formatted() -> None:
    assert parse_size("1.5 KiB") == 1536
    assert parse_size("8MiB") == 8 << 20
    assert parse_duration("250 us") == parse_duration("0.25 ms") == 250_000
    assert parse_rate("500 /s") == parse_rate("0.5 /ms") == parse_rate("500 Hz") == 2_000_000
    assert format_size(8 << 20) == "8 MiB"
    assert format_duration(2_500_000) == "2500 us"


@pytest.mark.parametrize(("pages", "huge"), [("4K", 2 << 20), ("16K", 32 << 20), ("64K", 512 << 20)])
def test_pages_and_huge_pages_are_those_of_the_machine(pages: str, huge: int) -> None:
    with using_page_size(PAGE_SIZES[pages]):
        assert parse_size("3 pages") == 3 * PAGE_SIZES[pages]
        assert parse_size("1 page") == PAGE_SIZES[pages]
        assert parse_size("1 huge page") == huge
        assert parse_size("2.5 huge pages") == 5 * huge // 2
        data = load("huge_if_advised").regions[0]
        assert data.size_bytes == 8 * huge
    with pytest.raises(ValueError, match=r"unknown unit 'huge'; the units are .* huge pages"):
        parse_size("1 huge")
