# SPDX-License-Identifier: GPL-2.0
"""Programs that get a signal while their command waits for the kdamond."""

import signal
from dataclasses import replace

import pytest

from damon_tests.damon.keywords import COMMANDS
from damon_tests.damon.params import ANY, DamonAttrs, DamonCtx, Damos
from damon_tests.judge.verdict import Measurement
from damon_tests.kernel.guest.topology import Topology
from damon_tests.ports import NSEC_PER_MSEC, NSEC_PER_SEC, TimedOut, TreeError

pytestmark = [
    pytest.mark.profile("full"),
    pytest.mark.needs("ops.fvaddr", "commands.update_schemes_tried_regions", "commands.commit"),
]

APPLY_US = 400_000
"""So long a request for tried regions waits; others wait for a sample of 100 ms."""
CTX = DamonCtx(
    "fvaddr",
    attrs=DamonAttrs(sample_us=100_000, aggr_us=200_000, min_nr_regions=10, max_nr_regions=100),
    schemes=(Damos("stat", ANY, apply_interval_us=APPLY_US),),
)
STATE = "/sys/kernel/mm/damon/admin/kdamonds/0/state"
AFTERWARDS = ("update_schemes_tried_regions", "commit", "update_schemes_stats")
AT_ONCE = ("on", "off", "clear_schemes_tried_regions")
"""These wait for no sample and no pass. ``off`` wakes the kdamond, and may return before the signal."""
PATIENCE_NS = 30 * NSEC_PER_SEC


def sleeps(run, pid):
    """Return whether a process sleeps in the kernel; False when it has ended, too."""
    try:
        text = run.subject.kernel_file(f"/proc/{pid}/stat")
    except FileNotFoundError:
        return False
    return text.rpartition(")")[2].split()[0] in ("D", "S", "I")  # 6.12: idle, it looks every 100 ms


def killed(run, word, number):
    """Send the signal to a program whose command waits; return what goes wrong then."""
    process, wrong = run.subject.shell(f"echo {word} > {STATE}"), []
    # Times are the guest's: on a busy machine its seconds are longer than the machine's.
    within = run.clock.now_ns() + NSEC_PER_SEC
    if not run.clock.wait_until(lambda: sleeps(run, process.pid), within, NSEC_PER_MSEC) and word != "off":
        wrong.append("the command did not wait for the kdamond")
    process.kill(number)
    run.clock.wait_until(lambda: process.poll() is not None, run.clock.now_ns() + PATIENCE_NS)
    status = process.poll()
    if status is None:
        wrong.append("the program does not end")
    elif status.signal != number and not (word == "off" and status.ok):
        wrong.append(f"the program ended with {status}")
    for later in (*(["on"] if word == "off" else []), *AFTERWARDS):
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
        has = live.backend().capabilities().has
        words = [word for word in COMMANDS if word not in AT_ONCE and has(f"commands.{word}")]
        for word in (*words, "off"):
            wrong += killed(run, word, number)
        running = run.session.running()
    expect.nothing(
        "commands that failed after a signal",
        wrong,
        because="a request that nobody waits for any more leaves nothing behind (§2.4, §5.4)",
    )
    m = Measurement("kdamonds that run", float(running), "count")
    expect.equal(m, 1, because="signals to a writer are none to the kdamond")
