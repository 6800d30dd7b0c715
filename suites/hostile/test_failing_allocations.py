# SPDX-License-Identifier: GPL-2.0
"""Error paths: each allocation of start, commit and new directories fails once."""

import pytest

from damon_tests.damon.client import DamonClient
from damon_tests.judge.verdict import Measurement
from damon_tests.ports import NSEC_PER_SEC, DamonTestsError, TreeError
from damon_tests.scenario.abi_walk import BEGINNING, ROOT, U64, Operation

pytestmark = [pytest.mark.profile("full"), pytest.mark.needs("ops.fvaddr", "schemes.stat", "commands.commit")]

FIRST = "kdamonds/0/contexts/0"
STATE = "kdamonds/0/state"
SCHEME = f"{FIRST}/schemes/0"
KMEMLEAK = "/sys/kernel/debug/kmemleak"
KMEMLEAK_AGE_NS = 6 * NSEC_PER_SEC
"""It reports no object that is younger than 5 s."""
MOST = 400
"""No write takes so many allocations."""
COUNTS = (
    "kdamonds/nr_kdamonds",
    "kdamonds/0/contexts/nr_contexts",
    f"{FIRST}/targets/nr_targets",
    f"{FIRST}/targets/0/regions/nr_regions",
    f"{FIRST}/schemes/nr_schemes",
    f"{SCHEME}/filters/nr_filters",
    f"{SCHEME}/quotas/goals/nr_goals",
)
RUNNABLE = (
    *BEGINNING[:-1],
    Operation(f"{SCHEME}/access_pattern/nr_accesses/max", U64),
    Operation(f"{SCHEME}/access_pattern/age/max", U64),
)
ANSWERS = ("0", "ENOMEM")


def prepared(side):
    """Stage a request whose scheme tries all memory."""
    side.reset()
    return [f"{op.path}: {e}" for op in RUNNABLE if (e := side.do(op).error) != "0"]


def each_allocation(fail):
    """Call ``fail(number)`` for each allocation of a write; return the answers, without the last, of which
    none failed any more."""
    answers = []
    for number in range(1, MOST):
        written = fail(number)
        if not written.failed:
            return answers
        answers.append(written.error)
    return answers


def failing_start(subject, side):
    def fail(number):
        written = subject.failing_write(f"{ROOT}/{STATE}", "on", number)
        side.do(Operation(STATE, "off"))
        return written

    return each_allocation(fail)


def failing_commit(subject, side):
    def fail(number):
        side.do(Operation(STATE, "on"))  # EBUSY unless a commit that failed halfway ended it
        pid = DamonClient(subject.tree, subject.clock).pid(0)
        return subject.failing_write(f"{ROOT}/{STATE}", "commit", number, pid)

    answers = each_allocation(fail)
    side.do(Operation(STATE, "off"))
    return answers


def failing_directories(subject, side):
    answers = []
    for path in COUNTS:
        value = "1" if path.endswith("nr_contexts") else "2"
        answers += each_allocation(
            lambda number, path=path, value=value: subject.failing_write(f"{ROOT}/{path}", value, number)
        )
        side.do(Operation(path, "1"))
    return answers


def tried_bytes(side):
    """Use DAMON as usual; return the bytes that the scheme tried, or what failed."""
    try:
        failed = prepared(side) or [
            word
            for word in ("on", "update_schemes_tried_bytes")
            if side.do(Operation(STATE, word)).error != "0"
        ]
        tried = int(side.tree.read(f"{ROOT}/{SCHEME}/tried_regions/total_bytes"))
        side.do(Operation(STATE, "off"))
    except DamonTestsError as error:
        return str(error)
    return f"{', '.join(failed)} failed" if failed else tried


def leaks(subject):
    """Return what kmemleak reports of DAMON; None where the kernel has no kmemleak, or it is off."""
    try:
        for _ in range(2):  # the first scan remembers what each object holds, the second reports what is lost
            subject.clock.run_for(KMEMLEAK_AGE_NS)
            subject.tree.write(KMEMLEAK, "scan")
        text = subject.kernel_file(KMEMLEAK)
    except (FileNotFoundError, TreeError):
        return None
    return [part for part in text.split("unreferenced object ")[1:] if "damon" in part]


@pytest.mark.needs("commands.update_schemes_tried_bytes")
@pytest.mark.parametrize(
    "fail", [failing_start, failing_commit, failing_directories], ids=["start", "commit", "directories"]
)
def test_each_allocation_may_fail(tested, subject, expect, fail):
    """Whichever allocation of a write fails, the write succeeds without it or is refused with ENOMEM; the
    kernel complains of nothing, and DAMON works afterwards."""
    prepared(tested)
    answers = fail(subject, tested)
    m = Measurement("allocations that failed", float(len(answers)), "count")
    expect.at_least(m, 5, because="the write allocates more than that; else nothing was tested")
    expect.nothing(
        "other answers",
        [f"allocation {i}: {a}" for i, a in enumerate(answers, 1) if a not in ANSWERS],
        because="a write whose memory is not there is refused with ENOMEM (§5.3, §5.4)",
    )
    tried, size = tried_bytes(tested), tested.places["end"] - tested.places["start"]
    expect.nothing(
        "failures of a usual run afterwards",
        [] if tried == size else [f"{tried} instead of {size} bytes tried"],
        because="a refused write leaves DAMON usable (§5.6)",
    )
    lost = leaks(subject)
    if lost is not None:
        expect.nothing("objects leaked", lost, because="an error path frees what was allocated before")
