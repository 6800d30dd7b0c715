# SPDX-License-Identifier: GPL-2.0
"""Every file of the tree keeps what was written, and keeps it when a write is refused (I64, I65, I66)."""

import pytest

from damon_tests.damon.keywords import WORDS
from damon_tests.judge.verdict import Measurement
from damon_tests.ports import TreeError

ROOT = "/sys/kernel/mm/damon/admin"
KDAMOND = f"{ROOT}/kdamonds/0"
COUNTS = 3
NOT_NUMBERS = ("abc", "99999999999999999999", "0x", "1 2")
"""No file takes them: not a number, more than 64 bits, a prefix alone, two numbers."""
NOT_BOOLEANS = ("abc", "maybe", "2")
"""No file takes them: a boolean is decided by its first letter."""
NUMBERS = {"17": "17", "0x11": "17", "021": "17", "4294967296": "4294967296", "0": "0"}
"""What is written in decimal, hexadecimal, octal and more than 32 bits, and how it reads back."""
BOOLEANS = {"Y": "Y", "n": "N", "1": "Y", "off": "N"}
EVERY_WORD = frozenset(word for words in WORDS.values() for word in words)


def writable(tree):
    """Return path and value of each file that can be written, except counts and the command file."""
    entries = tree.walk(KDAMOND)
    files = [e for e in entries if not e.is_dir and e.mode & 0o200 and e.value is not None]
    return {e.path: e.value.rstrip("\n") for e in files if not is_count(e.path) and e.path != "state"}


def is_count(path):
    name = path.rpartition("/")[2]
    # nr_accesses and its weight bound access rates; files of stats/ are results.
    return name.startswith("nr_") and not name.startswith("nr_accesses") and "/stats/" not in path


def written(tree, path, text):
    """Write ``text``; return whether it was accepted, and what the file then shows."""
    try:
        tree.write(path, text)
    except TreeError:
        return False, tree.read(path).rstrip("\n")
    return True, tree.read(path).rstrip("\n")


def one_of_everything(tree):
    """Create a directory of each kind: write 1 to every count that says 0, until none is left."""
    tree.write(f"{ROOT}/kdamonds/nr_kdamonds", "1")
    while empty := [
        f"{KDAMOND}/{e.path}"
        for e in tree.walk(KDAMOND)
        if is_count(e.path) and not e.is_dir and e.value == "0\n" and e.mode & 0o200
    ]:
        tree.write_batch([(path, "1") for path in empty])


@pytest.fixture
def tree(subject):
    """Yield the tree under test, with one of everything."""
    try:
        one_of_everything(subject.tree)
        yield subject.tree
    finally:
        subject.tree.write(f"{ROOT}/kdamonds/nr_kdamonds", "0")


@pytest.mark.profile("full")
def test_every_file_shows_what_was_written(tree, expect):
    """An accepted number reads back in decimal, a boolean as Y or N, a word as itself (I64)."""
    wrong, accepted = [], set()
    files = writable(tree)
    for name, default in files.items():
        shown_as = BOOLEANS if default in ("Y", "N") else {word: word for word in EVERY_WORD}
        if default.lstrip("-").isdigit():
            shown_as = NUMBERS
        for text, wanted in shown_as.items():
            before = tree.read(f"{KDAMOND}/{name}").rstrip("\n")
            took, shown = written(tree, f"{KDAMOND}/{name}", text)
            if shown != (wanted if took else before):
                wrong.append(f"{name} := {text!r}: shows {shown!r}")
            if took and wanted != default:
                accepted.add(name)
    why = "a file shows what was written, in its own format, or what it had before (I64, I65)"
    expect.nothing("files that show something else", wrong, because=why)
    never = sorted(files.keys() - accepted)
    why = "each file that can be written takes some other value than its default (§5.2)"
    expect.nothing("files that took nothing but their default", never, because=why)


@pytest.mark.profile("full")
def test_refused_write_leaves_every_file_as_it_was(tree, expect):
    """What is no number, boolean or word of a file is refused, and the file keeps its value (I65)."""
    wrong, judged = [], 0
    for name, default in writable(tree).items():
        if not default or default == "/":
            continue  # paths: any text is one
        for text in NOT_BOOLEANS if default in ("Y", "N") else NOT_NUMBERS:
            took, shown = written(tree, f"{KDAMOND}/{name}", text)
            judged += 1
            if took or shown != default:
                wrong.append(f"{name} := {text!r}: {'taken' if took else 'refused'}, shows {shown!r}")
    expect.nothing(
        "files that a wrong value changed", wrong, because="a write that fails changes nothing (I65)"
    )
    m = Measurement("wrong values written", judged, "count")
    expect.at_least(m, 100, because="a kdamond with one of everything has dozens of files for numbers")


def test_every_count_makes_exactly_its_directories(tree, expect):
    """nr_X := N makes directories 0 to N - 1, all alike, and forgets what was in those before (I66)."""
    wrong, judged = [], 0
    counts = [e.path for e in tree.walk(KDAMOND) if is_count(e.path) and not e.is_dir and e.mode & 0o200]
    # Children first: writing a count removes what is below it.
    for name in sorted(counts, key=lambda path: -path.count("/")):
        path = f"{KDAMOND}/{name}"
        folder = path.rpartition("/")[0]
        for number in (COUNTS, 0, 1):
            took, shown = written(tree, path, str(number))
            if not took and number > 1:
                continue  # a context has one target kind at most, a kdamond one context
            made = sorted(e.path for e in tree.list(folder) if e.is_dir)
            alike = {repr(contents(tree, f"{folder}/{child}")) for child in made}
            judged += 1
            if shown != str(number) or made != [str(i) for i in range(number)] or len(alike) > 1:
                wrong.append(f"{name} := {number}: shows {shown}, directories {made}")
        for text in ("-1", "abc"):
            took, shown = written(tree, path, text)
            if took or shown != "1" or not tree.exists(f"{folder}/0"):
                wrong.append(f"{name} := {text!r}: shows {shown}")
    expect.nothing(
        "counts with other directories", wrong, because="a count makes directories 0 to N - 1 (I66)"
    )
    m = Measurement("counts written", judged, "count")
    expect.at_least(m, 2 * len(counts), because="0 and 1 were written to each, and 3 where it is allowed")


def contents(tree, folder):
    return [(e.path, e.is_dir, e.value) for e in tree.walk(folder)]
