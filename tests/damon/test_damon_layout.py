# SPDX-License-Identifier: GPL-2.0
"""The table of fields and files is complete in both directions, by the dumps of nine kernels."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from fake_tree import LEVELS, RELEASES, FakeTree
from request_strategies import version

from damon_tests.damon import layout
from damon_tests.damon.keywords import WORDS
from damon_tests.damon.params import Kdamond
from damon_tests.damon.users import ADMIN
from damon_tests.ports import HarnessError


def _files(node: layout.Node, directory: str) -> dict[str, str]:
    """Return the first version of every file of a node with one element in each list."""
    since = {f"{directory}/{path}": layout.SYSFS_SINCE for path, _ in node.fixed}
    since |= {f"{directory}/{f.path}": f.since for f in node.files}
    for sub in node.subs:
        since |= _files(sub.node, f"{directory}/{sub.path}")
    for many in node.lists:
        since[f"{directory}/{many.count_path}"] = many.since
        since |= _files(many.node, f"{directory}/{many.path}/0")
    return since


def _writable(release: str) -> set[str]:
    tree = FakeTree(release)
    return {
        path
        for path, mode in tree._modes.items()
        if mode == 0o600 and not path.endswith(("/state", "kdamonds/nr_kdamonds"))
    }


@pytest.mark.parametrize(("release", "level"), list(zip(RELEASES, LEVELS, strict=True)))
def test_table_has_exactly_the_files_of_the_kernel(release: str, level: str) -> None:
    """Every writable file is a field, and every field's first version agrees with the dumps."""
    table = _files(layout.KDAMOND, "kdamonds/0")
    present = {path for path, since in table.items() if version(since) <= version(level)}
    assert present == _writable(release)


def _fields(cls: type) -> set[str]:
    return {f.name for f in dataclasses.fields(cls)}


def _nodes(node: layout.Node) -> list[layout.Node]:
    below = [s.node for s in node.subs] + [m.node for m in node.lists]
    return [node, *(n for child in below for n in _nodes(child))]


def test_every_field_of_every_request_has_a_file() -> None:
    for node in _nodes(layout.KDAMOND):
        if node is layout.REGION:
            continue
        covered = {x.field for x in (*node.files, *node.subs, *node.lists)}
        assert covered == _fields(node.make), node.make  # type: ignore[arg-type]


@pytest.mark.parametrize("release", RELEASES)
def test_defaults_are_those_of_the_kernel(release: str) -> None:
    tree = FakeTree(release)
    leaves = layout.leaves_of(layout.KDAMOND, "kdamonds/0", Kdamond())
    for leaf in leaves:
        if leaf.path in tree._defaults and not leaf.path.rsplit("/", 1)[1].startswith("nr_"):
            text = tree._defaults[leaf.path] + "\n"
            assert layout.decode(leaf.kind, text, leaf.path) == leaf.value, leaf.path


@pytest.mark.parametrize(
    ("words", "dump"),
    [
        ("operations", "operations"),
        ("action", "action"),
        ("filter_type", "filters/0/type"),
        ("core_filter_type", "core_filters/0/type"),
        ("ops_filter_type", "ops_filters/0/type"),
        ("probe_filter_type", "probe filter type"),
        ("goal_metric", "goal target_metric"),
        ("goal_tuner", "goal_tuner"),
        ("watermark_metric", "watermarks/metric"),
    ],
)
def test_word_dates_agree_with_what_kernels_took(words: str, dump: str) -> None:
    for release, level in zip(RELEASES, LEVELS, strict=True):
        known = [w for w, since in WORDS[words].items() if version(since) <= version(level)]
        taken = [w for w in FakeTree(release)._words.get(dump, []) if "\n" not in w]
        assert known == taken, (release, words)


@pytest.mark.parametrize(
    ("kind", "text"),
    [("number", "abc\n"), ("number", "\n"), ("number", "1 2\n"), ("bool", "yes\n"), ("bool", "1\n")],
)
def test_unreadable_value_names_the_file(kind: Any, text: str) -> None:
    with pytest.raises(HarnessError, match="some/file"):
        layout.decode(kind, text, "some/file")


def test_numbers_of_any_sign_and_size_survive() -> None:
    for number in (-1, 0, (1 << 64) - 1):
        assert layout.decode("number", layout.encode("number", number) + "\n", "f") == number


def test_admin_path_is_the_kernels() -> None:
    assert ADMIN == "/sys/kernel/mm/damon/admin"
