# SPDX-License-Identifier: GPL-2.0
"""Parameters of the modules, against those of their level: which there are, defaults, what they take."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

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
    """What writing does: the value read back, or the errno's name and the value kept."""
    try:
        tree.write(path, text)
    except TreeError as error:
        return f"{error.errno_name}, and reads {tree.read(path)!r}"
    return f"taken, and reads {tree.read(path)!r}"


@pytest.fixture
def pairs(subject):
    """Of each module of the level: the client under test and a clean reference's."""
    reference = ReferenceSystem(level=subject.level)
    return [
        (ModuleClient(subject.tree, subject.clock, name), ModuleClient(reference.tree, reference.clock, name))
        for name in MODULES
        if reference.tree.exists(f"/sys/module/{name}/parameters")
    ]


def listed(client):
    """Mode and value (where it does not depend on the past) of each parameter."""
    found = {}
    for entry in client.tree.list(client.directory):
        settled = entry.mode & 0o200 or entry.path in RESULTS
        found[entry.path] = (oct(entry.mode & 0o777), client.text(entry.path) if settled else "")
    return found


def test_files_modes_and_defaults(pairs, subject, expect):
    """Every parameter of the level is there, none more, with its mode and its default."""
    differing = []
    for client, reference in pairs:
        found, wanted = listed(client), listed(reference)
        for name in sorted(found.keys() | wanted.keys()):
            if found.get(name) != wanted.get(name):
                differing.append(f"{client.name}.{name}: {found.get(name)} instead of {wanted.get(name)}")
    expect.nothing("differing parameters", differing, because=f"the modules of {subject.level}")
    absent = [
        name
        for name in MODULES
        if subject.tree.exists(f"/sys/module/{name}") and name not in {c.name for c, _ in pairs}
    ]
    expect.nothing("modules that should not be there", absent, because=f"the modules of {subject.level}")


def test_what_they_take(pairs, subject, expect):
    """Numbers and truths are taken and refused as everywhere in the kernel; a refused one changes nothing."""
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


def test_commands_and_results(pairs, subject, expect):
    """enabled and commit_inputs refuse what is no truth; N stops nothing; results are read only."""
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


def test_refused_together(subject, expect):
    """Values that make no sense together are refused when the module is enabled, and again when committed."""
    at_enable, at_commit, judged = [], [], 0
    # Before 7.2, what cannot be committed is not told, and 6.16 and older end the thread.
    tells = Series.of(subject.level).reports_refused_inputs
    for asked in REFUSED:
        client = ModuleClient(subject.tree, subject.clock, asked.MODULE)
        if "active_mem_bp" in _differing(asked) and "active_mem_bp" not in client.writable():
            continue
        judged += 1
        with ModuleSession(client, asked) as session:
            found = answer(client.tree, client.path("enabled"), "Y")
            if found != "EINVAL, and reads 'N\\n'":
                at_enable.append(f"{_differing(asked)}: enabled := Y is {found}")
                continue
            session.stage(type(asked)())
            session.enable()
            pid = client.kdamond_pid()
            session.stage(asked)
            if not tells:
                continue
            found = answer(client.tree, client.path("commit_inputs"), "Y")
            if found != "EINVAL, and reads 'N\\n'":
                at_commit.append(f"{_differing(asked)}: commit_inputs := Y is {found}")
            if (client.enabled, client.kdamond_pid()) != (True, pid):
                at_commit.append(f"{_differing(asked)}: a refused commit ended it")
    expect.nothing("enabled all the same", at_enable, because=f"EINVAL (1.5, 6.1); {judged} requests")
    if tells:
        why = "EINVAL since 7.2, and it goes on as before"
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
def test_a_refused_commit_changes_nothing(module, expect, asked):
    """What cannot be committed leaves a running module as it was, and a later commit is taken as ever."""
    always = replace(asked, wmarks_high=1000, wmarks_mid=1000, wmarks_low=0)
    level, told = (), ""
    with module(always, "idle") as run:
        level = Series.of(run.level)
        run.enable()
        pid = run.module.kdamond_pid()
        run.until(lambda: len(run.recording().snapshots) >= 3, LONG_S)
        try:
            run.commit(sample_interval=240_000)
        except TreeError as error:
            told = error.errno_name
        refused_ns = run.clock.now_ns()
        run.until(lambda: not run.module.enabled or len(since(run, refused_ns)) >= 6, LONG_S)
        kept, after = (run.module.enabled, run.module.kdamond_pid()), since(run, refused_ns)
        if kept[0]:
            _, taken_ns = run.commit(sample_interval=5_000, aggr_interval=180_000)
            run.until(lambda: len(since(run, taken_ns)) >= 6, LONG_S)
            later = since(run, taken_ns)
    wanted = "EINVAL" if level.reports_refused_inputs else ""
    wrong = [] if told == wanted else [f"{told or 'nothing'} instead of {wanted or 'nothing'}"]
    expect.nothing("other answers", wrong, because="6: it is told since 7.2")
    may_end = not level.survives_refused_inputs  # as the documentation of 6.16 and older says
    as_before = kept == (True, pid) or (may_end and not kept[0])
    wrong = [] if as_before else [f"on, pid: {kept}, not {pid}"]
    expect.nothing("ended or begun anew", wrong, because="6: it goes on since 6.17")
    if kept[0]:
        m = Measurement(
            "shortest aggregation after it was refused", min(after, default=-1), "ms", tuple(after)
        )
        expect.between(m, 59, 110, because="60 ms as before; of samples of 240 ms none is as short")
        m = Measurement("shortest aggregation after a commit", min(later, default=-1), "ms", tuple(later))
        expect.between(m, 179, 230, because="180 ms now")


def since(run, time_ns):
    """How long each aggregation took that began after that time, ms."""
    ends = [s.time_ns for s in run.recording().of_target(0) if s.time_ns > time_ns]
    return [(b - a) / MSEC for a, b in pairwise(ends)][1:]
