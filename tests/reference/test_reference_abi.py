# SPDX-License-Identifier: GPL-2.0
"""Each level's tree against the dump of a real kernel of that series (``tests/golden/abi``)."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from reference_support import Box, make_system

from damon_tests.damon.params import ANY, DamonCtx, DamonTarget, Damos
from damon_tests.ports import TreeError
from damon_tests.reference.levels import LEVELS

GOLDEN = Path(__file__).parent.parent / "golden" / "abi"
ADMIN = "/sys/kernel/mm/damon/admin"
CTX = f"{ADMIN}/kdamonds/0/contexts/0"

COUNTS = (
    "kdamonds/nr_kdamonds",
    "kdamonds/0/contexts/nr_contexts",
    "targets/nr_targets",
    "targets/0/regions/nr_regions",
    "schemes/nr_schemes",
    "schemes/0/filters/nr_filters",
    "schemes/0/core_filters/nr_filters",
    "schemes/0/ops_filters/nr_filters",
    "schemes/0/quotas/goals/nr_goals",
    "schemes/0/dests/nr_dests",
    "monitoring_attrs/probes/nr_probes",
    "monitoring_attrs/probes/0/filters/nr_filters",
)

# Where the reference deliberately answers differently from the dumped kernel, and why.
DEVIATIONS: dict[tuple[str, str], str] = {}

# Results of DAMON_STAT from before the dump: live counters.
LIVE = {"aggr_interval_us", "estimated_memory_bandwidth", "memory_idle_ms_percentiles"}


def golden(level):
    return json.loads((GOLDEN / f"{level}.json").read_text())


@pytest.fixture(params=sorted(LEVELS))
def level(request):
    return request.param


@pytest.fixture
def tree(level):
    """One directory of each kind, as in the dumps."""
    tree = make_system(level).tree
    for name in COUNTS:
        path = f"{ADMIN}/{name}" if name.startswith("kdamonds") else f"{CTX}/{name}"
        if tree.exists(path):
            tree.write(path, "1")
    return tree


def test_every_level_has_a_golden():
    assert sorted(path.stem for path in GOLDEN.glob("*.json")) == sorted(LEVELS)
    assert len(DEVIATIONS) < 10


def test_paths_modes_and_defaults(tree, level):
    mine = [[".", "755"]]
    for entry in tree.walk(ADMIN):
        row = [entry.path, f"{entry.mode:o}"]
        mine.append(row if entry.is_dir else [*row, entry.value.rstrip("\n")])
    assert sorted(mine) == sorted(golden(level)["tree"])


def word_path(name):
    """The file that a section of the dump is about."""
    special = {
        "probe filter type": "monitoring_attrs/probes/0/filters/0/type",
        "goal target_metric": "schemes/0/quotas/goals/0/target_metric",
        "goal_tuner": "schemes/0/quotas/goal_tuner",
        "watermarks/metric": "schemes/0/watermarks/metric",
        "action": "schemes/0/action",
        "refresh_ms": "../../refresh_ms",
    }
    if "filters/0" in name:
        return f"{CTX}/schemes/0/{name}"
    return f"{ADMIN}/kdamonds/0/refresh_ms" if name == "refresh_ms" else f"{CTX}/{special.get(name, name)}"


def test_accepted_and_rejected_words(tree, level):
    for name, words in golden(level)["words"].items():
        path = word_path(name)
        for written, shown in words["accept"]:
            tree.write(path, written)
            assert tree.read(path).rstrip("\n") == shown, (name, written)
        for errno_name, rejected in words["reject"].items():
            for word in rejected:
                before = tree.read(path)
                with pytest.raises(TreeError) as caught:
                    tree.write(path, word)
                assert caught.value.errno_name == errno_name, (name, word)
                assert tree.read(path) == before


def answers(box, commands):
    found = []
    for command in commands:
        try:
            box.command(command)
            answer = "ok"
        except TreeError as error:
            answer = error.errno_name
        found.append([command, answer, box.read("state")])
    return found


def test_state_commands_while_off(level):
    box = Box(level=level)
    box.stage(DamonCtx(targets=(DamonTarget(0),)))
    for section in ("while off, 1 vaddr target pid=0", "off-again"):
        expected = golden(level)["state"][section]
        assert answers(box, [row[0] for row in expected]) == expected


def test_state_commands_while_on(level):
    box = Box(level=level)
    ram = tuple(box.system.ram_ranges())[1:]
    box.stage(
        DamonCtx(operations="paddr", targets=(DamonTarget(0, ram),), schemes=(Damos(access_pattern=ANY),))
    )
    state = golden(level)["state"]
    for section in ("paddr on", "while on", "tr", "off"):
        assert answers(box, [row[0] for row in state[section]]) == state[section], section


def test_tracepoints(level):
    """Names, and the printed format as far as the format's fixed text goes."""
    box = Box(8 << 20, level=level)
    formats = golden(level)["tracepoints"]
    assert box.events.available() == set(formats)
    stream = box.events.open(sorted(formats))
    box.start(box.fvaddr(schemes=(Damos(access_pattern=ANY),)))
    box.run(1)
    for event in stream.read():
        pattern = re.sub(r"%l?u", r"\\d+", formats[event.name])
        assert re.fullmatch(pattern, event.text)


def test_module_parameters(level):
    """Names, modes and defaults of the modules that the kernel has."""
    tree = make_system(level).tree
    for module, wanted in golden(level)["modules"].items():
        entries = tree.walk(f"/sys/module/{module}/parameters")
        assert {entry.path for entry in entries} == set(wanted)
        for entry in entries:
            mode, default = wanted[entry.path]
            assert f"{entry.mode:o}" == mode, entry.path
            if entry.path not in LIVE:
                assert entry.value == default + "\n", entry.path
    assert tree.exists("/sys/module/damon_stat") == ("damon_stat" in golden(level)["modules"])
