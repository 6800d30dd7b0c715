# SPDX-License-Identifier: GPL-2.0
"""A defect's marker hides nothing else: another fault under its test is a FAIL on kernels that have it."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterable, Iterator, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import pytest

from damon_tests.damon.known_defects import the_table
from damon_tests.judge.conclude import conclude
from damon_tests.judge.verdict import Check, Measurement, Verdict
from damon_tests.ports.word import DEFAULT_WORD_BITS, set_word_bits
from damon_tests.report import model

ROOT = Path(__file__).resolve().parents[2]

QUOTA_SIZE = "suites/schemes/test_quota_size.py"
MIGRATE = "suites/schemes/test_action_migrate.py"
MERGING = "suites/monitoring/test_merging.py"

# For each known defect: a fault of the reference, its level, and the marked test that notices the fault.
UNRELATED = {
    "first-window-without-quota": (
        "qt_exceeds_every_window",
        "7.3",
        "suites/schemes/test_scheme_stats.py::test_qt_exceeds_counts_full_windows",
    ),
    "first-long-window-without-quota": (
        "quota_window_always_ends",
        "7.3",
        f"{QUOTA_SIZE}::test_spent_quota_stays_spent_within_its_window",
    ),
    "age-per-merge-pass": (
        "aggregation_never",
        "7.3",
        "suites/monitoring/test_ageing.py::test_repeated_merge_passes_age_regions_once",
    ),
    "shared-refresh-deadline": (
        "refresh_never",
        "7.3",
        "suites/monitoring/test_refresh.py::test_slow_refresh_does_not_delay_fast_one",
    ),
    "stale-request-of-stopped-kdamond": (
        "stopped_commands_einval",
        "7.3",
        "suites/monitoring/test_commands.py::test_stopped_kdamond_refuses_tried_regions",
    ),
    "empty-range-accepted": (
        "off_twice_fails",
        "7.3",
        "suites/monitoring/test_commands.py::test_an_empty_range_is_refused",
    ),
    "bp-window-not-dividing-10000": (
        "merge_drops_bytes",
        "7.0",
        f"{MERGING}::test_merging_weights_counts_by_size",
    ),
    "commit-keeps-merge-size-limit": (
        "merge_drops_bytes",
        "7.0",
        f"{MERGING}::test_lower_max_nr_regions_merges_similar_regions_first",
    ),
    "window-skips-a-page": (
        "quota_charged_twice",
        "7.0",
        f"{QUOTA_SIZE}::test_continuation_covers_all_memory_evenly",
    ),
    "commit-begins-charge-window": (
        "quota_charged_twice",
        "7.3",
        f"{QUOTA_SIZE}::test_commit_does_not_grant_new_quota",
    ),
    "quota-rest-keeps-window": (
        "quota_charged_twice",
        "7.0",
        f"{QUOTA_SIZE}::test_partial_page_left_of_a_quota_does_not_stall_continuation",
    ),
    "continuation-in-removed-target": (
        "quota_charged_twice",
        "7.3",
        f"{QUOTA_SIZE}::test_continuation_survives_removal_of_its_target",
    ),
    "commit-waits-while-inactive": (
        "watermarks_ignored",
        "7.3",
        "suites/schemes/test_watermarks.py::test_commit_is_served_while_all_schemes_are_inactive",
    ),
    "tried-counts-uncut-regions": (
        "filter_addr_takes_whole_regions",
        "7.3",
        "suites/schemes/test_filter_ranges.py::test_sz_tried_counts_regions_after_the_cut",
    ),
    "page-filters-ask-core-filters": (
        "filter_anon_inverted",
        "7.3",
        "suites/schemes/test_filter_lists.py::test_filters_of_both_layers_without_allow_reject_what_matches",
    ),
    "unmovable-pages-left-off-lru": (
        "migrates_to_a_node_that_is",
        "7.3",
        f"{MIGRATE}::test_migration_to_a_missing_node_moves_nothing[paddr]",
    ),
    "migration-within-own-node": (
        "migrate_does_nothing",
        "7.3",
        f"{MIGRATE}::test_pages_that_do_not_fit_into_the_node_stay[paddr]",
    ),
    "split-rest-visited-in-same-pass": (
        "schemes_first_only",
        "7.3",
        "suites/conformance/test_conformance.py::test_quotas_and_actions_match_the_reference",
    ),
    "reclaim-inert": (
        "reclaim_takes_hot",
        "7.3",
        "suites/modules/test_reclaim.py::test_enabled_module_applies_its_scheme",
    ),
    "module-region-aligned-to-4096-units": (
        "module_ignores_region",
        "7.3",
        "suites/modules/test_reclaim.py::test_memory_outside_the_monitored_region_is_left_alone[16]",
    ),
    "module-region-one-byte-short": (
        "module_region_not_told",
        "7.3",
        "suites/modules/test_reclaim.py::test_default_region_is_system_ram",
    ),
    "tuning-restarts-intervals": (
        "tuning_applies_at_once",
        "7.3",
        "suites/monitoring/test_tuning_schedule.py::test_tuning_keeps_apply_intervals[fixed]",
    ),
    "removed-quota-stays": (
        "merge_drops_bytes",
        "7.3",
        "suites/schemes/test_removed_limits.py::test_removed_quota_is_no_limit[size]",
    ),
    "zero-sample-divides": (
        "off_twice_fails",
        "7.3",
        "suites/hostile/test_extreme_numbers.py::test_zero_sampling_interval_with_priorities",
    ),
    "command-without-context": (
        "off_twice_fails",
        "7.3",
        "suites/hostile/test_removed_directories.py::test_commands_without_a_context_are_refused",
    ),
    "goal-of-absent-node": (
        "stopped_commands_einval",
        "7.3",
        "suites/hostile/test_removed_directories.py::test_goals_of_absent_nodes_are_neutral",
    ),
    "sampling-beyond-4-gib": (
        "sample_first_page",
        "7.3",
        "suites/monitoring/test_sampled_addresses.py::test_first_megabytes_of_a_tebibyte_are_rarely_sampled",
    ),
    "commit-forgets-across-seam": (
        "merge_drops_bytes",
        "7.3",
        "suites/regressions/test_commit_seams.py::test_ranges_within_one_region_keep_its_age",
    ),
    "walk-skips-pages-behind-huge-page": (
        "filter_anon_inverted",
        "7.3",
        "suites/regressions/test_huge_page_walk.py::test_small_pages_behind_half_a_huge_page_are_visited",
    ),
    "time-quota-in-32-bits": (
        "qt_exceeds_every_window",
        "7.3",
        "suites/schemes/test_quota_time.py::test_time_quota_size_follows_from_the_throughput[stat-7]",
    ),
    "interval-tuning-in-32-bits": (
        "tuning_unbounded",
        "7.3",
        "suites/monitoring/test_intervals_goal.py::test_each_tuning_step_follows_from_observed_accesses[half_rate]",
    ),
    "merges-in-32-bits": (
        "merge_drops_bytes",
        "7.3",
        "suites/monitoring/test_probes.py::test_regions_age_by_the_weighted_sum_of_all_probes",
    ),
}


def run_marked(tmp_path: Path, fault: str, level: str, tests: str) -> dict[str, Any]:
    command = [
        sys.executable,
        "-m",
        "damon_tests.cli",
        "run",
        f"--kernel=reference:{level}",
        f"--fault={fault}",
    ]
    command += ["--pytest=-m known_defect -p no:cacheprovider", f"--output={tmp_path / 'run'}", tests]
    subprocess.run(command, cwd=ROOT, check=False, capture_output=True, timeout=1800)
    return model.load(tmp_path / "run")


def checks_of(test: dict[str, Any]) -> list[Check]:
    places = [*test["attempts"], test]
    return [
        Check(
            c["kind"],
            Measurement(c["measurement"]["name"], float(c["measurement"]["value"]), c["measurement"]["unit"]),
            c["limit"],
            c["reason"],
            c["holds"],
            c["detail"],
        )
        for place in places
        for c in place["checks"]
    ]


def test_every_known_defect_has_an_unrelated_fault() -> None:
    assert UNRELATED.keys() == the_table().keys()


@pytest.fixture
def _usual_width_afterwards() -> Iterator[None]:
    yield
    set_word_bits(DEFAULT_WORD_BITS)


@pytest.mark.slow
@pytest.mark.usefixtures("_usual_width_afterwards")
@pytest.mark.parametrize("key", sorted(UNRELATED))
def test_an_unrelated_fault_under_a_marked_test_is_a_fail(tmp_path: Path, key: str) -> None:
    fault, level, named = UNRELATED[key]
    file, _, function = named.partition("::")
    assert f'"{key}"' in (ROOT / file).read_text(), "no test of this file is marked with the defect"
    (test,) = [t for t in run_marked(tmp_path, fault, level, named)["tests"] if t["id"] == named]
    checks, defect = checks_of(test), the_table()[key]
    assert any(c.holds is False for c in checks), f"the test does not notice {fault}: {test['reason']}"
    assert test["verdict"] == "FAIL", "on the reference of that level, too"
    set_word_bits(defect.word_bits or DEFAULT_WORD_BITS)
    for releases in defect.releases:
        release = releases.since or f"{releases.series}.0"
        name = function.partition("[")[0]
        concluded = conclude(checks, None, (), [defect], releases.series, release, name)
        assert concluded.verdict is Verdict.FAIL, f"{key} on {release}: {concluded.reason}"


def texts_of(directories: Sequence[str]) -> set[tuple[str, ...]]:
    """Return the texts of all strings in the code, each as its literal parts around what is filled in."""
    texts: set[tuple[str, ...]] = set()
    for path in (p for directory in directories for p in (ROOT / directory).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                texts.add((node.value,))
            elif isinstance(node, ast.JoinedStr):
                parts = [""]
                for value in node.values:
                    if isinstance(value, ast.Constant):
                        parts[-1] += str(value.value)
                    else:
                        parts.append("")
                texts.add(tuple(parts))
    return texts


def may_be_named(predicted: str, texts: Iterable[tuple[str, ...]]) -> bool:
    """Return whether a string of the code can be a name that the prediction means.

    What is filled in may be any text, but at least a third of the name has to stand in the code.
    """
    names = {re.sub(r"\[(.)[^]]*\]", r"\1", predicted).replace("*", fill) for fill in ("", "x")}
    for parts in texts:
        literal = "".join(parts)
        if 3 * len(literal) < len(predicted.replace("*", "")):
            continue
        if len(parts) == 1 and fnmatchcase(literal, predicted):
            return True
        pattern = ".*".join(map(re.escape, parts))
        if any(re.fullmatch(pattern, name, re.DOTALL) for name in names):
            return True
    return False


def test_every_predicted_check_has_its_name_in_the_code() -> None:
    texts = texts_of(["damon_tests/judge", "damon_tests/scenario", "suites"])
    assert may_be_named("*: regions tried", texts)
    assert not may_be_named("regions that were tried once", texts)
    gone = [
        f"{key}: {predicted.check}"
        for key, defect in the_table().items()
        for predicted in defect.predicts
        if predicted.check and not may_be_named(predicted.check, texts)
    ]
    assert not gone, "no check has this name any more"
