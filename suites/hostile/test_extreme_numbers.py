# SPDX-License-Identifier: GPL-2.0
"""Extreme numbers in every file: refused, or accepted by a kdamond that goes on serving commands."""

import pytest

from damon_tests.damon.series import Series
from damon_tests.judge.verdict import Measurement
from damon_tests.ports import NSEC_PER_MSEC, page_size
from damon_tests.scenario.abi_walk import BEGINNING, NO_ANSWER, RESULTS, ROOT, U64, Operation

pytestmark = pytest.mark.needs(
    "ops.fvaddr", "schemes.stat", "commands.commit", "commands.update_schemes_stats"
)

FIRST = "kdamonds/0/contexts/0"
STATE = "kdamonds/0/state"
ONE_OF_EACH = (
    "monitoring_attrs/probes/nr_probes",
    "monitoring_attrs/probes/0/filters/nr_filters",
    "schemes/0/quotas/goals/nr_goals",
    "schemes/0/dests/nr_dests",
    "schemes/0/filters/nr_filters",
    "schemes/0/core_filters/nr_filters",
    "schemes/0/ops_filters/nr_filters",
)
U32 = str((1 << 32) - 1)
VALUES = ("0", "1", str((1 << 31) - 1), U32, str(1 << 32), str(1 << 63), U64)
"""The smallest, and the largest of every width, signed and unsigned."""
NOT_HERE = ("nr_", "targets/0/")
"""Numbers of directories, and targets: other files of this suite change these."""
LONG = ("intervals/sample_us",)
"""A kdamond serves commands once per sample: other tests give it the longest and the shortest."""
UNTIL_AGGREGATION = ("intervals/aggr_us", "intervals/update_us")
"""Up to 6.12 a commit waits for the end of an aggregation."""


def prepared(side, level):
    """Stage a request with one of everything; leave it off."""
    if Series.of(level).survives_refused_commit:
        side.settle_ns = 0  # else a kdamond whose commit was refused ends a little later
    answers = [side.do(operation).error for operation in BEGINNING[:-1]]
    for path in ONE_OF_EACH:
        if side.tree.exists(f"{ROOT}/{FIRST}/{path}"):
            answers.append(side.do(Operation(f"{FIRST}/{path}", "1")).error)
    for name in ("core_filters", "filters"):  # a new core filter is of a type that it does not take
        if side.tree.exists(f"{ROOT}/{FIRST}/schemes/0/{name}"):
            answers.append(side.do(Operation(f"{FIRST}/schemes/0/{name}/0/type", "addr")).error)
    return answers


def number_files(side):
    """Return the files that take numbers, with the value that each has now."""
    return {
        e.path: e.value.strip()
        for e in side.tree.walk(f"{ROOT}/{FIRST}")
        if not e.is_dir and e.value is not None and e.value.strip().lstrip("-").isdigit()
        if not RESULTS.search(f"/{e.path}") and not any(part in e.path for part in NOT_HERE)
    }


def cases(files, level, values):
    """Yield (file, value) of what a running kdamond is to be given."""
    for path in files:
        late = path.endswith(UNTIL_AGGREGATION) and not Series.of(level).serves_commands_at_next_sample
        for value in values:
            if path.endswith(LONG) or (int(value) > 1 and late):
                continue
            yield path, value


def answers_online(side, cases, defaults):
    """Commit each value to a running kdamond and back; return the answers, by case."""
    answers = {}
    for path, value in cases:
        full = f"{FIRST}/{path}"
        side.do(Operation(STATE, "on"))  # EBUSY while it runs; a commit that 6.12 refuses ends it
        steps = (
            Operation(full, value),
            Operation(STATE, "commit"),
            Operation(STATE, "update_schemes_stats"),
            Operation(full, defaults[path]),
            Operation(STATE, "commit"),
            Operation(STATE, "update_schemes_stats"),
        )
        answers[path, value] = [side.do(step) for step in steps]
        if any(a.error == NO_ANSWER for a in answers[path, value]):
            break  # nor will there be one to the next
    return answers


