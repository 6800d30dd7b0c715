# SPDX-License-Identifier: GPL-2.0
"""What a run says of a DAMON that lacks features, hangs or never aggregates, each in a pytest process."""

from __future__ import annotations

from pathlib import Path

import pytest
from test_plugin import VERDICTS, finish, load, start

from damon_tests.report import wording


@pytest.mark.parametrize(
    ("fault", "names"),
    [
        ("tracepoints_missing", ["damos_esz: no such tracepoint", "damos_before_apply"]),
        ("file_missing", ["schemes.max_nr_snapshots: no file"]),
        ("aggregated_missing", ["damon_aggregated: no such tracepoint"]),
        ("weight_missing", ["probes.weight: no file"]),
        ("word_missing", ["ops_filters.young", "does not take it (EINVAL)"]),
    ],
)
def test_a_feature_that_its_series_has_and_that_is_missing_fails_the_run(
    tmp_path: Path, fault: str, names: list[str]
) -> None:
    code, out = finish(start(tmp_path, VERDICTS["PASS"] + "\n" + NOT_ITS_TEST, "--fault", fault))
    assert code == 1, out
    run = load(tmp_path)
    (row,) = [t for t in run["tests"] if t["id"] == "kernel::expected_features"]
    assert row["verdict"] == "FAIL"
    assert run["counts"] == {**run["counts"], "FAIL": 1, "PASS": 2}
    for name in names:
        assert name in row["reason"]
    assert list(run["provenance"]["features"]["missing"])
    again = wording.rerun(run, row)
    assert again.endswith(("::test", "::test_other")), "a test of the run: every run judges the features"
    assert f"--kernel=reference:7.3+{fault}" in again


NOT_ITS_TEST = "def test_other(expect):\n    expect.add(check(True))"


def test_features_that_are_there_need_no_verdict(tmp_path: Path) -> None:
    code, out = finish(start(tmp_path, VERDICTS["PASS"], "--kernel=reference:6.12"))
    assert code == 0, out
    run = load(tmp_path)
    assert run["counts"]["PASS"] == len(run["tests"]) == 1
    assert run["provenance"]["features"]["missing"] == {}
    assert run["provenance"]["features"]["expected"] > 50


def test_a_command_that_hangs_is_a_fail(tmp_path: Path) -> None:
    body = """
from damon_tests.damon.params import DamonCtx, Damos, ANY
from damon_tests.ports import NSEC_PER_SEC

def test(live, expect):
    ctx = DamonCtx("fvaddr", schemes=(Damos("stat", ANY, apply_interval_us=3_600_000_000),))
    with live("idle", ctx, cover="regions", source="none") as run:
        expect.add(check(True))
        run.client.command(0, "update_schemes_tried_regions", timeout_ns=NSEC_PER_SEC)
"""
    code, out = finish(start(tmp_path, body))
    assert code == 1, out
    assert "DAMON hangs" in out
    assert "did not return within 1 s" in out


@pytest.mark.parametrize("body", ["expect.add(check(None))", "[][0]"], ids=["undecided", "broken"])
def test_a_damon_that_never_aggregates_is_a_fail(tmp_path: Path, body: str) -> None:
    test = f"""
from damon_tests.damon.params import DamonCtx

def test(live, expect):
    with live("idle", DamonCtx("fvaddr"), cover="regions") as run:
        run.record(2)
    {body}
"""
    code, out = finish(start(tmp_path, test, "--fault=aggregation_never"))
    assert code == 1, out
    assert "DAMON aggregates every 100 ms, and did not within 2.0 s" in out


def test_a_word_that_the_probe_found_and_that_is_refused_later_is_a_fail(tmp_path: Path) -> None:
    code, out = finish(start(tmp_path, REFUSES_LATER))
    assert code == 1, out
    (test,) = load(tmp_path)["tests"]
    assert test["verdict"] == "FAIL"
    assert (
        "action := 'pageout': EINVAL (schemes.pageout was there when this DAMON was probed)" in test["reason"]
    )


REFUSES_LATER = """
import errno
from damon_tests.damon.params import DamonCtx, Damos, Kdamond
from damon_tests.damon.client import DamonClient
from damon_tests.ports import TreeError

def test(subject, expect):
    expect.add(check(True))
    write_batch = subject.tree.write_batch
    def refuse(writes):
        for at, (path, value) in enumerate(writes):
            if value == "pageout":
                write_batch(writes[:at])
                raise TreeError("write", path, errno.EINVAL, value)
        write_batch(writes)
    subject.tree.write_batch = refuse
    DamonClient(subject.tree, subject.clock).stage([Kdamond(DamonCtx("fvaddr", schemes=(Damos("pageout"),)))])
"""
