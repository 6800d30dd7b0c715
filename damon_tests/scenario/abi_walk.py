# SPDX-License-Identifier: GPL-2.0
"""Random walks over DAMON's sysfs interface: the same operations on a DAMON under test and on the reference.

A ``Walker`` draws operations by what the reference's tree has at that moment, so that most of them are valid.
``compare`` repeats them on the DAMON under test and returns the first answer that differs; ``shrink`` finds
the shortest part of a walk that still differs, and ``script`` writes it down for a shell.

Only what does not depend on time is drawn: intervals are short, and each command waits for its answer.
"""

from __future__ import annotations

import errno
import random
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

from damon_tests.damon.client import DamonClient
from damon_tests.damon.keywords import COMMANDS, WORDS
from damon_tests.damon.series import Series
from damon_tests.judge.verdict import Check, Measurement
from damon_tests.ports import NSEC_PER_MSEC, NSEC_PER_SEC, DamonTestsError, TimedOut, TreeError

ROOT = "/sys/kernel/mm/damon/admin"
NO_ANSWER = "no answer"
"""The error of an operation that has not returned after ``PATIENCE_NS``."""
PATIENCE_NS = 20 * NSEC_PER_SEC
"""Far longer than any command of a walk takes: its intervals are at most 0.1 s."""
SETTLE_NS = 150 * NSEC_PER_MSEC
"""A kdamond without targets ends within a sample of at most 20 ms, one of 6.12 within an aggregation."""

COMPARED_ON = frozenset({"6.12", "6.18", "7.1", "7.3"})
"""The series whose kernels have been seen to answer walks as the reference does, known defects aside.
On others a difference may be the reference's, and is undecided."""

U64 = str((1 << 64) - 1)
NUMBERS = ("0", "1", "2", "10", "4096", str((1 << 31) - 1), str(1 << 32), str(1 << 63), U64)
JUNK = ("", "-1", "x", " 1", "1 ", "0x10", "010", "+7", "99999999999999999999", "5\n", "5\n\n")
BOOLEANS = ("Y", "N", "1", "0", "on", "off", "yes", "2", "true", "x", "")
PATHS = ("/", "/no/such", "/" + "x" * 200)
COUNTS = ("0", "1", "2", "3", "-1", "x")

# Values by the end of a file's path. What a command may have to wait for is short.
VALUES: Mapping[str, Sequence[str]] = {
    "intervals/sample_us": ("1000", "5000", "10000"),
    "intervals/aggr_us": ("500", "20000", "100000"),
    "intervals_goal/access_bp": ("0", "1", "400", "10000", U64),
    "intervals_goal/aggrs": ("0", "1", "3", U64),
    "intervals_goal/min_sample_us": ("0", "1000", "5000"),
    "intervals_goal/max_sample_us": ("0", "5000", "20000"),
    "nr_regions/min": ("0", "2", "3", "10", "100"),
    "nr_regions/max": ("2", "3", "10", "100", "1000", U64),
    "apply_interval_us": ("0", "1"),
    "watermarks/interval_us": ("10000", "50000"),
    "watermarks/high": ("0", "1000", U64),
    "watermarks/mid": ("0", "1000", U64),
    "watermarks/low": ("0", "1000", U64),
    "pid_target": ("{pid}", "{pid}", "{pid}", "0", "-5", "99999999999"),
    "/start": ("0", "{start}", "{middle}"),
    "/end": ("{middle}", "{end}"),
    "target_nid": ("-1", "0", "1000", str((1 << 31) - 1), str(-(1 << 31))),
    "damon_target_idx": ("-1", "0", "1", str((1 << 31) - 1)),
    "goals/nid": ("-1", "0", "1000", str((1 << 31) - 1)),
    "refresh_ms": ("0",),
    "operations": ("vaddr", "fvaddr", "fvaddr", "paddr", "bogus"),
    "schemes/0/action": ("stat", "willneed", "cold", "lru_prio", "migrate_cold", "collapse", "bogus"),
    "addr_unit": ("0", "1", "1", "2", "4096", "3", U64),
}
WORD_FILES = {
    "core_filters/0/type": "core_filter_type",
    "ops_filters/0/type": "ops_filter_type",
    "probes/0/filters/0/type": "probe_filter_type",
    "filters/0/type": "filter_type",
    "target_metric": "goal_metric",
    "goal_tuner": "goal_tuner",
    "watermarks/metric": "watermark_metric",
    "action": "action",
}
FLAGS = ("matching", "allow", "pause", "obsolete_target")
RESULTS = re.compile(
    r"/(stats/(?!max_nr)|tried_regions|effective_bytes|avail_operations|pid$)|/probes/\d+/hits"
)
"""Files that only the kernel writes."""
VOLATILE = re.compile(r"intervals/(sample|aggr)_us$|/state$|nr_kdamonds$|/nr_contexts$")
"""Files that commands write, or that are read while they are: their value is not compared."""


