# SPDX-License-Identifier: GPL-2.0
"""``damon-tests workload``: what it says, how it ends, what it refuses."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from damon_tests import cli
from damon_tests.commands import workload
from damon_tests.kernel.images.programs import program
from damon_tests.patterns.load import load
from damon_tests.patterns.masim import Options
from damon_tests.ports import NotSupported, UsageError

PATTERN = """
reason: two short phases
repeat: {repeat}
regions: [{{name: data, size: 1 MiB}}]
phases:
  - {{name: one, duration: 50 ms, accesses: [{{region: data, span: 0 .. 64 KiB}}]}}
  - {{name: two, duration: 50 ms, accesses: [{{region: data, span: 64 KiB .. 128 KiB}}]}}
"""
MASIM = "#regions\na, 10485760\n\n#phases\nfirst\n40\na, 1, 64, 1\n\nsecond\n40\na, 0, 64, 1\n"


@pytest.fixture(autouse=True)
def an_engine() -> None:
    try:
        program("damon-tests-engine")
    except NotSupported as error:
        pytest.skip(str(error))


def written(tmp_path: Path, name: str, text: str) -> str:
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    return str(path)


def total_of(out: str) -> int:
    summary = re.search(r"^([\d,]+) accesses in", out, re.MULTILINE)
    assert summary, out
    return int(summary[1].replace(",", ""))


def test_it_tells_who_where_when_and_what(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = written(tmp_path, "mine.yaml", PATTERN.format(repeat="false"))
    assert cli.main(["workload", path]) == 0
    out = capsys.readouterr().out
    assert out.startswith("mine: two short phases\npid ")
    assert re.search(r"region data +0x[0-9a-f]+-0x[0-9a-f]+  1 MiB\n", out)
    assert re.search(r"phase one began at 0\.000 s\n  phase two began at 0\.\d+ s\n", out)
    counts = [int(n.replace(",", "")) for n in re.findall(r"data +([\d,]+) accesses in", out)]
    assert len(counts) == 2
    assert sum(counts) == total_of(out)


def test_what_repeats_ends_after_its_seconds(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = written(tmp_path, "mine.yaml", PATTERN.format(repeat="true"))
    assert workload.perform_pattern(path, seconds=0.3) == 0
    out = capsys.readouterr().out
    assert out.count("phase one began") == 1, "each phase is printed once"
    assert total_of(out) > 0


@pytest.mark.parametrize("hints", ["none", "madvise"])
def test_a_masim_configuration_with_its_options(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], hints: str
) -> None:
    path = written(tmp_path, "config", MASIM)
    assert cli.main(["workload", path, "--hints", hints, "--seed", "3", "--times", "2", "--mode", "rw"]) == 0
    assert total_of(capsys.readouterr().out) > 0
    actions = load(path, Options(hints=hints)).phases[0].actions  # type: ignore[arg-type]
    assert [action.do for action in actions] == ([] if hints == "none" else ["willneed"])
    assert load(path, Options(hugetlb=True)).regions[0].memory == "hugetlb"


def test_options_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    path = written(tmp_path, "mine.yaml", PATTERN.format(repeat="false"))
    with pytest.raises(UsageError, match="are for its configurations"):
        workload.perform_pattern(path, options=Options(hugetlb=True))
    for seconds in (0, -1, float("nan"), float("inf")):
        with pytest.raises(UsageError, match="is no time"):
            workload.perform_pattern(path, seconds=seconds)
    with pytest.raises(UsageError, match="no pattern is named"):
        workload.perform_pattern("nothing_like_it")
