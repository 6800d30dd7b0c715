# SPDX-License-Identifier: GPL-2.0
"""Random operations on the whole sysfs interface: each is answered as the reference answers it."""

from contextlib import suppress

import pytest

from damon_tests.damon.params import ANY, DamonAttrs, DamonCtx, DamonTarget, Damos, Kdamond
from damon_tests.damon.series import Series
from damon_tests.ports import DamonTestsError
from damon_tests.scenario.abi_walk import NO_ANSWER, Walker, compare, script, shrink

pytestmark = pytest.mark.needs("ops.fvaddr", "ops.vaddr", "ops.paddr", "schemes.stat")

SHRINKING = 60
"""Parts of a walk that differs which are tried to find a short one."""


def walk(tested, model, rng, count, series, tries):
    """Walk on both; return the first difference (None: none) and the operations until then, the fewest of
    what ``tries`` parts of them show."""
    answered = list(Walker(rng, series).operations(model, count))
    difference = compare(tested, answered)
    if difference is None:
        return None, ()
    operations = [operation for operation, _ in answered[: difference.number + 1]]

    def replay(part):
        clean = model()
        answers = [clean.do(operation) for operation in part]
        if any(answer.error == NO_ANSWER for answer in answers):  # what follows shows nothing
            return None
        with suppress(DamonTestsError):  # a DAMON that cannot be reset: the difference stays as it is
            tested.reset()
            return compare(tested, list(zip(part, answers, strict=True)))
        return None

    if difference.given.error != NO_ANSWER:  # a DAMON that hangs answers nothing more
        operations = shrink(operations, lambda part: replay(part) is not None, tries)
    return difference, operations


def still_works(side):
    """Return what goes wrong when DAMON is used as usual after a walk; empty if nothing does."""
    client = side.client
    try:
        side.reset()
        target = DamonTarget(side.places["pid"], ((side.places["start"], side.places["end"]),))
        attrs = DamonAttrs(min_nr_regions=10, max_nr_regions=50)
        client.stage(
            [Kdamond(DamonCtx("fvaddr", attrs=attrs, targets=(target,), schemes=(Damos("stat", ANY),)))]
        )
        client.command(0, "on")
        tried = client.tried_regions(0, 0).total_bytes
        client.command(0, "off")
    except DamonTestsError as error:
        return str(error)
    size = side.places["end"] - side.places["start"]
    return "" if tried == size else f"{tried} bytes tried of {size}"


@pytest.mark.parametrize(
    ("walks", "count"),
    [
        pytest.param(2, 120, id="short"),
        # 10,000 operations, in parts that take minutes each.
        *(pytest.param(5, 500, id=f"long {part}", marks=pytest.mark.profile("full")) for part in range(1, 5)),
    ],
)
def test_random_operations_are_answered_like_the_reference(
    tested, model, draws, keep_script, subject, backend, expect, expect_same_answers, walks, count
):
    """Whatever is written to whatever file in whatever order, each write has the errno, and each file
    afterwards the value, that the level documents; afterwards DAMON works."""
    if backend.simulated:
        walks = min(walks, 2)  # the reference beside itself: only faults differ
    series, done = Series.of(subject.level), 0
    for rng in draws(walks):
        difference, operations = walk(tested, model, rng, count, series, SHRINKING if draws.shrinks else 0)
        done += count if difference is None else difference.number + 1
        if difference is not None:
            keep_script(script(operations, difference))
            break
        tested.reset()
    shown = "; ".join(f"{o.path} := {o.value!r}" for o in operations[-12:])
    expect_same_answers(
        [f"{difference}, after {len(operations)} operations: {shown}"] if difference else [],
        f"the documented answers of {subject.level} (§5.3, §5.4)",
        of=done,
    )
    if difference is None or difference.given.error != NO_ANSWER:
        wrong = still_works(tested)
        expect.nothing(
            "failures of a usual run afterwards",
            [wrong] if wrong else [],
            because="no sequence of writes leaves DAMON unusable",
        )