@dataclass(frozen=True)
class Operation:
    """A write below ``ROOT`` ("kdamonds/0/state"). The value may have names of ``Places`` in braces."""

    path: str
    value: str

    @property
    def is_command(self) -> bool:
        return self.path.endswith("/state")


@dataclass(frozen=True)
class Answer:
    """The errno's name ("0": none), and what the file, or of a command ``state``, reads afterwards."""

    error: str
    after: str


@dataclass(frozen=True)
class Difference:
    """The operation with this number (from 0) was answered by ``given`` instead of ``wanted``."""

    number: int
    operation: Operation
    given: Answer
    wanted: Answer

    def __str__(self) -> str:
        op = self.operation
        return f"{op.path} := {op.value!r}: {self.given} instead of {self.wanted}"


class Side:
    """One of the two DAMONs. ``places``: its values of "pid", "start", "middle" and "end". ``settle_ns``: how
    long to wait for what ``on`` and ``commit`` bring about after they have returned."""

    def __init__(self, client: DamonClient, places: Mapping[str, int]) -> None:
        self.client, self.tree, self.clock = client, client.tree, client.clock
        self.places = places
        self.settle_ns = SETTLE_NS
        self._by_name: set[str] = set()

    def do(self, operation: Operation) -> Answer:
        """Do an operation, and wait for its answer and for what follows from it."""
        path = f"{ROOT}/{operation.path}"
        error = self._write(path, re.sub(r"\{(\w+)\}", self._place, operation.value))
        if operation.is_command and operation.value in ("on", "commit"):
            self.clock.run_for(self.settle_ns)
        if VOLATILE.search(operation.path) and not operation.is_command:
            return Answer(error, "")
        if error == "0":
            (self._by_name.add if "{" in operation.value else self._by_name.discard)(path)
        after = self._read(path)
        # Only what was written by name: a number that is drawn may be the pid of one side.
        return Answer(error, self._named(after) if path in self._by_name else after)

    def reset(self) -> None:
        """Turn all kdamonds off and remove them."""
        for number in range(self.client.nr_kdamonds()):
            with suppress(DamonTestsError):  # most are off
                self.client.command(number, "off", PATIENCE_NS)
        self.client.clear()

    def _place(self, match: re.Match[str]) -> str:
        return str(self.places[match[1]])

    def _named(self, text: str) -> str:
        """Return the text with this side's places by name, so that those of both sides are the same."""
        names = {str(value): f"{{{name}}}" for name, value in self.places.items()}
        return names.get(text.strip(), text)

    def _write(self, path: str, value: str) -> str:
        deadline = self.clock.now_ns() + PATIENCE_NS
        while True:
            try:
                self.tree.begin_write(path, value).result(PATIENCE_NS)
            except TreeError as error:
                if error.errno != errno.EBUSY or self._busy_for_good(path, value):
                    return error.errno_name
                if self.clock.now_ns() >= deadline:
                    return error.errno_name
                self.clock.run_for(10 * NSEC_PER_MSEC)
            except TimedOut:
                return NO_ANSWER
            return "0"

    def _busy_for_good(self, path: str, value: str) -> bool:
        """Return whether EBUSY is the answer: a kdamond runs that must not. 6.12 holds the lock for a moment
        after a command has returned, which is EBUSY, too."""
        return value == "on" or (path.endswith("nr_kdamonds") and self._runs())

    def _runs(self) -> bool:
        with suppress(DamonTestsError):
            return any(self.client.state(i) == "on" for i in range(self.client.nr_kdamonds()))
        return False

    def _read(self, path: str) -> str:
        try:
            return self.tree.read(path)
        except TreeError as error:
            return error.errno_name


