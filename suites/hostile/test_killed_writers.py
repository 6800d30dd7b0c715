# SPDX-License-Identifier: GPL-2.0
"""Programs that get a signal while their command waits for the kdamond."""

import signal
from dataclasses import replace

import pytest

from damon_tests.damon.params import ANY, DamonAttrs, DamonCtx, Damos
from damon_tests.judge.verdict import Measurement
from damon_tests.kernel.guest.topology import Topology
from damon_tests.ports import NSEC_PER_MSEC, NSEC_PER_SEC, TimedOut, TreeError

pytestmark = [
    pytest.mark.profile("full"),
    pytest.mark.needs("ops.fvaddr", "commands.update_schemes_tried_regions", "commands.commit"),
]

APPLY_US = 2_000_000
"""So long a request for tried regions waits."""
CTX = DamonCtx(
    "fvaddr",
    attrs=DamonAttrs(sample_us=100_000, aggr_us=1_000_000, min_nr_regions=10, max_nr_regions=100),
    schemes=(Damos("stat", ANY, apply_interval_us=APPLY_US),),
)
STATE = "/sys/kernel/mm/damon/admin/kdamonds/0/state"
WORDS = ("update_schemes_tried_regions", "commit", "update_schemes_stats")
PATIENCE_NS = 30 * NSEC_PER_SEC


def killed(run, word, number):
    """Send the signal to a program whose command waits; return what goes wrong then."""
    process = run.subject.shell(f"echo {word} > {STATE}")
    run.clock.run_for(30 * NSEC_PER_MSEC)  # it waits for a sample or a pass
    process.kill(number)
    wrong = []
    try:
        process.wait(PATIENCE_NS)
    except TimedOut:
        wrong.append("the program does not end")
    for later in WORDS:
        try:
            run.client.command(0, later, PATIENCE_NS)
        except (TreeError, TimedOut) as error:
            wrong.append(f"{later} afterwards: {error}")
    return [f"{word}, {signal.Signals(number).name}: {what}" for what in wrong]


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT], ids=["kill", "interrupt"])
def test_signal_during_a_command_leaves_damon_usable(live, expect, number):
    """A program that is killed while its command waits ends, and the next commands are served."""
    wrong = []
    with live(
        "idle", CTX, cover="regions", source="none", topology=replace(Topology(), userland=True)
    ) as run:
        for word in WORDS:
            wrong += killed(run, word, number)
        running = run.session.running()
    expect.nothing(
        "commands that failed after a signal",
        wrong,
        because="a request that nobody waits for any more leaves nothing behind (§2.4, §5.4)",
    )
    m = Measurement("kdamonds that run", float(running), "count")
    expect.equal(m, 1, because="signals to a writer are none to the kdamond")
