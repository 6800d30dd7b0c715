# SPDX-License-Identifier: GPL-2.0
"""The sleeps of a kdamond are read from the scheduler's events."""

from damon_tests.damon.sleeps import parse

HEAD = "  kdamond.0-77 [001] d..2. "


def out(time: str, state: str, pid: int = 77) -> str:
    return (
        f"{HEAD}{time}: sched_switch: prev_comm=kdamond.0 prev_pid={pid} prev_prio=120 prev_state={state}"
        " ==> next_comm=swapper/1 next_pid=0 next_prio=120"
    )


def back(time: str, pid: int = 77) -> str:
    return (
        f"{HEAD}{time}: sched_switch: prev_comm=some thing prev_pid=5 prev_prio=-51 prev_state=R+"
        f" ==> next_comm=kdamond.0 next_pid={pid} next_prio=120"
    )


def test_only_idle_sleeps_are_read() -> None:
    lines = [
        "# tracer: nop",
        back("10.000100"),  # this sleep began before the trace
        out("10.000300", "I"),
        back("10.005400"),
        out("10.005450", "D"),  # waits for a lock: no sleep
        back("10.005800"),
        out("10.006000", "R"),  # preempted
        back("10.006500"),
        out("10.007000", "I"),
        out("10.007100", "I", pid=78),  # another kdamond
        back("10.012200"),
        out("10.012300", "I"),  # has not ended
    ]
    ms = 1_000_000
    assert parse(lines, 77) == (
        (10_000 * ms + 300_000, 10_005 * ms + 400_000),
        (10_007 * ms, 10_012 * ms + 200_000),
    )


def test_sleeps_of_other_threads_are_ignored() -> None:
    assert parse([out("1.000000", "I", 5), back("1.005000", 5)], 77) == ()