class Walker:
    """Draws operations for a tree as it is now."""

    def __init__(self, rng: random.Random, series: Series | None = None) -> None:
        """``series``: the one under test. The walk avoids its defects that crash a kernel: they have tests of
        their own."""
        self._random = rng
        self._series = series or Series.of("7.3")
        self._values = dict(VALUES)
        if not self._series.survives_goals_of_absent_nodes:
            self._values["goals/nid"] = ("0",)

    def operations(self, new_model: Callable[[], Side], count: int) -> Iterator[tuple[Operation, Answer]]:
        """Yield ``count`` operations with a reference's answers: a valid request first, then whatever comes.

        ``new_model`` makes clean references. A command that waits for ever is left out, as it would keep the
        lock of the tree, and no operation after it could show anything: a new reference repeats the
        operations before it.
        """
        model = new_model()
        done: list[Operation] = []
        while len(done) < count:
            operation = BEGINNING[len(done)] if len(done) < len(BEGINNING) else self._draw(model)
            answer = model.do(operation)
            if answer.error == NO_ANSWER:
                model = new_model()
                for earlier in done:
                    model.do(earlier)
                continue
            done.append(operation)
            yield operation, answer

    def _draw(self, model: Side) -> Operation:
        files = [e for e in model.tree.walk(ROOT) if not e.is_dir and not RESULTS.search(e.path)]
        states = [e.path for e in files if e.path.endswith("/state")]
        chance = self._random.random()
        if chance < 0.3 and states:
            path = self._random.choice(states)
            words = (*COMMANDS, "on", "commit", "off", "bogus")
            if model.tree.read(f"{ROOT}/{path}").strip() == "off":
                # A request for tried regions stays behind in 6.18: test_commands.py has that known defect.
                words = tuple(w for w in words if not w.startswith("update_schemes_tried"))
            contexts = model.tree.read(f"{ROOT}/{path.rpartition('/')[0]}/contexts/nr_contexts")
            if contexts.strip() == "0" and not self._series.refuses_commands_without_context:
                words = ("on", "off", "bogus")
            return Operation(path, self._random.choice(words))
        # Files of the same name are drawn as one, so that many schemes do not hide the rest of the tree.
        kinds: dict[str, list[str]] = {}
        for entry in files:
            if not entry.path.endswith("/state"):
                kinds.setdefault(re.sub(r"\d+", "N", entry.path), []).append(entry.path)
        path = self._random.choice(kinds[self._random.choice(sorted(kinds))])
        return Operation(path, self._value(path))

    def _value(self, path: str) -> str:
        name = path.rpartition("/")[2]
        general = re.sub(r"\d+", "0", path)
        if name.startswith("nr_") and not path.endswith("max_nr_snapshots"):
            return self._random.choice(
                ("1", "1") if name == "nr_contexts" and self._random.random() < 0.8 else COUNTS
            )
        for end, values in self._values.items():
            if general.endswith(end):
                return self._random.choice(values)
        for end, words in WORD_FILES.items():
            if general.endswith(end):
                return self._random.choice((*WORDS[words], "bogus"))
        if name in FLAGS:
            return self._random.choice(BOOLEANS)
        if name.endswith("path"):
            return self._random.choice(PATHS)
        return self._random.choice(NUMBERS if self._random.random() < 0.8 else JUNK)