def answers_at_start(side, cases, defaults):
    """Turn a kdamond on with each value, and off; return the answers, by case."""
    answers = {}
    for path, value in cases:
        full = f"{FIRST}/{path}"
        steps = (
            Operation(full, value),
            Operation(STATE, "on"),
            Operation(STATE, "update_schemes_stats"),
            Operation(STATE, "off"),
            Operation(full, defaults[path]),
        )
        answers[path, value] = [side.do(step) for step in steps]
        if any(a.error == NO_ANSWER for a in answers[path, value]):
            break  # nor will there be one to the next
    return answers


def differing(given, wanted):
    return [
        f"{path} := {value}: {' '.join(a.error for a in answers)} instead of"
        f" {' '.join(a.error for a in wanted[path, value])}"
        for (path, value), answers in given.items()
        if answers != wanted[path, value]
    ]


@pytest.mark.parametrize(
    "values",
    [VALUES[:1] + VALUES[-1:], pytest.param(VALUES, marks=pytest.mark.profile("full"))],
    ids=["two", "all"],
)
def test_running_kdamond_survives_extreme_numbers(tested, model, subject, expect, values):
    """Every number file takes the smallest and largest numbers as documented; whatever is committed, the
    kdamond lives, and goes on after the usual value is committed again."""
    clean = model()
    prepared(clean, subject.level)
    prepared(tested, subject.level)
    defaults = number_files(clean)
    chosen = list(cases(defaults, subject.level, values))
    wanted = answers_online(clean, chosen, defaults)
    given = answers_online(tested, chosen, defaults)
    expect.nothing(
        "numbers answered differently",
        differing(given, wanted),
        because=f"the answers of {subject.level}: an accepted number stops no kdamond (§1.5, §5.3)",
        judged=len(given),
    )


@pytest.mark.profile("full")
def test_kdamond_starts_with_extreme_numbers(tested, model, subject, expect):
    """A kdamond is turned on with the smallest and largest number in each file, or refused as documented."""
    clean = model()
    prepared(clean, subject.level)
    prepared(tested, subject.level)
    defaults = number_files(clean)
    chosen = list(cases(defaults, subject.level, (VALUES[0], VALUES[1], VALUES[-1])))
    wanted = answers_at_start(clean, chosen, defaults)
    given = answers_at_start(tested, chosen, defaults)
    expect.nothing(
        "numbers answered differently",
        differing(given, wanted),
        because=f"the answers of {subject.level}: what a commit refuses, a start refuses, too (§5.3, §5.4)",
        judged=len(given),
    )


def test_off_ends_the_longest_sample(tested, model, subject, expect):
    """A kdamond that sleeps for the longest sampling interval there is can be turned off."""
    path = f"{FIRST}/monitoring_attrs/intervals"
    steps = (
        Operation(f"{path}/sample_us", U64),
        Operation(f"{path}/aggr_us", U64),
        Operation(STATE, "on"),
        Operation(STATE, "off"),
        Operation(f"{path}/sample_us", "5000"),
        Operation(f"{path}/aggr_us", "100000"),
        Operation(STATE, "on"),
        Operation(STATE, "update_schemes_stats"),
    )
    both = []
    for side in (model(), tested):
        prepared(side, subject.level)
        both.append([side.do(step).error for step in steps])
    wanted, given = both
    wrong = [
        f"{s.path} := {s.value}: {g} instead of {w}"
        for s, g, w in zip(steps, given, wanted, strict=True)
        if g != w
    ]
    expect.nothing(
        "steps answered differently", wrong, because="off wakes a kdamond that sleeps by ticks (§2.11)"
    )


