# SPDX-License-Identifier: GPL-2.0
"""Parameters of the modules, compared with those of their level: names, modes, defaults, accepted values."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from statistics import median

import pytest

from damon_tests.damon.module_params import DamonLruSort, DamonReclaim
from damon_tests.damon.modules import ModuleClient, ModuleSession
from damon_tests.damon.series import Series
from damon_tests.damon.users import MODULES
from damon_tests.judge.verdict import Measurement
from damon_tests.ports import TreeError
from damon_tests.reference.sysfs.system import ReferenceSystem

pytestmark = pytest.mark.needs("modules.damon_reclaim")

NUMBERS = ("7", "0", "18446744073709551615", "18446744073709551616", "-1", "x", "7 ", "1.5")
MORE_NUMBERS = ("0x10", "010", "+5", "7\n", "7\n\n", " 7", "0x", "08")
TRUTHS = ("Y", "n", "1", "on", "off", "0", "t", "false", "2", "maybe", " Y", "oz")
NO_TRUTHS = ("2", "maybe", " Y", "oz", "x")
COMMANDS = ("enabled", "commit_inputs")
RESULTS = ("kdamond_pid", "enabled", "commit_inputs")
"""Of what cannot be set, only these read the same whether or not the module ever ran."""


def answer(tree, path, text):
    """Write a value; return the value read back, or the errno's name and the value kept."""
    try:
        tree.write(path, text)
    except TreeError as error:
        return f"{error.errno_name}, and reads {tree.read(path)!r}"
    return f"taken, and reads {tree.read(path)!r}"


@pytest.fixture
def pairs(subject):
    """Return, for each module of the level, the client under test and that of a clean reference."""
    reference = ReferenceSystem(level=subject.level)
    return [
        (ModuleClient(subject.tree, subject.clock, name), ModuleClient(reference.tree, reference.clock, name))
        for name in MODULES
        if reference.tree.exists(f"/sys/module/{name}/parameters")
    ]


def listed(client):
    """Return the mode and (where it does not depend on the past) the value of each parameter."""
    parameters = {}
    for entry in client.tree.list(client.directory):
        settled = entry.mode & 0o200 or entry.path in RESULTS
        parameters[entry.path] = (oct(entry.mode & 0o777), client.text(entry.path) if settled else "")
    return parameters


def test_modules_have_the_parameters_of_their_level(pairs, subject, expect):
    """Each module has every parameter of its level and no other, with their modes and default values."""
    differing = []
    for client, reference in pairs:
        parameters, wanted = listed(client), listed(reference)
        for name in sorted(parameters.keys() | wanted.keys()):
            if parameters.get(name) != wanted.get(name):
                differing.append(
                    f"{client.name}.{name}: {parameters.get(name)} instead of {wanted.get(name)}"
                )
    expect.nothing("differing parameters", differing, because=f"the parameters of {subject.level}")
    absent = [
        name
        for name in MODULES
        if subject.tree.exists(f"/sys/module/{name}") and name not in {c.name for c, _ in pairs}
    ]
    expect.nothing("modules that should not be there", absent, because=f"the modules of {subject.level}")


def test_parameters_accept_exactly_the_kernels_numbers_and_booleans(pairs, subject, expect):
    """Parameters accept and refuse numbers and booleans as everywhere in
    the kernel, and keep their value on refusal."""
    differing = []
    for client, reference in pairs:
        before = client.writable()
        try:
            for name, value in before.items():
                texts = TRUTHS if value in ("Y", "N") else NUMBERS
                if name in ("min_age", "cold_min_age", "addr_unit"):
                    texts = (*NUMBERS, *MORE_NUMBERS)
                for text in texts:
                    got = answer(client.tree, client.path(name), text)
                    wanted = answer(reference.tree, reference.path(name), text)
                    if got != wanted:
                        differing.append(f"{client.name}.{name} := {text!r}: {got} instead of {wanted}")
        finally:
            for name, value in before.items():
                client.write(name, value)
    expect.nothing("answered differently", differing, because=f"the modules of {subject.level}")


def test_command_parameters_refuse_invalid_booleans(pairs, subject, expect):
    """enabled and commit_inputs refuse invalid booleans, N has nothing to stop, and results are read only."""
    differing = []
    for client, reference in pairs:
        names = [n for n in listed(reference) if n in COMMANDS]
        texts = [(name, text) for name in names for text in (*NO_TRUTHS, "N", "off", "0")]
        if "commit_inputs" in names:
            # Never enabled: refused since 7.2, kept for later before; then taken back.
            texts += [("commit_inputs", "Y"), ("commit_inputs", "N")]
        results = [n for n, (mode, _) in listed(reference).items() if mode == "0o400"]
        for name, text in texts:
            got = answer(client.tree, client.path(name), text)
            wanted = answer(reference.tree, reference.path(name), text)
            if got != wanted:
                differing.append(f"{client.name}.{name} := {text!r}: {got} instead of {wanted}")
        for name in results:
            before = client.text(name)
            got = answer(client.tree, client.path(name), "1")
            if "taken" in got or client.text(name) != before:
                differing.append(f"{client.name}.{name} := '1': {got}, although it is read only")
    expect.nothing("answered differently", differing, because=f"the modules of {subject.level}")


REFUSED = (
    DamonReclaim(aggr_interval=0),
    DamonReclaim(min_nr_regions=2),
    DamonReclaim(min_nr_regions=20, max_nr_regions=19),
    DamonReclaim(sample_interval=200_000),
    DamonReclaim(monitor_region_start=1 << 40, monitor_region_end=1 << 30),
    DamonLruSort(aggr_interval=0),
    DamonLruSort(sample_interval=0),
    DamonLruSort(min_nr_regions=2),
    DamonLruSort(active_mem_bp=10_001),
)


