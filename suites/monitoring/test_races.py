# SPDX-License-Identifier: GPL-2.0
"""Concurrent events: state read while it changes, targets that exit during commands.

Either order of two concurrent events is right, so no answer that depends on the order is judged: only that
there is one, that it is a legal one, and that DAMON works as usual afterwards. A kernel complaint fails any
test.
"""

import errno
from dataclasses import replace

import pytest

from damon_tests.damon.params import ANY, DamonAttrs, DamonCtx, Damos
from damon_tests.judge.verdict import Measurement
from damon_tests.ports import NSEC_PER_MSEC, NSEC_PER_SEC, TimedOut, TreeError

pytestmark = pytest.mark.needs("ops.fvaddr", "schemes.stat")

ATTRS = DamonAttrs(min_nr_regions=10, max_nr_regions=50)
FVADDR = DamonCtx("fvaddr", attrs=ATTRS, schemes=(Damos("stat", ANY),))

LIVES = 40
READS = 16
"""In one round trip: enough for the kdamond's start or end to come between two of them."""


def test_state_and_pid_stay_consistent_during_changes(live, expect):
    """Readers of state and pid see on or off, a pid or -1, while DAMON is turned off and on (§8.3, 14)."""
    wrong, split = [], []
    with live("idle", FVADDR, cover="regions", source="none") as run:
        paths = [run.client.path(0, "state"), run.client.path(0, "pid")] * READS
        for word in ("off", "on") * LIVES:
            pending = run.client.begin_command(0, word)
            answers = run.subject.tree.read_batch(paths)
            pending.result(60 * NSEC_PER_SEC)
            wrong += [a for a in map(_text, answers[::2]) if a not in ("on", "off", "EBUSY")]
            wrong += [a for a in map(_text, answers[1::2]) if not (a == "-1" or a.isdigit() or a == "EBUSY")]
            if (run.client.state(0) == "on") != (run.client.pid(0) > 0):
                split.append(f"{run.client.state(0)}, pid {run.client.pid(0)}")
    expect.nothing(
        "values that are neither", wrong, because="a state is on or off, and a pid a number (§8.3, 14)"
    )
    expect.nothing(
        "states that do not fit the pid", split, because="pid is positive exactly while the state is on (I70)"
    )


def _text(answer):
    return answer.errno_name if isinstance(answer, TreeError) else answer.strip()


WAITING = ("update_schemes_tried_regions", "update_schemes_tried_bytes", "update_schemes_stats", "commit")


@pytest.mark.needs("commands.update_schemes_tried_regions")
@pytest.mark.parametrize("word", WAITING)
def test_command_returns_when_the_target_exits(live, expect, word):
    """A command that waits when the only target exits returns; the
    next kdamond serves it as usual (§8.3, 24)."""
    # Tried regions wait for the scheme's next pass, the others for the next sample.
    slow = replace(FVADDR.schemes[0], apply_interval_us=3_000_000)
    attrs = replace(ATTRS, sample_us=200_000, aggr_us=1_000_000)
    ctx = replace(FVADDR, attrs=attrs, schemes=(slow,))
    with live(["idle", "idle"], ctx, cover="regions", watched=1, source="none") as run:
        run.record(0.5)
        pending = run.client.begin_command(0, word)
        run.clock.run_for(50 * NSEC_PER_MSEC)
        run.target.stop()
        answer = _answer(pending)
        ended = run.session.record(60 * NSEC_PER_SEC, until=lambda: not run.session.running())
        other = replace(run.ctx, targets=run.covering(run.targets[1]))
        run.client.restage([replace(run.session.kdamonds[0], ctx=other)])
        run.client.command(0, "on")
        again = _answer(run.client.begin_command(0, word))
        running = run.session.running()
    wanted = ("0", errno.errorcode[errno.ECANCELED], errno.errorcode[errno.EINVAL])
    expect.nothing(
        "answers",
        [answer] if answer not in wanted else [],
        because="a kdamond that ends cancels the waiting request (§2.4)",
    )
    m = Measurement("kdamonds that ended", float(ended), "count")
    expect.equal(m, 1, because="a kdamond ends when no target is left (I39)")
    expect.nothing(
        f"{word} of the next",
        [again] if again != "0" else [],
        because="the cancelled request leaves nothing behind (§8.3, 24)",
    )
    expect.equal(
        Measurement("kdamonds that run", float(running), "count"),
        1,
        because="the target of this kdamond lives (I39)",
    )


def _answer(pending):
    try:
        pending.result(30 * NSEC_PER_SEC)  # ten passes of the scheme
    except TreeError as error:
        return error.errno_name
    except TimedOut:
        return "no answer"
    return "0"


def test_reading_a_path_during_writes_returns_a_written_one(live, expect):
    """Readers of a filter's memcg_path see one of the written paths, whole, or EBUSY (§8.3, 9)."""
    paths = ("/" + "short", "/" + "long" * 200)
    wrong = []
    with live("idle", FVADDR, cover="regions", source="none") as run:
        filters = run.client.scheme_path(0, 0, "filters")
        run.subject.tree.write(f"{filters}/nr_filters", "1")
        path = f"{filters}/0/memcg_path"
        run.subject.tree.write(path, paths[0])
        for i in range(LIVES):
            writes = [run.subject.tree.begin_write(path, paths[(i + k) % 2]) for k in range(4)]
            answers = run.subject.tree.read_batch([path] * READS)
            for write in writes:
                if (refused := _answer(write)) not in ("0", "EBUSY"):
                    wrong.append(f"write: {refused}")
            wrong += [a[:20] for a in map(_text, answers) if a not in (*paths, "EBUSY")]
    expect.nothing(
        "values that nobody wrote", wrong, because="a path is not freed while it is read (§8.3, 9)"
    )
