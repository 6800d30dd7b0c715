# SPDX-License-Identifier: GPL-2.0
"""Which users of DAMON exclude each other: modules want DAMON for themselves, and the first user keeps it."""

from __future__ import annotations

from itertools import permutations

import pytest

from damon_tests.damon.client import DamonClient
from damon_tests.damon.module_params import DamonLruSort, DamonReclaim, DamonStat
from damon_tests.damon.modules import ModuleClient, ModuleSession
from damon_tests.damon.params import DamonCtx, DamonTarget, Kdamond
from damon_tests.damon.users import MODULES
from damon_tests.judge.verdict import Measurement
from damon_tests.ports import NSEC_PER_SEC, TreeError

pytestmark = pytest.mark.needs("modules.damon_reclaim", "modules.damon_lru_sort", "ops.paddr")

MOST_REGIONS = 2000
"""A pass tries no more than max_nr_regions, and what quotas cut off."""

REQUESTS = {"damon_reclaim": DamonReclaim(), "damon_lru_sort": DamonLruSort(), "damon_stat": DamonStat()}


class ModuleUser:
    """A module, as somebody who may want DAMON."""

    def __init__(self, subject, name):
        self.name = name
        self.client = ModuleClient(subject.tree, subject.clock, name)

    def start(self):
        self.client.enable()

    def stop(self):
        self.client.disable()

    @property
    def running(self):
        return self.client.enabled

    @property
    def pid(self):
        return self.client.kdamond_pid()


class SysfsUser:
    """A kdamond of the sysfs tree."""

    name = "sysfs"

    def __init__(self, client):
        self.client = client

    def start(self):
        # Not the client's command, which waits and explains: DAMON's own answer.
        self.client.tree.write(self.client.path(0, "state"), "on")

    def stop(self):
        self.client.command(0, "off")

    @property
    def running(self):
        return self.client.state(0) == "on"

    @property
    def pid(self):
        return self.client.pid(0)


@pytest.fixture
def users(subject):
    """All modules and one kdamond of the tree, all off; everything is as before at the end."""
    ranges = tuple(subject.ram_ranges())[-1:]
    client = DamonClient(subject.tree, subject.clock)
    there = [name for name in MODULES if subject.tree.exists(f"/sys/module/{name}/parameters")]
    sessions = []
    try:
        for name in there:
            module = ModuleClient(subject.tree, subject.clock, name)
            sessions.append(ModuleSession(module, REQUESTS[name]).__enter__())
        client.stage([Kdamond(DamonCtx("paddr", targets=(DamonTarget(0, ranges),)))])
        yield [SysfsUser(client), *(ModuleUser(subject, name) for name in there)]
    finally:
        if client.nr_kdamonds():
            if client.state(0) == "on":
                client.command(0, "off")
            client.clear()
        for session in reversed(sessions):
            session.__exit__(None, None, None)


def refusal(start):
    """Return the name of the errno with which a start is refused, "" if it succeeds."""
    try:
        start()
    except TreeError as error:
        return error.errno_name
    return ""


def test_second_user_of_damon_is_refused_until_the_first_is_off(users, expect):
    """In every order the second user is refused with EBUSY and stays
    off while the first goes on; then it starts."""
    wrong = []
    for first, second in permutations(users, 2):
        pair = f"{first.name}, then {second.name}"
        if error := refusal(first.start):
            wrong.append(f"{pair}: the first is refused with {error}")
            continue
        pid = first.pid
        error = refusal(second.start)
        if error != "EBUSY":
            wrong.append(f"{pair}: the second gets {error or 'DAMON'} instead of EBUSY")
        if second.running:
            wrong.append(f"{pair}: the second runs beside the first")
            second.stop()
        if not first.running or first.pid != pid:
            wrong.append(f"{pair}: the first does not go on")
        first.stop()
        if first.running:
            wrong.append(f"{pair}: the first runs on after it was turned off")
            break
        if error := refusal(second.start):
            wrong.append(f"{pair}: the second is refused with {error} although the first is off")
            continue
        second.stop()
    expect.nothing(
        "wrong turns", wrong, because="a module and any other user of DAMON exclude each other (§6)"
    )


def test_modules_turn_on_and_off_repeatedly(users, subject, expect):
    """A module can be turned on and off at any time, repeatedly without error; kdamond_pid follows."""
    wrong = []
    for user in users[1:]:
        pids = []
        steps = ("N", "Y", "Y", "N", "N", "Y", "N", "Y", "N")
        for number, step in enumerate(steps):
            where = f"{user.name}, step {number} ({step})"
            if error := refusal(user.start if step == "Y" else user.stop):
                wrong.append(f"{where}: {error}")
            if user.running != (step == "Y"):
                wrong.append(f"{where}: enabled reads {'Y' if user.running else 'N'}")
            if user.pid is not None and (user.pid > 0) != (step == "Y"):
                wrong.append(f"{where}: kdamond_pid is {user.pid}")
            if number and step == steps[number - 1] and user.pid != pids[-1]:
                wrong.append(f"{where}: kdamond_pid changes from {pids[-1]} to {user.pid}")
            pids.append(user.pid)
            subject.clock.run_for(NSEC_PER_SEC // 50)
    expect.nothing("wrong steps", wrong, because="enabled reports whether the module runs (§6)")


def test_counters_continue_after_off_and_on(users, subject, expect):
    """A module that is turned on again reads its parameters anew, and continues its counters."""
    # Not DAMON_RECLAIM, which does nothing in 6.12.
    module = next(u.client for u in users if u.name == "damon_lru_sort")
    for name, value in {"cold_min_age": 0, "wmarks_high": 1000, "wmarks_mid": 999, "wmarks_low": 0}.items():
        module.write(name, value)
    module.enable()
    deadline = subject.clock.now_ns() + 60 * NSEC_PER_SEC
    subject.clock.wait_until(lambda: module.stats("cold").nr_tried > 0, deadline)
    module.disable()
    before = module.stats("cold")
    module.write("cold_min_age", 3_600_000_000)
    module.enable()
    subject.clock.run_for(NSEC_PER_SEC)
    after = module.stats("cold")
    m = Measurement("cold regions tried in the first life", float(before.nr_tried), "regions")
    expect.at_least(m, 1, because="all memory that is not accessed is cold")
    m = Measurement("cold bytes tried, as counted in the second life", float(after.sz_tried), "bytes")
    # The last pass of the first life may not have been counted in it.
    expect.at_least(m, before.sz_tried, because="a module keeps its counters while it is off (6.12 to 7.3)")
    m = Measurement(
        "cold regions tried in the second life", float(after.nr_tried - before.nr_tried), "regions"
    )
    expect.at_most(
        m, MOST_REGIONS, because="nothing is an hour old; at most one pass of the first life is counted late"
    )
