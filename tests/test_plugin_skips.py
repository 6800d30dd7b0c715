# SPDX-License-Identifier: GPL-2.0
"""Skips are held to a list: what it does not allow is a FAIL, what it allows for nothing is named."""

from __future__ import annotations

from pathlib import Path

import pytest
from test_plugin import VERDICTS, finish, load, start

from damon_tests.experiment.allowed_skips import load as load_list
from damon_tests.ports import UsageError

BODY = (
    VERDICTS["PASS"]
    + """

import pytest

@pytest.mark.needs("ctx.pause", "probes.weight")
def test_two_features(expect):
    expect.add(check(True))

def test_body(expect):
    pytest.skip("before 6.18 it is different")

@pytest.fixture
def old():
    pytest.skip("before 6.18 the fixture is different")

def test_fixture(old, expect):
    expect.add(check(False))

@pytest.fixture
def nodes():
    raise NotSupported("before 6.18 a fixture needs two nodes")

def test_fixture_needs(nodes, expect):
    expect.add(check(False))
"""
)
SKIPPED = ("test_two_features", "test_body", "test_fixture", "test_fixture_needs")

LIST = """
- {missing: ctx.pause, because: since 7.2}
- {missing: "probes.*", because: since 7.2, tests: "*::test_two_features"}
- {missing: "before 6.18 *", because: it is different}
- {missing: damos_esz, because: of no test}
"""


def run(tmp_path: Path, text: str) -> tuple[int, str, dict[str, str]]:
    (tmp_path / "skips.yaml").write_text(text)
    code, out = finish(start(tmp_path, BODY, "--kernel=reference:6.12", "--allow-skips=skips.yaml"))
    verdicts = {t["id"].partition("::")[2]: t["verdict"] for t in load(tmp_path)["tests"]}
    return code, out, verdicts


def test_skips_on_the_list_pass_and_unused_entries_are_named(tmp_path: Path) -> None:
    code, out, verdicts = run(tmp_path, LIST)
    assert code == 0, out
    assert verdicts == {"test": "PASS", **dict.fromkeys(SKIPPED, "SKIP")}
    assert "skips.yaml: no test needed the skip 'damos_esz'" in out
    assert out.count("no test needed") == 1


def test_skips_that_are_not_on_the_list_fail(tmp_path: Path) -> None:
    code, out, verdicts = run(tmp_path, "- {missing: ctx.pause, because: since 7.2}")
    assert code == 1, out
    assert verdicts == {"test": "PASS", **dict.fromkeys(SKIPPED, "FAIL")}
    assert "skips.yaml does not allow this skip: ctx.pause: no file" in out
    assert "skips.yaml does not allow this skip: before 6.18 the fixture is different" in out


@pytest.mark.parametrize(("options", "code_wanted"), [((), 0), (("--require",), 1)])
def test_skips_of_fixtures_are_skips_and_fail_with_require(
    tmp_path: Path, options: tuple[str, ...], code_wanted: int
) -> None:
    code, out = finish(start(tmp_path, BODY, "--kernel=reference:7.3", *options))
    verdicts = {t["id"].partition("::")[2]: t["verdict"] for t in load(tmp_path)["tests"]}
    assert code == code_wanted, out
    assert verdicts["test_fixture"] == verdicts["test_fixture_needs"] == "SKIP", out


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{missing: x}", "a list of entries is expected"),
        ("- {missing: x}", "entry 1 needs texts"),
        ("- {missing: x, because: 1}", "entry 1 needs texts"),
        ("- {missing: x, because: y, test: z}", "entry 1 needs texts"),
        ("- [", "cannot be read"),
    ],
)
def test_malformed_lists_are_refused(tmp_path: Path, text: str, says: str) -> None:
    path = tmp_path / "skips.yaml"
    path.write_text(text)
    with pytest.raises(UsageError, match=says):
        load_list(path)
    with pytest.raises(UsageError, match="cannot be read"):
        load_list(tmp_path / "missing.yaml")
