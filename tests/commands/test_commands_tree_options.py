# SPDX-License-Identifier: GPL-2.0
"""Options of build, kunit, bisect and gate --tree: what cannot work is refused before anything is built."""

from __future__ import annotations

from pathlib import Path

import pytest

from damon_tests import arguments, cli
from damon_tests.commands import tree_options
from damon_tests.commands.bisect import Answer, BisectRequest
from damon_tests.commands.commit_tests import SERIES
from damon_tests.commands.gate import GateRequest
from damon_tests.commands.gate_tree import TreeRequest
from damon_tests.kernel.build import config
from damon_tests.kernel.guest.topology import Topology

GOOD_AND_BAD = ("--good", "a", "--bad", "b")


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("gate", "--kernel", "reference", "--rev", "a..b"), "--rev goes with --tree"),
        (("gate", "--kernel", "reference", "--config", "debug"), "--config goes with --tree"),
        (("gate", "--tree", "linux", "--kernel", "reference"), "give --kernel or --tree, not both"),
        (("gate", "--tree", "linux", "--config", "gest"), "none of our fragments"),
        (("kunit",), "kunit needs --tree DIR or --kernel K"),
        (("kunit", "--tree", "linux", "--kernel", "bzImage"), "kunit needs --tree DIR or --kernel K"),
        (
            ("bisect", "--tree", "linux", *GOOD_AND_BAD, "--metric", "check.vaddr:check.vaddr"),
            "needs --limit",
        ),
        (
            ("bisect", "--tree", "linux", *GOOD_AND_BAD, "--metric", "check:check.vaddr", "--limit", "3000"),
            "no such benchmark: check; there are",
        ),
        (("bisect", "--tree", "linux", *GOOD_AND_BAD, "--select", "nowhere"), "suites/nowhere"),
        (("bisect", "--tree", "linux", *GOOD_AND_BAD, "--test", "nowhere.py::test_x"), "nowhere.py"),
        (("bisect", "--tree", "linux", *GOOD_AND_BAD), "not the top of a git checkout"),
        (("bisect", "--tree", "debian:7.3", *GOOD_AND_BAD), "give a git checkout"),
        (("kunit", "--kernel", "reference:7.3"), "in a guest; give the path of an image"),
        (("kunit", "--kernel", "bzImage", "--uml"), "--uml goes with --tree"),
        (("kunit", "--kernel", "host"), "in a guest; give the path of an image"),
        (
            ("gate", "--kernel", "reference", "--selftests", "linux"),
            "linux: no kernel tree with DAMON selftests",
        ),
        (("gate", "--tree", "linux", "--selftests", "other"), "--selftests takes no TREE beside --tree"),
        (("gate", "--kernel", "host", "--selftests"), "run them in a guest"),
        (("build", "--tree", "no-such-directory"), "no kernel source tree"),
        (("build", "--tree", "debian:stable"), "by series"),
    ],
)
def test_request_that_cannot_work_is_a_usage_error(
    words: tuple[str, ...],
    sentence: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert cli.main(words) == 2
    assert sentence in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def gate_request(monkeypatch: pytest.MonkeyPatch, *words: str) -> TreeRequest:
    """Return what ``gate --tree linux`` with more words asks for."""
    asked: list[TreeRequest] = []

    def keep(request: TreeRequest) -> int:
        asked.append(request)
        return 0

    monkeypatch.setattr(tree_options, "gate_tree", keep)
    args = arguments.parser().parse_args(["gate", "--tree", "linux", "--output", "out", *words])
    assert tree_options.gate_command(args) == 0
    return asked[0]


def test_each_commit_of_a_series_gets_a_few_tests_unless_the_user_says_more(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    series = gate_request(monkeypatch, "--rev", "a..b")
    assert len(series.gate.areas) == len(SERIES)
    assert series.build.fragments == config.DEFAULT
    assert gate_request(monkeypatch, "--rev", "a").gate.areas == []
    parameters = gate_request(monkeypatch, "--rev", "a..b", "--append", "quiet nosmp", "--memory", "2G").gate
    assert parameters.guest.guest() == Topology(memory_mib=2048, cmdline=("quiet", "nosmp"))
    assert parameters.options[1:] == ["--append=quiet nosmp", "--memory=2G"]
    full = gate_request(monkeypatch, "--rev", "a..b", "--profile", "full", "--seed", "7", "--require")
    assert full.gate.areas == []
    assert full.gate.options == ["--profile=full", "--seed=7", "--require"]
    chosen = gate_request(
        monkeypatch, "--rev", "a..b", "--select", "modules", "--base", "c", "--config", "guest"
    )
    assert [Path(area).name for area in chosen.gate.areas] == ["modules"]
    assert (chosen.base, chosen.build.fragments) == ("c", ("guest",))


def test_gate_of_kernels_is_as_before(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[GateRequest] = []

    def keep(request: GateRequest) -> int:
        asked.append(request)
        return 0

    monkeypatch.setattr(tree_options, "judge_kernels", keep)
    words = ["gate", "--kernel", "reference:6.12", "--kernel", "reference:7.3", "--output", "out", "-j", "2"]
    assert tree_options.gate_command(arguments.parser().parse_args([*words, "--shard", "1/2"])) == 0
    assert asked == [
        GateRequest(
            ["reference:6.12", "reference:7.3"], Path("out"), [], ["--profile=quick", "--shard=1/2"], None, 2
        )
    ]


def test_bisection_by_a_metric_names_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked: list[BisectRequest] = []

    def keep(request: BisectRequest, *_: object) -> Answer:
        asked.append(request)
        return Answer((), 0)

    monkeypatch.setattr(tree_options, "bisect", keep)
    metric = ["--metric", "check.vaddr:check.vaddr", "--limit", "3000"]
    words = ["bisect", "--tree", "linux", *GOOD_AND_BAD, *metric]
    args = arguments.parser().parse_args([*words, "--output", str(tmp_path / "out")])
    assert tree_options.bisect_command(args) == 7
    assert asked[0].tests == ["check.vaddr of check.vaddr above 3,000"]
