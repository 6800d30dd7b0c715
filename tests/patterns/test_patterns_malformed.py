# SPDX-License-Identifier: GPL-2.0
"""Malformed files raise an error with a sentence and a line, never a traceback."""

from __future__ import annotations

import copy
import random
import re
from collections.abc import Iterator
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from damon_tests import bundle
from damon_tests.patterns import masim
from damon_tests.patterns.load import dump, parse
from damon_tests.ports import UsageError

LONG = "1" * 5000

MALFORMED = {
    "a NUL": "reason: \0",
    "half a character": "reason: \ud800",
    "brackets in brackets": "[" * 20_000,
    "a list of itself": "reason: r\nregions: &a [*a]",
    "more digits than Python converts": f"reason: r\nregions: [{{name: a, size: {LONG} MiB}}]",
    "a long number": f"reason: r\nregions: [{{name: a, size: 4 KiB, node: {LONG}}}]",
    "a list as a key": "? [a]\n: b",
    "an object": "!!python/object/apply:os.system [true]",
    "several documents": "a: b\n---\nc: d\n",
}


def refused(text: str) -> str:
    with pytest.raises(UsageError) as refusal:
        parse(text)
    return str(refusal.value)


@pytest.mark.parametrize("text", MALFORMED.values(), ids=MALFORMED.keys())
def test_malformed_files_are_refused_with_a_sentence(text: str) -> None:
    assert is_a_sentence(refused(text))


def is_a_sentence(message: str) -> bool:
    return bool(re.match(r"<(pattern|masim)>:\d+: ", message)) and "\n" not in message and len(message) < 1000


def test_a_long_value_is_not_quoted_in_full() -> None:
    message = refused(f"reason: r\nregions: [{{name: {LONG}, size: 4 KiB}}]\nphases: []")
    assert message.startswith("<pattern>:2: name: '111")
    assert message.endswith("letters, digits, '_', '-' and '.'")


def test_masim_refuses_a_long_number_with_a_short_message() -> None:
    with pytest.raises(UsageError, match=r"^<masim>:4: time '1+ \.\.\. 1+' is not a whole number from 1 to"):
        masim.parse(f"a, 4096\n\np\n{LONG}\na, 1, 64, 1\n")


VALUES = (
    *(
        "0",
        "1",
        "-1",
        "1e9",
        "yes",
        "null",
        "1 MiB",
        "1 TiB",
        "1024 TiB",
        "99999999999999999999 TiB",
        "1.5 B",
    ),
    *("4 KiB .. 8 KiB", "8 KiB .. 4 KiB", "0 .. 0", "..", "1 h", "0 ns", "999999999999 h", "max", "0 /s"),
    *(
        "99999999999999 /ms",
        "heap",
        "hugetlb",
        "shmem",
        "file",
        "random",
        "zipf",
        "gaussian",
        "chase",
        "update",
    ),
    *(
        "[]",
        "{}",
        "[1]",
        "{a: b}",
        "exec",
        "fork",
        "brk",
        "mremap",
        "munmap",
        "nan",
        "-inf",
        "a/b",
        "../x",
        "é",
    ),
    *("4294967296", "18446744073709551616", "0.0000000001", "2024-01-01", "²", "\u0661 MiB"),
)
KEYS = (
    *("region", "span", "order", "stride", "period", "rate", "touches", "kind", "islands", "every", "skew"),
    *(
        "center",
        "sigma",
        "weight",
        "drift",
        "drift_every",
        "positions",
        "process",
        "thread",
        "do",
        "at",
        "size",
    ),
    *("populate", "count", "lifetime", "exec", "memory", "hugepage", "file", "lock", "node", "mapped", "gap"),
)


def places(tree: Any) -> Iterator[tuple[Any, Any]]:
    """Yield (container, key or index) of every value in the tree."""
    keys = tree if isinstance(tree, dict) else range(len(tree)) if isinstance(tree, list) else ()
    for key in keys:
        yield tree, key
        yield from places(tree[key])


def damaged(tree: Any, rng: random.Random) -> Any:
    tree = copy.deepcopy(tree)
    for _ in range(rng.choice((1, 1, 2, 3))):
        container, key = rng.choice(list(places(tree)))
        value = yaml.safe_load(rng.choice(VALUES))
        what = rng.randrange(4)
        if what == 0:
            del container[key]
        elif what == 1 and isinstance(container, dict):
            container[rng.choice(KEYS)] = value
        elif what == 2 and isinstance(container, list):
            container.append(copy.deepcopy(container[key]))
        else:
            container[key] = value
        if not tree:
            break
    return tree


LIBRARY = [yaml.safe_load(path.read_text("utf-8")) for path in sorted(bundle.patterns_dir().glob("*.yaml"))]


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.randoms(use_true_random=False), st.sampled_from(LIBRARY))
def test_damaged_patterns_are_refused_or_round_trip(rng: random.Random, tree: Any) -> None:
    """An accepted pattern is unchanged after it is written and read again."""
    text = yaml.safe_dump(damaged(tree, rng), allow_unicode=True, sort_keys=False)
    try:
        pattern = parse(text)
    except UsageError as error:
        message = str(error)
    else:
        assert parse(dump(pattern)) == pattern
        return
    assert is_a_sentence(message), message


@pytest.mark.parametrize("name", ["a/", "/a", "a//b", "../a", "a/../b", "a b", "a/" * 32 + "a"])
def test_bad_group_names_are_refused(name: str) -> None:
    text = f"{{reason: r, memcg: '{name}', regions: [{{name: a, size: 4 KiB}}], phases: [{PHASE}]}}"
    assert "is not a group's name" in refused(text)


PHASE = "{name: p, duration: 1 s, accesses: []}"
