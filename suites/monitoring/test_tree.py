# SPDX-License-Identifier: GPL-2.0
"""The sysfs tree of the kernel under test, compared with that of its level (I64, I66)."""

import pytest

from damon_tests.damon.keywords import WORDS
from damon_tests.ports import TreeError
from damon_tests.reference.sysfs.system import ReferenceSystem

ROOT = "/sys/kernel/mm/damon/admin"

# Files below contexts/0/ that take words of WORDS.
WORD_FILES = (
    "operations",
    "monitoring_attrs/probes/0/filters/0/type",
    "schemes/0/action",
    "schemes/0/filters/0/type",
    "schemes/0/core_filters/0/type",
    "schemes/0/ops_filters/0/type",
    "schemes/0/quotas/goals/0/target_metric",
    "schemes/0/quotas/goal_tuner",
    "schemes/0/watermarks/metric",
)


def expand(tree):
    """Create one of everything: write 1 to every count file that says 0, until none is left."""
    while True:
        empty = [
            f"{ROOT}/{entry.path}"
            for entry in tree.walk(ROOT)
            if entry.path.rpartition("/")[2].startswith("nr_")
            and entry.value == "0\n"
            and entry.mode & 0o200
            # A result under stats/ and limits of monitoring are not counts of directories.
            and "/stats/" not in entry.path
        ]
        if not empty:
            return
        tree.write_batch([(path, "1") for path in empty])


def snapshot(tree):
    """Path to (kind, mode, value) of everything below the root."""
    return {
        entry.path: ("directory" if entry.is_dir else "file", oct(entry.mode & 0o777), entry.value)
        for entry in tree.walk(ROOT)
    }


def answer(tree, path, word):
    """Write ``word``; return the value read back, or the name of the errno."""
    try:
        tree.write(path, word)
    except TreeError as error:
        return error.errno_name
    return tree.read(path)


@pytest.fixture
def trees(subject):
    """The tree under test and a clean reference's of its level, both with one of everything."""
    reference = ReferenceSystem(level=subject.level).tree
    expand(reference)
    try:
        expand(subject.tree)
        yield subject.tree, reference
    finally:
        subject.tree.write(f"{ROOT}/kdamonds/nr_kdamonds", "0")


def test_tree_has_the_files_modes_and_defaults_of_its_level(trees, subject, expect):
    """The tree has every file and directory of its level and no
    other, with their modes and default values."""
    actual, expected = (snapshot(tree) for tree in trees)
    why = f"the tree of {subject.level}"
    expect.nothing("missing from the tree", sorted(expected.keys() - actual.keys()), because=why)
    expect.nothing("unknown in the tree", sorted(actual.keys() - expected.keys()), because=why)
    differing = [
        f"{path}: {actual[path]} instead of {expected[path]}"
        for path in sorted(actual.keys() & expected.keys())
        if actual[path] != expected[path]
    ]
    expect.nothing("differing in kind, mode or default", differing, because=why)


def test_files_accept_exactly_the_words_of_their_level(trees, subject, expect):
    """Files that take words accept those of the level, and answer others as the level does."""
    tree, reference = trees
    every_word = sorted({word for words in WORDS.values() for word in words})
    differing = []
    for path in WORD_FILES:
        full = f"{ROOT}/kdamonds/0/contexts/0/{path}"
        if not reference.exists(full):
            continue  # whether it should be there is the other test's question
        for word in [*every_word, "bogus", " stat", "none\n\n"]:
            got, wanted = answer(tree, full, word), answer(reference, full, word)
            if got != wanted:
                differing.append(f"{path} := {word!r}: {got!r} instead of {wanted!r}")
    expect.nothing("words answered differently", differing, because=f"the ABI of {subject.level}")