def _differing(asked) -> str:
    default = type(asked)()
    names = [n for n in vars(asked) if getattr(asked, n) != getattr(default, n)]
    return f"{asked.MODULE} with other {', '.join(names)}"


def test_contradicting_parameters_are_refused(subject, expect):
    """A module refuses contradicting parameters when it is enabled, and again when they are committed."""
    at_enable, at_commit, judged = [], [], 0
    # Before 7.2 a refused commit returns success, and in 6.16 and older it ends the thread.
    reports = Series.of(subject.level).reports_refused_inputs
    for asked in REFUSED:
        client = ModuleClient(subject.tree, subject.clock, asked.MODULE)
        if "active_mem_bp" in _differing(asked) and "active_mem_bp" not in client.writable():
            continue
        judged += 1
        with ModuleSession(client, asked) as session:
            reply = answer(client.tree, client.path("enabled"), "Y")
            if reply != "EINVAL, and reads 'N\\n'":
                at_enable.append(f"{_differing(asked)}: enabled := Y is {reply}")
                continue
            session.stage(type(asked)())
            session.enable()
            pid = client.kdamond_pid()
            session.stage(asked)
            if not reports:
                continue
            reply = answer(client.tree, client.path("commit_inputs"), "Y")
            if reply != "EINVAL, and reads 'N\\n'":
                at_commit.append(f"{_differing(asked)}: commit_inputs := Y is {reply}")
            if (client.enabled, client.kdamond_pid()) != (True, pid):
                at_commit.append(f"{_differing(asked)}: a refused commit ended it")
    expect.nothing(
        "enabled all the same",
        at_enable,
        because=f"contradicting parameters are EINVAL; {judged} requests (§1.5, §6.1)",
    )
    if reports:
        why = "commit_inputs answers EINVAL since 7.2, and the module goes on as before (§6)"
        expect.nothing("committed all the same", at_commit, because=why)


full = pytest.mark.profile("full")
LONG_S = 60
MSEC = 1_000_000


@pytest.mark.needs("damon_aggregated")
@pytest.mark.parametrize(
    "asked",
    [
        pytest.param(DamonReclaim(aggr_interval=60_000), marks=full, id="reclaim"),
        pytest.param(
            DamonLruSort(aggr_interval=60_000),
            marks=pytest.mark.needs("modules.damon_lru_sort"),
            id="lru_sort",
        ),
    ],
)
def test_refused_commit_leaves_a_running_module_unchanged(module, expect, asked):
    """A refused commit leaves a running module as it was, and it takes a later valid one."""
    always = replace(asked, wmarks_high=1000, wmarks_mid=1000, wmarks_low=0)
    level, refusal = (), ""
    with module(always, "idle") as run:
        level = Series.of(run.level)
        run.enable()
        pid = run.module.kdamond_pid()
        run.until(lambda: len(run.recording().snapshots) >= 3, LONG_S)
        try:
            run.commit(sample_interval=240_000)
        except TreeError as error:
            refusal = error.errno_name
        refused_ns = run.clock.now_ns()
        run.until(lambda: not run.module.enabled or len(since(run, refused_ns)) >= 6, LONG_S)
        kept, after = (run.module.enabled, run.module.kdamond_pid()), since(run, refused_ns)
        if kept[0]:
            _, taken_ns = run.commit(sample_interval=5_000, aggr_interval=180_000)
            run.until(lambda: len(since(run, taken_ns)) >= 6, LONG_S)
            later = since(run, taken_ns)
    wanted = "EINVAL" if level.reports_refused_inputs else ""
    wrong = [] if refusal == wanted else [f"{refusal or 'nothing'} instead of {wanted or 'nothing'}"]
    expect.nothing(
        "other answers",
        wrong,
        because="a refused commit is answered with EINVAL since 7.2, with success before (§6)",
    )
    may_end = not level.survives_refused_inputs  # as the documentation of 6.16 and older says
    as_before = kept == (True, pid) or (may_end and not kept[0])
    wrong = [] if as_before else [f"on, pid: {kept}, not {pid}"]
    expect.nothing(
        "ended or begun anew", wrong, because="a refused commit does not end the module since 6.17 (§6)"
    )
    if kept[0]:
        why = "the interval is 60 ms as before, and not that of samples of 240 ms"
        takes(expect, "after it was refused", after, 60, 110, why)
        takes(expect, "after a commit", later, 180, 230, "the committed interval is 180 ms")


def takes(expect, when, durations_ms, interval_ms, usual_ms, why):
    """Expect that no aggregation is shorter than the interval, and that they usually take no longer than
    ``usual_ms``: sampling work and late sleeps make one longer, and a stall of the machine single ones."""
    shortest, usual = min(durations_ms, default=-1), median(durations_ms or [-1])
    every = tuple(durations_ms)
    m = Measurement(f"shortest aggregation {when}", shortest, "ms", every)
    expect.at_least(m, interval_ms - 1, because=why)
    expect.at_most(Measurement(f"usual aggregation {when}", usual, "ms", every), usual_ms, because=why)


def since(run, time_ns):
    """Return how long each aggregation took that began after that time, in ms."""
    ends = [s.time_ns for s in run.recording().of_target(0) if s.time_ns > time_ns]
    return [(b - a) / MSEC for a, b in pairwise(ends)]
