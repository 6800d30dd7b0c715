# SPDX-License-Identifier: GPL-2.0
"""Series are parsed from levels and releases, compared in one module only, and agree with the rules."""

import ast
import copy
import pickle
from pathlib import Path

import pytest

from damon_tests.damon.series import Level, Series
from damon_tests.ports import UsageError
from damon_tests.reference.rules.levels import LEVELS

ROOT = Path(__file__).resolve().parents[2]

# Properties of a series that a rule of the reference's levels decides, too.
SAME = {
    "enforces_min_nr_regions": lambda rules: rules.strict_min_regions,
    "splits_near_max_nr_regions": lambda rules: rules.partial_split_step(51, 100) > 0,
    "serves_commands_at_next_sample": lambda rules: not rules.commit_waits_for_aggregation,
    "survives_refused_commit": lambda rules: not rules.failed_commit_ends,
    "keeps_window_on_equal_commit": lambda rules: rules.equal_attrs_keep_window,
    "allows_off_when_stopped": lambda rules: not rules.off_when_stopped,
    "visits_rest_of_split_region": lambda rules: rules.rest_of_split_is_visited,
    "merges_quota_splits_back": lambda rules: rules.remerge_after_apply,
    "migrates_in_vaddr": lambda rules: rules.vaddr_migrates,
    "filters_pages_of_vaddr_stat": lambda rules: rules.vaddr_filters_pages,
    "activates_in_one_step": lambda rules: rules.lru_prio_in_one_step,
    "limits_by_zero_quota": lambda rules: rules.quota_is_full(True, 0, 0, 4096),
    "is_full_below_min_region": lambda rules: rules.quota_is_full(True, 1, 4096, 4096),
    "ignores_pressure_before_start": lambda rules: rules.first_pressure_is_neutral,
    "survives_refused_inputs": lambda rules: not rules.invalid_inputs_end_module,
    "reports_refused_inputs": lambda rules: rules.commit_inputs_answers,
}


def test_series_are_parsed_from_levels_and_releases():
    assert Series.of("7.3") == Series.of("7.3.4") == Series(7, 3)
    assert str(Series.of("6.12.107")) == "6.12"


@pytest.mark.parametrize("text", ["", "7", "seven.three", "7.x"])
def test_other_text_is_refused(text):
    with pytest.raises(UsageError, match="is not a kernel series"):
        Series.of(text)


def test_series_have_no_order():
    with pytest.raises(TypeError):
        assert Series(6, 12) < Series(7, 3)


def test_minor_versions_are_numbers():
    assert Series(6, 18).filters_pages_of_vaddr_stat
    assert not Series(6, 2).filters_pages_of_vaddr_stat
    assert Series(7, 0).filters_pages_of_vaddr_stat


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("name", SAME)
def test_properties_agree_with_the_rules_of_the_level(name, level):
    assert getattr(Series.of(level), name) == SAME[name](LEVELS[level].rules)


def _compares_a_series(node: ast.AST) -> bool:
    """Return whether this compares the order of a value and a literal such as (7, 2)."""
    if not isinstance(node, ast.Compare):
        return False
    if not any(isinstance(op, ast.Lt | ast.LtE | ast.Gt | ast.GtE) for op in node.ops):
        return False
    return any(_is_series(x) for x in (node.left, *node.comparators))


def _is_series(node: ast.AST) -> bool:
    if not isinstance(node, ast.Tuple):
        return False
    numbers = [x.value for x in node.elts if isinstance(x, ast.Constant)]
    return len(numbers) == len(node.elts) == 2 and numbers[0] in range(5, 10)


def test_comparison_of_series_is_detected():
    noticed = ["level >= (7, 2)", "(6, 13) <= s.level < (7, 2)", "series(run.level) < (6, 18)"]
    ignored = ["level == (7, 2)", "size >= (a, b)", "x < 7", "fuse >= (3, 17)"]
    assert all(_compares_a_series(ast.parse(text, mode="eval").body) for text in noticed)
    assert not any(_compares_a_series(ast.parse(text, mode="eval").body) for text in ignored)


def test_series_are_compared_in_one_place():
    """A behaviour of a series is a property of ``damon.series.Series``."""
    files = [p for top in ("damon_tests", "suites", "tests", "ci") for p in (ROOT / top).rglob("*.py")]
    assert len(files) > 300
    comparisons = [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for path in files
        for node in ast.walk(ast.parse(path.read_text()))
        if _compares_a_series(node)
    ]
    assert not comparisons, "name what the series does in damon_tests/damon/series.py"


@pytest.mark.parametrize(
    ("series", "release", "ages_once", "visits_rest", "skips_page"),
    [
        ("6.12", "6.12.107+deb13-cloud-amd64", False, False, False),
        ("6.12", "6.12.117+deb13-cloud-amd64", True, True, False),
        ("6.18", "6.18.15", False, False, True),
        ("7.1", "7.1.13", False, True, False),
        ("7.2", "7.2.13", True, True, False),
        ("7.3", "7.3.4", True, True, False),
        # The reference does what the series intends.
        ("6.12", "", True, False, False),
        ("7.1", "", True, False, False),
    ],
)
def test_each_release_has_its_own_known_defects(series, release, ages_once, visits_rest, skips_page):
    level = Level(series, release) if release else series
    assert level == series
    series = Series.of(level)
    assert series.ages_once_per_aggregation is ages_once
    assert series.visits_rest_of_split_region is visits_rest
    assert series.skips_page_at_continuation is skips_page


def test_a_copied_level_keeps_its_release() -> None:
    level = Level("6.12", "6.12.117")
    for copied in (copy.deepcopy(level), pickle.loads(pickle.dumps(level))):
        assert (copied, copied.release) == ("6.12", "6.12.117")
