# SPDX-License-Identifier: GPL-2.0
"""Wrong behaviour of the sysfs tree: input, commands, tried regions, refreshing."""

from __future__ import annotations

import errno
from collections.abc import Sequence
from contextlib import suppress

from damon_tests.reference.faults.fault import Fault
from damon_tests.reference.rules import tree
from damon_tests.reference.rules.errors import CoreError


def _decimal_only(text: str, low: int, high: int) -> int:
    if "x" in text.lower():
        raise CoreError(errno.EINVAL, "hexadecimal numbers are refused")
    return tree.parse_integer(text, low, high)


def _generous(text: str, low: int, high: int) -> int:
    return tree.parse_integer(text.strip(), low, high)


def _wrapping(text: str, low: int, high: int) -> int:
    with suppress(CoreError):
        return tree.parse_integer(text, low, high)
    number = tree.parse_integer(text, -(1 << 63), (1 << 64) - 1)
    return low + (number - low) % (high - low + 1)


def _range_as_invalid(text: str, low: int, high: int) -> int:
    try:
        return tree.parse_integer(text, low, high)
    except CoreError as error:
        raise CoreError(errno.EINVAL, error.why) from None


def _only_y_and_n(text: str) -> bool:
    if text.removesuffix("\n") not in ("Y", "N"):
        raise CoreError(errno.EINVAL, "only Y and N are known")
    return text.startswith("Y")


def _any_case(text: str, known: Sequence[str]) -> str:
    return tree.parse_keyword(text.lower(), known)


def _no_young(text: str, known: Sequence[str]) -> str:
    return tree.parse_keyword(text, [word for word in known if word != "young"])


def _prefix(text: str, known: Sequence[str]) -> str:
    for word in known:
        if text.startswith(word):
            return word
    return tree.parse_keyword(text, known)


FAULTS = (
    Fault(
        "staging_reaches_kdamond",
        "tree",
        "a running kdamond takes over what is written to monitoring_attrs/ without a commit",
        "staging_waits_for_commit",
        False,
    ),
    Fault(
        "failed_commit_half_done",
        "tree",
        "a refused commit has changed some schemes (guarded in 6.19)",
        "commit_is_checked_first",
        False,
    ),
    Fault(
        "odd_min_region_accepted",
        "tree",
        "a minimum region size that is no power of two (fixed in 7.0)",
        "power_of_two_min_region",
        False,
    ),
    Fault(
        "on_without_dry_run",
        "tree",
        "what commit refuses is accepted at start (7.2 and older)",
        "dry_run_at_start",
        False,
    ),
    Fault(
        "absent_process_accepted",
        "tree",
        "a target of a process that does not exist is accepted",
        "refuses_absent",
        lambda what: what == "group",
    ),
    Fault(
        "absent_group_accepted",
        "tree",
        "filters and goals of a control group that does not exist are accepted",
        "refuses_absent",
        lambda what: what == "process",
    ),
    Fault(
        "absent_node_refused",
        "tree",
        "a goal of a memory node that does not exist is refused",
        "refuses_absent",
        lambda what: True,
    ),
    Fault("numbers_decimal_only", "tree", "hexadecimal input is refused", "parse_integer", _decimal_only),
    Fault("numbers_stripped", "tree", "blanks around a number are accepted", "parse_integer", _generous),
    Fault(
        "numbers_wrap",
        "tree",
        "numbers out of range are stored modulo their width",
        "parse_integer",
        _wrapping,
    ),
    Fault(
        "erange_is_einval",
        "tree",
        "a number out of range is refused with EINVAL",
        "parse_integer",
        _range_as_invalid,
    ),
    Fault("booleans_strict", "tree", "only Y and N are accepted", "parse_boolean", _only_y_and_n),
    Fault("keywords_any_case", "tree", "keywords are accepted in capitals", "parse_keyword", _any_case),
    Fault("keywords_by_prefix", "tree", "anything after a keyword is ignored", "parse_keyword", _prefix),
    Fault(
        "tracepoints_missing",
        "tree",
        "five tracepoints are gone: what they show cannot be tested",
        "hidden",
        frozenset(
            (
                "damos_before_apply",
                "damos_esz",
                "damon_monitor_intervals_tune",
                "damos_stat_after_apply_interval",
                "damon_region_aggregated",
            )
        ),
    ),
    Fault(
        "file_missing", "tree", "schemes have no max_nr_snapshots", "hidden", frozenset(("max_nr_snapshots",))
    ),
    Fault(
        "aggregated_missing",
        "tree",
        "damon_aggregated is gone, which most tests of monitoring read",
        "hidden",
        frozenset(("damon_aggregated",)),
    ),
    Fault("weight_missing", "tree", "probes have no weight", "hidden", frozenset(("weight",))),
    Fault("word_missing", "tree", "no filter takes the type young", "parse_keyword", _no_young),
    Fault(
        "counts_unlimited",
        "tree",
        "nr_contexts and nr_probes accept any number",
        "resized_count",
        lambda count, maximum: count,
    ),
    Fault(
        "lock_not_held",
        "tree",
        "a command under way does not make others fail with EBUSY",
        "lock_is_busy",
        lambda locked: False,
    ),
    Fault(
        "total_bytes_counts_ends",
        "tree",
        "total_bytes adds up end addresses",
        "total_bytes",
        lambda total, start, end: total + end,
    ),
    Fault(
        "total_bytes_last_only",
        "tree",
        "total_bytes is the last region's size",
        "total_bytes",
        lambda total, start, end: end - start,
    ),
    Fault(
        "refresh_timer_is_shared",
        "tree",
        "one kdamond's refresh_ms keeps the others from theirs (6.17 to 7.2)",
        "refresh_timer_is_own",
        False,
    ),
    Fault(
        "refresh_never",
        "tree",
        "refresh_ms does nothing (starved by other kdamonds, 6.17 to 7.2)",
        "refresh_is_due",
        lambda now, then, ms: False,
    ),
    Fault(
        "refresh_always",
        "tree",
        "results are refreshed although refresh_ms is 0",
        "refresh_is_due",
        lambda now, then, ms: True,
    ),
    Fault(
        "counts_keep_children",
        "tree",
        "writing a count again does not reset the directories",
        "resizing_resets",
        False,
    ),
    Fault(
        "tried_regions_pile_up",
        "tree",
        "tried regions of earlier requests stay (fixed in 6.7)",
        "walk_clears_first",
        False,
    ),
    Fault(
        "empty_range_accepted",
        "tree",
        "a target range without memory is accepted (6.18 to 7.0)",
        "refuses_empty_ranges",
        False,
    ),
    Fault("on_starts_twice", "tree", "on while on starts a second thread", "on_refuses_running", False),
    Fault(
        "off_twice_fails",
        "tree",
        "off on a stopped kdamond returns EPERM (7.2 and older)",
        "off_when_stopped",
        errno.EPERM,
    ),
    Fault(
        "stopped_commands_einval",
        "tree",
        "commands to a stopped kdamond return EINVAL (6.19 and older)",
        "command_when_stopped",
        errno.EINVAL,
    ),
    Fault(
        "cancelled_walk_succeeds",
        "tree",
        "a walk that never happened is reported as success (6.12)",
        "cancelled_walk",
        0,
    ),
    Fault(
        "clear_needs_kdamond",
        "tree",
        "tried regions of a stopped kdamond cannot be cleared (6.12)",
        "clear_needs_no_kdamond",
        False,
    ),
)