_FIRST = "kdamonds/0/contexts/0"
BEGINNING = (
    Operation("kdamonds/nr_kdamonds", "2"),
    Operation("kdamonds/0/contexts/nr_contexts", "1"),
    Operation(f"{_FIRST}/operations", "fvaddr"),
    Operation(f"{_FIRST}/targets/nr_targets", "1"),
    Operation(f"{_FIRST}/targets/0/pid_target", "{pid}"),
    Operation(f"{_FIRST}/targets/0/regions/nr_regions", "1"),
    Operation(f"{_FIRST}/targets/0/regions/0/start", "{start}"),
    Operation(f"{_FIRST}/targets/0/regions/0/end", "{end}"),
    Operation(f"{_FIRST}/schemes/nr_schemes", "1"),
    Operation(f"{_FIRST}/schemes/0/access_pattern/sz/max", U64),
    Operation("kdamonds/0/state", "on"),
)


def compare(tested: Side, answered: Sequence[tuple[Operation, Answer]]) -> Difference | None:
    """Do the operations on the DAMON under test; return the first that is not answered like the model's."""
    for number, (operation, wanted) in enumerate(answered):
        given = tested.do(operation)
        if given != wanted:
            return Difference(number, operation, given, wanted)
    return None


def same_answers(differences: Sequence[str], because: str, *, compared: bool, of: int = 0) -> Check:
    """Check that no answer differs from the reference's, of so many operations (0: not counted).

    ``compared``: whether kernels of the series were compared before. If not, a difference is undecided: it
    may be the reference that is wrong.
    """
    name = "operations answered differently" + (f", of {of}" if of else "")
    m = Measurement(name, float(len(differences)), "count")
    if not compared:
        because += "; no kernel of this series was compared before, so that the reference may be wrong"
    holds = None if differences and not compared else not differences
    return Check("invariant", m, "== 0", because, holds, "; ".join(differences[:5]))


def shrink(
    operations: Sequence[Operation], differs: Callable[[Sequence[Operation]], bool], tries: int
) -> Sequence[Operation]:
    """Return a short part of the operations for which ``differs`` still holds, asking it at most ``tries``
    times.

    Leaves out ever smaller blocks. The last operation stays: it is the one that differs.
    """
    kept, size = list(operations), max(1, len(operations) // 2)
    while size and tries:
        position = 0
        while position < len(kept) - 1 and tries:
            block = slice(position, min(position + size, len(kept) - 1))
            candidate = kept[: block.start] + kept[block.stop :]
            tries -= 1
            if differs(candidate):
                kept = candidate
            else:
                position += size
        size //= 2
    return kept


def script(operations: Sequence[Operation], difference: Difference) -> str:
    """Return a shell script that does the operations on a kernel, prints the file that is wrong, and removes
    all kdamonds."""
    lines = [
        "#!/bin/sh",
        "# SPDX-License-Identifier: GPL-2.0",
        f"# {difference.operation.path}: expected {difference.wanted.error} then"
        f" {difference.wanted.after.strip()!r}, got {difference.given.error} then"
        f" {difference.given.after.strip()!r}",
        f"A={ROOT}",
        "sleep 1000 & pid=$!",
        "start=$((0x10000000)) middle=$((0x20000000)) end=$((0x30000000))",
    ]
    for operation in operations:
        value = re.sub(r"\{(\w+)\}", r"$\1", operation.value)
        lines.append(f'printf %s "{value}" > $A/{operation.path} || echo "{operation.path}: refused"')
    lines += [
        f"cat $A/{operations[-1].path}",
        "for state in $A/kdamonds/*/state; do echo off > $state; done 2>/dev/null",
        "echo 0 > $A/kdamonds/nr_kdamonds",
        "kill $pid",
    ]
    return "\n".join(lines) + "\n"