@pytest.mark.needs("ops.vaddr", "commands.update_schemes_tried_bytes")
def test_shortest_intervals_come_due_at_each_sample(tested, subject, expect):
    """With an update interval of 0 and an apply interval below a sample, mappings are read and the scheme is
    applied at each sample."""
    if not Series.of(subject.level).waits_for_tried_regions:
        pytest.skip("before 6.15 requests are served after aggregations")
    prepared(tested, subject.level)
    scheme = f"{FIRST}/schemes/0"
    for path, value in {
        f"{FIRST}/operations": "vaddr",
        f"{FIRST}/monitoring_attrs/intervals/update_us": "0",
        f"{FIRST}/targets/0/regions/0/end": "{middle}",  # until mappings are read
        f"{scheme}/apply_interval_us": "1",
        f"{scheme}/access_pattern/nr_accesses/max": U32,
        f"{scheme}/access_pattern/age/max": U32,
        f"{scheme}/filters/nr_filters": "0",
        f"{scheme}/core_filters/nr_filters": "0",
        f"{scheme}/ops_filters/nr_filters": "0",
        f"{scheme}/quotas/goals/nr_goals": "0",
    }.items():
        if tested.tree.exists(f"{ROOT}/{path}"):
            tested.do(Operation(path, value))
    words = ("on", *["update_schemes_tried_bytes"] * 3)
    answers = [tested.do(Operation(STATE, word)).error for word in words]
    expect.nothing(
        "commands that failed",
        [f"{word}: {answer}" for word, answer in zip(words, answers, strict=True) if answer != "0"],
        because="an apply interval of less than a sample is due at each sample (§2.1)",
    )
    tried = float(tested.tree.read(f"{ROOT}/{scheme}/tried_regions/total_bytes"))
    m = Measurement("bytes tried after an update", tried, "bytes")
    size = tested.places["end"] - tested.places["start"]
    expect.at_least(m, size, because="an update interval of 0 reads mappings at each sample (§2.1, §3.3)")


@pytest.mark.known_defect("zero-sample-divides")
@pytest.mark.needs("schemes.pageout", "quotas.weight_age_permil")
def test_zero_sampling_interval_with_priorities(tested, subject, expect):
    """With a sampling interval of 0, a quota with priorities leaves the kdamond alive."""
    if not Series.of(subject.level).serves_commands_at_next_sample:
        pytest.skip("before 6.15 a command waits 100 ms or more, which are 100,000 samples")
    prepared(tested, subject.level)
    tested.settle_ns = 3 * NSEC_PER_MSEC  # thousands of samples, and many passes
    scheme = f"{FIRST}/schemes/0"
    for path, value in {
        f"{FIRST}/monitoring_attrs/intervals/sample_us": "0",
        f"{scheme}/filters/nr_filters": "0",
        f"{scheme}/core_filters/nr_filters": "0",
        f"{scheme}/ops_filters/nr_filters": "0",
        f"{scheme}/quotas/goals/nr_goals": "0",
        f"{scheme}/action": "pageout",
        f"{scheme}/apply_interval_us": "100",
        f"{scheme}/access_pattern/nr_accesses/max": U32,
        f"{scheme}/access_pattern/age/max": U32,
        f"{scheme}/quotas/bytes": str(page_size()),
        f"{scheme}/quotas/reset_interval_ms": "1000",
        f"{scheme}/quotas/weights/nr_accesses_permil": "1",
        f"{scheme}/quotas/weights/age_permil": "1",
    }.items():
        if tested.tree.exists(f"{ROOT}/{path}"):
            tested.do(Operation(path, value))
    words = ["on", "update_schemes_stats", "update_schemes_stats", "off"]
    if Series.of(subject.level).allows_off_when_stopped:
        words.append("off")
    answers = [tested.do(Operation(STATE, word)).error for word in words]
    expect.nothing(
        "commands that failed",
        [f"{word}: {answer}" for word, answer in zip(words, answers, strict=True) if answer != "0"],
        because="a sampling interval of 0 is accepted and counts as 1 (§1.5, §2.1)",
    )
